// Every optimizer against a reference: PyTorch's, or the authors' formulas where PyTorch has none
// (golden/make_optim_golden.py says which); and gradient clipping against its definition.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "support/errors.h"
#include "support/golden.h"
#include "support/optim_problem.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/reduce.h"

using namespace weft;
using namespace weft::optim;
using weft::testing::Problem;

namespace {

const StateDict& golden_file() {
  static const StateDict dict = load_safetensors(WEFT_TEST_DIR "/golden/optim.safetensors");
  return dict;
}

/// The tensor as a trained parameter.
Tensor leaf(const Tensor& t) { return t.set_requires_grad(); }

/// One trajectory: the optimizer with options for the first group, then the same with 0.3 times the rate and
/// no decay.
struct TrajectoryCase {
  const char* name;
  std::function<std::unique_ptr<Optimizer>(const Problem&)> make;
  bool missing = false, zero_first = false, one_cycle = false;
};

template <class Opt, class Options>
std::unique_ptr<Opt> two_groups(const Problem& problem, Options options) {
  auto optimizer = std::make_unique<Opt>(problem.group0(), options);
  options.lr *= 0.3;
  options.weight_decay = 0;
  optimizer->add_group(problem.group1(), options);
  return optimizer;
}

template <class Opt, class Options>
TrajectoryCase of(const char* name, const Options& options) {
  return {name, [options](const Problem& p) { return two_groups<Opt>(p, options); }};
}
template <class Opt, class Options>
TrajectoryCase in_lookahead(const char* name, const Options& options, const LookaheadOptions& lookahead) {
  return {name, [=](const Problem& p) {
            return std::make_unique<Lookahead>(two_groups<Opt>(p, options), lookahead);
          }};
}
TrajectoryCase missing(TrajectoryCase c) { return c.missing = true, c; }
TrajectoryCase zero_first(TrajectoryCase c) { return c.zero_first = true, c; }
TrajectoryCase with_one_cycle(TrajectoryCase c) { return c.one_cycle = true, c; }

std::vector<TrajectoryCase> trajectories() {
  const AdamOptions adam{.lr = 0.02, .betas = {0.9, 0.99}, .weight_decay = 0.01};
  const RAdamOptions radam{.lr = 0.02, .betas = {0.9, 0.99}, .weight_decay = 0.01};
  const RAdamOptions radamw{
      .lr = 0.02, .betas = {0.9, 0.99}, .weight_decay = 0.05, .decoupled_weight_decay = true};
  RAdamOptions threshold4 = radamw;
  threshold4.threshold = 4;
  const RangerOptions ranger{.lr = 0.02, .betas = {0.95, 0.99}, .eps = 1e-6, .weight_decay = 0.05};
  const NovoGradOptions novograd{.lr = 0.02, .weight_decay = 0.01};
  const RangerLarsOptions published{.lr = 0.02, .betas = {0.9, 0.99}, .eps = 1e-6, .weight_decay = 0.05};
  RangerLarsOptions fixed = kRangerLarsFixed;
  fixed.lr = 0.02, fixed.betas = {0.9, 0.99}, fixed.eps = 1e-6, fixed.weight_decay = 0.05;
  const SGDOptions sgdw{.lr = 0.05, .momentum = 0.9, .decoupled_weight_decay = true};
  SGDOptions sgd_decoupled = sgdw;
  sgd_decoupled.weight_decay = 0.05;
  return {
      of<SGD>("sgd", SGDOptions{.lr = 0.05}),
      of<SGD>("sgd_momentum",
              SGDOptions{.lr = 0.05, .momentum = 0.9, .dampening = 0.1, .weight_decay = 0.01}),
      of<SGD>("sgd_nesterov",
              SGDOptions{.lr = 0.05, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true}),
      missing(of<SGD>("sgd_missing",
                      SGDOptions{.lr = 0.05, .momentum = 0.9, .dampening = 0.5, .weight_decay = 0.01})),
      of<SGD>("sgd_decoupled", sgd_decoupled),
      with_one_cycle(of<SGD>("sgd_one_cycle", SGDOptions{.lr = 0.02, .momentum = 0.9, .weight_decay = 0.01})),
      of<Adam>("adam", adam),
      missing(of<Adam>("adam_missing", adam)),
      with_one_cycle(of<Adam>("adam_one_cycle", adam)),
      of<AdamW>("adamw", AdamWOptions{.lr = 0.02, .betas = {0.9, 0.99}, .weight_decay = 0.05}),
      of<RAdam>("radam", radam),
      of<RAdam>("radam_decoupled", radamw),
      missing(of<RAdam>("radam_missing", radam)),
      of<RAdam>("radam_threshold4", threshold4),
      in_lookahead<Adam>("lookahead_adam", adam, {.k = 5}),
      in_lookahead<Adam>("lookahead_adam_lazy", adam, {.lazy = true}),
      in_lookahead<SGD>("lookahead_sgd", sgdw, {.k = 5, .alpha = 0.8}),
      of<Ranger>("ranger", ranger),
      missing(of<Ranger>("ranger_missing", ranger)),
      of<NovoGrad>("novograd", novograd),
      zero_first(of<NovoGrad>("novograd_zero_first", novograd)),
      zero_first(of<NovoGrad>("novograd_over9000", NovoGradOptions{.lr = 0.02,
                                                                   .betas = {0.9, 0.99},
                                                                   .weight_decay = 0.01,
                                                                   .grad_averaging = true,
                                                                   .restart_at_zero = true})),
      of<LARS>("lars", LARSOptions{.lr = 0.5, .weight_decay = 0.01, .trust_coefficient = 0.02}),
      of<LARS>("lars_clip",
               LARSOptions{.lr = 0.05, .weight_decay = 0.01, .trust_coefficient = 0.5, .clip = true}),
      of<RangerLars>("rangerlars_published", published),
      of<RangerLars>("rangerlars_fixed", fixed),
  };
}

/// Runs 100 steps and compares the stored ones.
void compare(const TrajectoryCase& c, DType dtype, const golden::Tolerance& tolerance) {
  const Tensor stored = find(golden_file(), concat("optimizer/", c.name));
  REQUIRE(stored.defined());
  Problem problem(dtype);
  problem.missing = c.missing;
  problem.zero_first = c.zero_first;
  const auto optimizer = c.make(problem);
  const Schedule schedule = one_cycle({.div_factor = 10});
  INFO(c.name, " in ", dtype);
  CHECK(weft::testing::trajectory_difference(problem, *optimizer, stored, tolerance,
                                             c.one_cycle ? &schedule : nullptr) == "");
}

}  // namespace

