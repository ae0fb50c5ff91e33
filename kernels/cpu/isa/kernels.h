// The entries of one instruction set's table; see KernelTable in kernels.h for what each computes. Every file
// of this folder is compiled once per instruction set, WEFT_ISA being its name. So that the linker can never
// put code made for a wide instruction set in the place of a narrow one's, everything here lies in namespace
// weft::kernels::WEFT_ISA or in an anonymous one, and no inline function or template of the standard library
// is called on types that others share.
#pragma once

#include "weft/kernels/kernels.h"

// The name of the instruction set as a string: WEFT_TEXT(WEFT_ISA).
#define WEFT_TEXT_OF(x) #x
#define WEFT_TEXT(x) WEFT_TEXT_OF(x)

namespace weft::kernels::WEFT_ISA {

void unary(Unary op, int64_t n, const float* x, float* y);
void unary_backward(Unary op, int64_t n, const float* x, const float* dy, float* dx);
void binary(Binary op, const Broadcast& shape, const float* a, const float* b, float* y);
void compare(Compare op, const Broadcast& shape, const float* a, const float* b, uint8_t* y);
void select(const Broadcast& shape, const uint8_t* c, const float* a, const float* b, float* y);
void pow(float exponent, int64_t n, const float* x, float* y);
void affine(int64_t n, float alpha, float beta, const float* x, float* y);
void choose_backward(int64_t n, const float* a, const float* b, const float* y, const float* dy, float* da,
                     float* db);
void activation(Activation act, float param, int64_t n, const float* x, float* y);
void activation_backward(Activation act, float param, int64_t n, const float* x, const float* dy, float* dx);
void activation_curvature(Activation act, float param, int64_t n, const float* x, const float* w, float* z);
void dropout(int64_t n, double p, const uint64_t* key, const float* x, float* y);
void learned_activation(const LearnedActivationArgs<float>& a, float* y);
void learned_activation_backward(const LearnedActivationArgs<float>& a, const float* dy, float* dx,
                                 float* const* gradients);
void rrelu(int64_t n, double lower, double upper, const uint64_t* key, const float* x, const float* in,
           float* out);
void reduce(Reduce op, int64_t outer, int64_t reduce, int64_t inner, const float* x, float* y);
void gemm(const GemmParams& p, const float* a, const float* b, float* c);
bool multiplies_bf16();
ConvAlgorithm conv2d_algorithm(const Conv2dParams& p, ConvPass pass);
int64_t conv2d_workspace(const Conv2dParams& p, ConvPass pass);
void conv2d_forward(const Conv2dParams& p, const float* x, const float* w, const float* bias, float* y,
                    void* workspace);
bool conv2d_forward_stats(const Conv2dParams& p, const float* x, const float* w, const float* bias, float* y,
                          float* mean, float* var, void* workspace);
void conv2d_forward_norm(const Conv2dParams& p, const float* x, const float* w, const float* bias,
                         const BatchNormArgs<float>& norm, float* y, void* workspace);
int64_t conv2d_packed_size(const Conv2dParams& p);
void conv2d_pack(const Conv2dParams& p, const float* w, void* packed);
void conv2d_forward_packed(const Conv2dParams& p, const float* x, const void* packed, const float* bias,
                           const BatchNormArgs<float>* norm, float* y);
void conv2d_backward_input(const Conv2dParams& p, const float* dy, const float* w, float* dx,
                           void* workspace);
void conv2d_backward_weight(const Conv2dParams& p, const float* x, const float* dy, float* dw,
                            void* workspace);
void max_pool2d_forward(const Pool2dParams& p, const float* x, float* y, int32_t* index);
void max_pool2d_backward(const Pool2dParams& p, const float* dy, const int32_t* index, float* dx);
void avg_pool2d_forward(const Pool2dParams& p, const float* x, float* y);
void avg_pool2d_backward(const Pool2dParams& p, const float* dy, float* dx);
void batch_norm_stats(int64_t rows, int64_t channels, const float* x, float* mean, float* var);
void batch_norm_forward(const BatchNormArgs<float>& a, float* y);
void batch_norm_backward_reduce(const BatchNormArgs<float>& a, const float* dy, float* g, float* dweight,
                                float* dbias, float* const* gradients);
void batch_norm_backward_input(const BatchNormArgs<float>& a, const float* dy, const float* dweight,
                               const float* dbias, bool training, float* dx);
void group_norm_forward(const GroupNormArgs<float>& a, double eps, float* y, float* mean, float* rstd);
void group_norm_backward(const GroupNormArgs<float>& a, const float* mean, const float* rstd, const float* dy,
                         float* dx, float* dweight, float* dbias);
void gather(const GatherArgs& a, const float* x, float* y);
void scatter_add(const GatherArgs& a, const float* src, float* y);
void softmax(int64_t rows, int64_t cols, const float* x, float* y);
void log_softmax(int64_t rows, int64_t cols, const float* x, float* y);
void masked_softmax(const MaskedSoftmaxArgs<float>& a, float* y);
void softmax_backward(int64_t rows, int64_t cols, const float* y, const float* dy, float* dx);
void log_softmax_backward(int64_t rows, int64_t cols, const float* y, const float* dy, float* dx);

}  // namespace weft::kernels::WEFT_ISA
