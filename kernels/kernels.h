// The kernels: plain functions on pointers and sizes. They know no Tensor, no tape, no module, and allocate
// nothing that outlives the call. One table per set of kernels; a tensor's dtype and device choose the table.
//
//   reference<T>()        f32 and f64, the plainest loops: the definition of every op
//   cpu()                 SIMD + threads, f32, for the best instruction set of this machine
//   cuda::table<T>()      f32, bf16 and f16 on an NVIDIA GPU (kernels/cuda.h): pointers are to its memory,
//                         and a call returns before the work is done
//
// Conventions, said once:
//   - images are NHWC: x[n][h][w][c]; convolution weights are OHWI: w[oc][kh][kw][ic/groups];
//   - every pointer is to dense row-major memory; outputs are overwritten (`=`), never accumulated into, and
//     may be uninitialised on entry; an output aliases an input only where the entry says so;
//   - reductions run in an order that does not depend on the number of threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "weft/kernels/activation.h"
#include "weft/kernels/half.h"

namespace weft {
enum class ConvAlgorithm : uint8_t;  // convolution.h
}

namespace weft::kernels {

/// Geometry of a 2-d convolution. The same struct serves the API, the kernels and (as a key) cached plans.
struct Conv2dParams {
  int64_t batch = 1, in_h = 1, in_w = 1, in_c = 1, out_c = 1;
  int64_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;
  int64_t dilation_h = 1, dilation_w = 1, groups = 1;
  bool bf16 = false;  ///< floats may be rounded to bf16 before they are multiplied, where that is faster

  int64_t out_h() const { return (in_h + 2 * pad_h - dilation_h * (kernel_h - 1) - 1) / stride_h + 1; }
  int64_t out_w() const { return (in_w + 2 * pad_w - dilation_w * (kernel_w - 1) - 1) / stride_w + 1; }
  /// Multiply-adds of one pass, counted as direct convolution.
  int64_t multiply_adds() const {
    return batch * out_h() * out_w() * out_c * kernel_h * kernel_w * (in_c / groups);
  }
  bool operator==(const Conv2dParams&) const = default;
};

/// Geometry of a 2-d pooling window. The output size is given, so that floor and ceil mode are the caller's
/// affair; a window may hang over the right and bottom edge of the padded image (ceil mode).
struct Pool2dParams {
  int64_t batch = 1, in_h = 1, in_w = 1, channels = 1, out_h = 1, out_w = 1;
  int64_t kernel_h = 2, kernel_w = 2, stride_h = 2, stride_w = 2, pad_h = 0, pad_w = 0;
  bool count_include_pad = true;  ///< average: padding counts in the divisor (overhang beyond it never does)
};

constexpr int kMaxDims = 8;

/// Walks operands over one output shape; a stride of 0 broadcasts. Strides are in elements. c is the
/// condition of select(), and is not looked at elsewhere.
struct Broadcast {
  int ndim = 0;
  std::array<int64_t, kMaxDims> size{}, a_stride{}, b_stride{}, c_stride{};
};

enum class Unary { neg, exp, log, sqrt, square, abs, reciprocal, sin, cos };
constexpr int kUnaryCount = 9;
enum class Binary { add, sub, mul, div, maximum, minimum, equal };  // equal: 1 or 0
constexpr int kBinaryCount = 7;
enum class Compare { eq, ne, lt, le };  // a > b is b < a
constexpr int kCompareCount = 4;
enum class Reduce { sum, max, min };
enum class ConvPass { forward, backward_input, backward_weight };

/// Matrix multiply of a batch: c[i] = op(a[i]) op(b[i]) (+ c[i] if accumulate), op(a): [m,k], op(b): [k,n],
/// c: [m,n]. lda, ldb, ldc are row strides of the matrices as stored; batch strides may be 0 (one matrix for
/// all).
struct GemmParams {
  int64_t m = 1, n = 1, k = 1;
  bool transpose_a = false, transpose_b = false, accumulate = false;
  bool symmetric = false;  // c is known to be: what is above its diagonal may be taken from below
  bool bf16 = false;       // floats may be rounded to bf16 before they are multiplied, where that is faster
  int64_t lda = 0, ldb = 0, ldc = 0;
  int64_t batch = 1, stride_a = 0, stride_b = 0, stride_c = 0;
};

/// What batch norm with a fused activation, fixed or learned, works on: x viewed as [rows, channels];
/// z = (x - mean) * invstd * weight + bias (+ residual), y = activation(z).
template <class T>
struct BatchNormArgs {
  int64_t rows = 0, channels = 0;
  const T* x = nullptr;             // [rows, channels]
  const Wide<T>* mean = nullptr;    // [channels]
  const Wide<T>* invstd = nullptr;  // [channels], 1 / sqrt(var + eps)
  const Wide<T>* weight = nullptr;  // [channels]
  const Wide<T>* bias = nullptr;    // [channels]
  const T* residual = nullptr;      // [rows, channels] or null
  Activation activation = Activation::identity;
  Wide<T> param = 0;  // the activation's parameter (slope, alpha), see kernels/activation.h
  const Wide<T>* parameters[kMostLearnedParameters] = {};  // of a learned one: [channels] each
};

/// Where the gradients of a batch norm go.
template <class T>
struct BatchNormGradients {
  T* x = nullptr;             // [rows, channels]
  Wide<T>* weight = nullptr;  // [channels]
  Wide<T>* bias = nullptr;    // [channels]
};

/// A learned activation of x viewed as [rows, channels], its parameters given for each channel.
template <class T>
struct LearnedActivationArgs {
  Activation activation = Activation::identity;  // one of the learned
  int64_t rows = 0, channels = 0;
  const T* x = nullptr;                                    // [rows, channels]
  const Wide<T>* parameters[kMostLearnedParameters] = {};  // [channels] each, as many as it has
};

/// What group norm works on: x viewed as [batch, pixels, groups, channels / groups]. Each image and group has
/// a mean and an inverse standard deviation of its own. Layer norm is one pixel and one group, instance norm
/// a group for each channel.
template <class T>
struct GroupNormArgs {
  int64_t batch = 0, pixels = 0, groups = 1, channels = 0;
  const T* x = nullptr;             // [batch, pixels, channels]
  const Wide<T>* weight = nullptr;  // [channels] or null: all 1
  const Wide<T>* bias = nullptr;    // [channels] or null: all 0

