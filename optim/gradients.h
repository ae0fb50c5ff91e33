// The gradients of some parameters as one thing to work on, for clipping and loss scaling.
#pragma once

#include <memory>
#include <vector>

#include "weft/engine/module.h"
#include "weft/kernels/parallel.h"
#include "weft/kernels/updates/multi_tensor.h"
#include "weft/optim/multi_tensor.h"

namespace weft::optim {

class Gradients {
 public:
  /// Those that there are. Throws Error, which begins with `op`, on other dtypes than f32 and f64 (f32 on the
  /// GPU), and where they lie on different devices.
  Gradients(const char* op, const std::vector<Parameter>& parameters);

  bool empty() const { return tensors_.empty(); }
  bool on_gpu() const { return !empty() && tensors_[0].device() == Device::cuda; }

  // --- on the CPU ---
  size_t num_chunks() const { return chunks_.size(); }
  /// Runs body(index of the chunk, elements, pointer) on every chunk.
  template <class Body>
  void for_each(Body&& body) const {
    kernels::parallel_for(int64_t(chunks_.size()), [&](int64_t c) {
      const ChunkRange& r = chunks_[size_t(c)];
      const Tensor& t = tensors_[r.entry];
      if (t.dtype() == DType::f32)
        body(size_t(c), r.end - r.begin, t.data<float>() + r.begin);
      else
        body(size_t(c), r.end - r.begin, t.data<double>() + r.begin);
    });
  }

  // --- on the GPU ---
  /// Their places in the GPU's memory, uploaded, and a zeroed result beside them.
  struct OnGpu {
    std::shared_ptr<void> memory;
    kernels::cuda::GradientLaunch launch;
    kernels::cuda::ClipResult* result = nullptr;
  };
  /// Within a capture the memory is kept as long as the graph.
  OnGpu upload() const;

 private:
  std::vector<Tensor> tensors_;
  std::vector<ChunkRange> chunks_;
};

}  // namespace weft::optim
