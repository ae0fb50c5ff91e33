// Optimizers, clipping and loss scaling on the GPU against the same on the CPU: the same formulas, so the
// same numbers up to rounding; and captured steps against single ones, bit for bit.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "support/cuda_switches.h"
#include "support/errors.h"
#include "support/golden.h"
#include "support/light.h"
#include "support/optim_problem.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/tape.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/updates/multi_tensor.h"
#include "weft/optim/formula_step.h"
#if WEFT_EMULATED
#include "weft_emulator.h"
#endif

using namespace weft;
using namespace weft::optim;
using weft::testing::all_optimizers;
using weft::testing::NamedOptimizer;
namespace cuda = weft::kernels::cuda;

namespace {

// A real GPU fuses multiplications with additions.
constexpr double kTolerance = WEFT_EMULATED ? 1e-6 : 1e-5;
const Shape kShapes[] = {{4099}, {1}, {33, 101}, {7, 3, 3, 5}, {}, {0}, {8192}, {9001}};
constexpr size_t kTensors = std::size(kShapes), kFirstGroup = 3;

/// Parameters of odd sizes with gradients that depend on the step alone, the same on every device.
struct Model {
  std::vector<Parameter> parameters;
  Device device;

  explicit Model(Device d) : device(d) {
    for (size_t j = 0; j < kTensors; ++j) {
      const std::string name = concat("p", j);
      parameters.push_back(
          {name, golden::normals(name, kShapes[j], DType::f32).to(device).set_requires_grad()});
    }
  }
  std::vector<Parameter> group0() const { return {parameters.begin(), parameters.begin() + kFirstGroup}; }
  std::vector<Parameter> group1() const { return {parameters.begin() + kFirstGroup, parameters.end()}; }
  std::unique_ptr<Optimizer> make(const NamedOptimizer& named) const {
    return named.make(group0(), group1());
  }

  static Tensor gradient(size_t j, int64_t t) {
    return golden::normals(concat("gradient of p", j, " at ", t), kShapes[j], DType::f32);
  }
  /// The third and the fifth parameter have none in every third step.
  void set_gradients(int64_t t, bool missing = false) const {
    for (size_t j = 0; j < kTensors; ++j)
      parameters[j].tensor.set_grad(missing && t % 3 == 0 && (j == 2 || j == 4) ? Tensor()
                                                                                : gradient(j, t).to(device));
  }
  /// Changes the gradients in their place, as a captured backward does.
  void overwrite_gradients(int64_t t) const {
    for (size_t j = 0; j < kTensors; ++j) parameters[j].tensor.grad().copy_from(gradient(j, t));
  }
  /// Parameters and the optimizer's state, copied to the CPU.
  StateDict all(const Optimizer& optimizer) const {
    StateDict all;
    for (const auto& [name, tensor] : optimizer.state_dict())
      all.emplace_back(name, tensor.clone().to(Device::cpu));
    for (const Parameter& p : parameters) all.emplace_back(p.name, p.tensor.clone().to(Device::cpu));
    return all;
  }
};

/// |a - b| / |b|; 0 where both are 0.
double relative(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  REQUIRE(a.dtype() == b.dtype());
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double x = a.at(i), y = b.at(i);
    difference += (x - y) * (x - y), norm += y * y;
  }
  return difference == 0 ? 0 : std::sqrt(difference / norm);
}
void check_close(const StateDict& a, const StateDict& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].first == b[i].first);
    CHECK_MESSAGE(relative(a[i].second, b[i].second) <= kTolerance, a[i].first);
  }
}
/// The name of the first tensor that differs in a bit; "" where none does.
std::string different(const StateDict& a, const StateDict& b) {
  if (a.size() != b.size()) return "the number of tensors";
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i].first != b[i].first || a[i].second.shape() != b[i].second.shape() ||
        std::memcmp(a[i].second.raw(), b[i].second.raw(), size_t(a[i].second.bytes())) != 0)
      return a[i].first;
  return "";
}
/// All optimizers, for what does not depend on the formula; light: a few.
std::vector<NamedOptimizer> each_optimizer() {
  std::vector<NamedOptimizer> list;
  for (size_t i = 0; i < all_optimizers().size(); i += test::light() ? 5 : 1)
    list.push_back(all_optimizers()[i]);
  return list;
}
/// A rate for each step, as a schedule sets it.
void set_rates(Optimizer& optimizer, int64_t t) {
  for (size_t g = 0; g < optimizer.num_groups(); ++g)
    optimizer.set_lr(g, optimizer.initial_lr(g) * (1 - 0.03 * double(t)));
}

}  // namespace

TEST_CASE("20 steps are those of the CPU") {
  const test::ExactFloat exact;  // for Muon's products
  const int64_t steps = test::light() ? 7 : 20;
  for (bool missing : {false, true})
    for (const NamedOptimizer& named : all_optimizers()) {
      if (test::light() && !missing) continue;
      INFO(named.name, missing ? " with gradients missing" : "");
      const Model cpu(Device::cpu), gpu(Device::cuda);
      const auto there = cpu.make(named), here = gpu.make(named);
      for (int64_t t = 1; t <= steps; ++t) {
        for (const Model* m : {&cpu, &gpu}) m->set_gradients(t, missing);
        for (Optimizer* o : {there.get(), here.get()}) set_rates(*o, t), o->step();
      }
      check_close(gpu.all(*here), cpu.all(*there));
      CHECK(here->steps() == steps);
    }
}

