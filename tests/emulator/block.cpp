#include "block.h"

#include <algorithm>
#include <bit>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

constinit thread_local uint3 threadIdx{};
constinit thread_local uint3 blockIdx{};
constinit thread_local dim3 blockDim;
constinit thread_local dim3 gridDim;

namespace weft_emulator {

using detail::Barrier;
using detail::Place;
using detail::Warp;

void fail(const char* format, ...) {
  std::fflush(stdout);
  std::fputs("weft emulator: ", stderr);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  std::abort();
}

BlockRunner& BlockRunner::of_this_thread() {
  static constinit thread_local BlockRunner* runner = nullptr;  // a look without a call of its constructor
  if (!runner) {
    thread_local BlockRunner made;
    runner = &made;
  }
  return *runner;
}

// splitmix64
uint64_t BlockRunner::random() {
  uint64_t z = random_ += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

void BlockRunner::set_up(dim3 block) {
  blockDim = block;
  count_ = block.x * block.y * block.z;
  threads_.assign(count_, Thread{});
  unsigned id = 0;
  for (unsigned z = 0; z < block.z; ++z)
    for (unsigned y = 0; y < block.y; ++y)
      for (unsigned x = 0; x < block.x; ++x, ++id) {
        threads_[id].index = {x, y, z};
        threads_[id].id = id;
      }
  slots_ = (count_ + 31) / 32 * 32;
  warps_.assign((count_ + 31) / 32, WarpState{~0u, 0, 0});
  if (count_ % 32) warps_.back().all = (1u << count_ % 32) - 1;
  order_.resize(warps_.size());
  std::iota(order_.begin(), order_.end(), 0u);
  ready_.assign(std::bit_ceil(count_), nullptr);
  waiters_.assign(count_, nullptr);
  ready_mask_ = static_cast<unsigned>(ready_.size()) - 1;
  ready_count_ = 0;
}

void BlockRunner::run(const void* kernel, dim3 grid, dim3 block, bool together,
                      const std::function<void()>& thread, uint64_t seed) {
  if (running()) fail("a kernel calls the host's API");
  random_ = seed;
  if (threads_.empty() || block.x != blockDim.x || block.y != blockDim.y || block.z != blockDim.z)
    set_up(block);
  gridDim = grid;
  shared_ = &shared_arrays(kernel);
  body_ = &thread;
  const uint64_t columns = uint64_t{grid.y} * grid.z, count = together ? grid.x : grid.x * columns;
  // A random start and a random stride with no common divisor reach everything once.
  uint64_t at = random() % count, stride = random() % count;
  while (std::gcd(stride, count) != 1) stride = stride + 1 < count ? stride + 1 : 1;
  for (uint64_t i = 0; i < count; ++i) {
    blockIdx = {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                static_cast<unsigned>(at / grid.x / grid.y)};
    if (together) {
      run_group(columns);
    } else {
      run_block();
      if (living_)
        fail("block (%u, %u, %u) meets others, but was not launched so", blockIdx.x, blockIdx.y, blockIdx.z);
    }
    at += stride;
    if (at >= count) at -= count;
  }
  body_ = nullptr;
}

void BlockRunner::run_block() {
  const uint64_t bits = random();
  reverse_ = bits & 1;
  if (order_.size() > 1) std::swap(order_[0], order_[(bits >> 32) % order_.size()]);
  if (order_.size() > 2) std::swap(order_[1], order_[1 + (bits >> 1) % (order_.size() - 1)]);
  for (WarpState& warp : warps_) {
    warp.living = warp.all;
    warp.waiting = 0;
  }
  fill_with_nan(*shared_);
  started_ = at_barrier_ = at_meeting_ = 0;
  living_ = count_;
  votes_ = 0;
  fiber_ = &free_fiber();
  Fiber::switch_to(host_, *fiber_);
}

/// Lets the threads go on that wait for other blocks, up to the next meeting or their end.
void BlockRunner::go_on() {
  at_meeting_ = 0;
  current_ = nullptr;
  const bool reverse = random() & 1;
  for (unsigned i = 0; i < count_; ++i) {
    Thread& thread = threads_[reverse ? count_ - 1 - i : i];
    if (thread.state == State::at_meeting) make_ready(thread);
  }
  resume(next_ready());
}

/// Runs the `count` blocks of this blockIdx.x, which take turns from one meeting to the next.
void BlockRunner::run_group(uint64_t count) {
  const unsigned x = blockIdx.x;
  members_.resize(count);
  turns_.clear();
  for (uint64_t i = 0; i < count; ++i) {
    Member& member = members_[i];
    member.index = {x, static_cast<unsigned>(i % gridDim.y), static_cast<unsigned>(i / gridDim.y)};
    member.threads = threads_;
    member.warps = warps_;
    member.living = count_;
    member.shared.resize(copy_size(*shared_));
    turns_.push_back(&member);
  }
  for (unsigned meetings = 0;; ++meetings) {
    for (size_t i = 0; i + 1 < count; ++i) std::swap(turns_[i], turns_[i + random() % (count - i)]);
    const Member *ended = nullptr, *waiting = nullptr;
    for (Member* member : turns_) {
      run_member(*member, meetings == 0);
      (member->living ? waiting : ended) = member;
    }
    if (!waiting) return;
    if (ended)
      fail("block (%u, %u, %u) waits for meeting %u, and block (%u, %u, %u) has returned", waiting->index.x,
           waiting->index.y, waiting->index.z, meetings, ended->index.x, ended->index.y, ended->index.z);
  }
}

void BlockRunner::run_member(Member& member, bool begin) {
  blockIdx = member.index;
  threads_.swap(member.threads);
  warps_.swap(member.warps);
  if (begin) {
    run_block();
  } else {
    living_ = member.living;
    copy_in(*shared_, member.shared.data());
    go_on();
  }
  threads_.swap(member.threads);
  warps_.swap(member.warps);
  member.living = living_;
  if (living_) copy_out(*shared_, member.shared.data());
}

/// What every fiber does: run threads that have not begun, until none is left, or give way to one that can go
/// on. Most threads never wait, and share the one stack.
void BlockRunner::work() {
  for (;;) {
    const bool start_first = std::exchange(start_first_, false);
    if (ready_count_ && !(start_first && started_ < slots_)) {
      free_.push_back(fiber_);
      resume(next_ready());
    } else if (started_ < slots_) {
      const unsigned warp = order_[started_ / 32], lane = started_ % 32;
      ++started_;
      const unsigned id = warp * 32 + (reverse_ ? 31 - lane : lane);
      if (id >= count_) continue;  // the last warp may not be full
      Thread& thread = threads_[id];
      thread.fiber = fiber_;
      thread.state = State::running;
      current_ = &thread;
      threadIdx = thread.index;
      (*body_)();
      leave(thread);
    } else {
      Fiber& from = *fiber_;
      free_.push_back(fiber_);
      fiber_ = &host();
      Fiber::switch_to(from, *fiber_);
    }
  }
}

void BlockRunner::leave(Thread& thread) {
  thread.state = State::exited;
  --living_;
  WarpState& warp = warps_[thread.id / 32];
  warp.living &= ~(1u << thread.id % 32);
  // The others may have waited for this one only.
  if (at_barrier_ && at_barrier_ == living_) release_barrier();
  unsigned lanes = warp.waiting;
  while (lanes) {
    const unsigned lane = static_cast<unsigned>(std::countr_zero(lanes));
    const unsigned group = threads_[thread.id / 32 * 32 + lane].mask & warp.living;
    if ((warp.waiting & group) == group) exchange(thread.id / 32, group);
    lanes &= ~(group | 1u << lane);
  }
}

/// Leaves the running thread until somebody has made it ready and it is its turn.
[[gnu::always_inline]] inline void BlockRunner::wait() {
  if (ready_count_ && !start_first_) return resume(next_ready());
  if (started_ == slots_ && ready_count_) return resume(next_ready());
  Fiber& from = *fiber_;
  fiber_ = started_ == slots_ ? &host() : &free_fiber();
  Fiber::switch_to(from, *fiber_);
}

[[gnu::always_inline]] inline void BlockRunner::resume(Thread& thread) {
  Fiber& from = *fiber_;
  current_ = &thread;
  thread.state = State::running;
  threadIdx = thread.index;
  fiber_ = thread.fiber;
  if (&from != fiber_) Fiber::switch_to(from, *fiber_);
}

[[gnu::always_inline]] inline void BlockRunner::make_ready(Thread& thread) {
  if (&thread == current_) {
    thread.state = State::running;
  } else {
    ready_[(ready_first_ + ready_count_++) & ready_mask_] = &thread;
  }
}

[[gnu::always_inline]] inline BlockRunner::Thread& BlockRunner::next_ready() {
  --ready_count_;
  return *ready_[ready_first_++ & ready_mask_];
}

Fiber& BlockRunner::free_fiber() {
  if (free_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>([] { of_this_thread().work(); }));
    return *fibers_.back();
  }
  Fiber& fiber = *free_.back();
  free_.pop_back();
  return fiber;
}

/// The stack that runs blocks, where the block's threads have all ended or wait for other blocks.
Fiber& BlockRunner::host() {
  if (at_meeting_ != living_) deadlock();
  return host_;
}

[[gnu::always_inline]] inline int BlockRunner::barrier(Barrier op, int value, Place place) {
  if (!running()) fail_here("a barrier outside a kernel", place);
  Thread& thread = *current_;
  if (at_barrier_ == 0) {
    barrier_ = op;
    place_ = place;
    votes_ = 0;
  } else if (op != barrier_ || place.line != place_.line ||
             (place.file != place_.file && std::strcmp(place.file, place_.file) != 0)) {
    fail("threads of block (%u, %u, %u) wait at different barriers: %u at %s:%d, another at %s:%d",
         blockIdx.x, blockIdx.y, blockIdx.z, at_barrier_, place_.file, place_.line, place.file, place.line);
  }
  thread.state = State::at_barrier;
  thread.place = place;
  votes_ += value != 0;
  waiters_[at_barrier_] = &thread;
  if (++at_barrier_ == living_) {
    release_barrier();
  } else {
    wait();
  }
  return votes_result_;
}

void BlockRunner::release_barrier() {
  votes_result_ = barrier_ == Barrier::count      ? votes_
                  : barrier_ == Barrier::vote_and ? votes_ == static_cast<int>(at_barrier_)
                                                  : votes_ != 0;
  for (unsigned i = 0; i < at_barrier_; ++i) make_ready(*waiters_[i]);
  at_barrier_ = 0;
}

[[gnu::always_inline]] inline uint64_t BlockRunner::warp(Warp op, unsigned mask, uint64_t value,
                                                         unsigned lane, int width, Place place) {
  if (!running()) fail_here("a warp operation outside a kernel", place);
  Thread& thread = *current_;
  const unsigned own = thread.id % 32, segment = static_cast<unsigned>(width);
  if (!(mask >> own & 1)) fail_here("the mask of a warp operation lacks the lane that calls it", place);
  if (width <= 0 || width > 32 || (width & (width - 1)))
    fail_here("the width of a shuffle is no power of 2 up to 32", place);
  // As in the manual of PTX, shfl: a source outside the segment means the own value.
  const unsigned begin = own & ~(segment - 1), end = begin + segment;
  lane &= 31;
  switch (op) {
    case Warp::shfl:
      thread.source = begin + (lane & (segment - 1));
      break;
    case Warp::shfl_up:
      thread.source = own >= begin + lane ? own - lane : own;
      break;
    case Warp::shfl_down:
      thread.source = own + lane < end ? own + lane : own;
      break;
    case Warp::shfl_xor:
      thread.source = (own ^ lane) < end ? own ^ lane : own;
      break;
    default:
      break;
  }
  thread.op = op;
  thread.mask = mask;
  thread.value = value;
  thread.place = place;
  thread.state = State::at_warp;
  WarpState& warp = warps_[thread.id / 32];
  warp.waiting |= 1u << own;
  const unsigned group = mask & warp.living;
  if ((warp.waiting & group) == group) {
    exchange(thread.id / 32, group);
  } else {
    wait();
  }
  return thread.result;
}

/// Gives all `lanes`, which wait, their results.
void BlockRunner::exchange(unsigned warp, unsigned lanes) {
  constexpr uint64_t nothing = 0xffffdead'ffffdead;
  Thread* const threads = &threads_[warp * 32];
  const Thread& first = threads[std::countr_zero(lanes)];
  const Warp op = first.op;
  const unsigned mask = first.mask;
  const auto each = [&](auto&& visit) {
    for (unsigned rest = lanes; rest; rest &= rest - 1) visit(threads[std::countr_zero(rest)]);
  };
  const auto finish = [&](Thread& t, uint64_t result) {
    if (t.op != op || t.mask != mask)
      fail(
          "lanes of a warp in block (%u, %u, %u) meet in different operations or with different masks: %#x "
          "at "
          "%s:%d, %#x at %s:%d",
          blockIdx.x, blockIdx.y, blockIdx.z, mask, first.place.file, first.place.line, t.mask, t.place.file,
          t.place.line);
    t.result = result;
    make_ready(t);
  };
  warps_[warp].waiting &= ~lanes;
  const auto fold = [&](auto&& combine) {
    uint64_t result = first.value;
    each([&](const Thread& t) {
      if (&t != &first) result = combine(result, t.value);
    });
    each([&](Thread& t) { finish(t, result); });
  };
  const auto smaller = [](uint64_t a, uint64_t b) {
    return static_cast<int64_t>(a) < static_cast<int64_t>(b);
  };
  switch (op) {
    case Warp::sync:
      each([&](Thread& t) { finish(t, 0); });
      break;
    case Warp::shfl:
    case Warp::shfl_up:
    case Warp::shfl_down:
    case Warp::shfl_xor:
      each([&](Thread& t) { finish(t, lanes >> t.source & 1 ? threads[t.source].value : nothing); });
      break;
    case Warp::ballot: {
      uint64_t votes = 0;
      each([&](const Thread& t) { votes |= t.value << t.id % 32; });
      each([&](Thread& t) { finish(t, votes); });
      break;
    }
    case Warp::add:
      fold([](uint64_t a, uint64_t b) { return a + b; });
      break;
    case Warp::min:
      fold([&](uint64_t a, uint64_t b) { return smaller(a, b) ? a : b; });
      break;
    case Warp::max:
      fold([&](uint64_t a, uint64_t b) { return smaller(a, b) ? b : a; });
      break;
    case Warp::bit_and:
      fold([](uint64_t a, uint64_t b) { return a & b; });
      break;
    case Warp::bit_or:
      fold([](uint64_t a, uint64_t b) { return a | b; });
      break;
    case Warp::bit_xor:
      fold([](uint64_t a, uint64_t b) { return a ^ b; });
      break;
  }
}

void BlockRunner::meet() {
  if (!running()) fail("blocks meet outside a kernel");
  current_->state = State::at_meeting;
  ++at_meeting_;
  wait();
}

unsigned BlockRunner::activemask() const { return 1u << current_->id % 32; }

void BlockRunner::yield() {
  Thread& thread = *current_;
  start_first_ = started_ < slots_;
  ready_[(ready_first_ + ready_count_++) & ready_mask_] = &thread;
  wait();
}

void BlockRunner::fail_here(const char* what, Place place) const {
  if (!running()) fail("%s, at %s:%d", what, place.file, place.line);
  fail("%s, at %s:%d, block (%u, %u, %u), thread (%u, %u, %u)", what, place.file, place.line, blockIdx.x,
       blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
}

void BlockRunner::deadlock() const {
  const Thread *at_barrier = nullptr, *at_warp = nullptr;
  unsigned lanes = 0;
  for (const Thread& thread : threads_) {
    if (thread.state == State::at_barrier) at_barrier = &thread;
    if (thread.state == State::at_warp) at_warp = &thread, ++lanes;
  }
  char barrier[300] = "", warp[300] = "";
  if (at_barrier)
    std::snprintf(barrier, sizeof barrier, " (%s:%d)", at_barrier->place.file, at_barrier->place.line);
  if (at_warp)
    std::snprintf(warp, sizeof warp, " (%s:%d, mask %#x)", at_warp->place.file, at_warp->place.line,
                  at_warp->mask);
  fail(
      "deadlock in block (%u, %u, %u): of %u threads %u wait at __syncthreads%s, %u at a warp operation%s, "
      "%u for other blocks, %u have returned",
      blockIdx.x, blockIdx.y, blockIdx.z, count_, at_barrier_, barrier, lanes, warp, at_meeting_,
      count_ - living_);
}

namespace detail {

int barrier(Barrier op, int value, Place place) {
  return BlockRunner::of_this_thread().barrier(op, value, place);
}
uint64_t warp(Warp op, unsigned mask, uint64_t value, unsigned lane, int width, Place place) {
  return BlockRunner::of_this_thread().warp(op, mask, value, lane, width, place);
}
void yield() { BlockRunner::of_this_thread().yield(); }
void trap(Place place) { BlockRunner::of_this_thread().fail_here("__trap", place); }

}  // namespace detail
}  // namespace weft_emulator

void weft_emulator::meet() { BlockRunner::of_this_thread().meet(); }

unsigned __activemask() { return weft_emulator::BlockRunner::of_this_thread().activemask(); }
