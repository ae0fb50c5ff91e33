#include "weft/engine/profile.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "weft/kernels/cuda/timing.h"

namespace weft {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Profiler::Profiler(Device device) : last_(now()), in_force_(this) {
  if (device == Device::cuda) {
    timer_ = std::make_unique<kernels::cuda::Timer>();
    timer_->mark();
  }
}
Profiler::~Profiler() = default;

Profiler* Profiler::current() { return InForce<Profiler>::current(); }

/// The time up to now is the event's; on a GPU it will be known later.
void Profiler::end(ProfileEvent event) {
  if (timer_) {
    timer_->mark();
  } else {
    const double t = now();
    event.seconds = t - std::exchange(last_, t);
  }
  events_.push_back(std::move(event));
}

const std::vector<ProfileEvent>& Profiler::events() const {
  if (timer_) {
    const std::vector<double> seconds = timer_->seconds();
    for (size_t i = 0, first = events_.size() - seconds.size(); i < seconds.size(); ++i)
      events_[first + i].seconds = seconds[i];
    timer_->mark();
  }
  return events_;
}

void Profiler::lap(std::string_view name) { end({.op = std::string(name)}); }

void Profiler::clear() {
  events();  // forgets the marks
  events_.clear();
  last_ = now();
}

void Profiler::passed(const TapeEntry& entry, ProfileEvent::Pass pass) {
  int64_t products = 1;
  if (entry.op == "checkpoint") {
    products = 0;  // the ops inside it have made events of their own
  } else if (pass == ProfileEvent::Pass::backward) {
    // Inputs 0 and 1 are the factors of every matrix product and convolution.
    products = 0;
    for (size_t i = 0; i < std::min<size_t>(2, entry.inputs.size()); ++i)
      products += entry.inputs[i].variable != nullptr;
  }
  end({.op = std::string(entry.op),
       .scope = entry.scope,
       .pass = pass,
       .multiply_adds = products * entry.multiply_adds});
}

std::vector<ProfileRow> total(const std::vector<ProfileEvent>& events,
                              const std::function<std::string(const ProfileEvent&)>& name_of) {
  std::vector<ProfileRow> rows;
  for (const ProfileEvent& e : events) {
    const std::string name = name_of(e);
    auto row = std::find_if(rows.begin(), rows.end(),
                            [&](const ProfileRow& r) { return r.pass == e.pass && r.name == name; });
    if (row == rows.end()) row = rows.insert(row, {.name = name, .pass = e.pass});
    ++row->calls, row->seconds += e.seconds, row->multiply_adds += e.multiply_adds;
  }
  return rows;
}

std::string by_op(const ProfileEvent& event) { return event.op; }
std::string by_layer(const ProfileEvent& event) { return event.scope.empty() ? event.op : event.scope; }

}  // namespace weft
