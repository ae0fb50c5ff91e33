// The Trainer on a GPU (an emulated one, or a real one: cuda_trainer_test_gpu): the CPU's training but for
// rounding; captured steps give the bits of single launches; going on gives the bits of running through.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "support/cuda_switches.h"
#include "support/light.h"
#include "weft/weft.h"
#if WEFT_EMULATED
#include "weft_emulator.h"
#endif

using namespace weft;
using training::Trainer;

namespace {

Tensor squared_error(const Tensor& prediction, const Tensor& target) { return mse_loss(prediction, target); }

struct Net : Module {
  Linear hidden{*this, "hidden", 6, 16};
  BatchNorm2d bn{*this, "bn", 16, {.activation = Activation::mish}};
  Dropout drop{*this, "drop", 0.1};
  Linear head{*this, "head", 16, 3};
  Tensor forward(const Tensor& x) override {
    const Tensor h = hidden(x);
    return head(drop(reshape(bn(reshape(h, {h.size(0), 1, 1, 16})), {h.size(0), 16})));
  }
};

/// Three classes by the largest of the first three features.
struct Features {
  Tensor x, y;
  explicit Features(int64_t n, uint64_t seed) {
    Generator generator(seed);
    x = Tensor::normal({n, 6}, 0, 1, generator);
    y = Tensor::zeros({n}, DType::i64);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = 1; c < 3; ++c)
        if (x.at(6 * i + c) > x.at(6 * i + y.data<int64_t>()[i])) y.data<int64_t>()[i] = c;
  }
};

DeviceBatch soften(DeviceBatch batch, int64_t, int64_t index) {
  const int64_t n = batch.y.numel();
  batch.targets = Tensor::full({n, 3}, 0.01 * double(index % 4));
  for (int64_t i = 0; i < n; ++i)
    batch.targets.data<float>()[3 * i + batch.y.data<int64_t>()[i]] += 1 - 0.03f * float(index % 4);
  return batch;
}

struct Result {
  std::vector<float> weights;
  double loss, valid_loss, accuracy;
  bool captured;
  bool operator==(const Result& o) const {
    return weights == o.weights && loss == o.loss && valid_loss == o.valid_loss && accuracy == o.accuracy;
  }
};

/// Trains four epochs of five batches and a shorter one; where `stop` > 0 in two sessions.
Result trained(Device device, training::TrainerOptions options = {}, int64_t stop = 0) {
  const Features train_data(46, 1), valid_data(20, 2);
  const std::string file =
      (std::filesystem::temp_directory_path() / concat("weft-cuda-trainer-", getpid())).string();
  options.schedule = optim::flat_cosine();
  options.checkpoint = file;
  Result result;
  for (const bool first : {true, false}) {
    if (first && stop == 0) continue;
    manual_seed(4);
    Net net;
    net.to(device);
    optim::Ranger optimizer(net.parameters(), {.lr = 2e-2});
    TensorBatches train(train_data.x, train_data.y, {.batch_size = 8, .device = device, .transform = soften}),
        valid(valid_data.x, valid_data.y, {.batch_size = 8, .shuffle = false, .device = device});
    training::TrainerOptions o = options;
    if (first)
      o.callbacks.push_back({.on_step = [stop](Trainer& t) {
        if (t.state().step == stop) t.stop();
      }});
    Trainer trainer(net, optimizer, train, valid, o);
    if (!first && stop > 0) trainer.load_checkpoint(file);
    CHECK(trainer.fit(4) == !first);
    if (first) continue;
    CHECK(trainer.history().size() == 4);
    const auto& last = trainer.history().back();
    result.loss = last.train_loss, result.valid_loss = last.valid_loss, result.accuracy = last.metrics.at(0);
    result.captured = trainer.captured();
    for (const auto& [name, t] : net.state_dict())
      if (t.dtype() == DType::f32)
        for (float v : t.to_vector<float>()) result.weights.push_back(v);
  }
  std::filesystem::remove(file);
  return result;
}

