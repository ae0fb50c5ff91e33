// What a network looks like from outside: its loss around trained weights, and its output before training.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "weft/apps/weft/contours.h"
#include "weft/engine/data/batch_loader.h"
#include "weft/engine/module.h"
#include "weft/kernels/activation.h"

namespace weft::app {

/// Where point k of `points` lies between -range and range; 0 in the middle, exactly.
double coordinate(int k, int points, double range);

/// A batch to be tried again and again.
struct LabelledBatch {
  Tensor x, target;  ///< target: i64 [N], the model's classes
};
/// `images` pictures of one epoch of `loader`, evenly spread over it, or all where there are no more, in
/// batches of its size. each() is called after every batch that was read; returning false ends it, without a
/// result.
std::vector<LabelledBatch> pick_batches(data::BatchLoader& loader, const std::vector<int64_t>& label_map,
                                        int64_t images, const std::function<bool()>& each);

/// A random direction in the space of the parameters: normal, and each filter (what makes one output: a row
/// of a matrix, a slice of a convolution's weight) scaled to the norm of the parameters' own; 0 for
/// parameters of fewer than two dimensions. (H. Li et al. 2018, "Visualizing the Loss Landscape of Neural
/// Nets", https://arxiv.org/abs/1712.09913, section 4.)
std::vector<Tensor> filter_normalized_direction(const std::vector<Parameter>& parameters,
                                                Generator& generator);

/// Mean cross entropy and share of right answers, at weights + x first + y second for x, y from -range to
/// range: columns by x, rows by y.
struct LossLandscape {
  Grid loss, accuracy;
};
/// `model` is in evaluation mode, and is given back with the weights that it had. `points` in each direction,
/// an odd number, so that the weights themselves are in the middle. each(points done) returning false ends
/// it, without a result.
std::optional<LossLandscape> loss_landscape(Module& model, const std::vector<LabelledBatch>& batches,
                                            const std::vector<Tensor>& first,
                                            const std::vector<Tensor>& second, double range, int points,
                                            const std::function<bool(int)>& each);

/// The output f of a network that nobody has trained, over the square -range <= x, y <= range, and numbers
/// for how smooth it is. f is divided by the difference of its extremes for them, so that they compare
/// shapes; they are of the gradients at the points of the grid.
struct OutputLandscape {
  Grid output;
  double low = 0, high = 0;       ///< extremes of f
  double variation = 0;           ///< mean of |f'|: total variation over the square's area
  double lipschitz = 0;           ///< largest |f'|
  double gradient_lipschitz = 0;  ///< largest |f'(p) - f'(q)| / |p - q| of neighbours p and q
};
/// Linear 2-64-32-16-1 with the activation behind every layer, the last one too, as in the Mish paper's
/// picture (github.com/digantamisra98/Mish at ec1faeb, exps/op_landscape.py), weights as PyTorch starts them.
/// The weights follow from the seed alone: activations can be compared, which they cannot in that picture,
/// where each has others. Learned activations are as training begins, random ones as in evaluation.
OutputLandscape output_landscape(Activation act, uint64_t seed, double range, int points);

}  // namespace weft::app
