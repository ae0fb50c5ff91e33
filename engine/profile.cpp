#include "weft/engine/profile.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace weft {
namespace {

thread_local Profiler* active = nullptr;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Profiler::Profiler() : outer_(active), last_(now()) { active = this; }
Profiler::~Profiler() {
  if (active == this) active = outer_;
}

Profiler* Profiler::current() { return active; }

void Profiler::lap(std::string_view name) {
  const double t = now();
  events_.push_back({.op = std::string(name), .seconds = t - std::exchange(last_, t)});
}

void Profiler::clear() {
  events_.clear();
  last_ = now();
}

void Profiler::passed(const TapeEntry& entry, ProfileEvent::Pass pass) {
  const double t = now();
  int64_t products = 1;
  if (entry.op == "checkpoint") {
    products = 0;  // the ops inside it have made events of their own
  } else if (pass == ProfileEvent::Pass::backward) {
    // Inputs 0 and 1 are the factors of every matrix product and convolution.
    products = 0;
    for (size_t i = 0; i < std::min<size_t>(2, entry.inputs.size()); ++i)
      products += entry.inputs[i].variable != nullptr;
  }
  events_.push_back({.op = std::string(entry.op),
                     .scope = entry.scope,
                     .pass = pass,
                     .seconds = t - std::exchange(last_, t),
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