double distance(const Result& a, const Result& b) {
  REQUIRE(a.weights.size() == b.weights.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.weights.size(); ++i) {
    difference += std::pow(double(a.weights[i]) - double(b.weights[i]), 2);
    norm += std::pow(double(b.weights[i]), 2);
  }
  return std::sqrt(difference / norm);
}

}  // namespace

TEST_CASE("the GPU trains as the CPU does, captured or not, to the same bits") {
  const test::ExactFloat exact;
  for (const training::TrainerOptions& options :
       {training::TrainerOptions{}, training::TrainerOptions{.clip_grad_norm = 0.5, .accumulate = 3}}) {
    const Result cpu = trained(Device::cpu, options), captured = trained(Device::cuda, options);
    training::TrainerOptions single = options;
    single.capture = false;
    const Result eager = trained(Device::cuda, single);
    CHECK(captured.captured);
    CHECK(!eager.captured);
    CHECK(captured == eager);
    CHECK(distance(captured, cpu) < 1e-3);
    CHECK(captured.loss == doctest::Approx(cpu.loss).epsilon(1e-3));
    CHECK(captured.valid_loss == doctest::Approx(cpu.valid_loss).epsilon(1e-3));
    CHECK(captured.accuracy == doctest::Approx(cpu.accuracy));
  }
}

TEST_CASE("16 bits: captured is eager, and near f32") {
  const Result full = trained(Device::cuda);
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const Result captured = trained(Device::cuda, {.precision = dtype, .clip_grad_norm = 5}),
                 eager = trained(Device::cuda, {.precision = dtype, .clip_grad_norm = 5, .capture = false});
    CHECK(captured == eager);
    CHECK(captured.loss == doctest::Approx(full.loss).epsilon(0.1));
    CHECK(!(captured == full));
  }
}

namespace {

/// Ranger, of which nobody knows what else it does.
struct UnknownRanger : optim::Ranger {
  using Ranger::Ranger;
};

/// Steps of a Net in 16 bits, captured from the third on.
struct Steps {
  const Features data{48, 1};
  Net net;
  std::unique_ptr<optim::Optimizer> optimizer;
  TensorBatches batches{data.x, data.y, {.batch_size = 8, .device = Device::cuda}};
  training::TrainStepOptions options;
  std::optional<training::TrainStep> step;

  explicit Steps(bool known = true, const training::TrainStepOptions& how = {.dtype = DType::bf16})
      : options(how) {
    manual_seed(4);
    net.load_state_dict(Net().state_dict());
    net.to(Device::cuda);
    const optim::RangerOptions o{.lr = 2e-2};
    if (known)
      optimizer = std::make_unique<optim::Ranger>(net.parameters(), o);
    else
      optimizer = std::make_unique<UnknownRanger>(net.parameters(), o);
    step.emplace(
        net, *optimizer, [](const Tensor& x, const Tensor& y) { return cross_entropy(x, y); }, options);
    batches.begin_epoch(0, 0);
  }
  void run(int n) {
    for (int i = 0; i < n; ++i)
      if (!(*step)(batches)) batches.begin_epoch(batches.epoch() + 1, 0), --i;
  }
  std::vector<float> weights() const {
    std::vector<float> all;
    for (const auto& [name, t] : net.state_dict())
      if (t.dtype() == DType::f32)
        for (float v : t.to_vector<float>()) all.push_back(v);
    return all;
  }
};

}  // namespace

TEST_CASE("gradients that stay in 16 bits for the optimizer give the bits of those converted") {
  // The third has a limit that is never reached: what looks at gradients sees f32.
  Steps narrow, wide(false), clipped(true, {.dtype = DType::bf16, .clip_grad_norm = 1e30});
  for (Steps* s : {&narrow, &wide, &clipped}) {
    manual_seed(9);
    s->run(10);
    CHECK(s->step->captured());
    CHECK(s->weights() == narrow.weights());
  }
  CHECK(narrow.step->graph_nodes() == wide.step->graph_nodes() - 2);  // the weights' copies are the other
}

