// Shared by the losses; not part of the public API.
#pragma once

#include <optional>

#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/reduction.h"

namespace weft::ops {

/// Losses of 16-bit inputs are f32.
Tensor widened(const Tensor& x);
/// Throws unless both have one shape and lie on one device.
void check_same_shape(const char* op, const Tensor& x, const Tensor& target);
Tensor reduced(const Tensor& losses, Reduction reduction);

/// one_hot() in f32. A label that is no class may be the `allowed` one: its row is all zeros.
Tensor one_hot_rows(const char* op, const Tensor& labels, int64_t classes,
                    std::optional<int64_t> allowed = {});

/// t log_p for constants t. A class of weight 0 counts nothing and gets no gradient, even if it is impossible
/// (log_p = -inf) or no number.
Tensor weighted(const Tensor& t, const Tensor& log_p);
/// q^gamma for probabilities q, the factor of focal losses. Its gradient stays finite at q = 0.
Tensor focal_factor(const Tensor& q, double gamma);

struct ClassTargetOptions {
  double label_smoothing = 0;
  Tensor weight = {};  ///< [C], or undefined: 1 for each
  std::optional<int64_t> ignore_index = {};
};

/// What a loss over classes aims at, as constants: loss = -sum t log_p.
struct ClassTargets {
  Tensor t;      ///< [N, C]: targets, smoothed, times the weights of the classes; 0 in rows that are ignored
  Tensor empty;  ///< [N, 1], u8: the rows that are ignored; undefined without an ignore_index
  Tensor total;  ///< []: what a mean divides by: the weights of the labels; N for probabilities

  /// For log_p or logits x [N, C], f32 or f64, and labels i64 [N] or probabilities [N, C] of any floating
  /// dtype.
  ClassTargets(const char* op, const Tensor& x, const Tensor& target, const ClassTargetOptions& options);

  /// sum / total. Where nothing is left that counts, NaN with a gradient of 0, as in PyTorch.
  Tensor mean_of(const Tensor& sum) const;
};

}  // namespace weft::ops
