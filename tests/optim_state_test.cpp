// What holds for every optimizer: exact resume, groups of their own, missing gradients, any shape, NaN,
// thread counts, and errors that say what is wrong.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "support/errors.h"
#include "support/golden.h"
#include "support/optim_problem.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/tape.h"
#include "weft/kernels/parallel.h"

using namespace weft;
using namespace weft::optim;
using weft::testing::all_optimizers;
using weft::testing::NamedOptimizer;
using weft::testing::Problem;

namespace {

Tensor leaf(const Tensor& t) { return t.set_requires_grad(); }

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         std::memcmp(a.raw(), b.raw(), size_t(a.bytes())) == 0;
}
bool same_bits(const StateDict& a, const StateDict& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i].first != b[i].first || !same_bits(a[i].second, b[i].second)) return false;
  return true;
}
StateDict cloned(StateDict dict) {
  for (auto& [name, tensor] : dict) tensor = tensor.clone();
  return dict;
}

void run(const Problem& problem, Optimizer& optimizer, int64_t from, int64_t to) {
  for (int64_t t = from; t <= to; ++t) {
    problem.set_gradients(t);
    optimizer.step();
  }
}

/// Large and small f32 and f64 parameters, several chunks long, with gradients that change from step to step.
struct Large {
  std::vector<Parameter> parameters;
  Large() {
    const Shape shapes[] = {{100003}, {1}, {33, 1000}, {7, 3, 3, 5}, {}, {16384}, {20000}};
    for (int j = 0; j < 7; ++j) {
      const std::string name = concat("p", j);
      parameters.push_back({name, leaf(golden::normals(name, shapes[j], j < 6 ? DType::f32 : DType::f64))});
    }
  }
  void set_gradients(int64_t t) const {
    for (const Parameter& p : parameters)
      p.tensor.set_grad(golden::normals(concat(p.name, " at ", t), p.tensor.shape(), p.tensor.dtype()));
  }
  StateDict run(const NamedOptimizer& named, int steps) const {
    const auto optimizer =
        named.make({parameters.begin(), parameters.begin() + 3}, {parameters.begin() + 3, parameters.end()});
    for (int t = 1; t <= steps; ++t) {
      set_gradients(t);
      clip_grad_norm_(optimizer->parameters(), 300);
      optimizer->step();
    }
    StateDict all = optimizer->state_dict();
    for (const Parameter& p : parameters) all.emplace_back(p.name, p.tensor);
    return all;
  }
};

}  // namespace

TEST_CASE("a run that is saved and loaded at any step goes on bit for bit") {
  const std::string file =
      (std::filesystem::temp_directory_path() / concat("weft-optim-state-", getpid())).string();
  for (const NamedOptimizer& named : all_optimizers())
    for (DType dtype : {DType::f32, DType::f64})
      for (int64_t stop : {0, 1, 5, 6, 13}) {
        INFO(named.name, " stopped after step ", stop);
        Problem whole(dtype), first(dtype), second(dtype);
        whole.missing = first.missing = second.missing = true;
        const auto uninterrupted = named.make(whole.group0(), whole.group1());
        run(whole, *uninterrupted, 1, 25);
        {
          const auto optimizer = named.make(first.group0(), first.group1());
          run(first, *optimizer, 1, stop);
          save_safetensors(file, optimizer->state_dict());
        }
        for (size_t j = 0; j < 3; ++j) second.parameters[j].tensor.copy_from(first.parameters[j].tensor);
        const auto resumed = named.make(second.group0(), second.group1());
        resumed->load_state_dict(load_safetensors(file));
        CHECK(resumed->steps() == stop);
        run(second, *resumed, stop + 1, 25);
        CHECK(same_bits(whole.flat(), second.flat()));
        CHECK(same_bits(uninterrupted->state_dict(), resumed->state_dict()));
      }
  std::filesystem::remove(file);
}

