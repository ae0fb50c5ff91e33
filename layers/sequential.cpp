#include "weft/layers/sequential.h"

namespace weft {

Module& Sequential::append(std::string_view name, std::unique_ptr<Module> layer) {
  check(layer != nullptr, "Sequential: append(\"", name, "\"): there is no module, the pointer is null");
  Module& added = register_module(name, *layer);
  layers_.push_back(std::move(layer));
  return added;
}

Tensor Sequential::forward(const Tensor& x) {
  Tensor y = x;
  for (const auto& layer : layers_) y = (*layer)(y);
  return y;
}

Module& Sequential::operator[](size_t i) const {
  check(i < layers_.size(), "Sequential: layer ", i, " asked for, but it has ", layers_.size());
  return *layers_[i];
}

}  // namespace weft
