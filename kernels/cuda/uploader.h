// Copies to the GPU beside the work of the stream. Plain C++.
#pragma once

#include <cstdint>
#include <memory>

namespace weft::kernels::cuda {

/// Two places of pinned memory and two of the device's: while the stream works with what one has brought, the
/// next is on its way. Calls come in the order staging, start, receive, done; up to two `start` may be
/// ahead of `receive`. Not for use within a capture.
class Uploader {
 public:
  /// Places of `bytes` each. Throws Error where the memory can't be had.
  explicit Uploader(int64_t bytes);
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  /// Memory of the CPU to be filled; waits until what it held last is copied.
  void* staging();
  /// Starts the copy of its first `bytes`, which waits for nothing but for the last use of the place it goes
  /// to.
  void start(int64_t bytes);
  /// Where the oldest copy that was not received lies on the device; the stream's further work waits for it.
  const void* receive();
  /// Work that has been started reads what receive() gave; work started later doesn't.
  void done();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// What belongs elsewhere of memory that came over as a whole.
struct Piece {
  void* to;
  int64_t from;  ///< counted from where the memory begins
  int64_t bytes;
};
/// No piece is larger.
constexpr int64_t kPieceBytes = 4096;
/// Copies the `count` pieces that lie at the beginning of `memory` to their places, all in one launch.
void scatter(const void* memory, int64_t count);

}  // namespace weft::kernels::cuda
