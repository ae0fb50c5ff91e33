// The weft command as a process, with its exit code and what it printed.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "support/temp_folder.h"
#include "weft/engine/file.h"

extern char** environ;

namespace weft::test {

using Arguments = std::vector<std::string>;
namespace fs = std::filesystem;

/// A folder for everything, gone at the end.
inline const fs::path& scratch() {
  static const TempFolder folder;
  static const fs::path path = folder.path();
  return path;
}

inline std::string at(const std::string& name) { return (scratch() / name).string(); }

struct Result {
  int code = -1;
  std::string out, err;
};

/// A started program; its streams go into files.
class Process {
 public:
  explicit Process(const Arguments& arguments) {
    static int number = 0;
    out_ = at("stdout-" + std::to_string(++number)), err_ = at("stderr-" + std::to_string(number));
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    std::vector<char*> argv;
    for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    REQUIRE(posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
  }
  void wait_for_output(const std::string& text) {
    for (int i = 0; i < 6000; ++i) {
      if (fs::exists(out_) && read_file(out_).find(text) != std::string::npos) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    FAIL("no \"" << text << "\" within a minute");
  }
  pid_t id() const { return pid_; }
  void signal(int number) { REQUIRE(kill(pid_, number) == 0); }
  Result wait() {
    int status = 0;
    REQUIRE(waitpid(pid_, &status, 0) == pid_);
    Result r;
    r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    r.out = read_file(out_), r.err = read_file(err_);
    return r;
  }

 private:
  pid_t pid_ = 0;
  std::string out_, err_;
};

inline Arguments operator+(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

inline nlohmann::json json_file(const std::string& path) { return nlohmann::json::parse(read_file(path)); }

/// With the command before them: that of the build, or of WEFT_BINARY in the environment.
inline Arguments command(Arguments arguments) {
  const char* const given = std::getenv("WEFT_BINARY");
  arguments.insert(arguments.begin(), given ? given : WEFT_BINARY);
  return arguments;
}

inline Result weft_run(const Arguments& arguments) { return Process(command(arguments)).wait(); }

/// Makes a small sample set; its path.
inline std::string make_sample(int pixels, int train_per_class, int val_per_class) {
  const Result r = weft_run({"data", "sample", "--out", at("sample"), "--pixels", std::to_string(pixels),
                             "--train-per-class", std::to_string(train_per_class), "--val-per-class",
                             std::to_string(val_per_class)});
  REQUIRE_MESSAGE(r.code == 0, r.err);
  return at("sample");
}

/// In a shell that first says `before`, for limits.
inline Result weft_limited(const std::string& before, const Arguments& arguments) {
  Arguments all = {"sh", "-c", before + "; exec \"$0\" \"$@\""};
  for (const std::string& a : command(arguments)) all.push_back(a);
  return Process(all).wait();
}

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// That it ended with `code` and one line of error that has all `parts` in it.
inline void check_error(const Result& r, int code, const std::vector<std::string>& parts) {
  INFO("stderr: ", r.err);
  CHECK(r.code == code);
  CHECK(r.err.rfind("weft: ", 0) == 0);
  CHECK(std::count(r.err.begin(), r.err.end(), '\n') == 1);
  for (const std::string& part : parts) CHECK_MESSAGE(has(r.err, part), part);
}

}  // namespace weft::test
