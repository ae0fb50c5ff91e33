// Activations that learn parameters or draw: kernels, ops, layers and models.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <set>

#include "support/errors.h"
#include "support/golden.h"
#include "support/light.h"
#include "weft/kernels/kernels.h"
#include "weft/kernels/philox.h"
#include "weft/weft.h"

using namespace weft;

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
using Inputs = std::vector<Tensor>;
using Floats = std::vector<float>;
using Doubles = std::vector<double>;

std::vector<Activation> learned_activations() {
  std::vector<Activation> all;
  for (int i = 0; i < kLearnedActivationCount; ++i) all.push_back(Activation(kActivationCount + i));
  return all;
}

Generator generator(11);
Tensor normal(const Shape& shape, double mean = 0, double std = 1, DType dtype = DType::f64) {
  return Tensor::normal(shape, mean, std, generator, dtype);
}

/// Parameters about where they start, [channels] each.
Inputs parameters_near_start(Activation act, int64_t channels, DType dtype = DType::f64) {
  Inputs list;
  for (const LearnedParameter& p : activation_parameters(act))
    list.push_back(normal({channels}, p.start, 0.1, dtype));
  return list;
}

template <class T>
kernels::LearnedActivationArgs<T> arguments(Activation act, int64_t rows, int64_t channels,
                                            const std::vector<T>& x, const std::vector<std::vector<T>>& p) {
  kernels::LearnedActivationArgs<T> a;
  a.activation = act, a.rows = rows, a.channels = channels, a.x = x.data();
  for (size_t k = 0; k < p.size(); ++k) a.parameters[k] = p[k].data();
  return a;
}

/// y, dx and the parameters' gradients, each with a guard behind it.
template <class T>
std::vector<std::vector<T>> run(const kernels::KernelTable<T>& table, Activation act, int64_t rows,
                                int64_t channels, const std::vector<T>& x, const std::vector<T>& dy,
                                const std::vector<std::vector<T>>& p) {
  constexpr size_t kGuard = 32;
  const auto blank = [&](int64_t n) {
    std::vector<T> v(static_cast<size_t>(n), T(kNaN));
    v.resize(size_t(n) + kGuard, T(7));
    return v;
  };
  std::vector<std::vector<T>> out{blank(rows * channels), blank(rows * channels)};
  T* gradients[kMostLearnedParameters] = {};
  for (size_t k = 0; k < p.size(); ++k) out.push_back(blank(channels));
  for (size_t k = 0; k < p.size(); ++k) gradients[k] = out[2 + k].data();
  const auto a = arguments(act, rows, channels, x, p);
  table.learned_activation(a, out[0].data());
  table.learned_activation_backward(a, dy.data(), out[1].data(), gradients);
  for (auto& v : out) {
    for (size_t i = 0; i < kGuard; ++i) REQUIRE(v[v.size() - 1 - i] == T(7));
    v.resize(v.size() - kGuard);
  }
  return out;
}

Doubles widen(const Floats& v) { return {v.begin(), v.end()}; }

bool near(float a, double e, double tolerance) {
  if (std::isnan(e)) return std::isnan(a);
  if (std::isinf(float(e))) return a == float(e);
  return std::abs(double(a) - e) <= tolerance * std::max(1.0, std::abs(e));
}

}  // namespace

TEST_CASE("names, kinds and what is learned") {
  CHECK(kAllActivationCount == kActivationCount + kLearnedActivationCount + 1);
  for (int i = 0; i < kAllActivationCount; ++i) {
    const auto act = Activation(i);
    CHECK(find_activation(activation_name(act)) == act);
    CHECK(activation_by_name(activation_name(act)) == act);
    CHECK(int(is_fixed(act)) + int(is_learned(act)) + int(is_random(act)) == 1);
    CHECK(activation_parameters(act).empty() != is_learned(act));
    CHECK(mentions(std::string(activation_description(act)), concat(activation_name(act), "(x) = ")));
  }
  CHECK(is_random(Activation::rrelu));
  CHECK(is_fixed(Activation::mish));
  REQUIRE(activation_parameters(Activation::prelu).size() == 1);
  CHECK(activation_parameters(Activation::prelu)[0].name == "weight");
  CHECK(activation_parameters(Activation::prelu)[0].start == 0.25);
  CHECK(activation_parameters(Activation::srelu).size() == 4);
  CHECK(activation_parameters(Activation::swish_beta)[0].start == 1);
}