TEST_CASE("100 steps in f64 are those of PyTorch or of the authors' formulas") {
  for (const TrajectoryCase& c : trajectories()) compare(c, DType::f64, {.rtol = 1e-9, .atol = 1e-11});
}

TEST_CASE("100 steps in f32 stay within rounding of them") {
  for (const TrajectoryCase& c : trajectories()) compare(c, DType::f32, {.rtol = 2e-5, .atol = 2e-6});
}

TEST_CASE("every stored trajectory has a test") {
  const auto cases = trajectories();
  for (const auto& stored : golden_file()) {
    const std::string& name = stored.first;
    if (name.rfind("optimizer/", 0) != 0) continue;
    bool tested = false;
    for (const TrajectoryCase& c : cases) tested = tested || name == concat("optimizer/", c.name);
    CHECK_MESSAGE(tested, name);
  }
}

TEST_CASE("radam_step has the published switch and values") {
  // The first adaptive update is the sixth with threshold 5, the fifth with the paper's 4.
  for (int64_t t = 1; t <= 10; ++t) {
    CHECK(radam_step(t, {0.9, 0.999}).adaptive == (t >= 6));
    CHECK(radam_step(t, {0.9, 0.999}, 4).adaptive == (t >= 5));
  }
  CHECK(radam_step(1, {0.9, 0.999}).size == doctest::Approx(10));
  // Far out the rectifier is 1 and nothing needs debiasing.
  CHECK(radam_step(100000, {0.9, 0.999}).size == doctest::Approx(1).epsilon(1e-9));
  // A short memory of squares is never long enough to trust.
  CHECK(!radam_step(1000, {0.9, 0.6}).adaptive);
}

