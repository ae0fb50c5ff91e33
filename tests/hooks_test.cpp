// Hooks on modules and tapes.
#include <doctest/doctest.h>

#include "support/errors.h"
#include "weft/weft.h"

using namespace weft;

namespace {

struct Net : Module {
  Conv2d conv{*this, "conv", 2, 3, {.kernel = 3, .padding = 1}};
  BatchNorm2d bn{*this, "bn", 3, {.activation = Activation::mish}};
  Linear head{*this, "head", 3, 2};
  Tensor forward(const Tensor& x) override { return head(global_avg_pool(conv_bn(conv, bn, x))); }
};

Tensor images() {
  Generator generator(5);
  return Tensor::normal({2, 4, 3, 2}, 0, 1, generator);
}

std::vector<std::vector<float>> gradients(Net& net) {
  std::vector<std::vector<float>> all;
  for (const Parameter& p : net.parameters()) all.push_back(p.tensor.grad().to_vector<float>());
  net.zero_grad();
  return all;
}

std::vector<std::vector<float>> step(Net& net) {
  Tape tape;
  tape.backward(sum(square(net(images()))));
  return gradients(net);
}

}  // namespace

TEST_CASE("forward hooks see and replace, in order, until they are removed") {
  manual_seed(1);
  Net net;
  const Tensor x = images(), plain = net(x);
  std::vector<std::string> calls;
  RemovableHandle pre = net.head.register_forward_pre_hook([&](Module& m, const Tensor& in) {
    calls.push_back("pre " + m.name() + " " + in.shape().to_string());
    return Tensor();
  });
  RemovableHandle twice = net.head.register_forward_hook([&](Module&, const Tensor& in, const Tensor& out) {
    calls.push_back("twice " + in.shape().to_string() + " " + out.shape().to_string());
    return out * 2.0;
  });
  RemovableHandle look = net.head.register_forward_hook([&](Module&, const Tensor&, const Tensor& out) {
    calls.push_back(out.at(0) == net.head.forward(Tensor::zeros({1, 3})).at(0) ? "bias" : "look");
    return Tensor();
  });
  net.train(false);
  net.train(true);
  const Tensor doubled = net(x);
  CHECK(calls == std::vector<std::string>{"pre head [2, 3]", "twice [2, 3] [2, 2]", "look"});
  for (int64_t i = 0; i < plain.numel(); ++i) CHECK(doubled.at(i) == 2 * plain.at(i));
  // A zero input: the output is the bias.
  twice.remove();
  pre.remove();
  pre.remove();  // nothing
  pre =
      net.head.register_forward_pre_hook([](Module&, const Tensor& in) { return Tensor::zeros(in.shape()); });
  calls.clear();
  net(x);
  CHECK(calls == std::vector<std::string>{"bias"});
  pre.remove(), look.remove();
  CHECK(net(x).to_vector<float>() == plain.to_vector<float>());
}

TEST_CASE("hooks around a convolution that hands statistics to batch norm") {
  manual_seed(1);
  Net net;
  const auto plain = step(net);
  std::vector<std::string> seen;
  std::vector<RemovableHandle> handles;
  for (Module* m : {static_cast<Module*>(&net.conv), static_cast<Module*>(&net.bn)}) {
    handles.push_back(m->register_forward_hook([&](Module& module, const Tensor&, const Tensor&) {
      seen.push_back(module.name());
      return Tensor();
    }));
    handles.push_back(
        m->register_full_backward_hook([&](Module& module, const Tensor& in, const Tensor& out) {
          seen.push_back(module.name() + " back " + (in.defined() ? in.shape().to_string() : "none") + " " +
                         out.shape().to_string());
          return Tensor();
        }));
  }
  CHECK(step(net) == plain);
  CHECK(seen == std::vector<std::string>{"conv", "bn", "bn back [2, 4, 3, 3] [2, 4, 3, 3]",
                                         "conv back none [2, 4, 3, 3]"});
  for (RemovableHandle& h : handles) h.remove();
  // What batch norm is given is no longer what the statistics were taken of.
  const auto shift =
      net.conv.register_forward_hook([](Module&, const Tensor&, const Tensor& y) { return square(y); });
  Tape tape;
  const Tensor y = net.bn.forward(square(net.conv.forward(images())));
  const Tensor hooked = conv_bn(net.conv, net.bn, images());
  CHECK(hooked.to_vector<float>() == y.to_vector<float>());
}