TEST_CASE("copies of weights that the update writes are fresh, whoever else changes weights") {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    CAPTURE(dtype);
    const training::TrainStepOptions options{.dtype = dtype};
    // The second converts all weights in each step.
    Steps following(true, options), converting(false, options);
    const StateDict start = Steps(true, options).net.state_dict();
    const auto both = [&](const std::function<void(Steps&)>& f) {
      for (Steps* s : {&following, &converting}) {
        manual_seed(5);
        f(*s);
        s->run(7);  // more than a turn of Lookahead
      }
      CHECK(following.weights() == converting.weights());
    };
    both([](Steps&) {});
    CHECK(following.step->captured());
    both([](Steps& s) { s.net.parameters()[0].tensor.fill(0.125); });
    both([&](Steps& s) { s.net.load_state_dict(start); });
    both([](Steps& s) {  // a graph of one's own
      const Tensor w = s.net.head.parameters()[0].tensor;
      const auto graph = kernels::cuda::capture([&] { w.fill(0.25); });
      graph->launch();
      s.run(2);
      graph->launch();
    });
    both([](Steps& s) {  // another training of the same weights, in turns
      optim::SGD sgd(s.net.parameters(), {.lr = 0.1});
      TensorBatches batches(s.data.x, s.data.y, {.batch_size = 8, .device = Device::cuda});
      training::TrainStep other(s.net, sgd,
                                [](const Tensor& x, const Tensor& y) { return cross_entropy(x, y); },
                                {.dtype = s.options.dtype});
      batches.begin_epoch(0, 0);
      for (int i = 0; i < 5; ++i) other(batches), s.run(1);
      CHECK(other.captured());
    });
#if WEFT_EMULATED
    const auto launches_of_step = [&] {
      weft_emulator::reset_stats();
      following.run(1);
      return weft_emulator::stats().launches;
    };
    launches_of_step();
    const uint64_t undisturbed = launches_of_step();
    kernels::cuda::synchronize();  // might have been for a change
    CHECK(launches_of_step() == undisturbed + (dtype == DType::bf16));
    CHECK(launches_of_step() == undisturbed);
#endif
  }
}

TEST_CASE("weights that the step itself changes, and not by the optimizer") {
  // As one encoder follows another: without gradients, in the optimizer's list all the same or not.
  struct Drifting : Module {
    Linear moving{*this, "moving", 6, 8};
    Linear head{*this, "head", 8, 3};
    Tensor forward(const Tensor& x) override {
      Tensor h;
      {
        const NoGrad none;
        const Tensor w = moving.parameters()[0].tensor;
        h = moving(x);
        w.copy_from(affine(w, 0.75, 0.125));
      }
      return head(h);
    }
  };
  const Features data(48, 3);
  for (const bool listed : {true, false}) {
    std::vector<std::vector<float>> results;
    for (const bool known : {true, false}) {
      manual_seed(8);
      Drifting net;
      net.to(Device::cuda);
      const auto list = listed ? net.parameters() : net.head.parameters();
      std::unique_ptr<optim::Optimizer> optimizer = std::make_unique<optim::Ranger>(list);
      if (!known) optimizer = std::make_unique<UnknownRanger>(list);
      TensorBatches batches(data.x, data.y, {.batch_size = 4, .device = Device::cuda});
      training::TrainStep step(net, *optimizer,
                               [](const Tensor& x, const Tensor& y) { return cross_entropy(x, y); },
                               {.dtype = DType::bf16});
      batches.begin_epoch(0, 0);
      for (int i = 0; i < 10; ++i) step(batches);
      CHECK(step.captured());
      results.emplace_back();
      for (const Parameter& p : net.parameters())
        for (float v : p.tensor.to_vector<float>()) results.back().push_back(v);
    }
    CHECK(results[0] == results[1]);
  }
}

