#include "weft/kernels/parallel.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "weft/kernels/error.h"

#ifdef __linux__
#include <sched.h>
#endif

namespace weft {
namespace kernels {
namespace {

// How long an idle worker looks for the next region before it sleeps. Regions of one training step follow
// each other within microseconds, and waking a sleeper costs more than that.
constexpr std::chrono::microseconds kSpin{30};

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Waits until `value` is no longer `old`: first spinning, then asleep.
unsigned wait_for_change(const std::atomic<unsigned>& value, unsigned old) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (const unsigned now = value.load(); now != old) return now;
      pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  value.wait(old);
  return value.load();
}

constexpr int kMostThreads = 256;

int default_threads() {
  if (const char* text = std::getenv("WEFT_THREADS"); text && *text) {
    int n = 0;
    const char* end = text + std::strlen(text);
    const auto result = std::from_chars(text, end, n);
    if (result.ec != std::errc() || result.ptr != end || n < 1 || n > kMostThreads)
      throw Error(std::string("WEFT_THREADS: '") + text + "' is not a number of threads (1 to " +
                  std::to_string(kMostThreads) + ")");
    return n;
  }
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::clamp(CPU_COUNT(&set), 1, kMostThreads);
#endif
  return std::clamp(int(std::thread::hardware_concurrency()), 1, kMostThreads);
}

// True while this thread runs a task: a region inside it runs serially.
thread_local bool in_task = false;

/// The workers and the one region that they may be working on.
///
/// `state_` counts regions: odd while one is open. A worker enters by counting itself into `inside_` and then
/// looking at `state_` again; the owner closes by making `state_` even and then waiting until `inside_` is 0.
/// With sequentially consistent accesses one of the two always sees the other, so the job is never touched
/// after its owner has left, and a worker that sleeps through a short region is not waited for.
class Pool {
 public:
  static Pool& instance() {
    // Outlives main(): destructors of other globals may compute. Its threads end before.
    static Pool& pool = *new Pool;
    static const struct End {
      ~End() { pool.resize(1); }
    } end;
    return pool;
  }

  int threads() const { return threads_.load(std::memory_order_relaxed); }

  void resize(int n) {
    const std::lock_guard lock(region_);
    if (n == threads()) return;
    stop();
    threads_ = n;
  }

  void run(int64_t count, TaskRef task) {
    std::unique_lock lock(region_, std::try_to_lock);
    // Busy with a region of another thread: this one does its own work itself.
    if (!lock || threads() == 1) return run_serially(count, task);
    start();
    task_ = &task;
    count_ = count;
    next_ = 0;
    failed_task_ = -1;
    error_ = nullptr;
    const unsigned open = ++state_;
    if (count > int64_t(workers_.size())) {
      state_.notify_all();
    } else {
      for (int64_t i = 1; i < count; ++i) state_.notify_one();
    }
    work();
    state_ = open + 1;
    for (unsigned left = inside_; left != 0;) left = wait_for_change(inside_, left);
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  static void run_serially(int64_t count, TaskRef task) {
    const bool outer = std::exchange(in_task, true);
    try {
      for (int64_t i = 0; i < count; ++i) task(i);
    } catch (...) {
      in_task = outer;
      throw;
    }
    in_task = outer;
  }

 private:
  Pool() : threads_(default_threads()) {}

  void start() {
    try {
      while (int(workers_.size()) < threads() - 1) workers_.emplace_back([this] { loop(); });
    } catch (const std::system_error& e) {
      throw Error("thread " + std::to_string(workers_.size() + 2) + " of " + std::to_string(threads()) +
                  " cannot be started (" + e.what() +
                  "); set fewer by WEFT_THREADS, --threads or set_num_threads()");
    }
  }

  void stop() {
    if (workers_.empty()) return;
    stopping_ = true;
    state_ += 2;
    state_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    stopping_ = false;
  }

  void loop() {
    unsigned seen = 0;
    for (;;) {
      const unsigned now = state_;
      if (stopping_) return;  // looked at after state_, which stop() changes last
      if (now == seen || now % 2 == 0) {
        wait_for_change(state_, now);
        continue;
      }
      ++inside_;
      if (const unsigned open = state_; open % 2 != 0 && open != seen) {
        seen = open;
        work();
      }
      if (--inside_ == 0) inside_.notify_one();
    }
  }

  /// Takes tasks until none is left. After an exception no new task is started; of several the one of the
  /// lowest task is kept, which is the same one on every run, because tasks are taken in ascending order.
  void work() {
    in_task = true;
    for (int64_t i; (i = next_.fetch_add(1)) < count_;) {
      try {
        (*task_)(i);
      } catch (...) {
        const std::lock_guard lock(error_mutex_);
        if (failed_task_ < 0 || i < failed_task_) {
          failed_task_ = i;
          error_ = std::current_exception();
        }
        next_ = count_;
      }
    }
    in_task = false;
  }

  std::mutex region_;  // held by the thread whose region runs
  std::atomic<int> threads_;
  std::vector<std::thread> workers_;
  std::atomic<bool> stopping_{false};
  alignas(64) std::atomic<unsigned> state_{0};
  alignas(64) std::atomic<unsigned> inside_{0};
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) const TaskRef* task_ = nullptr;
  int64_t count_ = 0;
  std::mutex error_mutex_;
  int64_t failed_task_ = -1;
  std::exception_ptr error_;
};

}  // namespace

void parallel_for(int64_t count, TaskRef task) {
  if (count <= 0) return;
  if (count == 1 || in_task) return Pool::run_serially(count, task);
  Pool::instance().run(count, task);
}

}  // namespace kernels

int num_threads() { return kernels::Pool::instance().threads(); }

void set_num_threads(int n) {
  if (n < 1 || n > kernels::kMostThreads)
    throw Error("set_num_threads: " + std::to_string(n) + " threads; there may be 1 to " +
                std::to_string(kernels::kMostThreads));
  kernels::Pool::instance().resize(n);
}

}  // namespace weft