TEST_CASE("a captured step, launched 5 times, does what 5 steps do, bit for bit") {
  auto optimizers = each_optimizer();
  optimizers.push_back({"lars whose second group takes no norms", [](const auto& first, const auto& second) {
                          auto lars = std::make_unique<LARS>(first, LARSOptions{.lr = 0.5, .clip = true});
                          lars->add_group(second, {.lr = 0.1, .adapt = false});
                          return lars;
                        }});
  for (const NamedOptimizer& named : optimizers)
    for (int64_t before : {0, 4}) {  // captured before the first update, or before RAdam and Lookahead change
      INFO(named.name, " captured after ", before, " steps");
      const Model single(Device::cuda), captured(Device::cuda);
      const auto a = single.make(named), b = captured.make(named);
      const Schedule schedule = cosine();
      int64_t t = 1;
      for (; t <= before; ++t) {
        single.set_gradients(t), captured.set_gradients(t);
        a->step(), b->step();
      }
      if (before == 0) captured.set_gradients(99);  // memory to be overwritten
      const StateDict untouched = captured.all(*b);
      const auto graph = cuda::capture([&] { b->step(); });
      CHECK(different(captured.all(*b), untouched) == "");
      CHECK(b->steps() == before);
      for (int i = 0; i < 5; ++i, ++t) {
        single.set_gradients(t);
        captured.overwrite_gradients(t);
        schedule.apply(*a, t, 20);
        schedule.apply(*b, t, 20);
        a->step();
        graph->launch();
      }
      CHECK(different(captured.all(*b), single.all(*a)) == "");
      CHECK(b->steps() == before + 5);
    }
}

TEST_CASE("gradients stay in 16 bits where that is allowed, until a second one comes") {
  Generator generator(2);
  const Tensor x = Tensor::normal({5, 7}, 0, 1, generator).to(Device::cuda).to(DType::bf16);
  const auto weight = [&] {
    return Tensor::normal({3, 7}, 0, 1, generator).to(Device::cuda).set_requires_grad();
  };
  const Tensor a = weight(), b = weight(), c = weight();
  const auto backward = [&](const BackwardOptions& options) {
    Tape tape;
    // c's gradient is a sum of two.
    const Tensor y = linear(x, a) + linear(x, b) + linear(x, c) + linear(square(x), c);
    tape.backward(sum(square(cast(y, DType::f32))), options);
    return std::vector<Tensor>{a.grad(), b.grad(), c.grad()};
  };
  const auto wide = backward({});
  for (const Tensor& t : {a, b, c}) t.zero_grad();
  const auto narrow = backward({.narrow = {a, c}});
  CHECK(narrow[0].dtype() == DType::bf16);
  CHECK(narrow[1].dtype() == DType::f32);
  CHECK(narrow[2].dtype() == DType::f32);
  for (size_t i = 0; i < 3; ++i)
    CHECK(narrow[i].to(DType::f32).to_vector<float>() == wide[i].to_vector<float>());
  // Another walk adds to what is narrow, a recorded one too.
  for (const BackwardOptions& options :
       {BackwardOptions{.narrow = {a}}, BackwardOptions{.create_graph = true}}) {
    for (const Tensor& t : {a, b, c}) t.zero_grad();
    backward({});
    const auto twice = backward(options);
    for (const Tensor& t : {a, b, c}) t.zero_grad();
    backward({.narrow = {a, b, c}});
    const auto again = backward(options);
    for (size_t i = 0; i < 3; ++i) {
      CHECK(again[i].dtype() == DType::f32);
      CHECK(again[i].to_vector<float>() == twice[i].to_vector<float>());
    }
  }
}

TEST_CASE("gradients in 16 bits give the bits that they give in f32, captured or not") {
  for (const DType dtype : {DType::bf16, DType::f16})
    for (const NamedOptimizer& named : each_optimizer()) {
      INFO(named.name, " in ", dtype);
      const Model narrow(Device::cuda), wide(Device::cuda), captured(Device::cuda);
      const auto a = narrow.make(named), b = wide.make(named), c = captured.make(named);
      std::unique_ptr<cuda::Graph> graph;
      for (int64_t t = 1; t <= 8; ++t) {
        for (size_t j = 0; j < kTensors; ++j) {
          const Tensor g = Model::gradient(j, t).to(Device::cuda).to(j == 3 ? DType::f32 : dtype);
          narrow.parameters[j].tensor.variable()->grad = g;
          wide.parameters[j].tensor.set_grad(g.clone().to(DType::f32));
          if (t == 1)
            captured.parameters[j].tensor.variable()->grad = g.clone();
          else
            captured.parameters[j].tensor.grad().copy_from(g);
        }
        if (!a->by_formula()) {
          CHECK_ERROR(a->step(), "leave the parameter out of BackwardOptions::narrow");
          break;
        }
        if (t == 1) graph = cuda::capture([&] { c->step(); });
        a->step();
        b->step();
        graph->launch();
      }
      CHECK((a->by_formula() || named.name.find("gc") != std::string::npos));
      if (!a->by_formula()) continue;
      CHECK(different(narrow.all(*a), wide.all(*b)) == "");
      CHECK(different(captured.all(*c), wide.all(*b)) == "");
    }
}

