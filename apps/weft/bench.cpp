// weft bench: the command line and what all benchmarks share.
#include "weft/apps/weft/bench.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/bench_op.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/config.h"
#include "weft/apps/weft/conv_tuning.h"
#include "weft/apps/weft/json_file.h"
#include "weft/apps/weft/model_file.h"
#include "weft/apps/weft/names.h"
#include "weft/layers/models.h"
#include "weft/optim/registry.h"

namespace weft::app {
namespace {

/// What --device, --precision and --eager say.
BenchPlace bench_place(const BenchFlags& flags) {
  const auto [device, dtype, products] = place_of(flags.device, flags.precision);
  set_float32_matmul_precision(products);
  const BenchPlace place{device, dtype, !flags.eager};
  if (place.gpu()) keep_gpu_plans();
  return place;
}

/// A subcommand with the flags that every benchmark has.
CLI::App* add_one(CLI::App& bench, Action& action, const char* name, const char* about,
                  int (*run)(const BenchFlags&), const std::shared_ptr<BenchFlags>& flags) {
  CLI::App* command = bench.add_subcommand(name, about);
  command->add_flag("--json", flags->json, "JSON lines");
  add_device(*command, flags->device, flags->precision);
  command->add_flag("--eager", flags->eager, "on a GPU: launch kernels one by one, not as captured graphs");
  command->final_callback([flags, run, &action] {
    action = [flags, run] {
      use_threads(flags->threads);
      flags->place = bench_place(*flags);
      return run(*flags);
    };
  });
  return command;
}

void add_model(CLI::App& command, BenchFlags& flags) {
  command.add_option("--model", flags.model, "model")->capture_default_str();
  command.add_flag("--sa", flags.sa, "self-attention in the first stage");
  command.add_flag("--sym", flags.sym, "symmetric self-attention (implies --sa)");
}

constexpr const char* kActivationHelp = "activation function [the model's own]";

void add_activation(CLI::App& command, BenchFlags& flags) {
  command.add_option("--activation", flags.activation, kActivationHelp);
}

void add_thread_count(CLI::App& command, BenchFlags& flags) { add_threads(command, flags.threads); }

/// Lists, each value of one against each of the others.
void add_sweep(CLI::App& command, BenchFlags& flags) {
  StepSweep& s = flags.sweep;
  command.add_option("--activation", s.activations, kActivationHelp)->delimiter(',');
  command.add_option("--size", s.sizes, "height and width of the images [128]")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{8}, kMostSize));
  command.add_option("--batch-size", s.batch_sizes, "images in a step [32]")
      ->delimiter(',')
      ->check(CLI::Range(1, 65536));
  command.add_option("--threads", s.threads, "threads [the cores that the process may use]")
      ->delimiter(',')
      ->check(CLI::Range(1, 256));
  CLI::Option* recompute =
      command.add_flag("--recompute", flags.recompute, "compute activations again in the backward pass");
  CLI::Option* breakdown =
      command.add_option("--breakdown", flags.breakdown, "where the time goes, by ops or by layers")
          ->expected(0, 1)
          ->default_str("ops")
          ->check(CLI::IsMember({"ops", "layers"}));
  command
      .add_flag("--inference", flags.inference,
                "forward passes in evaluation mode, without gradients, in place of steps (on the CPU)")
      ->excludes(recompute)
      ->excludes(breakdown);
  command.footer(
      "--activation, --size, --batch-size and --threads take lists (8,16,32): all combinations are measured "
      "in turns, a step\nof each and then the next of each, and compared with the first.");
}

void add_choice(CLI::App& command, BenchFlags& flags) {
  command.add_option("--only", flags.only, "families of ops [all]")
      ->delimiter(',')
      ->check(CLI::IsMember(op_families()));
  command.add_option("--filter", flags.filter, "only ops with this text in name or shape");
}

void add_size(CLI::App& command, BenchFlags& flags) {
  command.add_option("--size", flags.size, "height and width of the images")
      ->check(CLI::Range(int64_t{8}, kMostSize))
      ->capture_default_str();
}

void add_batch_size(CLI::App& command, BenchFlags& flags) {
  command.add_option("--batch-size", flags.batch_size, "images in a step")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
}

void add_steps(CLI::App& command, BenchFlags& flags) {
  command.add_option("--steps", flags.steps, "steps measured")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
}

