#pragma once
// Stacks of their own, between which a thread of the CPU switches.

#include <cstddef>

#include "asan.h"

#ifdef WEFT_EMULATOR_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(WEFT_EMULATOR_UCONTEXT)
#define WEFT_EMULATOR_ASSEMBLY 1
#endif

#if defined(__x86_64__) && defined(WEFT_EMULATOR_ASSEMBLY)
#ifdef __AVX512F__
#define WEFT_EMULATOR_MORE_REGISTERS                                                                   \
  , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", \
      "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7"
#else
#define WEFT_EMULATOR_MORE_REGISTERS
#endif
/// Leaves where to go on and the stack pointer behind in `from`, and goes on where `to` was left. Inline and
/// without a return: the CPU foresees where a function returns by where it was called, and here that would be
/// on the other stack.
[[gnu::always_inline]] inline void weft_emulator_switch(void** from, void* to) {
  asm volatile(
      "subq $128, %%rsp\n"  // what the function may use below its stack pointer
      "pushq %%rbp\n"
      "leaq 1f(%%rip), %%rax\n"
      "pushq %%rax\n"
      "movq %%rsp, (%0)\n"
      "movq %1, %%rsp\n"
      "popq %%rax\n"
      "jmp *%%rax\n"
      "1:\n"
      "popq %%rbp\n"
      "addq $128, %%rsp\n"
      : "+D"(from), "+S"(to)
      :
      : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc",
        "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
        "xmm12", "xmm13", "xmm14", "xmm15" WEFT_EMULATOR_MORE_REGISTERS);
}
#undef WEFT_EMULATOR_MORE_REGISTERS
#else
/// Saves the registers that a called function must keep, and where they are in `from`; goes on where `to` was
/// saved.
extern "C" void weft_emulator_switch(void** from, void* to);
#endif

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

  /// Leaves the running fiber and goes on with `to`; returns when somebody switches back. Inline, as each
  /// function that returns on another stack than it was called on is a jump that the CPU foresees wrongly.
  [[gnu::always_inline]] static void switch_to(Fiber& from, Fiber& to) {
    left_ = &from;
    entered_ = &to;
#ifdef WEFT_EMULATOR_ASAN
    __sanitizer_start_switch_fiber(&from.fake_, to.bottom_, to.size_);
#endif
    weft_emulator_switch(&from.saved_, to.saved_);
    arrived();
  }

 private:
  static void enter();

  static void arrived() {
#ifdef WEFT_EMULATOR_ASAN
    // Tells where the stack lies that was left: for the one that the thread came with there is no other way
    // to know.
    __sanitizer_finish_switch_fiber(entered_->fake_, &left_->bottom_, &left_->size_);
#endif
  }

  static constinit thread_local Fiber *left_, *entered_;

  void (*main_)() = nullptr;
  void* stack_ = nullptr;                  // the mapping, with a page at its start that can't be touched
  void* saved_ = nullptr;                  // stack pointer, or ucontext_t
  [[maybe_unused]] void* fake_ = nullptr;  // of AddressSanitizer: its stack of variables used after return,
  const void* bottom_ = nullptr;           // and what it must know of the stack
  size_t size_ = 0;
};

}  // namespace weft_emulator
