// Ctrl-C, SIGTERM and a hang-up as a wish to stop at the next good moment.
#pragma once

namespace weft::app {

/// While it lives, the first SIGINT, SIGTERM or SIGHUP only sets a flag; the second one of a kind ends the
/// process as usual.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
};

/// The signal that came, or 0.
int interrupted();

}  // namespace weft::app
