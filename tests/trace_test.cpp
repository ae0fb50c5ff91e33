// Trace: the ops of a forward pass, with their tensors and what they were told.
#include <doctest/doctest.h>

#include "support/errors.h"
#include "weft/engine/ops/batch_norm.h"
#include "weft/engine/ops/conv.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/ops/traced.h"
#include "weft/engine/tape.h"
#include "weft/engine/trace.h"

using namespace weft;

TEST_CASE("a trace keeps ops in order with their tensors, with a tape or without") {
  const Tensor x = Tensor::ones({1, 4, 4, 2}), w = Tensor::ones({3, 3, 3, 2});
  const auto work = [&] {
    const ScopeName scope("net");
    return affine(conv2d(x, w, {}, {.stride = 2, .padding = 1}), 2, 1);
  };
  for (const bool taped : {false, true}) {
    std::optional<Tape> tape;
    if (taped) tape.emplace();
    const Trace trace;
    const Tensor y = work();
    REQUIRE(trace.ops().size() == 2);
    const TracedOp &conv = trace.ops()[0], &affine = trace.ops()[1];
    CHECK(conv.op == "conv2d");
    CHECK(conv.scope == "net");
    CHECK(conv.inputs[0].is(x));
    CHECK(conv.inputs[1].is(w));
    CHECK(!conv.inputs.at(2).defined());
    CHECK(conv.told_as<Conv2dOptions>().stride == 2);
    CHECK(affine.inputs[0].is(conv.outputs[0]));
    CHECK(affine.outputs[0].is(y));
    CHECK(affine.told_as<TracedAffine>().scale == 2);
    CHECK(mentions(error_of([&] { conv.told_as<MatmulOptions>(); }), "conv2d in net"));
    CHECK((taped ? tape->entries().size() : 2) == 2);
  }
}

TEST_CASE("an op that computes with others appears once, and NoGrad suspends") {
  const Trace trace;
  const Tensor x = Tensor::ones({2, 3});
  linear(x, Tensor::ones({4, 3}), Tensor::ones({4}));
  {
    const NoGrad quiet;
    exp(x);
    const Trace inner;
    CHECK(Trace::current() == &inner);
    neg(x);
    CHECK(inner.ops().size() == 1);
  }
  CHECK(Trace::current() == &trace);
  permute(x, {1, 0});
  REQUIRE(trace.ops().size() == 2);
  CHECK(trace.ops()[0].op == "linear");
  CHECK(trace.ops()[1].told_as<TracedPermute>().order == std::vector<int>{1, 0});
}

TEST_CASE("batch norm tells its running values, whose memory is the layer's") {
  const Tensor x = Tensor::ones({2, 3}), one = Tensor::ones({3}), mean = Tensor::zeros({3}),
               var = Tensor::ones({3});
  const Trace trace;
  batch_norm(x, one, one, mean, var, false, {.eps = 1e-3, .activation = Activation::relu});
  const auto& told = trace.ops().at(0).told_as<TracedBatchNorm>();
  CHECK(told.running_mean.is(mean));
  CHECK(told.running_var.is(var));
  CHECK(!told.training);
  CHECK(told.options.eps == 1e-3);
  CHECK(told.options.activation == Activation::relu);
}

TEST_CASE("with nobody tracing there is nothing to note") {
  CHECK(Trace::current() == nullptr);
  CHECK(!Trace::note(TracedAffine{1, 2}).has_value());
}

TEST_CASE("a walk back is not traced") {
  const Tensor x = Tensor::ones({3}).set_requires_grad();
  Tape tape;
  const Trace trace;
  tape.backward(sum(exp(x)));
  CHECK(trace.ops().size() == 2);
}
