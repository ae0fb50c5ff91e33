// Options of optimizers that no name reaches, against torch.optim (golden/make_optim_torch_golden.py).
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "support/errors.h"
#include "support/golden.h"
#include "support/optim_problem.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/safetensors.h"

using namespace weft;
using namespace weft::optim;
using weft::testing::Problem;
using weft::testing::trajectory_difference;

namespace {

Tensor stored(const std::string& name) {
  static const StateDict file = load_safetensors(WEFT_TEST_DIR "/golden/optim_torch.safetensors");
  const Tensor t = find(file, name);
  REQUIRE_MESSAGE(t.defined(), name);
  return t;
}

template <class Opt, class Options>
void compare(const std::string& name, Options options, bool missing = false) {
  for (DType dtype : {DType::f64, DType::f32}) {
    INFO(name, " in ", dtype);
    Problem problem(dtype);
    problem.missing = missing;
    Opt optimizer(problem.group0(), options);
    Options second = options;
    second.lr *= 0.3;
    second.weight_decay = 0;
    optimizer.add_group(problem.group1(), second);
    const golden::Tolerance tolerance = dtype == DType::f64 ? golden::Tolerance{.rtol = 1e-9, .atol = 1e-11}
                                                            : golden::Tolerance{.rtol = 2e-5, .atol = 2e-6};
    CHECK(trajectory_difference(problem, optimizer, stored("optimizer/" + name), tolerance) == "");
  }
}

Tensor leaf(const Tensor& t) { return t.set_requires_grad(); }

}  // namespace

TEST_CASE("100 steps are those of torch.optim") {
  const std::array<double, 2> betas{0.9, 0.99};
  compare<RMSprop>("rmsprop", RMSpropOptions{.lr = 0.02, .alpha = 0.95, .weight_decay = 0.01});
  compare<RMSprop>("rmsprop_missing",
                   RMSpropOptions{.lr = 0.02, .alpha = 0.95, .weight_decay = 0.01, .momentum = 0.8}, true);
  compare<RMSprop>("rmsprop_centered",
                   RMSpropOptions{.lr = 0.02, .alpha = 0.95, .weight_decay = 0.01, .centered = true});
  compare<Adagrad>(
      "adagrad",
      AdagradOptions{.lr = 0.2, .lr_decay = 0.1, .weight_decay = 0.01, .initial_accumulator_value = 0.5});
  compare<Adagrad>("adagrad_missing", AdagradOptions{.lr = 0.2, .lr_decay = 0.1, .weight_decay = 0.01}, true);
  compare<Adadelta>("adadelta_missing", AdadeltaOptions{.lr = 1, .rho = 0.95, .weight_decay = 0.01}, true);
  compare<AMSGrad>("amsgrad_missing", AMSGradOptions{.lr = 0.02, .betas = betas, .weight_decay = 0.01}, true);
  compare<Adamax>("adamax_missing", AdamaxOptions{.lr = 0.02, .betas = betas, .weight_decay = 0.01}, true);
  compare<NAdam>("nadam_missing",
                 NAdamOptions{.lr = 0.02, .betas = betas, .weight_decay = 0.01, .momentum_decay = 0.1}, true);
}

TEST_CASE("Newton-Schulz is PyTorch's, and its result nearly orthogonal") {
  for (const Shape& shape : {Shape{5, 12}, Shape{9, 4}}) {
    const Tensor x = golden::normals(concat("muon ", shape[0]), shape, DType::f64);
    const auto run = [&](const Tensor& m, int64_t steps) {
      return newton_schulz(m, MuonOptions{}.ns_coefficients, steps, 1e-7);
    };
    const Tensor y = run(x, 5);
    CHECK(golden::difference(y, stored(concat("newton_schulz/", shape[0])), {.rtol = 1e-10, .atol = 1e-12}) ==
          "");
    // Singular values between 0.7 and 1.2: so says the post.
    const bool tall = shape[0] > shape[1];
    const Tensor gram = matmul(y, y, {.transpose_a = tall, .transpose_b = !tall});
    double trace = 0;
    for (int64_t i = 0; i < gram.size(0); ++i) trace += gram.at(i * gram.size(0) + i);
    CHECK(trace / double(gram.size(0)) > 0.6);
    CHECK(trace / double(gram.size(0)) < 1.3);
    // The scale of its input does not matter.
    Tensor scaled = x.clone();
    for (int64_t i = 0; i < x.numel(); ++i) scaled.data<double>()[i] *= 1e-3;
    CHECK(golden::difference(run(scaled, 5), y, {.rtol = 1e-9, .atol = 1e-11}) == "");
  }
  CHECK_ERROR(newton_schulz(Tensor::zeros({3}), {1, 0, 0}, 5, 1e-7), "newton_schulz: the tensor is [3]");
}

