// Cross entropy on many rows: the double's value, the same bits on any number of threads, and its edges.
#include "weft/engine/ops/loss.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/tape.h"
#include "weft/kernels/parallel.h"

using namespace weft;

namespace {

struct Result {
  Tensor loss, gradient;
};
Result run(const Tensor& logits, const Tensor& target, double smoothing) {
  Tape tape;
  Tensor x = logits.clone();
  x.set_requires_grad(true);
  const Tensor loss = cross_entropy(x, target, {.label_smoothing = smoothing});
  tape.backward(loss);
  return {loss, x.grad()};
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return std::memcmp(a.raw(), b.raw(), size_t(a.bytes())) == 0;
}

}  // namespace

TEST_CASE("cross entropy of many rows agrees with double, bit for bit on any number of threads") {
  const int64_t rows = 517, classes = 131;
  Generator g(3);
  const Tensor logits = Tensor::normal({rows, classes}, 0, 3, g);
  Tensor labels = Tensor::empty({rows}, DType::i64);
  for (int64_t r = 0; r < rows; ++r) labels.data<int64_t>()[r] = r * 37 % classes;
  const Tensor soft = softmax(Tensor::normal({rows, classes}, 0, 1, g));
  const int before = num_threads();
  for (const double smoothing : {0.0, 0.1})
    for (const bool labelled : {true, false}) {
      CAPTURE(smoothing);
      CAPTURE(labelled);
      const Tensor target = labelled ? labels : soft;
      set_num_threads(1);
      const Result one = run(logits, target, smoothing);
      for (int threads : {2, 7}) {
        set_num_threads(threads);
        const Result again = run(logits, target, smoothing);
        CHECK(same_bits(one.loss, again.loss));
        CHECK(same_bits(one.gradient, again.gradient));
      }
      const Result exact = run(logits.to(DType::f64), labelled ? labels : soft.to(DType::f64), smoothing);
      CHECK(one.loss.item() == doctest::Approx(exact.loss.item()).epsilon(1e-6));
      double worst = 0;
      for (int64_t i = 0; i < rows * classes; ++i)
        worst = std::fmax(
            worst, std::fabs(double(one.gradient.data<float>()[i]) - exact.gradient.data<double>()[i]));
      CHECK(worst * double(rows) < 2e-6);
    }
  set_num_threads(before);
}

TEST_CASE("a class of no weight may be impossible") {
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor logits = Tensor::from<float>({0, 0, -inf}, {1, 3});
  CHECK(run(logits, Tensor::from<int64_t>({1}, {1}), 0).loss.item() == doctest::Approx(std::log(2.0)));
  CHECK(run(logits, Tensor::from<float>({0.5f, 0.5f, 0}, {1, 3}), 0).loss.item() ==
        doctest::Approx(std::log(2.0)));
  CHECK(run(logits, Tensor::from<int64_t>({2}, {1}), 0).loss.item() == double(inf));
  CHECK(run(logits, Tensor::from<int64_t>({1}, {1}), 0.1).loss.item() == double(inf));
}

TEST_CASE("labels may be overwritten before backward") {
  const Tensor labels = Tensor::from<int64_t>({2, 0}, {2});
  Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  x.set_requires_grad(true);
  Tape tape;
  const Tensor loss = cross_entropy(x, labels);
  labels.data<int64_t>()[0] = 1;
  tape.backward(loss);
  CHECK(x.grad().data<float>()[1] > 0);
  CHECK(x.grad().data<float>()[2] < 0);
}
