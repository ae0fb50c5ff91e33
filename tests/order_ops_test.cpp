// Ops by index and order: gradients in f64 on odd shapes, edges, errors. Their values beside PyTorch's are in
// golden_ops_test.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "support/errors.h"
#include "support/gradients.h"
#include "weft/weft.h"

using namespace weft;
using namespace weft::test;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity(),
                 kNaN = std::numeric_limits<double>::quiet_NaN();

Tensor f32(const Shape& s) { return Tensor::ones(s); }
Tensor i64(const std::vector<int64_t>& values, const Shape& shape) {
  return Tensor::from<int64_t>(values, shape);
}
std::vector<int64_t> places(const Tensor& t) { return t.to_vector<int64_t>(); }

/// Whole numbers from 0 to n - 1 in a mixed order: no two are near enough for a difference to change places.
Tensor shuffled(const Shape& shape) {
  const Tensor t = Tensor::empty(shape, DType::f64);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] = double(i * 29 % t.numel());
  return t;
}

}  // namespace

TEST_CASE("gather, index_select and scatter_add: gradients") {
  const Tensor elements = i64({1, 0, 1, 2, 2, 2, 0, 1, 0, 0, 2, 1}, {2, 2, 3});
  check_both_gradients([&](const Inputs& in) { return gather(in[0], 1, elements); }, {normal({2, 4, 3})});
  check_both_gradients([&](const Inputs& in) { return gather(in[0], -1, elements); }, {normal({2, 2, 5})});
  check_both_gradients([&](const Inputs& in) { return scatter_add(in[0], 1, elements, in[1]); },
                       {normal({2, 5, 3}), normal({2, 2, 3})});
  const Tensor slices = i64({3, 0, 3, 1, 3}, {5});
  for (const int dim : {0, 1, 2})
    check_both_gradients([&](const Inputs& in) { return index_select(in[0], dim, slices); },
                         {normal({4, 5, 4})});
  check_both_gradients([&](const Inputs& in) { return gather(in[0], 0, slices); }, {normal({7})});
  check_both_gradients([&](const Inputs& in) { return scatter_add(in[0], 0, slices, in[1]); },
                       {normal({7}), normal({5})});
}

TEST_CASE("gather: the index is kept for backward, whole numbers are moved, nothing from nothing") {
  const Tensor x = normal({5}).set_requires_grad(), index = i64({4, 4, 1}, {3});
  {
    Tape tape;
    const Tensor y = gather(x, 0, index);
    index.fill(0);  // the caller's batch may change
    tape.backward(sum(y));
  }
  for (int64_t i = 0; i < 5; ++i) CHECK(x.grad().at(i) == std::vector<double>{0, 1, 0, 0, 2}[size_t(i)]);
  CHECK(places(index_select(i64({5, 6, 7}, {3}), 0, i64({2, 0}, {2}))) == std::vector<int64_t>{7, 5});
  CHECK(gather(Tensor::from<uint8_t>({9, 8}, {2}), 0, i64({1}, {1})).at(0) == 8);
  CHECK(index_select(f32({3, 4}), 1, i64({}, {0})).shape() == Shape{3, 0});
  CHECK(gather(f32({0, 4}), 1, i64({}, {0, 2})).shape() == Shape{0, 2});
  CHECK(sum(scatter_add(f32({3}), 0, i64({}, {0}), f32({0}))).item() == 3);
}

TEST_CASE("embedding: no gradient comes to the padding, and none from it") {
  const Tensor index = i64({2, 1, 2, 0}, {2, 2}), weight = normal({3, 4}).set_requires_grad(),
               coming = normal({2, 2, 4}).set_requires_grad();
  Tape tape;
  const Tensor y = embedding(index, weight, {.padding_idx = 2});
  const Tensor slope = tape.grad(sum(y * coming), {weight}, {.create_graph = true})[0];
  tape.backward(sum(square(slope)));
  for (int64_t c = 0; c < 4; ++c) {
    CHECK(slope.at(8 + c) == 0);
    CHECK(coming.grad().at(c) == 0);
    CHECK(coming.grad().at(8 + c) == 0);
    CHECK(coming.grad().at(4 + c) == doctest::Approx(2 * coming.at(4 + c)));
  }
}

TEST_CASE("sort, topk and cumsum: gradients") {
  for (const int dim : {0, 1, -1})
    for (const bool down : {false, true}) {
      check_both_gradients([&](const Inputs& in) { return sort(in[0], dim, down).values; },
                           {shuffled({3, 4, 5})});
      check_both_gradients([&](const Inputs& in) { return topk(in[0], 2, dim, down).values; },
                           {shuffled({3, 4, 5})});
      check_both_gradients([&](const Inputs& in) { return cumsum(in[0], dim); }, {normal({3, 4, 5})});
    }
}