TEST_CASE("each group has its own rate: two groups do what two optimizers do") {
  for (const NamedOptimizer& named : all_optimizers())
    for (bool swapped : {false, true}) {
      INFO(named.name);
      Problem together, apart;
      const auto groups = [&](const Problem& p) { return swapped ? p.group1() : p.group0(); };
      const auto others = [&](const Problem& p) { return swapped ? p.group0() : p.group1(); };
      const auto optimizer = named.make(groups(together), others(together));
      const auto a = named.make(groups(apart), {}), b = named.make({}, others(apart));
      for (int64_t t = 1; t <= 20; ++t) {
        together.set_gradients(t);
        optimizer->step();
        apart.set_gradients(t);
        a->step();
        b->step();
      }
      CHECK(same_bits(together.flat(), apart.flat()));
    }
}

TEST_CASE("a parameter without a gradient stays, and so does its state") {
  for (const NamedOptimizer& named : all_optimizers()) {
    INFO(named.name);
    const Problem problem;
    const auto optimizer = named.make(problem.group0(), problem.group1());
    run(problem, *optimizer, 1, 3);
    const Tensor before = problem.flat();
    const StateDict state = cloned(optimizer->state_dict());
    optimizer->zero_grad();
    for (const Parameter& p : problem.parameters) CHECK(!p.tensor.grad().defined());
    for (int i = 0; i < 6; ++i) optimizer->step();
    CHECK(same_bits(before, problem.flat()));
    CHECK(optimizer->steps() == 9);
    StateDict now = cloned(optimizer->state_dict());
    REQUIRE(now[0].first == "step");
    now[0].second.copy_from(state[0].second);
    CHECK(same_bits(now, state));
  }
}

TEST_CASE("the same bits for 1, 2 and 7 threads") {
  const int threads = num_threads();
  for (const NamedOptimizer& named : all_optimizers()) {
    INFO(named.name);
    std::vector<StateDict> results;
    for (int n : {1, 2, 7}) {
      set_num_threads(n);
      results.push_back(Large().run(named, 7));
    }
    CHECK(same_bits(results[0], results[1]));
    CHECK(same_bits(results[0], results[2]));
  }
  set_num_threads(threads);
}

TEST_CASE("where elements do not depend on each other, a tensor is updated as its pieces are") {
  for (const NamedOptimizer& named : all_optimizers()) {
    if (!named.by_element) continue;
    INFO(named.name);
    const int64_t sizes[] = {16384, 16385, 3, 0, 5000};
    const Tensor whole = leaf(golden::normals("w", {37772}, DType::f32));
    std::vector<Parameter> pieces;
    const auto cut = [&](const Tensor& t, size_t i) {
      int64_t begin = 0;
      for (size_t j = 0; j < i; ++j) begin += sizes[j];
      return Tensor::from(std::vector<float>(t.data<float>() + begin, t.data<float>() + begin + sizes[i]),
                          {sizes[i]});
    };
    for (size_t i = 0; i < 5; ++i) pieces.push_back({concat("piece", i), leaf(cut(whole, i))});
    const auto one = named.make({{"whole", whole}}, {}), many = named.make(pieces, {});
    for (int t = 1; t <= 7; ++t) {
      const Tensor g = golden::normals(concat("g", t), {37772}, DType::f32);
      whole.set_grad(g);
      for (size_t i = 0; i < 5; ++i) pieces[i].tensor.set_grad(cut(g, i));
      one->step();
      many->step();
    }
    for (size_t i = 0; i < 5; ++i) CHECK(same_bits(cut(whole, i), pieces[i].tensor));
  }
}

namespace {
bool all_finite(const StateDict& dict) {
  for (const auto& [name, tensor] : dict)
    for (int64_t i = 0; i < tensor.numel(); ++i)
      if (!std::isfinite(tensor.at(i))) return false;
  return true;
}
}  // namespace

