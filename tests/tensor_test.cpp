#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "support/errors.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/tensor.h"
#include "weft/kernels/parallel.h"

using namespace weft;

TEST_CASE("a tensor is a shared handle; reshaped views share its memory, clones do not") {
  const Tensor a = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor same = a, view = a.view({3, 2}), copy = a.clone();
  CHECK(same.is(a));
  CHECK(!view.is(a));
  a.data<float>()[1] = 20;
  CHECK(same.at(1) == 20);
  CHECK(view.at(1) == 20);
  CHECK(copy.at(1) == 2);
  CHECK(a.shape() == Shape{2, 3});
  CHECK(a.size(-1) == 3);
  CHECK(a.numel() == 6);
  CHECK(a.bytes() == 24);
  CHECK(a.to_string(3) == "f32 [2, 3] {1, 20, 3, ...}");
  CHECK(Tensor::from<int64_t>({1234567, -2}, {2}).to_string() == "i64 [2] {1234567, -2}");
  CHECK(reinterpret_cast<uintptr_t>(a.raw()) % 64 == 0);
}

TEST_CASE("reshape takes the shape of another tensor") {
  const Tensor x = Tensor::arange(0, 6), y = Tensor::zeros({3, 1, 2});
  CHECK(reshape(x, y.shape()).shape() == y.shape());
  CHECK(reshape(x, {2, -1}).shape() == Shape{2, 3});
  CHECK(reshape(Tensor::ones({1}), Shape{}).shape() == Shape{});
  const std::vector<int64_t> sizes = y.shape();
  CHECK(sizes == std::vector<int64_t>{3, 1, 2});
}

TEST_CASE("a part is the memory of some elements, with a shape of its own") {
  Tensor whole = Tensor::from<float>({0, 1, 2, 3, 4, 5, 6, 7}, {2, 4});
  const Tensor part = whole.part(2, {2, 2}), inner = part.part(1, {3}).view({1, 3});
  CHECK(part.to_vector<float>() == std::vector<float>{2, 3, 4, 5});
  CHECK(inner.to_vector<float>() == std::vector<float>{3, 4, 5});
  CHECK(part.bytes() == 16);
  inner.fill(-1);
  CHECK(whole.to_vector<float>() == std::vector<float>{0, 1, 2, -1, -1, -1, 6, 7});
  CHECK(part.clone().to_vector<float>() == std::vector<float>{2, -1, -1, -1});
  const Tensor handle = Tensor::zeros({2, 2});
  handle.set_data(part);
  CHECK(handle.at(0) == 2);
  CHECK(whole.part(8, {0, 3}).numel() == 0);
  CHECK(whole.part(0, {2, 4}).raw() == whole.raw());
  CHECK(!whole.unique());
  CHECK_ERROR(whole.part(5, {2, 2}), "part: [2, 2] from element 5 on is not within a tensor of shape [2, 4]");
  CHECK_ERROR(whole.part(-1, {2}), "part: [2] from element -1 on");
  whole = {};  // its memory stays
  CHECK(part.at(0) == 2);
}

TEST_CASE("conversion between dtypes") {
  const Tensor a = Tensor::from<double>({-1.5, 0, 2.75}, {3});
  CHECK(a.to(DType::f32).to_vector<float>() == std::vector<float>{-1.5F, 0, 2.75F});
  CHECK(a.to(DType::i64).to_vector<int64_t>() == std::vector<int64_t>{-1, 0, 2});
  CHECK(a.to(DType::f64).is(a));
  CHECK(Tensor::full({2}, 7, DType::u8).to(DType::f64).to_vector<double>() == std::vector<double>{7, 7});
}

TEST_CASE("scalars and empty tensors") {
  CHECK(Tensor::scalar(2.5, DType::f64).item() == 2.5);
  const Tensor none = Tensor::empty({0, 4});
  CHECK(none.numel() == 0);
  CHECK(none.to_vector<float>().empty());
  CHECK(!Tensor().defined());
}

TEST_CASE("errors name what is wrong") {
  const Tensor a = Tensor::zeros({2, 3});
  CHECK_ERROR(a.item(), "shape [2, 3] has 6 elements");
  CHECK_ERROR(a.at(6), "index 6 is out of range");
  CHECK_ERROR(a.data<double>(), "holds f32, not f64");
  CHECK_ERROR(a.view({4}), "[2, 3] has 6 elements, but [4] needs 4");
  CHECK_ERROR(a.size(2), "dimension 2 is out of range");
  CHECK_ERROR(a.copy_from(Tensor::zeros({3, 2})), "can't be copied");
  CHECK_ERROR(Tensor().shape(), "undefined");
  CHECK_ERROR(Tensor::from<float>({1, 2}, {3}), "2 values for shape [3]");
  CHECK_ERROR(Tensor::zeros({-1}), "negative size");
  CHECK_ERROR(Tensor::empty({int64_t{1} << 40, int64_t{1} << 40}), "too many elements");
  CHECK_ERROR(Tensor::zeros({1}, DType::i64).set_requires_grad(), "has no gradient");
  CHECK_ERROR(add(Tensor::zeros({1}, DType::bf16), Tensor::zeros({1}, DType::bf16)), "bf16");
}

TEST_CASE("memory that can't be had is an error, and the engine goes on") {
  CHECK_THROWS_AS(Tensor::empty({int64_t{1} << 50}), OutOfMemoryError);
  CHECK(Tensor::ones({4}).at(3) == 1);
}