  constexpr int64_t width() const { return channels / groups; }
};

/// What the spectral norm of a matrix works on.
template <class T>
struct SpectralNormArgs {
  int64_t rows = 0, cols = 0;
  const T* w = nullptr;  // [rows, cols]
  int iterations = 0;
  bool left_first = false;  ///< in each step left is made before right
  double eps = 1e-12;
};

/// Where gather() and scatter_add() find their places: in x viewed as [outer, size, inner] by an index
/// [outer, count, inner] for each element, or [count], the same for every o and n.
struct GatherArgs {
  int64_t outer = 1, size = 0, count = 0, inner = 1;
  const int64_t* index = nullptr;
  bool for_each = false;
  int64_t skipped = -1;  // the index that scatter_add() leaves out

  constexpr int64_t at(int64_t o, int64_t i, int64_t n) const {
    return index[for_each ? (o * count + i) * inner + n : i];
  }
  constexpr bool inside(int64_t place) const { return place >= 0 && place < size; }
};

/// Softmax over the keys that a mask leaves: x viewed as [batch, heads, rows, cols].
template <class T>
struct MaskedSoftmaxArgs {
  int64_t batch = 1, heads = 1, rows = 0, cols = 0;
  const T* x = nullptr;
  Wide<T> scale = 1;
  /// Added to scale x, or null: element (b, h, r, c) is mask[b batch_stride + h head_stride + r row_stride +
  /// c], each stride 0 or a multiple of cols. Where it is -inf, x is not looked at.
  const Wide<T>* mask = nullptr;
  int64_t batch_stride = 0, head_stride = 0, row_stride = 0;
  bool causal = false;  ///< row r sees the columns c <= r alone

