#include "weft/optim/gradients.h"

#include <cstring>

#include "weft/kernels/cuda.h"

namespace weft::optim {
namespace {

namespace cuda = kernels::cuda;

/// Memory for an upload. In a captured step it must not be the step's own, in which it would be written to
/// between the upload and its use.
std::shared_ptr<void> upload_memory(const char* op, int64_t bytes) {
  if (!cuda::capturing()) {
    const Tensor t = Tensor::empty({bytes}, DType::u8, Device::cuda);
    return {t.raw(), [t](void*) {}};
  }
  void* memory = cuda::allocate(bytes);
  check(memory != nullptr, op, ": ", bytes, " bytes of the GPU could not be had");
  return {memory, cuda::release};
}

}  // namespace

Gradients::Gradients(const char* op, const std::vector<Parameter>& parameters) {
  for (const Parameter& p : parameters) {
    const Tensor& g = p.tensor.grad();
    if (!g.defined()) continue;
    const bool gpu = g.device() == Device::cuda;
    check(g.dtype() == DType::f32 || (g.dtype() == DType::f64 && !gpu), op, ": the gradient of '", p.name,
          "' is ", g.dtype(), "; only ", gpu ? "f32" : "f32 and f64", " can be worked on",
          is_half(g.dtype()) ? " (see BackwardOptions::narrow)" : "");
    check(empty() || gpu == on_gpu(), op, ": the gradient of '", p.name, "' is on ", g.device(),
          ", others are not");
    cut(tensors_.size(), g.numel(), chunks_);
    tensors_.push_back(g);
  }
}

Gradients::OnGpu Gradients::upload() const {
  std::vector<cuda::GradientRecord> records;
  std::vector<int32_t> first;
  int64_t chunks = 0;
  for (const Tensor& t : tensors_) {
    records.push_back({t.data<float>(), t.numel()});
    first.push_back(int32_t(chunks));
    chunks += (t.numel() + cuda::kUpdateChunk - 1) / cuda::kUpdateChunk;
    check(chunks < int64_t(1) << 31, "gradients: there are too many elements");
  }
  const size_t record_bytes = records.size() * sizeof(cuda::GradientRecord),
               first_bytes = first.size() * sizeof(int32_t), result_bytes = sizeof(cuda::ClipResult);
  const int64_t uploaded = int64_t(result_bytes + record_bytes + first_bytes),
                partial_at = (uploaded + 15) / 16 * 16;
  OnGpu gpu;
  gpu.memory = upload_memory("gradients", partial_at + chunks * int64_t(sizeof(double)));
  char* const place = static_cast<char*>(gpu.memory.get());
  gpu.result = reinterpret_cast<cuda::ClipResult*>(place);
  gpu.launch = {.tensors = int32_t(records.size()),
                .chunks = int32_t(chunks),
                .records = reinterpret_cast<const cuda::GradientRecord*>(place + result_bytes),
                .first = reinterpret_cast<const int32_t*>(place + result_bytes + record_bytes),
                .partial = reinterpret_cast<double*>(place + partial_at)};
  cuda::upload_each_step(place, uploaded, [=, memory = gpu.memory](void* staging) {
    char* const to = static_cast<char*>(staging);
    const cuda::ClipResult zero;
    std::memcpy(to, &zero, result_bytes);
    std::memcpy(to + result_bytes, records.data(), record_bytes);
    std::memcpy(to + result_bytes + record_bytes, first.data(), first_bytes);
  });
  return gpu;
}

}  // namespace weft::optim
