// Muon: momentum whose matrices are made orthogonal.
#pragma once

#include <array>

#include "weft/kernels/updates/update.h"
#include "weft/optim/grouped.h"
#include "weft/optim/hyper.h"

namespace weft::optim {

/// How Muon's rate follows the shape [rows, columns] of a matrix.
enum class MuonRate : uint8_t {
  original,         ///< times sqrt(max(1, rows / columns)): Keller Jordan's
  match_rms_adamw,  ///< times 0.2 sqrt(max(rows, columns)): steps as large as AdamW's (Liu et al. 2025,
                    ///< https://arxiv.org/abs/2502.16982)
};

struct MuonOptions {
  double lr = 1e-3;
  double momentum = 0.95;     ///< mu
  double weight_decay = 0.1;  ///< lambda, decoupled
  bool nesterov = true;
  std::array<double, 3> ns_coefficients = {3.4445, -4.7750, 2.0315};  ///< a, b, c
  int64_t ns_steps = 5;
  double ns_eps = 1e-7;  ///< the least norm that a matrix is divided by
  MuonRate adjust_lr = MuonRate::original;
  // AdamW, for parameters with fewer than two dimensions, which have no matrix.
  double adamw_lr_factor = 1;  ///< their rate over lr; in Keller Jordan's runs 3e-4 / 0.02
  std::array<double, 2> betas = {0.9, 0.95};
  double eps = 1e-8;
};

namespace updates {

/// Before the products: AdamW, or for a matrix momentum, and in v what is to be made orthogonal, of norm 1.
template <class T>
struct muon {
  static constexpr const char* kName = "muon";
  static constexpr int kSlots = 2, kSums = 1;
  bool matrix;
  T of_g, of_m;  // for a matrix: v = of_g g + of_m m; finish() divides both by its norm
  T step, root, shrink;
  T eps;  // for a matrix the least norm
  T beta1, fresh1, beta2, fresh2;

  WEFT_HD bool needs_sums() const { return matrix; }
  WEFT_HD void terms(T, T g, T m, T, T* terms) const {
    terms[0] = of_g * g + of_m * (beta1 * m + fresh1 * g);
  }
  WEFT_HD void finish(const double* squares, double*) {
    double norm = kernels::math::sqrt(squares[0]);
    if (norm < double(eps)) norm = double(eps);  // NaN stays
    of_g = T(double(of_g) / norm), of_m = T(double(of_m) / norm);
  }
  WEFT_HD void operator()(T& p, T g, T& m, T& v) const {
    m = beta1 * m + fresh1 * g;
    if (matrix) {
      v = of_g * g + of_m * m;
    } else {
      v = beta2 * v + fresh2 * g * g;
      p = p * shrink - step * m / (kernels::math::sqrt(v) * root + eps);
    }
  }
};

/// After them: v is orthogonal.
template <class T>
struct muon_apply {
  static constexpr const char* kName = "muon_apply";
  static constexpr int kSlots = 1;
  static constexpr bool kGradient = false;
  T rate, shrink;

  WEFT_HD void operator()(T& p, T, T& v) const { p = p * shrink - rate * v; }
};

}  // namespace updates

/// muon: Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) as torch.optim.Muon, but in
/// the precision of the parameters where PyTorch multiplies in bf16. For each parameter as a matrix [out,
/// rest]:
///
///   m <- mu m + (1 - mu) g,  d = (1 - mu) g + mu m        (d = m without nesterov)
///   X = d / max(|d|, ns_eps), then 5 times X <- a X + (b A + c A^2) X with A = X X^T: X near U V^T of d
///   p <- p (1 - lr lambda) - lr X sqrt(max(1, rows / columns))        (see MuonRate)
///
/// and AdamW for those with fewer than two dimensions. By name the rate is match_rms_adamw, so that lr and
/// weight decay are those of AdamW; mom is mu and AdamW's beta1. A step is a matter of matrix products, not
/// of memory, of all matrices of one shape together: three for each iteration, or on the CPU, where one side
/// is more than 1.5 times the other, two large ones for three iterations and small ones between. For a while
/// it takes as much memory as they have, and on a GPU somewhat more. Slots: "exp_avg" (m), for AdamW also
/// "exp_avg_sq".
class Muon : public GroupedOptimizer<MuonOptions> {
 public:
  explicit Muon(const std::vector<Parameter>& parameters, const Options& options = {}) {
    add_group(parameters, options);
  }
  void add_group(const std::vector<Parameter>& parameters, const Options& options = {});
  const char* name() const override { return "muon"; }
  bool by_element() const override { return false; }
  bool by_formula() const override { return is_just<Muon>(); }
  /// Of the products of a step, 2 m n k each, though half of a symmetric one may be copied. Directly they are
  /// 4 s^2 l + 2 s^3 for each of the ns_steps and each matrix with sides s <= l.
  double product_flops() const override;
  StateDict state_dict() const override;

 private:
  void check_options(const Options& options) const override;
  std::vector<Slot> slots(const Options&) const override { return {{"exp_avg"}, {"exp_avg_sq"}}; }
  void update(size_t group) override;

  // A matrix has "exp_avg_sq" within a step alone: there X is, before and after the products.
  std::vector<Group> last_;  // the groups again, for the pass after the products: "exp_avg_sq" alone
};

/// Makes a matrix [rows, columns], or each of a batch [n, rows, columns], about orthogonal: divides it by its
/// norm, or by eps where that is more, and does `steps` Newton-Schulz iterations with coefficients a, b, c.
/// f32 or f64.
Tensor newton_schulz(const Tensor& matrices, const std::array<double, 3>& coefficients, int64_t steps,
                     double eps);

inline std::unique_ptr<Optimizer> make_muon(const auto& groups, const Hyper& hyper) {
  return two_groups<Muon>(groups, hyper, {.adjust_lr = MuonRate::match_rms_adamw},
                          [&](MuonOptions& o, bool) { o.betas[0] = o.momentum; });
}

}  // namespace weft::optim
