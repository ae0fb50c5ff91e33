// A model's weights as PyTorch keeps them.
#pragma once

#include "weft/engine/module.h"

namespace weft::app {

/// The state_dict of `model` under PyTorch's names and in its layouts, such that the same network of
/// PyTorch's modules loads it strictly: weights of convolutions OIHW (transposed IOHW, of sequences OIL), the
/// columns of a Linear behind a flattened image in the order of NCHW (found by a forward of images of this
/// size, in evaluation mode), num_batches_tracked beside each running_var (0: weft counts none). The weight
/// of SpectralLinear, a 1x1 convolution of sequences in the original, is weight_orig [O, I, 1] with weight_u
/// and weight_v, as torch.nn.utils.spectral_norm names them. Throws Error for other weights under spectral or
/// weight norm. The tensors may share memory with the model.
StateDict pytorch_state_dict(Module& model, int64_t channels, int64_t height, int64_t width);

}  // namespace weft::app
