// Copies of a model's weights in a 16-bit type, made all at once.
#pragma once

#include <unordered_map>
#include <vector>

#include "weft/engine/module.h"

namespace weft {

/// In mixed precision an op converts its f32 weights to the type of its input. WeightCopies does that for all
/// weights of a model (parameters of two and more dimensions) in one launch on a GPU:
///
///   WeightCopies copies(model, DType::bf16);
///   for (...) {
///     const WeightCopies::Use use(copies);  // converts; ops of this thread take the copies from here on
///     ... forward, backward ...
///   }                                       // ends before the optimizer changes the weights
class WeightCopies {
 public:
  WeightCopies(const Module& model, DType dtype);

  class Use {
   public:
    explicit Use(const WeightCopies& copies);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    const WeightCopies* before_;
  };

  /// The copy of `weight` in `dtype` that is in use on this thread, or an undefined tensor.
  static Tensor find(const Tensor& weight, DType dtype);

 private:
  void refresh() const;

  DType dtype_;
  std::vector<Tensor> weights_, copies_;
  std::unordered_map<const void*, size_t> place_;  // by the weight's memory
};

}  // namespace weft
