// Gathering, sums back, the order of elements and running sums on every instruction set of this machine,
// against the reference loops in double.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "support/kernel_tables.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

size_t count(int64_t n) { return size_t(n); }

struct Columns {
  int64_t outer, size, inner;
  int64_t numel() const { return outer * size * inner; }
};
// One column and many; short ones, and ones worth another way of sorting; slices of whole vectors and tails.
const Columns kColumns[] = {{1, 1, 1},  {1, 7, 1},    {3, 1, 5},    {2, 33, 37},   {5, 12, 300}, {700, 3, 1},
                            {4, 97, 2}, {1, 5000, 1}, {2, 2500, 3}, {1, 60000, 1}, {1, 40, 9000}};

/// Runs kernel(table, places) on every table with 1, 2 and 7 threads and compares whole numbers.
template <class F>
void check_places(const std::vector<int64_t>& want, F kernel) {
  const int threads = num_threads();
  for (const KernelTable<float>* table : all_cpu_tables())
    for (const int n : {1, 2, 7}) {
      CAPTURE(std::string(table->name));
      set_num_threads(n);
      Guarded<int64_t> got(int64_t(want.size()), -1);
      kernel(*table, got.data());
      REQUIRE(got.ok());
      CHECK(std::equal(want.begin(), want.end(), got.data()));
    }
  set_num_threads(threads);
}

}  // namespace

TEST_CASE("gather and scatter_add: by an index for each element, and by one for all") {
  for (const Columns& c : kColumns)
    for (const bool for_each : {false, true})
      for (const int64_t chosen : {int64_t{0}, int64_t{1}, pick(2, 90)}) {
        CAPTURE(c.outer);
        CAPTURE(c.size);
        CAPTURE(c.inner);
        CAPTURE(chosen);
        CAPTURE(for_each);
        const int64_t n = c.outer * chosen * c.inner;
        std::vector<int64_t> index(count(for_each ? n : chosen));
        for (int64_t& i : index) i = pick(-1, c.size);  // some are outside
        GatherArgs a{.outer = c.outer, .size = c.size, .count = chosen, .inner = c.inner};
        a.index = index.data(), a.for_each = for_each, a.skipped = c.size / 2;
        const Floats x = random_floats(c.numel()), src = random_floats(n);
        Doubles y(count(n)), sum = widen(x);
        reference<double>().gather(a, widen(x).data(), y.data());
        reference<double>().scatter_add(a, widen(src).data(), sum.data());
        each_table(
            {n, c.numel()},
            [&](const auto& table, auto& out) {
              table.gather(a, x.data(), out[0].data());
              std::copy(x.begin(), x.end(), out[1].data());
              table.scatter_add(a, src.data(), out[1].data());
            },
            [&](const auto& out) {
              CHECK(excess(out[0], y, 0, 0) <= 0);
              CHECK(excess(out[1], sum, 1e-5, 1e-6) <= 0);
            });
      }
}

TEST_CASE("argsort: equal ones in order, NaN last, the first k") {
  for (const Columns& c : kColumns)
    for (const int levels : {3, 1 << 20})
      for (const bool descending : {false, true}) {
        Floats x(count(c.numel()));
        for (float& v : x) {
          v = float(pick(-levels, levels)) * 0.37f;
          if (pick(0, 40) == 0) v = std::array{kNaN, -kNaN, kInf, -kInf, -0.0f, 0.0f}[size_t(pick(0, 5))];
        }
        for (const int64_t k : {int64_t{1}, pick(1, c.size), pick(1, c.size / 9 + 1), c.size}) {
          CAPTURE(c.outer);
          CAPTURE(c.size);
          CAPTURE(c.inner);
          CAPTURE(k);
          CAPTURE(descending);
          std::vector<int64_t> want(count(c.outer * k * c.inner));
          reference<double>().argsort(c.outer, c.size, c.inner, k, descending, widen(x).data(), want.data());
          check_places(want, [&](const auto& table, int64_t* index) {
            table.argsort(c.outer, c.size, c.inner, k, descending, x.data(), index);
          });
        }
      }
}

TEST_CASE("argsort: what comes before all that was seen, again and again") {
  for (const bool descending : {false, true}) {
    Floats x(20000);
    for (size_t i = 0; i < x.size(); ++i) x[i] = (descending ? 1.0f : -1.0f) * float(i / 3);
    std::vector<int64_t> want(20);
    reference<double>().argsort(1, 20000, 1, 20, descending, widen(x).data(), want.data());
    check_places(want, [&](const auto& table, int64_t* index) {
      table.argsort(1, 20000, 1, 20, descending, x.data(), index);
    });
  }
}

TEST_CASE("cumsum: from either end, in place too") {
  for (const Columns& c : kColumns)
    for (const bool reverse : {false, true}) {
      CAPTURE(c.outer);
      CAPTURE(c.size);
      CAPTURE(c.inner);
      CAPTURE(reverse);
      const Floats x = random_floats(c.numel());
      Doubles y(count(c.numel()));
      reference<double>().cumsum(c.outer, c.size, c.inner, reverse, widen(x).data(), y.data());
      each_table(
          {c.numel(), c.numel()},
          [&](const auto& table, auto& out) {
            table.cumsum(c.outer, c.size, c.inner, reverse, x.data(), out[0].data());
            std::copy(x.begin(), x.end(), out[1].data());
            table.cumsum(c.outer, c.size, c.inner, reverse, out[1].data(), out[1].data());
          },
          [&](const auto& out) {
            CHECK(excess(out[0], y, 1e-6, kEps) <= 0);
            CHECK(excess(out[1], y, 1e-6, kEps) <= 0);
          });
    }
}
