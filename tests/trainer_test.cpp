// The training loop as a library: it learns, it goes on from any step to the same bits, its callbacks come in
// order, and what is wrong is said.
#include <doctest/doctest.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <limits>
#include <numeric>
#include <thread>

#include "support/errors.h"
#include "support/temp_folder.h"
#include "weft/engine/file.h"
#include "weft/kernels/parallel.h"
#include "weft/weft.h"

using namespace weft;
using training::Callbacks;
using training::Trainer;

namespace {

Tensor cross_entropy_of(const Tensor& prediction, const Tensor& target) {
  return cross_entropy(prediction, target);
}
Tensor squared_error(const Tensor& prediction, const Tensor& target) { return mse_loss(prediction, target); }

namespace fs = std::filesystem;

void check_error(const std::function<void()>& f, const std::vector<std::string>& parts) {
  const std::string message = error_of(f);
  for (const std::string& part : parts)
    CHECK_MESSAGE(mentions(message, part), "\"", part, "\" in: ", message);
}

/// A file that is gone at the end.
struct TempFile {
  std::string path;
  explicit TempFile(const std::string& name)
      : path((fs::temp_directory_path() / concat("weft-trainer-", ::getpid(), "-", name)).string()) {}
  ~TempFile() { fs::remove(path); }
};

struct Net : Module {
  explicit Net(int64_t inputs = 2, double drop = 0.2)
      : hidden{*this, "hidden", inputs, 24}, dropout{*this, "dropout", drop} {}
  Linear hidden;
  Dropout dropout;
  Linear head{*this, "head", 24, 2};
  Tensor forward(const Tensor& x) override { return head(dropout(mish(hidden(x)))); }
};

/// Points in a square, and whether they lie inside a circle.
struct Points {
  Tensor x, y;
  explicit Points(int64_t n, uint64_t seed) {
    Generator generator(seed);
    x = Tensor::uniform({n, 2}, -1, 1, generator);
    std::vector<int64_t> inside;
    for (int64_t i = 0; i < n; ++i) inside.push_back(std::hypot(x.at(2 * i), x.at(2 * i + 1)) < 0.75);
    y = Tensor::from(inside, {n});
  }
};

/// Mixes each row with the one after it, with weights that depend on the place of the batch.
DeviceBatch mix_rows(DeviceBatch batch, int64_t epoch, int64_t index) {
  const int64_t n = batch.y.numel(), width = batch.x.numel() / n;
  DeviceBatch out{batch.x.clone(), batch.y, Tensor::zeros({n, 2})};
  for (int64_t i = 0; i < n; ++i) {
    const int64_t j = (i + 1) % n;
    const float w = 0.6f + 0.05f * float((epoch + index + i) % 8);
    for (int64_t k = 0; k < width; ++k)
      out.x.data<float>()[i * width + k] =
          w * float(batch.x.at(i * width + k)) + (1 - w) * float(batch.x.at(j * width + k));
    out.targets.data<float>()[2 * i + batch.y.data<int64_t>()[i]] += w;
    out.targets.data<float>()[2 * i + batch.y.data<int64_t>()[j]] += 1 - w;
  }
  return out;
}

enum class Kind { plain, mixed, lookahead };

/// Everything of one training; two of them with the same arguments train alike.
struct Setup {
  Points points{50, 3}, held_out{30, 4};
  std::unique_ptr<Net> net;
  std::unique_ptr<optim::Optimizer> optimizer;
  std::unique_ptr<TensorBatches> train, valid;

  explicit Setup(Kind kind = Kind::plain) {
    manual_seed(5);
    net = std::make_unique<Net>();
    const auto parameters = net->parameters();
    if (kind == Kind::lookahead)
      optimizer = std::make_unique<optim::Lookahead>(
          std::make_unique<optim::Adam>(parameters, optim::AdamOptions{.lr = 1e-2}),
          optim::LookaheadOptions{.k = 3});
    else
      optimizer = std::make_unique<optim::AdamW>(parameters, optim::AdamWOptions{.lr = 1e-2});
    TensorBatchesOptions options{.batch_size = 16, .seed = 9};
    if (kind == Kind::mixed) options.transform = mix_rows;
    train = std::make_unique<TensorBatches>(points.x, points.y, options);
    valid = std::make_unique<TensorBatches>(held_out.x, held_out.y,
                                            TensorBatchesOptions{.batch_size = 16, .shuffle = false});
  }
  Trainer trainer(training::TrainerOptions options = {}) {
    options.schedule = optim::flat_cosine();
    return Trainer(*net, *optimizer, *train, *valid, options);
  }
};

/// Bits of a dictionary.
std::vector<std::string> bits(const StateDict& dict) {
  std::vector<std::string> all;
  for (const auto& [name, t] : dict)
    all.push_back(name + std::string(static_cast<const char*>(t.raw()), size_t(t.bytes())));
  return all;
}

/// What must be the same however a training was interrupted.
struct Outcome {
  std::vector<std::string> weights, state;
  std::vector<double> numbers;
  uint64_t draws;
  explicit Outcome(Setup& s, const Trainer& t)
      : weights(bits(s.net->state_dict())),
        state(bits(s.optimizer->state_dict())),
        draws(default_generator().count()) {
    for (const auto& row : t.history())
      for (double v : {double(row.epoch), row.train_loss, row.valid_loss, row.metrics.at(0), row.lr})
        numbers.push_back(v);
  }
  bool operator==(const Outcome&) const = default;
};

Callbacks stop_at_step(int64_t step) {
  return {.on_step = [step](Trainer& t) {
    if (t.state().step == step) t.stop();
  }};
}

}  // namespace

