// First and second derivatives of all losses against finite differences, in f64 within a chain of ops;
// extremes; errors.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "support/errors.h"
#include "support/gradients.h"
#include "weft/weft.h"

using namespace weft;
using namespace weft::test;

namespace {

/// Checks the gradients of the first `wanted` inputs, with a random gradient from above and scaled below.
void check_gradients(size_t wanted, const std::function<Tensor(const Inputs&)>& f, const Inputs& inputs) {
  for (size_t i = 0; i < wanted; ++i) inputs[i].set_requires_grad(true);
  const auto chain = [&](const Inputs& leaves) {
    Inputs scaled = leaves;
    for (size_t i = 0; i < wanted; ++i) scaled[i] = affine(leaves[i], 1.25, 0.01);
    return mish(affine(f(scaled), 0.5));
  };
  for (const GradcheckResult& result : {gradcheck(f, inputs), gradcheck(chain, inputs),
                                        gradgradcheck(f, inputs), gradgradcheck(chain, inputs)})
    CHECK_MESSAGE(result.ok, result.message);
}

constexpr Reduction kReductions[] = {Reduction::mean, Reduction::sum, Reduction::none, Reduction::batchmean};

/// The loss and its gradient at one logit, in f32.
struct Point {
  float loss, slope;
};
Point at(float x, const std::function<Tensor(const Tensor&)>& f) {
  const Tensor t = Tensor::from<float>({x}, {1});
  t.set_requires_grad(true);
  Tape tape;
  const Tensor loss = f(t);
  tape.backward(sum(loss));
  return {loss.data<float>()[0], t.grad().data<float>()[0]};
}

const float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_CASE("gradients of losses of distances") {
  for (const Reduction r : kReductions) {
    const Inputs in = {normal({3, 5}), normal({3, 5})};
    check_gradients(
        2, [=](const Inputs& x) { return l1_loss(x[0], x[1], r); }, in);
    check_gradients(
        2, [=](const Inputs& x) { return mse_loss(x[0], x[1], r); }, in);
    check_gradients(
        2, [=](const Inputs& x) { return huber_loss(x[0], x[1], 0.7, r); }, in);
    check_gradients(
        2, [=](const Inputs& x) { return smooth_l1_loss(x[0], x[1], 0.7, r); }, in);
    check_gradients(
        2, [=](const Inputs& x) { return smooth_l1_loss(x[0], x[1], 0, r); }, in);
  }
}

TEST_CASE("gradients of binary losses") {
  for (const Reduction r : kReductions) {
    const Tensor weight = exp(normal({3, 1})), pos_weight = exp(normal({5}));
    const Inputs in = {normal({3, 5}, 2), sigmoid(normal({3, 5}, 2))};
    check_gradients(
        2, [=](const Inputs& x) { return binary_cross_entropy_with_logits(x[0], x[1], {.reduction = r}); },
        in);
    check_gradients(4,
                    [=](const Inputs& x) {
                      return binary_cross_entropy_with_logits(
                          x[0], x[1], {.weight = x[2], .pos_weight = x[3], .reduction = r});
                    },
                    {in[0], in[1], weight, pos_weight});
    for (const double gamma : {0.0, 0.5, 1.0, 2.0, 2.7})
      for (const double alpha : {0.25, -1.0}) {
        CAPTURE(gamma);
        check_gradients(
            2,
            [=](const Inputs& x) {
              return sigmoid_focal_loss(x[0], x[1], {.alpha = alpha, .gamma = gamma, .reduction = r});
            },
            in);
      }
  }
}

TEST_CASE("gradients of losses over classes") {
  const Tensor labels = Tensor::from<int64_t>({3, 0, 6, 3, 1}, {5}), soft = softmax(normal({5, 7})),
               weight = exp(normal({7}));
  for (const Reduction r : kReductions) {
    check_gradients(1,
                    [=](const Inputs& x) {
                      return nll_loss(x[0], labels, {.weight = weight, .ignore_index = 3, .reduction = r});
                    },
                    {normal({5, 7})});
    for (const Tensor& target : {labels, soft}) {
      check_gradients(1,
                      [=](const Inputs& x) {
                        return cross_entropy(x[0], target,
                                             {.label_smoothing = 0.1, .weight = weight, .reduction = r});
                      },
                      {normal({5, 7}, 2)});
      for (const double gamma : {0.0, 0.5, 1.0, 2.0, 2.7})
        check_gradients(1,
                        [=](const Inputs& x) {
                          return softmax_focal_loss(
                              x[0], target,
                              {.gamma = gamma, .weight = weight, .label_smoothing = 0.1, .reduction = r});
                        },
                        {normal({5, 7}, 2)});
    }
    const Tensor log_p = log_softmax(normal({5, 7}));
    check_gradients(2, [=](const Inputs& x) { return kl_div(x[0], x[1], {.reduction = r}); },
                    {log_p, soft.clone()});
    check_gradients(2,
                    [=](const Inputs& x) { return kl_div(x[0], x[1], {.log_target = true, .reduction = r}); },
                    {log_p.clone(), log_softmax(normal({5, 7}))});
  }
}

TEST_CASE("reductions of one loss agree") {
  const Tensor x = normal({4, 3}), y = normal({4, 3});
  const double all = l1_loss(x, y, Reduction::sum).item();
  CHECK(sum(l1_loss(x, y, Reduction::none)).item() == doctest::Approx(all));
  CHECK(l1_loss(x, y).item() == doctest::Approx(all / 12));
  CHECK(l1_loss(x, y, Reduction::batchmean).item() == doctest::Approx(all / 4));
}

TEST_CASE("binary losses are exact for logits of any size") {
  const auto binary = [](float y, double gamma) {
    return [=](const Tensor& x) {
      return sigmoid_focal_loss(x, Tensor::from<float>({y}, {1}), {.alpha = -1, .gamma = gamma});
    };
  };
  for (const double gamma : {0.0, 0.5, 1.0, 2.0, 3.3})
    for (const float x : {1e4f, 1e30f}) {
      CAPTURE(gamma);
      CAPTURE(x);
      for (const float y : {0.0f, 1.0f}) {
        const float toward = y == 1 ? x : -x;
        const Point right = at(toward, binary(y, gamma)), wrong = at(-toward, binary(y, gamma));
        CHECK(right.loss == 0);
        CHECK(right.slope == 0);
        CHECK(wrong.loss == doctest::Approx(x));
        CHECK(wrong.slope == (y == 1 ? -1 : 1));
      }
    }
  // Easy examples keep their small losses and slopes, which a difference of large numbers would lose.
  const Point easy = at(-20, binary(0, 0));
  CHECK(easy.loss == doctest::Approx(std::log1p(std::exp(-20.0))).epsilon(1e-6));
  CHECK(easy.slope == doctest::Approx(1 / (1 + std::exp(20.0))).epsilon(1e-6));
  for (const double gamma : {0.0, 0.5, 2.0}) {
    CHECK(at(kInf, binary(0, gamma)).loss == kInf);
    CHECK(at(-kInf, binary(1, gamma)).loss == kInf);
    CHECK(std::isnan(at(kNan, binary(1, gamma)).loss));
    CHECK(std::isnan(at(kNan, binary(0, gamma)).slope));
  }
}

TEST_CASE("losses over classes where some are impossible, certain or not a number") {
  for (const double gamma : {0.0, 0.5, 1.0, 2.0, 3.3}) {
    CAPTURE(gamma);
    const auto loss_of = [&](const std::vector<float>& row, int64_t label, Tensor* slopes = nullptr) {
      const Tensor x = Tensor::from<float>(row, {1, int64_t(row.size())});
      x.set_requires_grad(true);
      Tape tape;
      const Tensor loss = softmax_focal_loss(x, Tensor::from<int64_t>({label}, {1}), {.gamma = gamma});
      tape.backward(loss);
      if (slopes) *slopes = x.grad();
      return loss.item();
    };
    Tensor slopes;
    CHECK(loss_of({0, 0, -kInf}, 0, &slopes) == doctest::Approx(std::log(2.0) * std::pow(0.5, gamma)));
    for (int i = 0; i < 3; ++i) CHECK(std::isfinite(slopes.data<float>()[i]));
    CHECK(slopes.data<float>()[2] == 0);
    CHECK(loss_of({0, 0, -kInf}, 2) >= double(std::numeric_limits<float>::max()));
    CHECK(loss_of({1e4f, 0, -1e4f}, 0, &slopes) == 0);
    for (int i = 0; i < 3; ++i) CHECK(slopes.data<float>()[i] == 0);
    CHECK(loss_of({1e4f, 0, -1e4f}, 2, &slopes) == doctest::Approx(2e4));
    for (int i = 0; i < 3; ++i) CHECK(std::isfinite(slopes.data<float>()[i]));
    CHECK(std::isnan(loss_of({0, kNan, 0}, 0)));
  }
  const Tensor log_p = Tensor::from<float>({0, -kInf}, {1, 2});
  CHECK(nll_loss(log_p, Tensor::from<int64_t>({0}, {1})).item() == 0);
  CHECK(kl_div(log_p, Tensor::from<float>({1, 0}, {1, 2})).item() == 0);
  CHECK(kl_div(log_p, log_p, {.log_target = true}).item() == 0);
  const Tensor rows = Tensor::from<float>({0, -kInf, 0, 0}, {2, 2});
  const Tensor labels = Tensor::from<int64_t>({0, 1}, {2});
  for (const Reduction r : {Reduction::mean, Reduction::sum})
    CHECK(cross_entropy(rows, labels, {.weight = Tensor::ones({2}), .reduction = r}).item() ==
          doctest::Approx(std::log(2.0) / (r == Reduction::mean ? 2 : 1)));
  // Nothing is left of the batch: no number, but no gradient either, as in PyTorch.
  const Tensor ignored = Tensor::from<int64_t>({7, 7}, {2}), logits = rows.clone();
  logits.set_requires_grad();
  for (const bool plain : {true, false}) {
    CAPTURE(plain);
    logits.zero_grad();
    Tape tape;
    const Tensor loss = plain ? cross_entropy(logits, ignored, {.ignore_index = 7})
                              : nll_loss(log_softmax(logits), ignored, {.ignore_index = 7});
    CHECK(std::isnan(loss.item()));
    tape.backward(loss);
    for (const float g : logits.grad().to_vector<float>()) CHECK(g == 0);
  }
}

TEST_CASE("the loss of an impossible label is infinite, and its gradient that of a possible one") {
  const Tensor label = Tensor::from<int64_t>({0}, {1}), hot = Tensor::from<float>({1, 0, 0}, {1, 3});
  using Loss = std::function<Tensor(const Tensor&)>;
  const auto check = [](const Loss& loss, const Tensor& values, const std::vector<double>& slopes) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      const Tensor x = values.clone().to(dtype);
      x.set_requires_grad(true);
      Tape tape;
      const Tensor y = sum(loss(x));
      CHECK(y.item() == double(kInf));
      const Tensor dx = tape.grad(y, {x}, {.create_graph = true})[0];
      tape.backward(y);
      for (size_t i = 0; i < slopes.size(); ++i) {
        CHECK(x.grad().at(int64_t(i)) == doctest::Approx(slopes[i]).epsilon(1e-4));
        CHECK(dx.at(int64_t(i)) == doctest::Approx(slopes[i]).epsilon(1e-4));
      }
    }
  };
  const Tensor logits = Tensor::from<float>({-kInf, 1, 2}, {1, 3});
  check([&](const Tensor& x) { return cross_entropy(x, label, {.reduction = Reduction::none}); }, logits,
        {-1, 0.26894, 0.73106});
  const Tensor log_p = Tensor::from<float>({-1, -2, -3, -3, -1, -kInf}, {2, 3});
  check(
      [](const Tensor& x) {
        return nll_loss(x, Tensor::from<int64_t>({0, 2}, {2}));
      },
      log_p, {-0.5, 0, 0, 0, 0, -0.5});
  check([&](const Tensor& x) { return kl_div(x, hot, {.reduction = Reduction::sum}); }, logits, {-1, 0, 0});
  for (const double gamma : {0.0, 0.5, 1.0, 2.0, 3.3}) {
    CAPTURE(gamma);
    const Tensor x = logits.clone();
    x.set_requires_grad(true);
    Tape tape;
    const Tensor loss = softmax_focal_loss(x, label, {.gamma = gamma});
    CHECK(loss.item() == double(kInf));
    tape.backward(loss);
    CHECK(x.grad().at(0) == doctest::Approx(-1));
    CHECK(x.grad().at(1) == doctest::Approx(0.26894).epsilon(1e-4));
  }
  // The smallest of weights is one.
  const Tensor least = Tensor::from<float>({std::numeric_limits<float>::denorm_min(), 0, 1}, {1, 3});
  CHECK(kl_div(logits, least).item() == double(kInf));
}