TEST_CASE("backward hooks see the gradients of one call, and may change them") {
  manual_seed(1);
  Net net;
  const Tensor x = Tensor::from({1.F, 2.F, 3.F}, {1, 3}).set_requires_grad();
  Tensor in, out;
  RemovableHandle handle =
      net.head.register_full_backward_hook([&](Module&, const Tensor& gi, const Tensor& go) {
        in = gi, out = go;
        return gi * 10.0;
      });
  Tape tape;
  tape.backward(sum(net.head(x) * 3.0) + sum(x));
  CHECK(out.to_vector<float>() == std::vector<float>{3, 3});
  for (int64_t i = 0; i < 3; ++i) {
    const double slope = 3 * (net.head.weight.at(i) + net.head.weight.at(3 + i));
    CHECK(in.at(i) == doctest::Approx(slope));  // without the 1 of sum(x)
    CHECK(x.grad().at(i) == doctest::Approx(10 * slope + 1));
  }
  Tape second;
  const Tensor slope = second.grad(sum(square(net.head(x))), {x}, {.create_graph = true})[0];
  CHECK(slope.requires_grad());
  second.backward(sum(slope));
  // A wrong shape is an error that says whose.
  handle.remove();
  net.head.register_full_backward_hook(
      [](Module&, const Tensor&, const Tensor&) { return Tensor::ones({2}); });
  Tape third;
  const Tensor y = sum(net.head(x));
  CHECK_ERROR(third.backward(y), "backward_hook");
}

TEST_CASE("hooks in and on a recomputed module") {
  manual_seed(1);
  Net net;
  const auto plain = step(net);
  int outside = 0, inside = 0, back = 0;
  net.register_forward_hook([&](Module&, const Tensor&, const Tensor&) { return ++outside, Tensor(); });
  net.head.register_forward_hook([&](Module&, const Tensor&, const Tensor&) { return ++inside, Tensor(); });
  net.head.register_full_backward_hook(
      [&](Module&, const Tensor&, const Tensor&) { return ++back, Tensor(); });
  net.recompute();
  CHECK(step(net) == plain);
  CHECK(outside == 1);
  CHECK(inside == 2);
  CHECK(back == 1);
}

TEST_CASE("hooks of a tape can be removed") {
  const Tensor x = Tensor::ones({2}).set_requires_grad();
  Tape tape;
  const Tensor loss = sum(square(x));
  int calls = 0;
  RemovableHandle handle = tape.add_hook([&](const TapeEntry&, std::span<const Tensor>) { ++calls; });
  tape.backward(loss, {.retain_graph = true});
  handle.remove();
  tape.backward(loss);
  CHECK(calls == 2);
}

TEST_CASE("an empty function is no hook") {
  Net net;
  CHECK_ERROR(net.register_forward_pre_hook(nullptr), "hook: the function is empty");
  CHECK_ERROR(net.register_forward_hook({}), "hook: the function is empty");
  CHECK_ERROR(net.register_full_backward_hook(nullptr), "hook: the function is empty");
  Tape tape;
  CHECK_ERROR(tape.add_hook(nullptr), "hook: the function is empty");
  CHECK(!net.has_hooks());
  net(images());
}

TEST_CASE("a handle may outlive what it hangs in") {
  RemovableHandle handle;
  {
    Net net;
    handle = net.register_forward_hook([](Module&, const Tensor&, const Tensor&) { return Tensor(); });
  }
  handle.remove();
}