TEST_CASE("what changes of the module or the optimizer is captured anew") {
  const Features data(80, 3);
  const auto train = [&](bool capture) {
    manual_seed(8);
    Net net;
    net.to(Device::cuda);
    const auto of = [&](const char* layer) {
      std::vector<Parameter> some;
      for (const Parameter& p : net.parameters())
        if (p.name.rfind(layer, 0) == 0) some.push_back(p);
      return some;
    };
    optim::AdamW optimizer(of("hidden"), {.lr = 1e-2});
    TensorBatches batches(data.x, data.y, {.batch_size = 4, .device = Device::cuda});
    training::TrainStep step(net, optimizer,
                             [](const Tensor& x, const Tensor& y) { return cross_entropy(x, y); },
                             {.capture = capture});
    batches.begin_epoch(0, 0);
    int calls = 0;
    RemovableHandle handle;
    const std::vector<std::function<void()>> changes = {
        [] {}, [&] { net.bn.eval(); }, [&] { net.hidden.parameters()[1].tensor.set_requires_grad(false); },
        [&] { optimizer.add_group(of("head")); },
        [&] {
          handle = net.head.register_forward_hook([&](Module&, const Tensor&, const Tensor&) {
            ++calls;
            return Tensor();
          });
        }};
    for (const auto& change : changes) {
      change();
      for (int i = 0; i < 4; ++i) step(batches);
      CHECK(step.captured() == capture);
    }
    CHECK(calls == 4);
    std::vector<float> weights;
    for (const auto& [name, t] : net.state_dict())
      if (t.dtype() == DType::f32)
        for (float v : t.to_vector<float>()) weights.push_back(v);
    return weights;
  };
  CHECK(train(true) == train(false));
}

TEST_CASE("a result without rows, and labels that are on the other device") {
  struct Scalar : Module {
    Linear head{*this, "head", 6, 1};
    Tensor forward(const Tensor& x) override { return mean(head(x)); }
  };
  Scalar net;
  net.to(Device::cuda);
  optim::SGD optimizer(net.parameters(), {.lr = 0.1});
  training::TrainStep step(net, optimizer, [](const Tensor& x, const Tensor&) { return x; }, {});
  const Features data(8, 3);
  TensorBatches batches(data.x, data.y, {.batch_size = 4, .device = Device::cuda});
  batches.begin_epoch(0, 0);
  CHECK(step(batches));  // its result has no rows
  CHECK(step.take_totals().samples == 4);
  struct Mixed : TensorBatches {
    using TensorBatches::TensorBatches;
    std::optional<DeviceBatch> next() override {
      auto batch = TensorBatches::next();
      if (batch) batch->y = batch->y.to(Device::cpu);
      return batch;
    }
    bool fixed_buffers() const override { return false; }
  };
  Mixed mixed(data.x, data.y, {.batch_size = 4, .device = Device::cuda});
  mixed.begin_epoch(0, 0);
  CHECK_THROWS_WITH_AS(step(mixed), doctest::Contains("the batch is on cpu"), Error);
}

TEST_CASE("stopped after a step it goes on to the same bits") {
  for (const DType dtype : {DType::f32, DType::f16}) {
    const Result through = trained(Device::cuda, {.precision = dtype});
    for (const int64_t stop : test::some({6, 1, 11, 15})) {
      CAPTURE(stop);
      CHECK(trained(Device::cuda, {.precision = dtype}, stop) == through);
    }
  }
}

TEST_CASE("a regression, whose targets are no labels") {
  const test::ExactFloat exact;
  struct Line : Module {
    Linear map{*this, "map", 6, 2};
    Tensor forward(const Tensor& x) override { return map(x); }
  };
  const Features data(40, 3);
  double last = 0;
  for (const Device device : {Device::cpu, Device::cuda}) {
    manual_seed(6);
    Line line;
    line.to(device);
    optim::Adam optimizer(line.parameters(), {.lr = 5e-2});
    const Tensor y = Tensor::from(data.x.to_vector<float>(), {40, 6});
    Tensor two = Tensor::empty({40, 2});
    for (int64_t i = 0; i < 40; ++i)
      for (int64_t k = 0; k < 2; ++k) two.data<float>()[2 * i + k] = float(y.at(6 * i + k) - y.at(6 * i + 4));
    TensorBatches batches(data.x, two, {.batch_size = 10, .device = device});
    Trainer trainer(line, optimizer, batches, {.loss = squared_error});
    trainer.fit(15);
    CHECK(trainer.captured() == (device == Device::cuda));
    CHECK(trainer.history().back().train_loss < 0.5 * trainer.history().front().train_loss);
    if (device == Device::cuda)
      CHECK(trainer.history().back().train_loss == doctest::Approx(last).epsilon(1e-3));
    last = trainer.history().back().train_loss;
  }
}