  /// Columns that row r sees.
  constexpr int64_t seen(int64_t r) const { return causal && r + 1 < cols ? r + 1 : cols; }
  /// The mask of row r of a plane (a head of an image), or null.
  constexpr const Wide<T>* mask_row(int64_t plane, int64_t r) const {
    return mask ? mask + plane / heads * batch_stride + plane % heads * head_stride + r * row_stride
                : nullptr;
  }
};

/// Cross entropy of logits against labels, smoothed on the way, or against probabilities, smoothed already.
template <class T>
struct CrossEntropyArgs {
  int64_t rows = 0, classes = 0;
  const T* logits = nullptr;         // [rows, classes]
  const int64_t* labels = nullptr;   // [rows]; a label outside of [0, classes) makes the loss NaN
  const T* probabilities = nullptr;  // [rows, classes]; used where labels is null
  double smoothing = 0;  // with labels: t = smoothing / classes, and 1 - smoothing more at the label
};

/// One set of kernels for element type T. Every entry is non-null, but for those that say otherwise.
template <class T>
struct KernelTable {
  const char* name;  ///< "reference", "avx512", "avx2", "neon", "baseline", "cuda"

  // --- elementwise ---
  /// y[i] = op(x[i]); y may be x.
  void (*unary)(Unary op, int64_t n, const T* x, T* y);
  /// dx[i] = dy[i] * op'(x[i]); dx may be dy.
  void (*unary_backward)(Unary op, int64_t n, const T* x, const T* dy, T* dx);
  /// y[i] = op(a, b) over the broadcast shape; y is dense and may be an operand that is not broadcast.
  void (*binary)(Binary op, const Broadcast& shape, const T* a, const T* b, T* y);
  /// y[i] = 1 where op holds of a and b, else 0, over the broadcast shape; a NaN is unequal to all.
  void (*compare)(Compare op, const Broadcast& shape, const T* a, const T* b, uint8_t* y);
  /// y[i] = c ? a : b over the broadcast shape, where any c but 0 is true; y may be a or b if that is not
  /// broadcast.
  void (*select)(const Broadcast& shape, const uint8_t* c, const T* a, const T* b, T* y);
  /// y[i] = x[i]^exponent, as power() of kernels/power.h says; y may be x.
  void (*pow)(Wide<T> exponent, int64_t n, const T* x, T* y);
  /// y[i] = alpha * x[i] + beta; y may be x.
  void (*affine)(int64_t n, Wide<T> alpha, Wide<T> beta, const T* x, T* y);
  /// Gradients of y = maximum or minimum of a and b: dy where the operand was chosen, half where both are
  /// equal.
  void (*choose_backward)(int64_t n, const T* a, const T* b, const T* y, const T* dy, T* da, T* db);
  /// y[i] = activation(x[i]); y may be x.
  void (*activation)(Activation act, Wide<T> param, int64_t n, const T* x, T* y);
  /// dx[i] = dy[i] * activation'(x[i]); dx may be dy.
  void (*activation_backward)(Activation act, Wide<T> param, int64_t n, const T* x, const T* dy, T* dx);
  /// y[i] = activation(a[i] + b[i]), of the sum as it is before it is rounded to T; y may be an operand.
  /// Null, as its backward then is, where two passes are as good.
  void (*add_activation)(Activation act, Wide<T> param, int64_t n, const T* a, const T* b, T* y) = nullptr;
  /// g[i] = dy[i] * activation'(a[i] + b[i]), the gradient of both; g may be dy.
  void (*add_activation_backward)(Activation act, Wide<T> param, int64_t n, const T* a, const T* b,
                                  const T* dy, T* g) = nullptr;
  /// Of [batch, in_h, in_w, channels]: the same y, and its mean over windows of 2x2 with step 2, without
  /// padding; windows that hang over are those of what there is. Null where an average pool is as good.
  void (*add_activation_pool)(Activation act, Wide<T> param, const Pool2dParams& p, const T* a, const T* b,
                              T* y, T* pooled) = nullptr;
  /// The same g where dy and the mean's gradient have come; g may be dy.
  void (*add_activation_pool_backward)(Activation act, Wide<T> param, const Pool2dParams& p, const T* a,
                                       const T* b, const T* dy, const T* dpooled, T* g) = nullptr;
  /// z[i] = w[i] * activation''(x[i]); z may be w. One-sided where the second derivative jumps: of the piece
  /// whose slope activation_backward takes, else from below; no activation has a delta at a corner.
  void (*activation_curvature)(Activation act, Wide<T> param, int64_t n, const T* x, const T* w, T* z);
  /// y[i] = keep(i) ? x[i] / (1 - p) : 0, keep(i) drawn from Philox stream *key at position i: the same key
  /// gives the same mask, so the backward is this kernel on dy. y may be x. 0 <= p < 1. *key lies with x.
  void (*dropout)(int64_t n, double p, const uint64_t* key, const T* x, T* y);

