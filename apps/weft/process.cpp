#include "weft/apps/weft/process.h"

#include <spawn.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>

#include "weft/engine/error.h"

extern char** environ;

namespace weft::app {

int run_process(const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, argv[0], nullptr, nullptr, argv.data(), environ);
  check(error == 0, "cannot run ", arguments[0], ": ", std::strerror(error));
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    check(errno == EINTR, "waiting for ", arguments[0], ": ", std::strerror(errno));
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace weft::app
