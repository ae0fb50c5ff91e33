// Softmax, cross entropy and the sums of metrics on the GPU against the reference in double.
#include <cmath>
#include <utility>
#include <vector>

#include "support/device_arrays.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/metrics.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

struct RowsAndColumns {
  int64_t rows, cols;
  int64_t size() const { return rows * cols; }
};
// Few columns and many, more rows than one walk takes, rows that a whole block makes, wide or not.
const std::vector<RowsAndColumns> kShapes = {{1, 1},    {3, 3},    {1, 10},   {37, 10},
                                             {5, 24},   {9, 8},    {70, 33},  {3, 1000},
                                             {2, 4096}, {3, 5001}, {700, 10}, {70, 4096}};

template <class F>
void for_shapes(F&& f) {
  for (const RowsAndColumns& shape : kShapes) {
    CAPTURE(shape.rows);
    CAPTURE(shape.cols);
    f(shape, 0);
  }
  f(RowsAndColumns{5, 16}, 1);
}

template <class T>
using Rowwise = void (*)(int64_t, int64_t, const T*, T*);
template <class T>
using RowwiseBackward = void (*)(int64_t, int64_t, const T*, const T*, T*);

/// `scale` brings the results near 1.
template <class T>
void expect_forward(Rowwise<T> op, Rowwise<double> oracle, RowsAndColumns shape, const std::vector<T>& x,
                    int64_t skip, double scale) {
  std::vector<double> expected(x.size());
  oracle(shape.rows, shape.cols, to_double(x).data(), expected.data());
  DeviceArray<T> x_d(x, skip), y(shape.size(), skip);
  op(shape.rows, shape.cols, x_d.data(), y.data());
  std::vector<double> actual = to_double(y.host());
  for (double& v : expected) v *= scale;
  for (double& v : actual) v *= scale;
  CHECK(distance(actual, expected) < kTolerance<T>);
  op(shape.rows, shape.cols, x_d.data(), x_d.data());
  CHECK(same_bits(x_d.host(), y.host()));
}

template <class T>
void expect_backward(RowwiseBackward<T> op, RowwiseBackward<double> oracle, RowsAndColumns shape,
                     const std::vector<T>& y, const std::vector<T>& dy, int64_t skip) {
  std::vector<double> expected(y.size());
  oracle(shape.rows, shape.cols, to_double(y).data(), to_double(dy).data(), expected.data());
  DeviceArray<T> y_d(y, skip), dy_d(dy, skip), dx(shape.size(), skip);
  op(shape.rows, shape.cols, y_d.data(), dy_d.data(), dx.data());
  CHECK(distance(dx.host(), expected) < kTolerance<T>);
  op(shape.rows, shape.cols, y_d.data(), dy_d.data(), dy_d.data());
  CHECK(same_bits(dy_d.host(), dx.host()));
}

/// Labels of all kinds of classes.
std::vector<int64_t> random_labels(Random& random, RowsAndColumns shape) {
  std::vector<int64_t> labels;
  for (int64_t row = 0; row < shape.rows; ++row) labels.push_back(random.below(shape.cols));
  return labels;
}

/// Logits, and what they are held against.
template <class T>
struct Problem {
  RowsAndColumns shape;
  std::vector<T> logits, probabilities;
  std::vector<int64_t> labels;
  double smoothing = 0;
  bool with_labels = true;
};

template <class T>
void expect_cross_entropy(const Problem<T>& p, int64_t skip = 0) {
  const std::vector<double> logits_w = to_double(p.logits), probabilities_w = to_double(p.probabilities);
  CrossEntropyArgs<double> oracle;
  oracle.rows = p.shape.rows, oracle.classes = p.shape.cols, oracle.smoothing = p.smoothing;
  oracle.logits = logits_w.data();
  if (p.with_labels)
    oracle.labels = p.labels.data();
  else
    oracle.probabilities = probabilities_w.data();
  std::vector<double> log_p(p.logits.size()), loss(1);
  reference<double>().cross_entropy_forward(oracle, log_p.data(), loss.data());

  DeviceArray<T> logits(p.logits, skip), probabilities(p.probabilities, skip), log_p_d(p.shape.size(), skip),
      loss_d(1), again(1), dx_d(p.shape.size(), skip);
  DeviceArray<int64_t> labels(p.labels);
  CrossEntropyArgs<T> a;
  a.rows = p.shape.rows, a.classes = p.shape.cols, a.smoothing = p.smoothing;
  a.logits = logits.data();
  if (p.with_labels)
    a.labels = labels.data();
  else
    a.probabilities = probabilities.data();
  cuda::table<T>().cross_entropy_forward(a, log_p_d.data(), loss_d.data());
  CHECK(distance(log_p_d.host(), log_p) < kTolerance<T>);
  CHECK(distance(loss_d.host(), loss) < kTolerance<T>);
  cuda::table<T>().cross_entropy_forward(a, log_p_d.data(), again.data());
  CHECK(same_bits(loss_d.host(), again.host()));

  // dloss so large that the gradients are around 1.
  const std::vector<T> dloss = {T(0.5 * double(p.shape.rows))};
  const std::vector<T> log_p_t = log_p_d.host();
  std::vector<double> dx(p.logits.size());
  reference<double>().cross_entropy_backward(oracle, to_double(log_p_t).data(), to_double(dloss).data(),
                                             dx.data());
  DeviceArray<T> dloss_d(dloss);
  cuda::table<T>().cross_entropy_backward(a, log_p_d.data(), dloss_d.data(), dx_d.data());
  CHECK(distance(dx_d.host(), dx) < kTolerance<T>);
}

