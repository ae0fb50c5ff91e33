// The elementwise ops, reductions and memory functions for CUDA against the reference loops in double, on the
// same (already rounded) inputs: random shapes with tails, pointers that are not aligned, outputs filled with
// NaN before and guarded on both sides.
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <initializer_list>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "support/device_arrays.h"
#include "support/light.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/strided.h"
#include "weft/kernels/philox.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN(),
                 kInf = std::numeric_limits<double>::infinity();
using Doubles = std::vector<double>;

Random& generator() {
  static Random random;
  return random;
}
/// low to high, both included.
int64_t pick(int64_t low, int64_t high) { return low + generator().below(high - low + 1); }
template <class T>
std::vector<T> random(int64_t n, double low = -1, double high = 1) {
  return generator().uniform<T>(n, low, high);
}
template <class T>
std::vector<T> narrow(const Doubles& v) {
  std::vector<T> result;
  for (double x : v) result.push_back(T(x));
  return result;
}

// What T can't hold is infinite in the oracle's results too.
#define CHECK_NEAR(T, got, want) \
  CHECK_MESSAGE(distance<T>(got, to_double(narrow<T>(want))) <= kTolerance<T>, generator().seed())

const auto& oracle() { return reference<double>(); }

/// An array that lies in guards, which values() checks.
template <class T>
class Array {
 public:
  Array(std::vector<T> values, int64_t shift = 0) : memory_(guarded(std::move(values)), shift) {}
  explicit Array(int64_t n, int64_t shift = 0) : Array(unset(n), shift) {}
  T* get() { return memory_.data() + kGuard; }
  std::vector<T> values() {
    const auto all = memory_.host();
    const std::vector<T> guard(size_t(kGuard), mark());
    REQUIRE(same_bits({all.begin(), all.begin() + kGuard}, guard));
    REQUIRE(same_bits({all.end() - kGuard, all.end()}, guard));
    return {all.begin() + kGuard, all.end() - kGuard};
  }

 private:
  static constexpr int64_t kGuard = 64;  // a multiple of 16 bytes
  static T mark() { return T(77.0f); }
  static std::vector<T> unset(int64_t n) {
    if constexpr (std::is_integral_v<T>)
      return std::vector<T>(size_t(n), T(99));
    else
      return std::vector<T>(size_t(n), T(kNaN));
  }
  static std::vector<T> guarded(std::vector<T> v) {
    v.insert(v.begin(), size_t(kGuard), mark());
    v.insert(v.end(), size_t(kGuard), mark());
    return v;
  }
  DeviceArray<T> memory_;
};

/// Sizes around those of packs and tiles.
std::vector<int64_t> sizes() { return some({0, 1, 3, 8, 24, 255, 1000, 4096, 4099, 8192 + pick(1, 300)}); }

#define EACH_TYPE float, bf16, f16

}  // namespace

// --- elementwise ---

TEST_CASE_TEMPLATE("unary ops and their slopes", T, EACH_TYPE) {
  const auto& k = cuda::table<T>();
  for (int op = 0; op < kUnaryCount; ++op)
    for (int64_t n : sizes())
      for (int64_t shift : {0, 1}) {
        CAPTURE(op);
        CAPTURE(n);
        CAPTURE(shift);
        const bool positive = Unary(op) == Unary::log || Unary(op) == Unary::sqrt;
        auto x = random<T>(n, positive ? 0.25 : -3, 3);
        if (Unary(op) == Unary::reciprocal)
          for (T& v : x) v = T(float(v) + (float(v) < 0 ? -0.5f : 0.5f));
        const auto dy = random<T>(n);
        Doubles y(x.size()), dx(x.size());
        oracle().unary(Unary(op), n, to_double(x).data(), y.data());
        oracle().unary_backward(Unary(op), n, to_double(x).data(), to_double(dy).data(), dx.data());
        Array<T> device_x(x, shift), device_dy(dy, shift), device_y(n, shift), device_dx(n);
        k.unary(Unary(op), n, device_x.get(), device_y.get());
        CHECK_NEAR(T, device_y.values(), y);
        k.unary_backward(Unary(op), n, device_x.get(), device_dy.get(), device_dx.get());
        CHECK_NEAR(T, device_dx.values(), dx);
        k.unary_backward(Unary(op), n, device_x.get(), device_dy.get(), device_dy.get());
        CHECK(same_bits(device_dy.values(), device_dx.values()));
        k.unary(Unary(op), n, device_x.get(), device_x.get());
        CHECK(same_bits(device_x.values(), device_y.values()));
      }
}

TEST_CASE_TEMPLATE("unary ops at the limits", T, EACH_TYPE) {
  const auto& k = cuda::table<T>();
  const auto x = narrow<T>({0, -0.0, kInf, -kInf, kNaN, -1, 1, 2, -2});
  const auto n = int64_t(x.size());
  for (int op = 0; op < kUnaryCount; ++op) {
    CAPTURE(op);
    const std::vector<T> one(x.size(), T(1.0f));
    Doubles y(x.size()), dx(x.size());
    oracle().unary(Unary(op), n, to_double(x).data(), y.data());
    oracle().unary_backward(Unary(op), n, to_double(x).data(), to_double(one).data(), dx.data());
    Array<T> device_x(x), device_dy(one), device_y(n), device_dx(n);
    k.unary(Unary(op), n, device_x.get(), device_y.get());
    k.unary_backward(Unary(op), n, device_x.get(), device_dy.get(), device_dx.get());
    CHECK_NEAR(T, device_y.values(), y);
    CHECK_NEAR(T, device_dx.values(), dx);
  }
}