TEST_CASE("NaN and infinity in a gradient reach the parameter, and no other") {
  for (const NamedOptimizer& named : all_optimizers())
    for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      INFO(named.name, " with ", bad);
      const Problem problem;
      const auto optimizer = named.make(problem.group0(), problem.group1());
      run(problem, *optimizer, 1, 6);  // RAdam is adaptive from here on
      problem.set_gradients(7);
      problem.parameters[1].tensor.grad().data<double>()[4] = bad;
      optimizer->step();
      for (size_t j = 0; j < 3; ++j)
        for (int64_t i = 0; i < problem.parameters[j].tensor.numel(); ++i) {
          const double x = problem.parameters[j].tensor.at(i);
          if (j != 1)
            CHECK(std::isfinite(x));
          else if (i == 4)  // Lion takes the sign, and keeps the infinity in its state
            CHECK((!std::isfinite(x) || !all_finite(optimizer->state_dict())));
          else if (named.by_element)
            CHECK(std::isfinite(x));
        }
    }
}

TEST_CASE("every name trains a small network on the tape, and the registry's optimizer is the one by hand") {
  const auto loss_after = [](Optimizer& optimizer, const std::vector<Parameter>& p, int steps) {
    double first = 0, last = 0;
    const Tensor x = golden::normals("x", {32, 6}, DType::f32),
                 wanted = golden::normals("m", {6, 3}, DType::f32);
    const Tensor y = matmul(x, wanted);
    for (int t = 0; t < steps; ++t) {
      Tape tape;
      const Tensor loss = mse_loss(add(matmul(x, p[0].tensor), p[1].tensor), y);
      tape.backward(loss);
      optimizer.step();
      optimizer.zero_grad();
      last = loss.item();
      if (t == 0) first = last;
    }
    return last / first;
  };
  const auto parameters = [] {
    return std::vector<Parameter>{{"weight", leaf(golden::normals("w", {6, 3}, DType::f32))},
                                  {"bias", leaf(golden::normals("b", {3}, DType::f32))}};
  };
  for (const std::string& name : optimizer_names()) {
    INFO(name);
    double best = 1;
    for (double lr : {0.003, 0.05, 2.0}) {  // LARS and Adadelta take large ones
      const auto p = parameters();
      const DecayGroups groups = split_decay(p);
      REQUIRE(groups.decay.size() == 1);
      CHECK(groups.no_decay[0].name == "bias");
      const auto optimizer = make_optimizer(name, groups, {.lr = lr, .mom = 0.9, .wd = 1e-3});
      CHECK(optimizer->num_groups() == 2);
      CHECK(optimizer->lr(1) == lr);
      CHECK(optimizer->weight_decay(0) == 1e-3);
      CHECK(optimizer->weight_decay(1) == 0);
      if (optimizer->has_momentum(1)) CHECK(optimizer->momentum(1) == 0.9);
      const double ratio = loss_after(*optimizer, p, 200);
      if (ratio < best) best = ratio;
    }
    CHECK(best < 0.2);  // with centralised gradients the weights can't reach the goal
    const std::string_view text = optimizer_description(name);  // names its source
    CHECK((text.find("https://") != text.npos || text.find("torch.optim") != text.npos));
  }
  const auto a = parameters(), b = parameters();
  const auto by_name = make_optimizer("ranger", split_decay(a));
  Ranger by_hand({b[0]}, {.lr = 4e-3, .betas = {0.95, 0.99}, .eps = 1e-6, .weight_decay = 1e-2});
  by_hand.add_group({b[1]}, {.lr = 4e-3, .betas = {0.95, 0.99}, .eps = 1e-6});
  CHECK(loss_after(*by_name, a, 20) == loss_after(by_hand, b, 20));
  CHECK(same_bits(by_name->state_dict(), by_hand.state_dict()));
  // One kind of parameters alone makes one group.
  CHECK(make_optimizer("rangerlars", {{}, {a[1]}})->weight_decay(0) == 0);
}