TEST_CASE("RangerLars as published damps large tensors only; as intended it follows the layer") {
  // One update with all gradients equal: in the first five updates RAdam's direction is the gradient itself.
  const auto moved = [](TrustRatio form, double weight) {
    const Tensor p = leaf(Tensor::full({100}, weight, DType::f64));  // its norm is 10 * weight
    Ralamb optimizer({{"p", p}}, {.lr = 0.01, .trust_ratio = form});
    p.set_grad(Tensor::full({100}, 0.5, DType::f64));
    optimizer.step();
    return weight - p.at(0);
  };
  // Ratio |p| / |p'|: about 1.
  CHECK(moved(TrustRatio::published, 0.5) == doctest::Approx(0.005 * 0.5 / 0.495));
  CHECK(moved(TrustRatio::published, 5) == doctest::Approx(0.005 * 10 / 49.95));  // ratio 10 / |p'|
  CHECK(moved(TrustRatio::intended, 0.5) == doctest::Approx(0.01 * 0.5));         // relative change lr
  CHECK(moved(TrustRatio::intended, 3) == doctest::Approx(0.01 * 3));
  CHECK(moved(TrustRatio::intended, 50) == doctest::Approx(0.005 * 10));  // ratio 100 is clamped to 10
}

TEST_CASE("a layer's norm is that of all its elements, whatever the chunks") {
  const int64_t n = 50001;
  for (DType dtype : {DType::f32, DType::f64}) {
    const Tensor p = leaf(golden::normals("p", {n}, dtype)), g = golden::normals("g", {n}, dtype),
                 before = p.clone();
    double pp = 0, gg = 0;
    for (int64_t i = 0; i < n; ++i) pp += p.at(i) * p.at(i), gg += g.at(i) * g.at(i);
    p.set_grad(g);
    LARS optimizer({{"p", p}}, {.lr = 2, .trust_coefficient = 0.1});
    optimizer.step();
    const double rate = 2 * 0.1 * std::sqrt(pp) / std::sqrt(gg);
    for (int64_t i : {int64_t(0), int64_t(16383), int64_t(16384), n - 1})
      CHECK(p.at(i) == doctest::Approx(before.at(i) - rate * g.at(i)).epsilon(1e-5));
  }
}

TEST_CASE("Lookahead starts from the weights before the first update, even where those were loaded late") {
  const Tensor p = leaf(Tensor::full({3}, 1.0, DType::f64));
  Lookahead optimizer(std::make_unique<SGD>(std::vector<Parameter>{{"p", p}}, SGDOptions{.lr = 1}),
                      {.k = 2, .alpha = 0.25});
  p.fill(10);
  p.set_grad(Tensor::ones({3}, DType::f64));
  optimizer.step();
  CHECK(p.at(1) == 9);
  optimizer.step();
  CHECK(p.at(1) == 10 + 0.25 * (8 - 10));

  const Tensor q = leaf(Tensor::full({3}, 10.0, DType::f64));
  Lookahead lazy(std::make_unique<SGD>(std::vector<Parameter>{{"q", q}}, SGDOptions{.lr = 1}),
                 {.k = 2, .alpha = 0.25, .lazy = true});
  q.set_grad(Tensor::ones({3}, DType::f64));
  for (double expected : {9.0, 8.0, 7.0, 8 + 0.25 * (6 - 8)}) {
    lazy.step();
    CHECK(q.at(1) == expected);
  }
}