namespace {

Broadcast broadcast(const std::vector<int64_t>& size, const std::vector<bool>& a,
                    const std::vector<bool>& b) {
  Broadcast s;
  s.ndim = int(size.size());
  int64_t a_count = 1, b_count = 1;
  for (size_t d = size.size(); d-- > 0;) {
    s.size[d] = size[d];
    s.a_stride[d] = a[d] && size[d] > 1 ? a_count : 0;
    s.b_stride[d] = b[d] && size[d] > 1 ? b_count : 0;
    if (a[d]) a_count *= size[d];
    if (b[d]) b_count *= size[d];
  }
  return s;
}

/// Elements of an operand that has `present` of the dimensions.
int64_t elements(const std::vector<int64_t>& size, const std::vector<bool>& present) {
  int64_t n = 1;
  for (size_t d = 0; d < size.size(); ++d)
    if (present[d]) n *= size[d];
  return n;
}

template <class T>
void check_binary(Binary op, const std::vector<int64_t>& size, const std::vector<bool>& in_a,
                  const std::vector<bool>& in_b, int64_t shift) {
  CAPTURE(int(op));
  CAPTURE(size.size());
  CAPTURE(shift);
  std::string dims;
  for (size_t d = 0; d < size.size(); ++d)
    dims += std::to_string(size[d]) + (in_a[d] ? "a" : "") + (in_b[d] ? "b " : " ");
  CAPTURE(dims);
  const Broadcast s = broadcast(size, in_a, in_b);
  const int64_t n = elements(size, std::vector<bool>(size.size(), true));
  auto a = random<T>(elements(size, in_a), -2, 2), b = random<T>(elements(size, in_b), 0.5, 2);
  // Some that are equal.
  for (T* v : {a.data(), b.data()})
    for (size_t i = 0; i < (v == a.data() ? a.size() : b.size()); i += 3) v[i] = T(1.5f);
  Doubles y(static_cast<size_t>(n));
  oracle().binary(op, s, to_double(a).data(), to_double(b).data(), y.data());
  Array<T> device_a(a, shift), device_b(b, shift), device_y(n, shift);
  const auto& k = cuda::table<T>();
  k.binary(op, s, device_a.get(), device_b.get(), device_y.get());
  const auto got = device_y.values();
  CHECK_NEAR(T, got, y);
  if (int64_t(a.size()) == n && n > 0) {
    k.binary(op, s, device_a.get(), device_b.get(), device_a.get());
    CHECK(same_bits(device_a.values(), got));
  } else if (int64_t(b.size()) == n && n > 0) {
    k.binary(op, s, device_a.get(), device_b.get(), device_b.get());
    CHECK(same_bits(device_b.values(), got));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("binary ops, same shape and broadcast", T, EACH_TYPE) {
  for (int op = 0; op < kBinaryCount; ++op) {
    const auto o = Binary(op);
    for (int64_t shift : {0, 1}) {
      for (int64_t n : {0, 1, 3, 4100}) check_binary<T>(o, {n}, {true}, {true}, shift);
      for (int64_t channels : some({1, 3, 8, 24, 64, 1000}))
        for (int64_t rows : some({1, 3, 50})) {
          check_binary<T>(o, {rows, channels}, {true, true}, {false, true}, shift);  // bias
          check_binary<T>(o, {rows, channels}, {false, true}, {true, true}, shift);
          check_binary<T>(o, {rows, channels}, {true, true}, {true, false}, shift);  // one number per row
        }
    }
    check_binary<T>(o, {}, {}, {}, 0);
    check_binary<T>(o, {4100}, {true}, {false}, 0);  // a number
    check_binary<T>(o, {8192}, {false}, {true}, 0);
    check_binary<T>(o, {33, 40}, {true, false}, {false, true}, 0);                // outer product
    check_binary<T>(o, {3, 49, 24}, {true, true, true}, {true, false, true}, 0);  // gates of channels
    check_binary<T>(o, {3, 0, 24}, {true, true, true}, {true, false, true}, 0);
  }
}

/// A random shape of up to 6,000 elements, and for each operand in which dimensions it has that size.
static std::vector<int64_t> random_shape(std::initializer_list<std::vector<bool>*> operands) {
  std::vector<int64_t> size;
  int64_t n = 1;
  const int64_t ndim = pick(1, kMaxDims);
  for (int64_t d = 0; d < ndim; ++d) {
    const int64_t most = std::max<int64_t>(1, std::min<int64_t>(20, 6000 / n));
    size.push_back(pick(0, 2) == 0 ? std::min<int64_t>(8, most) : pick(1, most));
    n *= size.back();
    for (auto* in : operands) in->push_back(pick(0, 3) != 0);
  }
  return size;
}

TEST_CASE_TEMPLATE("binary ops on random shapes", T, EACH_TYPE) {
  for (int trial = 0; trial < (light() ? 25 : 100); ++trial) {
    std::vector<bool> in_a, in_b;
    const std::vector<int64_t> size = random_shape({&in_a, &in_b});
    check_binary<T>(Binary(pick(0, kBinaryCount - 1)), size, in_a, in_b, pick(0, 3) == 0);
  }
}

TEST_CASE_TEMPLATE("binary ops on rows that are not dense", T, EACH_TYPE) {
  for (int64_t stride : {64, 65, 68, 72}) {
    Broadcast s = broadcast({5, 64}, {true, true}, {false, true});
    s.a_stride[0] = stride;
    const auto a = random<T>(5 * stride), b = random<T>(64);
    Doubles y(5 * 64);
    oracle().binary(Binary::add, s, to_double(a).data(), to_double(b).data(), y.data());
    Array<T> device_a(a), device_b(b), device_y(5 * 64);
    cuda::table<T>().binary(Binary::add, s, device_a.get(), device_b.get(), device_y.get());
    CHECK_NEAR(T, device_y.values(), y);
  }
}

TEST_CASE_TEMPLATE("binary ops at the limits", T, EACH_TYPE) {
  const Doubles special{0, -0.0, 1, -1, kInf, -kInf, kNaN};
  Doubles a, b;
  for (double x : special)
    for (double z : special) {
      a.push_back(x);
      b.push_back(z);
    }
  const auto n = int64_t(a.size());
  const Broadcast s = broadcast({n}, {true}, {true});
  Array<T> device_a(narrow<T>(a)), device_b(narrow<T>(b));
  for (int op = 0; op < kBinaryCount; ++op) {
    CAPTURE(op);
    Doubles y(a.size());
    oracle().binary(Binary(op), s, a.data(), b.data(), y.data());
    Array<T> device_y(n);
    cuda::table<T>().binary(Binary(op), s, device_a.get(), device_b.get(), device_y.get());
    CHECK_NEAR(T, device_y.values(), y);
  }
}

namespace {

/// compare and select; `third` are the dimensions of the condition.
template <class T>
void check_choice(const std::vector<int64_t>& size, const std::vector<bool>& in_a,
                  const std::vector<bool>& in_b, const std::vector<bool>& third, int64_t shift) {
  std::string dims;
  for (size_t d = 0; d < size.size(); ++d)
    dims += std::to_string(size[d]) + (in_a[d] ? "a" : "") + (in_b[d] ? "b" : "") + (third[d] ? "c " : " ");
  CAPTURE(dims);
  CAPTURE(shift);
  Broadcast s = broadcast(size, in_a, in_b);
  s.c_stride = broadcast(size, third, in_b).a_stride;
  const int64_t n = elements(size, std::vector<bool>(size.size(), true));
  auto a = random<T>(elements(size, in_a), -2, 2), b = random<T>(elements(size, in_b), -2, 2);
  // Some that are equal, and some that are no numbers.
  for (auto* v : {&a, &b})
    for (size_t i = 0; i < v->size(); i += 3) (*v)[i] = T(i % 2 ? 1.5f : i % 4 ? float(kNaN) : -0.0f);
  std::vector<uint8_t> c(size_t(elements(size, third)));
  for (uint8_t& v : c) v = uint8_t(pick(0, 2));
  Doubles chosen(static_cast<size_t>(n));
  oracle().select(s, c.data(), to_double(a).data(), to_double(b).data(), chosen.data());
  Array<T> device_a(a, shift), device_b(b, shift), device_y(n, shift);
  Array<uint8_t> device_c(c, shift);
  const auto& k = cuda::table<T>();
  k.select(s, device_c.get(), device_a.get(), device_b.get(), device_y.get());
  const auto got = to_double(device_y.values());
  int64_t wrong = 0;
  for (size_t i = 0; i < got.size(); ++i)
    if (got[i] != chosen[i] && !(std::isnan(got[i]) && std::isnan(chosen[i]))) ++wrong;
  CHECK(wrong == 0);
  for (int op = 0; op < kCompareCount; ++op) {
    CAPTURE(op);
    std::vector<uint8_t> holds(static_cast<size_t>(n));
    oracle().compare(Compare(op), s, to_double(a).data(), to_double(b).data(), holds.data());
    Array<uint8_t> device_holds(n, shift);
    k.compare(Compare(op), s, device_a.get(), device_b.get(), device_holds.get());
    CHECK(device_holds.values() == holds);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("comparisons and select, same shape and broadcast", T, EACH_TYPE) {
  for (int64_t shift : {0, 1}) {
    for (int64_t n : {0, 1, 3, 4100})
      for (const bool scalar : {false, true}) {
        check_choice<T>({n}, {true}, {!scalar}, {true}, shift);
        check_choice<T>({n}, {!scalar}, {true}, {true}, shift);
      }
    for (int64_t channels : some({1, 3, 8, 24, 1000}))
      for (int64_t rows : some({1, 3, 50})) {
        check_choice<T>({rows, channels}, {true, true}, {false, true}, {true, false}, shift);
        check_choice<T>({rows, channels}, {true, false}, {true, true}, {false, true}, shift);
      }
  }
  check_choice<T>({}, {}, {}, {}, 0);
  check_choice<T>({3, 49, 24}, {true, false, true}, {false, true, true}, {true, true, false}, 0);
}

TEST_CASE_TEMPLATE("comparisons and select on random shapes", T, EACH_TYPE) {
  for (int trial = 0; trial < (light() ? 10 : 40); ++trial) {
    std::vector<bool> in_a, in_b, in_c;
    const std::vector<int64_t> size = random_shape({&in_a, &in_b, &in_c});
    check_choice<T>(size, in_a, in_b, in_c, pick(0, 3) == 0);
  }
}

TEST_CASE_TEMPLATE("comparisons at the limits", T, EACH_TYPE) {
  const Doubles special{0, -0.0, 1, -1, kInf, -kInf, kNaN};
  Broadcast s = broadcast({7, 7}, {true, false}, {false, true});
  Array<T> device_x(narrow<T>(special));
  for (int op = 0; op < kCompareCount; ++op) {
    CAPTURE(op);
    std::vector<uint8_t> holds(49);
    oracle().compare(Compare(op), s, special.data(), special.data(), holds.data());
    Array<uint8_t> device_holds(49);
    cuda::table<T>().compare(Compare(op), s, device_x.get(), device_x.get(), device_holds.get());
    CHECK(device_holds.values() == holds);
  }
}

TEST_CASE_TEMPLATE("powers", T, EACH_TYPE) {
  const auto special = narrow<T>({0, -0.0, 1, -1, 2, -2, kInf, -kInf, kNaN, 0.25, -8});
  for (double p : {0.0, 1.0, 2.0, 3.0, 0.5, -0.5, -1.0, -2.0, -3.0, 5.0, 1.5, -1.25, kInf, -kInf, kNaN})
    for (int64_t n : sizes()) {
      CAPTURE(p);
      CAPTURE(n);
      auto x = random<T>(n, 0.5, 2);
      for (size_t i = 0; i < x.size(); i += 2) x[i] = T(-float(x[i]));
      if (x.size() > special.size()) std::copy(special.begin(), special.end(), x.begin());
      Doubles y(x.size());
      oracle().pow(p, n, to_double(x).data(), y.data());
      Array<T> device_x(x), device_y(n);
      const auto& k = cuda::table<T>();
      k.pow(float(p), n, device_x.get(), device_y.get());
      CHECK_NEAR(T, device_y.values(), y);
      k.pow(float(p), n, device_x.get(), device_x.get());
      CHECK(same_bits(device_x.values(), device_y.values()));
    }
}

TEST_CASE_TEMPLATE("affine", T, EACH_TYPE) {
  for (int64_t n : sizes()) {
    const auto x = random<T>(n);
    Doubles y(x.size());
    oracle().affine(n, 0.75, -2.5, to_double(x).data(), y.data());
    Array<T> device_x(x), device_y(n);
    cuda::table<T>().affine(n, 0.75f, -2.5f, device_x.get(), device_y.get());
    CHECK_NEAR(T, device_y.values(), y);
  }
}

TEST_CASE_TEMPLATE("choose_backward", T, EACH_TYPE) {
  for (int64_t n : sizes())
    for (int64_t shift : {0, 1}) {
      auto a = random<T>(n), b = random<T>(n);
      for (size_t i = 0; i < a.size(); i += 4) a[i] = b[i];
      if (n > 3) a[1] = T(kNaN), b[3] = T(kNaN);
      const auto dy = random<T>(n);
      Doubles y(a.size()), da(a.size()), db(a.size());
      oracle().binary(Binary::maximum, broadcast({n}, {true}, {true}), to_double(a).data(),
                      to_double(b).data(), y.data());
      oracle().choose_backward(n, to_double(a).data(), to_double(b).data(), y.data(), to_double(dy).data(),
                               da.data(), db.data());
      Array<T> device_a(a, shift), device_b(b, shift), device_y(narrow<T>(y), shift), device_dy(dy, shift);
      Array<T> device_da(n, shift), device_db(n, shift);
      cuda::table<T>().choose_backward(n, device_a.get(), device_b.get(), device_y.get(), device_dy.get(),
                                       device_da.get(), device_db.get());
      CHECK_NEAR(T, device_da.values(), da);
      CHECK_NEAR(T, device_db.values(), db);
    }
}

TEST_CASE_TEMPLATE("every activation and its slope", T, EACH_TYPE) {
  const auto& k = cuda::table<T>();
  for (int i = 0; i < kActivationCount; i += light() ? 3 : 1) {
    const auto act = Activation(i);
    CAPTURE(std::string(activation_name(act)));
    const double param = activation_default_param(act);
    for (int64_t n : {int64_t{1}, int64_t{3}, int64_t{24}, int64_t{4096}, pick(4097, 9000)}) {
      CAPTURE(n);
      // Far below 0, some lose all relative accuracy in float: that may show in no norm of few elements.
      auto x = n < 24 ? random<T>(n, 0.5, 3) : random<T>(n, -8, 8);
      const auto dy = random<T>(n);
      // The limits; between 8 and 30 the functions change over to them.
      const auto special = narrow<T>({0, kInf, -kInf, kNaN, 12, -12, 25, -25, 100, -100, 60000, -60000});
      if (n >= 24) std::copy(special.begin(), special.end(), x.begin());
      Doubles y(x.size()), dx(x.size());
      oracle().activation(act, param, n, to_double(x).data(), y.data());
      oracle().activation_backward(act, param, n, to_double(x).data(), to_double(dy).data(), dx.data());
      // 60000 would hide the rest from a norm.
      const auto rest = [](auto v) {
        if (v.size() >= 24) v.erase(v.begin() + 8, v.begin() + 12);
        return v;
      };
      const auto first = [](auto v) {
        v.resize(std::min<size_t>(v.size(), 12));
        return v;
      };
      Array<T> device_x(x), device_dy(dy), device_y(n), device_dx(n);
      k.activation(act, float(param), n, device_x.get(), device_y.get());
      CHECK_NEAR(T, first(device_y.values()), first(y));
      CHECK_NEAR(T, rest(device_y.values()), rest(y));
      k.activation_backward(act, float(param), n, device_x.get(), device_dy.get(), device_dx.get());
      CHECK_NEAR(T, first(device_dx.values()), first(dx));
      CHECK_NEAR(T, rest(device_dx.values()), rest(dx));
      k.activation_backward(act, float(param), n, device_x.get(), device_dy.get(), device_dy.get());
      CHECK(same_bits(device_dy.values(), device_dx.values()));
      k.activation(act, float(param), n, device_x.get(), device_x.get());
      CHECK(same_bits(device_x.values(), device_y.values()));
    }
  }
}

TEST_CASE_TEMPLATE("every activation of a sum and its slope", T, EACH_TYPE) {
  const auto& k = cuda::table<T>();
  for (int i = 0; i < kActivationCount; i += light() ? 3 : 1) {
    const auto act = Activation(i);
    CAPTURE(std::string(activation_name(act)));
    const double param = activation_default_param(act);
    for (int64_t n : {int64_t{0}, int64_t{3}, int64_t{24}, pick(4097, 9000)})
      for (const int64_t shift : {0, 1}) {
        CAPTURE(n);
        CAPTURE(shift);
        auto a = n < 24 ? random<T>(n, 0.25, 1.5) : random<T>(n, -4, 4), b = n < 24 ? a : random<T>(n, -4, 4);
        if (n >= 24) {
          const auto special = narrow<T>({kInf, -kInf, kNaN, 0, 1, -1});
          std::copy(special.begin(), special.end(), a.begin());
        }
        const auto dy = random<T>(n);
        Doubles z = to_double(a), y(a.size()), g(a.size());
        for (size_t j = 0; j < z.size(); ++j) z[j] += double(b[j]);
        oracle().activation(act, param, n, z.data(), y.data());
        oracle().activation_backward(act, param, n, z.data(), to_double(dy).data(), g.data());
        Array<T> device_a(a, shift), device_b(b), device_dy(dy, shift), device_y(n), device_g(n, shift);
        k.add_activation(act, float(param), n, device_a.get(), device_b.get(), device_y.get());
        CHECK_NEAR(T, device_y.values(), y);
        k.add_activation_backward(act, float(param), n, device_a.get(), device_b.get(), device_dy.get(),
                                  device_g.get());
        CHECK_NEAR(T, device_g.values(), g);
        k.add_activation_backward(act, float(param), n, device_a.get(), device_b.get(), device_dy.get(),
                                  device_dy.get());
        CHECK(same_bits(device_dy.values(), device_g.values()));
        k.add_activation(act, float(param), n, device_a.get(), device_b.get(), device_a.get());
        CHECK(same_bits(device_a.values(), device_y.values()));
      }
  }
}

TEST_CASE_TEMPLATE("the second derivative of every activation", T, EACH_TYPE) {
  const auto& k = cuda::table<T>();
  for (int i = 0; i < kActivationCount; i += light() ? 3 : 1) {
    const auto act = Activation(i);
    CAPTURE(std::string(activation_name(act)));
    const double param = activation_default_param(act);
    for (int64_t n : {int64_t{1}, int64_t{24}, pick(4097, 9000)}) {
      CAPTURE(n);
      auto x = random<T>(n, -8, 8);
      const auto w = random<T>(n);
      const auto special = narrow<T>({0, kInf, -kInf, kNaN, 12, -12, 25, -25, 100, -100, 60000, -60000});
      if (n >= 24) std::copy(special.begin(), special.end(), x.begin());
      Doubles z(x.size());
      oracle().activation_curvature(act, param, n, to_double(x).data(), to_double(w).data(), z.data());
      Array<T> device_x(x), device_w(w), device_z(n);
      k.activation_curvature(act, float(param), n, device_x.get(), device_w.get(), device_z.get());
      const auto found = device_z.values();
      // Of the weight: some curvatures are smaller than what rounding leaves of their terms. f16 ends at
      // 2^-24.
      int wrong = 0;
      for (size_t j = 0; j < found.size(); ++j)
        wrong +=
            std::isnan(z[j])
                ? !std::isnan(float(found[j]))
                : !(std::abs(double(found[j]) - z[j]) <= kTolerance<T> * std::abs(double(w[j])) + 0x1p-24);
      CHECK_MESSAGE(wrong == 0, generator().seed());
      k.activation_curvature(act, float(param), n, device_x.get(), device_w.get(), device_w.get());
      CHECK(same_bits(device_w.values(), found));
    }
  }
}

TEST_CASE_TEMPLATE("dropout keeps what the stream of the key says", T, EACH_TYPE) {
  for (int64_t n : sizes())
    for (int64_t shift : {0, 1})
      for (double p : {0.0, 0.1, 0.5, 0.9, 1 - 1e-12}) {
        CAPTURE(n);
        CAPTURE(p);
        const uint64_t key = uint64_t(pick(0, int64_t{1} << 60)) << 3 | 5;
        auto x = random<T>(n, 0.5, 1);
        if (n > 100) x[100] = T(kNaN);
        Doubles y(x.size());
        oracle().dropout(n, p, &key, to_double(x).data(), y.data());
        Array<T> device_x(x, shift), device_y(n, shift);
        DeviceArray<uint64_t> device_key(std::vector<uint64_t>{key});
        cuda::table<T>().dropout(n, p, device_key.data(), device_x.get(), device_y.get());
        const auto got = device_y.values();
        CHECK_NEAR(T, got, y);
        bool same_mask = true;
        for (size_t i = 0; i < got.size(); ++i)
          same_mask = same_mask && (float(got[i]) != 0) == dropout_keep(key, int64_t(i), p);
        CHECK(same_mask);
        cuda::table<T>().dropout(n, p, device_key.data(), device_x.get(), device_x.get());
        CHECK(same_bits(device_x.values(), got));
      }
}

// --- reductions ---

namespace {

template <class T>
void check_reduce(int64_t outer, int64_t count, int64_t inner, int64_t shift = 0) {
  CAPTURE(outer);
  CAPTURE(count);
  CAPTURE(inner);
  CAPTURE(shift);
  const int64_t n = outer * count * inner;
  const auto x = random<T>(n, -0.5, 1);  // no sum near 0, where nothing is left to compare with
  Array<T> device_x(x, shift);
  // The same with a NaN, or infinities of both signs, here and there.
  auto odd = x;
  for (int64_t i = 0; i < n / 500; ++i)
    odd[size_t(pick(0, n - 1))] = T(i % 3 == 0 ? kNaN : i % 3 == 1 ? kInf : -kInf);
  Array<T> device_odd(odd, shift);
  for (Reduce op : {Reduce::sum, Reduce::max, Reduce::min}) {
    CAPTURE(int(op));
    Doubles y(static_cast<size_t>(outer * inner));
    Array<T> device_y(outer * inner, shift), again(outer * inner, shift);
    oracle().reduce(op, outer, count, inner, to_double(x).data(), y.data());
    cuda::table<T>().reduce(op, outer, count, inner, device_x.get(), device_y.get());
    CHECK_NEAR(T, device_y.values(), y);
    cuda::table<T>().reduce(op, outer, count, inner, device_x.get(), again.get());
    CHECK(same_bits(again.values(), device_y.values()));
    if (n < 500) continue;
    oracle().reduce(op, outer, count, inner, to_double(odd).data(), y.data());
    cuda::table<T>().reduce(op, outer, count, inner, device_odd.get(), device_y.get());
    CHECK_NEAR(T, device_y.values(), y);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("reduce along rows", T, EACH_TYPE) {
  for (int64_t cols : some({0, 1, 2, 3, 8, 10, 24, 33, 64, 100, 513, 1000, 1024}))
    for (int64_t rows : {1, 3, 70})
      for (int64_t shift : {0, 1}) check_reduce<T>(rows, cols, 1, shift);
  // Rows that a block or several share.
  for (int64_t shift : {0, 1, 3}) {
    check_reduce<T>(1, 5000, 1, shift);
    check_reduce<T>(3, 8197, 1, shift);
    check_reduce<T>(1, 100000 + pick(0, 9), 1, shift);
    check_reduce<T>(2, 70001, 1, shift);
  }
  check_reduce<T>(1, 8 * 4096 + 1, 1, 1);  // one element for the last block (two sizes: float and 16 bits)
  check_reduce<T>(1, 8 * 8192 + 1, 1, 1);
  check_reduce<T>(1, 1 << 20, 1);
  check_reduce<T>(0, 5, 1);
}

TEST_CASE_TEMPLATE("reduce across rows", T, EACH_TYPE) {
  for (int64_t inner : some({2, 3, 8, 10, 24, 64, 100, 512}))
    for (int64_t count : some({0, 1, 2, 5, 33, 300}))
      for (int64_t outer : {1, 3}) check_reduce<T>(outer, count, inner, pick(0, 3) == 0);
  check_reduce<T>(1, 20000, 8);  // bias gradients
  check_reduce<T>(1, 9000, 24);
  check_reduce<T>(1, 3001, 64);
  check_reduce<T>(1, 30011, 3, 1);
  check_reduce<T>(2, 9000, 10);
  check_reduce<T>(1, 1000, 520);
  check_reduce<T>(1, 2, 9000);  // few rows
  check_reduce<T>(3, 3, 2050);
  check_reduce<T>(300, 4, 8);  // many small ones
  check_reduce<T>(70, 16, 48);
  check_reduce<T>(0, 5, 3);
}

TEST_CASE_TEMPLATE("reduce on random shapes", T, EACH_TYPE) {
  for (int trial = 0; trial < (light() ? 15 : 60); ++trial) {
    const int64_t outer = pick(1, 40), count = pick(1, 1 + 20000 / outer / 8), inner = pick(1, 24);
    check_reduce<T>(outer, count, pick(0, 1) ? inner : 1, pick(0, 1));
  }
}

TEST_CASE_TEMPLATE("argmax takes the first maximum, and the first NaN before it", T, EACH_TYPE) {
  for (int64_t cols : {0, 1, 3, 10, 32, 33, 1000, 5000})
    for (int64_t rows : {0, 1, 3, 20}) {
      CAPTURE(cols);
      CAPTURE(rows);
      std::vector<T> x;
      for (int64_t i = 0; i < rows * cols; ++i) x.push_back(T(float(pick(-20, 20))));  // many ties
      for (int64_t r = 0; r < rows && cols > 0; ++r) {
        const auto at = size_t(r * cols), last = at + size_t(cols) - 1;
        if (r % 5 == 1) x[size_t(pick(int64_t(at), int64_t(last)))] = T(kNaN);
        if (r % 5 == 2) std::fill_n(x.begin() + r * cols, cols, T(-kInf));
        if (r % 5 == 3) x[at] = T(kNaN);
        if (r % 5 == 4) std::fill_n(x.begin() + r * cols, cols, T(kNaN));
      }
      std::vector<int64_t> y(static_cast<size_t>(rows));
      oracle().argmax(rows, cols, to_double(x).data(), y.data());
      Array<T> device_x(x, pick(0, 1));
      Array<int64_t> device_y(rows);
      cuda::table<T>().argmax(rows, cols, device_x.get(), device_y.get());
      CHECK(device_y.values() == y);
    }
}

// --- memory ---

namespace {

template <class U>
std::vector<U> numbered(int64_t n) {
  std::vector<U> v(static_cast<size_t>(n));
  for (size_t i = 0; i < v.size(); ++i) v[i] = U(i * 2654435761u >> 7);
  return v;
}

/// Copies a view with these sizes and strides of an array of `stored` elements, from its element `first` on.
template <class U>
void check_permute(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides, int64_t stored,
                   int64_t first = 0, int64_t shift = 0) {
  std::string text;
  for (size_t d = 0; d < sizes.size(); ++d)
    text += std::to_string(sizes[d]) + ":" + std::to_string(strides[d]) + " ";
  CAPTURE(text);
  CAPTURE(first);
  CAPTURE(shift);
  CAPTURE(sizeof(U));
  const auto x = numbered<U>(stored);
  std::vector<U> want;
  const int64_t n = std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
  for (int64_t i = 0; i < n; ++i) {
    int64_t rest = i, from = first;
    for (size_t d = sizes.size(); d-- > 0; rest /= sizes[d]) from += rest % sizes[d] * strides[d];
    want.push_back(x[size_t(from)]);
  }
  Array<U> device_x(x, shift), device_y(n, shift);
  cuda::permute(sizeof(U), int(sizes.size()), sizes.data(), strides.data(), device_x.get() + first,
                device_y.get());
  CHECK(device_y.values() == want);
}

/// A dense array of these sizes with its dimensions in another order.
template <class U>
void check_permute_order(const std::vector<int64_t>& sizes, const std::vector<size_t>& order,
                         int64_t shift = 0) {
  std::vector<int64_t> dense(sizes.size()), to, strides;
  int64_t n = 1;
  for (size_t d = sizes.size(); d-- > 0; n *= sizes[d]) dense[d] = n;
  for (size_t d : order) {
    to.push_back(sizes[d]);
    strides.push_back(dense[d]);
  }
  check_permute<U>(to, strides, n, 0, shift);
}

}  // namespace

TEST_CASE_TEMPLATE("permute", U, uint8_t, uint16_t, uint32_t, uint64_t) {
  check_permute<U>({}, {}, 1);
  check_permute<U>({0}, {1}, 4);
  check_permute<U>({4000}, {1}, 4000);
  for (int64_t shift : {0, 1}) {
    check_permute_order<U>({64, 64}, {1, 0}, shift);
    check_permute_order<U>({70, 130}, {1, 0}, shift);
    check_permute_order<U>({33, 97}, {1, 0}, shift);
    check_permute_order<U>({3, 50, 72}, {0, 2, 1}, shift);  // batches
    check_permute_order<U>({5, 20, 34}, {2, 1, 0}, shift);
    check_permute_order<U>({2, 7, 9, 24}, {0, 3, 1, 2}, shift);  // NHWC to NCHW
    check_permute_order<U>({2, 24, 7, 9}, {0, 2, 3, 1}, shift);
    check_permute_order<U>({2, 3, 33, 31}, {0, 2, 3, 1}, shift);
    check_permute_order<U>({6, 5, 48}, {1, 0, 2}, shift);  // dense rows
    check_permute_order<U>({6, 5, 3}, {1, 0, 2}, shift);
  }
  check_permute<U>({40, 24}, {100, 1}, 4000, 8);  // columns 8 to 32 of 100
  check_permute<U>({40, 24}, {100, 1}, 4000, 7);
  check_permute<U>({30, 50}, {0, 1}, 50);  // broadcast
  check_permute<U>({30, 50}, {1, 0}, 30);
  check_permute<U>({2, 40, 50}, {50, 0, 1}, 100);
  check_permute<U>({9, 50}, {50, -1}, 450, 49);  // back to front
  check_permute<U>({9, 64}, {-64, 1}, 576, 512);
  check_permute<U>({40, 36}, {1, -40}, 1440, 1400);
  check_permute<U>({1000}, {3}, 3000, 1);
  check_permute<U>({32, 32, 2}, {128, 2, 1}, 4096, 4);
}

TEST_CASE_TEMPLATE("permute of random dimensions", U, uint8_t, uint16_t, uint32_t, uint64_t) {
  for (int trial = 0; trial < 60; ++trial) {
    std::vector<int64_t> sizes;
    int64_t n = 1;
    const int64_t ndim = pick(1, kMaxDims);
    for (int64_t d = 0; d < ndim; ++d) {
      sizes.push_back(pick(1, std::max<int64_t>(1, std::min<int64_t>(40, 9000 / n))));
      n *= sizes.back();
    }
    std::vector<size_t> order(sizes.size());
    std::iota(order.begin(), order.end(), size_t{0});
    for (size_t d = sizes.size() - 1; d > 0; --d) {
      std::swap(sizes[d], sizes[size_t(pick(0, int64_t(d)))]);
      std::swap(order[d], order[size_t(pick(0, int64_t(d)))]);
    }
    check_permute_order<U>(sizes, order, pick(0, 2) == 0);
  }
}

TEST_CASE("permute names what it can't do") {
  const int64_t sizes[] = {2, 3}, strides[] = {1, 2};
  int memory[6] = {};
  CHECK_THROWS_WITH_AS(cuda::permute(3, 2, sizes, strides, memory, memory),
                       "cuda::permute: elements of 3 bytes; 1, 2, 4 and 8 are possible", cuda::Error);
  CHECK_THROWS_AS(cuda::permute(4, 9, sizes, strides, memory, memory), cuda::Error);
}

TEST_CASE_TEMPLATE("fill", U, uint8_t, uint16_t, uint32_t, uint64_t) {
  for (int64_t n : {0, 1, 3, 15, 16, 17, 4096, 20000})
    for (int64_t shift : {0, 1, 3}) {
      CAPTURE(n);
      CAPTURE(shift);
      const U value = U(0x1234567890abcdefull);
      Array<U> y(n, shift);
      cuda::fill(sizeof(U), n, &value, y.get());
      CHECK(y.values() == std::vector<U>(size_t(n), value));
    }
}

namespace {

template <class From, class To>
void check_convert() {
  CAPTURE(sizeof(From));
  CAPTURE(sizeof(To));
  for (int64_t n : {0, 1, 3, 8, 1025, 5000})
    for (int64_t shift : {0, 1}) {
      std::vector<From> x;
      std::vector<To> want;
      for (int64_t i = 0; i < n; ++i) {
        // Whole numbers and halves; what uint8_t and the 16-bit types hold.
        double v = double(pick(0, 400)) / 2;
        if constexpr (!std::is_same_v<From, uint8_t> && !std::is_same_v<To, uint8_t>) v -= 100;
        if constexpr (std::is_integral_v<From>) v = std::trunc(v);
        x.push_back(From(v));
        const double rounded = double(x.back());
        want.push_back(std::is_integral_v<To> ? To(std::trunc(rounded)) : To(rounded));
      }
      Array<From> device_x(x, shift);
      Array<To> device_y(n, shift);
      cuda::convert(n, device_x.get(), device_y.get());
      CHECK(same_bits(device_y.values(), want));
    }
}
template <class From>
void check_convert_from() {
  check_convert<From, float>();
  check_convert<From, bf16>();
  check_convert<From, f16>();
  check_convert<From, int64_t>();
  check_convert<From, uint8_t>();
}

}  // namespace

TEST_CASE("convert between all types") {
  check_convert_from<float>();
  check_convert_from<bf16>();
  check_convert_from<f16>();
  check_convert_from<int64_t>();
  check_convert_from<uint8_t>();
}

TEST_CASE("convert rounds, and keeps NaN and infinity") {
  const auto x = random<float>(3000, -10, 10);
  Array<float> device_x(x);
  Array<bf16> device_y(3000);
  cuda::convert(3000, device_x.get(), device_y.get());
  CHECK(same_bits(device_y.values(), narrow<bf16>(to_double(x))));
  const std::vector<float> special{float(kNaN), float(kInf), -float(kInf), 1e30f};
  Array<float> device_special(special);
  Array<f16> device_half(4);
  cuda::convert(4, device_special.get(), device_half.get());
  const auto half = device_half.values();
  CHECK(std::isnan(float(half[0])));
  CHECK(float(half[1]) == kInf);
  CHECK(float(half[2]) == -kInf);
  CHECK(float(half[3]) == kInf);
  // Whole numbers that no float holds.
  const std::vector<int64_t> large{(int64_t{1} << 24) + 1, -(int64_t{1} << 40) - 1, 3000000000};
  Array<int64_t> device_large(large);
  Array<uint8_t> device_bytes(3);
  cuda::convert(3, device_large.get(), device_bytes.get());
  CHECK(device_bytes.values() == std::vector<uint8_t>{1, 255, 0});
}

// --- the walks behind them, as plain functions ---

TEST_CASE("a Divisor divides") {
  std::vector<uint32_t> numbers{1, 2, 3, 5, 7, 10, 641, 65535, 65536, 65537, 0x7ffffffe, 0x7fffffff};
  for (int i = 0; i < 200; ++i) numbers.push_back(uint32_t(pick(1, 0x7fffffff)) >> pick(0, 30) | 1u);
  for (uint32_t d : numbers) {
    const cuda::Divisor divisor(d);
    for (uint32_t n : numbers)
      for (uint32_t m : {n - 1, n, uint32_t(uint64_t(n) / d * d), uint32_t(uint64_t(n) / d * d) - (n >= d)}) {
        CAPTURE(d);
        CAPTURE(m);
        REQUIRE(divisor.divide(m) == m / d);
      }
  }
}

TEST_CASE("parts of a strided shape cover it in order") {
  for (int trial = 0; trial < 200; ++trial) {
    cuda::Strided<2> s;
    s.ndim = int(pick(1, 4));
    for (int d = 0; d < s.ndim; ++d) {
      s.size[size_t(d)] = pick(1, 6);
      s.stride[0][size_t(d)] = pick(0, 50);
      s.stride[1][size_t(d)] = pick(-50, 50);
    }
    const auto offsets = [](const cuda::Strided<2>& part, int64_t first, int64_t second) {
      std::vector<std::pair<int64_t, int64_t>> list;
      const cuda::Walk<2> walk(part);
      for (int64_t i = 0; i < part.count(); ++i) {
        int64_t offset[2];
        walk.offsets(uint32_t(i), offset);
        list.emplace_back(first + offset[0], second + offset[1]);
      }
      return list;
    };
    const auto whole = offsets(s, 0, 0);
    std::vector<std::pair<int64_t, int64_t>> by_hand;
    for (int64_t i = 0; i < s.count(); ++i) {
      int64_t rest = i, first = 0, second = 0;
      for (int d = s.ndim - 1; d >= 0; rest /= s.size[size_t(d)], --d) {
        first += rest % s.size[size_t(d)] * s.stride[0][size_t(d)];
        second += rest % s.size[size_t(d)] * s.stride[1][size_t(d)];
      }
      by_hand.emplace_back(first, second);
    }
    CHECK(whole == by_hand);
    const int64_t limit = pick(1, 40);
    std::vector<std::pair<int64_t, int64_t>> joined;
    cuda::each_part(
        s,
        [&](const cuda::Strided<2>& part, int64_t start, const std::array<int64_t, 2>& offset) {
          CHECK(part.count() <= limit);
          CHECK(start == int64_t(joined.size()));
          const auto list = offsets(part, offset[0], offset[1]);
          joined.insert(joined.end(), list.begin(), list.end());
        },
        limit);
    CHECK(joined == whole);
    cuda::Strided<2> collapsed = s;
    collapsed.collapse();
    CHECK(collapsed.ndim <= s.ndim);
    CHECK(offsets(collapsed, 0, 0) == whole);
  }
}

TEST_CASE("dimensions that are walked as one become one") {
  // [5, 1, 6, 7] dense, and the same with one number for each 42 elements.
  cuda::Strided<2> s{4, {5, 1, 6, 7}, {{{42, 42, 7, 1}, {1, 0, 0, 0}}}};
  s.collapse();
  CHECK(s.ndim == 2);
  CHECK(s.size[0] == 5);
  CHECK(s.size[1] == 42);
  CHECK(s.stride[0][0] == 42);
  CHECK(s.stride[0][1] == 1);
  CHECK(s.stride[1][0] == 1);
  CHECK(s.stride[1][1] == 0);
}

namespace {

/// More conversions than one launch takes, of all sorts of sizes and alignments.
template <class From, class To>
void check_convert_all() {
  std::vector<std::vector<From>> values;
  std::vector<std::unique_ptr<DeviceArray<From>>> from;
  std::vector<std::unique_ptr<DeviceArray<To>>> to;
  std::vector<cuda::Conversion<From, To>> list;
  for (int i = 0; i < 250; ++i) {
    const int64_t n = i == 1        ? 0
                      : i % 50 == 7 ? 4096 * 2 + generator().below(4096)
                                    : 1 + generator().below(40);
    values.push_back(generator().template normal<From>(n));
    from.push_back(std::make_unique<DeviceArray<From>>(values.back(), i % 3));
    to.push_back(std::make_unique<DeviceArray<To>>(n, i % 2));
    list.push_back({from.back()->data(), to.back()->data(), n});
  }
  cuda::convert_all(std::span<const cuda::Conversion<From, To>>(list));
  for (size_t i = 0; i < list.size(); ++i) {
    CAPTURE(list[i].n);
    Doubles expected;
    for (const From& v : values[i]) expected.push_back(double(To(float(v))));
    CHECK(to_double(to[i]->host()) == expected);
  }
}

}  // namespace

TEST_CASE("many conversions at once") {
  INFO(generator().seed());
  check_convert_all<float, bf16>();
  check_convert_all<float, f16>();
  check_convert_all<bf16, float>();
  check_convert_all<f16, float>();
}