TEST_CASE("a loss that is not finite is seen within some steps") {
  const Features data(40, 3);
  manual_seed(6);
  Net net;
  net.to(Device::cuda);
  optim::SGD optimizer(net.parameters(), {.lr = 1e30});
  TensorBatches batches(data.x, data.y, {.batch_size = 10, .device = Device::cuda});
  Trainer trainer(net, optimizer, batches);
  CHECK_THROWS_AS(trainer.fit(20), training::DivergedError);
}

namespace {

/// So steep that f16 leaves steps out until the scale has come down, in the second epoch.
training::TrainerOptions steep() {
  return {.loss = [](const Tensor& x, const Tensor& y) { return affine(cross_entropy(x, y), 1e4); },
          .valid_loss = [](const Tensor& x, const Tensor& y) { return cross_entropy(x, y); },
          .metrics = {training::accuracy()},
          .precision = DType::f16,
          .clip_grad_norm = 1};
}

int64_t updates_of(const optim::Optimizer& optimizer, const char* parameter) {
  return *find(optimizer.state_dict(), std::string(parameter) + "/step").data<int64_t>();
}

}  // namespace

TEST_CASE("with steps left out in f16, neither saving nor going on changes the bits") {
  const Result through = trained(Device::cuda, steep());
  training::TrainerOptions saving = steep();
  saving.checkpoint_steps = 2;
  CHECK(trained(Device::cuda, saving) == through);
  for (const int64_t stop : test::some({6, 2, 8, 11, 12, 15})) {
    CAPTURE(stop);
    CHECK(trained(Device::cuda, steep(), stop) == through);
  }
}

TEST_CASE("counts leave out what was left out, of the parameters that took part") {
  manual_seed(8);
  Net net;
  net.to(Device::cuda);
  optim::AdamW optimizer(net.parameters(), {.lr = 1e-3});
  const Features data(80, 3);
  TensorBatches batches(data.x, data.y, {.batch_size = 4, .device = Device::cuda});
  const Tensor factor = Tensor::ones({}, DType::f32, Device::cuda);
  const training::Loss loss = [&](const Tensor& x, const Tensor& y) { return cross_entropy(x, y) * factor; };
  training::TrainStep step(net, optimizer, loss, {.dtype = DType::f16});
  const auto left_out = [&] { return *find(step.state_dict(), "skipped").to(Device::cpu).data<int64_t>(); };
  batches.begin_epoch(0, 0);
  std::vector<int64_t> skipped = {0};  // before each part
  for (const bool frozen : {false, true, false}) {
    net.hidden.weight.set_requires_grad(!frozen);
    factor.fill(frozen ? 1e30 : 1);  // each step is left out
    for (int i = 0; i < 6; ++i) step(batches);
    CHECK(step.captured());
    skipped.push_back(left_out());
    CHECK(updates_of(optimizer, "head.weight") == 6 * (int64_t(skipped.size()) - 1) - skipped.end()[-2]);
  }
  CHECK(skipped[1] < 3);
  CHECK(skipped[2] == skipped[1] + 6);
  step.settle();
  CHECK(optimizer.steps() == 18 - skipped[3]);
  CHECK(updates_of(optimizer, "head.weight") == 18 - skipped[3]);
  CHECK(updates_of(optimizer, "hidden.weight") == 12 - skipped[1] - (skipped[3] - skipped[2]));
}