namespace {

struct MoreThanAdam : Adam {
  using Adam::Adam;
  void step() override { Adam::step(), parameters()[0].tensor.fill(0); }
};
struct PlainFormula : FormulaOptimizer<PlainFormula, AdamOptions> {
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "plain";
  static std::vector<Slot> state_slots(const Options& o) { return Adam::state_slots(o); }
  template <class T>
  static optim::updates::adam<T> formula(const Options& o, int64_t t) {
    return Adam::formula<T>(o, t);
  }
};
struct OtherStep : FormulaOptimizer<OtherStep, AdamOptions> {
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "other step";
  static std::vector<Slot> state_slots(const Options& o) { return Adam::state_slots(o); }
  template <class T>
  static optim::updates::adam<T> formula(const Options& o, int64_t t) {
    return Adam::formula<T>(o, t);
  }
  void step() override { FormulaOptimizer::step(); }
};
struct OtherUpdate : FormulaOptimizer<OtherUpdate, AdamOptions> {
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "other update";
  static std::vector<Slot> state_slots(const Options& o) { return Adam::state_slots(o); }
  template <class T>
  static optim::updates::adam<T> formula(const Options& o, int64_t t) {
    return Adam::formula<T>(o, t);
  }

 private:
  void update(size_t group) override { FormulaOptimizer::update(group); }
};
struct MoreThanRanger : Ranger {
  using Ranger::Ranger;
};

}  // namespace

TEST_CASE("an optimizer that may do more than formulas does not say that it is by formula") {
  const std::vector<Parameter> p{{"p", Tensor::zeros({3}).set_requires_grad()}};
  CHECK(PlainFormula(p).by_formula());
  CHECK(Lookahead(std::make_unique<PlainFormula>(p)).by_formula());
  CHECK(Ranger(p).by_formula());
  CHECK_FALSE(Ranger(p, {.use_gc = true}).by_formula());
  CHECK_FALSE(MoreThanAdam(p).by_formula());
  CHECK_FALSE(Lookahead(std::make_unique<MoreThanAdam>(p)).by_formula());
  CHECK_FALSE(OtherStep(p).by_formula());
  CHECK_FALSE(OtherUpdate(p).by_formula());
  CHECK_FALSE(MoreThanRanger(p).by_formula());
}

TEST_CASE("state goes from one device to the other and back") {
  const test::ExactFloat exact;
  const std::string file =
      (std::filesystem::temp_directory_path() / concat("weft-cuda-optim-", getpid())).string();
  for (const NamedOptimizer& named : each_optimizer())
    for (Device from : {Device::cpu, Device::cuda}) {
      INFO(named.name, " from ", from);
      const Device to = from == Device::cpu ? Device::cuda : Device::cpu;
      const Model whole(from), first(from), second(to);
      const auto a = whole.make(named), b = first.make(named), c = second.make(named);
      const auto run = [](const Model& m, Optimizer& o, int64_t begin, int64_t end) {
        for (int64_t t = begin; t <= end; ++t) m.set_gradients(t), o.step();
      };
      run(whole, *a, 1, 13);
      run(first, *b, 1, 5);
      save_safetensors(file, b->state_dict());
      for (size_t j = 0; j < kTensors; ++j) second.parameters[j].tensor.copy_from(first.parameters[j].tensor);
      c->load_state_dict(load_safetensors(file));
      CHECK(different(second.all(*c), first.all(*b)) == "");
      run(second, *c, 6, 9);
      b->load_state_dict(c->state_dict());  // on the other device: copied
      for (size_t j = 0; j < kTensors; ++j) first.parameters[j].tensor.copy_from(second.parameters[j].tensor);
      run(first, *b, 10, 13);
      check_close(first.all(*b), whole.all(*a));
    }
  std::filesystem::remove(file);
}

TEST_CASE("NaN and infinity in a gradient reach the parameter, and no other") {
  for (const NamedOptimizer& named : each_optimizer())
    for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      INFO(named.name, " with ", bad);
      const Model gpu(Device::cuda);
      const auto optimizer = gpu.make(named);
      for (int64_t t = 1; t <= 7; ++t) {
        gpu.set_gradients(t);
        if (t == 7) {
          const Tensor g = Model::gradient(2, t);
          g.data<float>()[1234] = bad;
          gpu.parameters[2].tensor.set_grad(g.to(Device::cuda));
        }
        optimizer->step();
      }
      for (size_t j = 0; j < kTensors; ++j) {
        const Tensor p = gpu.parameters[j].tensor.to(Device::cpu);
        int64_t not_finite = 0;
        for (int64_t i = 0; i < p.numel(); ++i) not_finite += !std::isfinite(p.at(i));
        if (j != 2) {
          CHECK(not_finite == 0);
        } else {
          // Lion takes the sign, and keeps the infinity in its state.
          bool kept = false;
          for (const auto& [name, t] : gpu.all(*optimizer))
            if (name.rfind("p2/", 0) == 0 && t.numel() == p.numel())
              kept = kept || !std::isfinite(t.at(1234));
          CHECK((!std::isfinite(p.at(1234)) || kept));
          if (named.by_element) CHECK(not_finite <= 1);
        }
      }
    }
}

TEST_CASE("Lookahead synchronises with every k-th update, and starts where it should") {
  const auto on_gpu = [](double value) {
    return Tensor::full({5}, value, DType::f32, Device::cuda).set_requires_grad();
  };
  const Tensor p = on_gpu(1);
  Lookahead optimizer(std::make_unique<SGD>(std::vector<Parameter>{{"p", p}}, SGDOptions{.lr = 1}),
                      {.k = 2, .alpha = 0.25});
  p.fill(10);
  p.set_grad(Tensor::ones({5}, DType::f32, Device::cuda));
  for (double expected : {9.0, 9.5, 8.5, 9.5 + 0.25 * (7.5 - 9.5)}) {
    optimizer.step();
    CHECK(p.at(4) == expected);
  }
  const Tensor q = on_gpu(10);
  Lookahead lazy(std::make_unique<SGD>(std::vector<Parameter>{{"q", q}}, SGDOptions{.lr = 1}),
                 {.k = 2, .alpha = 0.25, .lazy = true});
  q.set_grad(Tensor::ones({5}, DType::f32, Device::cuda));
  for (double expected : {9.0, 8.0, 7.0, 8 + 0.25 * (6 - 8)}) {
    lazy.step();
    CHECK(q.at(4) == expected);
  }
}

