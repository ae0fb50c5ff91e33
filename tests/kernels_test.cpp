// The SIMD kernels of every instruction set this machine can run, against the reference loops in double:
// random shapes with tails, outputs filled with NaN before and guarded behind, the same bits for 1, 2 and 7
// threads.
#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/kernel_tables.h"
#include "support/light.h"
#include "weft/kernels/convolution.h"
#include "weft/kernels/cpu/peak.h"
#include "weft/kernels/error.h"
#include "weft/kernels/half.h"
#include "weft/kernels/kernels.h"
#include "weft/kernels/parallel.h"
#include "weft/kernels/philox.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

std::vector<Activation> all_activations() {
  std::vector<Activation> list;
  for (int i = 0; i < kActivationCount; ++i) list.push_back(Activation(i));
  return list;
}

/// 64-byte aligned scratch memory, filled with NaN, with a guard behind.
class Workspace {
 public:
  explicit Workspace(int64_t bytes) : bytes_(bytes), memory_(size_t(bytes) / sizeof(float) + 64, kNaN) {
    start_ = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory_.data()) + 63) / 64 * 64);
    for (float* p = end(); p < memory_.data() + memory_.size(); ++p) *p = 7;
  }
  void* get() { return start_; }
  bool ok() {
    for (float* p = end(); p < memory_.data() + memory_.size(); ++p)
      if (*p != 7) return false;
    return true;
  }

 private:
  float* end() { return start_ + (bytes_ + 3) / 4; }
  int64_t bytes_;
  Floats memory_;
  float* start_;
};

}  // namespace

// --- the thread pool ---