TEST_CASE("an error within a step of f16 leaves nothing of it behind") {
  struct Failing : optim::SGD {
    using SGD::SGD;
    bool fails = false;
    void step() override {
      check(!fails, "no step today");
      SGD::step();
    }
  };
  struct Line : Module {
    Linear map{*this, "map", 6, 3};
    Tensor forward(const Tensor& x) override { return map(x); }
  };
  const Features data(40, 3);
  for (const double clip : {0.0, 0.5}) {
    const auto run = [&](bool error) {
      manual_seed(6);
      Line line;
      line.to(Device::cuda);
      Failing sgd(line.parameters(), {.lr = 0.1});
      TensorBatches batches(data.x, data.y, {.batch_size = 4, .device = Device::cuda});
      training::TrainStep step(line, sgd,
                               [](const Tensor& x, const Tensor& y) { return cross_entropy(x, y); },
                               {.dtype = DType::f16, .clip_grad_norm = clip, .capture = false});
      batches.begin_epoch(0, 0);
      step(batches);
      sgd.fails = true;
      if (error)
        CHECK_THROWS_WITH_AS(step(batches), doctest::Contains("no step today"), Error);
      else
        batches.next();
      sgd.fails = false;
      for (int i = 0; i < 3; ++i) step(batches);
      return line.map.weight.to_vector<float>();
    };
    CHECK(run(true) == run(false));
  }
}

#if WEFT_EMULATED
TEST_CASE("an error within a step is the one that is heard, though the GPU does nothing any more") {
  const Features data(4, 3);
  Net net;
  net.to(Device::cuda);
  optim::SGD sgd(net.parameters(), {.lr = 0.1});
  TensorBatches batches(data.x, data.y, {.batch_size = 4, .device = Device::cuda});
  for (const DType dtype : {DType::f32, DType::f16}) {
    training::TrainStep step(net, sgd,
                             [](const Tensor&, const Tensor&) -> Tensor {
                               weft_emulator::fail_launch_after(0, cudaErrorLaunchOutOfResources);
                               fail("no loss today");
                             },
                             {.dtype = dtype, .capture = false});
    batches.begin_epoch(0, 0);
    CHECK_THROWS_WITH_AS(step(batches), doctest::Contains("no loss today"), Error);
    weft_emulator::fail_launch_after(0, cudaSuccess);
  }
}
#endif

TEST_CASE("sums of an epoch are its own, stopped after its last step or gone on from a checkpoint") {
  const Features data(46, 3);
  const std::string file =
      (std::filesystem::temp_directory_path() / concat("weft-cuda-sums-", getpid())).string();
  const auto run = [&](int64_t stop, bool back) {
    manual_seed(6);
    Net net;
    net.to(Device::cuda);
    optim::SGD optimizer(net.parameters(), {.lr = 0.1});
    TensorBatches batches(data.x, data.y, {.batch_size = 8, .device = Device::cuda});
    Trainer trainer(net, optimizer, batches, {.callbacks = {{.on_step = [&](Trainer& t) {
                                                if (t.state().step == stop) t.stop();
                                              }}}});
    if (back) trainer.save_checkpoint(file);
    CHECK(trainer.fit(2) == (stop == 0));
    stop = 0;
    if (back) trainer.load_checkpoint(file);
    CHECK(trainer.fit(2));
    std::vector<double> losses;
    for (const auto& row : trainer.history()) losses.push_back(row.train_loss);
    return losses;
  };
  const std::vector<double> through = run(0, false);
  CHECK(through.size() == 2);
  CHECK(run(6, false) == through);
  CHECK(run(4, true) == through);
  std::filesystem::remove(file);
}

TEST_CASE("work at another size before the capture does not take a layer's constant away") {
  struct Places : Module {
    SinusoidalPositions positions{*this, "positions"};
    Linear head{*this, "head", 4, 3};
    Tensor forward(const Tensor& x) override { return head(mean(positions(x), {1})); }
  };
  Places net;
  net.to(Device::cuda);
  optim::SGD optimizer(net.parameters(), {.lr = 0.1});
  const Tensor x = Tensor::normal({40, 5, 4}), y = Tensor::zeros({40}, DType::i64);
  TensorBatches batches(x, y, {.batch_size = 4, .device = Device::cuda});
  training::TrainStep step(net, optimizer,
                           [](const Tensor& x, const Tensor& y) { return cross_entropy(x, y); }, {});
  batches.begin_epoch(0, 0);
  for (int i = 0; i < 4; ++i) {
    step(batches);
    net(Tensor::zeros({2, 7, 4}, DType::f32, Device::cuda));
  }
  CHECK(step.captured());
}