TEST_CASE("it learns which points lie in a circle") {
  manual_seed(1);
  Net net(2, 0);
  optim::Ranger optimizer(net.parameters(), {.lr = 3e-2});
  const Points points(512, 1), held_out(256, 2);
  TensorBatches train(points.x, points.y, {.batch_size = 64}),
      valid(held_out.x, held_out.y, {.shuffle = false});
  Trainer trainer(net, optimizer, train, valid, {.label_smoothing = 0.05, .schedule = optim::flat_cosine()});
  const double before = trainer.evaluate().metrics.at(0);
  REQUIRE(trainer.fit(60));
  REQUIRE(trainer.history().size() == 60);
  const training::EpochResult& last = trainer.history().back();
  CHECK(last.epoch == 60);
  CHECK(last.metrics.at(0) > 0.94);
  CHECK(last.metrics.at(0) > before);
  CHECK(last.train_loss < trainer.history().front().train_loss);
  CHECK(last.lr < 1e-3);
  CHECK(trainer.state().step == 60 * 8);
  CHECK(!net.parameters().empty());
  CHECK(net.training());
  const training::Evaluation again = trainer.evaluate(), on_train = trainer.evaluate(train);
  CHECK(again.metrics.at(0) == last.metrics.at(0));
  CHECK(again.loss == last.valid_loss);
  CHECK(again.samples == 256);
  CHECK(on_train.samples == 512);
  CHECK(trainer.fit(60));  // nothing is left to do
  CHECK(trainer.state().step == 60 * 8);
}

TEST_CASE("rates that are set stay, or are what the schedule multiplies") {
  const Points points(64, 1);
  TensorBatches train(points.x, points.y, {.batch_size = 16});
  Net net(2, 0);
  optim::SGD optimizer(net.parameters(), {.lr = 1});
  optimizer.set_lr(0, 1e-3);
  Trainer plain(net, optimizer, train);
  plain.fit(1);
  CHECK(plain.history()[0].lr == 1e-3);
  optimizer.set_initial_lr(0, 0.5);
  Trainer scheduled(net, optimizer, train, {.schedule = optim::constant()});
  scheduled.fit(1);
  CHECK(scheduled.history()[0].lr == 0.5);
}

TEST_CASE("the loop gives what the plain loop gives, bit for bit") {
  Setup a, b;
  {
    manual_seed(5);
    Trainer trainer = a.trainer();
    trainer.fit(3);
  }
  manual_seed(5);
  const optim::Schedule schedule = optim::flat_cosine();
  int64_t step = 0;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    b.train->begin_epoch(epoch);
    while (const auto batch = b.train->next()) {
      schedule.apply(*b.optimizer, step++, 3 * b.train->batches());
      Tape tape;
      tape.backward(cross_entropy((*b.net)(batch->x), batch->y));
      b.optimizer->step();
      b.optimizer->zero_grad();
    }
  }
  CHECK(step == 12);
  CHECK(bits(a.net->state_dict()) == bits(b.net->state_dict()));
}