TEST_CASE("Newton-Schulz by Gram matrices is the iteration as it is written, for any number of steps") {
  const auto [a, b, c] = MuonOptions{}.ns_coefficients;
  for (const Shape& shape : {Shape{5, 12}, Shape{9, 4}, Shape{7, 7}, Shape{3, 40}, Shape{1, 6}})
    for (int64_t steps = 0; steps < 9; ++steps) {
      CAPTURE(shape.to_string());
      CAPTURE(steps);
      const Tensor x = golden::normals(concat("gram ", shape[0]), shape, DType::f64);
      Tensor want = x * (1 / std::sqrt(sum(square(x)).item()));
      for (int64_t i = 0; i < steps; ++i) {
        const Tensor gram = matmul(want, want, {.transpose_b = true});
        want = a * want + matmul(b * gram + c * matmul(gram, gram), want);
      }
      CHECK(golden::difference(newton_schulz(x, MuonOptions{}.ns_coefficients, steps, 1e-7), want,
                               {.rtol = 1e-9, .atol = 1e-10}) == "");
    }
}

TEST_CASE("Newton-Schulz in f32 keeps its digits where singular values differ by orders of magnitude") {
  // Rows that fall off as 1 / k^3, mixed.
  const int64_t rows = 48, columns = 432;
  Tensor x = golden::normals("ill", {rows, columns}, DType::f64);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < columns; ++k) x.data<double>()[r * columns + k] /= std::pow(1 + double(r), 3);
  const Tensor mix = golden::normals("mix", {rows, rows}, DType::f64);
  x = matmul(newton_schulz(mix, MuonOptions{}.ns_coefficients, 5, 1e-7), x);
  const auto run = [](const Tensor& m) { return newton_schulz(m, MuonOptions{}.ns_coefficients, 5, 1e-7); };
  const Tensor want = run(x), got = run(x.to(DType::f32)).to(DType::f64);
  const double error = std::sqrt(sum(square(got - want)).item() / sum(square(want)).item());
  CHECK(error < 5e-5);
}

TEST_CASE("Newton-Schulz of a batch is that of each of its matrices") {
  for (const Shape& shape : {Shape{3, 5, 12}, Shape{3, 9, 4}, Shape{2, 6, 6}, Shape{3, 1, 7}}) {
    const int64_t n = shape.numel(1, 3);
    const Tensor x = golden::normals(concat("batch ", shape[1]), shape, DType::f64);
    x.part(0, {n}).fill(0);
    const Tensor small = x.part(n, {n});  // each has a norm of its own
    for (int64_t i = 0; i < n; ++i) small.data<double>()[i] *= 1e-3;
    const auto run = [](const Tensor& t) { return newton_schulz(t, MuonOptions{}.ns_coefficients, 5, 1e-7); };
    const Tensor all = run(x);
    CHECK(all.shape() == shape);
    for (int64_t i = 0; i < shape[0]; ++i) {
      const Tensor alone = run(x.part(i * n, {shape[1], shape[2]}));
      CHECK(alone.shape() == Shape{shape[1], shape[2]});
      CHECK(alone.to_vector<double>() == all.part(i * n, {n}).to_vector<double>());
      CHECK((alone.at(0) == 0) == (i == 0));
    }
  }
  CHECK(newton_schulz(Tensor::zeros({0, 2, 3}), {1, 0, 0}, 5, 1e-7).shape() == Shape{0, 2, 3});
  CHECK_ERROR(newton_schulz(Tensor::zeros({1, 2, 3, 4}), {1, 0, 0}, 5, 1e-7), "or a batch of them");
}