TEST_CASE("a model of tokens computes in 16 bits too") {
  struct Tokens : Module {
    Embedding table{*this, "table", 11, 8, {.padding_idx = 0}};
    Linear head{*this, "head", 8, 3};
    DType seen = DType::u8;
    Tensor forward(const Tensor& x) override {
      const Tensor tokens = table(x);
      seen = tokens.dtype();
      return head(mean(tokens, {1}));
    }
  };
  const Tensor x = Tensor::zeros({40, 5}, DType::i64), y = Tensor::zeros({40}, DType::i64);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<int64_t>()[i] = i * i % 11;
  for (int64_t i = 0; i < y.numel(); ++i) y.data<int64_t>()[i] = x.data<int64_t>()[5 * i] % 3;
  const auto run = [&](DType dtype, bool capture) {
    manual_seed(6);
    Tokens net;
    net.to(Device::cuda);
    optim::AdamW optimizer(net.parameters(), {.lr = 1e-2});
    TensorBatches batches(x, y, {.batch_size = 10, .device = Device::cuda});
    Trainer trainer(net, optimizer, batches, {.precision = dtype, .capture = capture});
    trainer.fit(4);
    CHECK(trainer.captured() == capture);
    CHECK(net.seen == dtype);
    net.seen = DType::u8;
    trainer.evaluate(batches);
    CHECK(net.seen == dtype);
    return net.table.weight.to(Device::cpu);
  };
  const Tensor full = run(DType::f32, true);
  for (const DType dtype : {DType::bf16, DType::f16}) {
    CAPTURE(dtype);
    const Tensor captured = run(dtype, true);
    CHECK(captured.to_vector<float>() == run(dtype, false).to_vector<float>());
    for (int64_t i = 0; i < full.numel(); ++i)
      CHECK(captured.at(i) == doctest::Approx(full.at(i)).epsilon(0.05));
  }
}

TEST_CASE("the range test finds the CPU's rates and leaves all as it was") {
  const test::ExactFloat exact;
  const Features data(40, 1);
  const auto curve = [&](Device device, DType dtype) {
    manual_seed(4);
    Net net;
    net.to(device);
    optim::SGD optimizer(net.parameters(), {.lr = 0.1, .momentum = 0.9});
    TensorBatches batches(data.x, data.y, {.batch_size = 8, .device = device, .transform = soften});
    const StateDict before = clone(net.state_dict());
    training::LrFinderOptions options{.start_lr = 1e-4, .end_lr = 1, .steps = 30};
    options.step.dtype = dtype;
    const training::LrFinderResult result = training::find_lr(net, optimizer, batches, options);
    for (const auto& kept : net.state_dict()) {
      CAPTURE(kept.first);
      if (kept.second.dtype() == DType::f32)
        CHECK(kept.second.to_vector<float>() == find(before, kept.first).to_vector<float>());
    }
    CHECK(optimizer.lr(0) == 0.1);
    REQUIRE(result.points.size() == 30);
    return result;
  };
  const training::LrFinderResult cpu = curve(Device::cpu, DType::f32), gpu = curve(Device::cuda, DType::f32),
                                 half = curve(Device::cuda, DType::f16);
  for (size_t i = 0; i < 30; ++i) {
    CAPTURE(i);
    CHECK(gpu.points[i].lr == cpu.points[i].lr);
    CHECK(gpu.points[i].loss == doctest::Approx(cpu.points[i].loss).epsilon(1e-4));
    CHECK(half.points[i].loss == doctest::Approx(cpu.points[i].loss).epsilon(0.05));
  }
}
