// Dynamic loss scaling on the CPU; cuda_optim_test.cpp holds the GPU to it.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "support/errors.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/tape.h"
#include "weft/optim/optim.h"

using namespace weft;
using namespace weft::optim;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
Tensor leaf(const Tensor& t) { return t.set_requires_grad(); }

/// A scaler whose scale a test changes by steps with and without infinity.
struct Steps {
  Tensor p = leaf(Tensor::zeros({2}));
  SGD optimizer{{{"p", p}}, {.lr = 1}};
  GradScaler scaler;
  explicit Steps(const GradScalerOptions& options) : scaler(Device::cpu, options) {}
  /// The scale after a step with that gradient, which is the one of the scaled loss.
  double run(float gradient) {
    p.set_grad(Tensor::from({gradient, 0.0f}, {2}));
    scaler.step(optimizer);
    scaler.update();
    return scaler.scale();
  }
};

}  // namespace

TEST_CASE("the scale grows after growth_interval good steps and shrinks with every bad one") {
  Steps s({.init_scale = 8, .growth_factor = 4, .backoff_factor = 0.25, .growth_interval = 3});
  CHECK(s.scaler.scale() == 8);
  CHECK(s.run(1) == 8);
  CHECK(s.run(1) == 8);
  CHECK(s.run(1) == 32);
  CHECK(s.run(1) == 32);
  CHECK(s.run(1) == 32);
  CHECK(s.run(-kInf) == 8);  // and the count starts anew
  CHECK(s.run(1) == 8);
  CHECK(s.run(1) == 8);
  CHECK(s.run(NAN) == 2);
  CHECK(s.run(kInf) == 0.5);
  CHECK(s.scaler.skipped() == 3);
  CHECK(s.optimizer.steps() == 7);
  // The defaults are PyTorch's.
  CHECK(GradScaler().scale() == 65536);
  const GradScalerOptions o;
  CHECK(o.growth_factor == 2);
  CHECK(o.backoff_factor == 0.5);
  CHECK(o.growth_interval == 2000);
}

TEST_CASE("a scale that would become infinite stays") {
  Steps s({.init_scale = 3e38, .growth_interval = 1});
  const double scale = s.scaler.scale();
  CHECK(s.run(0) == scale);
  CHECK(s.run(kInf) == scale / 2);
}

TEST_CASE("a step uses the gradients divided by the scale, and is left out where one is not finite") {
  Steps s({.init_scale = 16});
  s.run(16);
  CHECK(s.p.at(0) == -1);
  s.run(kInf);
  CHECK(s.p.at(0) == -1);
  CHECK(s.p.at(1) == 0);
  s.run(4);  // the scale is 8 now
  CHECK(s.p.at(0) == -1.5);
}

TEST_CASE("through the tape the scaled loss gives the same step as the loss") {
  const auto trained = [](bool scaled) {
    const Tensor w = leaf(Tensor::from({0.5f, -1.0f, 2.0f}, {3})), x = Tensor::from({1.0f, 2.0f, 3.0f}, {3});
    SGD optimizer({{"w", w}}, {.lr = 0.125, .momentum = 0.5});
    GradScaler scaler(Device::cpu, {.init_scale = 1024});
    for (int i = 0; i < 4; ++i) {
      Tape tape;
      const Tensor loss = sum(square(mul(w, x)));
      if (scaled) {
        const Tensor large = scaler.scale(loss);
        CHECK(large.item() == 1024 * loss.item());
        tape.backward(large);
        scaler.unscale_(optimizer);
        clip_grad_norm_(optimizer.parameters(), 3);
        scaler.step(optimizer);
        scaler.update();
      } else {
        tape.backward(loss);
        clip_grad_norm_(optimizer.parameters(), 3);
        optimizer.step();
      }
      optimizer.zero_grad();
    }
    return w.to_vector<float>();
  };
  CHECK(trained(true) == trained(false));  // a power of two rounds nothing
}