/// Random probabilities, some of them 0, that need not add up to 1.
template <class T>
Problem<T> random_problem(Random& random, RowsAndColumns shape) {
  Problem<T> p{shape, random.normal<T>(shape.size(), 0, 3), random.uniform<T>(shape.size(), 0, 1),
               random_labels(random, shape)};
  for (T& t : p.probabilities)
    if (random.below(4) == 0) t = T(0.0f);
  return p;
}

}  // namespace

TEST_CASE_TEMPLATE("softmax and log_softmax", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  const auto& table = cuda::table<T>();
  const auto& oracle = reference<double>();
  for_shapes([&](RowsAndColumns shape, int64_t skip) {
    std::vector<T> x = random.normal<T>(shape.size(), 0, 3);
    expect_forward(table.softmax, oracle.softmax, shape, x, skip, std::sqrt(double(shape.cols)));
    expect_forward(table.log_softmax, oracle.log_softmax, shape, x, skip, 1);
    // Far from 0, and classes that can't be.
    for (T& v : x) v = T(double(v) + 200);
    x[0] = T(-INFINITY);
    expect_forward(table.softmax, oracle.softmax, shape, x, skip, std::sqrt(double(shape.cols)));
    expect_forward(table.log_softmax, oracle.log_softmax, shape, x, skip, 1);
    for (const double special : {double(NAN), double(INFINITY)}) {
      x[size_t(random.below(shape.size()))] = T(special);
      expect_forward(table.softmax, oracle.softmax, shape, x, skip, 1);
      expect_forward(table.log_softmax, oracle.log_softmax, shape, x, skip, 1);
    }
  });
}

TEST_CASE_TEMPLATE("softmax and log_softmax, backward", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for_shapes([&](RowsAndColumns shape, int64_t skip) {
    std::vector<double> y(size_t(shape.size()));
    const std::vector<double> x = random.normal<double>(shape.size());
    reference<double>().softmax(shape.rows, shape.cols, x.data(), y.data());
    const std::vector<T> p(y.begin(), y.end());
    std::vector<T> dy = random.normal<T>(shape.size(), 0, double(shape.cols));
    expect_backward(cuda::table<T>().softmax_backward, reference<double>().softmax_backward, shape, p, dy,
                    skip);
    reference<double>().log_softmax(shape.rows, shape.cols, x.data(), y.data());
    const std::vector<T> log_p(y.begin(), y.end());
    dy = random.normal<T>(shape.size(), 0.1);
    expect_backward(cuda::table<T>().log_softmax_backward, reference<double>().log_softmax_backward, shape,
                    log_p, dy, skip);
  });
}

TEST_CASE_TEMPLATE("cross entropy", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for_shapes([&](RowsAndColumns shape, int64_t skip) {
    Problem<T> p = random_problem<T>(random, shape);
    for (const double smoothing : {0.0, 0.1, 1.0}) {
      CAPTURE(smoothing);
      p.smoothing = smoothing;
      expect_cross_entropy(p, skip);
    }
    p.with_labels = false;
    expect_cross_entropy(p, skip);
  });
}

TEST_CASE_TEMPLATE("cross entropy at its edges", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  const RowsAndColumns shape{20, 8};
  for (const int64_t label : {int64_t{-1}, shape.cols}) {
    Problem<T> p = random_problem<T>(random, shape);
    p.labels[13] = label;
    p.smoothing = 0.1;
    expect_cross_entropy(p);
  }
  // Classes that can't be: no matter without weight, an infinite loss with it.
  Problem<T> p = random_problem<T>(random, shape);
  p.logits[8 * 5 + 3] = T(-INFINITY);
  p.labels[5] = 2;
  expect_cross_entropy(p);
  p.labels[5] = 3;
  expect_cross_entropy(p);
}

TEST_CASE_TEMPLATE("metrics add up", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for (const RowsAndColumns& shape : kShapes) {
    CAPTURE(shape.rows);
    CAPTURE(shape.cols);
    DeviceArray<double> totals(std::vector<double>{1, 2, 3, 4});
    std::vector<double> expected = {1, 2, 3, 4};
    for (const float loss : {0.75f, 1.5f, INFINITY}) {
      std::vector<T> logits = random.normal<T>(shape.size());
      // Equal ones, where the first counts, and NaN.
      for (T& v : logits) v = T(std::round(double(v)));
      for (int i = 0; i < 3; ++i) logits[size_t(random.below(shape.size()))] = T(double(NAN));
      std::vector<int64_t> labels(static_cast<size_t>(shape.rows));
      reference<double>().argmax(shape.rows, shape.cols, to_double(logits).data(), labels.data());
      double correct = 0;
      for (int64_t& label : labels) {
        if (random.below(2) == 0)
          label = (label + 1) % (shape.cols + 1);  // may be no class at all
        else
          ++correct;
      }
      DeviceArray<T> logits_d(logits);
      DeviceArray<int64_t> labels_d(labels);
      DeviceArray<float> loss_d(std::vector<float>{loss});
      cuda::accumulate_metrics(shape.rows, shape.cols, logits_d.data(), labels_d.data(), loss_d.data(),
                               totals.data());
      expected[0] += double(loss) * double(shape.rows);
      expected[1] += correct;
      expected[2] += double(shape.rows);
      if (!std::isfinite(loss)) expected[3] += 1;
      CHECK(totals.host() == expected);
    }
  }
}