TEST_CASE("stopped after any step, or in validation, it goes on to the same bits") {
  for (const Kind kind : {Kind::plain, Kind::mixed, Kind::lookahead}) {
    CAPTURE(int(kind));
    const TempFile file("resume");
    std::optional<Outcome> through;
    {
      Setup s(kind);
      Trainer trainer = s.trainer();
      REQUIRE(trainer.fit(3));
      through.emplace(s, trainer);
    }
    // 12 steps of 4 an epoch; 13 stands for a stop in the second validation.
    for (int64_t stop = 1; stop <= 13; ++stop) {
      CAPTURE(stop);
      {
        Setup s(kind);
        int evaluated = 0;
        Callbacks callbacks = stop_at_step(stop);
        if (stop == 13)
          callbacks = {.on_evaluate_batch = [&](Trainer& t, int64_t) {
            if (++evaluated == 3) t.stop();
          }};
        Trainer trainer = s.trainer({.checkpoint = file.path, .callbacks = {callbacks}});
        CHECK(!trainer.fit(3));
        CHECK(trainer.state().step == (stop == 13 ? 8 : stop));
      }
      Setup s(kind);
      default_generator().set_state(99, 99);  // comes from the checkpoint
      Trainer trainer = s.trainer();
      trainer.load_checkpoint(file.path);
      CHECK(trainer.fit(3));
      CHECK(Outcome(s, trainer) == *through);
    }
  }
}

TEST_CASE("an error in validation costs no epoch") {
  const TempFile file("unreadable");
  std::optional<Outcome> through;
  {
    Setup s(Kind::lookahead);
    Trainer trainer = s.trainer();
    REQUIRE(trainer.fit(3));
    through.emplace(s, trainer);
  }
  {
    Setup s(Kind::lookahead);
    int evaluated = 0;
    Trainer trainer =
        s.trainer({.checkpoint = file.path, .callbacks = {{.on_evaluate_batch = [&](Trainer&, int64_t) {
                                              if (++evaluated == 3) fail("val/x.png is damaged");
                                            }}}});
    check_error([&] { trainer.fit(3); }, {"val/x.png is damaged"});
  }
  Setup s(Kind::lookahead);
  Trainer trainer = s.trainer();
  trainer.load_checkpoint(file.path);
  CHECK(trainer.state().step == 8);
  CHECK(trainer.fit(3));
  CHECK(Outcome(s, trainer) == *through);
}

TEST_CASE("fit() again goes on where it was stopped, and checkpoints come every so many steps") {
  const TempFile file("again");
  Setup a, b;
  manual_seed(8);
  Trainer through = a.trainer();
  through.fit(2);
  const Outcome wanted(a, through);

  manual_seed(8);
  std::vector<int64_t> saved;
  Trainer parts =
      b.trainer({.checkpoint = file.path,
                 .checkpoint_steps = 3,
                 .callbacks = {stop_at_step(5),
                               {.on_checkpoint = [&](Trainer& t) { saved.push_back(t.state().step); }}}});
  CHECK(!parts.fit(2));
  CHECK(parts.state().batch == 1);
  CHECK(parts.fit(2));
  CHECK(Outcome(b, parts) == wanted);
  CHECK(saved == std::vector<int64_t>{3, 4, 5, 6, 8});
}

TEST_CASE("the number of threads changes no bit") {
  const int before = num_threads();
  std::vector<Outcome> outcomes;
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    Setup s(Kind::mixed);
    Trainer trainer = s.trainer({.clip_grad_norm = 0.5, .accumulate = 3});
    trainer.fit(2);
    outcomes.emplace_back(s, trainer);
  }
  set_num_threads(before);
  CHECK(outcomes[1] == outcomes[0]);
  CHECK(outcomes[2] == outcomes[0]);
}

TEST_CASE("callbacks come in order") {
  const TempFile file("order");
  Setup s;
  std::string order;
  const auto note = [&](const char* what) { return [&order, what](Trainer&, auto&&...) { order += what; }; };
  Trainer trainer = s.trainer({.checkpoint = file.path,
                               .callbacks = {{.on_begin = note("( "),
                                              .on_epoch_begin = note("["),
                                              .on_step = note("s"),
                                              .on_evaluate_batch = note("v"),
                                              .on_evaluate = note("V"),
                                              .on_epoch = note("e"),
                                              .on_checkpoint = note("c] "),
                                              .on_end = note(")")},
                                             {.on_epoch = note("E")}}});
  trainer.fit(2);
  CHECK(order == "( [ssssvvVeEc] [ssssvvVeEc] )");
}

TEST_CASE("a callback that looks at the numbers, and stops early") {
  Setup s;
  double best = 0;
  Trainer trainer = s.trainer({.callbacks = {{.on_epoch = [&](Trainer& t, const training::EpochResult& row) {
                                 CHECK(&t.history().back() != &row);
                                 CHECK(t.history().back().epoch == row.epoch);
                                 CHECK(row.samples_per_second > 0);
                                 best = std::max(best, row.metrics.at(0));
                                 if (row.epoch == 2) t.stop();
                               }}}});
  CHECK(!trainer.fit(5));
  CHECK(trainer.history().size() == 2);
  CHECK(best > 0);
}

