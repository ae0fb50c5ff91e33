// Wrong shapes and dtypes at every op: one error that names the op and what it was given.
#include <doctest/doctest.h>

#include "support/errors.h"
#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/batch_norm.h"
#include "weft/engine/ops/conv.h"
#include "weft/engine/ops/dropout.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/pool.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/regression_loss.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/ops/split.h"

using namespace weft;

namespace {
Tensor f32(const Shape& s) { return Tensor::ones(s); }
Tensor f64(const Shape& s) { return Tensor::ones(s, DType::f64); }
Tensor i64(const Shape& s) { return Tensor::zeros(s, DType::i64); }
}  // namespace

TEST_CASE("elementwise") {
  for (auto op : {add, sub, mul, weft::div, maximum, minimum}) {
    CHECK_ERROR(op(f32({2, 3}), f32({4})), "shapes [2, 3] and [4] do not broadcast (3 against 4)");
    CHECK_ERROR(op(f32({2}), f64({2})), "operands are f32 [2] and f64 [2]");
    CHECK_ERROR(op(i64({2}), i64({2})), "dtype i64 has no arithmetic");
  }
  for (auto op : {neg, weft::exp, weft::log, weft::sqrt, square, weft::abs, reciprocal, relu, mish, silu,
                  sigmoid, weft::tanh, softplus, gelu})
    CHECK_ERROR(op(i64({2})), "dtype i64 has no arithmetic");
  CHECK_ERROR(affine(i64({2}), 2), "affine: dtype i64");
  CHECK_ERROR(activation_by_name("mush"), "unknown activation \"mush\"; known: identity, ");
  CHECK(activation_by_name("swish") == Activation::silu);
}

TEST_CASE("reductions") {
  CHECK_ERROR(sum(f32({2, 3}), {2}), "sum: dimension 2 is out of range for shape [2, 3]");
  CHECK_ERROR(mean(f32({2, 3}), {0, -2}), "mean: dimension -2 is given twice");
  CHECK_ERROR(mean(f32({0})), "mean: shape [0] has no elements");
  CHECK_ERROR(mean(f32({2, 0}), {1}), "mean: shape [2, 0] has no elements");
  CHECK(mean(f32({0, 3}), {1}).shape() == Shape{0});
  CHECK_ERROR(amax(f32({2, 0}), {1}), "amax: shape [2, 0] has no elements");
  CHECK_ERROR(amin(i64({2})), "amin: dtype i64");
  CHECK_ERROR(argmax(f32({})), "argmax: dimension -1 is out of range for shape []");
}

TEST_CASE("matrices") {
  CHECK_ERROR(matmul(f32({2, 3}), f32({4, 5})),
              "matmul: inner sizes differ, 3 against 4 (a [2, 3], b [4, 5])");
  CHECK_ERROR(matmul(f32({2, 3}), f32({3, 2}), {.transpose_a = true}), "a [2, 3] transposed");
  CHECK_ERROR(matmul(f32({1, 2, 3}), f32({3, 2})), "use bmm");
  CHECK_ERROR(matmul(f32({2, 3}), f64({3, 2})), "operands are f32");
  CHECK_ERROR(bmm(f32({2, 3, 4}), f32({3, 4, 5})), "bmm: batch sizes differ");
  CHECK_ERROR(bmm(f32({2, 3}), f32({3, 5})), "bmm: expected [b, m, k]");
  CHECK_ERROR(baddbmm(f32({3, 5}), f32({2, 3, 4}), f32({2, 4, 5})), "baddbmm: expected an input [b, m, n]");
  CHECK_ERROR(baddbmm(f32({2, 3, 6}), f32({2, 3, 4}), f32({2, 4, 5})),
              "baddbmm: the input [2, 3, 6] does not fit a product of shape [2, 3, 5]");
  CHECK_ERROR(baddbmm(f64({2, 3, 5}), f32({2, 3, 4}), f32({2, 4, 5})), "baddbmm: operands are f64");
  CHECK_ERROR(linear(f32({2, 3}), f32({4, 5})), "linear: input [2, 3] does not fit weight [4, 5]");
  CHECK_ERROR(linear(f32({2, 3}), f32({4, 3}), f32({3})), "linear: bias [3] does not fit weight [4, 3]");
}