TEST_CASE("losses of distances at infinity and NaN") {
  const auto huber = [](const Tensor& x) { return huber_loss(x, Tensor::zeros({1}), 2); };
  CHECK(at(kInf, huber).loss == kInf);
  CHECK(at(kInf, huber).slope == 2);
  CHECK(at(-1e30f, huber).loss == doctest::Approx(2e30));
  CHECK(at(0, huber).slope == 0);
  CHECK(std::isnan(at(kNan, huber).loss));
  // A parabola in the middle, also where it is lowest.
  const Tensor zero = Tensor::zeros({1}, DType::f64);
  const auto curvature = [&](auto loss) { return hessian(loss, zero).item(); };
  CHECK(curvature([&](const Tensor& x) { return huber_loss(x, zero, 0.5); }) == 1);
  CHECK(curvature([&](const Tensor& x) { return smooth_l1_loss(x, zero, 0.5); }) == 2);
}

TEST_CASE("focal losses without gamma and weights are cross entropy") {
  const Tensor x = normal({5, 7}, 2), labels = Tensor::from<int64_t>({3, 0, 6, 3, 1}, {5});
  CHECK(softmax_focal_loss(x, labels, {.gamma = 0, .label_smoothing = 0.1}).item() ==
        doctest::Approx(cross_entropy(x, labels, {.label_smoothing = 0.1}).item()).epsilon(1e-12));
  const Tensor hot = one_hot(labels, 7, DType::f64);
  CHECK(sigmoid_focal_loss(x, hot, {.alpha = -1, .gamma = 0, .reduction = Reduction::mean}).item() ==
        doctest::Approx(binary_cross_entropy_with_logits(x, hot).item()).epsilon(1e-12));
  CHECK(mean(square(sub(softmax(log(hot + 1e-300)), hot))).item() < 1e-20);  // one 1 in each row
}