TEST_CASE("any number of tensors, empty ones among them, at any address") {
  // Adam's kernel alone, on more tensors than a block has threads, each one element behind a multiple of 16
  // bytes or not; the gradients of one type or another.
  using Record = cuda::UpdateRecord<optim::updates::adam<float>>;
  const auto* kernels = cuda::find_update("adam");
  REQUIRE(kernels);
  CHECK(cuda::find_update("no such update") == nullptr);
  const optim::updates::adam<float> adam{.step = 0.1f,
                                         .root = 1.5f,
                                         .eps = 1e-3f,
                                         .l2 = 0.01f,
                                         .shrink = 0.99f,
                                         .averages = {0.9f, 0.1f, 0.99f, 0.01f}};
  std::vector<int64_t> sizes;
  for (int64_t j = 0; j < 600; ++j)
    sizes.push_back(j % 97 == 0 ? 0 : j == 333 ? 9001 : j % 11 + (j % 50 == 7) * 4096);
  int64_t total = 0, chunks = 0;
  for (int64_t n : sizes)
    total += (n + 1 + 3) / 4 * 4 + 4, chunks += (n + cuda::kUpdateChunk - 1) / cuda::kUpdateChunk;
  for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
    const DType half = type == DType::f16 ? DType::f16 : DType::bf16;
    const Tensor copies = Tensor::full({total}, 77, half, Device::cuda);
    struct Copied {
      int64_t from, to, n;
    };
    std::vector<Copied> copied;
    Tensor buffers[4], wanted[4];  // parameter, gradient, moments
    for (int b = 0; b < 4; ++b) {
      wanted[b] = golden::normals(concat("buffer", b), {total}, DType::f32);
      if (b == 3)
        for (int64_t i = 0; i < total; ++i) wanted[b].data<float>()[i] = std::abs(wanted[b].data<float>()[i]);
      if (b == 1) wanted[b] = wanted[b].to(type).to(DType::f32);
      buffers[b] = b == 1 ? wanted[b].to(type).to(Device::cuda) : wanted[b].to(Device::cuda);
    }
    std::vector<Record> records;
    std::vector<int32_t> first;
    int64_t at = 0, chunk = 0;
    for (size_t j = 0; j < sizes.size(); ++j) {
      const int64_t offset = at + (j % 3 == 0);
      Record r;
      r.p = buffers[0].data<float>() + offset,
      r.g = static_cast<const char*>(buffers[1].raw()) + offset * size_of(type);
      r.narrow = is_half(type);
      r.state[0] = buffers[2].data<float>() + offset, r.state[1] = buffers[3].data<float>() + offset;
      if (j % 4 != 2) {  // from a place that is even or not, also where the rest is not
        const int64_t to = offset - (j % 5 == 0 && offset > 0);
        r.copy = static_cast<char*>(copies.raw()) + to * 2;
        if (j != 20) copied.push_back({offset, to, sizes[j]});
      }
      if (j == 20) r.p = nullptr;  // left out
      r.n = sizes[j], r.update = adam;
      records.push_back(r);
      first.push_back(int32_t(chunk));
      for (int64_t i = offset; i < offset + r.n && r.p; ++i)
        adam(wanted[0].data<float>()[i], wanted[1].data<float>()[i], wanted[2].data<float>()[i],
             wanted[3].data<float>()[i]);
      at += (sizes[j] + 1 + 3) / 4 * 4 + 4;
      chunk += (sizes[j] + cuda::kUpdateChunk - 1) / cuda::kUpdateChunk;
    }
    const int64_t record_bytes = int64_t(records.size() * sizeof(Record)),
                  first_bytes = int64_t(first.size() * 4);
    const Tensor memory = Tensor::empty({record_bytes + first_bytes}, DType::u8, Device::cuda);
    cuda::upload(memory.raw(), records.data(), record_bytes);
    cuda::upload(static_cast<char*>(memory.raw()) + record_bytes, first.data(), first_bytes);
    kernels->update(
        {.tensors = int32_t(records.size()),
         .chunks = int32_t(chunks),
         .f16 = half == DType::f16,
         .records = memory.raw(),
         .first = reinterpret_cast<const int32_t*>(static_cast<char*>(memory.raw()) + record_bytes)});
    for (int b = 0; b < 4; ++b) {
      buffers[b] = buffers[b].to(DType::f32).to(Device::cpu);
      CHECK(relative(buffers[b], wanted[b]) <= kTolerance);
      // What lies between the tensors has its bits.
      if (WEFT_EMULATED) CHECK(different({{"", buffers[b]}}, {{"", wanted[b]}}) == "");
    }
    const Tensor rounded = buffers[0].to(half), expected = Tensor::full({total}, 77, half);
    const auto at_index = [](const Tensor& t, int64_t i) { return static_cast<char*>(t.raw()) + i * 2; };
    for (const Copied& c : copied)
      std::memcpy(at_index(expected, c.to), at_index(rounded, c.from), size_t(c.n) * 2);
    CHECK(different({{"", copies.to(Device::cpu)}}, {{"", expected}}) == "");
  }
}