TEST_CASE("sort: equal ones keep their order, NaN is the largest, on both kinds of table") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor x = Tensor::from<double>({2, kNaN, -0.0, kInf, 0, -kInf, 2, kNaN}, {8}).to(dtype);
    CHECK(places(argsort(x)) == std::vector<int64_t>{5, 2, 4, 0, 6, 3, 1, 7});
    CHECK(places(argsort(x, 0, true)) == std::vector<int64_t>{1, 7, 3, 0, 6, 2, 4, 5});
    CHECK(places(topk(x, 3).indices) == std::vector<int64_t>{1, 7, 3});
    CHECK(places(topk(x, 1, 0, false).indices) == std::vector<int64_t>{5});
    CHECK(topk(x, 0).values.shape() == Shape{0});
    CHECK(std::isnan(sort(x).values.at(7)));
  }
  CHECK(sort(f32({0, 3}), 0).indices.shape() == Shape{0, 3});
  CHECK(sort(f32({3, 0}), 0).indices.shape() == Shape{3, 0});
}

TEST_CASE("argmax and argmin of any dimension: the first of equal ones, the first NaN") {
  const Tensor x = Tensor::from<float>({1, 5, 5, 7, 0, 7}, {2, 3});
  CHECK(places(argmax(x)) == std::vector<int64_t>{1, 0});
  CHECK(places(argmin(x)) == std::vector<int64_t>{0, 1});
  CHECK(places(argmax(x, 0)) == std::vector<int64_t>{1, 0, 1});
  CHECK(places(argmin(x, -2)) == std::vector<int64_t>{0, 1, 0});
  CHECK(places(argmin(Tensor::from<double>({1, kNaN, kNaN, -kInf}, {4}))) == std::vector<int64_t>{1});
}

TEST_CASE("var, std, logsumexp, sin and cos: gradients") {
  for (const auto& dims : {std::vector<int>{}, {1}, {0, 2}})
    for (const bool keepdim : {false, true}) {
      check_both_gradients([&](const Inputs& in) { return var(in[0], dims, keepdim); }, {normal({3, 4, 2})});
      check_both_gradients([&](const Inputs& in) { return weft::std(in[0], dims, keepdim, 0.5); },
                           {normal({3, 4, 2})});
      check_both_gradients([&](const Inputs& in) { return logsumexp(in[0], dims, keepdim); },
                           {normal({3, 4, 2}, 3)});
    }
  check_both_gradients([](const Inputs& in) { return sin(in[0]); }, {normal({7, 3}, 3)});
  check_both_gradients([](const Inputs& in) { return cos(in[0]); }, {normal({7, 3}, 3)});
}

TEST_CASE("var, std and logsumexp at the limits") {
  CHECK(std::isnan(var(f32({1})).item()));
  CHECK(var(f32({1}), {}, false, 0).item() == 0);
  CHECK(logsumexp(Tensor::from<float>({1000, 1000}, {2})).item() == doctest::Approx(1000 + std::log(2)));
  CHECK(logsumexp(Tensor::full({3}, -kInf)).item() == -kInf);
  CHECK(logsumexp(Tensor::from<float>({float(kInf), 1}, {2})).item() == kInf);
  CHECK(std::isnan(logsumexp(Tensor::from<float>({float(kNaN), 1}, {2})).item()));
}

TEST_CASE("sin and cos: far from 0, and at no number at all") {
  const Tensor x = Tensor::from<float>({0, 1e4f, -3e7f, 1e30f, float(kInf), float(kNaN)}, {6});
  const Tensor s = sin(x), c = cos(x);
  for (int64_t i = 0; i < 6; ++i) {
    CAPTURE(i);
    const double want_s = std::sin(x.at(i)), want_c = std::cos(x.at(i));
    if (i >= 4) {
      CHECK(std::isnan(s.at(i)));
      CHECK(std::isnan(c.at(i)));
    } else {
      CHECK(s.at(i) == doctest::Approx(want_s).epsilon(1e-6));
      CHECK(c.at(i) == doctest::Approx(want_c).epsilon(1e-6));
    }
  }
}

