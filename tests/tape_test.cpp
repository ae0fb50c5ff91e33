#include <doctest/doctest.h>

#include <functional>
#include <memory>

#include "support/errors.h"
#include "weft/engine/anomaly.h"
#include "weft/engine/checkpoint.h"
#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/conv.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/select.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/tape.h"

using namespace weft;

namespace {
Tensor leaf(std::vector<float> values) {
  const Shape shape{int64_t(values.size())};
  Tensor t = Tensor::from(values, shape);
  t.set_requires_grad();
  return t;
}
}  // namespace

TEST_CASE("backward adds into the leaves' gradients, over several tapes too") {
  const Tensor a = leaf({1, 2, 3}), b = leaf({4, 5, 6});
  for (int pass = 1; pass <= 2; ++pass) {
    Tape tape;
    tape.backward(sum(a * b + a));
    CHECK(a.grad().to_vector<float>() == std::vector<float>{5.F * pass, 6.F * pass, 7.F * pass});
    CHECK(b.grad().to_vector<float>() == std::vector<float>{1.F * pass, 2.F * pass, 3.F * pass});
  }
  a.zero_grad();
  CHECK(!a.grad().defined());
}

TEST_CASE("a tensor used several times gets the sum of its gradients") {
  const Tensor x = leaf({3});
  Tape tape;
  const Tensor y = x * x;         // x^2
  tape.backward(sum(y * y + y));  // x^4 + x^2
  CHECK(x.grad().item() == 4 * 27 + 2 * 3);
}

TEST_CASE("two leaves never share one gradient's memory") {
  const Tensor a = leaf({1}), b = leaf({2});
  Tape tape;
  tape.backward(sum(a + b));
  a.grad().fill(9);
  CHECK(b.grad().item() == 1);
}

TEST_CASE("a gradient that nobody else has is handed over, through a reshape too") {
  const Tensor a = leaf({1, 2, 3, 4});
  Tensor gradient = Tensor::ones({2, 2});
  const void* const memory = gradient.raw();
  Tape tape;
  const Tensor y = reshape(a, {2, 2});
  tape.backward(y, std::move(gradient));
  CHECK(a.grad().raw() == memory);
}

namespace {
/// y = 3 x, whose backward adds to what x has been given so far where it can.
struct Tripled {
  bool given = false, unique = false;

  Tensor operator()(const Tensor& x) {
    const Tensor y = Tensor::from<float>({3 * float(x.at(0)), 3 * float(x.at(1))}, {2});
    record("tripled", {x}, {y},
           [this](BackwardContext& c) {
             Tensor sum = c.take_sum(0);
             given = sum.defined();
             unique = given && sum.unique();
             if (unique)
               for (int64_t i = 0; i < 2; ++i) sum.data<float>()[i] += 3 * c.grad_output().data<float>()[i];
             if (given) c.set(0, std::move(sum));
             if (!unique) c.set(0, c.grad_output() * 3.0);
           },
           {.double_backward = true});
    return y;
  }
};
}  // namespace

TEST_CASE("a backward function may add to what its input has been given so far") {
  const Tensor x = leaf({1, 2});
  Tripled tripled;
  const auto slope = [&](const std::function<Tensor()>& f, const BackwardOptions& options = {}) {
    x.zero_grad();
    Tape tape;
    tape.backward(sum(f()), options);
    return x.grad().detach().to_vector<float>();
  };
  const auto twice_used = [&] {
    const Tensor y = x * 2.0, first = tripled(y);
    return first + square(y);  // d/dx = 6 + 8 x
  };
  CHECK(slope(twice_used) == std::vector<float>{14, 22});
  CHECK(tripled.given);
  CHECK(tripled.unique);
  // The sum is the gradient of `first` too.
  CHECK(slope([&] {
          const Tensor y = x * 2.0, first = tripled(y);
          return first + y;
        }) == std::vector<float>{8, 8});
  CHECK(tripled.given);
  CHECK(!tripled.unique);
  // Nothing yet, and a leaf, of which the user may hold the gradient.
  CHECK(slope([&] { return tripled(x * 2.0); }) == std::vector<float>{6, 6});
  CHECK(!tripled.given);
  CHECK(slope([&] {
          const Tensor first = tripled(x);
          return first + square(x);
        }) == std::vector<float>{5, 7});
  CHECK(!tripled.given);
  // Where each part must be seen.
  CHECK(slope(twice_used, {.create_graph = true}) == std::vector<float>{14, 22});
  CHECK(!tripled.given);
  const DetectAnomaly anomaly;
  CHECK(slope(twice_used) == std::vector<float>{14, 22});
  CHECK(!tripled.given);
}