TEST_CASE("errors of losses") {
  const Tensor x = Tensor::zeros({2, 3}), y = Tensor::zeros({3, 2}), labels = Tensor::zeros({2}, DType::i64);
  CHECK_ERROR(l1_loss(x, y), "l1_loss: input [2, 3] and target [3, 2] must have one shape");
  CHECK_ERROR(huber_loss(x, x, 0), "huber_loss: delta 0 must be above 0");
  CHECK_ERROR(smooth_l1_loss(x, x, -1), "smooth_l1_loss: beta -1");
  CHECK_ERROR(binary_cross_entropy_with_logits(x, y), "must have one shape");
  CHECK_ERROR(binary_cross_entropy_with_logits(labels, labels), "one_hot() makes them of labels");
  CHECK_ERROR(binary_cross_entropy_with_logits(x, x, {.pos_weight = Tensor::ones({2})}),
              "pos_weight [2] does not stretch to the logits' [2, 3]");
  CHECK_ERROR(binary_cross_entropy_with_logits(x, x, {.weight = Tensor::ones({4, 2, 3})}),
              "weight [4, 2, 3] does not stretch");
  CHECK_ERROR(sigmoid_focal_loss(x, x, {.alpha = 1.5}), "alpha 1.5 must be between 0 and 1");
  CHECK_ERROR(sigmoid_focal_loss(x, x, {.gamma = -1}), "gamma -1 must be 0 or more");
  CHECK_ERROR(softmax_focal_loss(x, labels, {.gamma = kNan}), "gamma nan");
  CHECK_ERROR(softmax_focal_loss(x, labels, {.weight = Tensor::ones({2})}), "weight has shape [2] but there");
  CHECK_ERROR(softmax_focal_loss(x, labels, {.label_smoothing = 2}), "label_smoothing 2");
  CHECK_ERROR(softmax_focal_loss(x, y), "the target is f32 [3, 2]");
  CHECK_ERROR(nll_loss(x, x), "nll_loss: labels are i64, not f32");
  CHECK_ERROR(nll_loss(x, Tensor::full({2}, 3, DType::i64)), "label 3 of row 0 is not one of the 3 classes");
  CHECK_ERROR(nll_loss(x, Tensor::full({2}, 4, DType::i64), {.ignore_index = 3}), "label 4");
  CHECK_ERROR(cross_entropy(x, x, {.ignore_index = 3}), "ignore_index is for labels");
  CHECK_ERROR(cross_entropy(x, labels, {.weight = Tensor::ones({4})}), "cross_entropy: weight has shape [4]");
  CHECK_ERROR(kl_div(x, y), "kl_div: input [2, 3]");
  CHECK_ERROR(mse_loss(Tensor::scalar(1), Tensor::scalar(2), Reduction::batchmean), "reduction batchmean");
  CHECK_ERROR(one_hot(labels, 0), "at least one class");
  CHECK_ERROR(one_hot(x, 3), "one_hot: labels are i64");
}