TEST_CASE("state that does not fit is refused whole") {
  const Problem problem;
  Adam optimizer(problem.parameters);
  run(problem, optimizer, 1, 2);
  const StateDict before = cloned(optimizer.state_dict());
  CHECK(before[1].first == "layer0.weight/step");
  CHECK(before[2].first == "layer0.weight/exp_avg");
  const auto changed = [&](const std::string& name, const Tensor& t) {
    StateDict dict;
    for (const auto& [key, tensor] : before) {
      const bool hit = key == name;
      if (!hit || t.defined()) dict.emplace_back(key, hit ? t : Tensor::ones(tensor.shape(), tensor.dtype()));
    }
    return dict;
  };
  CHECK_ERROR(optimizer.load_state_dict(changed("layer2.weight/exp_avg", {})),
              "adam: the loaded state lacks 'layer2.weight/exp_avg'");
  CHECK_ERROR(optimizer.load_state_dict(changed("layer2.weight/exp_avg", Tensor::zeros({5}, DType::f64))),
              "'layer2.weight/exp_avg' of the loaded state is f64 [5] but f64 [3, 2, 2, 2] is expected");
  CHECK_ERROR(optimizer.load_state_dict(changed("layer0.weight/exp_avg", Tensor::zeros({5}))),
              "is f32 [5] but f64 [5]");
  CHECK_ERROR(optimizer.load_state_dict(changed("step", Tensor::scalar(-1, DType::i64))),
              "'step' of the loaded state is -1, and no number of steps");
  CHECK_ERROR(optimizer.load_state_dict(changed("step", Tensor::full({}, 0x1p62, DType::i64))),
              "'step' of the loaded state is 4611686018427387904, and no number of steps");
  StateDict more = before;
  more.emplace_back("layer9.weight/exp_avg", Tensor::zeros({1}));
  CHECK_ERROR(optimizer.load_state_dict(more),
              "has 'layer9.weight/exp_avg' which this optimizer does not know");
  more.back().first = "step";
  CHECK_ERROR(optimizer.load_state_dict(more), "'step' is in the loaded state twice");
  Ranger ranger(problem.parameters);
  CHECK_ERROR(ranger.load_state_dict(before),
              "lacks 'layer0.weight/slow_buffer', 'layer1.weight/slow_buffer', ");
  CHECK_ERROR(SGD(problem.parameters).load_state_dict(before),
              "sgd: the loaded state has 'layer0.weight/exp_avg'");
  CHECK_ERROR(SGD(problem.parameters).load_state_dict(before), " and 3 more");
  CHECK(same_bits(before, optimizer.state_dict()));
}

TEST_CASE("a group is added to Ranger whole or not at all") {
  const Tensor a = leaf(Tensor::zeros({2})), b = leaf(Tensor::zeros({2}));
  Ranger ranger({{"a", a}});
  CHECK_ERROR(ranger.add_group({{"b", b}}, {.k = 0}), "lookahead: k is 0");
  CHECK(ranger.inner().num_groups() == 1);
  ranger.add_group({{"b", b}}, {.lr = 1, .betas = {0, 0}, .k = 1, .alpha = 0});
  CHECK(ranger.num_groups() == 2);
  b.set_grad(Tensor::ones({2}));
  ranger.step();
  CHECK(b.at(0) == 0);  // with options of its own
}

TEST_CASE("Lookahead knows a group that is added to its inner optimizer at once") {
  const auto make = [](const Tensor& a, const Tensor& b) {
    auto lookahead = std::make_unique<Lookahead>(
        std::make_unique<SGD>(std::vector<Parameter>{{"a", a}}, SGDOptions{.lr = 1}),
        LookaheadOptions{.k = 2});
    static_cast<SGD&>(lookahead->inner()).add_group({{"b", b}}, {.lr = 2});
    return lookahead;
  };
  const Tensor a = leaf(Tensor::zeros({2})), b = leaf(Tensor::zeros({2}));
  const auto first = make(a, b), second = make(leaf(Tensor::zeros({2})), leaf(Tensor::zeros({2})));
  CHECK(second->num_groups() == 2);
  CHECK(second->initial_lr(1) == 2);
  a.set_grad(Tensor::ones({2}));
  b.set_grad(Tensor::ones({2}));
  first->step();
  first->zero_grad();
  CHECK_FALSE(b.grad().defined());
  second->load_state_dict(first->state_dict());
  CHECK(same_bits(first->state_dict(), second->state_dict()));
  b.set_grad(Tensor::ones({2}));
  make(a, b)->zero_grad();
  CHECK_FALSE(b.grad().defined());
}

