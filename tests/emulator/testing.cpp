#include "testing.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>

namespace weft_emulator::testing {

std::string last_words(void (*action)()) {
  std::fflush(nullptr);  // else the child writes it once more
  std::cout.flush();
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    for (const int signal : {SIGABRT, SIGSEGV})
      std::signal(signal, SIG_DFL);  // else doctest reports a failed case
    action();
    _exit(0);
  }
  close(ends[1]);
  std::string words;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;)
    words.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return words.empty() ? "died without a word" : words;
}

}  // namespace weft_emulator::testing
