// Schedules step for step against torch.optim.lr_scheduler and against their formulas
// (golden/make_optim_golden.py).
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "support/errors.h"
#include "weft/engine/safetensors.h"
#include "weft/optim/optim.h"

using namespace weft;
using namespace weft::optim;

namespace {

/// Every stored step: the factor, and the momentum where one is stored.
void compare(const char* name, const Schedule& schedule) {
  INFO(name);
  static const StateDict file = load_safetensors(WEFT_TEST_DIR "/golden/optim.safetensors");
  const Tensor stored = find(file, concat("schedule/", name));
  REQUIRE(stored.defined());
  const int64_t total = stored.size(0), columns = stored.size(1);
  for (int64_t t = total - 1; t >= 0; --t) {  // backwards: nothing depends on what was asked before
    INFO("step ", t);
    const SchedulePoint point = schedule.at(t, total);
    CHECK(std::abs(point.lr_factor - stored.at(t * columns)) < 1e-12);
    REQUIRE(point.momentum.has_value() == (columns == 2));
    if (columns == 2) CHECK(std::abs(*point.momentum - stored.at(t * columns + 1)) < 1e-12);
  }
}

}  // namespace

TEST_CASE("one-cycle is PyTorch's OneCycleLR, momentum included") {
  compare("one_cycle_100", one_cycle());
  compare("one_cycle_37", one_cycle({.pct_start = 0.4,
                                     .div_factor = 10,
                                     .final_div_factor = 100,
                                     .base_momentum = 0.8,
                                     .max_momentum = 0.9}));
  compare("one_cycle_3", one_cycle());
}

TEST_CASE("cosine and warm-up are PyTorch's CosineAnnealingLR and LinearLR") {
  compare("cosine_50", cosine());
  compare("cosine_floor_50", cosine({.final_factor = 0.05}));
  compare("warmup_constant_20", warmup(constant(), {.steps = 8}));
  compare("warmup_cosine_50", warmup(cosine(), {.steps = 10, .start_factor = 0.1}));
}

TEST_CASE("flat-cosine is flat for floor(0.72 T) steps, then goes to 0") {
  compare("flat_cosine_705", flat_cosine());
  compare("flat_cosine_7", flat_cosine({.anneal_start = 0.5}));
  CHECK_ERROR(Schedule(Schedule::Function()), "the function is empty");
  const Schedule schedule = flat_cosine();
  CHECK(schedule.at(507, 705).lr_factor == 1);
  CHECK(schedule.at(508, 705).lr_factor < 1);
  CHECK(schedule.at(705, 705).lr_factor == doctest::Approx(0));
  CHECK(flat_cosine({.final_factor = 0.1}).at(705, 705).lr_factor == doctest::Approx(0.1));
  CHECK(flat_cosine({.anneal_start = 1}).at(705, 705).lr_factor == 1);
}

TEST_CASE("one-cycle goes from lr / div over lr to almost nothing, and never leaves its bounds") {
  const Schedule schedule = one_cycle({.div_factor = 10});
  CHECK(schedule.at(0, 1000).lr_factor == doctest::Approx(0.1));
  CHECK(*schedule.at(0, 1000).momentum == doctest::Approx(0.95));
  CHECK(schedule.at(299, 1000).lr_factor == doctest::Approx(1));
  CHECK(*schedule.at(299, 1000).momentum == doctest::Approx(0.85));
  CHECK(schedule.at(999, 1000).lr_factor == doctest::Approx(1e-5));
  CHECK(*schedule.at(999, 1000).momentum == doctest::Approx(0.95));
  CHECK(!one_cycle({.cycle_momentum = false}).at(5, 10).momentum.has_value());
  for (double pct : {0.0, 0.1, 0.5, 1.0})
    for (int64_t total = 1; total <= 12; ++total)
      for (int64_t t = 0; t <= total + 2; ++t) {
        const SchedulePoint point = one_cycle({.pct_start = pct}).at(t, total);
        CHECK(point.lr_factor > 0);
        CHECK(point.lr_factor <= 1 + 1e-12);
        CHECK(*point.momentum >= 0.85 - 1e-12);
        CHECK(*point.momentum <= 0.95 + 1e-12);
      }
}

TEST_CASE("a schedule sets each group by its own initial rate, and momentum where there is one") {
  const Tensor a = Tensor::zeros({1}), b = Tensor::zeros({1});
  Ranger ranger({{"a", a}}, {.lr = 0.1});
  ranger.add_group({{"b", b}}, {.lr = 0.01});
  const Schedule schedule = one_cycle();
  for (int repeat = 0; repeat < 2; ++repeat) {
    schedule.apply(ranger, 29, 100);
    CHECK(ranger.lr(0) == doctest::Approx(0.1));
    CHECK(ranger.lr(1) == doctest::Approx(0.01));
    CHECK(ranger.momentum(1) == doctest::Approx(0.85));
    schedule.apply(ranger, 0, 100);
    CHECK(ranger.lr(1) == doctest::Approx(0.01 / 25));
    CHECK(ranger.momentum(0) == doctest::Approx(0.95));
  }
  SGD plain({{"a", a}}, {.lr = 0.1});
  schedule.apply(plain, 29, 100);
  CHECK(plain.lr(0) == doctest::Approx(0.1));
  CHECK(plain.momentum(0) == 0);
  MADGRAD madgrad({{"a", a}}, {.lr = 0.1, .momentum = 0});  // needs no buffer for one
  schedule.apply(madgrad, 29, 100);
  CHECK(madgrad.momentum(0) == doctest::Approx(0.85));
}

TEST_CASE("schedules by name") {
  for (const std::string& name : schedule_names()) {
    INFO(name);
    const Schedule schedule = make_schedule(name), warm = make_schedule(name, {.warmup_steps = 10});
    CHECK(warm.at(0, 100).lr_factor == doctest::Approx(schedule.at(0, 100).lr_factor * 1e-3));
    CHECK(warm.at(5, 100).lr_factor == doctest::Approx(schedule.at(5, 100).lr_factor * 0.5005));
    CHECK(warm.at(10, 100).lr_factor == schedule.at(10, 100).lr_factor);
    CHECK(warm.at(60, 100).momentum == schedule.at(60, 100).momentum);
  }
  CHECK(make_schedule("flat-cosine", {.anneal_start = 0.5}).at(75, 100).lr_factor == doctest::Approx(0.5));
  CHECK(make_schedule("flat-cosine").at(86, 100).lr_factor == doctest::Approx(0.5));
  CHECK(make_schedule("one-cycle").at(0, 100).lr_factor == doctest::Approx(0.1));
  CHECK(make_schedule("cosine").at(50, 100).lr_factor == doctest::Approx(0.5));
  CHECK(make_schedule("constant").at(50, 100).lr_factor == 1);
  CHECK_ERROR(make_schedule("cos"),
              "unknown schedule 'cos'; it must be one of flat-cosine, one-cycle, cosine, constant");
}

TEST_CASE("values out of range are refused") {
  CHECK_ERROR(constant().at(-1, 10), "step -1 of 10");
  CHECK_ERROR(constant().at(0, 0), "step 0 of 0");
  CHECK_ERROR(flat_cosine({.anneal_start = 1.1}), "anneal_start is 1.1");
  CHECK_ERROR(cosine({.final_factor = -1}), "final_factor is -1");
  CHECK_ERROR(one_cycle({.pct_start = NAN}), "pct_start is nan");
  CHECK_ERROR(one_cycle({.div_factor = 0}), "div_factor");
  CHECK_ERROR(warmup(constant(), {.steps = -1}), "steps is -1");
}