TEST_CASE("every table is the reference, on random shapes with tails, for any number of threads") {
  const int threads = num_threads();
  std::mt19937 random(5);
  const auto draw = [&](int64_t n, double low, double high) {
    Floats v(static_cast<size_t>(n));
    std::uniform_real_distribution<float> in{float(low), float(high)};
    for (float& x : v) x = in(random);
    return v;
  };
  const std::pair<int64_t, int64_t> shapes[] = {{1, 1},    {3, 1},   {200, 1}, {5, 3},     {7, 16},   {9, 17},
                                                {130, 33}, {64, 64}, {1, 129}, {2000, 40}, {300, 200}};
  for (Activation act : learned_activations())
    for (const auto& shape : shapes) {
      const int64_t rows = shape.first, channels = shape.second;
      CAPTURE(activation_name(act));
      CAPTURE(rows);
      CAPTURE(channels);
      const Floats x = draw(rows * channels, -6, 6), dy = draw(rows * channels, -1, 1);
      std::vector<Floats> p;
      std::vector<Doubles> wide_p;
      for (const LearnedParameter& known : activation_parameters(act)) {
        p.push_back(draw(channels, known.start - 0.3, known.start + 0.3));
        wide_p.push_back(widen(p.back()));
      }
      const auto expected =
          run<double>(kernels::reference<double>(), act, rows, channels, widen(x), widen(dy), wide_p);
      for (const auto* table : kernels::all_cpu_tables()) {
        CAPTURE(std::string(table->name));
        std::vector<Floats> first;
        for (int n : {1, 2, 7}) {
          set_num_threads(n);
          const auto out = run<float>(*table, act, rows, channels, x, dy, p);
          if (n == 1) first = out;
          REQUIRE(out == first);
        }
        for (size_t o = 0; o < first.size(); ++o) {
          // Sums: of so many terms of size 6.
          const double tolerance = o < 2 ? 2e-6 : 1e-6 * std::sqrt(double(rows)) * 6;
          for (size_t i = 0; i < first[o].size(); ++i)
            REQUIRE_MESSAGE(near(first[o][i], expected[o][i], tolerance), "output ", o, " element ", i, ": ",
                            first[o][i], " for ", expected[o][i]);
        }
        // In place.
        Floats y = x, dx = dy;
        Floats sums(size_t(channels * kMostLearnedParameters));
        float* gradients[kMostLearnedParameters];
        for (int k = 0; k < kMostLearnedParameters; ++k) gradients[k] = sums.data() + k * channels;
        table->learned_activation_backward(arguments(act, rows, channels, x, p), dx.data(), dx.data(),
                                           gradients);
        CHECK(dx == first[1]);
        table->learned_activation(arguments(act, rows, channels, y, p), y.data());
        CHECK(y == first[0]);
      }
    }
  set_num_threads(threads);
}

TEST_CASE("infinities, NaN and large numbers come out as from the reference, NaN as NaN") {
  const Floats x = {kInf, -kInf, kNaN, 1e30f, -1e30f, 1e4f, -1e4f, 0.0f, -0.0f};
  const auto n = int64_t(x.size());
  const Floats ones(x.size(), 1.0f);
  for (Activation act : learned_activations()) {
    CAPTURE(activation_name(act));
    std::vector<Floats> p;
    for (const LearnedParameter& known : activation_parameters(act))
      p.emplace_back(size_t(n), float(known.start));
    if (act == Activation::srelu) p[1].assign(size_t(n), 0.5f);
    const auto expected = run<float>(kernels::reference<float>(), act, 1, n, x, ones, p);
    CHECK(expected[0][0] == kInf);
    CHECK(expected[0][1] == (act == Activation::swish_beta ? 0 : -kInf));
    for (const auto& out : expected) CHECK(std::isnan(out[2]));
    CHECK(expected[1][0] == (act == Activation::srelu ? 0.5f : 1.0f));
    CHECK(expected[1][1] == doctest::Approx(act == Activation::prelu   ? 0.25
                                            : act == Activation::srelu ? 0.2
                                                                       : 0));
    if (act == Activation::swish_beta) CHECK(expected[2][0] == 0);
    for (const auto* table : kernels::all_cpu_tables()) {
      CAPTURE(std::string(table->name));
      const auto out = run<float>(*table, act, 1, n, x, ones, p);
      for (size_t o = 0; o < out.size(); ++o)
        for (size_t i = 0; i < x.size(); ++i)
          CHECK_MESSAGE(near(out[o][i], double(expected[o][i]), 2e-6), "output ", o, " at ", x[i], ": ",
                        out[o][i], " for ", expected[o][i]);
    }
  }
}

