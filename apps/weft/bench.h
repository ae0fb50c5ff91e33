// The benchmarks. Each prints a table for people, or one JSON object a line for programs.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "weft/engine/module.h"

namespace weft::app {

/// What the benchmarks are asked; each uses what concerns it.
struct BenchFlags {
  std::string model = "mxresnet18", activation, optimizer = "ranger", data;
  bool sa = false, sym = false;
  int64_t size = 128, batch_size = 32, steps = 20;
  double seconds = 0.5;  ///< for each thing measured
  int threads = 0;
  bool json = false;
};

/// A whole training step on random images: forward, loss, backward, optimizer.
int bench_step(const BenchFlags& flags);
/// Every convolution shape of a model, each of its three passes.
int bench_op(const BenchFlags& flags);
/// Square matrix products, beside OpenBLAS where that is installed.
int bench_gemm(const BenchFlags& flags);
/// A step of every optimizer on a model's parameters.
int bench_optimizer(const BenchFlags& flags);
/// Training batches of the loader alone.
int bench_loader(const BenchFlags& flags);

/// The model that the flags ask for, with ten classes.
std::unique_ptr<Module> bench_model(const BenchFlags& flags);

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
