// The learning-rate range test: its losses are those of training, it leaves nothing changed, and its
// suggestions are fastai's.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "support/errors.h"
#include "weft/weft.h"

using namespace weft;
using training::find_lr;
using training::LrFinderOptions;
using training::LrFinderPoint;
using training::LrFinderResult;

namespace {

struct Net : Module {
  Linear hidden{*this, "hidden", 2, 16};
  BatchNorm2d norm{*this, "norm", 16};
  Dropout dropout{*this, "dropout", 0.1};
  Linear head{*this, "head", 16, 2};
  Tensor forward(const Tensor& x) override { return head(dropout(mish(norm(hidden(x))))); }
};

/// All that a test trains, the same each time.
struct Setup {
  Tensor x, y;
  std::unique_ptr<Net> net;
  std::unique_ptr<optim::SGD> optimizer;
  std::unique_ptr<TensorBatches> batches;

  Setup() {
    manual_seed(3);
    x = Tensor::uniform({40, 2}, -1, 1);
    std::vector<int64_t> inside;
    for (int64_t i = 0; i < 40; ++i) inside.push_back(std::hypot(x.at(2 * i), x.at(2 * i + 1)) < 0.75);
    y = Tensor::from(inside, {40});
    net = std::make_unique<Net>();
    std::vector<Parameter> body, head;
    for (const Parameter& p : net->parameters()) (p.name.starts_with("head") ? head : body).push_back(p);
    optimizer = std::make_unique<optim::SGD>(body, optim::SGDOptions{.lr = 0.5, .momentum = 0.9});
    optimizer->add_group(head, {.lr = 0.25, .momentum = 0.9});
    batches = std::make_unique<TensorBatches>(x, y, TensorBatchesOptions{.batch_size = 16, .seed = 2});
  }
  double train_one(double lr) {
    optimizer->set_lr(0, lr);
    optimizer->set_lr(1, lr / 2);
    auto batch = batches->next();
    if (!batch) batches->begin_epoch(batches->epoch() + 1), batch = batches->next();
    Tape tape;
    const Tensor loss = cross_entropy((*net)(batch->x), batch->y);
    tape.backward(loss);
    optimizer->step();
    net->zero_grad();
    return loss.item();
  }
};

bool same(const StateDict& a, const StateDict& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    const Tensor &s = a[i].second, &t = b[i].second;
    if (a[i].first != b[i].first || s.shape() != t.shape()) return false;
    for (int64_t k = 0; k < s.numel(); ++k)
      if (s.at(k) != t.at(k)) return false;
  }
  return true;
}

/// A curve with a plateau, a fall, a small ripple and a rise, over rates from 1e-7 to 10.
LrFinderResult curve(int n) {
  LrFinderResult result;
  for (int k = 0; k < n; ++k) {
    const double x = double(k) / (n - 1) * 8 - 7;
    const double rise = x > -0.5 ? 3 * (x + 0.5) * (x + 0.5) : 0;
    const double loss = 2.3 - 1.5 / (1 + std::exp(-2 * (x + 2.5))) + rise + 0.01 * std::sin(1.7 * k);
    result.points.push_back({std::pow(10, x), loss, loss});
  }
  training::suggest_rates(result, n);
  return result;
}

}  // namespace

TEST_CASE("the losses are those of training with these rates") {
  Setup tested, trained;
  const LrFinderResult result = find_lr(*tested.net, *tested.optimizer, *tested.batches,
                                        {.start_lr = 1e-3, .end_lr = 1, .steps = 8, .smoothing = 0.9});
  REQUIRE(result.points.size() == 8);
  CHECK(!result.diverged);
  trained.batches->begin_epoch(0);
  double mean = 0;
  for (int k = 0; k < 8; ++k) {
    CAPTURE(k);
    const LrFinderPoint& p = result.points[size_t(k)];
    CHECK(p.lr == doctest::Approx(1e-3 * std::pow(10, 3 * k / 7.0)));
    const double loss = trained.train_one(p.lr);
    CHECK(p.loss == doctest::Approx(loss).epsilon(1e-6));
    mean = 0.9 * mean + 0.1 * loss;
    CHECK(p.smoothed == doctest::Approx(mean / (1 - std::pow(0.9, k + 1))).epsilon(1e-6));
  }
}

TEST_CASE("nothing is changed by it") {
  Setup tested, untouched;
  for (Setup* s : {&tested, &untouched}) {
    manual_seed(6);
    s->batches->begin_epoch(0);
    s->train_one(0.1);  // a state that is not zero
  }
  const uint64_t drawn = default_generator().count();
  const LrFinderOptions options{.start_lr = 1e-4, .end_lr = 1e4, .steps = 40};
  LrFinderResult result;
  SUBCASE("a test that diverges") {
    result = find_lr(*tested.net, *tested.optimizer, *tested.batches, options);
    CHECK(result.diverged);
    CHECK(result.points.size() < 40);
  }
  SUBCASE("a test that is ended") {
    LrFinderOptions some = options;
    some.each = [](int64_t done) { return done < 5; };
    result = find_lr(*tested.net, *tested.optimizer, *tested.batches, some);
    CHECK(!result.diverged);
    CHECK(result.points.size() == 5);
  }
  SUBCASE("a test that fails") {
    LrFinderOptions failing = options;
    failing.each = [](int64_t) -> bool { throw Error("enough"); };
    CHECK(error_of([&] { find_lr(*tested.net, *tested.optimizer, *tested.batches, failing); }) == "enough");
  }
  CHECK(same(tested.net->state_dict(), untouched.net->state_dict()));
  CHECK(same(tested.optimizer->state_dict(), untouched.optimizer->state_dict()));
  CHECK(tested.optimizer->lr(0) == 0.1);
  CHECK(tested.optimizer->lr(1) == 0.05);
  CHECK(default_generator().seed() == 6);
  CHECK(default_generator().count() == drawn);
}

