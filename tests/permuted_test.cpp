// permute on the CPU against plain indexing: orders, odd sizes, sizes of 1 and 0, element sizes.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "weft/engine/ops/permuted.h"
#include "weft/engine/random.h"

using namespace weft;

namespace {

void check_order(const Shape& shape, const std::vector<int>& order, DType dtype) {
  CAPTURE(shape.to_string());
  CAPTURE(Shape(std::vector<int64_t>(order.begin(), order.end())).to_string());
  Tensor x = Tensor::zeros(shape, DType::i64);
  std::iota(x.data<int64_t>(), x.data<int64_t>() + x.numel(), int64_t{1});
  const Tensor y = ops::permuted(x.to(dtype), order);
  REQUIRE(y.ndim() == shape.ndim());
  int64_t wrong = 0;
  for (int64_t i = 0; i < y.numel(); ++i) {
    int64_t rest = i, from = 0;
    for (int d = y.ndim() - 1; d >= 0; --d) {
      const int source = order[size_t(d)];
      from += rest % y.size(d) * shape.numel(source + 1, shape.ndim());
      rest /= y.size(d);
    }
    const double want = dtype == DType::u8 ? double((from + 1) % 256) : double(from + 1);
    wrong += y.at(i) != want;
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("permuted puts every element where plain indexing does") {
  Generator generator(1);
  for (int round = 0; round < 60; ++round) {
    const int n = round % 6;
    Shape shape;
    for (int d = 0; d < n; ++d) shape.push_back(1 + int64_t(generator.next_key() % (n < 4 ? 40 : 9)));
    std::vector<int> order;
    for (int64_t d : random_permutation(n, generator.next_key())) order.push_back(int(d));
    for (const DType dtype : {DType::f32, DType::f64, DType::i64}) check_order(shape, order, dtype);
  }
  check_order({3, 5, 2}, {2, 0, 1}, DType::u8);
  check_order({4, 0, 3}, {1, 2, 0}, DType::f32);
  check_order({1, 1, 1}, {2, 0, 1}, DType::f32);
  check_order({2, 300, 4, 33}, {0, 2, 1, 3}, DType::f32);  // heads of an attention
  check_order({2, 4, 300, 33}, {0, 1, 3, 2}, DType::f32);
}