TEST_CASE("gradients against finite differences, of x and of every parameter") {
  for (Activation act : learned_activations())
    for (const bool shared : {false, true})
      for (const Shape& shape : {Shape{2, 3, 2, 5}, Shape{7, 3}, Shape{4}, Shape{64, 4}}) {
        CAPTURE(activation_name(act));
        CAPTURE(shared);
        CAPTURE(shape.to_string());
        Inputs inputs{normal(shape, 0, 2)};
        for (const Tensor& p : parameters_near_start(act, shared ? 1 : shape[-1])) inputs.push_back(p);
        // Off the kinks.
        double* x = inputs[0].data<double>();
        for (int64_t i = 0; i < inputs[0].numel(); ++i) {
          if (std::abs(x[i]) < 0.01) x[i] += 0.02;
          if (act != Activation::srelu) continue;
          const int64_t c = shared ? 0 : i % shape[-1];
          for (const size_t t : {size_t{1}, size_t{3}})
            if (std::abs(x[i] - inputs[t].at(c)) < 0.01) x[i] += 0.03;
        }
        const auto chain = [act](const Inputs& in) {
          Inputs scaled;
          for (const Tensor& t : in) scaled.push_back(t.requires_grad() ? affine(t, 1) : t);
          return mish(affine(learned_activation(scaled[0], act, {scaled.begin() + 1, scaled.end()}), 0.5));
        };
        for (size_t alone = 0; alone <= inputs.size(); ++alone) {
          for (size_t k = 0; k < inputs.size(); ++k)
            inputs[k].set_requires_grad(alone == inputs.size() || k == alone);
          const GradcheckResult result = gradcheck(chain, inputs), twice = gradgradcheck(chain, inputs);
          CHECK_MESSAGE(result.ok, result.message);
          CHECK_MESSAGE(twice.ok, "second derivative: ", twice.message);
        }
      }
  const Tensor x = normal({5, 7});
  for (int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] += std::copysign(0.01, x.data<double>()[i]);
  x.set_requires_grad();
  for (const bool training : {false, true}) {
    const auto f = [&](const Inputs& in) {
      Generator same(3);
      return mish(rrelu(affine(in[0], 1.5), 0.1, 0.5, training, same));
    };
    const GradcheckResult result = gradcheck(f, {x}), twice = gradgradcheck(f, {x});
    CHECK_MESSAGE(result.ok, result.message);
    CHECK_MESSAGE(twice.ok, "second derivative: ", twice.message);
  }
}

TEST_CASE("values and gradients are PyTorch's, or the papers' formulas'") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    std::set<std::string> seen;
    for (const golden::Case& c : golden::load("learned_activations.safetensors", dtype)) {
      CAPTURE(c.name());
      seen.insert(c.kind());
      Tape tape;
      Tensor out;
      if (c.kind() == "prelu") out = prelu(c["x"], c["weight"]);
      if (c.kind() == "swish_beta") out = swish_beta(c["x"], c["beta"]);
      if (c.kind() == "srelu") out = srelu(c["x"], c["t_r"], c["a_r"], c["t_l"], c["a_l"]);
      if (c.kind() == "rrelu") out = rrelu(c["x"]);
      if (c.kind() == "rrelu_bounds") out = rrelu(c["x"], 0.2, 0.7);
      REQUIRE(out.defined());
      tape.backward(out, c["grad_out"]);
      const golden::Tolerance tolerance = dtype == DType::f32
                                              ? golden::Tolerance{.rtol = 1e-5, .atol = 3e-6}
                                              : golden::Tolerance{.rtol = 1e-12, .atol = 1e-14};
      for (const auto& expected : c.expected()) {
        const std::string& what = expected.first;
        const Tensor actual = what == "out" ? out : c[what.substr(5)].grad();
        const std::string off = golden::difference(actual, expected.second, tolerance);
        CHECK_MESSAGE(off.empty(), what, " ", off);
      }
    }
    CHECK(seen.size() == 5);
  }
}

