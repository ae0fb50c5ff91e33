// What a run tells while it works: a bar on a terminal, plain lines in a file, JSON lines for programs, or
// nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace weft::app {

enum class Output { human, json, quiet };

/// State of a run after a step, as shown.
struct StepProgress {
  int64_t epoch = 1, epochs = 1;
  int64_t step = 0, steps = 0;    ///< of this epoch
  double loss = 0, accuracy = 0;  ///< means over the epoch so far
  double images_per_second = 0;
  double seconds_left = 0;  ///< of the whole run
};

class Progress {
 public:
  explicit Progress(Output output);

  /// Redraws the bar (at most ten times a second), or prints a line (every 30 seconds) where there is no
  /// terminal.
  void step(const StepProgress& p);
  /// A bar without numbers: "validating 12/40".
  void note(const std::string& doing, int64_t done, int64_t of);
  /// A line for people; removes the bar first.
  void line(const std::string& text);
  /// A line for programs; printed with --json only.
  void event(const nlohmann::json& event);
  /// Removes the bar.
  void clear();

 private:
  bool due(double seconds);
  void draw(const std::string& text);

  Output output_;
  bool terminal_, drawn_ = false;
  std::chrono::steady_clock::time_point last_;
};

/// "1:05", "2:03:07".
std::string format_duration(double seconds);

}  // namespace weft::app