TEST_CASE("what cannot be trained or is out of range is refused with its name") {
  const Tensor p = leaf(Tensor::zeros({2})), q = leaf(Tensor::zeros({2}));
  CHECK_ERROR(SGD({{"p", p}, {"p", q}}), "sgd: two parameters are named 'p'");
  CHECK_ERROR(SGD({{"p", p}, {"same", p}}), "parameter 'same' is in the optimizer already");
  CHECK_ERROR(Adam({{"p", Tensor()}}), "adam: parameter 'p' is undefined");
  CHECK_ERROR(AdamW({{"p", Tensor::zeros({2}, DType::i64)}}), "parameter 'p' is i64 [2]; only f32 and f64");
  Ranger ranger({{"p", p}});
  CHECK_ERROR(ranger.add_group({{"p", q}}), "two parameters are named 'p'; parameters(\"PART\")");
  CHECK_ERROR(ranger.lr(1), "there is no parameter group 1");
  ranger.add_group({{"q", q}}, {.lr = 0.5});
  CHECK(ranger.lr(1) == 0.5);
  CHECK_ERROR(ranger.set_lr(0, -1), "radam: lr is -1");
  CHECK_ERROR(ranger.set_lr(0, NAN), "lr is nan");
  CHECK_ERROR(ranger.set_momentum(0, 1), "betas must be in [0, 1)");
  CHECK(ranger.momentum(0) == 0.95);
  CHECK_ERROR(Ranger({{"p", p}}, {.k = 0}), "lookahead: k is 0");
  CHECK_ERROR(Ranger({{"p", p}}, {.alpha = 1.5}), "lookahead: alpha is 1.5");
  CHECK_ERROR(RAdam({{"p", p}}, {.threshold = 3}), "threshold is 3");
  CHECK_ERROR(Adam({{"p", p}}, {.eps = -1}), "eps is -1");
  CHECK_ERROR(Adam({{"p", p}}, {.weight_decay = -1}), "weight_decay is -1");
  CHECK_ERROR(SGD({{"p", p}}, {.nesterov = true}), "nesterov needs momentum > 0");
  CHECK_ERROR(LARS({{"p", p}}, {.trust_coefficient = 0}), "trust_coefficient is 0");
  SGD plain({{"p", p}});
  CHECK(!plain.has_momentum(0));
  CHECK_ERROR(plain.set_momentum(0, 0.9), "was added with momentum 0");
  CHECK_ERROR(plain.set_options(0, {.momentum = 0.9}), "need other state");
  CHECK_ERROR(make_optimizer("rangr", {{{"p", p}}, {}}), "unknown optimizer 'rangr'; it must be one of a");
  CHECK_ERROR(make_optimizer("sgd", {}), "no parameter to train");
  CHECK_ERROR(Lookahead(nullptr), "null");
  CHECK_ERROR(Lookahead(std::make_unique<Ranger>(std::vector<Parameter>{{"p", p}})), "is a Lookahead itself");
  auto stepped = std::make_unique<SGD>(std::vector<Parameter>{{"p", p}});
  stepped->step();
  CHECK_ERROR(Lookahead(std::move(stepped)), "has made 1 steps already");
}

TEST_CASE("a parameter that was converted after it was added is refused before anything moves") {
  for (const NamedOptimizer& named : all_optimizers()) {
    INFO(named.name);
    const Problem problem;
    const auto optimizer = named.make(problem.group0(), problem.group1());
    problem.set_gradients(1);
    problem.parameters[2].tensor.zero_grad();
    problem.parameters[2].tensor.set_data(problem.parameters[2].tensor.to(DType::f32));
    const Tensor before = problem.flat();
    const StateDict state = cloned(optimizer->state_dict());
    CHECK_ERROR(optimizer->step(), "parameter 'layer2.weight' is f32 [3, 2, 2, 2] now but was f64");
    CHECK(same_bits(before, problem.flat()));
    CHECK(same_bits(state, optimizer->state_dict()));
  }
}
