// Functions that a user hangs into a computation, and the handle that takes them out again.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "weft/engine/error.h"

namespace weft {

/// What registering a hook gives back, as torch.utils.hooks.RemovableHandle. The hook stays when the handle
/// ends; copies are the same handle.
class RemovableHandle {
 public:
  RemovableHandle() = default;
  explicit RemovableHandle(std::function<void()> remove) : remove_(std::move(remove)) {}
  /// Takes the hook out. Nothing happens where that was done already, or where what it hung in has ended.
  void remove() {
    if (remove_) std::exchange(remove_, nullptr)();
  }

 private:
  std::function<void()> remove_;
};

/// Whether a hook can be called; also of one that has a key.
template <class Function>
bool is_callable(const std::function<Function>& hook) {
  return bool(hook);
}
template <class Key, class Function>
bool is_callable(const std::pair<Key, std::function<Function>>& hook) {
  return bool(hook.second);
}

/// Hooks of one kind, called in the order in which they came.
template <class Hook>
class HookList {
 public:
  /// Throws Error for an empty function.
  RemovableHandle add(Hook hook) {
    check(is_callable(hook), "hook: the function is empty; to take a hook out again, remove() its handle");
    const int64_t key = next_++;
    change(*hooks_, [&](Map& map) { map[key] = std::move(hook); });
    return RemovableHandle([list = std::weak_ptr<Current>(hooks_), key] {
      if (const auto alive = list.lock()) change(*alive, [&](Map& map) { map.erase(key); });
    });
  }
  bool empty() const { return (*hooks_)->empty(); }
  /// Calls call(hook) for each. A hook may remove itself; hooks that come meanwhile wait for the next time.
  template <class Call>
  void each(Call&& call) const {
    const Current now = *hooks_;
    for (const auto& [key, hook] : *now) call(hook);
  }

 private:
  using Map = std::map<int64_t, Hook>;
  using Current = std::shared_ptr<const Map>;  // never changed, but replaced: who walks over one keeps it

  template <class Change>
  static void change(Current& current, Change&& change) {
    Map changed = *current;
    change(changed);
    current = std::make_shared<const Map>(std::move(changed));
  }

  std::shared_ptr<Current> hooks_ = std::make_shared<Current>(std::make_shared<const Map>());
  int64_t next_ = 0;
};

}  // namespace weft
