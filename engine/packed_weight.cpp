#include "weft/engine/packed_weight.h"

#include "weft/engine/tape.h"

namespace weft {

Tensor PackedWeight::get(const kernels::Conv2dParams& p, const Tensor& weight) {
  const kernels::KernelTable<float>& k = kernels::cpu();
  const bool computed = weight.variable() && !weight.variable()->leaf;  // and gone after this pass
  const bool suits = weight.dtype() == DType::f32 && weight.device() == Device::cpu && !computed;
  if (!suits || !k.conv2d_packed_size) return {};
  const Made made{Tensor::Moment(weight), weight.raw(), p};
  const std::lock_guard lock(mutex_);
  if (made == made_) return memory_;
  const int64_t bytes = k.conv2d_packed_size(p);
  memory_ = bytes > 0 ? Tensor::empty({bytes}, DType::u8) : Tensor();
  if (bytes > 0) k.conv2d_pack(p, weight.data<float>(), memory_.raw());
  made_ = made;
  return memory_;
}

void PackedWeight::release() {
  const std::lock_guard lock(mutex_);
  memory_ = {};
  made_ = {};
}

}  // namespace weft