TEST_CASE("without a tape nothing is recorded") {
  const Tensor a = leaf({1, 2});
  const Tensor y = a * a;
  CHECK(!y.requires_grad());
  Tape tape;
  {
    const NoGrad quiet;
    CHECK(!(a * a).requires_grad());
  }
  CHECK(tape.entries().empty());
  CHECK((a * a).requires_grad());
  CHECK(!(a.detach() * a.detach()).requires_grad());
  CHECK(tape.entries().size() == 2);
}

TEST_CASE("an error within a module names it") {
  const ScopeName stem("stem"), conv("conv");
  CHECK_ERROR(Tensor::ones({2}) + Tensor::ones({3}), "(in stem.conv)");
}

TEST_CASE("misuse is an error that says what to do") {
  const Tensor a = leaf({1, 2});
  Tensor old;
  {
    Tape tape;
    const Tensor loss = sum(a * a);
    CHECK_ERROR(tape.backward(a * a), "not one element");
    tape.backward(loss);
    CHECK_ERROR(tape.backward(loss), "walked back already");
    CHECK_ERROR(a * a, "start a new Tape");
    const Tensor metric = mean(loss.detach() * 2.0);  // as without a tape
    CHECK(metric.item() == 10);
    CHECK(!metric.requires_grad());
  }
  {
    Tape tape;
    old = a * a;
  }
  Tape tape;
  CHECK_ERROR(tape.backward(sum(a.detach())), "depends on no tensor that requires a gradient");
  CHECK_ERROR(old * a, "computed under another tape");
  CHECK_ERROR(tape.backward(old, Tensor::ones({2})), "recorded on another tape");
  const Tensor y = a * a;
  CHECK_ERROR(tape.backward(y, Tensor::ones({3})), "does not fit");
  CHECK_ERROR(y.set_grad(Tensor::ones({2})), "only a leaf");
  CHECK_ERROR(a.set_grad(Tensor::ones({3})), "does not fit");
}

TEST_CASE("tapes nest: the inner one records, the outer one goes on after it") {
  const Tensor a = leaf({2});
  Tape outer;
  const Tensor y = a * a;
  {
    Tape inner;
    inner.backward(sum(a * 3.0));
    CHECK(a.grad().item() == 3);
  }
  CHECK(outer.entries().size() == 1);
  outer.backward(sum(y));
  CHECK(a.grad().item() == 3 + 4);
}

TEST_CASE("tapes may end in any order") {
  auto a = std::make_unique<Tape>(), b = std::make_unique<Tape>();
  a.reset();
  CHECK(Tape::current() == b.get());
  b.reset();
  CHECK(Tape::current() == nullptr);
  const Tape outer;
  a = std::make_unique<Tape>();
  {
    const NoGrad quiet;
    a.reset();
    CHECK(Tape::current() == nullptr);
  }
  CHECK(Tape::current() == &outer);
  a = std::make_unique<Tape>();
  {
    const RecordOn on(a.get());
    const NoGrad quiet;
    const RecordOn again(a.get());
    a.reset();
    CHECK(Tape::current() == nullptr);
  }
  CHECK(Tape::current() == &outer);
  auto first = std::make_unique<RecordOn>(nullptr), second = std::make_unique<RecordOn>(nullptr);
  first.reset();
  CHECK(Tape::current() == nullptr);
  second.reset();
  CHECK(Tape::current() == &outer);
}

