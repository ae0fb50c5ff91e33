// gather, scatter_add, argsort and cumsum on the GPU against the reference in double.
#include <cmath>
#include <limits>
#include <vector>

#include "support/device_arrays.h"
#include "support/light.h"
#include "weft/kernels/cuda.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

/// An index that names places of [0, size), and some outside.
std::vector<int64_t> any_index(Random& random, int64_t n, int64_t size) {
  std::vector<int64_t> index;
  for (int64_t i = 0; i < n; ++i) index.push_back(random.below(size + 2) - 1);
  return index;
}

struct GatherShape {
  int64_t outer, size, count, inner;
};

/// gather and scatter_add of one shape; pointers `skip` elements into their memory.
template <class T>
void check_gather(Random& random, const GatherShape& s, bool for_each, int64_t skip) {
  CAPTURE(s.outer);
  CAPTURE(s.size);
  CAPTURE(s.count);
  CAPTURE(s.inner);
  CAPTURE(for_each);
  CAPTURE(skip);
  const int64_t in_x = s.outer * s.size * s.inner, in_y = s.outer * s.count * s.inner;
  const std::vector<int64_t> index = any_index(random, for_each ? in_y : s.count, s.size);
  const std::vector<T> x = random.normal<T>(in_x), src = random.normal<T>(in_y);
  DeviceArray<int64_t> index_d(index);
  GatherArgs a{s.outer, s.size, s.count, s.inner, index.data(), for_each, s.size / 2};
  std::vector<double> y(src.size()), sums = to_double(x);
  reference<double>().gather(a, to_double(x).data(), y.data());
  reference<double>().scatter_add(a, to_double(src).data(), sums.data());
  DeviceArray<T> x_d(x, skip), y_d(in_y, skip), src_d(src, skip);
  a.index = index_d.data();
  cuda::table<T>().gather(a, x_d.data(), y_d.data());
  CHECK(distance(y_d.host(), y) == 0);
  cuda::table<T>().scatter_add(a, src_d.data(), x_d.data());
  CHECK(distance(x_d.host(), sums) < kTolerance<T>);
}

/// Numbers with many ties, zeros of both signs, infinities and NaN among them.
template <class T>
std::vector<T> with_ties(Random& random, int64_t n) {
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const float special[] = {0.0f, -0.0f, inf, -inf, nan, -nan, 1.0f, -1.0f};
  std::vector<T> x = random.normal<T>(n);
  for (T& v : x)
    if (random.below(3) == 0) v = T(special[random.below(8)]);
  return x;
}

template <class T>
void check_argsort(int64_t outer, int64_t size, int64_t inner, int64_t k, const std::vector<T>& x) {
  CAPTURE(outer);
  CAPTURE(size);
  CAPTURE(inner);
  CAPTURE(k);
  const std::vector<double> xd = to_double(x);
  DeviceArray<T> x_d(x);
  for (const bool descending : {false, true}) {
    CAPTURE(descending);
    std::vector<int64_t> index(size_t(outer * k * inner));
    reference<double>().argsort(outer, size, inner, k, descending, xd.data(), index.data());
    DeviceArray<int64_t> index_d(outer * k * inner);
    cuda::table<T>().argsort(outer, size, inner, k, descending, x_d.data(), index_d.data());
    CHECK(index_d.host() == index);
  }
}

/// The largest difference of the sums, where those of the absolute values count as 1.
template <class T>
double error_of_sums(const std::vector<T>& y, const std::vector<double>& sums,
                     const std::vector<double>& absolute) {
  double most = 0;
  for (size_t i = 0; i < y.size(); ++i)
    most = std::fmax(most, std::fabs(double(y[i]) - sums[i]) / absolute[i]);
  return most;
}

