#include <doctest/doctest.h>

#include "support/errors.h"
#include "weft/engine/eval_guard.h"
#include "weft/engine/module.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/tape.h"

using namespace weft;

namespace {

struct Scale : Module {
  Scale(Module& parent, std::string_view name) : Module(parent, name) {}
  Tensor factor = register_parameter("factor", Tensor::full({2}, 3));
  Tensor calls = register_buffer("calls", Tensor::zeros({1}));
  Tensor forward(const Tensor& x) override {
    if (training()) calls.data<float>()[0] += 1;
    return x * factor;
  }
};

struct Net : Module {
  Tensor shift = register_parameter("shift", Tensor::ones({2}));
  Scale first{*this, "first"}, second{*this, "second"};
  Tensor forward(const Tensor& x) override { return second(first(x)) + shift; }
};

std::vector<std::string> names(const std::vector<Parameter>& list) {
  std::vector<std::string> out;
  for (const auto& p : list) out.push_back(p.name);
  return out;
}

}  // namespace

TEST_CASE("parameters and buffers have dotted names") {
  Net net;
  CHECK(names(net.parameters()) == std::vector<std::string>{"shift", "first.factor", "second.factor"});
  CHECK(names(net.buffers()) == std::vector<std::string>{"first.calls", "second.calls"});
  CHECK(net.num_parameters() == 6);
  CHECK(net.state_dict().size() == 5);
  CHECK(find(net.state_dict(), "second.factor").is(net.second.factor));
  std::vector<std::string> paths;
  net.visit([&](const std::string& path, Module&) { paths.push_back(path); });
  CHECK(paths == std::vector<std::string>{"", "first", "second"});
}

TEST_CASE("tied weights are one parameter in two places") {
  struct Tied : Module {
    explicit Tied(Module& parent) : Module(parent, "tied") {}
    Tensor own = register_parameter("own", Tensor::full({3}, 2));
    Scale scale{*this, "scale"};
    Tensor again = register_parameter("again", scale.factor);
    Tensor forward(const Tensor& x) override { return scale(x) * again; }
  };
  Net net;
  Tied tied(net);
  CHECK(names(net.parameters()) ==
        std::vector<std::string>{"shift", "first.factor", "second.factor", "tied.own", "tied.again"});
  CHECK(net.num_parameters() == 3 * 2 + 3 + 2);
  CHECK(tied.state_dict().size() == 4);  // both names, as in PyTorch
  CHECK(names(tied.parameters("part")) == std::vector<std::string>{"part.own", "part.again"});
  Tape tape;
  tape.backward(sum(tied(Tensor::ones({2}))));
  CHECK(tied.again.grad().at(0) == 6);  // of 3 * 3
  StateDict state = clone(tied.state_dict());
  for (auto& [name, t] : state) t.fill(7);
  tied.load_state_dict(state);
  CHECK(tied.scale.factor.at(1) == 7);
}

TEST_CASE("forward, gradients, modes and scopes") {
  Net net;
  {
    Tape tape;
    tape.backward(sum(net(Tensor::ones({1, 2}))));
    CHECK(tape.entries()[0].scope == "first");
    CHECK(tape.entries()[1].scope == "second");
    CHECK(tape.entries()[2].scope.empty());
  }
  CHECK(net.first.factor.grad().to_vector<float>() == std::vector<float>{3, 3});
  net.zero_grad();
  CHECK(!net.first.factor.grad().defined());
  CHECK(net.first.calls.item() == 1);
  net.eval();
  CHECK(!net.second.training());
  net(Tensor::ones({1, 2}));
  CHECK(net.first.calls.item() == 1);
}

TEST_CASE("state goes from one module to another, or not at all") {
  Net a, b;
  a.first.factor.fill(7);
  a.first.calls.fill(5);
  b.load_state_dict(a.state_dict());
  CHECK(b.first.factor.at(1) == 7);
  CHECK(b.first.calls.item() == 5);

  StateDict partial = a.state_dict();
  partial.erase(partial.begin());
  partial.emplace_back("third.factor", Tensor::ones({2}));
  CHECK_ERROR(b.load_state_dict(partial), "shift is missing; third.factor is not in the model");
  b.load_state_dict(partial, /*strict=*/false);

  StateDict wrong = {{"shift", Tensor::full({2}, 9)}, {"first.factor", Tensor::ones({3})}};
  CHECK_ERROR(b.load_state_dict(wrong, false), "first.factor has shape [3] but the model expects [2]");
  CHECK(b.shift.at(0) == 1);
}

TEST_CASE("conversion keeps all handles") {
  Net net;
  const Tensor handle = net.first.factor;
  net.to(DType::f64);
  CHECK(handle.dtype() == DType::f64);
  CHECK(handle.requires_grad());
  net.eval();
  CHECK(net(Tensor::ones({1, 2}, DType::f64)).at(0) == 10);
}