TEST_CASE("rrelu: slopes are drawn evenly, anew in each pass, and the same on the way back") {
  CHECK(rrelu(Tensor::full({1}, -48)).item() == doctest::Approx(-11));
  const int64_t n = 20000;
  const Tensor x = Tensor::full({n}, -1).set_requires_grad();
  x.data<float>()[7] = 2, x.data<float>()[8] = kNaN, x.data<float>()[9] = 0;
  manual_seed(1);
  Tape tape;
  const Tensor y = rrelu(x, 1.0 / 8, 1.0 / 3, true), again = rrelu(x, 1.0 / 8, 1.0 / 3, true);
  tape.backward(y, Tensor::ones({n}));
  double sum = 0, square = 0, same = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (i == 7 || i == 8) continue;
    const double slope = x.grad().at(i);
    REQUIRE(slope >= 0.125 - 1e-7);
    REQUIRE(slope <= 1.0 / 3 + 1e-7);
    if (i != 9) REQUIRE(float(slope) == -float(y.at(i)));
    sum += slope, square += slope * slope, same += y.at(i) == again.at(i);
  }
  CHECK(x.grad().at(7) == 1);
  CHECK(y.at(7) == 2);
  CHECK(std::isnan(y.at(8)));
  CHECK(std::isnan(x.grad().at(8)));
  CHECK(y.at(9) == 0);
  const double mean = sum / n, width = 1.0 / 3 - 1.0 / 8;
  CHECK(mean == doctest::Approx(11.0 / 48).epsilon(0.01));
  CHECK(square / n - mean * mean == doctest::Approx(width * width / 12).epsilon(0.03));
  CHECK(same < 10);
}

TEST_CASE("rrelu: every table draws the same slopes, for any number of threads") {
  const int threads = num_threads();
  const uint64_t key = 99;
  for (int64_t n : {1, 5, 100, 16390}) {
    Floats x, in;
    for (int64_t i = 0; i < n; ++i) x.push_back(float(i % 3) - 1.5f), in.push_back(float(i % 7) + 0.5f);
    Doubles expected(x.size());
    kernels::reference<double>().rrelu(n, 0.125, 1.0 / 3, &key, widen(x).data(), widen(in).data(),
                                       expected.data());
    for (const auto* table : kernels::all_cpu_tables())
      for (int t : {1, 2, 7}) {
        CAPTURE(std::string(table->name));
        set_num_threads(t);
        Floats out(x.size() + 16, 7.0f), own = in;
        table->rrelu(n, 0.125, 1.0 / 3, &key, x.data(), in.data(), out.data());
        for (size_t i = 0; i < x.size(); ++i) REQUIRE(near(out[i], expected[i], 1e-6));
        for (size_t i = x.size(); i < out.size(); ++i) REQUIRE(out[i] == 7.0f);
        table->rrelu(n, 0.125, 1.0 / 3, &key, x.data(), own.data(), own.data());
        out.resize(x.size());
        CHECK(own == out);
      }
  }
  set_num_threads(threads);
}

TEST_CASE("what can't be is said") {
  const Tensor x = Tensor::ones({2, 3});
  CHECK(mentions(error_of([&] { prelu(x, Tensor::ones({2})); }),
                 "prelu: weight has shape [2] but the input is [2, 3]"));
  CHECK(mentions(error_of([&] { prelu(x, Tensor::ones({3}, DType::f64)); }), "prelu: weight is f64"));
  CHECK(mentions(error_of([&] { prelu(x, Tensor()); }), "prelu: weight is undefined"));
  CHECK(mentions(error_of([&] { learned_activation(x, Activation::srelu, {Tensor::ones({1})}); }),
                 "srelu: 1 parameters were given, it has 4"));
  CHECK(mentions(error_of([&] { learned_activation(x, Activation::mish, {}); }), "mish has no learned"));
  CHECK(mentions(error_of([&] { activation(x, Activation::prelu); }), "prelu has learned parameters"));
  CHECK(mentions(error_of([&] { activation(x, Activation::rrelu); }), "rrelu draws random numbers"));
  CHECK(mentions(error_of([&] { rrelu(x, 0.5, 0.25, true); }), "rrelu: the slopes"));
  const Tensor c = Tensor::ones({3});
  const auto normalised = [&](Activation act, const Inputs& learned) {
    return error_of([&] { batch_norm(x, c, c, c, c, true, {.activation = act}, {}, {}, learned); });
  };
  CHECK(mentions(normalised(Activation::srelu, {}), "srelu: 0 parameters were given, it has 4"));
  CHECK(mentions(normalised(Activation::prelu, {Tensor::ones({2})}), "prelu: weight has shape [2]"));
  CHECK(mentions(normalised(Activation::relu, {c}), "batch_norm: relu learns nothing"));
  CHECK(mentions(normalised(Activation::rrelu, {}), "batch_norm: rrelu draws random numbers"));
  Module root;
  CHECK(mentions(error_of([&] { ActivationLayer(root, "a", Activation::srelu, 0.5, 3); }), "srelu"));
  CHECK(mentions(error_of([&] { ActivationLayer(root, "a", Activation::rrelu, 0.5); }), "rrelu"));
  CHECK(mentions(error_of([&] { PReLU(root, "a", 0); }), "0 channels"));
}

