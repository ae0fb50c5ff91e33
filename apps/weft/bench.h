// The benchmarks. Each prints a table for people, or one JSON object a line for programs.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "weft/engine/device.h"
#include "weft/engine/dtype.h"
#include "weft/engine/module.h"
#include "weft/engine/profile.h"
#include "weft/optim/optimizer.h"

namespace weft::app {

/// The cases of `weft bench step`: each activation at each size, batch size and number of threads.
struct StepSweep {
  std::vector<std::string> activations{""};  ///< "": the model's
  std::vector<int64_t> sizes{128}, batch_sizes{32};
  std::vector<int> threads{0};  ///< 0: the cores that the process may use
};

/// Where a benchmark computes, and how.
struct BenchPlace {
  Device device = Device::cpu;
  DType dtype = DType::f32;  ///< of images and activations
  bool capture = true;       ///< on a GPU: work is launched as captured graphs
  bool gpu() const { return device == Device::cuda; }
};

/// What the benchmarks are asked; each uses what concerns it.
struct BenchFlags {
  std::string model = "mxresnet18", activation, optimizer = "ranger", data;
  bool sa = false, sym = false, recompute = false;
  bool inference = false;  ///< of steps: forward passes in evaluation mode alone
  int64_t size = 128, batch_size = 32, steps = 20;
  double seconds = 0.5;  ///< for each thing measured
  int threads = 0;
  StepSweep sweep;                      ///< of steps, in place of activation, size, batch_size and threads
  std::string breakdown;                ///< of a step: by "ops" or "layers"; empty: none
  std::vector<std::string> only;        ///< families of ops; empty: all
  std::string filter;                   ///< text in an op's name or shape
  std::vector<std::string> optimizers;  ///< for bench_optimizer; empty: all
  bool json = false;
  std::string device = "cpu", precision = "fp32";
  bool eager = false;
  BenchPlace place;  ///< what the last three say
};

// On a GPU all of them measure on its clock.

/// Whole training steps on random images: forward, loss, backward, optimizer. Several cases take turns.
int bench_step(const BenchFlags& flags);
/// Single ops: a model's convolutions and other layers, each shape once, and what else the engine has.
int bench_op(const BenchFlags& flags);
/// Square matrix products; on the CPU beside OpenBLAS where that is installed.
int bench_gemm(const BenchFlags& flags);
/// A step of every optimizer on a model's parameters.
int bench_optimizer(const BenchFlags& flags);
/// Training batches of the loader alone.
int bench_loader(const BenchFlags& flags);

int bench_step_gpu(const BenchFlags& flags);
int bench_gemm_gpu(const BenchFlags& flags);
int bench_loader_gpu(const BenchFlags& flags);

/// The model that the flags ask for, with ten classes.
std::unique_ptr<Module> bench_model(const BenchFlags& flags);

/// A training step: a model with its optimizer, and random images with labels. Or, as the flags ask, a
/// forward pass in evaluation mode.
class TrainingStep {
 public:
  /// The model, activation and optimizer that the flags ask for.
  explicit TrainingStep(const BenchFlags& flags);
  /// Makes the images of the next steps.
  void set_images(int64_t batch, int64_t size);
  /// Does one. A Profiler is told of the end of the optimizer ("optimizer") and of the step ("rest").
  void operator()();
  Module& model() { return *model_; }

 private:
  std::unique_ptr<Module> model_;
  std::unique_ptr<optim::Optimizer> optimizer_;  // null for inference
  Tensor images_, labels_;
};
/// Where a step's time goes: real steps, measured op by op; on a GPU eager ones.
int bench_breakdown(const BenchFlags& flags);
int bench_breakdown_gpu(const BenchFlags& flags);
/// The flags with the sweep's only case in them; an error where it has more.
BenchFlags one_case(BenchFlags flags);
/// Prints what was measured in flags.steps steps beside the peak in GFLOP/s; `where`: on what; `fields`: of
/// each JSON row too.
void print_breakdown(const BenchFlags& flags, const std::vector<ProfileEvent>& events, double peak,
                     const std::string& where, const nlohmann::json& fields);

/// Seconds of each of `repeats` calls of `work`, after `warmup` unmeasured ones.
std::vector<double> time_calls(const std::function<void()>& work, int64_t repeats, int64_t warmup);
/// As many calls as fit into `seconds`, at least three, after an unmeasured one.
std::vector<double> time_for(const std::function<void()>& work, double seconds);
/// Middle value; mean of the two middle ones of an even number.
double median(std::vector<double> values);

/// Prints rows: for people the columns chosen, for programs whole objects.
class Rows {
 public:
  struct Column {
    const char* key;
    const char* title;
    int width;
    int decimals = 1;  ///< of numbers with a fraction
  };
  Rows(std::vector<Column> columns, bool json) : columns_(std::move(columns)), json_(json) {}
  void print(const nlohmann::json& row);
  /// A line above or below the table; not for programs.
  void text(const std::string& line) const;

 private:
  std::vector<Column> columns_;
  bool json_, header_printed_ = false;
};

}  // namespace weft::app
