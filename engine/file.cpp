#include "weft/engine/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <new>
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

[[noreturn]] void fail_to_read(const std::string& path) {
  const int code = errno;
  const char* mend =
      code == EACCES ? "; give yourself the right to read it (chmod), or name another file" : "";
  fail("can't read ", path, ": ", std::strerror(code), mend);
}

/// The file that `path` stands for, through links, also to what is not there yet: beside it, a rename stays
/// in one file system. Throws where it is a folder, or a device, which a rename would replace.
std::string target_of(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::path target = path;
  for (int links = 0; links < 40 && fs::is_symlink(target, error); ++links) {
    const fs::path next = fs::read_symlink(target, error);
    if (error) break;
    target = target.parent_path() / next;  // next alone, where it is absolute
  }
  const fs::file_type type = fs::status(target, error).type();
  check(type != fs::file_type::directory, "can't write ", path, ": it is a folder");
  check(type == fs::file_type::regular || type == fs::file_type::not_found || type == fs::file_type::none ||
            type == fs::file_type::unknown,
        "can't write ", path, ": it is no file, but a device or a pipe");
  return target.string();
}

/// A new file beside the target, which goes away with the object. Two threads that write the same file have
/// one each.
OpenFile open_beside(const std::string& path, const std::string& target) {
  static std::atomic<unsigned> count = 0;
  OpenFile file;
  const std::string beside =
      target + ".tmp" + std::to_string(::getpid()) + "-" + std::to_string(count.fetch_add(1));
  file.fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file.fd < 0) fail_errno("can't write", path);
  file.remove_path = beside;
  return file;
}

}  // namespace

void check_writable(const std::string& path) { open_beside(path, target_of(path)); }

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

std::string read_file(const std::string& path, int64_t most) {
  OpenFile file;
  file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file.fd < 0) fail_to_read(path);
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) fail_to_read(path);
  check(!S_ISDIR(info.st_mode), "can't read ", path, ": it is a folder");
  check(S_ISREG(info.st_mode) || S_ISFIFO(info.st_mode), "can't read ", path,
        ": it is neither a file nor a pipe");
  const auto check_size = [&](int64_t bytes) {
    check(bytes <= most, "can't read ", path, ": it has more than ", most, " bytes");
  };
  check_size(info.st_size);
  std::string content;
  size_t used = 0;
  try {
    content.resize(size_t(info.st_size));
    for (;;) {
      char more[1 << 16];  // of a pipe, or a file that grew
      const bool full = used == content.size();
      char* const to = full ? more : content.data() + used;
      const ssize_t n = ::read(file.fd, to, full ? sizeof more : content.size() - used);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_to_read(path);
      if (n == 0) break;
      if (full) content.append(more, size_t(n));
      used += size_t(n);
      check_size(int64_t(used));
    }
  } catch (const std::bad_alloc&) {
    fail("can't read ", path, ": its ", std::max<int64_t>(info.st_size, int64_t(used)),
         " bytes are more than there is memory for");
  }
  content.resize(used);
  return content;
}

void remove_leftovers(const std::string& path, bool locked) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(path).parent_path();
  const std::string start = fs::path(path).filename().string() + ".tmp";
  if (start == ".tmp") return;
  // A process on another machine, whose number says nothing here, may be writing a young one.
  const auto old =
      locked ? fs::file_time_type::max() : fs::file_time_type::clock::now() - std::chrono::minutes(1);
  std::error_code error;
  fs::directory_iterator at(folder.empty() ? "." : folder, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!name.starts_with(start)) continue;
    // "PROCESS-COUNT", or "PROCESS" of earlier versions.
    const std::string numbers = name.substr(start.size());
    const size_t dash = std::min(numbers.find('-'), numbers.size());
    const auto digits = [](std::string_view s) {
      return !s.empty() && s.size() <= 9 && s.find_first_not_of("0123456789") == s.npos;
    };
    const std::string process = numbers.substr(0, dash);
    if (!digits(process) || (dash < numbers.size() && !digits(std::string_view(numbers).substr(dash + 1))))
      continue;
    const bool gone = ::kill(pid_t(std::stol(process)), 0) != 0 && errno == ESRCH;
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