TEST_CASE("clipping does what it does on the CPU") {
  const Model cpu(Device::cpu), gpu(Device::cuda);
  const auto same = [&] {
    for (size_t j = 0; j < kTensors; ++j)
      CHECK(relative(gpu.parameters[j].tensor.grad().to(Device::cpu), cpu.parameters[j].tensor.grad()) <=
            1e-6);
  };
  const auto reset = [&] { cpu.set_gradients(1), gpu.set_gradients(1); };
  reset();
  const double norm = clip_grad_norm_(cpu.parameters, 3);
  CHECK(clip_grad_norm_(gpu.parameters, 3) == doctest::Approx(norm).epsilon(1e-7));
  same();
  CHECK(clip_grad_norm_(gpu.parameters, 10) == doctest::Approx(3).epsilon(1e-5));
  same();
  reset();
  clip_grad_norm_async_(cpu.parameters, 5);
  clip_grad_norm_async_(gpu.parameters, 5);
  same();
  reset();
  clip_grad_value_(cpu.parameters, 0.7);
  clip_grad_value_(gpu.parameters, 0.7);
  same();
  CHECK(clip_grad_norm_({}, 1) == 0);

  const auto graph = cuda::capture([&] { clip_grad_norm_async_(gpu.parameters, 2); });
  CHECK_THROWS_AS(cuda::capture([&] { clip_grad_norm_(gpu.parameters, 2); }), Error);
  for (int64_t t : {5, 6}) {
    gpu.overwrite_gradients(t);
    cpu.set_gradients(t);
    graph->launch();
    clip_grad_norm_(cpu.parameters, 2);
    same();
  }

  // A norm whose squares leave the range of float, and NaN.
  reset();
  const Tensor large = Tensor::full(kShapes[0], 1e30), bad = Tensor::zeros(kShapes[0]);
  gpu.parameters[0].tensor.set_grad(large.to(Device::cuda));
  CHECK(clip_grad_norm_(gpu.parameters, 1e38) == doctest::Approx(1e30 * std::sqrt(4099.0)).epsilon(1e-6));
  bad.data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
  gpu.parameters[0].tensor.set_grad(bad.to(Device::cuda));
  CHECK_ERROR(clip_grad_norm_(gpu.parameters, 1, {.error_if_nonfinite = true}),
              "norm of the gradients is nan");
  CHECK(gpu.parameters[0].tensor.grad().at(4) == 0);
  clip_grad_value_(gpu.parameters, 1);
  CHECK(std::isnan(gpu.parameters[0].tensor.grad().at(3)));
  CHECK(std::isnan(clip_grad_norm_(gpu.parameters, 1)));
  CHECK(std::isnan(gpu.parameters[7].tensor.grad().at(0)));
}

namespace {

/// Gradients times the scale, infinite in one place in some steps, as a backward pass makes them.
void set_scaled(const Model& m, int64_t t, double scale, bool infinite) {
  for (size_t j = 0; j < kTensors; ++j) {
    const Tensor g = Model::gradient(j, t);
    for (int64_t i = 0; i < g.numel(); ++i) g.data<float>()[i] *= float(scale);
    if (infinite && j == 7) g.data<float>()[5000 + t] = std::numeric_limits<float>::infinity();
    const Tensor& p = m.parameters[j].tensor;
    if (p.grad().defined())
      p.grad().copy_from(g);
    else
      p.set_grad(g.to(m.device));
  }
}
bool infinite_at(int64_t t) { return t <= 2 || t == 6 || t == 7; }
constexpr GradScalerOptions kQuick{.init_scale = 1024, .growth_interval = 3};

}  // namespace

namespace {

#if WEFT_EMULATED
uint64_t launches_of(const std::function<void()>& f) {
  weft_emulator::reset_stats();
  f();
  return weft_emulator::stats().launches;
}
#else
int launches_of(const std::function<void()>&) { return 0; }
#endif

/// A Module of a Model's parameters.
struct Holder : Module {
  explicit Holder(Model& model) {
    for (Parameter& p : model.parameters) p.tensor = register_parameter(p.name, p.tensor);
  }
};

}  // namespace

TEST_CASE("copies of the weights follow each update, left out or not") {
  for (const DType dtype : {DType::bf16, DType::f16})
    for (const NamedOptimizer& named : each_optimizer()) {
      INFO(named.name, " in ", dtype);
      Model gpu(Device::cuda), plain(Device::cuda);
      const Holder holder(gpu);
      const WeightCopies copies(holder, dtype);
      const auto a = gpu.make(named), b = plain.make(named);
      if (!a->by_formula()) continue;
      GradScaler s(Device::cuda, kQuick), t(Device::cuda, kQuick);
      copies.refresh();
      for (int64_t step = 1; step <= 8; ++step) {
        set_scaled(gpu, step, s.scale(), infinite_at(step));
        set_scaled(plain, step, t.scale(), infinite_at(step));
        {
          const WeightCopies::Follow follow(copies);
          s.step(*a);
          if (WEFT_EMULATED) CHECK(launches_of([&] { follow.finish(); }) == 0);
        }
        t.step(*b);
        s.update(), t.update();
        const WeightCopies::Use use(copies, false);
        for (const Parameter& p : gpu.parameters) {
          const Tensor copy = WeightCopies::find(p.tensor, dtype);
          CHECK(copy.defined() == (p.tensor.ndim() >= 2));
          if (copy.defined())
            CHECK(different({{"", copy.to(Device::cpu)}}, {{"", p.tensor.to(dtype).to(Device::cpu)}}) == "");
        }
      }
      CHECK(different(gpu.all(*a), plain.all(*b)) == "");
      CHECK_FALSE(WeightCopies::follow(gpu.parameters[2].tensor).defined());
    }
}

