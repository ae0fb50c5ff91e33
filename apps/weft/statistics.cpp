#include "weft/apps/weft/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "weft/engine/error.h"

namespace weft::app {
namespace {

/// 1 / (1 + d1 / (1 + d2 / (1 + ...))) of DLMF 8.17.22, from the top down (Lentz's method, in which `tiny`
/// stands for a denominator of 0).
double beta_fraction(double a, double b, double x) {
  constexpr double tiny = 1e-300;
  const auto not_zero = [](double v) { return std::abs(v) < tiny ? tiny : v; };
  double c = 1, d = 0, value = 1;
  for (int j = 1; j < 100'000; ++j) {
    const double m = j / 2;
    const double term = j % 2 == 0 ? m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
                                   : -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / not_zero(1 + term * d);
    c = not_zero(1 + term / c);
    value *= c * d;
    if (std::abs(c * d - 1) < 1e-15) break;
  }
  return 1 / value;
}

double largest_of(const std::vector<double>& values) {
  double most = 0;
  for (double v : values) most = std::max(most, std::abs(v));
  return most;
}

}  // namespace

double incomplete_beta(double a, double b, double x, double y) {
  if (x <= 0) return 0;
  if (y <= 0) return 1;
  const double front =
      std::exp(a * std::log(x) + b * std::log(y) + std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b));
  if (x > (a + 1) / (a + b + 2)) return 1 - front / b * beta_fraction(b, a, y);
  return front / a * beta_fraction(a, b, x);
}

double student_t_two_sided(double t, double dof) {
  check(dof > 0, "student_t: ", dof, " degrees of freedom");
  const double square = t * t;
  if (std::isinf(square)) return 0;
  return incomplete_beta(dof / 2, 0.5, dof / (dof + square), square / (dof + square));
}

double student_t_critical(double p, double dof) {
  check(p > 0 && p <= 1, "student_t: probability ", p);
  double low = 0, high = 1;
  while (student_t_two_sided(high, dof) > p && high < 1e150) low = high, high *= 2;
  for (int i = 0; i < 200 && low < high; ++i) {
    const double middle = low + (high - low) / 2;
    if (middle == low || middle == high) break;
    (student_t_two_sided(middle, dof) > p ? low : high) = middle;
  }
  return high;
}

MeanOf mean_of(const std::vector<double>& values) {
  MeanOf m{.n = int64_t(values.size())};
  if (values.empty()) return m;
  const auto n = double(m.n);
  m.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  if (m.n < 2) return m;
  double squares = 0;
  for (double v : values) squares += (v - m.mean) * (v - m.mean);
  m.deviation = std::sqrt(squares / (n - 1));
  m.half_width = student_t_critical(0.05, n - 1) * *m.deviation / std::sqrt(n);
  return m;
}

PairedDifference paired_difference(const std::vector<double>& a, const std::vector<double>& b) {
  check(a.size() == b.size(), "paired_difference: ", a.size(), " and ", b.size(), " values");
  std::vector<double> differences;
  for (size_t i = 0; i < a.size(); ++i) differences.push_back(b[i] - a[i]);
  PairedDifference result{mean_of(differences)};
  if (result.n < 2) return result;
  const auto n = double(result.n);
  // Equal differences of decimal fractions may differ by rounding; that is no variation.
  const double rounding = 1e-12 * std::max(largest_of(a), largest_of(b));
  if (*result.deviation > rounding) {
    result.d_z = result.mean / *result.deviation;
    result.p = student_t_two_sided(*result.d_z * std::sqrt(n), n - 1);
  }
  const double va = std::pow(*mean_of(a).deviation, 2) / n, vb = std::pow(*mean_of(b).deviation, 2) / n;
  if (std::sqrt(va + vb) > rounding) {
    const double dof = (va + vb) * (va + vb) * (n - 1) / (va * va + vb * vb);  // Welch-Satterthwaite
    result.p_welch = student_t_two_sided(result.mean / std::sqrt(va + vb), dof);
  }
  return result;
}

std::vector<double> holm(const std::vector<double>& p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t i, size_t j) { return p[i] < p[j]; });
  std::vector<double> corrected(p.size());
  double least = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    least = std::max(least, std::min(1.0, p[order[i]] * double(p.size() - i)));
    corrected[order[i]] = least;
  }
  return corrected;
}

}  // namespace weft::app