  /// y = f(x; parameters of x's channel); y may be a.x.
  void (*learned_activation)(const LearnedActivationArgs<T>& a, T* y);
  /// dx = dy * df/dx, and gradients[k][c] = the sum over the rows of dy * df/dparameter k: as many pointers
  /// to [channels] as there are parameters. dx may be dy.
  void (*learned_activation_backward)(const LearnedActivationArgs<T>& a, const T* dy, T* dx,
                                      Wide<T>* const* gradients);
  /// out[i] = x[i] > 0 ? in[i] : s(i) * in[i], s(i) drawn from U(lower, upper), Philox stream *key at
  /// position i: the same key gives the same slopes, so forward is this kernel with in = x, and backward that
  /// with in = dy. out may be in.
  void (*rrelu)(int64_t n, double lower, double upper, const uint64_t* key, const T* x, const T* in, T* out);

  // --- reductions ---
  /// x: [outer, reduce, inner] -> y: [outer, inner].
  void (*reduce)(Reduce op, int64_t outer, int64_t reduce, int64_t inner, const T* x, T* y);
  /// y[r] = column of the maximum of row r (the first one; a NaN wins, as in PyTorch), x: [rows, cols].
  void (*argmax)(int64_t rows, int64_t cols, const T* x, int64_t* y);

  // --- matrices ---
  void (*gemm)(const GemmParams& p, const T* a, const T* b, T* c);
  /// Whether products of bf16 are faster here, so that MatmulPrecision::medium rounds to it; may be null: no.
  bool (*multiplies_bf16)();
  /// d = alpha op(a) op(b) + beta c, whatever p.accumulate says; c lies as d does, may be d, and is not
  /// looked at where beta is 0. Null where copying or scaling c first is as good.
  void (*gemm_add)(const GemmParams& p, Wide<T> alpha, const T* a, const T* b, Wide<T> beta, const T* c,
                   T* d) = nullptr;

  // --- convolution ---
  /// The algorithm that a pass will use; `automatic` where it is still to be found by measuring.
  ConvAlgorithm (*conv2d_algorithm)(const Conv2dParams& p, ConvPass pass);
  /// Bytes of scratch memory (64-byte aligned) that a pass needs; may be 0.
  int64_t (*conv2d_workspace)(const Conv2dParams& p, ConvPass pass);
  /// y: [N,OH,OW,OC] = x * w + bias (bias may be null).
  void (*conv2d_forward)(const Conv2dParams& p, const T* x, const T* w, const T* bias, T* y, void* workspace);
  /// The same, and mean and biased variance of each channel of y: [OC], taken while y is at hand. False where
  /// it has no faster way for the shape than the pass and the statistics', and has done nothing.
  bool (*conv2d_forward_stats)(const Conv2dParams& p, const T* x, const T* w, const T* bias, T* y,
                               Wide<T>* mean, Wide<T>* var, void* workspace);
  /// conv2d_forward() and batch_norm_forward() of y in its own place, while y is at hand; norm.x is not
  /// looked at, and norm.residual is not y. Null where the two save nothing together.
  void (*conv2d_forward_norm)(const Conv2dParams& p, const T* x, const T* w, const T* bias,
                              const BatchNormArgs<T>& norm, T* y, void* workspace) = nullptr;
  /// For weights that stay the same, in the form that the forward pass reads (64-byte aligned): its size in
  /// bytes, 0 where the shape has no such form, or none that is faster; making it; and the pass with it,
  /// which ends as conv2d_forward_norm() where `norm` is not null. Null where there is none for any shape.
  int64_t (*conv2d_packed_size)(const Conv2dParams& p) = nullptr;
  void (*conv2d_pack)(const Conv2dParams& p, const T* w, void* packed) = nullptr;
  void (*conv2d_forward_packed)(const Conv2dParams& p, const T* x, const void* packed, const T* bias,
                                const BatchNormArgs<T>* norm, T* y) = nullptr;
  void (*conv2d_backward_input)(const Conv2dParams& p, const T* dy, const T* w, T* dx, void* workspace);
  /// Adds to dx. False where it has no faster way for the shape than the pass and an addition, and has done
  /// nothing; null where it has none for any.
  bool (*conv2d_backward_input_add)(const Conv2dParams& p, const T* dy, const T* w, T* dx,
                                    void* workspace) = nullptr;
  void (*conv2d_backward_weight)(const Conv2dParams& p, const T* x, const T* dy, T* dw, void* workspace);

