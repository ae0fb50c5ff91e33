#include "weft/apps/weft/certify.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "weft/kernels/certify.h"
#include "weft/kernels/initial_activation.h"
#include "weft/kernels/parallel.h"

namespace weft::app {
namespace {

constexpr int64_t kBlock = 2048;  // floats that stay in the first cache with all that is computed from them
constexpr int64_t kBlocksOfTask = 16, kTasks = 256;  // between two looks at the clock and the keyboard
constexpr int64_t kGroup = 16;                       // floats that share one `least`
constexpr double kInfinity = std::numeric_limits<double>::infinity();

using Table = kernels::KernelTable<float>;

/// What is certified for an activation, with its parameters as the kernels in float get them.
struct Certified {
  Activation act;
  float parameters[kMostLearnedParameters];

  explicit Certified(Activation of) {
    const InitialActivation initial = initial_activation(of);
    act = initial.activation;
    for (int k = 0; k < kMostLearnedParameters; ++k) parameters[k] = float(initial.parameters[k]);
  }
};

/// One activation on some tables: what all blocks need.
struct Sweep {
  Certified of;
  std::vector<const Table*> tables;
  std::vector<Crossing> crossings[2];  // of value and slope
};
using Result = std::vector<std::array<Worst, 2>>;  // value and slope for each table

struct Block {
  alignas(64) float x[kBlock], found[kBlock];
  alignas(64) double exact[2][kBlock];
  int64_t n;
};

const std::array<float, kBlock>& ones() {
  static const std::array<float, kBlock> all = [] {
    std::array<float, kBlock> a;
    a.fill(1.0f);
    return a;
  }();
  return all;
}

void merge(Worst& into, const Worst& other) {
  if (other.ulp > into.ulp) {
    into.ulp = other.ulp;
    into.at = other.at;
    into.exact = other.exact;
    into.found = other.found;
  }
  into.near_zero = std::max(into.near_zero, other.near_zero);
  if (into.nan_blocks == 0) into.nan_at = other.nan_at;
  into.nan_blocks += other.nan_blocks;
}

/// The stretch that a part of a block touches.
const Crossing* touched(const std::vector<Crossing>& crossings, const float* x, int64_t n) {
  if (crossings.empty()) return nullptr;
  const double first = double(x[0]), last = double(x[n - 1]);
  const double low = std::min(first, last), high = std::max(first, last);
  for (const Crossing& c : crossings)
    if (low <= c.high && high >= c.low) return &c;
  return nullptr;
}

void compare(const Block& b, int64_t begin, int64_t end, const double* exact, const Crossing* crossing,
             Worst& worst) {
  const auto d = kernels::certifier().compare(end - begin, exact + begin, b.found + begin,
                                              crossing ? crossing->least : kernels::kSmallest);
  Worst w;
  const auto at = [&](int64_t i) { return size_t(begin + std::max<int64_t>(i, 0)); };
  w.ulp = d.ulp;
  w.at = b.x[at(d.at)];
  w.exact = exact[at(d.at)];
  w.found = b.found[at(d.at)];
  w.near_zero = crossing ? d.absolute : 0;
  w.nan_blocks = d.nan_at >= 0;
  w.nan_at = b.x[at(d.nan_at)];
  merge(worst, w);
}

/// found = value or slope, by the kernels that ops call.
void run_kernel(const Table& table, const Certified& of, bool slope, Block& b) {
  if (is_fixed(of.act)) {
    if (slope) return table.activation_backward(of.act, of.parameters[0], b.n, b.x, ones().data(), b.found);
    return table.activation(of.act, of.parameters[0], b.n, b.x, b.found);
  }
  float spread[kMostLearnedParameters][kGroup], gradients[kMostLearnedParameters][kGroup];
  float* to[kMostLearnedParameters];
  kernels::LearnedActivationArgs<float> args;
  args.activation = of.act, args.channels = kGroup, args.rows = b.n / kGroup, args.x = b.x;
  for (int k = 0; k < kMostLearnedParameters; ++k) {
    std::fill_n(spread[k], kGroup, of.parameters[k]);
    args.parameters[k] = spread[k];
    to[k] = gradients[k];
  }
  if (slope) return table.learned_activation_backward(args, ones().data(), b.found, to);
  table.learned_activation(args, b.found);
}

void check_block(const Sweep& s, Block& b, Result& result) {
  kernels::certifier().evaluate(s.of.act, s.of.parameters, b.n, b.x, b.exact[0], b.exact[1]);
  for (size_t t = 0; t < s.tables.size(); ++t)
    for (size_t part : {0, 1}) {
      run_kernel(*s.tables[t], s.of, part == 1, b);
      Worst& worst = result[t][part];
      if (!touched(s.crossings[part], b.x, b.n)) {
        compare(b, 0, b.n, b.exact[part], nullptr, worst);
        continue;
      }
      // In runs of groups that touch the same stretch.
      const Crossing* of_run = touched(s.crossings[part], b.x, kGroup);
      int64_t begin = 0;
      for (int64_t i = kGroup; i < b.n; i += kGroup) {
        const Crossing* c = touched(s.crossings[part], b.x + i, kGroup);
        if (c == of_run) continue;
        compare(b, begin, i, b.exact[part], of_run, worst);
        begin = i;
        of_run = c;
      }
      compare(b, begin, b.n, b.exact[part], of_run, worst);
    }
}

/// Infinities, zeros, NaN and the ends of the ranges of numbers, of both signs.
Block special_block() {
  using Limits = std::numeric_limits<float>;
  Block b;
  b.n = 0;
  for (float v : {0.0f, Limits::denorm_min(), Limits::min(), 1.0f, Limits::max(), Limits::infinity(),
                  Limits::quiet_NaN(), 2.0f})
    for (float sign : {1.0f, -1.0f}) b.x[b.n++] = std::copysign(v, sign);
  return b;
}

/// The floats whose bits are first, first + stride, ..., up to a whole block.
void fill(Block& b, uint64_t first, uint64_t stride) {
  constexpr uint64_t kEnd = uint64_t{1} << 32;
  const uint64_t left = (kEnd - first + stride - 1) / stride;
  const int64_t count = int64_t(std::min<uint64_t>(left, uint64_t(kBlock)));
  for (int64_t i = 0; i < count; ++i) b.x[i] = std::bit_cast<float>(uint32_t(first + uint64_t(i) * stride));
  b.n = (count + kGroup - 1) / kGroup * kGroup;
  for (int64_t i = count; i < b.n; ++i) b.x[i] = b.x[count - 1];
}

}  // namespace

std::vector<Crossing> find_crossings(Activation act, bool of_slope) {
  const Certified of(act);
  constexpr int64_t kPoints = 1 << 20;  // 4096 of each unit
  constexpr double kFirst = -128, kStep = 1.0 / 4096;
  std::vector<float> x(static_cast<size_t>(kPoints));
  std::vector<double> value(x.size()), slope(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = float(kFirst + kStep * (double(i) + 0.5));
  kernels::certifier().evaluate(of.act, of.parameters, kPoints, x.data(), value.data(), slope.data());
  const std::vector<double>& y = of_slope ? slope : value;
  std::vector<size_t> zeros;  // before each of these points
  for (size_t i = 1; i < y.size(); ++i) {
    if (y[i] * y[i - 1] < 0 && std::abs(x[i]) > 0.01f) zeros.push_back(i);
    if (y[i] == 0 && i + 1 < y.size() && y[i - 1] * y[i + 1] < 0) zeros.push_back(i);
  }
  if (zeros.empty()) return {};
  const auto index = [&](double at) {
    return size_t(std::clamp((at - kFirst) / kStep - 0.5, 0.0, double(kPoints - 1)));
  };
  if (zeros.size() > 8) {
    double most = 0;
    for (size_t i = 0; i < zeros.back(); ++i) most = std::max(most, std::abs(y[i]));
    const double last = double(x[zeros.back()]);
    return {{-kInfinity, last + std::abs(last) / 8, most}};
  }
  std::vector<Crossing> crossings;
  for (size_t zero : zeros) {
    const double at = double(x[zero]) - kStep / 2, reach = std::abs(at) / 8;
    const double least = std::min(std::abs(y[index(at - reach)]), std::abs(y[index(at + reach)]));
    crossings.push_back({at - reach, at + reach, std::max(least, kernels::kSmallest)});
  }
  return crossings;
}

std::vector<Certificate> certify(Activation act, const std::vector<const Table*>& tables, uint64_t stride,
                                 const std::function<bool(int64_t, int64_t)>& progress) {
  const Sweep sweep{Certified(act), tables, {find_crossings(act, false), find_crossings(act, true)}};
  const uint64_t floats = ((uint64_t{1} << 32) + stride - 1) / stride;
  const int64_t blocks = int64_t((floats + uint64_t(kBlock) - 1) / uint64_t(kBlock));
  Result total(tables.size());
  Block special = special_block();
  check_block(sweep, special, total);
  for (int64_t begin = 0; begin < blocks; begin += kTasks * kBlocksOfTask) {
    if (!progress(begin, blocks)) return {};
    const int64_t end = std::min(blocks, begin + kTasks * kBlocksOfTask);
    std::vector<Result> results(static_cast<size_t>((end - begin + kBlocksOfTask - 1) / kBlocksOfTask));
    kernels::parallel_for(int64_t(results.size()), [&](int64_t task) {
      Result& result = results[size_t(task)];
      result.resize(tables.size());
      Block block;
      const int64_t first = begin + task * kBlocksOfTask;
      for (int64_t i = first; i < std::min(end, first + kBlocksOfTask); ++i) {
        fill(block, uint64_t(i) * uint64_t(kBlock) * stride, stride);
        check_block(sweep, block, result);
      }
    });
    for (const Result& result : results)
      for (size_t t = 0; t < tables.size(); ++t)
        for (size_t part : {0, 1}) merge(total[t][part], result[t][part]);
  }
  std::vector<Certificate> certificates;
  for (size_t t = 0; t < tables.size(); ++t)
    certificates.push_back({act, tables[t], total[t][0], total[t][1]});
  return certificates;
}

}  // namespace weft::app