TEST_CASE("a changed rate or momentum holds from the next step on") {
  const Tensor p = leaf(Tensor::zeros({2}));
  SGD optimizer({{"p", p}}, {.lr = 1, .momentum = 0.5});
  p.set_grad(Tensor::ones({2}));
  optimizer.step();
  CHECK(p.at(0) == -1);
  optimizer.set_lr(0, 0.5);
  optimizer.set_momentum(0, 0.25);
  optimizer.step();
  CHECK(p.at(0) == -1 - 0.5 * 1.25);
  CHECK(optimizer.initial_lr(0) == 1);
  optimizer.set_initial_lr(0, 0.125);
  CHECK(optimizer.lr(0) == 0.125);
  CHECK(optimizer.initial_lr(0) == 0.125);
  CHECK_ERROR(optimizer.set_initial_lr(0, -1), "lr is -1");
  CHECK_ERROR(SGD({}, {.lr = 1}).step(), "there are no parameters");
  CHECK_ERROR(SGD({{"p", p}}, {.lr = 1, .weight_decay = INFINITY}), "weight_decay is inf");
  Ranger ranger({{"p", p}}, {.betas = {0.95, 0.99}});
  CHECK(ranger.momentum(0) == 0.95);
  ranger.set_momentum(0, 0.85);
  CHECK(static_cast<RAdam&>(ranger.inner()).options().betas == std::array{0.85, 0.99});
  Muon muon({{"p", p}}, {.momentum = 0.95, .betas = {0.9, 0.95}});
  muon.set_momentum(0, 0.85);  // that of its AdamW, too: PyTorch's one-cycle sets both of two optimizers
  CHECK(muon.momentum(0) == 0.85);
  CHECK(muon.options().momentum == 0.85);
  CHECK(muon.options().betas == std::array{0.85, 0.95});
}

TEST_CASE("a step between two losses of one tape is an error, not a wrong gradient") {
  const Tensor p = leaf(Tensor::ones({2})), q = leaf(Tensor::ones({2}));
  SGD optimizer({{"p", p}, {"q", q}});
  Tape tape;
  const Tensor first = sum(square(p)), second = sum(mul(square(p), square(q)));
  tape.backward(first, {.retain_graph = true});
  optimizer.step();  // q has no gradient yet and stays
  CHECK_ERROR(tape.backward(second), "square: input 0 [2] was changed in place after the forward pass");
  Tape again;
  CHECK_NOTHROW(again.backward(sum(mul(p, q))));
}

TEST_CASE("state that new options need no more has no part in the step") {
  const auto steps = [](Optimizer& o, const Tensor& p, int n) {
    p.set_grad(Tensor::ones({2}, DType::f64));
    for (int i = 0; i < n; ++i) o.step();
    return p.at(1);
  };
  const auto zeros = [] { return leaf(Tensor::zeros({2}, DType::f64)); };
  const Tensor p = zeros(), q = zeros(), r = zeros(), s = zeros();
  RMSprop centered({{"p", p}}, {.centered = true}), plain({{"q", q}});
  centered.set_options(0, {.centered = false});
  CHECK(steps(centered, p, 3) == doctest::Approx(steps(plain, q, 3)).epsilon(1e-12));
  // PyTorch's: with momentum 0 there is no dampening, and the buffer waits.
  SGD damped({{"r", r}}, {.lr = 0.1, .momentum = 0.9, .dampening = 0.5});
  CHECK(steps(damped, r, 2) == doctest::Approx(-0.1 - 0.14));
  damped.set_momentum(0, 0);
  CHECK(steps(damped, r, 3) == doctest::Approx(-0.24 - 0.3));
  damped.set_momentum(0, 0.9);
  CHECK(steps(damped, r, 1) == doctest::Approx(-0.54 - 0.1 * (0.9 * 1.4 + 0.5)));
  SGD never({{"s", s}}, {.lr = 0.1, .momentum = 0.9, .dampening = 0.5});
  never.set_momentum(0, 0);
  CHECK(steps(never, s, 3) == doctest::Approx(-0.3));
  for (const bool with_mean : {false, true}) {
    CAPTURE(with_mean);
    const Tensor t = zeros();
    RMSprop waits({{"t", t}}, {.lr = 0.1, .alpha = 0.9, .momentum = 0.9, .centered = with_mean});
    double v = 0, a = 0, u = 0, expected = 0;
    for (const double mu : {0.9, 0.0, 0.0, 0.9}) {
      waits.set_momentum(0, mu);
      v = 0.9 * v + 0.1, a = 0.9 * a + 0.1;
      const double step = 1 / (std::sqrt(with_mean ? v - a * a : v) + waits.options().eps);
      if (mu > 0) u = mu * u + step;
      expected -= 0.1 * (mu > 0 ? u : step);
      CHECK(steps(waits, t, 1) == doctest::Approx(expected).epsilon(1e-10));
    }
  }
}