TEST_CASE("a regression with a loss and metrics of one's own, in f64 and without validation") {
  struct Line : Module {
    Linear map{*this, "map", 3, 1};
    Tensor forward(const Tensor& x) override { return map(x); }
  };
  manual_seed(2);
  Line line;
  line.to(DType::f64);
  const Tensor x = Tensor::normal({96, 3}, 0, 1, default_generator(), DType::f64);
  Tensor y = Tensor::empty({96, 1}, DType::f64);
  for (int64_t i = 0; i < 96; ++i)
    y.data<double>()[i] = 2 * x.at(3 * i) - x.at(3 * i + 1) + 0.5 * x.at(3 * i + 2) + 1;
  optim::Adam optimizer(line.parameters(), {.lr = 5e-2});
  TensorBatches train(x, y, {.batch_size = 32});
  Trainer trainer(line, optimizer, train,
                  {.loss = squared_error,
                   .metrics = {{"absolute error",
                                [](const Tensor& p, const Tensor& t) { return sum(abs(p - t)).item(); }}},
                   .schedule = optim::cosine()});
  trainer.fit(120);
  CHECK(trainer.history().back().train_loss < 1e-5);
  CHECK(std::isnan(trainer.history().back().valid_loss));
  CHECK(trainer.history().back().metrics.empty());
  CHECK(trainer.evaluate(train).metrics.at(0) < 1e-2);
  CHECK(line.map.weight.at(0) == doctest::Approx(2).epsilon(1e-2));
  check_error([&] { trainer.evaluate(); }, {"no validation data"});
  const TempFile file("f64");
  trainer.save_checkpoint(file.path);  // NaN and f64 go through
  const auto before = bits(line.state_dict());
  line.map.weight.fill(0);
  trainer.load_checkpoint(file.path);
  CHECK(bits(line.state_dict()) == before);
  CHECK(std::isnan(trainer.history().back().valid_loss));
  CHECK(trainer.history().size() == 120);
}

TEST_CASE("parts of a batch add up to its gradient, and the norm is clipped") {
  // Without dropout the parts of a batch give its mean gradient but for rounding.
  const auto trained = [](const training::TrainerOptions& options) {
    manual_seed(3);
    Net net(2, 0);
    optim::SGD optimizer(net.parameters(), {.lr = 0.5});
    const Points points(40, 6);
    TensorBatches train(points.x, points.y, {.batch_size = 16});
    Trainer trainer(net, optimizer, train, options);
    trainer.fit(2);
    return net.hidden.weight.to_vector<float>();
  };
  const auto whole = trained({}), parts = trained({.accumulate = 5}), single = trained({.accumulate = 1000}),
             clipped = trained({.clip_grad_norm = 1e-3}), unclipped = trained({.clip_grad_norm = 1e6});
  for (size_t i = 0; i < whole.size(); ++i) {
    CHECK(double(parts[i]) == doctest::Approx(double(whole[i])).epsilon(1e-4));
    CHECK(double(single[i]) == doctest::Approx(double(whole[i])).epsilon(1e-4));
  }
  CHECK(unclipped == whole);
  manual_seed(3);
  const auto start = Net(2, 0).hidden.weight.to_vector<float>();
  double moved = 0;
  for (size_t i = 0; i < start.size(); ++i) moved += std::pow(double(clipped[i]) - double(start[i]), 2);
  CHECK(std::sqrt(moved) <= 6 * 0.5 * 1e-3);  // six steps, each of at most lr times the norm
  CHECK(moved > 0);
}

TEST_CASE("a loss that is not finite ends it, and the last checkpoint stays") {
  const TempFile file("diverged");
  Setup s;
  int64_t calls = 0;
  const training::Loss loss = [&](const Tensor& p, const Tensor& t) {
    return cross_entropy(p, t) * (++calls == 7 ? std::numeric_limits<double>::infinity() : 1.0);
  };
  Trainer trainer =
      s.trainer({.loss = loss,
                 .valid_loss = [](const Tensor& p, const Tensor& t) { return cross_entropy(p, t); },
                 .checkpoint = file.path});
  try {
    trainer.fit(3);
    FAIL("did not throw");
  } catch (const training::DivergedError& e) {
    const std::string text = e.what();
    for (const char* part : {"step 7", "epoch 2", "batch 3 of 4", "diverged", "0.01", file.path.c_str()})
      CHECK_MESSAGE(text.find(part) != std::string::npos, text);
  }
  for (const Parameter& p : s.net->parameters())
    for (float v : p.tensor.to_vector<float>()) CHECK(std::isfinite(v));
  Setup again;
  Trainer on = again.trainer();
  on.load_checkpoint(file.path);
  CHECK(on.state().step == 4);

  // A weight that is not finite must not get into a checkpoint.
  const std::string before = read_file(file.path);
  again.net->head.weight.fill(NAN);
  CHECK_THROWS_AS(on.save_checkpoint(file.path), training::DivergedError);
  CHECK(read_file(file.path) == before);
}

