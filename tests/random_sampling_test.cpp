// multinomial and randint: their distributions by chi-square tests with fixed seeds, and the edges.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <vector>

#include "support/errors.h"
#include "weft/kernels/parallel.h"
#include "weft/weft.h"

using namespace weft;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity(),
                 kNaN = std::numeric_limits<double>::quiet_NaN();

Tensor row(const std::vector<double>& p) { return Tensor::from(p, {int64_t(p.size())}); }

/// The sum of (seen - expected)^2 / expected.
double chi_square(const std::vector<int64_t>& seen, const std::vector<double>& expected) {
  double sum = 0;
  for (size_t i = 0; i < seen.size(); ++i) {
    if (expected[i] == 0)
      CHECK(seen[i] == 0);
    else
      sum += std::pow(double(seen[i]) - expected[i], 2) / expected[i];
  }
  return sum;
}

/// All pairs of draws of multinomial(p, 2) out of `rows` rows, counted.
std::vector<int64_t> pairs(const Tensor& p, int64_t rows, bool replacement, Generator& generator) {
  const int64_t k = p.numel();
  const Tensor many = Tensor::zeros({rows, 1}, DType::f64) + p;
  const std::vector<int64_t> drawn = multinomial(many, 2, replacement, generator).to_vector<int64_t>();
  std::vector<int64_t> counts(size_t(k * k));
  for (size_t i = 0; i < drawn.size(); i += 2) ++counts[size_t(drawn[i] * k + drawn[i + 1])];
  return counts;
}

}  // namespace

TEST_CASE("multinomial draws by the shares, alone and one after the other") {
  const std::vector<double> p{0.5, 0, 2, 1, 0.25};  // sums up to 3.75
  const int64_t n = 100000;
  Generator generator(7);
  {
    const Tensor drawn = multinomial(row(p), n, true, generator);
    CHECK(drawn.shape() == Shape{n});
    std::vector<int64_t> counts(5);
    for (const int64_t i : drawn.to_vector<int64_t>()) ++counts[size_t(i)];
    std::vector<double> expected;
    for (const double x : p) expected.push_back(x / 3.75 * double(n));
    CHECK(chi_square(counts, expected) < 16.3);  // 3 degrees of freedom, 1 in 1000
  }
  for (const bool replacement : {false, true}) {
    CAPTURE(replacement);
    std::vector<double> expected;
    for (size_t i = 0; i < 5; ++i)
      for (size_t j = 0; j < 5; ++j) {
        const double second = replacement ? p[j] / 3.75 : i == j ? 0 : p[j] / (3.75 - p[i]);
        expected.push_back(double(n) * p[i] / 3.75 * second);
      }
    // 15 degrees of freedom with replacement, 11 without: 1 in 1000.
    CHECK(chi_square(pairs(row(p), n, replacement, generator), expected) < (replacement ? 37.7 : 31.3));
  }
}

TEST_CASE("multinomial: rows of their own, every place once, no place of share 0") {
  const Tensor p = Tensor::from<float>({0, 1, 0, 3, 0, 0, 0, 1e-30F, 0}, {3, 3});
  Generator generator(1);
  const Tensor drawn = multinomial(p, 20, true, generator);
  CHECK(drawn.shape() == Shape{3, 20});
  CHECK(drawn.dtype() == DType::i64);
  for (int64_t i = 0; i < 60; ++i) CHECK(drawn.at(i) == std::array{1, 0, 1}[size_t(i / 20)]);
  CHECK(multinomial(p, 1).shape() == Shape{3, 1});
  // Without replacement all places that are not zero make a permutation.
  const Tensor some = row({0, 2, 1e-300, 0, 1e300, 5});
  std::set<int64_t> all;
  for (const int64_t i : multinomial(some, 4, false, generator).to_vector<int64_t>()) all.insert(i);
  CHECK(all == std::set<int64_t>{1, 2, 4, 5});
  CHECK(multinomial(Tensor::zeros({0, 4}), 3).shape() == Shape{0, 3});
  CHECK(multinomial(Tensor::ones({2, 3, 4}), 2).shape() == Shape{2, 3, 2});
  CHECK(multinomial(Tensor::ones({5}).to(DType::bf16), 5).numel() == 5);
}