TEST_CASE("convolution") {
  CHECK_ERROR(conv2d(f32({1, 8, 8, 3}), f32({64, 3, 3, 4})),
              "conv2d: input has 3 channels but weight [64, 3, 3, 4] with groups 1 expects 4");
  CHECK_ERROR(conv2d(Tensor::ones({1, 4, 8, 8}), Tensor::ones({2, 3, 3, 4})), "permute(x, {0, 2, 3, 1})");
  CHECK_ERROR(conv2d(f32({8, 8, 3}), f32({64, 3, 3, 3})), "conv2d: expected input [N, H, W, C]");
  CHECK_ERROR(conv2d(f32({1, 8, 8, 4}), f32({3, 3, 3, 2}), {}, {.groups = 2}),
              "3 output channels can't be split into 2 groups");
  CHECK_ERROR(conv2d(f32({1, 2, 8, 3}), f32({4, 3, 3, 3})), "smaller than the kernel 3x3");
  CHECK_ERROR(conv2d(f32({1, 8, 8, 3}), f32({4, 3, 3, 3}), f32({3})), "bias [3] does not fit");
  CHECK_ERROR(conv2d(f32({1, 8, 8, 3}), f32({4, 3, 3, 3}), {}, {.stride = 0}), "stride 0");
  CHECK_ERROR(conv2d(f32({1, 8, 8, 3}), f32({4, 3, 3, 3}), {}, {.padding = -1}), "padding -1");
  const Tensor x5 = f32({1, 5, 5, 3}), w5 = f32({4, 5, 5, 3});
  for (int64_t padding : {int64_t{1000000000}, int64_t{1} << 62, INT64_MAX}) {
    CHECK_ERROR(conv2d(x5, w5, {}, {.padding = padding}), "conv2d: stride 1, padding ");
    CHECK_ERROR(conv2d(x5, w5, {}, {.stride = padding, .padding = padding}),
                "too large; choose smaller ones");
    CHECK_ERROR(conv2d(x5, w5, {}, {.dilation = padding}), "smaller than the kernel 5x5 with dilation");
  }
  CHECK_ERROR(conv2d(f64({1, 8, 8, 3}), f32({4, 3, 3, 3})), "operands are f64");
  CHECK_ERROR(conv2d(f32({0, 8, 8, 3}), f32({4, 3, 3, 3})), "empty input");
}

TEST_CASE("pooling") {
  for (auto pool : {max_pool2d, avg_pool2d}) {
    CHECK_ERROR(pool(f32({8, 8, 3}), {}), "pool2d: expected a non-empty input [N, H, W, C]");
    CHECK_ERROR(pool(f32({1, 2, 2, 3}), {.kernel = 3}), "smaller than the window 3");
    CHECK_ERROR(pool(f32({1, 8, 8, 3}), {.kernel = 3, .padding = 2}), "at most half of the kernel");
    CHECK_ERROR(pool(f32({1, 8, 8, 3}), {.kernel = 0}), "must be positive");
    for (int64_t most : {int64_t{1} << 62, INT64_MAX}) {
      CHECK_ERROR(pool(f32({1, 8, 8, 3}), {.stride = most, .ceil_mode = true}), "at most 1073741824");
      CHECK_ERROR(pool(f32({1, 8, 8, 3}), {.kernel = most, .padding = most / 2}), "at most 1073741824");
      CHECK_ERROR(pool(f32({1, 8, 8, 3}), {.padding = most}), "at most half of the kernel");
    }
    CHECK_ERROR(pool(i64({1, 8, 8, 3}), {}), "dtype i64");
  }
  CHECK_ERROR(global_avg_pool(f32({8, 3})), "global_avg_pool: expected [N, H, W, C]");
}