TEST_CASE("members without a parent, and modules made at run time, become children") {
  struct Root : Module {
    Net member;
    Module& made;
    Root() : made(adopt("made", std::make_unique<Net>())) { register_module("member", member); }
    Tensor forward(const Tensor& x) override { return made(member(x)); }
    using Module::adopt, Module::register_module;
  } root;
  CHECK(names(root.parameters()) == std::vector<std::string>{"made.shift", "made.first.factor",
                                                             "made.second.factor", "member.shift",
                                                             "member.first.factor", "member.second.factor"});
  CHECK(root.buffers().size() == 4);
  CHECK(root.made.name() == "made");
  root.eval();
  CHECK(!root.member.second.training());
  CHECK(!root.made.training());
  root.to(DType::f64);
  CHECK(root.member.first.factor.dtype() == DType::f64);
  CHECK(root.made.parameters()[0].tensor.dtype() == DType::f64);
  Tape tape;
  int hooks = 0;
  root.made.register_forward_hook([&](Module&, const Tensor&, const Tensor&) { return ++hooks, Tensor(); });
  tape.backward(sum(root(Tensor::ones({1, 2}, DType::f64))));
  CHECK(hooks == 1);
  CHECK(tape.entries()[0].scope == "member.first");
  CHECK(root.made.parameters()[0].tensor.grad().defined());

  CHECK_ERROR(root.adopt("made", std::make_unique<Net>()), "the name \"made\" is taken");
  CHECK_ERROR(root.adopt("a.b", std::make_unique<Net>()), "can't be a name");
  CHECK_ERROR(root.adopt("none", nullptr), "adopt(\"none\"): there is no module");
  CHECK_ERROR(root.register_module("again", root.member),
              "\"again\" has a parent already, which calls it \"member\"");
  CHECK_ERROR(root.register_module("self", root), "\"self\" has a parent already");
  CHECK(root.children().size() == 2);
  {
    Net passing;
    root.register_module("passing", passing);
    CHECK(root.children().size() == 3);
  }
  CHECK(root.children().size() == 2);
}

TEST_CASE("EvalGuard puts every module back into its mode") {
  Net net;
  net.first.optimize_for_inference();
  {
    const EvalGuard guard(net);
    CHECK(!net.training());
    CHECK(!net.second.training());
  }
  CHECK(net.training());
  CHECK(net.second.training());
  CHECK(!net.second.optimized_for_inference());
  CHECK(!net.first.training());
  CHECK(net.first.optimized_for_inference());
  // A whole that is optimized, and a part of it that is only in evaluation mode.
  net.optimize_for_inference();
  net.second.train(), net.second.eval();
  { const EvalGuard guard(net); }
  CHECK(net.optimized_for_inference());
  CHECK(!net.second.optimized_for_inference());
  CHECK(!net.second.training());
}

TEST_CASE("loading says what found no partner") {
  Net a, b;
  a.first.factor.fill(7);
  const auto prefixed = [](const StateDict& dict) {
    StateDict all;
    for (const auto& [name, tensor] : dict) all.emplace_back("module." + name, tensor);
    return all;
  };
  const IncompatibleKeys none = b.load_state_dict(prefixed(a.state_dict()), false);
  CHECK(none.missing ==
        std::vector<std::string>{"shift", "first.factor", "first.calls", "second.factor", "second.calls"});
  CHECK(none.unexpected == std::vector<std::string>{"module.shift", "module.first.factor",
                                                    "module.first.calls", "module.second.factor",
                                                    "module.second.calls"});
  CHECK(b.first.factor.at(0) == 3);
  const IncompatibleKeys all = b.load_state_dict(a.state_dict(), false);
  CHECK(all.missing.empty());
  CHECK(all.unexpected.empty());
  CHECK(b.load_state_dict(a.state_dict()).missing.empty());
  CHECK(b.first.factor.at(0) == 7);
  CHECK_ERROR(b.load_state_dict(prefixed(a.state_dict())), "shift is missing");
}

TEST_CASE("what fits is loaded once the rest is taken out") {
  Net net;
  const StateDict file = {{"shift", Tensor::full({2}, 9)}, {"first.factor", Tensor::ones({3})}};
  StateDict weights = file, own = net.state_dict();
  std::erase_if(weights, [&](const auto& entry) {
    const Tensor mine = find(own, entry.first);
    return mine.defined() && mine.shape() != entry.second.shape();
  });
  const IncompatibleKeys keys = net.load_state_dict(weights, false);
  CHECK(net.shift.at(1) == 9);
  CHECK(keys.missing.front() == "first.factor");
  CHECK(keys.missing.size() == 4);
  CHECK(keys.unexpected.empty());
}

TEST_CASE("names are checked") {
  Net net;
  CHECK_ERROR(Scale(net, "first"), "the name \"first\" is taken");
  CHECK_ERROR(Scale(net, "a.b"), "can't be a name");
  struct Plain : Module {
  } plain;
  CHECK_ERROR(plain(Tensor::ones({1})), "no forward");
}
