#pragma once
// Runs the blocks of a kernel one after the other (those of a cluster in turns), and the threads of a block
// as fibers.

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
  /// The grid is a multiple of `cluster`.
  void run(const void* kernel, dim3 grid, dim3 block, dim3 cluster, const std::function<void()>& thread,
           uint64_t seed);
  bool running() const { return body_ != nullptr; }

  // Called in one place each, and inline there, as is what they call: see Fiber::switch_to.
  int barrier(detail::Barrier op, int value, detail::Place place);
  uint64_t warp(detail::Warp op, unsigned mask, uint64_t value, unsigned lane, int width,
                detail::Place place);
  void cluster_barrier();
  void* in_cluster(const void* place, unsigned rank);
  unsigned cluster_rank() const { return rank_; }
  unsigned cluster_size() const { return static_cast<unsigned>(members_.size()); }
  unsigned activemask() const;
  void yield();
  [[noreturn]] void fail_here(const char* what, detail::Place place) const;

 private:
  enum class State : uint8_t { running, at_barrier, at_warp, at_cluster, exited };
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
  /// What a block of the running cluster keeps while others run.
  struct Member {
    uint3 index;
    std::vector<Thread> threads;
    std::vector<WarpState> warps;
    unsigned living;
    std::vector<unsigned char> shared;
    bool is_read;  // by others, since the last barrier of the cluster
  };

  void set_up(dim3 block);
  void run_block();
  void go_on();
  void run_cluster(dim3 cluster);
  void run_member(unsigned rank, bool begin);
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

  unsigned rank_ = 0, at_cluster_ = 0;  // threads at the cluster's barrier
  std::vector<Member> members_{1};      // the blocks of the cluster
  std::vector<unsigned> member_order_;

  std::vector<Thread*> ready_;  // a ring: every thread is in it at most once
  unsigned ready_first_ = 0, ready_count_ = 0, ready_mask_ = 0;

  Fiber host_;
  Fiber* fiber_ = nullptr;  // the running one
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> free_;
};

}  // namespace weft_emulator