TEST_CASE("multinomial and randint: the seed's bits on any number of threads, and nothing on the tape") {
  const Tensor p = Tensor::uniform({3000, 9}, 0.1, 1).set_requires_grad();
  const int before = num_threads();
  std::map<int, std::vector<int64_t>> drawn;
  for (const int threads : {1, 5}) {
    set_num_threads(threads);
    Generator generator(3);
    Tape tape;
    for (const Tensor& t : {multinomial(p, 4, true, generator), multinomial(p, 4, false, generator),
                            randint(-3, 9, {40000}, generator)})
      for (const int64_t i : t.to_vector<int64_t>()) drawn[threads].push_back(i);
    CHECK(tape.entries().empty());
  }
  set_num_threads(before);
  CHECK(drawn[1] == drawn[5]);
}

TEST_CASE("multinomial: errors") {
  CHECK_ERROR(multinomial(row({1, -0.5}), 1),
              "multinomial: -0.5 at place 1 of row 0 of [2] is no probability");
  CHECK_ERROR(multinomial(row({kNaN, 1}), 1), "nan at place 0");
  CHECK_ERROR(multinomial(row({1, kInf}), 1), "inf at place 1");
  CHECK_ERROR(multinomial(row({1e308, 1e308}), 1), "row 0 of [2] has an infinite sum");
  CHECK_ERROR(multinomial(Tensor::from<float>({1, 0, 0, 0}, {2, 2}), 1), "row 1 of [2, 2] is all zero");
  CHECK_ERROR(multinomial(row({1, 0, 1}), 3),
              "3 draws without replacement from row 0 of [3], which has 2 places");
  CHECK(multinomial(row({1, 0, 1}), 3, true).numel() == 3);
  CHECK_ERROR(multinomial(row({1}), 0), "0 draws; there must be 1 or more");
  CHECK_ERROR(multinomial(Tensor::ones({2}, DType::i64), 1),
              "the probabilities are i64 [2]; expected floating");
  CHECK_ERROR(multinomial(Tensor::ones({}), 1), "expected floating [.., K]");
  CHECK_ERROR(multinomial(Tensor::ones({2, 0}), 1), "expected floating [.., K]");
}

TEST_CASE("randint: every number equally often, the bounds, the widest range") {
  Generator generator(11);
  const Tensor t = randint(-3, 4, {70, 1000}, generator);
  CHECK(t.shape() == Shape{70, 1000});
  CHECK(t.dtype() == DType::i64);
  std::vector<int64_t> counts(7);
  for (const int64_t i : t.to_vector<int64_t>()) {
    REQUIRE(i >= -3);
    REQUIRE(i < 4);
    ++counts[size_t(i + 3)];
  }
  CHECK(chi_square(counts, std::vector<double>(7, 10000)) < 22.5);  // 6 degrees of freedom, 1 in 1000
  CHECK(randint(5, 6, {}, generator).item() == 5);
  CHECK(randint(0, 9, {0, 2}, generator).numel() == 0);
  constexpr int64_t least = std::numeric_limits<int64_t>::min(), most = std::numeric_limits<int64_t>::max();
  std::vector<int64_t> wide = randint(least, most, {1000}, generator).to_vector<int64_t>();
  const auto negative = std::count_if(wide.begin(), wide.end(), [](int64_t i) { return i < 0; });
  CHECK(negative > 430);
  CHECK(negative < 570);
  // Nearly every second word is drawn again where a range is just above half of all.
  wide = randint(least, 1, {30000}, generator).to_vector<int64_t>();
  const auto low = std::count_if(wide.begin(), wide.end(), [](int64_t i) { return i < least / 2; });
  CHECK(std::abs(double(low) - 15000) < 300);
  CHECK_ERROR(randint(3, 3, {1}), "randint: no number is at least 3 and below 3");
  Generator again(11);
  CHECK(randint(-3, 4, {70, 1000}, again).to_vector<int64_t>() == t.to_vector<int64_t>());
}