TEST_CASE("empty inputs pass, with gradients of 0") {
  const Tensor x = Tensor::empty({0, 3}).set_requires_grad(), w = Tensor::ones({3}).set_requires_grad();
  Tape tape;
  const Tensor y = prelu(x, w);
  CHECK(y.shape() == Shape{0, 3});
  tape.backward(y, Tensor::empty({0, 3}));
  CHECK(w.grad().to_vector<float>() == Floats{0, 0, 0});
}

TEST_CASE("layers: names as in PyTorch, one value for each channel or one for all") {
  Module root;
  PReLU one{root, "one"}, many{root, "many", 5, 0.1};
  SReLU s{root, "s", 5};
  SwishBeta swish{root, "swish", 5};
  RReLU random{root, "random"};
  std::vector<std::string> names;
  for (const auto& p : root.parameters()) names.push_back(p.name);
  CHECK(names == std::vector<std::string>{"one.weight", "many.weight", "s.t_r", "s.a_r", "s.t_l", "s.a_l",
                                          "swish.beta"});
  const Tensor x = normal({4, 5}, 0, 1, DType::f32);
  CHECK(one(x).to_vector<float>() == leaky_relu(x, 0.25).to_vector<float>());
  CHECK(many(x).to_vector<float>() == leaky_relu(x, 0.1).to_vector<float>());
  for (int i = 0; i < 20; ++i) {
    CHECK(swish(x).at(i) == doctest::Approx(silu(x).at(i)).epsilon(1e-6));
    CHECK(s(x).at(i) == doctest::Approx(leaky_relu(x, 0.2).at(i)).epsilon(1e-6));
  }
  CHECK(many.description() == "prelu(5)");
  CHECK(random.description() == "rrelu(0.125, 0.333333)");
  manual_seed(3);
  const Tensor drawn = random(x);
  CHECK(drawn.to_vector<float>() != random(x).to_vector<float>());
  root.eval();
  CHECK(random(x).to_vector<float>() == leaky_relu(x, 11.0 / 48).to_vector<float>());
}

TEST_CASE("batch norm with such an activation is batch norm and then the activation") {
  Module root;
  BatchNorm2d bn{root, "bn", 6, {.activation = Activation::srelu}};
  BatchNorm2d plain{root, "plain", 6};
  CHECK(find(root.state_dict(), "bn.act.t_l").shape() == Shape{6});
  CHECK(bn.description() == "BatchNorm2d(6, srelu)");
  const Tensor x = normal({5, 6}, 0, 2, DType::f32), residual = normal({5, 6}, 0, 1, DType::f32);
  const Tensor expected = learned_activation(plain(x, residual), Activation::srelu, bn.act->learned());
  const Tensor y = bn(x, residual);
  for (int64_t i = 0; i < y.numel(); ++i) CHECK(y.at(i) == doctest::Approx(expected.at(i)).epsilon(1e-6));
  CHECK(!plain.act);
}

