// Pooling, vectors along the channels. The gradients are gathered: each input cell adds up the windows that
// hold it, so that no two tasks write the same place.
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/loops.h"
#include "weft/kernels/cpu/isa/vec_math.h"

namespace weft::kernels::WEFT_ISA {
namespace {

/// [begin, end) of one axis, and how many cells of it count (padding included, overhang not).
struct Span {
  int64_t begin, end, cells;
};

/// The cells under window o.
WEFT_INLINE Span window(int64_t o, int64_t in, int64_t kernel, int64_t stride, int64_t pad) {
  const int64_t first = o * stride - pad, last = smaller(first + kernel, in + pad);
  return {larger(first, 0), smaller(last, in), last - first};
}

/// The windows that hold cell i.
WEFT_INLINE Span windows_of(int64_t i, int64_t out, int64_t kernel, int64_t stride, int64_t pad) {
  const int64_t first = i + pad - kernel + 1;
  return {first <= 0 ? 0 : ceil_div(first, stride), smaller(out, (i + pad) / stride + 1), 0};
}

WEFT_INLINE float divisor(const Pool2dParams& p, const Span& h, const Span& w) {
  return p.count_include_pad ? float(h.cells * w.cells) : float((h.end - h.begin) * (w.end - w.begin));
}

// As vectors of floats, whose bits a load and a store leave alone.
template <class At>
WEFT_INLINE IntLanes load_ints(At at, const int32_t* p) {
  return bits(at.load(reinterpret_cast<const float*>(p)));
}
template <class At>
WEFT_INLINE void store_ints(At at, IntLanes lanes, int32_t* p) {
  at.store(from_bits(lanes), reinterpret_cast<float*>(p));
}

/// Calls body(image n, row, column h span...) for the rows of `count` rows an image, some rows a task.
template <class F>
void each_image_row(int64_t batch, int64_t rows, int64_t row_floats, F body) {
  parallel_ranges(batch * rows, rows_per_task(row_floats), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) body(r / rows, r % rows);
  });
}

}  // namespace

void max_pool2d_forward(const Pool2dParams& params, const float* x, float* y, int32_t* index) {
  each_image_row(params.batch, params.out_h, params.out_w * params.channels, [=](int64_t n, int64_t oh) {
    const Pool2dParams p = params;
    const Span h = window(oh, p.in_h, p.kernel_h, p.stride_h, p.pad_h);
    const float* image = x + n * p.in_h * p.in_w * p.channels;
    for (int64_t ow = 0; ow < p.out_w; ++ow) {
      const Span w = window(ow, p.in_w, p.kernel_w, p.stride_w, p.pad_w);
      const int64_t out = ((n * p.out_h + oh) * p.out_w + ow) * p.channels;
      each_vector(0, p.channels, [=](auto at, int64_t c) {
        Vec best(-__builtin_inff());
        IntLanes where = int_lanes(int32_t(h.begin * p.in_w + w.begin));
        for (int64_t i = h.begin; i < h.end; ++i)
          for (int64_t j = w.begin; j < w.end; ++j) {
            const int64_t cell = i * p.in_w + j;
            const Vec v = at.load(image + cell * p.channels + c);
            const Mask more = (v > best) | (v != v);
            best = select(more, v, best);
            where = more.v ? int_lanes(int32_t(cell)) : where;
          }
        at.store(best, y + out + c);
        store_ints(at, where, index + out + c);
      });
    }
  });
}

void max_pool2d_backward(const Pool2dParams& params, const float* dy, const int32_t* index, float* dx) {
  each_image_row(params.batch, params.in_h, params.in_w * params.channels, [=](int64_t n, int64_t ih) {
    const Pool2dParams p = params;
    const Span h = windows_of(ih, p.out_h, p.kernel_h, p.stride_h, p.pad_h);
    for (int64_t iw = 0; iw < p.in_w; ++iw) {
      const Span w = windows_of(iw, p.out_w, p.kernel_w, p.stride_w, p.pad_w);
      const int64_t cell = ih * p.in_w + iw;
      each_vector(0, p.channels, [=](auto at, int64_t c) {
        Vec sum(0.0f);
        for (int64_t i = h.begin; i < h.end; ++i)
          for (int64_t j = w.begin; j < w.end; ++j) {
            const int64_t out = ((n * p.out_h + i) * p.out_w + j) * p.channels + c;
            const Mask mine = {load_ints(at, index + out) == int_lanes(int32_t(cell))};
            sum += select(mine, at.load(dy + out), Vec(0.0f));
          }
        at.store(sum, dx + (n * p.in_h * p.in_w + cell) * p.channels + c);
      });
    }
  });
}

void avg_pool2d_forward(const Pool2dParams& params, const float* x, float* y) {
  each_image_row(params.batch, params.out_h, params.out_w * params.channels, [=](int64_t n, int64_t oh) {
    const Pool2dParams p = params;
    const Span h = window(oh, p.in_h, p.kernel_h, p.stride_h, p.pad_h);
    const float* image = x + n * p.in_h * p.in_w * p.channels;
    for (int64_t ow = 0; ow < p.out_w; ++ow) {
      const Span w = window(ow, p.in_w, p.kernel_w, p.stride_w, p.pad_w);
      const Vec cells(divisor(p, h, w));
      each_vector(0, p.channels, [=](auto at, int64_t c) {
        Vec sum(0.0f);
        for (int64_t i = h.begin; i < h.end; ++i) {
          Vec row(0.0f);
          for (int64_t j = w.begin; j < w.end; ++j) row += at.load(image + (i * p.in_w + j) * p.channels + c);
          sum += row;
        }
        at.store(sum / cells, y + ((n * p.out_h + oh) * p.out_w + ow) * p.channels + c);
      });
    }
  });
}

void avg_pool2d_backward(const Pool2dParams& params, const float* dy, float* dx) {
  each_image_row(params.batch, params.in_h, params.in_w * params.channels, [=](int64_t n, int64_t ih) {
    const Pool2dParams p = params;
    const Span h = windows_of(ih, p.out_h, p.kernel_h, p.stride_h, p.pad_h);
    for (int64_t iw = 0; iw < p.in_w; ++iw) {
      const Span w = windows_of(iw, p.out_w, p.kernel_w, p.stride_w, p.pad_w);
      each_vector(0, p.channels, [=](auto at, int64_t c) {
        Vec sum(0.0f);
        for (int64_t i = h.begin; i < h.end; ++i)
          for (int64_t j = w.begin; j < w.end; ++j) {
            const Span rows = window(i, p.in_h, p.kernel_h, p.stride_h, p.pad_h);
            const Span cols = window(j, p.in_w, p.kernel_w, p.stride_w, p.pad_w);
            sum += at.load(dy + ((n * p.out_h + i) * p.out_w + j) * p.channels + c) /
                   Vec(divisor(p, rows, cols));
          }
        at.store(sum, dx + ((n * p.in_h + ih) * p.in_w + iw) * p.channels + c);
      });
    }
  });
}

}  // namespace weft::kernels::WEFT_ISA
