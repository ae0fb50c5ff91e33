#include "weft/apps/weft/interrupt.h"

#include <csignal>

namespace weft::app {
namespace {

volatile std::sig_atomic_t signal_seen = 0;

extern "C" void note_signal(int signal) { signal_seen = signal; }

// A hang-up too: training on a remote machine should outlive the connection as a checkpoint.
constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};

void set_handler(int signal, void (*handler)(int), int flags) {
  struct sigaction old = {};
  sigaction(signal, nullptr, &old);
  if (old.sa_handler == SIG_IGN) return;  // so wanted whoever started us, nohup for one
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

}  // namespace

InterruptGuard::InterruptGuard() {
  signal_seen = 0;
  // SA_RESETHAND: the second signal of a kind meets the default action, for whoever does not want to wait.
  for (int signal : kSignals) set_handler(signal, note_signal, int(SA_RESETHAND) | SA_RESTART);
}

InterruptGuard::~InterruptGuard() {
  for (int signal : kSignals) set_handler(signal, SIG_DFL, 0);
}

int interrupted() { return signal_seen; }

}  // namespace weft::app