TEST_CASE("GradScaler leaves out the steps that it leaves out on the CPU") {
  const test::ExactFloat exact;
  for (const NamedOptimizer& named : each_optimizer()) {
    INFO(named.name);
    const Model cpu(Device::cpu), gpu(Device::cuda);
    const auto there = cpu.make(named), here = gpu.make(named);
    GradScaler a(Device::cpu, kQuick), b(Device::cuda, kQuick);
    for (int64_t t = 1; t <= 11; ++t) {
      REQUIRE(a.scale() == b.scale());
      set_scaled(cpu, t, a.scale(), infinite_at(t));
      set_scaled(gpu, t, a.scale(), infinite_at(t));
      const StateDict before = gpu.all(*here);
      a.step(*there), b.step(*here);
      if (infinite_at(t) && !named.lookahead)
        for (const Parameter& p : gpu.parameters)
          CHECK(different({{"", p.tensor.to(Device::cpu)}}, {{"", find(before, p.name)}}) == "");
      a.update(), b.update();
      a.settle(*there), b.settle(*here);
    }
    CHECK(b.skipped() == 4);
    CHECK(a.skipped() == 4);
    CHECK(here->steps() == 7);
    CHECK(a.scale() == 1024 / 4.0 * 2 / 4 * 2);
    // Lookahead synchronises with steps that are left out too.
    if (!named.lookahead) check_close(gpu.all(*here), cpu.all(*there));
  }
}

TEST_CASE("where its first update is left out, NovoGrad and SGD start with the next") {
  for (const NamedOptimizer& named : each_optimizer()) {
    // With dampening the first gradient is told by the count.
    if (named.name.rfind("novograd", 0) != 0 && named.name != "sgd" && named.name != "sgd decoupled" &&
        named.name != "lars everywhere")
      continue;
    INFO(named.name);
    const Model cpu(Device::cpu), gpu(Device::cuda);
    const auto there = cpu.make(named), here = gpu.make(named);
    GradScaler a(Device::cpu, kQuick), b(Device::cuda, kQuick);
    for (int64_t t = 1; t <= 5; ++t) {
      set_scaled(cpu, t, a.scale(), infinite_at(t));
      set_scaled(gpu, t, a.scale(), infinite_at(t));
      a.step(*there), b.step(*here);  // without settle(): the third step is the third update here
      a.update(), b.update();
    }
    CHECK(here->steps() == 5);
    b.settle(*here);
    check_close(gpu.all(*here), cpu.all(*there));
  }
}

TEST_CASE("captured steps with GradScaler and clipping are those done one by one, bit for bit") {
  for (const NamedOptimizer& named : each_optimizer()) {
    INFO(named.name);
    const Model single(Device::cuda), captured(Device::cuda);
    const auto a = single.make(named), b = captured.make(named);
    GradScaler s(Device::cuda, kQuick), c(Device::cuda, kQuick);
    const auto step = [](const Model& m, Optimizer& o, GradScaler& scaler) {
      scaler.unscale_(o);
      clip_grad_norm_async_(m.parameters, 50);
      scaler.step(o);
      scaler.update();
    };
    set_scaled(captured, 99, 1, false);
    const auto graph = cuda::capture([&] { step(captured, *b, c); });
    for (int64_t t = 1; t <= 9; ++t) {
      set_scaled(single, t, s.scale(), infinite_at(t));
      set_scaled(captured, t, s.scale(), infinite_at(t));
      step(single, *a, s);
      graph->launch();
    }
    CHECK(c.skipped() == 4);
    CHECK(c.scale() == s.scale());
    CHECK(different(captured.all(*b), single.all(*a)) == "");
    for (const Parameter& p : captured.parameters)
      if (p.tensor.numel() > 0) CHECK(std::isfinite(p.tensor.at(p.tensor.numel() - 1)));
  }
}

TEST_CASE("captured steps follow options that need less state than there is") {
  const auto run = [](Device device) {
    const Tensor p = Tensor::zeros({5}, DType::f32, device).set_requires_grad(),
                 q = Tensor::zeros({5}, DType::f32, device).set_requires_grad();
    p.set_grad(Tensor::ones({5}, DType::f32, device));
    q.set_grad(Tensor::ones({5}, DType::f32, device));
    SGD sgd({{"p", p}}, {.lr = 0.1, .momentum = 0.9, .dampening = 0.5});
    RMSprop rmsprop({{"q", q}}, {.centered = true});
    const auto step = [&] { sgd.step(), rmsprop.step(); };
    const auto graph = device == Device::cuda ? cuda::capture(step) : nullptr;
    for (const bool less : {false, true, true, false}) {
      sgd.set_momentum(0, less ? 0 : 0.9);
      rmsprop.set_options(0, {.centered = !less});
      graph ? graph->launch() : step();
    }
    return std::vector<double>{p.at(4), q.at(4)};
  };
  const std::vector<double> cpu = run(Device::cpu), gpu = run(Device::cuda);
  CHECK(cpu[0] == doctest::Approx(-0.3 - 0.1 * (0.9 + 0.5)));
  for (size_t i : {0, 1}) CHECK(gpu[i] == doctest::Approx(cpu[i]).epsilon(1e-6));
}

