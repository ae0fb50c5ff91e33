// A convolution pass of oneDNN (version 2) with memory of its own, in the layout that oneDNN chooses.
#pragma once

#include <dnnl.hpp>
#include <unordered_map>

#include "weft/kernels/kernels.h"

/// A pass that oneDNN has built, with memory of its own; run() is nothing but the convolution.
class OneDnn {
 public:
  enum class Pass { forward, backward_weight, backward_input };

  /// Throws dnnl::error where this build of oneDNN has no such primitive.
  OneDnn(const weft::kernels::Conv2dParams& p, Pass pass, dnnl::algorithm algorithm) : stream_(engine()) {
    using tag = dnnl::memory::format_tag;
    const auto any = [](const dnnl::memory::dims& dims) {
      return dnnl::memory::desc(dims, dnnl::memory::data_type::f32, tag::any);
    };
    const auto x = any({p.batch, p.in_c, p.in_h, p.in_w}), w = any({p.out_c, p.in_c, p.kernel_h, p.kernel_w}),
               y = any({p.batch, p.out_c, p.out_h(), p.out_w()});
    const dnnl::memory::dims strides{p.stride_h, p.stride_w}, pad{p.pad_h, p.pad_w};
    // Backward passes must compute what the forward of the same algorithm computed: it is their hint.
    const dnnl::convolution_forward::primitive_desc forward(
        {dnnl::prop_kind::forward_training, algorithm, x, w, y, strides, pad, pad}, engine());
    if (pass == Pass::forward) {
      add(forward.src_desc(), DNNL_ARG_SRC), add(forward.weights_desc(), DNNL_ARG_WEIGHTS);
      add(forward.dst_desc(), DNNL_ARG_DST);
      primitive_ = dnnl::convolution_forward(forward);
    } else if (pass == Pass::backward_input) {
      const dnnl::convolution_backward_data::primitive_desc d({algorithm, x, w, y, strides, pad, pad},
                                                              engine(), forward);
      add(d.diff_dst_desc(), DNNL_ARG_DIFF_DST), add(d.weights_desc(), DNNL_ARG_WEIGHTS);
      add(d.diff_src_desc(), DNNL_ARG_DIFF_SRC);
      primitive_ = dnnl::convolution_backward_data(d);
    } else {
      const dnnl::convolution_backward_weights::primitive_desc d({algorithm, x, w, y, strides, pad, pad},
                                                                 engine(), forward);
      add(d.src_desc(), DNNL_ARG_SRC), add(d.diff_dst_desc(), DNNL_ARG_DIFF_DST);
      add(d.diff_weights_desc(), DNNL_ARG_DIFF_WEIGHTS);
      primitive_ = dnnl::convolution_backward_weights(d);
    }
  }

  void run() {
    primitive_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  static dnnl::engine& engine() {
    static dnnl::engine e(dnnl::engine::kind::cpu, 0);
    return e;
  }
  void add(const dnnl::memory::desc& desc, int argument) {
    dnnl::memory memory(desc, engine());
    auto* values = static_cast<float*>(memory.get_data_handle());
    for (size_t i = 0; i < desc.get_size() / sizeof(float); ++i) values[i] = float(i % 17) / 17.F - 0.5F;
    arguments_.emplace(argument, memory);
  }

  dnnl::stream stream_;
  dnnl::primitive primitive_;
  std::unordered_map<int, dnnl::memory> arguments_;
};
