// Entries without SIMD code of their own yet: the reference loops.
#include "weft/kernels/cpu/isa/kernels.h"

namespace weft::kernels::WEFT_ISA {

void unary(Unary op, int64_t n, const float* x, float* y) { reference<float>().unary(op, n, x, y); }
void unary_backward(Unary op, int64_t n, const float* x, const float* dy, float* dx) {
  reference<float>().unary_backward(op, n, x, dy, dx);
}
void binary(Binary op, const Broadcast& shape, const float* a, const float* b, float* y) {
  reference<float>().binary(op, shape, a, b, y);
}
void affine(int64_t n, float alpha, float beta, const float* x, float* y) {
  reference<float>().affine(n, alpha, beta, x, y);
}
void activation(Activation act, float param, int64_t n, const float* x, float* y) {
  reference<float>().activation(act, param, n, x, y);
}
void activation_backward(Activation act, float param, int64_t n, const float* x, const float* dy, float* dx) {
  reference<float>().activation_backward(act, param, n, x, dy, dx);
}
void dropout(int64_t n, double p, uint64_t key, const float* x, float* y) {
  reference<float>().dropout(n, p, key, x, y);
}
void reduce(Reduce op, int64_t outer, int64_t reduce, int64_t inner, const float* x, float* y) {
  reference<float>().reduce(op, outer, reduce, inner, x, y);
}
void max_pool2d_forward(const Pool2dParams& p, const float* x, float* y, int32_t* index) {
  reference<float>().max_pool2d_forward(p, x, y, index);
}
void max_pool2d_backward(const Pool2dParams& p, const float* dy, const int32_t* index, float* dx) {
  reference<float>().max_pool2d_backward(p, dy, index, dx);
}
void avg_pool2d_forward(const Pool2dParams& p, const float* x, float* y) {
  reference<float>().avg_pool2d_forward(p, x, y);
}
void avg_pool2d_backward(const Pool2dParams& p, const float* dy, float* dx) {
  reference<float>().avg_pool2d_backward(p, dy, dx);
}
void batch_norm_stats(int64_t rows, int64_t channels, const float* x, float* mean, float* var) {
  reference<float>().batch_norm_stats(rows, channels, x, mean, var);
}
void batch_norm_forward(const BatchNormArgs<float>& a, float* y) {
  reference<float>().batch_norm_forward(a, y);
}
void batch_norm_backward_reduce(const BatchNormArgs<float>& a, const float* dy, float* g, float* dweight,
                                float* dbias) {
  reference<float>().batch_norm_backward_reduce(a, dy, g, dweight, dbias);
}
void batch_norm_backward_input(const BatchNormArgs<float>& a, const float* dy, const float* dweight,
                               const float* dbias, bool training, float* dx) {
  reference<float>().batch_norm_backward_input(a, dy, dweight, dbias, training, dx);
}
void softmax(int64_t rows, int64_t cols, const float* x, float* y) {
  reference<float>().softmax(rows, cols, x, y);
}
void log_softmax(int64_t rows, int64_t cols, const float* x, float* y) {
  reference<float>().log_softmax(rows, cols, x, y);
}
void softmax_backward(int64_t rows, int64_t cols, const float* y, const float* dy, float* dx) {
  reference<float>().softmax_backward(rows, cols, y, dy, dx);
}
void log_softmax_backward(int64_t rows, int64_t cols, const float* y, const float* dy, float* dx) {
  reference<float>().log_softmax_backward(rows, cols, y, dy, dx);
}

}  // namespace weft::kernels::WEFT_ISA