TEST_CASE("clip_grad_norm_ scales all gradients by one factor, and returns their norm") {
  const Tensor a = leaf(Tensor::zeros({2})), b = leaf(Tensor::zeros({40000}, DType::f64)),
               no_gradient = Tensor::zeros({3});
  const std::vector<Parameter> parameters{{"a", a}, {"none", no_gradient}, {"b", b}};
  const auto reset = [&] {
    a.set_grad(Tensor::from({3.0f, 4.0f}, {2}));
    b.set_grad(Tensor::full({40000}, 0.06, DType::f64));  // norm 12
  };
  reset();
  CHECK(clip_grad_norm_(parameters, 20) == doctest::Approx(13).epsilon(1e-12));
  CHECK(a.grad().at(1) == 4);
  CHECK(clip_grad_norm_(parameters, 6.5) == doctest::Approx(13).epsilon(1e-12));
  CHECK(a.grad().at(1) == doctest::Approx(2).epsilon(1e-6));
  CHECK(b.grad().at(39999) == doctest::Approx(0.03).epsilon(1e-6));
  CHECK(clip_grad_norm_(parameters, 100) <= 6.5);
  CHECK(!no_gradient.grad().defined());
  reset();
  a.grad().data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
  CHECK_ERROR(clip_grad_norm_(parameters, 1, {.error_if_nonfinite = true}), "norm of the gradients is nan");
  CHECK(a.grad().at(1) == 4);
  CHECK(std::isnan(clip_grad_norm_(parameters, 1)));
  CHECK(std::isnan(b.grad().at(7)));
  CHECK_ERROR(clip_grad_norm_(parameters, -1), "max_norm");
}

TEST_CASE("clip_grad_value_ clamps each element and keeps NaN") {
  const Tensor p = leaf(Tensor::zeros({4}));
  p.set_grad(Tensor::from({-3.0f, 0.5f, 2.0f, std::numeric_limits<float>::quiet_NaN()}, {4}));
  clip_grad_value_({{"p", p}}, 1.5);
  CHECK(p.grad().at(0) == -1.5);
  CHECK(p.grad().at(1) == 0.5);
  CHECK(p.grad().at(2) == 1.5);
  CHECK(std::isnan(p.grad().at(3)));
  CHECK_ERROR(clip_grad_value_({{"p", p}}, -1), "limit");
}

TEST_CASE("a norm in f32 keeps its precision where the squares leave the range of float, and at any length") {
  for (const int64_t n : {1, 31, 512, 513, 16384, 20011})
    for (const double scale : {1e-30, 1e-19, 1e-13, 1.0, 1e15, 1e19, 1e30}) {
      CAPTURE(n);
      CAPTURE(scale);
      const Tensor p = leaf(Tensor::zeros({n})), g = golden::normals("g", {n}, DType::f32);
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) {
        float& x = g.data<float>()[i];
        x = float(x * scale);
        sum += double(x) * double(x);
      }
      p.set_grad(g);
      CHECK(clip_grad_norm_({{"p", p}}, 1e300) == doctest::Approx(std::sqrt(sum)).epsilon(1e-7));
    }
}