TEST_CASE("of two optimizers on one GradScaler only that with an infinite gradient leaves its step out") {
  const auto run = [](Device device, bool capture) {
    const Tensor p = Tensor::zeros({2}, DType::f32, device).set_requires_grad(),
                 q = Tensor::zeros({3}, DType::f32, device).set_requires_grad();
    p.set_grad(Tensor::zeros({2}, DType::f32, device));
    q.set_grad(Tensor::zeros({3}, DType::f32, device));
    Adam a({{"p", p}}, {.lr = 1}), b({{"q", q}}, {.lr = 1});
    GradScaler scaler(device, kQuick);
    const auto step = [&] {
      scaler.unscale_(b);
      scaler.step(a);
      scaler.step(b);
      scaler.update();
    };
    const auto graph = capture ? cuda::capture(step) : nullptr;
    for (int t = 1; t <= 6; ++t) {
      p.grad().fill(t == 2 ? NAN : scaler.scale());
      q.grad().fill(t == 1 || t == 2 ? std::numeric_limits<double>::infinity() : scaler.scale());
      capture ? graph->launch() : step();
    }
    scaler.settle(a), scaler.settle(b);
    CHECK(scaler.skipped() == 3);
    CHECK(scaler.scale() == 1024 / 4 * 2);
    CHECK(a.steps() == 5);
    CHECK(b.steps() == 4);
    return std::vector<double>{p.at(0), q.at(2)};
  };
  const std::vector<double> cpu = run(Device::cpu, false), gpu = run(Device::cuda, false);
  CHECK(run(Device::cuda, true) == gpu);
  CHECK(cpu[0] == doctest::Approx(-5));
  CHECK(cpu[1] == doctest::Approx(-4));
  // The counts of b are too large there until they are settled: a smaller step.
  CHECK(gpu[0] < gpu[1]);
}

TEST_CASE("what does not fit on the GPU is refused with its name") {
  {
    Model gpu(Device::cuda);
    Adam adam(gpu.parameters);
    gpu.set_gradients(1);
    const Holder holder(gpu);
    const WeightCopies copies(holder, DType::bf16);
    const WeightCopies::Follow follow(copies);
    gpu.parameters[2].tensor.variable()->grad = gpu.parameters[2].tensor.grad().to(DType::f16);
    CHECK_ERROR(adam.step(), "in both bf16 and f16");
    CHECK(adam.steps() == 0);
  }
  const Tensor p = Tensor::zeros({3}, DType::f32, Device::cuda).set_requires_grad(),
               q = Tensor::zeros({3}).set_requires_grad();
  CHECK_ERROR(Adam({{"p", p}, {"q", q}}), "parameter 'q' is on cpu but others are on cuda");
  Ranger ranger({{"q", q}});
  CHECK_ERROR(ranger.add_group({{"p", p}}), "parameter 'p' is on cuda but others are on cpu");
  CHECK_ERROR(Adam({{"p", Tensor::zeros({2}, DType::f64, Device::cuda)}}),
              "'p' is f64 [2] on cuda; only f32");
  p.set_grad(Tensor::ones({3}, DType::f32, Device::cuda));
  q.set_grad(Tensor::ones({3}));
  CHECK_ERROR(clip_grad_norm_({{"p", p}, {"q", q}}, 1), "the gradient of 'q' is on cpu, others are not");
  GradScaler scaler(Device::cpu);
  Adam adam({{"p", p}});
  CHECK_ERROR(scaler.step(adam), "not on cpu");
  p.zero_grad();
  p.set_data(p.to(Device::cpu));
  CHECK_ERROR(adam.step(), "parameter 'p' is f32 [3] now but was f32 [3] on cuda when it was added");
}

namespace {

/// Matrices for Muon: tall, wide, square, one row, convolutions, and some of one shape.
const Shape kMatrices[] = {{9, 5}, {5, 9}, {6, 6}, {1, 11},      {9, 5, 1, 1}, {4, 3, 3, 5},
                           {9, 5}, {3},    {0, 4}, {4, 3, 3, 5}, {9, 5},       {40, 70}};
constexpr size_t kWithout = 6;  // has no gradient in every second step

/// Steps of Muon on them, from the same numbers on every device: the parameters after each.
std::vector<std::vector<double>> muon_steps(Device device, DType dtype) {
  std::vector<Parameter> parameters;
  for (size_t j = 0; j < std::size(kMatrices); ++j) {
    const std::string name = concat("matrix ", j);
    parameters.push_back(
        {name, golden::normals(name, kMatrices[j], DType::f32).to(dtype).to(device).set_requires_grad()});
  }
  Muon muon(parameters, {.lr = 0.1});
  std::vector<std::vector<double>> after;
  for (int64_t t = 0; t < 6; ++t) {
    for (size_t j = 0; j < std::size(kMatrices); ++j) {
      const Tensor g = golden::normals(concat("gradient ", j, " at ", t), kMatrices[j], DType::f32);
      if (j == 2) g.fill(0);
      parameters[j].tensor.set_grad(j == kWithout && t % 2 == 1 ? Tensor() : g.to(dtype).to(device));
    }
    muon.step();
    for (const Parameter& p : parameters)
      after.push_back(p.tensor.to(Device::cpu).to(DType::f64).to_vector<double>());
  }
  CHECK(muon.state_dict().size() == 1 + 2 * std::size(kMatrices) + 1);
  return after;
}

}  // namespace

TEST_CASE("Muon's matrices of all shapes take the steps of double precision") {
  const test::ExactFloat exact;
  const size_t count = std::size(kMatrices);
  const auto expected = muon_steps(Device::cpu, DType::f64);
  for (const Device device : {Device::cpu, Device::cuda}) {
    const auto after = muon_steps(device, DType::f32);
    for (size_t i = 0; i < after.size(); ++i) {
      INFO("step ", i / count, " of ", kMatrices[i % count], " on ", device);
      for (size_t k = 0; k < after[i].size(); ++k)
        CHECK(after[i][k] == doctest::Approx(expected[i][k]).epsilon(1e-4).scale(1));
      if (i >= count && after[i].size() > 0)
        CHECK((after[i] == after[i - count]) == (i % count == kWithout && i / count % 2 == 1));
    }
  }
}

