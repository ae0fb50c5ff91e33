#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "asan.h"
#ifndef WEFT_EMULATOR_ASSEMBLY
#include <ucontext.h>
#endif

// A few instructions, where swapcontext makes two system calls for the signal mask.
#ifndef WEFT_EMULATOR_ASSEMBLY
void weft_emulator_switch(void** from, void* to) {
  if (!*from) *from = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(*from), static_cast<ucontext_t*>(to));
}
#elif defined(__aarch64__)
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

namespace weft_emulator {
namespace {

// The sanitizers' frames are several times as large.
#ifdef WEFT_EMULATOR_ASAN
constexpr size_t stack_size = 256 << 10;
#else
constexpr size_t stack_size = 64 << 10;
#endif

}  // namespace

constinit thread_local Fiber* Fiber::left_ = nullptr;
constinit thread_local Fiber* Fiber::entered_ = nullptr;

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
  // Where to go on, and, as after a call, where it would return to.
  auto* top = reinterpret_cast<uintptr_t*>(static_cast<char*>(stack_) + page + size_ - shift) - 2;
  top[0] = reinterpret_cast<uintptr_t>(&Fiber::enter);
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

void Fiber::enter() {
  arrived();
  entered_->main_();
  std::abort();
}

}  // namespace weft_emulator
