// Copies of a model's weights in a 16-bit type, made all at once.
#pragma once

#include <unordered_map>
#include <vector>

#include "weft/engine/in_force.h"
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
///
/// In a captured step the optimizer's update can write the copies along with the weights (Follow). Then there
/// is something to convert only where somebody else may have changed weights since.
class WeightCopies {
 public:
  WeightCopies(const Module& model, DType dtype);

  /// Converts all weights.
  void refresh() const;

  class Use {
   public:
    /// Without `convert` for copies that are fresh.
    explicit Use(const WeightCopies& copies, bool convert = true);

   private:
    InForce<const WeightCopies> in_force_;
  };

  /// While it lives, updates by formulas (Optimizer::by_formula()) that this thread starts or captures write
  /// the copies of the weights that they change.
  class Follow {
   public:
    explicit Follow(const WeightCopies& copies);
    /// Converts the weights that no update was asked for, which others may have changed.
    void finish() const;

   private:
    friend class WeightCopies;
    const WeightCopies& copies_;
    std::vector<bool> asked_;  // by place
    InForce<Follow> in_force_;
  };
  /// Where the update of `weight` that is about to start on this thread is to write a copy too: a tensor, or
  /// an undefined one.
  static Tensor follow(const Tensor& weight);

  /// The copy of `weight` in `dtype` that is in use on this thread, or an undefined tensor.
  static Tensor find(const Tensor& weight, DType dtype);

 private:
  void convert(const std::vector<Tensor>& weights, const std::vector<Tensor>& copies) const;

  DType dtype_;
  std::vector<Tensor> weights_, copies_;
  std::unordered_map<const void*, size_t> place_;  // by the weight's memory
};

}  // namespace weft