TEST_CASE("Muon's state is what a resume needs, and its rates follow the shape") {
  const Tensor w = leaf(Tensor::zeros({8, 2}, DType::f64)), b = leaf(Tensor::zeros({8}, DType::f64));
  const auto length = [&](MuonRate rate) {  // of a step of w over that of an orthogonal matrix
    w.fill(0), b.fill(0);
    Muon muon({{"w", w}, {"b", b}}, {.lr = 1, .weight_decay = 0, .adjust_lr = rate, .adamw_lr_factor = 0.25});
    w.set_grad(golden::normals("g", {8, 2}, DType::f64));
    b.set_grad(Tensor::ones({8}, DType::f64));
    muon.step();
    CHECK(b.at(3) == doctest::Approx(-0.25));
    CHECK(muon.state_dict().size() == 1 + 2 + 3);
    CHECK(muon.momentum(0) == 0.95);
    // Two Gram matrices, two large products at the end of each part, and 14 small ones.
    CHECK(muon.product_flops() == 4 * (2 * 8 * 2 * 2) + 14 * (2 * 2 * 2 * 2));
    double squares = 0;
    for (int64_t i = 0; i < w.numel(); ++i) squares += w.at(i) * w.at(i);
    return std::sqrt(squares / 2);
  };
  const double original = length(MuonRate::original), adamw = length(MuonRate::match_rms_adamw);
  CHECK(original > 0.7 * 2);
  CHECK(original < 1.3 * 2);
  CHECK(adamw / original == doctest::Approx(0.2 * std::sqrt(8.0) / 2));
}

TEST_CASE("options out of range are refused, and state that was not kept is not asked for") {
  const Tensor p = leaf(Tensor::zeros({2}));
  CHECK_ERROR(RMSprop({{"p", p}}, {.alpha = 2}), "rmsprop: alpha is 2");
  CHECK_ERROR(Adagrad({{"p", p}}, {.lr_decay = -1}), "adagrad: lr_decay");
  CHECK_ERROR(Adadelta({{"p", p}}, {.rho = -1}), "adadelta: rho is -1");
  CHECK_ERROR(NAdam({{"p", p}}, {.momentum_decay = -1}), "nadam: momentum_decay is -1");
  CHECK_ERROR(AMSGrad({{"p", p}}, {.betas = {1, 0.9}}), "amsgrad: a beta is 1");
  CHECK_ERROR(Muon({{"p", p}}, {.ns_steps = 100}), "muon: ns_steps is 100");
  RMSprop plain({{"p", p}});
  CHECK(!plain.has_momentum(0));
  CHECK_ERROR(plain.set_options(0, {.momentum = 0.9}), "need other state (momentum_buffer)");
  CHECK_ERROR(plain.set_options(0, {.centered = true}), "need other state");
  RMSprop momentum({{"p", p}}, {.momentum = 0.9});
  momentum.set_options(0, {.momentum = 0});
  CHECK_ERROR(momentum.set_options(0, {.centered = true}), "need other state (grad_avg)");
  Adagrad adagrad({{"p", p}});
  CHECK(!adagrad.has_momentum(0));
  CHECK(adagrad.momentum(0) == 0);
  CHECK_ERROR(adagrad.set_momentum(0, 0.9), "adagrad: there is no momentum to set");
}

TEST_CASE("centred RMSprop stays finite where gradients do not vary") {
  const Tensor p = leaf(Tensor::zeros({64}));
  RMSprop optimizer({{"p", p}}, {.lr = 1e-6, .alpha = 0.5, .centered = true});
  for (int t = 0; t < 100; ++t) {
    p.set_grad(Tensor::full({64}, 0.1f + 1e-3f * float(t % 2)));
    if (t > 40) p.set_grad(Tensor::full({64}, 0.1));
    optimizer.step();
  }
  for (int64_t i = 0; i < 64; ++i) CHECK(std::isfinite(p.at(i)));
}
