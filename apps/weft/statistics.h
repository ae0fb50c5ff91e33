// What a few runs say about the mean of many, and whether two settings differ by more than chance.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace weft::app {

/// The regularised incomplete beta function I_x(a, b) for a, b > 0 and 0 <= x <= 1, with y = 1 - x given
/// beside x, because one of the two may be too small to be taken from the other. The continued fraction of
/// DLMF 8.17.22, after 8.17.4 where that converges slowly.
double incomplete_beta(double a, double b, double x, double y);

/// The probability that |T| > |t| for Student's t with `dof` degrees of freedom (above 0, fractions allowed):
/// I_{dof / (dof + t^2)}(dof / 2, 1 / 2), Abramowitz & Stegun 26.5.27.
double student_t_two_sided(double t, double dof);
/// The t that this probability belongs to, 0 < p <= 1: 2.262 for p = .05 and 9 degrees.
double student_t_critical(double p, double dof);

/// Of some values: mean, standard deviation of the sample (divided by n - 1) and half the width of the 95 %
/// confidence interval of the mean, t_{.975, n-1} deviation / sqrt(n). Both are absent where n < 2.
struct MeanOf {
  int64_t n = 0;
  double mean = 0;
  std::optional<double> deviation = {}, half_width = {};
};
MeanOf mean_of(const std::vector<double>& values);

/// Of pairs a_i, b_i, of the same seed each: what mean_of() says of the differences d_i = b_i - a_i, and
///   p        of Student's t-test that the mean difference is 0, two-sided: t = mean / (deviation / sqrt(n))
///   d_z      Cohen's d of pairs, mean / deviation (Lakens 2013, doi 10.3389/fpsyg.2013.00863)
///   p_welch  of Welch's t-test (1947) of the b against the a, which leaves the pairing out of account
/// Absent where n < 2, and where the values that they are taken from do not vary: no such test can say how
/// sure a difference is that was the same each time.
struct PairedDifference : MeanOf {
  std::optional<double> p = {}, d_z = {}, p_welch = {};
};
PairedDifference paired_difference(const std::vector<double>& a, const std::vector<double>& b);

/// Holm's step-down correction (1979) of p-values that are looked at together: the i-th smallest of m times
/// m - i + 1, at least as large as the one before and at most 1. In the order of `p`.
std::vector<double> holm(const std::vector<double>& p);

}  // namespace weft::app