  // --- pooling ---
  /// index[o] = h * in_w + w of the maximum (the first one in scan order; a NaN wins, as in PyTorch). Padding
  /// never wins.
  void (*max_pool2d_forward)(const Pool2dParams& p, const T* x, T* y, int32_t* index);
  void (*max_pool2d_backward)(const Pool2dParams& p, const T* dy, const int32_t* index, T* dx);
  void (*avg_pool2d_forward)(const Pool2dParams& p, const T* x, T* y);
  void (*avg_pool2d_backward)(const Pool2dParams& p, const T* dy, T* dx);
  /// The same, added to dx; may be null.
  void (*avg_pool2d_backward_add)(const Pool2dParams& p, const T* dy, T* dx) = nullptr;

  // --- batch norm ---
  /// Mean and biased variance of each channel of x: [rows, channels] (two-pass or as accurate).
  void (*batch_norm_stats)(int64_t rows, int64_t channels, const T* x, Wide<T>* mean, Wide<T>* var);
  /// invstd = 1 / sqrt(var + eps); where running_mean is non-null the running values follow:
  /// running = (1 - momentum) running + momentum * batch, the variance times rows / (rows - 1).
  void (*batch_norm_update)(int64_t rows, int64_t channels, double eps, double momentum, const Wide<T>* mean,
                            const Wide<T>* var, Wide<T>* running_mean, Wide<T>* running_var, Wide<T>* invstd);
  /// Both in one; null where that saves nothing.
  void (*batch_norm_stats_update)(int64_t rows, int64_t channels, double eps, double momentum, const T* x,
                                  Wide<T>* mean, Wide<T>* var, Wide<T>* running_mean, Wide<T>* running_var,
                                  Wide<T>* invstd);
  /// The same and batch_norm_forward() in one pass; a.mean and a.invstd are not looked at. False where there
  /// is no such kernel for the arguments: nothing was done then. May be null.
  bool (*batch_norm_forward_once)(const BatchNormArgs<T>& a, double eps, double momentum, Wide<T>* mean,
                                  Wide<T>* running_mean, Wide<T>* running_var, Wide<T>* invstd,
                                  T* y) = nullptr;
  /// Whether computing the slope of `act` twice in the backward costs less than writing and reading g.
  bool (*batch_norm_recomputes)(Activation act);
  /// y = activation(z); y may be a.residual.
  void (*batch_norm_forward)(const BatchNormArgs<T>& a, T* y);
  /// With g = dy * activation'(z): dbias = sum g, dweight = sum g * xhat, and g itself is written where g is
  /// non-null (it is the residual's gradient; it may be dy). Of a learned activation gradients[k][c] = the
  /// sum over the rows of dy * dactivation/dparameter k, as many pointers to [channels] as there are
  /// parameters; otherwise `gradients` is not looked at.
  void (*batch_norm_backward_reduce)(const BatchNormArgs<T>& a, const T* dy, T* g, Wide<T>* dweight,
                                     Wide<T>* dbias, Wide<T>* const* gradients);
  /// dx = weight * invstd * (g - [dbias + xhat * dweight] / rows), the bracket only in training (batch
  /// statistics); g = dy * activation'(z) is computed anew, so after a reduce that wrote g, pass it as dy
  /// with activation identity and no residual. dx may be dy.
  void (*batch_norm_backward_input)(const BatchNormArgs<T>& a, const T* dy, const Wide<T>* dweight,
                                    const Wide<T>* dbias, bool training, T* dx);
  /// Both in one pass, in training; g is written where there is a residual. False and null as above.
  bool (*batch_norm_backward_once)(const BatchNormArgs<T>& a, const T* dy, T* g, Wide<T>* dweight,
                                   Wide<T>* dbias, T* dx) = nullptr;
  /// Two of the same size that are added: y = activation(z of a + z of b), where the activation, a fixed one,
  /// is a's. May be null, as the backward then is.
  void (*batch_norm_pair_forward)(const BatchNormArgs<T>& a, const BatchNormArgs<T>& b, T* y) = nullptr;
  /// In training: all gradients of both; da.x or db.x may be dy.
  void (*batch_norm_pair_backward)(const BatchNormArgs<T>& a, const BatchNormArgs<T>& b, const T* dy,
                                   const BatchNormGradients<T>& da,
                                   const BatchNormGradients<T>& db) = nullptr;
  /// Whether there are the two entries below for such a window and activation. May be null, as they then are.
  bool (*has_batch_norm_avg_pool)(const Pool2dParams& p, Activation act) = nullptr;
  /// batch_norm_forward() of images [p.batch * p.in_h * p.in_w, p.channels] with a residual, and pooled =
  /// avg_pool2d(y), of values that are not rounded yet.
  void (*batch_norm_avg_pool_forward)(const BatchNormArgs<T>& a, const Pool2dParams& p, T* y,
                                      T* pooled) = nullptr;
  /// batch_norm_backward_reduce() where the average's gradient comes to dy; g is always written, and may be
  /// dy.
  void (*batch_norm_avg_pool_backward_reduce)(const BatchNormArgs<T>& a, const Pool2dParams& p, const T* dy,
                                              const T* dpooled, T* g, Wide<T>* dweight,
                                              Wide<T>* dbias) = nullptr;
  /// The same.
  bool (*has_batch_norm_max_pool)(const Pool2dParams& p, Activation act) = nullptr;
  /// y = max_pool2d(batch_norm_forward(a)) of images [p.batch * p.in_h * p.in_w, p.channels], without a
  /// residual. at[o]: the maximum's place kh * kernel_w + kw in its window; x_at[o]: a.x there. Values of the
  /// activation are compared before they are rounded.
  void (*batch_norm_max_pool_forward)(const BatchNormArgs<T>& a, const Pool2dParams& p, T* y, uint8_t* at,
                                      T* x_at) = nullptr;
  /// In training: all gradients. g[o] becomes dy[o] times the slope at the maximum; it may be dy.
  void (*batch_norm_max_pool_backward)(const BatchNormArgs<T>& a, const Pool2dParams& p, const T* dy,
                                       const uint8_t* at, const T* x_at, T* g,
                                       const BatchNormGradients<T>& d) = nullptr;

