// What is in force on a thread: the tape that records, the profiler that measures.
#pragma once

namespace weft {

/// Makes `value`, or nothing if null, the T in force on this thread while it lives. The latest one that still
/// lives counts: they may end in any order, each on the thread where it began.
template <class T>
class InForce {
 public:
  explicit InForce(T* value) : value_(value), before_(latest) { latest = this; }
  ~InForce() {
    InForce** link = &latest;
    while (*link && *link != this) link = &(*link)->before_;
    if (*link) *link = before_;
  }
  InForce(const InForce&) = delete;
  InForce& operator=(const InForce&) = delete;

  /// The T in force on this thread, or null.
  static T* current() { return latest ? latest->value_ : nullptr; }
  /// Nothing is in force any more where `value` was: for the end of a T that others can put in force too.
  static void forget(const T* value) {
    for (InForce* i = latest; i; i = i->before_)
      if (i->value_ == value) i->value_ = nullptr;
  }

 private:
  static inline thread_local InForce* latest = nullptr;

  T* value_;
  InForce* before_;
};

}  // namespace weft
