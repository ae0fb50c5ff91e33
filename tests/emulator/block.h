#pragma once
// Runs the blocks of a kernel one after the other (those that meet in turns), and the threads of a block as
// fibers.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "fiber.h"
#include "shared_memory.h"
#include "weft_emulator/device.h"

namespace weft_emulator {

/// Ends the program with a message: for what is an error in a kernel.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

class BlockRunner {
 public:
  /// That of the calling thread: fibers can't move from one to another.
  static BlockRunner& of_this_thread();

  /// Runs `thread` once for each thread of the grid, blocks and warps in an order that follows from `seed`.
  /// Where they run `together`, the blocks of each blockIdx.x can meet.
  void run(const void* kernel, dim3 grid, dim3 block, bool together, const std::function<void()>& thread,
           uint64_t seed);
  bool running() const { return body_ != nullptr; }

  // Called in one place each, and inline there, as is what they call: see Fiber::switch_to.
  int barrier(detail::Barrier op, int value, detail::Place place);
  uint64_t warp(detail::Warp op, unsigned mask, uint64_t value, unsigned lane, int width,
                detail::Place place);
  void meet();
  unsigned activemask() const;
  void yield();
  [[noreturn]] void fail_here(const char* what, detail::Place place) const;

 private:
  enum class State : uint8_t { running, at_barrier, at_warp, at_meeting, exited };
  struct Thread {
    uint3 index;
    unsigned id;
    Fiber* fiber;
    State state;
    // What it waits for.
    detail::Warp op;
    unsigned mask;
    unsigned source;  // lane of a shuffle
    uint64_t value, result;
    detail::Place place;
  };
  struct WarpState {
    unsigned all, living, waiting;
  };
  /// What a block of the running group keeps while others run.
  struct Member {
    uint3 index;
    std::vector<Thread> threads;
    std::vector<WarpState> warps;
    unsigned living;
    std::vector<unsigned char> shared;
  };

  void set_up(dim3 block);
  void run_block();
  void go_on();
  void run_group(uint64_t count);
  void run_member(Member& member, bool begin);
  [[noreturn]] void work();
  void leave(Thread& thread);
  void wait();
  void resume(Thread& thread);
  void make_ready(Thread& thread);
  Thread& next_ready();
  Fiber& free_fiber();
  Fiber& host();
  void release_barrier();
  void exchange(unsigned warp, unsigned lanes);
  [[noreturn]] void deadlock() const;
  uint64_t random();

  const std::vector<SharedArray>* shared_ = nullptr;  // of the kernel
  const std::function<void()>* body_ = nullptr;
  uint64_t random_ = 0;

  std::vector<Thread> threads_;
  std::vector<WarpState> warps_;
  std::vector<unsigned> order_;  // of the warps
  bool reverse_ = false;         // the order of lanes
  unsigned count_ = 0, slots_ = 0, started_ = 0, living_ = 0;
  bool start_first_ = false;
  unsigned at_barrier_ = 0;
  std::vector<Thread*> waiters_;  // at the barrier
  detail::Barrier barrier_{};
  detail::Place place_{};  // where the threads at the barrier wait
  int votes_ = 0, votes_result_ = 0;
  Thread* current_ = nullptr;

  unsigned at_meeting_ = 0;      // threads
  std::vector<Member> members_;  // the blocks of the group
  std::vector<Member*> turns_;   // their order

  std::vector<Thread*> ready_;  // a ring: every thread is in it at most once
  unsigned ready_first_ = 0, ready_count_ = 0, ready_mask_ = 0;

  Fiber host_;
  Fiber* fiber_ = nullptr;  // the running one
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> free_;
};

}  // namespace weft_emulator