TEST_CASE("parallel_for runs each task once, for any number of threads") {
  const int before = num_threads();
  for (int threads : {1, 2, 3, 7}) {
    set_num_threads(threads);
    CHECK(num_threads() == threads);
    for (int64_t count : {0, 1, 2, 5, 100, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
      parallel_for(count, [&](int64_t i) { ++runs[size_t(i)]; });
      for (const auto& n : runs) REQUIRE(n == 1);
    }
  }
  set_num_threads(before);
}

TEST_CASE("parallel_ranges covers the range in pieces of the grain") {
  for (int64_t n : {0, 1, 9, 10, 11, 95}) {
    std::vector<std::atomic<int>> hits(static_cast<size_t>(n));
    std::atomic<int> wrong{0};
    parallel_ranges(n, 10, [&](int64_t begin, int64_t end) {
      if (begin % 10 != 0 || (end != n && end - begin != 10)) ++wrong;
      for (int64_t i = begin; i < end; ++i) ++hits[size_t(i)];
    });
    CHECK(wrong == 0);
    for (const auto& h : hits) REQUIRE(h == 1);
  }
}

TEST_CASE("a region inside a task runs serially, on the task's thread") {
  const int before = num_threads();
  set_num_threads(4);
  for (int64_t outer : {1, 8}) {
    std::atomic<int> elsewhere{0};
    std::atomic<int> inner{0};
    parallel_for(outer, [&](int64_t) {
      const auto me = std::this_thread::get_id();
      int64_t expected = 0;
      parallel_for(5, [&](int64_t i) {
        if (std::this_thread::get_id() != me || i != expected++) ++elsewhere;
        ++inner;
      });
    });
    CHECK(elsewhere == 0);
    CHECK(inner == 5 * outer);
  }
  set_num_threads(before);
}

TEST_CASE("the exception of the lowest failing task reaches the caller, and the pool works on") {
  const int before = num_threads();
  for (int threads : {1, 2, 7}) {
    set_num_threads(threads);
    for (int repeat = 0; repeat < 20; ++repeat) {
      std::string message;
      try {
        parallel_for(100, [](int64_t i) {
          if (i >= 30) throw std::runtime_error("task " + std::to_string(i));
        });
      } catch (const std::runtime_error& e) {
        message = e.what();
      }
      REQUIRE(message == "task 30");
      std::atomic<int> count{0};
      parallel_for(10, [&](int64_t) { ++count; });
      REQUIRE(count == 10);
    }
  }
  set_num_threads(before);
  CHECK_THROWS_AS(set_num_threads(0), Error);
}

TEST_CASE("threads of the user may open regions at the same time") {
  std::atomic<int> count{0};
  std::vector<std::thread> users;
  for (int t = 0; t < 4; ++t)
    users.emplace_back([&] {
      for (int i = 0; i < 200; ++i) parallel_for(7, [&](int64_t) { ++count; });
    });
  for (std::thread& user : users) user.join();
  CHECK(count == 4 * 200 * 7);
}

// --- tables and names ---

TEST_CASE("the tables: the reference last, the chosen one among them, every entry filled that must be") {
  const TableList& list = all_cpu_tables();
  REQUIRE(list.count >= 2);
  CHECK(std::string(list.tables[size_t(list.count) - 1]->name) == "reference");
  bool found = false;
  for (const KernelTable<float>* table : list) {
    found = found || table == &cpu();
    // All members behind the name are pointers of one size.
    const auto* bytes = reinterpret_cast<const unsigned char*>(table);
    const std::set<const void*> may_be_null{&table->add_activation,
                                            &table->add_activation_backward,
                                            &table->add_activation_pool,
                                            &table->add_activation_pool_backward,
                                            &table->gemm_add,
                                            &table->multiplies_bf16,
                                            &table->conv2d_forward_norm,
                                            &table->conv2d_packed_size,
                                            &table->conv2d_pack,
                                            &table->conv2d_forward_packed,
                                            &table->conv2d_backward_input_add,
                                            &table->avg_pool2d_backward_add,
                                            &table->batch_norm_stats_update,
                                            &table->batch_norm_forward_once,
                                            &table->batch_norm_backward_once,
                                            &table->has_batch_norm_avg_pool,
                                            &table->batch_norm_avg_pool_forward,
                                            &table->batch_norm_avg_pool_backward_reduce,
                                            &table->batch_norm_pair_forward,
                                            &table->batch_norm_pair_backward,
                                            &table->has_batch_norm_max_pool,
                                            &table->batch_norm_max_pool_forward,
                                            &table->batch_norm_max_pool_backward};
    for (size_t at = sizeof(const char*); at < sizeof *table; at += sizeof(void*)) {
      if (may_be_null.count(bytes + at)) continue;
      void* entry = nullptr;
      std::memcpy(&entry, bytes + at, sizeof entry);
      CHECK(entry != nullptr);
    }
  }
  CHECK(found);
}

TEST_CASE("activation names lead back to the activation") {
  CHECK(Activation::identity == Activation(0));
  for (Activation act : all_activations()) CHECK(find_activation(activation_name(act)) == act);
  CHECK(!find_activation("no such activation"));
  CHECK(activation_default_param(Activation::leaky_relu) == doctest::Approx(0.01));
}

TEST_CASE("peaks are measured") {
  CHECK(measure_fma_peak(1) > 0.1);
  CHECK(measure_copy_bandwidth(1) > 0.01);
}

// --- elementwise ---

namespace {
const std::vector<int64_t> kLengths = {0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 100, 16384, 40003};
}

TEST_CASE("unary operations and their slopes") {
  for (int op = 0; op < kUnaryCount; ++op) {
    const Unary u = Unary(op);
    const bool positive = u == Unary::log || u == Unary::sqrt;
    for (int64_t n : kLengths) {
      CAPTURE(op);
      CAPTURE(n);
      const Floats x = random_floats(n, positive ? 0.01f : -3.0f, 3), dy = random_floats(n);
      Doubles y(x.size()), dx(x.size());
      reference<double>().unary(u, n, widen(x).data(), y.data());
      reference<double>().unary_backward(u, n, widen(x).data(), widen(dy).data(), dx.data());
      each_table(
          {n, n, n, n},
          [&](const auto& table, auto& out) {
            table.unary(u, n, x.data(), out[0].data());
            table.unary_backward(u, n, x.data(), dy.data(), out[1].data());
            std::copy(x.begin(), x.end(), out[2].data());
            table.unary(u, n, out[2].data(), out[2].data());  // in place
            std::copy(dy.begin(), dy.end(), out[3].data());
            table.unary_backward(u, n, x.data(), out[3].data(), out[3].data());
          },
          [&](const auto& out) {
            CHECK(excess(out[0], y, 1e-7, 3 * kEps) <= 0);
            CHECK(excess(out[1], dx, 1e-7, 4 * kEps) <= 0);
            CHECK(excess(out[2], y, 1e-7, 3 * kEps) <= 0);
            CHECK(excess(out[3], dx, 1e-7, 4 * kEps) <= 0);
          });
    }
  }
}

/// Every `step`th of all floats, in the order of their bits.
static Floats floats_by(int64_t step) {
  Floats x;
  for (int64_t word = 0; word < int64_t{1} << 32; word += step) {
    const uint32_t bits = uint32_t(word);
    float value;
    std::memcpy(&value, &bits, sizeof value);
    x.push_back(value);
  }
  return x;
}

TEST_CASE("exp and log over their whole range: within 2 units in the last place, edges as std::") {
  Floats x = floats_by(104729);
  for (float edge :
       {0.0f, -0.0f, kInf, -kInf, kNaN, 88.72283f, 88.7229f, -87.4f, -103.9f, -104.1f, 1e-45f, 1.17e-38f})
    x.push_back(edge);
  const int64_t n = int64_t(x.size());
  for (Unary op : {Unary::exp, Unary::log}) {
    Doubles y(x.size());
    reference<double>().unary(op, n, widen(x).data(), y.data());
    each_table(
        {n}, [&](const auto& table, auto& out) { table.unary(op, n, x.data(), out[0].data()); },
        [&](const auto& out) { CHECK(excess(out[0], y, 1.5e-45, 2 * kEps) <= 0); });
  }
}

TEST_CASE("affine") {
  for (int64_t n : kLengths) {
    const Floats x = random_floats(n);
    Floats y(x.size());
    reference<float>().affine(n, 1.5f, -0.25f, x.data(), y.data());
    each_table(
        {n}, [&](const auto& table, auto& out) { table.affine(n, 1.5f, -0.25f, x.data(), out[0].data()); },
        [&](const auto& out) { CHECK(excess(out[0], y, kEps, kEps) <= 0); });
  }
}

TEST_CASE("activations: value and slope within a few units in the last place of 1 over the whole line") {
  Floats x;
  for (double v = -120; v <= 120; v += 0.0078125) x.push_back(float(v));
  for (double v = 1e-40; v < 3e38; v *= 1.7) {
    x.push_back(float(v));
    x.push_back(float(-v));
  }
  const int64_t n = int64_t(x.size());
  const Floats ones(x.size(), 1.0f);
  for (Activation act : all_activations()) {
    CAPTURE(activation_name(act));
    const double param = activation_default_param(act);
    Doubles y(x.size()), dx(x.size());
    reference<double>().activation(act, double(float(param)), n, widen(x).data(), y.data());
    reference<double>().activation_backward(act, double(float(param)), n, widen(x).data(), widen(ones).data(),
                                            dx.data());
    each_table(
        {n, n},
        [&](const auto& table, auto& out) {
          table.activation(act, float(param), n, x.data(), out[0].data());
          table.activation_backward(act, float(param), n, x.data(), ones.data(), out[1].data());
        },
        [&](const auto& out) {
          CHECK(excess(out[0], y, 5e-7, 5e-7) <= 0);
          CHECK(excess(out[1], dx, 1e-6, 5e-7) <= 0);
        });
  }
}

TEST_CASE("sine and cosine, through sine_relu: small arguments, large ones, and where they are handed over") {
  Floats x;
  for (double v = 1e-30; v < 3e38; v *= 1.0037) x.push_back(float(-v));
  for (double v = -8200; v < -8180; v += 0.0009765625) x.push_back(float(v));
  for (int k = 1; k < 6000; ++k) x.push_back(float(-k * 0.78539816339744831));  // their zeros among them
  const int64_t n = int64_t(x.size());
  const Floats ones(x.size(), 1.0f);
  Doubles y(x.size()), dx(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    y[i] = std::sin(double(x[i])) - std::cos(double(x[i]));
    dx[i] = std::cos(double(x[i])) + std::sin(double(x[i]));
  }
  each_table(
      {n, n},
      [&](const auto& table, auto& out) {
        table.activation(Activation::sine_relu, 1, n, x.data(), out[0].data());
        table.activation_backward(Activation::sine_relu, 1, n, x.data(), ones.data(), out[1].data());
      },
      [&](const auto& out) {
        CHECK(excess(out[0], y, 4e-7, 0) <= 0);
        CHECK(excess(out[1], dx, 4e-7, 0) <= 0);
      });
}

TEST_CASE("activations near 0 keep their digits") {
  Floats x;
  for (double v = 1e-30; v < 0.3; v *= 1.3) {
    x.push_back(float(v));
    x.push_back(float(-v));
  }
  const int64_t n = int64_t(x.size());
  for (Activation act : all_activations()) {
    CAPTURE(activation_name(act));
    const float param = float(activation_default_param(act));
    Doubles y(x.size());
    reference<double>().activation(act, double(param), n, widen(x).data(), y.data());
    each_table(
        {n}, [&](const auto& table, auto& out) { table.activation(act, param, n, x.data(), out[0].data()); },
        [&](const auto& out) { CHECK(excess(out[0], y, 1e-37, 1e-6) <= 0); });
  }
}

TEST_CASE("activations at infinity and NaN are as the reference's") {
  const Floats x = {kInf, -kInf, kNaN, 3.4e38f, -3.4e38f, 0.0f, -0.0f};
  const int64_t n = int64_t(x.size());
  const Floats ones(x.size(), 1.0f);
  for (Activation act : all_activations()) {
    CAPTURE(activation_name(act));
    const float param = float(activation_default_param(act));
    Floats y(x.size()), dx(x.size());
    reference<float>().activation(act, param, n, x.data(), y.data());
    reference<float>().activation_backward(act, param, n, x.data(), ones.data(), dx.data());
    CHECK(std::isnan(y[2]));
    each_table(
        {n, n},
        [&](const auto& table, auto& out) {
          table.activation(act, param, n, x.data(), out[0].data());
          table.activation_backward(act, param, n, x.data(), ones.data(), out[1].data());
        },
        [&](const auto& out) {
          CHECK(excess(out[0], y, 1e-30, 1e-6) <= 0);
          CHECK(excess(out[1], dx, 1e-6, 1e-6) <= 0);
        });
  }
}

TEST_CASE("activations at every length, and in place") {
  for (Activation act : all_activations())
    for (int64_t n : {1, 5, 17, 16390}) {
      const float param = float(activation_default_param(act));
      const Floats x = random_floats(n, -4, 4), dy = random_floats(n);
      Floats y(x.size()), dx(x.size());
      reference<float>().activation(act, param, n, x.data(), y.data());
      reference<float>().activation_backward(act, param, n, x.data(), dy.data(), dx.data());
      each_table(
          {n, n},
          [&](const auto& table, auto& out) {
            std::copy(x.begin(), x.end(), out[0].data());
            table.activation(act, param, n, out[0].data(), out[0].data());
            std::copy(dy.begin(), dy.end(), out[1].data());
            table.activation_backward(act, param, n, x.data(), out[1].data(), out[1].data());
          },
          [&](const auto& out) {
            CHECK(excess(out[0], y, 1e-6, 1e-6) <= 0);
            CHECK(excess(out[1], dx, 1e-6, 1e-6) <= 0);
          });
    }
}

TEST_CASE("dropout keeps exactly what dropout_keep keeps") {
  for (int64_t n : {1, 3, 63, 64, 65, 50001})
    for (double p : {0.0, 0.1, 0.5, 0.9, 0.999999}) {
      const uint64_t key = 0x123456789abcdefu + uint64_t(n);
      const Floats x = random_floats(n, 1, 2);
      each_table(
          {n}, [&](const auto& table, auto& out) { table.dropout(n, p, &key, x.data(), out[0].data()); },
          [&](const auto& out) {
            int64_t wrong = 0;
            for (int64_t i = 0; i < n; ++i) {
              const float want = dropout_keep(key, i, p) ? float(double(x[size_t(i)]) / (1 - p)) : 0.0f;
              if (std::abs(out[0][i] - want) > 2 * kEps * want) ++wrong;
            }
            CHECK(wrong == 0);
          });
    }
}

namespace {

/// Row-major strides of an operand with the dimensions of `mask` broadcast; its number of elements in
/// `elements`.
std::array<int64_t, kMaxDims> strides_of(const Broadcast& shape, unsigned mask, int64_t& elements) {
  std::array<int64_t, kMaxDims> strides{};
  elements = 1;
  for (int d = shape.ndim - 1; d >= 0; --d) {
    const bool broadcast = mask >> d & 1;
    strides[size_t(d)] = broadcast ? 0 : elements;
    if (!broadcast) elements *= shape.size[size_t(d)];
  }
  return strides;
}

void check_binary(Broadcast shape, unsigned a_mask, unsigned b_mask) {
  int64_t a_n, b_n, n = 1;
  shape.a_stride = strides_of(shape, a_mask, a_n);
  shape.b_stride = strides_of(shape, b_mask, b_n);
  for (int d = 0; d < shape.ndim; ++d) n *= shape.size[size_t(d)];
  const Floats a = random_floats(a_n, 0.5f, 2), b = random_floats(b_n, 0.5f, 2);
  CAPTURE(n);
  CAPTURE(a_mask);
  CAPTURE(b_mask);
  for (int op = 0; op < kBinaryCount; ++op) {
    CAPTURE(op);
    Floats y(static_cast<size_t>(n));
    reference<float>().binary(Binary(op), shape, a.data(), b.data(), y.data());
    each_table(
        {n, n},
        [&](const auto& table, auto& out) {
          table.binary(Binary(op), shape, a.data(), b.data(), out[0].data());
          std::copy(out[0].data(), out[0].data() + n, out[1].data());
          if (a_n == n) {  // in place
            std::copy(a.begin(), a.end(), out[1].data());
            table.binary(Binary(op), shape, out[1].data(), b.data(), out[1].data());
          }
        },
        [&](const auto& out) {
          CHECK(excess(out[0], y, 0, kEps) <= 0);
          CHECK(excess(out[1], y, 0, kEps) <= 0);
        });
  }
}

}  // namespace

TEST_CASE("binary operations over broadcast shapes") {
  check_binary({0, {}, {}, {}}, 0, 0);
  for (int64_t n : {1, 17, 40003})
    for (unsigned mask : {0u, 1u}) check_binary({1, {n}, {}, {}}, 0, mask);
  for (unsigned a = 0; a < 4; ++a)
    for (unsigned b = 0; b < 4; ++b) check_binary({2, {7, 37}, {}, {}}, a, b);
  check_binary({2, {3000, 64}, {}, {}}, 0, 1);
  check_binary({2, {64, 3000}, {}, {}}, 0, 2);
  check_binary({2, {0, 5}, {}, {}}, 0, 1);
  for (int i = 0; i < 30; ++i) {
    Broadcast shape;
    shape.ndim = int(pick(3, 5));
    for (int d = 0; d < shape.ndim; ++d) shape.size[size_t(d)] = pick(1, 6) == 1 ? 1 : pick(2, 9);
    check_binary(shape, unsigned(pick(0, 31)), unsigned(pick(0, 31)));
  }
}

TEST_CASE("equal is 1 or 0, and 0 beside a NaN") {
  const Floats a = {1, 2, kNaN, kInf, 0.0f}, b = {1, 3, kNaN, kInf, -0.0f}, y = {1, 0, 0, 1, 1};
  const Broadcast shape{1, {5}, {1}, {1}};
  each_table(
      {5},
      [&](const auto& table, auto& out) {
        table.binary(Binary::equal, shape, a.data(), b.data(), out[0].data());
      },
      [&](const auto& out) {
        for (int64_t i = 0; i < 5; ++i) CHECK(out[0][i] == y[size_t(i)]);
      });
}

namespace {

/// Numbers of which some are equal, and some no numbers.
Floats few_values(int64_t n) {
  Floats v(static_cast<size_t>(n));
  for (float& x : v) {
    const int64_t kind = pick(0, 9);
    x = kind == 9 ? kNaN : kind == 8 ? kInf : kind == 7 ? -0.0f : float(kind) - 3;
  }
  return v;
}

/// compare and select with operands whose dimensions of the masks are broadcast, on every table.
void check_choice(Broadcast shape, unsigned a_mask, unsigned b_mask, unsigned c_mask) {
  int64_t n = 1, a_size = 0, b_size = 0, c_size = 0;
  for (int d = 0; d < shape.ndim; ++d) n *= shape.size[size_t(d)];
  shape.a_stride = strides_of(shape, a_mask, a_size);
  shape.b_stride = strides_of(shape, b_mask, b_size);
  shape.c_stride = strides_of(shape, c_mask, c_size);
  CAPTURE(a_mask);
  CAPTURE(b_mask);
  CAPTURE(c_mask);
  CAPTURE(n);
  const Floats a = few_values(a_size), b = few_values(b_size);
  std::vector<uint8_t> c(static_cast<size_t>(c_size));
  for (uint8_t& v : c) v = pick(0, 1) ? uint8_t(pick(1, 255)) : 0;
  Floats chosen(static_cast<size_t>(n));
  reference<float>().select(shape, c.data(), a.data(), b.data(), chosen.data());
  each_table(
      {n},
      [&](const auto& table, auto& out) { table.select(shape, c.data(), a.data(), b.data(), out[0].data()); },
      [&](const auto& out) { CHECK(excess(out[0], chosen, 0, 0) <= 0); });
  for (int op = 0; op < kCompareCount; ++op) {
    CAPTURE(op);
    std::vector<uint8_t> holds(static_cast<size_t>(n));
    reference<float>().compare(Compare(op), shape, a.data(), b.data(), holds.data());
    for (const KernelTable<float>* table : all_cpu_tables()) {
      CAPTURE(std::string(table->name));
      Guarded<uint8_t> out(n, 99);
      table->compare(Compare(op), shape, a.data(), b.data(), out.data());
      CHECK(out.ok());
      CHECK(std::equal(holds.begin(), holds.end(), out.data()));
    }
  }
}

}  // namespace

TEST_CASE("comparisons and select over broadcast shapes") {
  check_choice({0, {}, {}, {}}, 0, 0, 0);
  for (int64_t n : kLengths)
    for (unsigned mask = 0; mask < 8; ++mask)
      if (n < 1000 || mask % 3 == 0) check_choice({1, {n}, {}, {}}, mask & 1, mask >> 1 & 1, mask >> 2);
  for (unsigned mask = 0; mask < 64; ++mask)
    check_choice({2, {7, 37}, {}, {}}, mask & 3, mask >> 2 & 3, mask >> 4);
  for (int i = 0; i < 20; ++i) {
    Broadcast shape;
    shape.ndim = int(pick(3, 5));
    for (int d = 0; d < shape.ndim; ++d) shape.size[size_t(d)] = pick(1, 6) == 1 ? 1 : pick(2, 9);
    check_choice(shape, unsigned(pick(0, 31)), unsigned(pick(0, 31)), unsigned(pick(0, 31)));
  }
}

TEST_CASE("gradients of maximum and minimum: shared among equals, all to both of a NaN") {
  for (Binary op : {Binary::maximum, Binary::minimum})
    for (int64_t n : kLengths) {
      CAPTURE(n);
      const Floats a = few_values(n), b = few_values(n), dy = few_values(n);
      Floats y(a.size()), da(a.size()), db(a.size());
      reference<float>().binary(op, {1, {n}, {1}, {1}}, a.data(), b.data(), y.data());
      reference<float>().choose_backward(n, a.data(), b.data(), y.data(), dy.data(), da.data(), db.data());
      each_table(
          {n, n},
          [&](const auto& table, auto& out) {
            table.choose_backward(n, a.data(), b.data(), y.data(), dy.data(), out[0].data(), out[1].data());
          },
          [&](const auto& out) {
            CHECK(excess(out[0], da, 0, 0) <= 0);
            CHECK(excess(out[1], db, 0, 0) <= 0);
          });
    }
}

TEST_CASE("comparisons and select of rows that are not dense") {
  const Floats a = few_values(60), b = few_values(60);
  const std::vector<uint8_t> c(60, 1);
  const Broadcast shape{2, {3, 9}, {20, 2}, {19, 1}, {20, 2}};
  Floats chosen(27);
  reference<float>().select(shape, c.data(), a.data(), b.data(), chosen.data());
  each_table(
      {27},
      [&](const auto& table, auto& out) { table.select(shape, c.data(), a.data(), b.data(), out[0].data()); },
      [&](const auto& out) { CHECK(excess(out[0], chosen, 0, 0) <= 0); });
  std::vector<uint8_t> holds(27), got(27);
  reference<float>().compare(Compare::lt, shape, a.data(), b.data(), holds.data());
  for (const KernelTable<float>* table : all_cpu_tables()) {
    table->compare(Compare::lt, shape, a.data(), b.data(), got.data());
    CHECK(got == holds);
  }
}

TEST_CASE("powers over the whole range: within 2 units in the last place, edges as the reference's") {
  Floats x = floats_by(1299709);
  for (float v = 0.9f; v < 1.1f; v += 0.001f) x.push_back(v), x.push_back(-v);
  for (float edge : {0.0f, -0.0f, 1.0f, -1.0f, kInf, -kInf, kNaN, 1e-45f, -1e-45f}) x.push_back(edge);
  for (float p : {0.0f, 1.0f,  2.0f,   3.0f,  0.5f, -0.5f, -1.0f,       -2.0f, -3.0f, 4.0f,  7.0f, -10.0f,
                  1.5f, -1.7f, 0.001f, 30.3f, 1e4f, -1e5f, 16777215.0f, 1e30f, kInf,  -kInf, kNaN}) {
    CAPTURE(p);
    const auto n = int64_t(x.size());
    Doubles y(x.size());
    reference<double>().pow(double(p), n, widen(x).data(), y.data());
    each_table(
        {n, n},
        [&](const auto& table, auto& out) {
          table.pow(p, n, x.data(), out[0].data());
          std::copy(x.begin(), x.end(), out[1].data());
          table.pow(p, n, out[1].data(), out[1].data());  // in place
        },
        [&](const auto& out) {
          CHECK(excess(out[0], y, 1.5e-45, 2 * kEps) <= 0);
          CHECK(excess(out[1], y, 1.5e-45, 2 * kEps) <= 0);
        });
  }
  for (int64_t n : kLengths) {
    const Floats short_x = random_floats(n, -3, 3);
    Doubles y(short_x.size());
    reference<double>().pow(5, n, widen(short_x).data(), y.data());
    each_table(
        {n}, [&](const auto& table, auto& out) { table.pow(5, n, short_x.data(), out[0].data()); },
        [&](const auto& out) { CHECK(excess(out[0], y, 1.5e-45, 2 * kEps) <= 0); });
  }
}

TEST_CASE("maximum and minimum hand a NaN of either side on") {
  const Floats a = {kNaN, 1, kNaN, 2}, b = {1, kNaN, kNaN, 3};
  const Broadcast shape{1, {4}, {1}, {1}};
  for (Binary op : {Binary::maximum, Binary::minimum})
    each_table(
        {4},
        [&](const auto& table, auto& out) { table.binary(op, shape, a.data(), b.data(), out[0].data()); },
        [&](const auto& out) {
          for (int64_t i = 0; i < 3; ++i) CHECK(std::isnan(out[0][i]));
          CHECK(out[0][3] == (op == Binary::maximum ? 3 : 2));
        });
}

// --- reductions and softmax ---

TEST_CASE("reductions") {
  const int64_t shapes[][3] = {{1, 1, 1},     {1, 100003, 1}, {5, 33, 1},   {3, 7, 5},
                               {1, 3000, 64}, {2, 50, 70},    {1, 700, 3},  {40, 1, 17},
                               {2, 0, 3},     {1, 5000, 130}, {300, 10, 1}, {4, 9000, 16},
                               {0, 5, 5},     {1, 17, 1000},  {1, 200, 2},  {2, 70000, 1}};
  for (const auto& s : shapes) {
    const Floats x = random_floats(s[0] * s[1] * s[2]);
    const int64_t n = s[0] * s[2];
    for (Reduce op : {Reduce::sum, Reduce::max, Reduce::min}) {
      CAPTURE(s[0]);
      CAPTURE(s[1]);
      CAPTURE(s[2]);
      Doubles y(static_cast<size_t>(n));
      reference<double>().reduce(op, s[0], s[1], s[2], widen(x).data(), y.data());
      const double tolerance = op == Reduce::sum ? kEps * (4 + 6 * std::sqrt(double(s[1]))) : 0;
      each_table(
          {n},
          [&](const auto& table, auto& out) { table.reduce(op, s[0], s[1], s[2], x.data(), out[0].data()); },
          [&](const auto& out) { CHECK(excess(out[0], y, tolerance, kEps) <= 0); });
    }
  }
}

TEST_CASE("a NaN makes every reduction NaN") {
  for (int64_t at : {0, 5, 37}) {
    Floats x = random_floats(38);
    x[size_t(at)] = kNaN;
    for (Reduce op : {Reduce::sum, Reduce::max, Reduce::min})
      each_table(
          {1, 2},
          [&](const auto& table, auto& out) {
            table.reduce(op, 1, 38, 1, x.data(), out[0].data());
            table.reduce(op, 1, 19, 2, x.data(), out[1].data());
          },
          [&](const auto& out) {
            CHECK(std::isnan(out[0][0]));
            CHECK(std::isnan(out[1][at % 2]));
            CHECK(!std::isnan(out[1][1 - at % 2]));
          });
  }
}

TEST_CASE("argmax takes the first maximum, and the first NaN before it") {
  const Floats x{1, kNaN, 3, 2, /**/ kNaN, 1, 3, 2, /**/ 1, 3, kNaN, kNaN, /**/ 2, 3, 3, 1, /**/ 0, 0, 0, 0};
  for (const KernelTable<float>* table : kernels::all_cpu_tables()) {
    CAPTURE(std::string(table->name));
    std::vector<int64_t> y(5);
    table->argmax(5, 4, x.data(), y.data());
    CHECK(y == std::vector<int64_t>{1, 0, 2, 1, 0});
  }
}

TEST_CASE("softmax and log-softmax, forward and backward") {
  const int64_t shapes[][2] = {{1, 1},    {3, 10},    {64, 10}, {5, 16},   {7, 33},
                               {2, 1000}, {200, 130}, {0, 5},   {1, 20000}};
  for (const auto& s : shapes)
    for (float scale : {1.0f, 60.0f}) {
      const int64_t n = s[0] * s[1];
      CAPTURE(s[0]);
      CAPTURE(s[1]);
      const Floats x = random_floats(n, -scale, scale), dy = random_floats(n);
      Doubles y(x.size()), log_y(x.size()), dx(x.size()), log_dx(x.size());
      const auto& ref = reference<double>();
      ref.softmax(s[0], s[1], widen(x).data(), y.data());
      ref.log_softmax(s[0], s[1], widen(x).data(), log_y.data());
      const Floats y_f(y.begin(), y.end()), log_f(log_y.begin(), log_y.end());
      ref.softmax_backward(s[0], s[1], widen(y_f).data(), widen(dy).data(), dx.data());
      ref.log_softmax_backward(s[0], s[1], widen(log_f).data(), widen(dy).data(), log_dx.data());
      each_table(
          {n, n, n, n},
          [&](const auto& table, auto& out) {
            std::copy(x.begin(), x.end(), out[0].data());
            table.softmax(s[0], s[1], out[0].data(), out[0].data());
            table.log_softmax(s[0], s[1], x.data(), out[1].data());
            table.softmax_backward(s[0], s[1], y_f.data(), dy.data(), out[2].data());
            std::copy(dy.begin(), dy.end(), out[3].data());
            table.log_softmax_backward(s[0], s[1], log_f.data(), out[3].data(), out[3].data());
          },
          [&](const auto& out) {
            CHECK(excess(out[0], y, 1e-38, scale > 1 ? 2e-5 : 2e-6) <= 0);  // x - maximum is rounded
            CHECK(excess(out[1], log_y, 1e-6, 1e-6) <= 0);
            CHECK(excess(out[2], dx, 1e-6, 1e-6) <= 0);
            CHECK(excess(out[3], log_dx, 1e-6 + 1e-7 * double(s[1]), 2e-6) <= 0);
          });
    }
}

TEST_CASE("softmax of minus infinity is 0, of a row with a NaN is NaN") {
  const Floats x = {-kInf, 0, 0, kNaN, 1, 2};
  each_table(
      {6}, [&](const auto& table, auto& out) { table.softmax(2, 3, x.data(), out[0].data()); },
      [&](const auto& out) {
        CHECK(out[0][0] == 0);
        CHECK(out[0][1] == doctest::Approx(0.5));
        for (int64_t i = 3; i < 6; ++i) CHECK(std::isnan(out[0][i]));
      });
}

// --- matrix multiply ---

namespace {

/// Operands of products that may round them to bf16 have its digits already, so that the result is the same.
Floats random_operand(int64_t n, bool bf16_digits) {
  Floats v = random_floats(n);
  if (bf16_digits)
    for (float& x : v) x = float(bf16(x));
  return v;
}

void check_gemm(const GemmParams& p) {
  const int64_t a_n = p.lda * (p.transpose_a ? p.k : p.m), b_n = p.ldb * (p.transpose_b ? p.n : p.k);
  const Floats a = random_operand(p.stride_a * (p.batch - 1) + a_n, p.bf16),
               b = random_operand(p.stride_b * (p.batch - 1) + b_n, p.bf16);
  const Floats c = random_floats(p.stride_c * (p.batch - 1) + p.ldc * p.m);
  Doubles expected = widen(c);
  reference<double>().gemm(p, widen(a).data(), widen(b).data(), expected.data());
  CAPTURE(p.m);
  CAPTURE(p.n);
  CAPTURE(p.k);
  CAPTURE(p.transpose_a);
  CAPTURE(p.transpose_b);
  each_table(
      {int64_t(c.size())},
      [&](const auto& table, auto& out) {
        std::copy(c.begin(), c.end(), out[0].data());
        if (!p.accumulate)  // what will be overwritten must not matter; the rest must stay
          for (int64_t i = 0; i < p.batch; ++i)
            for (int64_t row = 0; row < p.m; ++row)
              std::fill_n(out[0].data() + i * p.stride_c + row * p.ldc, p.n, kNaN);
        table.gemm(p, a.data(), b.data(), out[0].data());
      },
      [&](const auto& out) { CHECK(excess(out[0], expected, kEps * (4 + double(p.k)), kEps) <= 0); });
}

/// Of these sizes, with random transposes, padding of rows, accumulation and operands that serve for all.
GemmParams varied(int64_t m, int64_t n, int64_t k, int64_t batch) {
  GemmParams p;
  p.m = m, p.n = n, p.k = k, p.batch = batch;
  p.transpose_a = pick(0, 1) != 0;
  p.transpose_b = pick(0, 1) != 0;
  p.accumulate = pick(0, 1) != 0;
  p.lda = (p.transpose_a ? p.m : p.k) + pick(0, 3);
  p.ldb = (p.transpose_b ? p.k : p.n) + pick(0, 3);
  p.ldc = p.n + pick(0, 3);
  p.stride_a = pick(0, 2) == 0 ? 0 : p.lda * (p.transpose_a ? p.k : p.m);
  p.stride_b = pick(0, 2) == 0 ? 0 : p.ldb * (p.transpose_b ? p.n : p.k);
  p.stride_c = p.ldc * p.m;
  return p;
}

}  // namespace

TEST_CASE("gemm: random sizes, transposes, padded rows, accumulation, batches") {
  for (int i = 0; i < 120; ++i) {
    const int64_t most = i % 5 == 0 ? 150 : 40;
    const int64_t m = pick(1, most), n = pick(1, most);
    check_gemm(varied(m, n, pick(i % 10 == 0 ? 0 : 1, i % 7 == 0 ? 600 : most), i % 3 == 0 ? pick(2, 6) : 1));
  }
}

TEST_CASE("gemm: operands that may be rounded to bf16") {
  for (int i = 0; i < 40; ++i) {
    const int64_t m = pick(32, i % 4 == 0 ? 300 : 70), n = pick(32, i % 5 == 0 ? 300 : 70);
    GemmParams p = varied(m, n, pick(32, i % 6 == 0 ? 900 : 100), i % 3 == 0 ? pick(2, 4) : 1);
    p.bf16 = true;
    check_gemm(p);
  }
  for (const int64_t k : {64, 2000, 5001}) {  // deep enough to be cut into parts
    GemmParams p{.m = 40, .n = 50, .k = k, .bf16 = true, .lda = k, .ldb = 50, .ldc = 50};
    check_gemm(p);
    p.transpose_b = true, p.ldb = k;
    check_gemm(p);
  }
}

TEST_CASE("rounding to bf16 is to nearest, and only where it is allowed") {
  const int64_t n = 64;
  const GemmParams p{.m = n, .n = n, .k = n, .lda = n, .ldb = n, .ldc = n};
  Conv2dParams conv{.batch = 1, .in_h = 1, .in_w = n, .in_c = n, .out_c = n};
  const Floats a = random_floats(n * n), b = random_floats(n * n);
  const auto rounded = [](const Floats& v) {
    Doubles r;
    for (const float x : v) r.push_back(double(float(bf16(x))));
    return r;
  };
  Doubles exact(size_t(n * n)), expected(size_t(n * n));
  GemmParams q = p;
  q.transpose_b = true;  // as the convolution
  reference<double>().gemm(q, widen(a).data(), widen(b).data(), exact.data());
  reference<double>().gemm(q, rounded(a).data(), rounded(b).data(), expected.data());
  for (const KernelTable<float>* table : all_cpu_tables()) {
    const std::string name = table->name;
    CAPTURE(name);
    const bool rounds = table->multiplies_bf16 && table->multiplies_bf16();
    if (name == "avx512" && !rounds) MESSAGE("not run: this processor does not multiply bf16");
    for (const bool allowed : {false, true}) {
      Guarded<float> c(n * n, kNaN), y(n * n, kNaN);
      q.bf16 = conv.bf16 = allowed;
      table->gemm(q, a.data(), b.data(), c.data());
      Workspace workspace(table->conv2d_workspace(conv, ConvPass::forward));
      table->conv2d_forward(conv, a.data(), b.data(), nullptr, y.data(), workspace.get());
      for (const auto* out : {&c, &y}) {
        CHECK(excess(*out, allowed && rounds ? expected : exact, n * kEps, kEps) <= 0);
        CHECK(excess(*out, allowed && rounds ? exact : expected, n * kEps, kEps) > 0);
      }
    }
  }
}

TEST_CASE("gemm: what is known to be symmetric has the bits that it would have anyway") {
  for (int i = 0; i < 60; ++i) {
    // X X^T or X^T X, which is symmetric to the last bit, over a symmetric c where it accumulates.
    GemmParams p;
    p.m = p.n = i == 0 ? 1 : pick(1, i % 4 == 0 ? 300 : 140);
    p.k = pick(1, i % 6 == 0 ? 900 : 60);
    p.transpose_a = pick(0, 1) != 0;
    p.transpose_b = !p.transpose_a;
    p.accumulate = i % 3 == 0;
    p.bf16 = i % 2 == 1;
    p.lda = p.ldb = (p.transpose_a ? p.m : p.k) + pick(0, 3);
    p.ldc = p.n + pick(0, 3);
    p.batch = i % 5 == 0 ? 3 : 1;
    p.stride_a = p.stride_b = p.lda * (p.transpose_a ? p.k : p.m);
    p.stride_c = p.ldc * p.m;
    CAPTURE(p.m);
    CAPTURE(p.k);
    CAPTURE(p.batch);
    const Floats x = random_floats(p.stride_a * p.batch);
    Floats c = random_floats(p.stride_c * p.batch);
    for (int64_t j = 0; j < p.batch; ++j)
      for (int64_t row = 0; row < p.m; ++row)
        for (int64_t column = 0; column < row; ++column)
          c[size_t(j * p.stride_c + column * p.ldc + row)] = c[size_t(j * p.stride_c + row * p.ldc + column)];
    const int64_t n = int64_t(c.size());
    each_table(
        {n, n},
        [&](const auto& table, auto& out) {
          for (const bool symmetric : {false, true}) {
            std::copy(c.begin(), c.end(), out[symmetric].data());
            GemmParams q = p;
            q.symmetric = symmetric;
            table.gemm(q, x.data(), x.data(), out[symmetric].data());
          }
        },
        [&](const auto& out) { CHECK(std::memcmp(out[0].data(), out[1].data(), size_t(n) * 4) == 0); });
  }
}

TEST_CASE("gemm: larger than the cache blocks, and a vector on either side") {
  for (bool ta : {false, true})
    for (bool tb : {false, true}) {
      GemmParams p{.m = 130, .n = 150, .k = 900, .transpose_a = ta, .transpose_b = tb};
      p.lda = ta ? p.m : p.k;
      p.ldb = tb ? p.k : p.n;
      p.ldc = p.n;
      check_gemm(p);
      p.m = 1;
      p.lda = ta ? p.m : p.k;
      check_gemm(p);
      p.m = 77;
      p.n = 1;
      p.ldc = 1;
      p.lda = ta ? p.m : p.k;
      p.ldb = tb ? p.k : p.n;
      check_gemm(p);
    }
}

namespace {
struct Sides {
  int64_t m, n, k;
};
}  // namespace

TEST_CASE("gemm: thin and deep products, padded rows, accumulation, batches, one matrix for all") {
  // A vector on either side, a column by a row, tiny ones, and each with more than one task; a few rows by
  // many columns; a depth in parts.
  const Sides sides[] = {{1, 37, 53},   {41, 1, 67},   {1, 1, 150},    {1, 1, 1},      {1, 1100, 83},
                         {303, 1, 700}, {1203, 1, 61}, {13, 1, 30011}, {35, 43, 1},    {301, 517, 1},
                         {3, 3, 3},     {8, 8, 8},     {5, 16, 7},     {16, 13, 16},   {9, 33, 2},
                         {7013, 3, 5},  {901, 17, 3},  {1, 7, 3000},   {2, 1, 9},      {6, 5, 1030},
                         {20, 150, 90}, {2, 33, 17},   {37, 29, 5003}, {1, 700, 2100}, {700, 1, 2100},
                         {3, 1, 40000}};
  for (const Sides& s : sides)
    for (int i = 0; i < 8; ++i) {
      GemmParams p{.m = s.m, .n = s.n, .k = s.k, .transpose_a = (i & 1) != 0, .transpose_b = (i & 2) != 0};
      p.accumulate = pick(0, 1) != 0;
      const int64_t padding = i & 4 ? pick(1, 5) : 0;
      p.lda = (p.transpose_a ? p.m : p.k) + padding;
      p.ldb = (p.transpose_b ? p.k : p.n) + padding;
      p.ldc = p.n + (pick(0, 1) != 0 ? padding : 0);
      p.batch = s.m * s.n * s.k < 10000 && pick(0, 1) != 0 ? pick(2, 100) : 1;
      p.stride_a = pick(0, 2) == 0 ? 0 : p.lda * (p.transpose_a ? p.k : p.m);
      p.stride_b = pick(0, 2) == 0 ? 0 : p.ldb * (p.transpose_b ? p.n : p.k);
      p.stride_c = p.ldc * p.m;
      check_gemm(p);
    }
}

TEST_CASE("gemm: equal rows times a vector are equal, whatever rows are beside them") {
  for (int64_t rows = 2; rows < 10; ++rows)
    for (const int64_t k : {3, 17, 96, 399, 5000}) {
      CAPTURE(rows);
      CAPTURE(k);
      const Floats row = random_floats(k), x = random_floats(k);
      Floats equal;
      for (int64_t r = 0; r < rows; ++r) equal.insert(equal.end(), row.begin(), row.end());
      for (const bool vector_first : {false, true}) {
        GemmParams p{.m = rows, .n = 1, .k = k, .lda = k, .ldb = 1, .ldc = 1};
        if (vector_first)
          p = {.m = 1, .n = rows, .k = k, .transpose_b = true, .lda = k, .ldb = k, .ldc = rows};
        each_table(
            {rows},
            [&](const auto& table, auto& out) {
              const auto &a = vector_first ? x : equal, &b = vector_first ? equal : x;
              table.gemm(p, a.data(), b.data(), out[0].data());
            },
            [&](const auto& out) {
              for (int64_t r = 1; r < rows; ++r) CHECK(out[0][size_t(r)] == out[0][0]);
            });
      }
    }
}

TEST_CASE("gemm: infinity and NaN come through, 0 times infinity too") {
  for (const Sides& s :
       {Sides{1, 70, 33}, Sides{70, 1, 33}, Sides{40, 45, 1}, Sides{6, 5, 7}, Sides{40, 90, 50}})
    for (int i = 0; i < 4; ++i) {
      const int64_t m = s.m, n = s.n, k = s.k;
      GemmParams p{.m = m, .n = n, .k = k, .transpose_a = (i & 1) != 0, .transpose_b = (i & 2) != 0};
      p.lda = p.transpose_a ? m : k, p.ldb = p.transpose_b ? k : n, p.ldc = n;
      Floats a(size_t(m * k)), b(size_t(k * n));
      for (Floats* x : {&a, &b}) {
        for (float& v : *x) v = float(pick(-3, 3));  // whose sums are exact in any order
        for (float special : {kInf, -kInf, kNaN}) (*x)[size_t(pick(0, int64_t(x->size()) - 1))] = special;
      }
      Floats expected(size_t(m * n));
      reference<float>().gemm(p, a.data(), b.data(), expected.data());
      each_table(
          {m * n}, [&](const auto& table, auto& out) { table.gemm(p, a.data(), b.data(), out[0].data()); },
          [&](const auto& out) {
            for (int64_t at = 0; at < m * n; ++at) {
              const float y = out[0].data()[at], z = expected[size_t(at)];
              REQUIRE((y == z || (y != y && z != z)));
            }
          });
    }
}

TEST_CASE("gemm: rows whole pages apart, a whole tile and part of one") {
  for (bool ta : {false, true})
    for (bool tb : {false, true}) {
      GemmParams p{.m = 100, .n = 136, .k = 70, .transpose_a = ta, .transpose_b = tb, .accumulate = ta != tb};
      p.lda = 2048;
      p.ldb = p.ldc = 1024;
      check_gemm(p);
    }
}

// --- convolution ---

namespace {

/// Computes with one algorithm while it lives.
struct Forced {
  explicit Forced(ConvAlgorithm algorithm) { set_conv_algorithm(algorithm); }
  ~Forced() { set_conv_algorithm(ConvAlgorithm::automatic); }
};

int packed_runs = 0;  // of check_conv(), with packed weights

void check_conv(const Conv2dParams& p, ConvAlgorithm algorithm = ConvAlgorithm::direct) {
  const Forced forced(algorithm);
  const int64_t in_c = p.in_c / p.groups;
  const int64_t nx = p.batch * p.in_h * p.in_w * p.in_c, ny = p.batch * p.out_h() * p.out_w() * p.out_c,
                nw = p.out_c * p.kernel_h * p.kernel_w * in_c;
  const Floats x = random_operand(nx, p.bf16), w = random_operand(nw, p.bf16), bias = random_floats(p.out_c),
               dy = random_operand(ny, p.bf16);
  const Guarded<float> gx(x), gw(w), gdy(dy);
  const bool with_bias = pick(0, 1) != 0;
  const auto& ref = reference<double>();
  const int64_t nc = p.out_c;
  Doubles mean(static_cast<size_t>(nc)), var(static_cast<size_t>(nc));
  Doubles y(static_cast<size_t>(ny)), dx(static_cast<size_t>(nx)), dw(static_cast<size_t>(nw));
  ref.conv2d_forward(p, widen(x).data(), widen(w).data(), with_bias ? widen(bias).data() : nullptr, y.data(),
                     nullptr);
  ref.batch_norm_stats(ny / nc, nc, y.data(), mean.data(), var.data());
  ref.conv2d_backward_input(p, widen(dy).data(), widen(w).data(), dx.data(), nullptr);
  ref.conv2d_backward_weight(p, widen(x).data(), widen(dy).data(), dw.data(), nullptr);
  const std::string text =
      std::to_string(p.batch) + "x" + std::to_string(p.in_h) + "x" + std::to_string(p.in_w) + "x" +
      std::to_string(p.in_c) + " -> " + std::to_string(p.out_c) + " kernel " + std::to_string(p.kernel_h) +
      "x" + std::to_string(p.kernel_w) + " stride " + std::to_string(p.stride_h) + "," +
      std::to_string(p.stride_w) + " pad " + std::to_string(p.pad_h) + "," + std::to_string(p.pad_w) +
      " dilation " + std::to_string(p.dilation_h) + "," + std::to_string(p.dilation_w) + " groups " +
      std::to_string(p.groups) + ", " + conv_algorithm_name(algorithm);
  CAPTURE(text);
  BatchNormArgs<float> norm;  // what may follow: in place of y, to the same bits as after it
  const Floats vectors = random_floats(5 * nc), residual = random_floats(ny);
  norm.rows = ny / nc, norm.channels = nc;
  norm.mean = vectors.data(), norm.invstd = norm.mean + nc, norm.weight = norm.invstd + nc;
  norm.bias = norm.weight + nc, norm.parameters[0] = norm.bias + nc;
  norm.activation = std::array{Activation::identity, Activation::mish, Activation::relu,
                               Activation::prelu}[size_t(pick(0, 3))];
  if (pick(0, 1) != 0) norm.residual = residual.data();
  const auto check_norm = [&](const auto& table, const float* before, const auto& run) {
    BatchNormArgs<float> a = norm;
    a.x = before;
    Floats apart(static_cast<size_t>(ny));
    Guarded<float> together(ny, 0.0f);
    table.batch_norm_forward(a, apart.data());
    run(together.data());
    REQUIRE(std::memcmp(apart.data(), together.data(), size_t(ny) * sizeof(float)) == 0);
    REQUIRE(together.ok());
  };
  // A sum of n such products wanders about sqrt(n) / 3 far, and rounds n times at that size. Winograd's
  // transforms amplify: its largest error over many sizes and seeds is 70 eps of that (docs/numerics.md).
  const double amplified = algorithm == ConvAlgorithm::direct ? 0 : 30;
  const auto tolerance = [=](int64_t n) { return kEps * (4 + double(n) + amplified * std::sqrt(double(n))); };
  const int64_t taps = p.kernel_h * p.kernel_w;
  each_table(
      {ny, nx, nw, ny, nc, nc, ny},
      [&](const auto& table, auto& out) {
        Workspace fwd(table.conv2d_workspace(p, ConvPass::forward)),
            bwd(table.conv2d_workspace(p, ConvPass::backward_input)),
            weight(table.conv2d_workspace(p, ConvPass::backward_weight));
        table.conv2d_forward(p, gx.data(), gw.data(), with_bias ? bias.data() : nullptr, out[0].data(),
                             fwd.get());
        REQUIRE(table.conv2d_forward_stats(p, gx.data(), gw.data(), with_bias ? bias.data() : nullptr,
                                           out[3].data(), out[4].data(), out[5].data(), fwd.get()));
        REQUIRE(std::memcmp(out[0].data(), out[3].data(), size_t(ny) * sizeof(float)) == 0);
        if (table.conv2d_forward_norm)
          check_norm(table, out[0].data(), [&](float* to) {
            table.conv2d_forward_norm(p, gx.data(), gw.data(), with_bias ? bias.data() : nullptr, norm, to,
                                      fwd.get());
          });
        const int64_t packed_size = table.conv2d_packed_size ? table.conv2d_packed_size(p) : 0;
        if (packed_size > 0) {
          Workspace packed(packed_size);
          table.conv2d_pack(p, gw.data(), packed.get());
          const auto forward = [&](const BatchNormArgs<float>* then, float* to) {
            table.conv2d_forward_packed(p, gx.data(), packed.get(), with_bias ? bias.data() : nullptr, then,
                                        to);
          };
          forward(nullptr, out[6].data());
          check_norm(table, out[6].data(), [&](float* to) { forward(&norm, to); });
          REQUIRE(packed.ok());
          ++packed_runs;
        } else {
          std::copy_n(out[0].data(), ny, out[6].data());
        }
        table.conv2d_backward_input(p, gdy.data(), gw.data(), out[1].data(), bwd.get());
        table.conv2d_backward_weight(p, gx.data(), gdy.data(), out[2].data(), weight.get());
        REQUIRE(fwd.ok());
        REQUIRE(bwd.ok());
        REQUIRE(weight.ok());
      },
      [&](const auto& out) {
        CHECK(excess(out[0], y, tolerance(taps * in_c), kEps) <= 0);
        CHECK(excess(out[6], y, tolerance(taps * in_c), kEps) <= 0);
        const double off = tolerance(taps * in_c);
        CHECK(excess(out[4], mean, off, kEps) <= 0);
        CHECK(excess(out[5], var, off * std::sqrt(double(taps * in_c)), 100 * kEps) <= 0);
        CHECK(excess(out[1], dx, tolerance(taps * p.out_c / p.groups), kEps) <= 0);
        CHECK(excess(out[2], dw, tolerance(p.batch * p.out_h() * p.out_w()), kEps) <= 0);
      });
}

Conv2dParams square(int64_t batch, int64_t size, int64_t in_c, int64_t out_c, int64_t kernel,
                    int64_t stride) {
  Conv2dParams p;
  p.batch = batch;
  p.in_h = p.in_w = size;
  p.in_c = in_c;
  p.out_c = out_c;
  p.kernel_h = p.kernel_w = kernel;
  p.stride_h = p.stride_w = stride;
  p.pad_h = p.pad_w = kernel / 2;
  return p;
}

/// Checks so many of the convolutions that draw() makes (light: a third); filters larger than the padded
/// image are none.
template <class Draw>
void check_drawn(int count, Draw draw) {
  if (light()) count /= 3;
  while (count > 0) {
    const Conv2dParams p = draw();
    if (p.in_h + 2 * p.pad_h <= p.dilation_h * (p.kernel_h - 1) ||
        p.in_w + 2 * p.pad_w <= p.dilation_w * (p.kernel_w - 1))
      continue;
    check_conv(p);
    --count;
  }
}

}  // namespace

TEST_CASE("convolution: random geometries") {
  check_drawn(70, [] {
    Conv2dParams p;
    p.groups = pick(0, 2) == 0 ? pick(1, 4) : 1;
    const bool round = pick(0, 2) == 0;
    p.in_c = p.groups * (round ? 16 * pick(1, 2) : pick(1, 24));
    p.out_c = p.groups * (round ? 16 * pick(1, 3) : pick(1, 70));
    p.batch = pick(1, 3);
    p.kernel_h = pick(1, 4);
    p.kernel_w = pick(1, 4);
    p.stride_h = pick(1, 3);
    p.stride_w = pick(1, 3);
    p.dilation_h = pick(1, 3);
    p.dilation_w = pick(0, 1) != 0 ? 1 : pick(1, 3);
    p.pad_h = pick(0, 3);
    p.pad_w = pick(0, 3);
    p.in_h = pick(1, 11);
    p.in_w = pick(1, 11);
    return p;
  });
}

TEST_CASE("convolution: operands that may be rounded to bf16, random geometries") {
  check_drawn(60, [] {
    Conv2dParams p;
    p.bf16 = true;
    p.groups = pick(0, 3) == 0 ? pick(2, 3) : 1;
    const bool round = pick(0, 1) == 0;  // the weight gradient takes whole vectors of input channels
    p.in_c = p.groups * (round ? 16 * pick(1, 9) : 2 * pick(8, 50));
    p.out_c = p.groups * 2 * pick(8, 70);
    p.batch = pick(1, 3);
    const bool pointwise = pick(0, 2) == 0;
    p.kernel_h = pointwise ? 1 : pick(1, 4);
    p.kernel_w = pointwise ? 1 : pick(1, 4);
    p.stride_h = pointwise ? 1 : pick(1, 3);
    p.stride_w = pointwise ? 1 : pick(1, 3);
    p.dilation_h = pick(1, 2);
    p.dilation_w = pick(1, 2);
    p.pad_h = pointwise ? 0 : pick(0, 3);
    p.pad_w = pointwise ? 0 : pick(0, 3);
    p.in_h = pick(1, 13);
    p.in_w = pick(1, 13);
    return p;
  });
  CHECK((packed_runs > 0 || std::string(cpu().name) == "reference"));
  for (Conv2dParams p :
       {square(2, 20, 128, 256, 1, 1), square(1, 6, 1024, 1040, 1, 1), square(2, 9, 64, 130, 3, 2),
        square(2, 4, 300, 80, 3, 1), square(1, 70, 16, 32, 3, 1)}) {
    p.bf16 = true;
    check_conv(p);
  }
}

TEST_CASE("convolution: the shapes of residual networks, small") {
  check_conv(square(2, 32, 3, 32, 3, 2));   // the stem
  check_conv(square(1, 40, 32, 64, 3, 1));  // several parts of the weight gradient
  check_conv(square(2, 9, 64, 130, 3, 2));
  check_conv(square(3, 8, 64, 96, 1, 1));
  check_conv(square(2, 8, 64, 32, 1, 2));  // input positions that no tap reaches
  check_conv(square(2, 4, 300, 80, 3, 1));
  check_conv(square(2, 4, 1100, 64, 1, 1));  // one tap deeper than a panel
  check_conv(square(1, 7, 16, 16, 7, 2));
}

TEST_CASE("convolution: Winograd on random geometries") {
  for (int i = 0; i < 24; ++i) {
    Conv2dParams p = square(pick(1, 3), 1, pick(1, 40), pick(1, 140), 3, 1);
    p.in_h = pick(3, 14), p.in_w = pick(3, 14);
    p.pad_h = pick(0, 2), p.pad_w = pick(0, 2);
    for (ConvAlgorithm algorithm :
         {ConvAlgorithm::winograd2, ConvAlgorithm::winograd3, ConvAlgorithm::winograd4})
      check_conv(p, algorithm);
  }
}

TEST_CASE("convolution: Winograd with stride 2") {
  for (int i = 0; i < 24; ++i) {
    Conv2dParams p = square(pick(1, 3), 1, pick(1, 40), pick(1, 140), 3, 2);
    p.in_h = pick(1, 21), p.in_w = pick(1, 21);
    check_conv(p, ConvAlgorithm::winograd4);
  }
  check_conv(square(1, 142, 5, 7, 3, 2), ConvAlgorithm::winograd4);
  if (!light()) check_conv(square(3, 75, 33, 20, 3, 2), ConvAlgorithm::winograd4);
  check_conv(square(1, 8, 290, 150, 3, 2), ConvAlgorithm::winograd4);
  if (!light()) check_conv(square(52, 8, 70, 65, 3, 2), ConvAlgorithm::winograd4);
}

TEST_CASE("convolution: Winograd in chunks, in parts, and with few tiles of many channels") {
  for (ConvAlgorithm algorithm :
       {ConvAlgorithm::winograd2, ConvAlgorithm::winograd3, ConvAlgorithm::winograd4}) {
    check_conv(square(1, 142, 5, 7, 3, 1), algorithm);
    if (!light()) check_conv(square(3, 75, 33, 20, 3, 1), algorithm);
    check_conv(square(1, 4, 290, 150, 3, 1), algorithm);
    if (!light()) check_conv(square(52, 4, 70, 65, 3, 1), algorithm);
    check_conv(square(2, 1, 20, 33, 3, 1), algorithm);
    check_conv(square(pick(1, 30), 2, pick(1, 70), pick(1, 70), 3, 1), algorithm);
  }
  check_conv(square(1, 310, 3, 5, 3, 1), ConvAlgorithm::winograd4);
}

TEST_CASE("convolution: several tiles in an image row") {
  for (int i = 0; i < 12; ++i) {
    Conv2dParams p = square(2, 5, 16 * pick(1, 2), pick(1, 70), 3, pick(1, 2));
    if (i % 3 == 0) p.in_c = pick(1, 8);  // whole filter rows as taps
    p.in_w = pick(30, 60);
    p.dilation_w = pick(1, 2);
    p.pad_w = pick(0, 3);
    p.pad_h = pick(0, 3);
    check_conv(p);
  }
}

TEST_CASE("convolution: few rows, wide ones") {
  for (const int64_t channels : {16, 20}) {
    Conv2dParams p = square(2, 1, channels, 24, 1, 1);
    p.in_w = 2000, p.kernel_w = 3;
    check_conv(p);
  }
}

TEST_CASE("convolution: one tap, several blocks of pixels and of channels") {
  check_conv(square(2, 20, 128, 256, 1, 1));
  check_conv(square(1, 11, 512, 192, 1, 1));   // rows of an even number of cache lines
  check_conv(square(1, 6, 1024, 1040, 1, 1));  // panels that do not fit the cache together
}

TEST_CASE("convolution: filters as large as the image, of few channels") {
  for (int64_t channels : {1, 3, 5})
    for (int64_t size : {1, 2, 3, 6}) {
      Conv2dParams p = square(2, size, channels, 7, 3, 1);
      check_conv(p);
      p.pad_h = p.pad_w = 3;
      check_conv(p);
    }
}

TEST_CASE("convolution: depthwise and one filter row") {
  for (int64_t channels : {2, 16, 37, 64}) {
    Conv2dParams p = square(2, 13, channels, channels, 3, 1);
    p.groups = channels;
    check_conv(p);
    p.stride_h = p.stride_w = 2;
    p.dilation_h = 2;
    check_conv(p);
    p.out_c = 2 * channels;  // two filters a channel
    check_conv(p);
  }
  Conv2dParams row = square(2, 12, 5, 20, 1, 1);
  row.kernel_w = 5;
  row.pad_w = 2;
  check_conv(row);
}

TEST_CASE("convolution: depthwise, all that a filter can be") {
  check_drawn(60, [] {
    Conv2dParams p = square(pick(1, 9), 1, pick(2, 40), 1, 1, 1);
    p.groups = p.in_c;
    p.out_c = p.in_c * (pick(0, 1) == 0 ? 1 : pick(2, 5));
    p.kernel_h = pick(1, 5), p.kernel_w = pick(1, 5);
    p.stride_h = pick(1, 3), p.stride_w = pick(1, 3);
    p.dilation_h = pick(1, 3), p.dilation_w = pick(1, 3);
    p.pad_h = pick(0, 4), p.pad_w = pick(0, 4);
    p.in_h = pick(1, 12), p.in_w = pick(1, 40);
    return p;
  });
  if (light()) return;
  Conv2dParams p = square(3, 150, 64, 64, 3, 1);  // more than a cache holds
  p.groups = 64;
  check_conv(p);
}

TEST_CASE("convolution: groups of few channels") {
  check_drawn(40, [] {
    Conv2dParams p = square(pick(1, 3), 1, 1, 1, 1, 1);
    p.groups = pick(2, 20);
    p.in_c = p.groups * pick(1, 17);
    p.out_c = p.groups * pick(1, 17);
    p.kernel_h = pick(1, 4), p.kernel_w = pick(1, 4);
    p.stride_h = pick(1, 3), p.stride_w = pick(1, 3);
    p.dilation_h = pick(1, 2), p.dilation_w = pick(1, 3);
    p.pad_h = pick(0, 3), p.pad_w = pick(0, 3);
    p.in_h = pick(1, 11), p.in_w = pick(1, 25);
    return p;
  });
  for (int64_t width : {2, 4, 8, 16})
    for (int64_t stride : {1, 2}) {
      Conv2dParams p = square(2, 33, 64, 64, 3, stride);
      p.groups = 64 / width;
      check_conv(p);
    }
}

TEST_CASE("convolution: few input channels") {
  check_drawn(30, [] {
    Conv2dParams p = square(pick(1, 3), 1, pick(1, 4), pick(1, 70), 1, 1);
    p.kernel_h = pick(1, 5), p.kernel_w = pick(1, 5);
    p.stride_h = pick(1, 3), p.stride_w = pick(1, 3);
    p.dilation_h = pick(1, 3), p.dilation_w = pick(1, 3);
    p.pad_h = pick(0, 3), p.pad_w = pick(0, 3);
    p.in_h = pick(1, 20), p.in_w = pick(1, 60);
    return p;
  });
}

TEST_CASE("convolution: few output channels, and few input channels of a gradient") {
  for (bool backward : {false, true})
    check_drawn(24, [&] {
      const int64_t few = pick(1, 9), many = pick(2, 70);
      Conv2dParams p = square(pick(1, 3), 1, backward ? few : many, backward ? many : few, 1, 1);
      p.kernel_h = pick(1, 5), p.kernel_w = pick(1, 5);
      p.stride_h = pick(1, 3), p.stride_w = pick(1, 3);
      p.dilation_h = pick(1, 3), p.dilation_w = pick(0, 1) != 0 ? 1 : pick(1, 3);
      p.pad_h = pick(0, 3), p.pad_w = pick(0, 3);
      p.in_h = pick(1, 20), p.in_w = pick(1, 60);
      return p;
    });
  check_conv(square(1, 150, 96, 3, 3, 1));  // a row longer than the copies should be
  check_conv(square(1, 7, 96, 13, 7, 1));
  // Few pixels, and weights that are read where they lie.
  check_conv(square(1, 4, 160, 103, 3, 1));
  check_conv(square(2, 8, 96, 66, 3, 2));
  check_conv(square(1, 5, 512, 130, 1, 2));
}

TEST_CASE("convolution: what is not finite stays in its group") {
  Conv2dParams p = square(2, 9, 24, 24, 3, 1);
  for (int64_t groups : {2, 6, 24}) {
    p.groups = groups;
    const int64_t width = 24 / groups, pixels = 2 * 9 * 9;
    const Floats w = random_floats(24 * 9 * width);
    Floats x = random_floats(pixels * 24);
    for (int64_t i = 0; i < pixels; ++i)
      x[size_t(i * 24 + width)] = std::numeric_limits<float>::infinity();  // of the second group
    for (const KernelTable<float>* table : all_cpu_tables()) {
      CAPTURE(std::string(table->name));
      Workspace forward(table->conv2d_workspace(p, ConvPass::forward)),
          input(table->conv2d_workspace(p, ConvPass::backward_input)),
          weight(table->conv2d_workspace(p, ConvPass::backward_weight));
      Floats y(x.size()), dx(x.size()), dw(w.size());
      table->conv2d_forward(p, x.data(), w.data(), nullptr, y.data(), forward.get());
      table->conv2d_backward_input(p, x.data(), w.data(), dx.data(), input.get());
      table->conv2d_backward_weight(p, x.data(), x.data(), dw.data(), weight.get());
      for (int64_t c = 0; c < 24; ++c) {
        const bool second = c / width == 1;
        CHECK(std::isfinite(y[size_t(40 * 24 + c)]) != second);
        CHECK(std::isfinite(dx[size_t(40 * 24 + c)]) != second);
        if (!second) CHECK(std::isfinite(dw[size_t(c * 9 * width)]));
      }
    }
  }
}

// --- pooling ---

namespace {

void check_pool(const Pool2dParams& p) {
  const int64_t nx = p.batch * p.in_h * p.in_w * p.channels, ny = p.batch * p.out_h * p.out_w * p.channels;
  Floats x = random_floats(nx);
  for (float& v : x)
    if (pick(0, 3) == 0) v = 0.5f;  // ties
  const Floats dy = random_floats(ny);
  const auto& ref = reference<double>();
  Doubles y(static_cast<size_t>(ny)), dx(static_cast<size_t>(nx)), avg(static_cast<size_t>(ny)),
      avg_dx(static_cast<size_t>(nx));
  std::vector<int32_t> index(static_cast<size_t>(ny));
  ref.max_pool2d_forward(p, widen(x).data(), y.data(), index.data());
  ref.max_pool2d_backward(p, widen(dy).data(), index.data(), dx.data());
  ref.avg_pool2d_forward(p, widen(x).data(), avg.data());
  ref.avg_pool2d_backward(p, widen(dy).data(), avg_dx.data());
  CAPTURE(p.in_h);
  CAPTURE(p.in_w);
  CAPTURE(p.channels);
  CAPTURE(p.kernel_h);
  CAPTURE(p.stride_h);
  CAPTURE(p.pad_h);
  each_table(
      {ny, nx, ny, nx},
      [&](const auto& table, auto& out) {
        Guarded<int32_t> where(ny, -1);
        table.max_pool2d_forward(p, x.data(), out[0].data(), where.data());
        REQUIRE(where.ok());
        REQUIRE(std::memcmp(where.data(), index.data(), size_t(ny) * sizeof(int32_t)) == 0);
        table.max_pool2d_backward(p, dy.data(), index.data(), out[1].data());
        table.avg_pool2d_forward(p, x.data(), out[2].data());
        table.avg_pool2d_backward(p, dy.data(), out[3].data());
      },
      [&](const auto& out) {
        CHECK(excess(out[0], y, 0, 0) <= 0);
        CHECK(excess(out[1], dx, 1e-6, kEps) <= 0);
        CHECK(excess(out[2], avg, 1e-6, kEps) <= 0);
        CHECK(excess(out[3], avg_dx, 1e-6, kEps) <= 0);
      });
}

}  // namespace

TEST_CASE("pooling: random windows, floor and ceil mode") {
  for (int i = 0; i < 80;) {
    Pool2dParams p;
    p.batch = pick(1, 3);
    p.channels = i % 4 == 0 ? 64 : pick(1, 40);
    p.in_h = pick(1, 12);
    p.in_w = pick(1, 12);
    p.kernel_h = pick(1, 4);
    p.kernel_w = pick(1, 4);
    p.stride_h = pick(1, 3);
    p.stride_w = pick(1, 3);
    p.pad_h = pick(0, p.kernel_h / 2);
    p.pad_w = pick(0, p.kernel_w / 2);
    p.count_include_pad = pick(0, 1) != 0;
    const bool ceil_mode = pick(0, 1) != 0;
    // PyTorch's sizes: in ceil mode the last window must begin inside the image or its left padding.
    const auto out = [&](int64_t in, int64_t kernel, int64_t stride, int64_t pad) {
      int64_t n = (in + 2 * pad - kernel + (ceil_mode ? stride - 1 : 0)) / stride + 1;
      if (ceil_mode && (n - 1) * stride >= in + pad) --n;
      return in + 2 * pad < kernel ? 0 : n;
    };
    p.out_h = out(p.in_h, p.kernel_h, p.stride_h, p.pad_h);
    p.out_w = out(p.in_w, p.kernel_w, p.stride_w, p.pad_w);
    if (p.out_h < 1 || p.out_w < 1) continue;
    check_pool(p);
    ++i;
  }
}

TEST_CASE("max pooling takes a NaN, and its index") {
  const Pool2dParams p{.batch = 1, .in_h = 2, .in_w = 2, .channels = 3, .out_h = 1, .out_w = 1};
  Floats x(12, 1.0f);
  x[size_t(2 * 3 + 1)] = kNaN;  // cell 2, channel 1
  for (const KernelTable<float>* table : all_cpu_tables()) {
    Floats y(3);
    std::vector<int32_t> index(3);
    table->max_pool2d_forward(p, x.data(), y.data(), index.data());
    CHECK(y[0] == 1);
    CHECK(index[0] == 0);
    CHECK(std::isnan(y[1]));
    CHECK(index[1] == 2);
  }
}

// --- batch norm ---

TEST_CASE("batch norm statistics are as good as the data, also far from 0") {
  const int64_t shapes[][2] = {{1, 1},     {1, 70},    {2, 3},    {50, 16},
                               {1000, 17}, {4099, 64}, {37, 200}, {100000, 3}};
  for (const auto& s : shapes)
    for (float centre : {0.0f, 300.0f}) {
      const Floats x = random_floats(s[0] * s[1], centre - 1, centre + 1);
      Doubles mean(static_cast<size_t>(s[1])), var(static_cast<size_t>(s[1]));
      reference<double>().batch_norm_stats(s[0], s[1], widen(x).data(), mean.data(), var.data());
      CAPTURE(s[0]);
      CAPTURE(s[1]);
      each_table(
          {s[1], s[1]},
          [&](const auto& table, auto& out) {
            table.batch_norm_stats(s[0], s[1], x.data(), out[0].data(), out[1].data());
          },
          [&](const auto& out) {
            CHECK(excess(out[0], mean, 1e-7, 3 * kEps) <= 0);
            CHECK(excess(out[1], var, centre == 0 ? 1e-7 : 2e-6, 2e-6) <= 0);
          });
    }
}

TEST_CASE("batch norm with every activation, forward and backward") {
  const int64_t shapes[][2] = {{1, 1}, {7, 3}, {33, 16}, {20, 37}, {700, 64}, {3, 300}};
  for (const auto& s : shapes)
    for (Activation act : all_activations())
      for (bool with_residual : {false, true}) {
        const int64_t rows = s[0], channels = s[1], n = rows * channels;
        Floats x = random_floats(n, -2, 2);
        const Floats residual = random_floats(n), dy = random_floats(n);
        const Floats mean = random_floats(channels), invstd = random_floats(channels, 0.5f, 2),
                     weight = random_floats(channels), bias = random_floats(channels);
        const float param = float(activation_default_param(act));
        const auto near_kink = [&](size_t i) {  // where rounding may choose the value or the slope
          const size_t c = i % size_t(channels);
          const double z = (double(x[i]) - double(mean[c])) * double(invstd[c]) * double(weight[c]) +
                           double(bias[c]) + (with_residual ? double(residual[i]) : 0);
          for (double kink : {0.0, 1.0, 2.0, 3.0, 6.0, double(param)})
            if (std::abs(std::abs(z) - std::abs(kink)) < 1e-5) return true;
          return false;
        };
        for (size_t i = 0; i < x.size(); ++i)
          for (int tries = 0; tries < 8 && near_kink(i); ++tries) x[i] = random_floats(1, -2, 2)[0];
        const BatchNormArgs<float> args{
            rows,          channels,      x.data(),    mean.data(),
            invstd.data(), weight.data(), bias.data(), with_residual ? residual.data() : nullptr,
            act,           param};
        const Doubles xd = widen(x), md = widen(mean), id = widen(invstd), wd = widen(weight),
                      bd = widen(bias), rd = widen(residual), dyd = widen(dy);
        const BatchNormArgs<double> wide{
            rows,      channels,     xd.data(), md.data(),
            id.data(), wd.data(),    bd.data(), with_residual ? rd.data() : nullptr,
            act,       double(param)};
        const auto& ref = reference<double>();
        Doubles y(x.size()), g(x.size()), dweight(static_cast<size_t>(channels)),
            dbias(static_cast<size_t>(channels)), dx(x.size()), dx_eval(x.size());
        ref.batch_norm_forward(wide, y.data());
        ref.batch_norm_backward_reduce(wide, dyd.data(), g.data(), dweight.data(), dbias.data(), nullptr);
        ref.batch_norm_backward_input(wide, dyd.data(), dweight.data(), dbias.data(), true, dx.data());
        ref.batch_norm_backward_input(wide, dyd.data(), dweight.data(), dbias.data(), false, dx_eval.data());
        const Floats dweight_f(dweight.begin(), dweight.end()), dbias_f(dbias.begin(), dbias.end());
        CAPTURE(activation_name(act));
        CAPTURE(rows);
        CAPTURE(channels);
        CAPTURE(with_residual);
        each_table(
            {n, n, channels, channels, n, n, channels, channels},
            [&](const auto& table, auto& out) {
              BatchNormArgs<float> a = args;
              if (with_residual) {  // y may be the residual
                std::copy(residual.begin(), residual.end(), out[0].data());
                a.residual = out[0].data();
              }
              table.batch_norm_forward(a, out[0].data());
              std::copy(dy.begin(), dy.end(), out[1].data());  // g may be dy
              table.batch_norm_backward_reduce(args, out[1].data(), out[1].data(), out[2].data(),
                                               out[3].data(), nullptr);
              table.batch_norm_backward_reduce(args, dy.data(), nullptr, out[6].data(), out[7].data(),
                                               nullptr);
              std::copy(dy.begin(), dy.end(), out[4].data());  // dx may be dy
              table.batch_norm_backward_input(args, out[4].data(), dweight_f.data(), dbias_f.data(), true,
                                              out[4].data());
              table.batch_norm_backward_input(args, dy.data(), dweight_f.data(), dbias_f.data(), false,
                                              out[5].data());
            },
            [&](const auto& out) {
              const double sums = 2e-6 * (1 + std::sqrt(double(rows)));
              CHECK(excess(out[0], y, 3e-6, 1e-6) <= 0);
              CHECK(excess(out[1], g, 3e-6, 1e-6) <= 0);
              CHECK(excess(out[2], dweight, sums, 1e-6) <= 0);
              CHECK(excess(out[3], dbias, sums, 1e-6) <= 0);
              CHECK(excess(out[4], dx, 1e-5, 2e-6) <= 0);
              CHECK(excess(out[5], dx_eval, 1e-5, 2e-6) <= 0);
              CHECK(excess(out[6], dweight, sums, 1e-6) <= 0);
              CHECK(excess(out[7], dbias, sums, 1e-6) <= 0);
            });
      }
}