  // --- group norm ---
  /// y = (x - mean) * rstd * weight + bias, rstd = 1 / sqrt(var + eps) with the biased variance (two-pass or
  /// as accurate); mean, rstd: [batch, groups].
  void (*group_norm_forward)(const GroupNormArgs<T>& a, double eps, T* y, Wide<T>* mean, Wide<T>* rstd);
  /// dbias = sum dy, dweight = sum dy * xhat over all but the channels (each may be null), and where dx is
  /// not null, with g = dy * weight: dx = rstd * (g - mean of g - xhat * mean of g xhat), the means over the
  /// group. dx may be dy.
  void (*group_norm_backward)(const GroupNormArgs<T>& a, const Wide<T>* mean, const Wide<T>* rstd,
                              const T* dy, T* dx, Wide<T>* dweight, Wide<T>* dbias);

  // --- spectral norm ---
  /// `iterations` steps of right = w' left / max(|w' left|, eps), left = w right / max(|w right|, eps); then
  /// sigma[0] = left' w right and y = w / sigma. left, left_now: [rows]; right, right_now: [cols]: copies of
  /// both as they are in the end.
  void (*spectral_norm_forward)(const SpectralNormArgs<T>& a, T* left, T* right, T* left_now, T* right_now,
                                Wide<T>* sigma, T* y);
  /// dw = (dy - left right' sum(dy y)) / sigma[0], left and right as they were for y. dw may be dy.
  void (*spectral_norm_backward)(int64_t rows, int64_t cols, const T* left, const T* right,
                                 const Wide<T>* sigma, const T* y, const T* dy, T* dw);