TEST_CASE("f64 gradients, parameters without one, and two optimizers") {
  const Tensor p = leaf(Tensor::zeros({2}, DType::f64)), q = leaf(Tensor::zeros({1}));
  SGD a({{"p", p}, {"none", leaf(Tensor::zeros({3}))}}, {.lr = 1}), b({{"q", q}}, {.lr = 1});
  GradScaler scaler(Device::cpu, {.init_scale = 4});
  p.set_grad(Tensor::full({2}, 1, DType::f64));
  q.set_grad(Tensor::full({1}, kInf));
  scaler.unscale_(b);
  scaler.step(a);  // what was found in b holds for b only
  scaler.step(b);
  CHECK(p.at(0) == -0.25);
  CHECK(q.at(0) == 0);
  scaler.update();
  CHECK(scaler.scale() == 2);
  CHECK(scaler.skipped() == 1);
  p.set_grad(Tensor::full({2}, 1, DType::f64));
  q.set_grad(Tensor::full({1}, 1));
  scaler.step(a);
  scaler.step(b);
  scaler.update();
  CHECK(p.at(1) == -0.75);
  CHECK(q.at(0) == -0.5);
  CHECK(scaler.scale() == 2);
}

TEST_CASE("more optimizers than a scaler has places for are refused") {
  GradScaler scaler;
  std::vector<std::unique_ptr<SGD>> all;
  for (int i = 0; i < 17; ++i)
    all.push_back(std::make_unique<SGD>(std::vector<Parameter>{{"p", leaf(Tensor::zeros({1}))}}));
  for (int i = 0; i < 16; ++i) scaler.step(*all[size_t(i)]);
  CHECK_ERROR(scaler.step(*all[16]), "sgd is one optimizer more than the 16 that a scaler can serve");
}

TEST_CASE("after an error between unscale_ and update the scaler is ready again") {
  Steps s({.init_scale = 16});
  s.p.set_grad(Tensor::from({kInf, 0.0f}, {2}));
  s.scaler.unscale_(s.optimizer);
  s.scaler.discard();
  CHECK(s.run(16) == 16);  // neither is the infinity found, nor are the gradients taken as divided
  CHECK(s.p.at(0) == -1);
  CHECK(s.scaler.skipped() == 0);
}

TEST_CASE("state is saved and loaded") {
  Steps first({.init_scale = 8, .growth_interval = 2}), second({.init_scale = 8, .growth_interval = 2});
  first.run(kInf);
  first.run(1);
  second.scaler.load_state_dict(first.scaler.state_dict());
  CHECK(second.scaler.scale() == 4);
  CHECK(second.scaler.skipped() == 1);
  CHECK(second.run(1) == 8);
  CHECK(first.scaler.scale() == 4);
  StateDict bad = first.scaler.state_dict();
  bad[0].first = "scal";
  CHECK_ERROR(second.scaler.load_state_dict(bad), "grad_scaler: the loaded state has no 'scale'");
  bad.pop_back();
  CHECK_ERROR(second.scaler.load_state_dict(bad), "has 3 tensors, not 4");
  const std::pair<size_t, double> wrong[] = {{0, 0},  {0, std::nan("")}, {0, kInf}, {1, -1},
                                             {2, -1}, {2, 0x1p62},       {3, 5}};
  for (const auto& change : wrong) {
    CAPTURE(change.first);
    StateDict other = clone(first.scaler.state_dict());
    other[change.first].second.fill(change.second);
    CHECK_ERROR(second.scaler.load_state_dict(other), "grad_scaler: the loaded state is of no scaler");
  }
  CHECK(second.scaler.scale() == 8);
}

TEST_CASE("misuse is refused") {
  Steps s({});
  s.p.set_grad(Tensor::ones({2}));
  s.scaler.unscale_(s.optimizer);
  CHECK_ERROR(s.scaler.unscale_(s.optimizer), "the gradients of sgd are unscaled already");
  s.scaler.step(s.optimizer);
  s.p.set_grad(Tensor::full({2}, 65536));
  CHECK_ERROR(s.scaler.step(s.optimizer), "step() of sgd was called already since the last update()");
  CHECK_ERROR(s.scaler.unscale_(s.optimizer), "the gradients of sgd are unscaled already");
  CHECK(s.p.at(0) > -1);
  s.scaler.update();
  s.scaler.step(s.optimizer);
  CHECK(s.p.at(0) < -1);
  CHECK_ERROR(s.scaler.scale(Tensor::zeros({2})), "the loss must be an f32 scalar on cpu; it is f32 [2]");
  CHECK_ERROR(GradScaler(Device::cpu, {.init_scale = 0}), "init_scale is 0");
  CHECK_ERROR(GradScaler(Device::cpu, {.growth_factor = 0.5}), "growth_factor is 0.5");
  CHECK_ERROR(GradScaler(Device::cpu, {.backoff_factor = 1}), "backoff_factor is 1");
  CHECK_ERROR(GradScaler(Device::cpu, {.growth_interval = 0}), "growth_interval is 0");
}
