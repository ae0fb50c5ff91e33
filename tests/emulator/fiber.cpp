#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "asan.h"
#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(WEFT_EMULATOR_UCONTEXT)
#define WEFT_EMULATOR_ASSEMBLY 1
#else
#include <ucontext.h>
#endif

#ifdef WEFT_EMULATOR_ASSEMBLY
// Saves what a called function must keep on the old stack, and takes it from the new one. A few instructions,
// where swapcontext makes two system calls for the signal mask.
extern "C" void weft_emulator_switch(void** from, void* to);
#ifdef __x86_64__
asm(R"(
.text
.hidden weft_emulator_switch
.globl weft_emulator_switch
.type weft_emulator_switch, @function
weft_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret

.size weft_emulator_switch, .-weft_emulator_switch
)");
#else
asm(R"(
.text
.hidden weft_emulator_switch
.globl weft_emulator_switch
.type weft_emulator_switch, %function
weft_emulator_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size weft_emulator_switch, .-weft_emulator_switch
)");
#endif
#endif

namespace weft_emulator {
namespace {

// The sanitizers' frames are several times as large.
#ifdef WEFT_EMULATOR_ASAN
constexpr size_t stack_size = 256 << 10;
#else
constexpr size_t stack_size = 64 << 10;
#endif

thread_local Fiber* previous = nullptr;
thread_local Fiber* entered = nullptr;

}  // namespace

Fiber::Fiber(void (*main)()) : main_(main), size_(stack_size) {
  // Were all stacks to begin at the same place of a page, their ends would fight for few lines of the cache.
  thread_local size_t made = 0;
  [[maybe_unused]] const size_t shift = made++ * 320 % 4096;
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  stack_ =
      mmap(nullptr, page + size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack_ == MAP_FAILED || mprotect(stack_, page, PROT_NONE) != 0) {
    std::perror("weft emulator: no memory for the stack of a thread");
    std::abort();
  }
  bottom_ = static_cast<char*>(stack_) + page;
#if !defined(WEFT_EMULATOR_ASSEMBLY)
  auto* context = new ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = static_cast<char*>(stack_) + page;
  context->uc_stack.ss_size = size_;
  context->uc_link = nullptr;
  makecontext(context, &Fiber::enter, 0);
  saved_ = context;
#elif defined(__x86_64__)
  // Six registers, the address to return to, and an address that it would return to in turn.
  auto* top = reinterpret_cast<uintptr_t*>(static_cast<char*>(stack_) + page + size_ - shift) - 8;
  top[6] = reinterpret_cast<uintptr_t>(&Fiber::enter);
  saved_ = top;
#else
  auto* top = reinterpret_cast<uintptr_t*>(static_cast<char*>(stack_) + page + size_ - shift) - 20;
  top[11] = reinterpret_cast<uintptr_t>(&Fiber::enter);  // the link register
  saved_ = top;
#endif
}

Fiber::~Fiber() {
#ifndef WEFT_EMULATOR_ASSEMBLY
  delete static_cast<ucontext_t*>(saved_);
#endif
  if (!stack_) return;
  ASAN_UNPOISON_MEMORY_REGION(bottom_, size_);  // its frames never ended, and the address may be used again
  munmap(stack_, static_cast<size_t>(sysconf(_SC_PAGESIZE)) + size_);
}

void Fiber::arrived() {
#ifdef WEFT_EMULATOR_ASAN
  // Tells where the stack lies that was left: for the one that the thread came with there is no other way to
  // know.
  __sanitizer_finish_switch_fiber(entered->fake_, &previous->bottom_, &previous->size_);
#endif
}

void Fiber::enter() {
  arrived();
  entered->main_();
  std::abort();
}

void Fiber::switch_to(Fiber& from, Fiber& to) {
  previous = &from;
  entered = &to;
#ifdef WEFT_EMULATOR_ASAN
  __sanitizer_start_switch_fiber(&from.fake_, to.bottom_, to.size_);
#endif
#ifdef WEFT_EMULATOR_ASSEMBLY
  weft_emulator_switch(&from.saved_, to.saved_);
#else
  if (!from.saved_) from.saved_ = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(from.saved_), static_cast<ucontext_t*>(to.saved_));
#endif
  arrived();
}

}  // namespace weft_emulator