void add_seconds(CLI::App& command, BenchFlags& flags) {
  command.add_option("--seconds", flags.seconds, "time spent on each line")
      ->check(number_from(1e-9, 86400, "above 0, and at most 86400, a day"))
      ->capture_default_str();
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

void add_bench(CLI::App& weft, Action& action) {
  CLI::App* bench = weft.add_subcommand(
      "bench", "Measures training steps, single ops, matrix products, optimizers, the loader");
  bench->require_subcommand(1);
  const auto add = [&](const char* name, const char* about, int (*run)(const BenchFlags&), auto... more) {
    const auto flags = std::make_shared<BenchFlags>();
    CLI::App* command = add_one(*bench, action, name, about, run, flags);
    (more(*command, *flags), ...);
  };
  const auto optimizer = [](CLI::App& command, BenchFlags& flags) {
    command.add_option("--optimizer", flags.optimizer, "optimizer")->capture_default_str();
  };
  const auto optimizers = [](CLI::App& command, BenchFlags& flags) {
    command.add_option("--optimizer", flags.optimizers, "optimizers [all]")
        ->delimiter(',')
        ->check(CLI::IsMember(optim::optimizer_names()));
  };
  const auto data = [](CLI::App& command, BenchFlags& flags) {
    command.add_option("--data", flags.data, "folder, .tgz or name of a fetched set [built-in sample]");
  };
  add("step", "Whole training steps on random images", bench_step, add_model, add_sweep, add_steps,
      optimizer);
  add("op", "Single ops, pass by pass, beside what bounds them", bench_op, add_model, add_activation,
      add_size, add_batch_size, add_seconds, add_choice, add_thread_count);
  add("gemm", "Square matrix products, beside the FMA peak and OpenBLAS", bench_gemm, add_seconds,
      add_thread_count);
  add("optimizer", "A step of every optimizer on a model's parameters", bench_optimizer, add_model,
      add_activation, optimizers, add_seconds, add_thread_count);
  add("loader", "Training batches of the loader alone", bench_loader, data, add_size, add_batch_size,
      add_steps, add_thread_count);
}

std::unique_ptr<Module> bench_model(const BenchFlags& flags) {
  require_known("--model", flags.model, model_names());
  ModelInfo info;
  info.model = flags.model;
  info.activation = flags.activation.empty() ? default_activation(flags.model) : flags.activation;
  require_known("--activation", info.activation, activation_names());
  info.sa = flags.sa || flags.sym, info.sym = flags.sym, info.recompute = flags.recompute;
  info.size = flags.size;
  require_fitting(info.model, info.sa, info.size);
  info.classes.resize(10);
  return build_model(info);
}

std::vector<double> time_calls(const std::function<void()>& work, int64_t repeats, int64_t warmup) {
  for (int64_t i = 0; i < warmup; ++i) work();
  std::vector<double> seconds;
  for (int64_t i = 0; i < repeats; ++i) seconds.push_back(seconds_of(work));
  return seconds;
}

std::vector<double> time_for(const std::function<void()>& work, double seconds) {
  work();
  std::vector<double> times;
  for (double total = 0; times.size() < 3 || total < seconds; total += times.back())
    times.push_back(seconds_of(work));
  return times;
}

double median(std::vector<double> values) {
  check(!values.empty(), "median: no values");
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

void Rows::print(const nlohmann::json& row) {
  if (json_) {
    fmt::print("{}\n", one_line(row));
  } else {
    if (!header_printed_) {
      for (const Column& c : columns_) fmt::print("{:>{}} ", c.title, c.width);
      fmt::print("\n");
      header_printed_ = true;
    }
    for (const Column& c : columns_) {
      const auto value = row.find(c.key);
      std::string cell = "-";
      if (value != row.end() && value->is_string())
        cell = value->get<std::string>();
      else if (value != row.end() && value->is_number_float())
        cell = fmt::format("{:.{}f}", value->get<double>(), c.decimals);
      else if (value != row.end() && !value->is_null())
        cell = value->dump();
      fmt::print("{:>{}} ", cell, c.width);
    }
    fmt::print("\n");
  }
  std::fflush(stdout);
}

void Rows::text(const std::string& line) const {
  if (!json_) fmt::print("{}\n", line);
  std::fflush(stdout);
}

}  // namespace weft::app
