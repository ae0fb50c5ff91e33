#pragma once

#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "weft/engine/module.h"

namespace weft {

/// Modules made at run time, owned, and run one after the other:
///
///   Sequential net;
///   net.emplace<Linear>("hidden", 784, 100);
///   net.emplace<Mish>("act");
///   net.emplace<Linear>("head", 100, 10);
class Sequential : public Module {
 public:
  using Module::Module;
  Sequential() = default;

  /// Makes a T with T(*this, name, args...) at the end and returns it.
  template <class T, class... Args>
  T& emplace(std::string_view name, Args&&... args) {
    static_assert(std::is_base_of_v<Module, T>, "Sequential holds modules");
    auto made = std::make_unique<T>(*this, name, std::forward<Args>(args)...);
    T& layer = *made;
    layers_.push_back(std::move(made));
    return layer;
  }

  /// Puts a module that is there already at the end and returns it: append("body", make_model("resnet20")).
  Module& append(std::string_view name, std::unique_ptr<Module> layer);

  Tensor forward(const Tensor& x) override;
  std::string description() const override { return "Sequential"; }
  size_t size() const { return layers_.size(); }
  /// Layer i. Throws if there is none.
  Module& operator[](size_t i) const;

 private:
  std::vector<std::unique_ptr<Module>> layers_;
};

}  // namespace weft