template <class T>
void check_cumsum(Random& random, int64_t outer, int64_t size, int64_t inner, int64_t skip) {
  CAPTURE(outer);
  CAPTURE(size);
  CAPTURE(inner);
  CAPTURE(skip);
  const std::vector<T> x = random.normal<T>(outer * size * inner, 0.1);
  const std::vector<double> xd = to_double(x);
  std::vector<double> sizes = xd, sums(x.size()), absolute(x.size());
  for (double& v : sizes) v = std::fabs(v) + 1e-3;
  for (const bool reverse : {false, true}) {
    CAPTURE(reverse);
    reference<double>().cumsum(outer, size, inner, reverse, xd.data(), sums.data());
    reference<double>().cumsum(outer, size, inner, reverse, sizes.data(), absolute.data());
    DeviceArray<T> x_d(x, skip), y_d(int64_t(x.size()), skip);
    cuda::table<T>().cumsum(outer, size, inner, reverse, x_d.data(), y_d.data());
    CHECK(error_of_sums(y_d.host(), sums, absolute) < kTolerance<T>);
    cuda::table<T>().cumsum(outer, size, inner, reverse, x_d.data(), x_d.data());
    CHECK(same_bits(x_d.host(), y_d.host()));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("gather, and sums back in order", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  // Wide and not, narrow rows and wide ones, indices of one tile of the sort and of several.
  const GatherShape shapes[] = {{1, 1, 1, 1},      {1, 9, 3, 1},   {3, 5, 8, 1},     {2, 500, 100, 16},
                                {1, 9, 100, 300},  {2, 7, 30, 5},  {1, 40, 2049, 8}, {1, 3000, 5000, 1},
                                {2, 300, 2500, 3}, {700, 3, 1, 1}, {5, 1, 40, 64}};
  for (const GatherShape& s : shapes)
    for (const bool for_each : {false, true}) {
      check_gather<T>(random, s, for_each, 0);
      check_gather<T>(random, s, for_each, 1);
    }
  check_gather<T>(random, {70'000, 3, 1, 1}, true, 0);
  check_gather<T>(random, {1, 3, 2, 70'000}, true, 0);
  check_gather<T>(random, {70'000, 3, 2, 1}, false, 0);
}

TEST_CASE_TEMPLATE("scatter_add: in the order of the index, rounded once", T, float, bf16, f16) {
  // In float 2^24 takes up what came before it and each 1; in T so would 2048.
  const float big = sizeof(T) == 2 ? 2048.0f : 0x1p24f;
  const std::vector<T> src = {T(big), T(1.0f), T(1.0f), T(-big), T(0.5f)};
  const float sum = sizeof(T) == 2 ? 2.75f : 0.5f;
  for (const bool for_each : {false, true}) {
    CAPTURE(for_each);
    DeviceArray<int64_t> index(std::vector<int64_t>{1, 1, 1, 1, 1});
    DeviceArray<T> src_d(src), y(std::vector<T>{T(3.0f), T(0.25f)});
    cuda::table<T>().scatter_add({1, 2, 5, 1, index.data(), for_each}, src_d.data(), y.data());
    CHECK(float(y.host()[0]) == 3.0f);
    CHECK(float(y.host()[1]) == sum);
  }
}

TEST_CASE("gather and scatter_add of nothing") {
  DeviceArray<float> x(std::vector<float>{1, 2, 3}), y(3);
  DeviceArray<int64_t> index(std::vector<int64_t>{0, 1, 2});
  const auto& k = cuda::table<float>();
  k.scatter_add({1, 3, 0, 1, index.data()}, y.data(), x.data());
  k.scatter_add({0, 3, 3, 1, index.data()}, y.data(), x.data());
  k.scatter_add({1, 0, 3, 1, index.data()}, x.data(), nullptr);
  CHECK(x.host() == std::vector<float>{1, 2, 3});
  k.gather({1, 3, 0, 1, index.data()}, x.data(), y.data());
  k.gather({1, 0, 3, 1, index.data()}, nullptr, y.data());
  for (const float v : y.host()) CHECK(std::isnan(v));
  DeviceArray<int64_t> order(1);
  k.argsort(0, 3, 1, 3, false, x.data(), order.data());
  k.argsort(1, 0, 1, 0, false, x.data(), order.data());
  k.argsort(1, 3, 1, 0, false, x.data(), order.data());
  CHECK(order.host()[0] == -77);
  k.cumsum(0, 3, 1, false, x.data(), x.data());
  k.cumsum(1, 0, 1, false, x.data(), x.data());
  CHECK(x.host() == std::vector<float>{1, 2, 3});
}

TEST_CASE_TEMPLATE("argsort: stable, NaN last or first", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for (const int64_t size : some({1, 2, 31, 33, 500, 1025, 2048, 5000}))
    for (const int64_t inner : {1, 3})
      for (const int64_t outer : {1, 4}) {
        if (outer > 1 && size > 1025) continue;
        const std::vector<T> x = with_ties<T>(random, outer * size * inner);
        check_argsort(outer, size, inner, size, x);
        if (size > 1) check_argsort(outer, size, inner, 1 + random.below(size - 1), x);
      }
  // The first few of many; runs that lose their partner at every level.
  check_argsort(1, 9000, 1, 5, with_ties<T>(random, 9000));
  check_argsort(2, 10'241, 1, 10'241, with_ties<T>(random, 20'482));
  check_argsort(1, 4097, 2, 3000, with_ties<T>(random, 8194));
  check_argsort(70'000, 3, 1, 3, with_ties<T>(random, 210'000));
  check_argsort(2, 3, 35'000, 2, with_ties<T>(random, 210'000));
}

TEST_CASE("argsort and scatter_add: more columns than scratch memory takes at once") {
  Random random;
  CAPTURE(random.seed());
  check_argsort(3, 2051, 180, 2051, with_ties<float>(random, 3 * 2051 * 180));
  check_gather<float>(random, {3, 5, 7, 60'000}, true, 0);
}

TEST_CASE_TEMPLATE("cumsum, from both ends and in place", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  // Rows of a warp and of a block, wide or not; columns of a team and of a thread.
  for (const int64_t size : {1, 7, 40, 64, 1000, 4096, 5003})
    for (const int64_t inner : {1, 3, 40})
      check_cumsum<T>(random, size > 1000 ? 1 : 3, size, inner, size == 1000 ? 1 : 0);
  check_cumsum<T>(random, 3, 70, 3000, 0);
  check_cumsum<T>(random, 70'000, 3, 1, 0);
  check_cumsum<T>(random, 1, 3, 70'000, 0);
}