  // --- index and order ---
  /// y[o][i][n] = x[o][index][n], y: [outer, count, inner]. An index outside of [0, size) gives NaN.
  void (*gather)(const GatherArgs& a, const T* x, T* y);
  /// y[o][index][n] += src[o][i][n] in the order of i, src: [outer, count, inner]. An index outside of
  /// [0, size), or a.skipped, counts nothing. On a GPU count and size are below 2^32.
  void (*scatter_add)(const GatherArgs& a, const T* src, T* y);
  /// index[o][j][n] = where the element that comes j-th in x[o][:][n] stands, j < k. Of equal ones the first
  /// comes first, descending or not; a NaN counts as more than all numbers. x: [outer, size, inner], size <
  /// 2^32; index: [outer, k, inner].
  void (*argsort)(int64_t outer, int64_t size, int64_t inner, int64_t k, bool descending, const T* x,
                  int64_t* index);
  /// y[o][i][n] = x[o][0][n] + .. + x[o][i][n], or from the other end. y may be x.
  void (*cumsum)(int64_t outer, int64_t size, int64_t inner, bool reverse, const T* x, T* y);

  // --- softmax and loss ---
  /// Row-wise over x: [rows, cols], with the row maximum subtracted. y may be x.
  void (*softmax)(int64_t rows, int64_t cols, const T* x, T* y);
  void (*log_softmax)(int64_t rows, int64_t cols, const T* x, T* y);
  /// Softmax of scale x + mask over the columns that are left, 0 in the others; a row with nothing left is 0.
  /// y may be x. Its backward is softmax_backward, times scale.
  void (*masked_softmax)(const MaskedSoftmaxArgs<T>& a, T* y);
  /// dx from the op's output y; dx may be dy.
  void (*softmax_backward)(int64_t rows, int64_t cols, const T* y, const T* dy, T* dx);
  void (*log_softmax_backward)(int64_t rows, int64_t cols, const T* y, const T* dy, T* dx);
  /// log_p = log_softmax(logits); loss[0] = -1/rows sum t log_p. A class of no weight counts nothing, even
  /// where its log_p is -inf.
  void (*cross_entropy_forward)(const CrossEntropyArgs<T>& a, T* log_p, T* loss);
  /// dx = dloss[0] / rows (e^log_p sum_c t - t), a.logits is not read.
  void (*cross_entropy_backward)(const CrossEntropyArgs<T>& a, const T* log_p, const T* dloss, T* dx);
};

/// The plain loops.
template <class T>
const KernelTable<T>& reference();

/// KernelTable::compare by the plain loops; also for the whole numbers, int64_t and uint8_t, on the CPU.
template <class T>
void plain_compare(Compare op, const Broadcast& shape, const T* a, const T* b, uint8_t* y);

/// KernelTable::gather by the plain loops; also for whole numbers, where an index outside gives 0.
template <class T>
void plain_gather(const GatherArgs& a, const T* x, T* y);

/// The SIMD kernels for this machine's best instruction set, or for the one that WEFT_ISA names (avx512,
/// avx2, neon, baseline, reference). Chosen once; an unknown or unsupported name throws Error.
const KernelTable<float>& cpu();

/// Every f32 table that this machine can run, best first, the reference last (tests and benchmarks walk
/// them).
struct TableList {
  std::array<const KernelTable<float>*, 8> tables{};
  int count = 0;
  const KernelTable<float>* const* begin() const { return tables.data(); }
  const KernelTable<float>* const* end() const { return tables.data() + count; }
};
const TableList& all_cpu_tables();

}  // namespace weft::kernels