TEST_CASE("einsum: gradients") {
  check_both_gradients(
      [](const Inputs& in) {
        return einsum("bqhd,bkhd->bhqk", {in[0], in[1]});
      },
      {normal({2, 3, 2, 2}), normal({2, 4, 2, 2})});
  check_both_gradients(
      [](const Inputs& in) {
        return einsum("ji, kj -> ik", {in[0], in[1]});
      },
      {normal({3, 2}), normal({4, 3})});
  check_both_gradients(
      [](const Inputs& in) {
        return einsum("ab,bc,cd", {in[0], in[1], in[2]});
      },
      {normal({2, 3}), normal({3, 2}), normal({2, 3})});
  check_both_gradients(
      [](const Inputs& in) {
        return einsum("ab,cb->ac", {in[0], in[1]});
      },
      {normal({2, 3}), normal({4, 3})});
  check_both_gradients(
      [](const Inputs& in) {
        return einsum("i,j->ji", {in[0], in[1]});
      },
      {normal({2}), normal({3})});
  CHECK(einsum("ij,jk", {f32({0, 3}), f32({3, 2})}).shape() == Shape{0, 2});
  CHECK(sum(einsum("ij,jk", {f32({2, 0}), f32({0, 2})})).item() == 0);
}

TEST_CASE("arange") {
  CHECK(Tensor::arange(0, 1, 0.25).to_vector<float>() == std::vector<float>{0, 0.25, 0.5, 0.75});
  CHECK(places(Tensor::arange(5, -1, -2, DType::i64)) == std::vector<int64_t>{5, 3, 1});
  CHECK(Tensor::arange(2, 2).shape() == Shape{0});
}

TEST_CASE("the same bits for any number of threads") {
  const Tensor x = normal({40, 33, 96}).to(DType::f32), table = normal({300, 96}).to(DType::f32);
  const Tensor index = Tensor::empty({4000}, DType::i64);
  for (int64_t i = 0; i < 4000; ++i) index.data<int64_t>()[i] = i * i % 300;
  check_same_bits_on_threads({x, table}, [&] {
    return sum(square(cumsum(x, 1))) + sum(square(topk(x, 7, 2).values)) +
           sum(square(index_select(table, 0, index))) + sum(square(gather(table, 1, argsort(table))));
  });
}

TEST_CASE("errors name the op, what it was given and the mend") {
  const Tensor index = i64({0, 1}, {2});
  CHECK_ERROR(gather(f32({3}), 0, f32({2})), "gather: the index is f32 [2]; it must be i64");
  CHECK_ERROR(gather(f32({3, 4}), 0, i64({0, 1}, {1, 2})), "gather: an index [1, 2] for [3, 4]");
  CHECK_ERROR(gather(f32({3}), 0, i64({0, 3}, {2})),
              "gather: index 3 at position 1 of [2] is not one of the 3 in dimension 0 of [3]");
  CHECK_ERROR(gather(f32({3}), 1, index), "gather");
  CHECK_ERROR(index_select(f32({3}), 0, i64({-1}, {1})), "index_select: index -1");
  CHECK_ERROR(index_select(f32({3}), 0, i64({0}, {1, 1})), "index_select: the index is [1, 1]; expected [k]");
  CHECK_ERROR(scatter_add(f32({3}), 0, index, f32({3})),
              "scatter_add: an index [2] for a source [3]; both must have one shape");
  CHECK_ERROR(scatter_add(f32({3}), 0, index, Tensor::ones({2}, DType::f64)), "scatter_add: operands are");
  CHECK_ERROR(topk(f32({3, 2}), 4, 0), "topk: 4 of the 3 elements in dimension 0 of [3, 2]");
  CHECK_ERROR(sort(f32({})), "sort");
  CHECK_ERROR(argmax(f32({2, 0})), "argmax: shape [2, 0] has nothing to choose from in dimension -1");
  CHECK_ERROR(cumsum(f32({2}), 1), "cumsum");
  CHECK_ERROR(einsum("ij,jk", {f32({2, 3})}), "einsum: 'ij,jk' names 2 operands; there are 1");
  CHECK_ERROR(einsum("ij,jk", {f32({2, 3}), f32({4, 5})}), "einsum: 'ij,jk': 'j' is 3 and 4");
  CHECK_ERROR(einsum("ijk", {f32({2, 3})}), "operand 0 is [2, 3], but 'ijk' names 3 dimensions");
  const int64_t large = int64_t{1} << 40;
  CHECK_ERROR(einsum("abc,a->bc", {f32({0, large, large}), f32({0})}), "too many elements");
  CHECK_ERROR(einsum("ii", {f32({2, 2})}), "'i' twice in one operand");
  CHECK_ERROR(einsum("...i", {f32({2})}), "'.', which is no letter");
  CHECK_ERROR(einsum("i->j", {f32({2})}), "'j' of the result");
  CHECK_ERROR(einsum("i->ii", {f32({2})}), "'i' of the result");
  CHECK_ERROR(Tensor::arange(0, 1, -1), "arange: from 0 to 1 by -1");
  CHECK_ERROR(Tensor::arange(0, 1, 0), "arange");
}
