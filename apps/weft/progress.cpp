#include "weft/apps/weft/progress.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/json_file.h"

namespace weft::app {
namespace {

constexpr double kRedraw = 0.1, kLine = 30;  // seconds between two signs of life

/// Does not throw: a run must not end because nobody reads on. main() reports it at the end.
void put(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

int terminal_width() {
  winsize size = {};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string bar(int64_t done, int64_t of, int width) {
  const int filled = of > 0 ? int(done * width / of) : 0;
  return "[" + std::string(size_t(filled), '=') + std::string(size_t(width - filled), ' ') + "]";
}

}  // namespace

std::string format_duration(double seconds) {
  const auto s = int64_t(std::llround(std::clamp(seconds, 0.0, 1e9)));
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
                   : fmt::format("{}:{:02}", s / 60, s % 60);
}

Progress::Progress(Output output)
    : output_(output),
      terminal_(output == Output::human && isatty(STDOUT_FILENO)),
      last_(std::chrono::steady_clock::now()) {}

bool Progress::due(double seconds) {
  const auto now = std::chrono::steady_clock::now();
  if (std::chrono::duration<double>(now - last_).count() < seconds) return false;
  last_ = now;
  return true;
}

void Progress::draw(const std::string& text) {
  put("\r\x1b[K" + text.substr(0, size_t(std::max(terminal_width() - 1, 1))));
  drawn_ = true;
}

void Progress::step(const StepProgress& p) {
  if (output_ != Output::human || !due(terminal_ ? kRedraw : kLine)) return;
  const std::string where = fmt::format("epoch {}/{}", p.epoch, p.epochs);
  const std::string numbers =
      fmt::format("{}/{}  loss {:.4f}  acc {:.1f} %  {:.1f} img/s  {} left", p.step, p.steps, p.loss,
                  100 * p.accuracy, p.images_per_second, format_duration(p.seconds_left));
  const int room = terminal_width() - int(where.size() + numbers.size()) - 6;
  if (!terminal_)
    line(where + "  step " + numbers);
  else
    draw(where + " " + (room >= 4 ? bar(p.step, p.steps, std::min(room, 30)) : "") + " " + numbers);
}

void Progress::note(const std::string& doing, int64_t done, int64_t of) {
  if (terminal_ && due(kRedraw)) draw(fmt::format("{} {} {}/{}", doing, bar(done, of, 20), done, of));
}

void Progress::clear() {
  if (!drawn_) return;
  put("\r\x1b[K");
  drawn_ = false;
}

void Progress::line(const std::string& text) {
  if (output_ != Output::human) return;
  clear();
  put(text + "\n");
}

void Progress::event(const nlohmann::json& event) {
  if (output_ != Output::json) return;
  put(one_line(event) + "\n");
}

}  // namespace weft::app
