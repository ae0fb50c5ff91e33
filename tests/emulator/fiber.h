#pragma once
// Stacks of their own, between which a thread of the CPU switches.

#include <cstddef>

namespace weft_emulator {

class Fiber {
 public:
  /// Stands for the stack that a thread has already.
  Fiber() = default;
  /// Runs `main`, which never returns, on a new stack at the first switch to it.
  explicit Fiber(void (*main)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Leaves the running fiber and goes on with `to`; returns when somebody switches back.
  static void switch_to(Fiber& from, Fiber& to);

 private:
  static void enter();
  static void arrived();

  void (*main_)() = nullptr;
  void* stack_ = nullptr;                  // the mapping, with a page at its start that can't be touched
  void* saved_ = nullptr;                  // stack pointer, or ucontext_t
  [[maybe_unused]] void* fake_ = nullptr;  // of AddressSanitizer: its stack of variables used after return,
  const void* bottom_ = nullptr;           // and what it must know of the stack
  size_t size_ = 0;
};

}  // namespace weft_emulator