TEST_CASE("NaN in the data ends it at its first step, and the learning rate is not blamed") {
  Setup s;
  s.points.x.fill(NAN);
  Trainer trainer = s.trainer();
  const std::string message = error_of([&] { trainer.fit(1); });
  for (const char* part : {"step 1 ", "look for it in the data", "; trace_nan names"})
    CHECK_MESSAGE(mentions(message, part), message);
  CHECK(!mentions(message, "learning rate"));
}

TEST_CASE("a checkpoint that cannot be written is noticed before the first step") {
  const TempFile folder("no-such-folder");
  Setup s;
  Trainer trainer = s.trainer({.checkpoint = folder.path + "/c.st"});
  check_error([&] { trainer.fit(1); }, {folder.path.c_str(), "c.st: No such file"});
  CHECK(trainer.state().step == 0);
  fs::create_directory(folder.path);
  Trainer stopped = s.trainer({.checkpoint = folder.path + "/c.st",
                               .callbacks = {{.on_epoch_begin = [&](Trainer&) { fail("enough"); }}}});
  check_error([&] { stopped.fit(1); }, {"enough"});
  CHECK(fs::is_empty(folder.path));
}

TEST_CASE("trace_nan names the op and the layer in which a step went wrong, and changes nothing else") {
  const auto weights = [](bool trace) {
    Setup s;
    s.trainer({.trace_nan = trace}).fit(1);
    return s.net->head.weight.to_vector<float>();
  };
  CHECK(weights(false) == weights(true));

  Setup s;
  Trainer trainer = s.trainer({.trace_nan = true, .callbacks = {{.on_step = [&](Trainer& t) {
                                                    if (t.state().step == 3)
                                                      s.net->head.weight.data<float>()[1] = NAN;
                                                  }}}});
  try {
    trainer.fit(3);
    FAIL("did not throw");
  } catch (const training::DivergedError& e) {
    const std::string text = e.what();
    for (const char* part : {"step 4: forward of linear in head: output 0", "; input 0", " finite; input 1",
                             "training diverged"})
      CHECK_MESSAGE(text.find(part) != std::string::npos, text);
  }
  CHECK_THROWS_AS(s.trainer({.precision = DType::f16, .trace_nan = true}), Error);
}

TEST_CASE("trace_nan looks at the validation, too") {
  Setup s;
  s.held_out.x.data<float>()[2 * 20] = NAN;  // of the second batch of 16
  Trainer trainer = s.trainer({.trace_nan = true});
  check_error([&] { trainer.fit(1); }, {"in the validation after step 4 (epoch 1): ",
                                        "forward of linear in hidden", "sample 4", "training diverged"});
}

TEST_CASE("a part in evaluation mode stays so in evaluate() and fit(), a whole module is trained") {
  Setup s;
  s.net->dropout.eval();
  training::evaluate(*s.net, *s.valid);
  CHECK(s.net->training());
  CHECK(s.net->hidden.training());
  CHECK_FALSE(s.net->dropout.training());
  s.trainer({.callbacks = {{.on_step =
                                [&](Trainer&) {
                                  CHECK(s.net->hidden.training());
                                  CHECK_FALSE(s.net->dropout.training());
                                }}}})
      .fit(2);
  CHECK_FALSE(s.net->dropout.training());
  s.net->eval();
  training::evaluate(*s.net, *s.valid);
  CHECK_FALSE(s.net->hidden.training());
  s.trainer().fit(1);
  CHECK(s.net->training());
  CHECK(s.net->dropout.training());
}

TEST_CASE("an error in a later part of a batch leaves nothing of the earlier ones") {
  Setup s;
  Tensor y = s.points.y.clone();
  y.data<int64_t>()[40] = 7;
  TensorBatches bad(s.points.x, y, {.batch_size = 50, .shuffle = false});
  training::TrainStep step(*s.net, *s.optimizer, cross_entropy_of, {.accumulate = 2});
  bad.begin_epoch(0);
  CHECK_ERROR(step(bad), "label 7 of row 15");
  for (const Parameter& p : s.net->parameters()) CHECK_FALSE(p.tensor.grad().defined());
  CHECK(step.take_totals().samples == 0);
}

