// The table of one instruction set. It is a constant: asking for its address runs nothing.
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/scalar.h"

namespace weft::kernels::WEFT_ISA {

const KernelTable<float>& table();

namespace {
constexpr KernelTable<float> kTable = {
    .name = WEFT_TEXT(WEFT_ISA),
    .unary = unary,
    .unary_backward = unary_backward,
    .binary = binary,
    .compare = compare,
    .select = select,
    .pow = pow,
    .affine = affine,
    .choose_backward = choose_backward,
    .activation = activation,
    .activation_backward = activation_backward,
    .activation_curvature = activation_curvature,
    .dropout = dropout,
    .learned_activation = learned_activation,
    .learned_activation_backward = learned_activation_backward,
    .rrelu = rrelu,
    .reduce = reduce,
    .argmax = scalar::argmax,
    .gemm = gemm,
    .multiplies_bf16 = multiplies_bf16,
    .conv2d_algorithm = conv2d_algorithm,
    .conv2d_workspace = conv2d_workspace,
    .conv2d_forward = conv2d_forward,
    .conv2d_forward_stats = conv2d_forward_stats,
    .conv2d_forward_norm = conv2d_forward_norm,
    .conv2d_packed_size = conv2d_packed_size,
    .conv2d_pack = conv2d_pack,
    .conv2d_forward_packed = conv2d_forward_packed,
    .conv2d_backward_input = conv2d_backward_input,
    .conv2d_backward_weight = conv2d_backward_weight,
    .max_pool2d_forward = max_pool2d_forward,
    .max_pool2d_backward = max_pool2d_backward,
    .avg_pool2d_forward = avg_pool2d_forward,
    .avg_pool2d_backward = avg_pool2d_backward,
    .batch_norm_stats = batch_norm_stats,
    .batch_norm_update = scalar::batch_norm_update,
    .batch_norm_stats_update = nullptr,
    .batch_norm_recomputes = has_cheap_slope,
    .batch_norm_forward = batch_norm_forward,
    .batch_norm_backward_reduce = batch_norm_backward_reduce,
    .batch_norm_backward_input = batch_norm_backward_input,
    .group_norm_forward = group_norm_forward,
    .group_norm_backward = group_norm_backward,
    .spectral_norm_forward = scalar::spectral_norm_forward,
    .spectral_norm_backward = scalar::spectral_norm_backward,
    .gather = gather,
    .scatter_add = scatter_add,
    .argsort = scalar::argsort,
    .cumsum = scalar::cumsum,
    .softmax = softmax,
    .log_softmax = log_softmax,
    .masked_softmax = masked_softmax,
    .softmax_backward = softmax_backward,
    .log_softmax_backward = log_softmax_backward,
    .cross_entropy_forward = scalar::cross_entropy_forward,
    .cross_entropy_backward = scalar::cross_entropy_backward,
};
}  // namespace

const KernelTable<float>& table() { return kTable; }

}  // namespace weft::kernels::WEFT_ISA
