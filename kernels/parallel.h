// The one thread pool. Work is cut into tasks by the caller, never by the number of threads, so that results
// do not depend on it.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

namespace weft {

/// Threads that parallel regions use, the caller included. Default: WEFT_THREADS, else the cores this process
/// may use, 256 at most. Throws Error where WEFT_THREADS is none of 1 to 256.
int num_threads();
/// Sets it; throws Error where n is none of 1 to 256. Not to be called from inside a parallel region.
void set_num_threads(int n);

namespace kernels {

/// A non-owning view of a callable void(int64_t).
class TaskRef {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, TaskRef>) TaskRef(F&& f)  // NOLINT: implicit on purpose
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* o, int64_t i) { (*static_cast<std::remove_reference_t<F>*>(o))(i); }) {}
  void operator()(int64_t i) const { call_(object_, i); }

 private:
  void* object_;
  void (*call_)(void*, int64_t);
};

/// Runs task(0) .. task(count - 1), each once, on the pool's threads and the caller's; returns when all are
/// done. Threads take tasks in ascending order as they become free. Inside a task it runs serially. The first
/// exception that a task throws is rethrown here after the others have ended. Throws Error where a thread
/// cannot be started.
void parallel_for(int64_t count, TaskRef task);

/// Cuts [0, n) into ranges of `grain` (the last one shorter) and runs body(begin, end) on each as one task.
template <class F>
void parallel_ranges(int64_t n, int64_t grain, F&& body) {
  const int64_t tasks = (n + grain - 1) / grain;
  parallel_for(tasks, [&](int64_t i) {
    const int64_t begin = i * grain;
    body(begin, begin + grain < n ? begin + grain : n);
  });
}

}  // namespace kernels
}  // namespace weft
