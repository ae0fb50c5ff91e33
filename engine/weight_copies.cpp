#include "weft/engine/weight_copies.h"

#include "weft/kernels/cuda.h"

namespace weft {
namespace {

template <class To>
void convert_together(const std::vector<Tensor>& from, const std::vector<Tensor>& to) {
  std::vector<kernels::cuda::Conversion<float, To>> list;
  for (size_t i = 0; i < from.size(); ++i)
    list.push_back({from[i].data<float>(), to[i].data<To>(), from[i].numel()});
  kernels::cuda::convert_all(std::span<const kernels::cuda::Conversion<float, To>>(list));
}

}  // namespace

WeightCopies::WeightCopies(const Module& model, DType dtype) : dtype_(dtype) {
  check(is_half(dtype), "WeightCopies: copies in ", dtype, " were asked for; they can be bf16 or f16");
  for (const Parameter& p : model.parameters()) {
    if (p.tensor.ndim() < 2 || p.tensor.dtype() != DType::f32) continue;
    check(p.tensor.device() == Device::cuda, "WeightCopies: '", p.name,
          "' is on the CPU, which computes in f32 only");
    place_[p.tensor.raw()] = weights_.size();
    weights_.push_back(p.tensor.detach());
    copies_.push_back(Tensor::empty(p.tensor.shape(), dtype, Device::cuda));
  }
}

void WeightCopies::convert(const std::vector<Tensor>& weights, const std::vector<Tensor>& copies) const {
  if (dtype_ == DType::bf16)
    convert_together<bf16>(weights, copies);
  else
    convert_together<f16>(weights, copies);
}
void WeightCopies::refresh() const { convert(weights_, copies_); }

Tensor WeightCopies::find(const Tensor& weight, DType dtype) {
  const WeightCopies* in_use = InForce<const WeightCopies>::current();
  if (!in_use || in_use->dtype_ != dtype) return {};
  const auto found = in_use->place_.find(weight.raw());
  if (found == in_use->place_.end()) return {};
  const Tensor& copy = in_use->copies_[found->second];
  return copy.numel() == weight.numel() ? copy : Tensor();  // a part has its beginning in common
}

Tensor WeightCopies::follow(const Tensor& weight) {
  Follow* following = InForce<Follow>::current();
  if (!following) return {};
  const WeightCopies& of = following->copies_;
  const auto found = of.place_.find(weight.raw());
  if (found == of.place_.end()) return {};
  following->asked_[found->second] = true;
  return of.copies_[found->second];
}

WeightCopies::Follow::Follow(const WeightCopies& copies)
    : copies_(copies), asked_(copies.weights_.size()), in_force_(this) {}
void WeightCopies::Follow::finish() const {
  std::vector<Tensor> weights, copies;
  for (size_t i = 0; i < asked_.size(); ++i)
    if (!asked_[i]) weights.push_back(copies_.weights_[i]), copies.push_back(copies_.copies_[i]);
  copies_.convert(weights, copies);
}

WeightCopies::Use::Use(const WeightCopies& copies, bool convert) : in_force_(&copies) {
  if (convert) copies.refresh();
}

}  // namespace weft