TEST_CASE("batch norm") {
  const Tensor c3 = f32({3}), c4 = f32({4}), x = f32({2, 3});
  CHECK_ERROR(batch_norm(x, c4, c3, c3, c3, true),
              "batch_norm: weight has shape [4] but the input [2, 3] has 3 channels");
  CHECK_ERROR(batch_norm(x, c3, c3, c3, c4, true), "running_var has shape [4]");
  CHECK_ERROR(batch_norm(f32({1, 3}), c3, c3, c3, c3, true), "more than one value per channel");
  CHECK_ERROR(batch_norm(f32({3}), c3, c3, c3, c3, true), "expected a non-empty input");
  CHECK_ERROR(batch_norm(x, c3, c3, c3, c3, true, {}, f32({3, 3})),
              "residual [3, 3] must have the input's shape");
  CHECK_ERROR(batch_norm(x, f64({3}), c3, c3, c3, true), "weight is f64 but beside an input of f32");
}

TEST_CASE("losses, dropout and shapes") {
  CHECK_ERROR(softmax(f32({})), "softmax: shape []");
  CHECK_ERROR(log_softmax(f32({2, 0})), "log_softmax: shape [2, 0]");
  CHECK_ERROR(cross_entropy(f32({2, 3}), i64({3})), "labels have shape [3]");
  CHECK_ERROR(cross_entropy(f32({2, 3}), f32({2, 4})), "the target is f32 [2, 4]");
  CHECK_ERROR(cross_entropy(f32({2, 3}), Tensor::full({2}, 3, DType::i64)),
              "label 3 of row 0 is not one of the 3 classes");
  CHECK_ERROR(cross_entropy(f32({2, 3}), Tensor::full({2}, -1, DType::i64)), "label -1");
  CHECK_ERROR(cross_entropy(f32({2}), i64({2})), "expected non-empty logits [N, C]");
  CHECK_ERROR(cross_entropy(f32({2, 3}), i64({2}), {.label_smoothing = 1.5}), "label_smoothing 1.5");
  CHECK_ERROR(mse_loss(f32({2}), f32({3})), "mse_loss: input [2] and target [3]");
  CHECK_ERROR(mse_loss(f32({2}), f64({2})), "mse_loss: operands are f32 [2] and f64 [2]");
  CHECK_ERROR(l1_loss(f32({2}), f64({2})), "l1_loss: operands are f32 [2] and f64 [2]");
  CHECK_ERROR(huber_loss(f32({2}), f64({2})), "huber_loss: operands are");
  CHECK_ERROR(dropout(f32({2}), 1.5), "dropout: p is 1.5");
  CHECK_ERROR(dropout(f32({2}), -0.5, false), "dropout: p is -0.5");
  CHECK_ERROR(reshape(f32({2, 3}), {4, -1}), "reshape: shape [2, 3] has 6 elements");
  CHECK_ERROR(reshape(f32({2, 3}), {-1, -1}), "only one size may be -1");
  CHECK_ERROR(reshape(f32({0, 3}), {-1, 0}), "beside a size of 0, -1 could be any size");
  CHECK_ERROR(permute(f32({2, 3}), {0, 0}), "dimension 0 is given twice");
  CHECK_ERROR(permute(f32({2, 3}), {0}), "1 dimensions given");
  CHECK_ERROR(permute(f32({2, 3}), {0, 2}), "permute: dimension 2 is out of range for shape [2, 3]");
  CHECK_ERROR(narrow(f32({2, 3}), 2, 0, 1), "narrow: dimension 2 is out of range for shape [2, 3]");
  CHECK_ERROR(split(f32({2, 3}), 1, -3), "split: dimension -3 is out of range for shape [2, 3]");
  CHECK_ERROR(flatten(f32({2, 3}), 2), "flatten: dimension 2 is out of range for shape [2, 3]");
  CHECK_ERROR(concat({f32({2, 3}), f32({2, 4})}, 0), "differ outside dimension 0");
  CHECK_ERROR(concat({f32({2}), f32({2})}, 1), "concat: dimension 1 is out of range for shape [2]");
  CHECK_ERROR(concat({f32({2}), f64({2})}), "operands are");
  CHECK_ERROR(concat(std::vector<Tensor>{}), "no tensors");
}

TEST_CASE("concat of tensors is the op, whatever integer type names the dimension") {
  const std::vector<Tensor> parts = {f32({1, 2}), f32({1, 2})};
  CHECK(concat(parts, int64_t{1}).shape() == Shape{1, 4});
}
