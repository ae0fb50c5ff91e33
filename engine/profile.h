// Where the time of a step goes, op by op.
//
//   Profiler profiler;                      // measures on this thread from here ...
//   {
//     Tape tape;
//     tape.backward(loss(model(x)));        // each op's forward and backward makes an event of its own
//   }
//   optimizer.step();
//   profiler.lap("optimizer");              // and so does what the caller names
//   for (const ProfileRow& row : total(profiler.events(), by_op)) ...
//                                           // ... to the profiler's end
//
// With no profiler alive the tape asks once for each op and measures nothing.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "weft/engine/tape.h"

namespace weft {

namespace kernels::cuda {
class Timer;
}

/// One stretch of time and what it was spent on.
struct ProfileEvent {
  enum class Pass { forward, backward, other };
  std::string op = {}, scope = {};  ///< as in TapeEntry; of a lap, its name and nothing
  Pass pass = Pass::other;
  double seconds = 0;
  int64_t multiply_adds = 0;  ///< of this pass: in backward, once for each factor that wants a gradient
};

/// Cuts the time of its thread into events without a gap: an event lasts from the end of the one before to
/// the moment when its op has been recorded, or its backward has run. So what is done between two ops (making
/// tensors, ops that nothing records) counts for the op that follows. Takes effect while a Tape records.
///
/// On a GPU the time is that of the device's clock between the ops' work, which is done one after the other
/// (no gradients beside). Not within a capture. Where the device has to wait for the CPU, that counts too:
/// give it something else to do first, and the CPU time to get ahead.
class Profiler {
 public:
  /// Starts measuring on this thread. Profilers nest: an inner one measures instead of the outer one. They
  /// may end in any order, each on the thread where it began.
  explicit Profiler(Device device = Device::cpu);
  ~Profiler();
  Profiler(const Profiler&) = delete;
  Profiler& operator=(const Profiler&) = delete;

  /// Gives the time since the last event to `name`.
  void lap(std::string_view name);
  /// What was measured, in order; the seconds add up to the time from the start to the last event. On a GPU
  /// waits for the last one.
  const std::vector<ProfileEvent>& events() const;
  /// Drops the events, and the time since the last one.
  void clear();

  /// The profiler of this thread, or null.
  static Profiler* current();

 private:
  friend struct BackwardWalk;
  friend class Recorder;
  void passed(const TapeEntry& entry, ProfileEvent::Pass pass);
  void end(ProfileEvent event);

  double last_;
  std::unique_ptr<kernels::cuda::Timer> timer_;  // on a GPU
  mutable std::vector<ProfileEvent> events_;     // of the last ones the seconds come late
  InForce<Profiler> in_force_;
};

/// Events of one kind, added up.
struct ProfileRow {
  std::string name = {};
  ProfileEvent::Pass pass = ProfileEvent::Pass::other;
  int64_t calls = 0;
  double seconds = 0;
  int64_t multiply_adds = 0;
};

/// Adds up the events that have the same name (of `name_of`) and pass; rows in the order of their first
/// events.
std::vector<ProfileRow> total(const std::vector<ProfileEvent>& events,
                              const std::function<std::string(const ProfileEvent&)>& name_of);
/// A name for total(): the op.
std::string by_op(const ProfileEvent& event);
/// A name for total(): the module that ran the op ("stages.0.1.conv2"), or the op where none did.
std::string by_layer(const ProfileEvent& event);

}  // namespace weft