TEST_CASE("entries, listing and drawing") {
  const Tensor x = Tensor::ones({1, 5, 5, 2}), w = Tensor::ones({4, 3, 3, 2});
  w.set_requires_grad();
  Tape tape;
  {
    const ScopeName stem("stem"), conv("conv");
    mish(conv2d(x, w, {}, {.stride = 2, .padding = 1}));
  }
  REQUIRE(tape.entries().size() == 2);
  const TapeEntry& e = tape.entries()[0];
  CHECK(e.op == "conv2d");
  CHECK(e.scope == "stem.conv");
  CHECK(e.detail == "3x3 stride 2 pad 1");
  CHECK(e.multiply_adds == 9 * 4 * 9 * 2);
  CHECK(e.inputs[1].shape == w.shape());
  CHECK(e.outputs[0].shape == Shape{1, 3, 3, 4});
  const std::string list = tape.to_string(), dot = tape.to_dot();
  for (const char* part : {"stem.conv", "conv2d", "mish", "[1, 3, 3, 4]"})
    CHECK(list.find(part) != std::string::npos);
  for (const char* part : {"digraph tape", "e0 -> e1", "leaf [4, 3, 3, 2]"})
    CHECK(dot.find(part) != std::string::npos);
}

TEST_CASE("hooks see each entry's gradient before it is passed on") {
  const Tensor a = leaf({1, 2});
  Tape tape;
  const Tensor loss = sum(square(a * 2.0));
  std::vector<std::string> seen;
  tape.add_hook([&](const TapeEntry& e, std::span<const Tensor> grads) {
    seen.push_back(std::string(e.op) + " " + grads[0].to_string());
  });
  int of_square = 0;
  tape.add_hook([&](const TapeEntry&, std::span<const Tensor>) { ++of_square; }, 1);
  CHECK_ERROR(tape.add_hook({}, 3), "entry 3 of a tape with 3");
  tape.backward(loss);
  CHECK(seen == std::vector<std::string>{"sum f32 [] {1}", "square f32 [2] {1, 1}", "affine f32 [2] {4, 8}"});
  CHECK(of_square == 1);
}

TEST_CASE("backward frees what it has passed") {
  empty_cache();
  const size_t before = memory_stats().in_use;
  const Tensor x = Tensor::ones({1 << 20});
  x.set_requires_grad();
  Tape tape;
  Tensor loss;
  {
    Tensor y = x;
    for (int i = 0; i < 8; ++i) y = mish(y);
    loss = sum(y);
  }
  const size_t forward = memory_stats().in_use - before;
  reset_peak_memory();
  tape.backward(loss);
  // Eight saved inputs go while one or two gradients come and go.
  CHECK(memory_stats().peak - before <= forward + (size_t{3} << 22) + 4096);
  CHECK(memory_stats().in_use - before <= (size_t{2} << 22) + 4096);
}

TEST_CASE("what backward needs is looked after through all handles, where it needs no gradient too") {
  const Tensor w = leaf({3}), frozen = Tensor::from<float>({4}, {1});
  const auto refused = [&](const std::function<Tensor()>& compute, const std::function<void()>& change,
                           const char* text) {
    Tape tape;
    const Tensor y = sum(compute());
    change();
    CHECK_ERROR(tape.backward(y), text);
    w.zero_grad();
  };
  const auto product = [&] { return mul(w, frozen); };
  refused(
      product, [&] { frozen.fill(5); }, "mul: input 1 [1] was changed in place");
  refused(
      product,
      [&] {
        frozen.view({1, 1}).fill(5);
      },
      "mul: input 1 [1] was changed in place");
  refused(
      product, [&] { frozen.detach().copy_from(Tensor::zeros({1})); }, "mul: input 1");
  refused(
      product, [&] { w.detach().fill(2); }, "mul: input 0");
  refused(
      product, [&] { frozen.set_data(Tensor::ones({1})); }, "mul: input 1");
  const Tensor pair = Tensor::zeros({2});
  refused([&] { return mul(w, pair); }, [&] { pair.part(1, {1}).fill(1); }, "mul: input 1 [2]");
  Tensor out;
  refused([&] { return out = exp(w); }, [&] { out.view({1}).fill(1); }, "exp: output 0 [1]");
  const Tensor mask = Tensor::from<uint8_t>({1}, {1});
  refused([&] { return where(mask, w, 0.0); }, [&] { mask.fill(0); }, "where: a mask or labels");

  // What backward does not look at may change: terms of a sum, what is only rearranged, what nobody has kept.
  const auto slope = [&](const std::function<Tensor()>& compute, const std::function<void()>& change) {
    Tape tape;
    const Tensor y = sum(compute());
    change();
    tape.backward(y);
    const double g = w.grad().item();
    w.zero_grad();
    return g;
  };
  w.fill(3);
  CHECK(slope([&] { return add(w, frozen); }, [&] { frozen.fill(9); }) == 1);
  CHECK(slope(
            [&] {
              return add(mean(reshape(cast(w, DType::f32), {1, 1})), frozen);
            },
            [&] { w.fill(4), frozen.fill(1); }) == 1);
  CHECK(slope([&] { return mul(w, add(frozen, frozen)); }, [&] { frozen.fill(7); }) == 2);
  CHECK(slope([&] { return mul(w, pair.part(0, {1}).clone()); }, [&] { pair.fill(7); }) == 0);
}