namespace {

/// Everything that some steps of training leave.
struct Run {
  std::vector<double> losses;
  std::vector<Floats> state;
  uint64_t drawn = 0;
};

Tensor images() {
  Generator of_images(3);
  return Tensor::normal({6, 24, 24, 3}, 0, 1, of_images);
}

/// Trains for `steps`; `stop`, where it is not 0, is when all is saved, made anew and loaded.
Run train(Activation act, bool attention, bool recompute, int steps, int stop = 0) {
  const Tensor x = images(), labels = Tensor::from<int64_t>({0, 1, 2, 3, 4, 5}, {6});
  const auto make = [&] {
    return make_model("xresnet18", {.activation = act, .self_attention = attention, .recompute = recompute});
  };
  const auto optimizer_of = [](Module& m) {
    return optim::make_optimizer("adamw", optim::split_decay(m.parameters()), {.lr = 2e-3, .wd = 1e-2});
  };
  manual_seed(7);
  auto model = make();
  auto optimizer = optimizer_of(*model);
  Run run;
  for (int s = 0; s < steps; ++s) {
    if (stop > 0 && s == stop) {
      const auto file = std::filesystem::temp_directory_path() /
                        concat("weft_learned_", std::random_device{}(), ".safetensors");
      save_safetensors(file.string(), model->state_dict());
      const StateDict kept = optimizer->state_dict();
      const uint64_t count = default_generator().count();
      manual_seed(1234);
      model = make();
      optimizer = optimizer_of(*model);
      model->load_state_dict(load_safetensors(file.string()));
      optimizer->load_state_dict(kept);
      default_generator().set_state(7, count);
      std::filesystem::remove(file);
    }
    Tape tape;
    const Tensor loss = cross_entropy((*model)(x), labels);
    tape.backward(loss);
    run.losses.push_back(loss.item());
    optimizer->step();
    optimizer->zero_grad();
  }
  for (const auto& [name, tensor] : model->state_dict()) run.state.push_back(tensor.to_vector<float>());
  run.drawn = default_generator().count();
  return run;
}

}  // namespace

TEST_CASE("a model learns with each of them, and its parameters move") {
  for (int i = kActivationCount; i < kAllActivationCount; ++i) {
    const auto act = Activation(i);
    if (test::light() && act != Activation::srelu && act != Activation::rrelu) continue;
    CAPTURE(activation_name(act));
    const Run whole = train(act, true, false, 6);
    CHECK(whole.losses.back() < 0.8 * whole.losses.front());
    const Run resumed = train(act, true, false, 6, 3);
    CHECK(resumed.losses == whole.losses);
    CHECK(resumed.state == whole.state);
    const Run again = train(act, true, true, 6);
    CHECK(again.losses == whole.losses);
    CHECK(again.state == whole.state);
    CHECK(again.drawn == whole.drawn);
  }
  manual_seed(7);
  const auto fresh = make_model("xresnet18", {.activation = Activation::prelu, .self_attention = true});
  const Run trained = train(Activation::prelu, true, false, 2);
  size_t at = 0, learned = 0;
  for (const auto& weight : fresh->state_dict()) {
    const Floats& after = trained.state[at++];
    const std::string& name = weight.first;
    if (!mentions(name, "act.weight")) continue;
    ++learned;
    CHECK(weight.second.to_vector<float>() == Floats(after.size(), 0.25f));
    CHECK_MESSAGE(after != Floats(after.size(), 0.25f), name);
  }
  CHECK(learned == 3 + 2 * 8);  // the stem, two of each block
  CHECK(find(fresh->state_dict(), "stages.0.1.act.weight").defined());
  CHECK(find(fresh->state_dict(), "stages.1.0.bn2.act.weight").shape() == Shape{128});
}

TEST_CASE("learned parameters are not decayed") {
  const auto model = make_model("xresnet18", {.activation = Activation::srelu});
  std::map<const void*, std::string> learned;
  for (const Parameter& p : model->parameters())
    if (mentions(p.name, ".act.")) learned[p.tensor.raw()] = p.name;
  CHECK(learned.size() == 4 * (3 + 2 * 8));
  for (const Parameter& p : optim::split_decay(model->parameters()).decay)
    CHECK_MESSAGE(learned.count(p.tensor.raw()) == 0, p.name);
}

TEST_CASE("evaluation draws nothing") {
  const auto model = make_model("xresnet18", {.activation = Activation::rrelu});
  model->eval();
  const Tensor x = images();
  const uint64_t count = default_generator().count();
  CHECK((*model)(x).to_vector<float>() == (*model)(x).to_vector<float>());
  CHECK(default_generator().count() == count);
}