TEST_CASE("what cannot be trained is refused") {
  Setup s;
  const auto refused = [&](const training::TrainerOptions& options, const char* part) {
    check_error([&] { Trainer(*s.net, *s.optimizer, *s.train, options); }, {part});
  };
  refused({.clip_grad_norm = -1}, "clip_grad_norm");
  refused({.accumulate = 0}, "accumulate");
  refused({.checkpoint_steps = 3}, "checkpoint");
  refused({.checkpoint_steps = -3}, "checkpoint_steps");
  refused({.label_smoothing = 1}, "label_smoothing");
  refused({.loss = squared_error, .label_smoothing = 0.1}, "label_smoothing");
  refused({.precision = DType::bf16}, "GPU");
  Trainer trainer = s.trainer();
  check_error([&] { trainer.fit(0); }, {"fit(0)"});
  Net other;
  check_error([&] { Trainer(other, *s.optimizer, *s.train); },
              {"the optimizer has none of the module's parameters"});

  struct Empty : Module {
    Tensor forward(const Tensor& x) override { return x; }
  } empty;
  check_error([&] { Trainer(empty, *s.optimizer, *s.train); }, {"no parameters"});

  // Data.
  const Tensor x = Tensor::zeros({4, 2}), y = Tensor::zeros({4}, DType::i64);
  check_error(
      [&] {
        TensorBatches(Tensor::zeros({0, 2}), Tensor::zeros({0}, DType::i64));
      },
      {"at least one", "[0, 2]"});
  check_error([&] { TensorBatches(x, Tensor::zeros({5}, DType::i64)); }, {"[4, 2]", "[5]"});
  check_error([&] { TensorBatches(x, Tensor::scalar(1)); }, {"same number of rows"});
  check_error([&] { TensorBatches(x, y, {.batch_size = 0}); }, {"batch_size"});
  check_error([&] { TensorBatches(x, y, {.batch_size = 5, .drop_last = true}); }, {"no batch of 5"});
  TensorBatches batches(x, y);
  check_error([&] { batches.next(); }, {"begin_epoch"});
  check_error([&] { batches.begin_epoch(-1); }, {"epoch is -1"});
  check_error([&] { batches.begin_epoch(0, 2); }, {"first_batch is 2"});
  check_error([&] { batches.feed(); }, {"cannot be fed"});
  // Shapes that do not fit the module or the loss are refused by the ops, and training can go on.
  TensorBatches wide(Tensor::zeros({4, 3}), y), labels(x, Tensor::full({4}, 7, DType::i64)),
      real(x, Tensor::zeros({4, 1}));
  for (Batches* wrong :
       {static_cast<Batches*>(&wide), static_cast<Batches*>(&labels), static_cast<Batches*>(&real)}) {
    Trainer t(*s.net, *s.optimizer, *wrong);
    CHECK_THROWS_AS(t.fit(1), Error);
  }
  Trainer vector(*s.net, *s.optimizer, batches, {.loss = [](const Tensor& p, const Tensor&) { return p; }});
  check_error([&] { vector.fit(1); }, {"one number"});
  Trainer metric(*s.net, *s.optimizer, real, real,
                 {.loss = [](const Tensor& p, const Tensor& t) { return mse_loss(sum(p, {1}, true), t); },
                  .metrics = {training::accuracy()}});
  check_error([&] { metric.fit(1); }, {"accuracy", "[4, 1]"});
  CHECK(trainer.fit(1));
}

