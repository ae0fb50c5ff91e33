// Kernels whose blocks join their results, with as many blocks as on a GPU of 132 multiprocessors: then a
// thread joins those of several blocks. The emulated device has four elsewhere.
#include <cmath>
#include <vector>

#include "support/batch_norm_problem.h"
#include "support/test_device.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/metrics.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

[[maybe_unused]] const bool is_set = emulate_multiprocessors(132);

struct Shape {
  int64_t rows, channels;
};
// Wide and narrow loads, slices that hang over, numbers of rows that no number of blocks divides.
const std::vector<Shape> kShapes = {{2003, 67}, {17000, 64}, {9001, 72}};

}  // namespace

TEST_CASE_TEMPLATE("batch norm's reductions over many blocks", T, float, bf16) {
  Random random;
  INFO(random.seed());
  for (const auto& shape : kShapes) {
    const int64_t rows = shape.rows, channels = shape.channels;
    CAPTURE(rows);
    CAPTURE(channels);
    const std::vector<T> x = random.normal<T>(rows * channels, 0.5, 2);
    DeviceArray<T> x_d(x);
    DeviceArray<float> mean_d(channels), var_d(channels), dweight_d(channels), dbias_d(channels);
    cuda::table<T>().batch_norm_stats(rows, channels, x_d.data(), mean_d.data(), var_d.data());
    const size_t c = size_t(channels);
    const std::vector<double> x_w = to_double(x);
    std::vector<double> mean(c), var(c), dweight(c), dbias(c);
    reference<double>().batch_norm_stats(rows, channels, x_w.data(), mean.data(), var.data());
    CHECK(distance(mean_d.host(), mean) < 1e-5);
    CHECK(distance(var_d.host(), var) < 1e-5);

    BatchNormProblem<T> p(random, {rows, channels});
    DeviceArray<T> dy_d(p.dy);
    for (const Activation act :
         {Activation::mish, Activation::prelu, Activation::srelu, Activation::swish_beta}) {
      CAPTURE(activation_name(act));
      LearnedGradients learned(act, channels);
      cuda::table<T>().batch_norm_backward_reduce(p.device(act, false), dy_d.data(), nullptr,
                                                  dweight_d.data(), dbias_d.data(), learned.device);
      reference<double>().batch_norm_backward_reduce(p.oracle(act, false), p.dy_w.data(), nullptr,
                                                     dweight.data(), dbias.data(), learned.oracle);
      CHECK(distance(dweight_d.host(), dweight) < 1e-5);
      CHECK(distance(dbias_d.host(), dbias) < 1e-5);
      for (size_t k = 0; k < learned.arrays.size(); ++k)
        CHECK(distance(learned.arrays[k]->host(), learned.expected[k]) < 1e-5);
    }
  }
}

TEST_CASE("a loss and its metrics over many blocks") {
  Random random;
  INFO(random.seed());
  const int64_t rows = 5003, classes = 10;
  const std::vector<float> logits = random.normal<float>(rows * classes);
  std::vector<int64_t> labels(static_cast<size_t>(rows)), best(labels.size());
  for (int64_t& label : labels) label = random.below(classes);
  const std::vector<double> logits_w = to_double(logits);
  std::vector<double> log_p(logits.size());
  double loss = 0, correct = 0;
  reference<double>().cross_entropy_forward(
      {.rows = rows, .classes = classes, .logits = logits_w.data(), .labels = labels.data()}, log_p.data(),
      &loss);
  reference<double>().argmax(rows, classes, logits_w.data(), best.data());
  for (size_t i = 0; i < labels.size(); ++i) correct += best[i] == labels[i];

  DeviceArray<float> logits_d(logits), log_p_d(rows * classes), loss_d(1);
  DeviceArray<int64_t> labels_d(labels);
  DeviceArray<double> totals(std::vector<double>(4, 0));
  cuda::table<float>().cross_entropy_forward(
      {.rows = rows, .classes = classes, .logits = logits_d.data(), .labels = labels_d.data()},
      log_p_d.data(), loss_d.data());
  cuda::accumulate_metrics(rows, classes, logits_d.data(), labels_d.data(), loss_d.data(), totals.data());
  CHECK(distance(log_p_d.host(), log_p) < 1e-5);
  CHECK(distance(loss_d.host(), {loss}) < 1e-5);
  CHECK(totals.host()[1] == correct);
  CHECK(totals.host()[2] == double(rows));
}