#if WEFT_EMULATED
TEST_CASE("Muon's launches are as many for several matrices of a shape as for one") {
  const auto step = [](const std::vector<Shape>& shapes) {
    std::vector<Parameter> parameters;
    for (size_t j = 0; j < shapes.size(); ++j) {
      const std::string name = concat("matrix ", j);
      parameters.push_back(
          {name, golden::normals(name, shapes[j], DType::f32).to(Device::cuda).set_requires_grad()});
      parameters[j].tensor.set_grad(parameters[j].tensor.clone());
    }
    Muon muon(parameters);
    for (int i = 0; i < 2; ++i) muon.step();
    cuda::synchronize();
    weft_emulator::reset_stats();
    muon.step();
    cuda::synchronize();
    return weft_emulator::stats();
  };
  // Sums, momentum and the last pass; three products in each of five iterations.
  for (const auto& [shapes, kinds] : {std::pair(std::vector<Shape>{{6, 20}}, 1),
                                      {{{6, 20}, {6, 20}, {6, 5, 2, 2}, {6, 20}, {7}}, 1},
                                      {{{6, 20}, {20, 6}, {6, 20}, {20, 6}, {6, 6}}, 3}}) {
    const weft_emulator::Stats stats = step(shapes);
    CHECK(stats.kernels == 3);
    CHECK(stats.host_functions == uint64_t(15 * kinds));
    CHECK(stats.mallocs == 0);
    CHECK(stats.copies_to_host == 0);
    CHECK(stats.pageable_copies == 0);
    CHECK(stats.copies_to_device == 2);
  }
  CHECK(step({{7}, {5}}).kernels <= 2);  // no matrix
}

TEST_CASE("Muon's large and small matrices get the same bits, whoever comes first, captured or not") {
  const Shape shapes[] = {{6, 20}, {8, 140000}, {4, 3, 3, 5}, {4, 45}, {5}};
  const auto steps = [&](bool captured) {
    std::vector<Parameter> parameters;
    for (size_t j = 0; j < std::size(shapes); ++j) {
      const std::string name = concat("matrix ", j);
      parameters.push_back(
          {name, golden::normals(name, shapes[j], DType::f32).to(Device::cuda).set_requires_grad()});
      parameters[j].tensor.set_grad(parameters[j].tensor.clone());
    }
    Muon muon(parameters, {.lr = 0.1});
    const MemoryPool pool(Device::cuda);
    std::unique_ptr<cuda::Graph> graph;
    if (captured) {
      const MemoryPool::Use use(pool);
      graph = cuda::capture([&] { muon.step(); });
    }
    for (int t = 0; t < 2; ++t) captured ? graph->launch() : muon.step();
    StateDict all;
    for (const Parameter& p : parameters) all.emplace_back(p.name, p.tensor.to(Device::cpu));
    return all;
  };
  const StateDict expected = steps(false);
  CHECK(different(steps(true), expected) == "");
  const weft_emulator::Deferred deferred;
  CHECK(different(steps(false), expected) == "");
  CHECK(different(steps(true), expected) == "");
}

TEST_CASE("a step is one launch for each group, two with norms, many with products, and waits for nothing") {
  for (const NamedOptimizer& named : each_optimizer()) {
    INFO(named.name);
    const Model gpu(Device::cuda);
    const auto optimizer = gpu.make(named);
    for (int64_t t = 1; t <= 2; ++t) gpu.set_gradients(t), optimizer->step();
    gpu.set_gradients(3);
    weft_emulator::reset_stats();
    optimizer->step();
    const weft_emulator::Stats stats = weft_emulator::stats();
    if (named.by_element || optimizer->moved_again() > 0) CHECK(stats.kernels <= (named.by_element ? 2 : 4));
    CHECK(stats.copies_to_host == 0);
    CHECK(stats.host_syncs <= stats.copies_to_device);  // an upload may wait for memory to pass through
    CHECK(stats.mallocs == 0);
    CHECK(stats.pageable_copies == 0);
    GradScaler scaler(Device::cuda);
    weft_emulator::reset_stats();
    clip_grad_norm_async_(gpu.parameters, 1);
    scaler.step(*optimizer);
    scaler.update();
    CHECK(weft_emulator::stats().copies_to_host == 0);
    CHECK(weft_emulator::stats().host_syncs <= weft_emulator::stats().copies_to_device);
  }
}

TEST_CASE("the same bits in whatever order blocks and warps run") {
  for (const NamedOptimizer& named : each_optimizer()) {
    if (named.by_element) continue;
    INFO(named.name);
    std::vector<StateDict> results;
    for (uint64_t seed : {1, 2, 3}) {
      weft_emulator::set_seed(seed);
      const Model gpu(Device::cuda);
      const auto optimizer = gpu.make(named);
      for (int64_t t = 1; t <= 3; ++t) {
        gpu.set_gradients(t);
        clip_grad_norm_async_(gpu.parameters, 60);
        optimizer->step();
      }
      results.push_back(gpu.all(*optimizer));
    }
    CHECK(different(results[0], results[1]) == "");
    CHECK(different(results[0], results[2]) == "");
  }
  weft_emulator::set_seed(1);
}
#endif
