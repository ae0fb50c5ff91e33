// The profiler: which ops it sees, in which order, and that no time is lost or counted twice.
#include "weft/engine/profile.h"

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <thread>

#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/tape.h"

using namespace weft;
using Pass = ProfileEvent::Pass;

namespace {

Tensor leaf(const Shape& shape) {
  Tensor t = Tensor::ones(shape);
  t.set_requires_grad();
  return t;
}

double seconds_of(const std::vector<ProfileEvent>& events) {
  double seconds = 0;
  for (const ProfileEvent& e : events) seconds += e.seconds;
  return seconds;
}

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

}  // namespace

TEST_CASE("a profiler sees each op forward, then backward, then what the caller names") {
  const Tensor x = Tensor::ones({3, 4}), w = leaf({4, 2});
  const auto step = [&] {
    Tape tape;
    Tensor y;
    {
      const ScopeName head("head");
      y = matmul(x, w);
    }
    tape.backward(sum(mish(y)));
  };
  step();  // nobody measures
  Profiler profiler;
  CHECK(Profiler::current() == &profiler);
  step();
  profiler.lap("rest");

  const auto& events = profiler.events();
  REQUIRE(events.size() == 7);
  const std::vector<std::pair<std::string, Pass>> expected{
      {"matmul", Pass::forward}, {"mish", Pass::forward},    {"sum", Pass::forward}, {"sum", Pass::backward},
      {"mish", Pass::backward},  {"matmul", Pass::backward}, {"rest", Pass::other}};
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(events[i].op == expected[i].first);
    CHECK(events[i].pass == expected[i].second);
    CHECK(events[i].seconds >= 0);
  }
  CHECK(events[0].scope == "head");
  CHECK(events[5].scope == "head");
  CHECK(events[1].scope == "");
  CHECK(events[0].multiply_adds == 3 * 4 * 2);
  CHECK(events[5].multiply_adds == 3 * 4 * 2);  // x wants no gradient
  CHECK(events[1].multiply_adds == 0);
}

TEST_CASE("backward multiply-adds count each factor that wants a gradient") {
  const Tensor a = leaf({2, 2}), b = leaf({2, 2});
  Profiler profiler;
  Tape tape;
  tape.backward(sum(matmul(a, b)));
  CHECK(profiler.events().back().multiply_adds == 2 * 8);
}

TEST_CASE("the events add up to the time that passed") {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point t) {
    return std::chrono::duration<double>(Clock::now() - t).count();
  };
  const Clock::time_point start = Clock::now();
  Profiler profiler;
  const Tensor w = leaf({1000});
  {
    Tape tape;
    sleep_ms(5);  // counts for the op that follows
    tape.backward(sum(square(w)));
  }
  sleep_ms(5);
  profiler.lap("rest");
  const double wall = since(start);
  const double measured = seconds_of(profiler.events());
  CHECK(measured <= wall);
  CHECK(measured >= 0.010);
  CHECK(profiler.events().front().op == "square");
  CHECK(profiler.events().front().seconds >= 0.005);
  CHECK(profiler.events().back().seconds >= 0.005);
  const Clock::time_point cleared = Clock::now();
  profiler.clear();
  CHECK(profiler.events().empty());
  profiler.lap("nothing");
  CHECK(profiler.events().front().seconds <= since(cleared));
}

TEST_CASE("a backward's own time is counted") {
  const Tensor x = leaf({2});
  Profiler profiler;
  Tape tape;
  const Tensor y = Tensor::ones({2});
  record("slow", {x}, {y}, [](BackwardContext& c) {
    sleep_ms(10);
    c.set(0, c.grad_output().clone());
  });
  tape.backward(sum(y));
  CHECK(profiler.events().back().op == "slow");
  CHECK(profiler.events().back().pass == Pass::backward);
  CHECK(profiler.events().back().seconds >= 0.010);
}

TEST_CASE("profilers nest, and stay on their thread") {
  Profiler outer;
  {
    const Profiler inner;
    CHECK(Profiler::current() == &inner);
    Tape tape;
    square(Tensor::ones({2}));
    CHECK(inner.events().size() == 1);
  }
  CHECK(Profiler::current() == &outer);
  CHECK(outer.events().empty());
  std::thread([] { CHECK(Profiler::current() == nullptr); }).join();
  auto first = std::make_unique<Profiler>();
  {
    const Profiler second;
    first.reset();
    CHECK(Profiler::current() == &second);
  }
  CHECK(Profiler::current() == &outer);
}

TEST_CASE("total adds up by name and pass, in order of appearance") {
  const std::vector<ProfileEvent> events{
      {.op = "conv2d", .scope = "a", .pass = Pass::forward, .seconds = 1, .multiply_adds = 10},
      {.op = "mish", .pass = Pass::forward, .seconds = 2},
      {.op = "conv2d", .scope = "b", .pass = Pass::forward, .seconds = 4, .multiply_adds = 100},
      {.op = "conv2d", .scope = "b", .pass = Pass::backward, .seconds = 8, .multiply_adds = 200},
      {.op = "optimizer", .seconds = 16}};
  const auto ops = total(events, by_op);
  REQUIRE(ops.size() == 4);
  CHECK(ops[0].name == "conv2d");
  CHECK(ops[0].pass == Pass::forward);
  CHECK(ops[0].calls == 2);
  CHECK(ops[0].seconds == 5);
  CHECK(ops[0].multiply_adds == 110);
  CHECK(ops[2].pass == Pass::backward);
  CHECK(ops[3].name == "optimizer");
  const auto layers = total(events, by_layer);
  REQUIRE(layers.size() == 5);
  CHECK(layers[0].name == "a");
  CHECK(layers[1].name == "mish");
}
