#include "weft/engine/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <utility>

#include "weft/engine/error.h"
#include "weft/kernels/nesting.h"

namespace weft {
namespace {

/// Closes on scope exit; a failed write leaves no temporary file behind.
struct OpenFile {
  int fd = -1;
  std::string remove_path;
  OpenFile() = default;
  OpenFile(OpenFile&& o) noexcept
      : fd(std::exchange(o.fd, -1)), remove_path(std::exchange(o.remove_path, {})) {}
  ~OpenFile() {
    const int saved = errno;
    if (fd >= 0) ::close(fd);
    if (!remove_path.empty()) ::unlink(remove_path.c_str());
    errno = saved;
  }
};

[[noreturn]] void fail_errno(const char* doing, const std::string& path) {
  const int code = errno;
  const char* mend = code == ENOSPC || code == EDQUOT || code == EFBIG ? "; free some space and try again"
                     : code == EACCES || code == EROFS ? "; choose a folder that you may write to"
                                                       : "";
  fail(doing, " ", path, ": ", std::strerror(code), mend);
}

/// The file that `path` stands for, through links: beside it, a rename stays in one file system.
std::string target_of(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_symlink(path, ignored)) return path;
  const std::filesystem::path real = std::filesystem::weakly_canonical(path, ignored);
  return real.empty() ? path : real.string();
}

/// A new file beside the target, which goes away with the object.
OpenFile open_beside(const std::string& path, const std::string& target) {
  OpenFile file;
  const std::string beside = target + ".tmp" + std::to_string(::getpid());
  file.fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file.fd < 0) fail_errno("can't write", path);
  file.remove_path = beside;
  return file;
}

}  // namespace

void check_writable(const std::string& path) {
  const std::string target = target_of(path);
  std::error_code ignored;
  check(!std::filesystem::is_directory(target, ignored), "can't write ", path, ": it is a folder");
  open_beside(path, target);
}

void write_file(const std::string& path, const std::string_view* pieces, size_t count) {
  const std::string target = target_of(path);
  OpenFile file = open_beside(path, target);
  for (size_t i = 0; i < count; ++i) {
    std::string_view rest = pieces[i];
    while (!rest.empty()) {
      const ssize_t n = ::write(file.fd, rest.data(), std::min(rest.size(), size_t{1} << 30));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_errno("can't write", path);
      rest.remove_prefix(size_t(n));
    }
  }
  if (::fsync(file.fd) != 0 && errno != EINVAL) fail_errno("can't write", path);
  if (::close(std::exchange(file.fd, -1)) != 0) fail_errno("can't write", path);
  if (::rename(file.remove_path.c_str(), target.c_str()) != 0) fail_errno("can't replace", path);
  file.remove_path.clear();

  // The rename itself is durable once the folder is synced; file systems that can't do that are no error.
  const std::string folder = std::filesystem::path(target).parent_path().string();
  OpenFile directory;
  directory.fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory.fd >= 0) ::fsync(directory.fd);
}

void write_file(const std::string& path, std::string_view content) { write_file(path, &content, 1); }

std::string read_file(const std::string& path) {
  OpenFile file;
  file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file.fd < 0) fail_errno("can't read", path);
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) fail_errno("can't read", path);
  check(!S_ISDIR(info.st_mode), "can't read ", path, ": it is a folder");
  check(S_ISREG(info.st_mode) || S_ISFIFO(info.st_mode), "can't read ", path,
        ": it is neither a file nor a pipe");
  std::string content;
  content.resize(size_t(info.st_size));
  size_t used = 0;
  for (;;) {
    if (used == content.size()) content.resize(used + (size_t{1} << 16));  // a pipe, or a file that grew
    const ssize_t n = ::read(file.fd, content.data() + used, content.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("can't read", path);
    if (n == 0) break;
    used += size_t(n);
  }
  content.resize(used);
  return content;
}

void remove_leftovers(const std::string& path) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(path).parent_path();
  const std::string start = fs::path(path).filename().string() + ".tmp";
  if (start == ".tmp") return;
  const auto old = fs::file_time_type::clock::now() - std::chrono::minutes(1);
  std::error_code error;
  fs::directory_iterator at(folder.empty() ? "." : folder, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!name.starts_with(start)) continue;
    const std::string number = name.substr(start.size());
    if (number.empty() || number.size() > 9 ||
        !std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; }))
      continue;
    const bool gone = ::kill(pid_t(std::stol(number)), 0) != 0 && errno == ESRCH;
    std::error_code ignored;
    if (gone && at->is_regular_file(ignored) && at->last_write_time(ignored) < old && !ignored)
      fs::remove(at->path(), ignored);
  }
}

void check_nesting(const std::string& path, std::string_view json) {
  const int levels = nesting(json);
  check(levels <= kMaxNesting, path, ": its JSON nests ", levels, " levels deep, and at most ", kMaxNesting,
        " are read; the file is damaged");
}

}  // namespace weft
