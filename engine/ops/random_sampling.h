// Whole numbers at random: out of a range, and classes by their probabilities. Neither is recorded.
#pragma once

#include "weft/engine/tensor.h"

namespace weft {

/// Whole numbers (i64) from low on and below high, each equally likely.
Tensor randint(int64_t low, int64_t high, const Shape& shape, Generator& generator = default_generator());

/// n places drawn from each row of probabilities [.., K], i64 [.., n] in the order in which they were drawn,
/// as torch.multinomial. The rows need not sum up to one: place i comes with the share that it has of its
/// row. Without replacement no place comes twice, and each draw is by the shares of those that are left.
/// Sampling a language model's next token is multinomial(softmax(logits / temperature), 1).
/// f32, f64 or 16 bits, on the CPU. Throws Error where a number is negative or not finite, a row is all zero,
/// or it has fewer than n places that are not, without replacement.
Tensor multinomial(const Tensor& probabilities, int64_t n, bool replacement = false,
                   Generator& generator = default_generator());

}  // namespace weft
