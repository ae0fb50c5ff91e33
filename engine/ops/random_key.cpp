#include "weft/engine/ops/random_key.h"

#include <cstring>
#include <functional>
#include <utility>

#include "weft/engine/allocator.h"
#include "weft/engine/checkpoint.h"
#include "weft/kernels/cuda.h"

namespace weft::ops {

namespace {

namespace cuda = kernels::cuda;

/// The upload of what draw() gives to a key, now or at each launch of the graph that is being captured.
void upload_to(const Tensor& key, std::function<uint64_t()> draw) {
  cuda::upload_each_step(key.raw(), sizeof(uint64_t), [key, draw = std::move(draw)](void* staging) {
    const uint64_t drawn = draw();
    std::memcpy(staging, &drawn, sizeof drawn);
  });
}

/// Drawn at each launch, once: what runs again in backward reads the same key.
Tensor captured_key(Generator& generator) {
  return once([&] {
    // Uploaded before the step begins, so it must not lie where the step has something else before. Kept by
    // the upload as long as the graph lives.
    static const MemoryPool* const pool = new MemoryPool(Device::cuda);
    const MemoryPool::Use use(*pool);
    const Tensor key = Tensor::empty({1}, DType::i64, Device::cuda);
    upload_to(key, [&generator] { return generator.next_key(); });
    return key;
  });
}

}  // namespace

Tensor random_key(Generator& generator, Device device) {
  if (device == Device::cuda && cuda::capturing()) return captured_key(generator);
  const Tensor key = Tensor::empty({1}, DType::i64, device);
  const uint64_t drawn = generator.next_key();
  if (device == Device::cpu)
    *key.data<int64_t>() = int64_t(drawn);
  else
    upload_to(key, [drawn] { return drawn; });
  return key;
}

}  // namespace weft::ops