TEST_CASE("what backward needs may not be changed before it") {
  const Tensor w = leaf({3}), other = leaf({4});
  const auto changed = [&](const std::function<void()>& change, const char* text) {
    Tape tape;
    const Tensor y = sum(mul(w, other));
    change();
    CHECK_ERROR(tape.backward(y), text);
  };
  changed([&] { w.fill(5); }, "mul: input 0 [1] was changed in place after the forward pass");
  changed([&] { other.copy_from(Tensor::ones({1})); }, "mul: input 1 [1] was changed in place");
  changed([&] { other.copy_from(Tensor::ones({1}, DType::f64)); }, "mul: input 1 [1] was changed in place");
  Tape tape;
  const Tensor y = sum(checkpoint([&](const Tensor& x) { return mul(x, other); }, w));
  other.fill(2);
  CHECK_ERROR(tape.backward(y), "was changed in place");
  Tape good;  // before, and what is not walked, may be changed
  w.fill(1);
  const Tensor z = sum(square(w)), unused = square(other);
  other.fill(7);
  w.copy_from(w);
  good.backward(z);
  CHECK(w.grad().item() == 2);
}

TEST_CASE("an op of one's own") {
  // y = x^3 recorded by hand.
  const auto cube = [](const Tensor& x) {
    Tensor y = Tensor::empty(x.shape());
    for (int64_t i = 0; i < x.numel(); ++i) y.data<float>()[i] = float(x.at(i) * x.at(i) * x.at(i));
    record("cube", {x}, {y},
           [x = x.detach()](BackwardContext& c) { c.set(0, c.grad_output() * square(x) * 3.0); });
    return y;
  };
  const Tensor x = leaf({1, -2});
  {
    Tape tape;
    tape.backward(sum(cube(x)));
    CHECK(x.grad().to_vector<float>() == std::vector<float>{3, 12});
  }
  Tape tape;
  const Tensor y = Tensor::ones({2});
  record("wrong", {x}, {y}, [](BackwardContext& c) { c.set(0, Tensor::ones({3})); });
  CHECK_ERROR(tape.backward(sum(y)),
              "wrong: backward gave input 0 a gradient of shape [3], but the input is [2]");
  const auto fails = [&](BackwardFunction backward, const char* text) {
    Tape again;
    const Tensor z = Tensor::ones({2});
    record("mine", {x}, {z}, std::move(backward));
    CHECK_ERROR(again.backward(sum(z)), text);
  };
  fails([](BackwardContext& c) { c.set(1, c.grad_output()); },
        "mine: backward asks for input 1, but there are 1");
  fails([](BackwardContext& c) { c.set(0, c.grad_output(1)); },
        "mine: backward asks for output 1, but there are 1");
  fails([](BackwardContext& c) { c.needs(-1); }, "mine: backward asks for input -1");
  fails([](BackwardContext& c) { c.set(0, c.grad_output().to(DType::f64)); },
        "mine: backward gave input 0 a gradient of f64, but the input is f32");
  fails([](BackwardContext& c) { c.set(0, Tensor::zeros({2}, DType::i64)); }, "a gradient of i64");
  const auto nothing = [](BackwardContext&) {};
  Tape fresh;
  CHECK_ERROR(record("itself", {x}, {x}, nothing), "itself: an output [2] is a parameter itself");
  CHECK_ERROR(record("labels", {x}, {Tensor::zeros({2}, DType::i64)}, nothing),
              "labels: an output is i64 [2], through which no gradient can come");
}