TEST_CASE("a checkpoint of something else is refused and changes nothing") {
  const TempFile file("other"), weights("weights"), cut("cut");
  Setup s;
  Trainer trainer = s.trainer({.metadata = {{"what", "circle"}}});
  trainer.fit(1);
  trainer.save_checkpoint(file.path);
  save_safetensors(weights.path, s.net->state_dict());
  write_file(cut.path, read_file(file.path).substr(0, 300));

  const auto before = bits(s.net->state_dict()), state = bits(s.optimizer->state_dict());
  check_error([&] { trainer.load_checkpoint(file.path + ".none"); }, {file.path.c_str()});
  check_error([&] { trainer.load_checkpoint(weights.path); }, {weights.path.c_str(), "not a checkpoint"});
  check_error([&] { trainer.load_checkpoint(cut.path); }, {cut.path.c_str()});
  check_error([&] { trainer.save_checkpoint("/nowhere/at/all/checkpoint"); }, {"/nowhere/at/all/checkpoint"});

  Net wide(3);
  optim::AdamW adamw(wide.parameters(), {});
  Trainer other_model(wide, adamw, *s.train);
  const auto wide_before = bits(wide.state_dict());
  check_error([&] { other_model.load_checkpoint(file.path); }, {file.path.c_str(), "hidden.weight"});
  CHECK(bits(wide.state_dict()) == wide_before);

  manual_seed(77);
  Net net;
  const auto net_before = bits(net.state_dict());
  optim::SGD sgd(net.parameters(), {.lr = 0.1});
  Trainer other_optimizer(net, sgd, *s.train);
  check_error([&] { other_optimizer.load_checkpoint(file.path); }, {file.path.c_str(), "adamw", "sgd"});
  CHECK(bits(net.state_dict()) == net_before);
  // The same optimizer over part of the module: its state does not fit, the weights would.
  optim::AdamW part(std::vector<Parameter>{net.parameters()[0]}, {});
  Trainer fewer(net, part, *s.train);
  check_error([&] { fewer.load_checkpoint(file.path); }, {file.path.c_str()});
  CHECK(bits(net.state_dict()) == net_before);

  // A weight that is not finite.
  training::Metadata metadata;
  const StateDict saved = load_safetensors(file.path, &metadata);
  for (const auto& [name, tensor] : saved)
    if (name == "model.hidden.weight") tensor.data<float>()[0] = NAN;
  const TempFile edited("edited");
  save_safetensors(edited.path, saved, metadata);
  check_error([&] { trainer.load_checkpoint(edited.path); },
              {edited.path.c_str(), "the checkpoint is damaged (hidden.weight is not finite)"});
  // In a buffer, too, but not where the module's own is so by its nature.
  struct Masked : Net {
    Tensor mask = register_buffer("mask", Tensor::full({2}, -INFINITY));
  } masked;
  optim::AdamW masked_optimizer(masked.parameters(), {});
  Trainer of_masked(masked, masked_optimizer, *s.train);
  of_masked.save_checkpoint(edited.path);
  CHECK_NOTHROW(of_masked.load_checkpoint(edited.path));
  masked.mask.fill(0);
  check_error([&] { of_masked.load_checkpoint(edited.path); }, {"damaged (mask is not finite)"});

  // Metadata of one's own.
  training::Metadata seen;
  Trainer picky(net, sgd, *s.train, {.check_metadata = [&](const training::Metadata& m) {
                  seen = m;
                  fail("another task");
                }});
  check_error([&] { picky.load_checkpoint(file.path); }, {"another task"});
  CHECK(seen["what"] == "circle");

  CHECK(bits(s.net->state_dict()) == before);
  CHECK(bits(s.optimizer->state_dict()) == state);

  // A run that made more batches an epoch.
  Setup longer;
  Trainer stopped = longer.trainer({.checkpoint = file.path, .callbacks = {stop_at_step(3)}});
  stopped.fit(1);
  TensorBatches few(s.points.x, s.points.y, {.batch_size = 50});
  Trainer shorter(*s.net, *s.optimizer, few);
  check_error([&] { shorter.load_checkpoint(file.path); }, {file.path.c_str(), "batches in an epoch"});
}

TEST_CASE("a checkpoint whose counts cannot be is refused") {
  const TempFile file("counts"), edited("edited");
  Setup s;
  Trainer trainer = s.trainer({.checkpoint = file.path, .callbacks = {stop_at_step(5)}});
  trainer.fit(3);
  training::Metadata metadata;
  const StateDict all = load_safetensors(file.path, &metadata);
  const auto load = [&](const std::string& key, const std::string& value) {
    training::Metadata other = metadata;
    std::string& state = other["state"];
    const size_t at = state.find("\"" + key + "\":");
    REQUIRE(at != std::string::npos);
    const size_t begin = at + key.size() + 3;
    state.replace(begin, state.find_first_of(",}", begin) - begin, value);
    save_safetensors(edited.path, all, other);
    trainer.load_checkpoint(edited.path);
  };
  CHECK_NOTHROW(load("images", std::to_string(trainer.state().samples)));
  const std::string most = "9223372036854775807";
  const std::pair<const char*, std::string> wrong[] = {{"images", "-5"},
                                                       {"images", "16.9"},
                                                       {"correct", most},
                                                       {"skipped", "-1"},
                                                       {"epoch", "1e30"},
                                                       {"epoch", "1"},
                                                       {"batch", "-1"},
                                                       {"batch", most},
                                                       {"step", most},
                                                       {"images", most},
                                                       {"step", "18446744073709551615"},
                                                       {"total_seconds", "null"},
                                                       {"seconds", "-1"},
                                                       {"total_train_seconds", "-0.1"},
                                                       {"lr", "null"},
                                                       {"loss_sum", "null"},
                                                       {"total_images", "-1"},
                                                       {"random_count", "-1"}};
  for (const auto& [key, value] : wrong)
    check_error([&, k = key, v = value] { load(k, v); }, {edited.path.c_str(), "the checkpoint is damaged"});
  check_error([&] { load("images", "-5"); }, {"images is -5, expected a whole number from 0"});
  const std::pair<const char*, std::string> unequal[] = {
      {"step", "9007199254740992"}, {"step", "0"}, {"batch", "0"}, {"batch", "9007199254740992"}};
  for (const auto& [key, value] : unequal)
    check_error([&, k = key, v = value] { load(k, v); }, {edited.path.c_str(), "batches in an epoch"});
}