TEST_CASE("the allocator reuses blocks and counts them") {
  empty_cache();
  const size_t before = memory_stats().in_use;
  reset_peak_memory();
  void* first;
  {
    const Tensor a = Tensor::empty({1000, 1000});
    first = a.raw();
    CHECK(memory_stats().in_use >= before + 4'000'000);
  }
  CHECK(memory_stats().in_use == before);
  CHECK(memory_stats().cached >= 4'000'000);
  CHECK(memory_stats().peak >= before + 4'000'000);
  CHECK(Tensor::empty({1000, 1000}).raw() == first);
  empty_cache();
  CHECK(memory_stats().cached == 0);
}

extern "C" [[gnu::weak]] void __asan_init();

TEST_CASE("freed neighbours become one block again, and blocks are cut to size") {
  // Under AddressSanitizer each block has a segment of its own and so no neighbours (engine/allocator.cpp).
  if (__asan_init) return;
  empty_cache();
  const auto megabytes = [](int64_t n) { return Tensor::empty({n << 20}, DType::u8); };
  Tensor a = megabytes(3), b = megabytes(5), c = megabytes(2), last = megabytes(1);
  const size_t reserved = memory_stats().in_use + memory_stats().cached;
  void* const begin = a.raw();
  for (Tensor* t : {&a, &c, &b}) *t = {};
  const Tensor whole = megabytes(10);
  CHECK(whole.raw() == begin);
  CHECK(memory_stats().in_use + memory_stats().cached == reserved);
  last = {};
  empty_cache();  // keeps what is live
  whole.fill(7);
  CHECK(whole.at((10 << 20) - 1) == 7);
}

TEST_CASE("random numbers: same seed, same bits, on any number of threads; right moments") {
  const int64_t n = 200'001;
  const auto draw = [&](int threads) {
    set_num_threads(threads);
    Generator g(7);
    return std::pair(Tensor::normal({n}, 1, 2, g), Tensor::uniform({n}, -1, 3, g));
  };
  const auto [normal, uniform] = draw(1);
  for (int threads : {2, 7}) {
    const auto [again, uniform_again] = draw(threads);
    CHECK(std::memcmp(normal.raw(), again.raw(), size_t(normal.bytes())) == 0);
    CHECK(std::memcmp(uniform.raw(), uniform_again.raw(), size_t(normal.bytes())) == 0);
  }
  set_num_threads(2);
  const auto moments = [](const Tensor& t) {
    double sum = 0, squares = 0;
    for (float v : t.to_vector<float>()) sum += v, squares += double(v) * v;
    const double mean = sum / double(t.numel());
    return std::pair(mean, squares / double(t.numel()) - mean * mean);
  };
  const auto [mean, variance] = moments(normal);
  CHECK(mean == doctest::Approx(1).epsilon(0.02));
  CHECK(variance == doctest::Approx(4).epsilon(0.02));
  const auto [umean, uvariance] = moments(uniform);
  CHECK(umean == doctest::Approx(1).epsilon(0.02));
  CHECK(uvariance == doctest::Approx(16.0 / 12).epsilon(0.02));
  const auto values = uniform.to_vector<float>();
  CHECK(*std::min_element(values.begin(), values.end()) >= -1);
  CHECK(*std::max_element(values.begin(), values.end()) < 3);
  // Between two numbers a few units in the last place apart, rounding would reach the upper one.
  const auto check_two_values = [](double unit, DType dtype) {
    Generator generator(5);
    const Tensor few = Tensor::uniform({33}, 1, 1 + 2 * unit, generator, dtype);
    int upper = 0;
    for (int64_t i = 0; i < few.numel(); ++i) {
      CHECK((few.at(i) == 1 || few.at(i) == 1 + unit));
      upper += few.at(i) != 1;
    }
    CHECK(upper > 16);
  };
  check_two_values(0x1p-23, DType::f32);
  check_two_values(0x1p-52, DType::f64);
  CHECK(Tensor::uniform({1}, 2, 2).item() == 2);
  CHECK_ERROR(Tensor::uniform({1}, 3, 2), "uniform: nothing lies between 3 and 2");
  CHECK_ERROR(Tensor::normal({1}, 0, -1), "normal: the standard deviation is -1");
  Generator a(1), b(2);
  CHECK(Tensor::normal({1}, 0, 1, a).at(0) != Tensor::normal({1}, 0, 1, b).at(0));
  CHECK(Tensor::normal({1}, 0, 1, a).at(0) != Tensor::normal({1}, 0, 1, a).at(0));
}

TEST_CASE("a random permutation holds each index once and differs by key") {
  const auto p = random_permutation(1000, 3);
  auto sorted = p;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int64_t> all(1000);
  std::iota(all.begin(), all.end(), 0);
  CHECK(sorted == all);
  CHECK(p != all);
  CHECK(p != random_permutation(1000, 4));
  CHECK(p == random_permutation(1000, 3));
  // Each of the 6 orders of 3 elements comes up about equally often.
  std::array<int, 27> count{};
  for (uint64_t key = 0; key < 6000; ++key) {
    const auto q = random_permutation(3, key);
    ++count[size_t(q[0] * 9 + q[1] * 3 + q[2])];
  }
  for (int c : count) CHECK((c == 0 || (c > 850 && c < 1150)));
}