TEST_CASE("nothing is changed in optimizers with a state of more kinds, nor in a module in evaluation mode") {
  for (const char* name : {"ranger", "muon", "rangerlars"}) {
    CAPTURE(name);
    Setup s;
    const auto optimizer = optim::make_optimizer(name, optim::split_decay(s.net->parameters()), {.lr = 1e-2});
    s.batches->begin_epoch(0);
    for (int k = 0; k < 2; ++k) {
      const auto batch = s.batches->next();
      Tape tape;
      tape.backward(cross_entropy((*s.net)(batch->x), batch->y));
      optimizer->step();
      optimizer->zero_grad();
    }
    s.net->eval();
    const auto copied = [](const StateDict& dict) {
      StateDict copies;
      for (const auto& [key, tensor] : dict) copies.emplace_back(key, tensor.clone());
      return copies;
    };
    const StateDict weights = copied(s.net->state_dict()), state = copied(optimizer->state_dict());
    const int64_t steps = optimizer->steps();
    CHECK(
        find_lr(*s.net, *optimizer, *s.batches, {.start_lr = 1e-4, .end_lr = 1, .steps = 15}).points.size() ==
        15);
    CHECK(same(s.net->state_dict(), weights));
    CHECK(same(optimizer->state_dict(), state));
    CHECK(optimizer->steps() == steps);
    CHECK(!s.net->training());
  }
}

TEST_CASE("the suggestions are fastai's") {
  // Places in the curve by fastai 2.7's valley(), steep() and minimum(), worked out in NumPy.
  const auto place = [](const LrFinderResult& r, double lr) {
    size_t k = 0;
    while (k < r.points.size() && std::abs(std::log(r.points[k].lr / lr)) > 1e-9) ++k;
    return int(k);
  };
  const LrFinderResult coarse = curve(30), fine = curve(100);
  CHECK(place(coarse, coarse.valley) == 14);
  CHECK(place(fine, fine.valley) == 53);
  const LrFinderResult odd = curve(64), finer = curve(200);
  CHECK(place(odd, odd.valley) == 31);
  CHECK(place(finer, finer.valley) == 115);
  CHECK(place(coarse, coarse.steepest) == 16);
  CHECK(place(fine, fine.steepest) == 53);
  CHECK(place(coarse, coarse.minimum * 10) == 23);
  CHECK(place(fine, fine.minimum * 10) == 80);
  // Noise in the first tenth does not count.
  LrFinderResult noisy = curve(100);
  noisy.valley = noisy.steepest = noisy.minimum = 0;
  for (size_t k = 0; k < 10; ++k) noisy.points[k].smoothed = 20 - double(k);
  training::suggest_rates(noisy, 100);
  CHECK(noisy.valley == fine.valley);
  CHECK(noisy.steepest == fine.steepest);
  CHECK(noisy.minimum == fine.minimum);
  // A loss that only rises suggests nothing, nor do few points.
  LrFinderResult few{.points = {{1, 2, 2}, {2, 1, 1}}};
  training::suggest_rates(few, 2);
  CHECK(few.valley == 0);
  CHECK(few.considered == 0);
  CHECK(fine.considered == 85);
  LrFinderResult rising;
  for (int k = 0; k < 20; ++k) rising.points.push_back({std::pow(10, k - 10), 1.0 + k, 1.0 + k});
  training::suggest_rates(rising, 20);
  CHECK(rising.valley == 0);
  CHECK(rising.steepest == 0);
  CHECK(rising.minimum == 0);
}

TEST_CASE("what cannot be tested is said") {
  Setup s;
  const auto message = [&](const LrFinderOptions& o) {
    return error_of([&] { find_lr(*s.net, *s.optimizer, *s.batches, o); });
  };
  CHECK(mentions(message({.start_lr = 0}), "from 0 to 10"));
  CHECK(mentions(message({.start_lr = 1, .end_lr = 1}), "must be above 0 and rise"));
  CHECK(mentions(message({.end_lr = std::numeric_limits<double>::infinity()}), "to inf"));
  CHECK(mentions(message({.steps = 1}), "at least 2"));
  CHECK(mentions(message({.smoothing = 1}), "smoothing is 1"));
  CHECK(mentions(message({.stop_at = 0.5}), "stop_at is 0.5"));
  s.net->head.weight.fill(std::numeric_limits<double>::quiet_NaN());
  CHECK(mentions(message({}), "not finite before anything was changed"));
}
