// FormulaOptimizer: an optimizer that is a formula for one element, with options and state. Most are.
#pragma once

#include <type_traits>
#include <vector>

#include "weft/kernels/updates/update.h"
#include "weft/optim/grouped.h"
#include "weft/optim/hyper.h"

namespace weft::optim {

/// Updates a group of an optimizer that derives from FormulaOptimizer. Defined in formula_step.h, made for
/// all files of optim/optimizers/ by CMake; who writes such an optimizer elsewhere includes that.
template <class Self>
void run_formula(Self& optimizer, size_t group);

/// Base of an optimizer `Self`, which says:
///
///   static constexpr const char* kName = "NAME";               // in messages
///   static std::vector<Slot> state_slots(const Options&);  // state tensors: {{"exp_avg"}, {"exp_avg_sq"}}
///   // The formula (kernels/updates/update.h) with the scalars of a parameter's t-th update, t = 1, 2, ...
///   template <class T>
///   static updates::NAME<T> formula(const Options& options, int64_t t);
///
/// and may say `static void validate(const Options&)`, which throws Error on what check_common() does not
/// know. With options that keep less state than others it has several formulas and, instead of `formula`,
///
///   // calls run(make), where make(options, t, T()) gives the formula for that many slots
///   template <class Run>
///   static void choose(size_t slots, const Run& run);
template <class Self, class OptionsT>
class FormulaOptimizer : public GroupedOptimizer<OptionsT> {
 public:
  using Options = OptionsT;

  explicit FormulaOptimizer(const std::vector<Parameter>& parameters, const Options& options = {}) {
    this->add_group(parameters, options);
  }
  const char* name() const override { return Self::kName; }
  bool by_element() const override { return moved_again() == 0; }
  bool by_formula() const override { return this->template is_just<Self>() && kPlainStep<Self>; }
  int moved_again() const override {
    if constexpr (requires { Self::template formula<float>(Options{}, int64_t(1)); }) {
      using U = decltype(Self::template formula<float>(Options{}, int64_t(1)));
      return kernels::updates::advances_first<U>() ? U::kSlots + 1 : kernels::updates::sums_of<U>();
    }
    return 0;
  }

 protected:
  using Slot = Optimizer::Slot;

  void check_options(const Options& options) const override {
    this->check_common(options);
    if constexpr (requires { Self::validate(options); }) Self::validate(options);
  }
  std::vector<Slot> slots(const Options& options) const override { return Self::state_slots(options); }
  void update(size_t group) override { run_formula(static_cast<Self&>(*this), group); }

 private:
  /// Whether `S` has left step() and update() as they are here.
  template <class S>
  static constexpr bool kPlainStep = requires {
    requires std::is_same_v<decltype(&S::step), void (GroupedOptimizer<OptionsT>::*)()>;
    requires std::is_same_v<decltype(&S::update), void (FormulaOptimizer::*)(size_t)>;
  };
};

}  // namespace weft::optim