TEST_CASE("batches of tensors: order by seed and epoch, any start, the last one shorter") {
  const int64_t n = 23;
  Tensor x = Tensor::empty({n, 2, 1}, DType::f64), y = Tensor::empty({n}, DType::i64);
  for (int64_t i = 0; i < n; ++i)
    x.data<double>()[2 * i] = x.data<double>()[2 * i + 1] = double(i), y.data<int64_t>()[i] = i;
  const auto rest = [](TensorBatches& b) {
    std::vector<int64_t> all;
    while (const auto batch = b.next()) {
      CHECK(batch->x.shape() == Shape{batch->y.size(0), 2, 1});
      for (int64_t i = 0; i < batch->y.numel(); ++i) {
        CHECK(batch->x.at(2 * i + 1) == batch->y.at(i));
        all.push_back(batch->y.data<int64_t>()[i]);
      }
    }
    CHECK(b.position() == b.batches());
    CHECK(b.next_size() == 0);
    return all;
  };
  TensorBatches batches(x, y, {.batch_size = 5, .seed = 1}), same(x, y, {.batch_size = 5, .seed = 1}),
      other(x, y, {.batch_size = 5, .seed = 2}), plain(x, y, {.batch_size = 5, .shuffle = false}),
      dropping(x, y, {.batch_size = 5, .drop_last = true});
  CHECK(batches.batches() == 5);
  CHECK(dropping.batches() == 4);
  std::vector<int64_t> in_order(static_cast<size_t>(n));
  std::iota(in_order.begin(), in_order.end(), int64_t{0});
  plain.begin_epoch(3);
  CHECK(rest(plain) == in_order);
  dropping.begin_epoch(0);
  CHECK(rest(dropping).size() == 20);
  batches.begin_epoch(0);
  auto first = rest(batches);
  same.begin_epoch(0);
  CHECK(rest(same) == first);
  other.begin_epoch(0);
  CHECK(rest(other) != first);
  batches.begin_epoch(1);
  CHECK(rest(batches) != first);
  batches.begin_epoch(0, 3);
  CHECK(batches.next_size() == 5);
  CHECK(rest(batches) == std::vector<int64_t>(first.begin() + 15, first.end()));
  std::sort(first.begin(), first.end());
  CHECK(first == in_order);
}

TEST_CASE("a callback can write what TensorBoard draws") {
  const test::TempFolder folder;
  Setup s;
  SummaryWriter writer(folder / "spirals");
  training::Callbacks watch{.on_epoch = [&](Trainer& trainer, const training::EpochResult& e) {
    const int64_t step = trainer.state().step;
    writer.add_scalar("loss/train", e.train_loss, step);
    for (const Parameter& p : trainer.module().parameters()) writer.add_histogram(p.name, p.tensor, step);
  }};
  Trainer trainer(*s.net, *s.optimizer, *s.train, {.callbacks = {watch}});
  CHECK(trainer.fit(2));
  const std::string events = read_file(writer.path());
  for (const char* tag : {"loss/train", "hidden.weight", "head.bias"})
    CHECK_MESSAGE(events.find(tag) != std::string::npos, tag);
}

TEST_CASE("another thread may stop it") {
  Setup s;
  std::atomic<bool> begun = false;
  Trainer trainer = s.trainer({.callbacks = {{.on_step = [&](Trainer&) { begun = true; }}}});
  std::thread other([&] {
    while (!begun) std::this_thread::yield();
    trainer.stop();
  });
  const bool done = trainer.fit(1'000'000'000);
  other.join();
  CHECK(!done);
  CHECK(trainer.state().step >= 1);
}

TEST_CASE("what is left out of a designated initialiser is empty") {  // compiles without a warning
  const DeviceBatch batch{.x = Tensor::ones({1})};
  const Skipped skipped{.name = "a"};
  const training::Metric metric{.name = "a"};
  const Parameter parameter{.name = "a"};
  CHECK(!batch.targets.defined());
  CHECK(skipped.reason.empty());
  CHECK(!metric.sum);
  CHECK(!parameter.tensor.defined());
}
