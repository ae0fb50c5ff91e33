// The thread pool: every task once, errors from tasks, regions inside regions and from several threads. Also
// run under ThreadSanitizer.
#include "weft/kernels/parallel.h"

#include <doctest/doctest.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "weft/kernels/error.h"

using weft::num_threads;
using weft::set_num_threads;
using weft::kernels::parallel_for;
using weft::kernels::parallel_ranges;

namespace {

/// Sets the number of threads while it lives.
struct Threads {
  explicit Threads(int n) : before(num_threads()) { set_num_threads(n); }
  ~Threads() { set_num_threads(before); }
  int before;
};

/// Computes after main(), and after what the pool began in main().
const struct AtTheEnd {
  ~AtTheEnd() {
    std::atomic<int> done = 0;
    parallel_for(9, [&](int64_t) { ++done; });
    if (done != 9) std::abort();
  }
} at_the_end;
}  // namespace

TEST_CASE("each task runs once, for any number of tasks and threads") {
  for (int threads : {1, 2, 3, 8}) {
    const Threads guard(threads);
    CHECK(num_threads() == threads);
    for (int64_t count : {0, 1, 2, 7, 64, 1000}) {
      std::vector<int> runs(static_cast<size_t>(count), 0);  // plain ints: a task run twice at once is a race
      parallel_for(count, [&](int64_t i) { ++runs[size_t(i)]; });
      CHECK(std::count(runs.begin(), runs.end(), 1) == count);
    }
  }
}

TEST_CASE("what tasks write is there when the region ends, thousands of regions in a row") {
  const Threads guard(4);
  std::vector<int64_t> values(16, 0);
  for (int64_t round = 1; round <= 5000; ++round) {
    parallel_for(16, [&](int64_t i) { values[size_t(i)] += i + round; });
    if (round % 1000 == 0)
      for (int64_t i = 0; i < 16; ++i) CHECK(values[size_t(i)] == i * round + round * (round + 1) / 2);
  }
}

TEST_CASE("several threads take part") {
  const Threads guard(3);
  std::mutex mutex;
  std::set<std::thread::id> seen;
  // Each task waits until a second thread has come, so one thread alone could not end the region.
  parallel_for(3, [&](int64_t) {
    for (;;) {
      {
        const std::lock_guard lock(mutex);
        seen.insert(std::this_thread::get_id());
        if (seen.size() >= 2) return;
      }
      std::this_thread::yield();
    }
  });
  CHECK(seen.size() >= 2);
}

TEST_CASE("ranges cover everything without overlap") {
  const Threads guard(3);
  std::vector<int> runs(1003, 0);
  std::atomic<int64_t> longest{0};
  parallel_ranges(1003, 100, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++runs[size_t(i)];
    int64_t seen = longest;
    while (end - begin > seen && !longest.compare_exchange_weak(seen, end - begin)) {
    }
  });
  CHECK(std::count(runs.begin(), runs.end(), 1) == 1003);
  CHECK(longest == 100);
}

TEST_CASE("a region inside a task runs on that task's thread") {
  const Threads guard(4);
  std::vector<int> runs(64, 0);
  parallel_for(8, [&](int64_t outer) {
    const auto here = std::this_thread::get_id();
    parallel_for(8, [&](int64_t inner) {
      if (std::this_thread::get_id() == here) ++runs[size_t(outer * 8 + inner)];
    });
  });
  CHECK(std::count(runs.begin(), runs.end(), 1) == 64);
}

TEST_CASE("the error of the lowest task comes out, and the pool works on") {
  const Threads guard(4);
  for (int round = 0; round < 50; ++round) {
    std::string message;
    try {
      parallel_for(100, [](int64_t i) {
        if (i % 10 == 7) throw std::runtime_error("task " + std::to_string(i));
      });
    } catch (const std::runtime_error& e) {
      message = e.what();
    }
    CHECK(message == "task 7");
    std::atomic<int> done{0};
    parallel_for(20, [&](int64_t) { ++done; });
    CHECK(done == 20);
  }
}

TEST_CASE("an error in a region inside a task comes out of both") {
  const Threads guard(2);
  CHECK_THROWS_WITH(parallel_for(4,
                                 [](int64_t outer) {
                                   parallel_for(4, [&](int64_t inner) {
                                     if (outer == 2 && inner == 1) throw std::runtime_error("deep");
                                   });
                                 }),
                    "deep");
  // The thread is not left thinking that it is inside a task.
  std::mutex mutex;
  std::set<std::thread::id> seen;
  parallel_for(2, [&](int64_t) {
    for (;;) {
      {
        const std::lock_guard lock(mutex);
        seen.insert(std::this_thread::get_id());
        if (seen.size() == 2) return;
      }
      std::this_thread::yield();
    }
  });
  CHECK(seen.size() == 2);
}

TEST_CASE("regions of several threads at once do not mix") {
  const Threads guard(3);
  std::vector<std::thread> callers;
  std::vector<int64_t> sums(4, 0);
  for (size_t caller = 0; caller < sums.size(); ++caller) {
    callers.emplace_back([&, caller] {
      for (int round = 0; round < 300; ++round) {
        std::vector<int64_t> parts(10, 0);
        parallel_for(10, [&](int64_t i) { parts[size_t(i)] = i + int64_t(caller); });
        for (int64_t part : parts) sums[caller] += part;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (size_t caller = 0; caller < sums.size(); ++caller)
    CHECK(sums[caller] == 300 * (45 + 10 * int64_t(caller)));
}

TEST_CASE("the number of threads can change between regions, but not below 1 or above 256") {
  const Threads guard(2);
  for (int n : {5, 1, 3}) {
    set_num_threads(n);
    std::atomic<int> done{0};
    parallel_for(50, [&](int64_t) { ++done; });
    CHECK(done == 50);
  }
  CHECK_THROWS(set_num_threads(0));
  CHECK_THROWS(set_num_threads(-3));
  CHECK_THROWS(set_num_threads(257));
  CHECK(num_threads() == 3);
}

#ifdef __GLIBC__
TEST_CASE("a thread that cannot be started is an Error, and the pool works on") {
  const Threads guard(3);
  pthread_attr_t usual, huge;
  REQUIRE(pthread_getattr_default_np(&usual) == 0);
  REQUIRE(pthread_getattr_default_np(&huge) == 0);
  REQUIRE(pthread_attr_setstacksize(&huge, size_t{1} << 60) == 0);
  REQUIRE(pthread_setattr_default_np(&huge) == 0);
  std::string message;
  try {
    parallel_for(8, [](int64_t) {});
  } catch (const weft::Error& e) {
    message = e.what();
  }
  REQUIRE(pthread_setattr_default_np(&usual) == 0);
  CHECK(message.find("thread 2 of 3 cannot be started (") == 0);
  CHECK(message.find("WEFT_THREADS") != std::string::npos);
  std::atomic<int> done{0};
  parallel_for(20, [&](int64_t) { ++done; });
  CHECK(done == 20);
  pthread_attr_destroy(&usual);
  pthread_attr_destroy(&huge);
}
#endif
