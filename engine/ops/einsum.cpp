#include "weft/engine/ops/einsum.h"

#include <algorithm>
#include <array>
#include <string>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/shape.h"

namespace weft {
namespace {

/// A tensor and the letters of its dimensions.
struct Named {
  Tensor t;
  std::string letters;

  int64_t size(char c) const { return t.size(int(letters.find(c))); }
};

bool has(std::string_view letters, char c) { return letters.find(c) != std::string_view::npos; }
/// The letters of `all` for which `wanted` holds.
template <class F>
std::string filter(std::string_view all, F wanted) {
  std::string some;
  std::copy_if(all.begin(), all.end(), std::back_inserter(some), wanted);
  return some;
}

/// The dimensions in the order of `letters`, all of which x has.
Named in_order(const Named& x, const std::string& letters) {
  if (x.letters == letters) return x;
  std::vector<int> order;
  for (const char c : letters) order.push_back(int(x.letters.find(c)));
  return {permute(x.t, order), letters};
}

/// x summed over what is not in `kept`.
Named sum_others(const Named& x, std::string_view kept) {
  std::vector<int> dims;
  for (size_t i = 0; i < x.letters.size(); ++i)
    if (!has(kept, x.letters[i])) dims.push_back(int(i));
  if (dims.empty()) return x;
  return {sum(x.t, dims), filter(x.letters, [=](char c) { return has(kept, c); })};
}

/// The product of two, summed over what is not in `kept`.
Named contracted(const Named& left, const Named& right, const std::string& kept) {
  const Named a = sum_others(left, kept + right.letters), b = sum_others(right, kept + left.letters);
  const auto in_a = [&](char c) { return has(a.letters, c); };
  const auto in_b = [&](char c) { return has(b.letters, c); };
  const auto stays = [&](char c) { return has(kept, c); };
  const std::string batch = filter(a.letters, [&](char c) { return in_b(c) && stays(c); }),
                    inner = filter(a.letters, [&](char c) { return in_b(c) && !stays(c); }),
                    rows = filter(a.letters, [&](char c) { return !in_b(c); }),
                    columns = filter(b.letters, [&](char c) { return !in_a(c); });
  std::vector<int64_t> shape;
  for (const char c : batch + rows) shape.push_back(a.size(c));
  for (const char c : columns) shape.push_back(b.size(c));
  const std::string letters = batch + rows + columns;

  const auto numel = [](const Named& x, std::string_view some) {
    Shape sizes;
    for (const char c : some) sizes.push_back(x.size(c));
    return sizes.numel();
  };
  const int64_t n = numel(a, batch), m = numel(a, rows), k = numel(a, inner), p = numel(b, columns);
  if (inner.empty()) {
    const Tensor x = reshape(in_order(a, batch + rows).t, {n, m, 1}),
                 y = reshape(in_order(b, batch + columns).t, {n, 1, p});
    return {reshape(mul(x, y), shape), letters};
  }
  // A matrix that lies transposed is taken so; others are copied into order.
  const bool transpose_a = a.letters == batch + inner + rows,
             transpose_b = b.letters == batch + columns + inner;
  const Named x = transpose_a ? a : in_order(a, batch + rows + inner),
              y = transpose_b ? b : in_order(b, batch + inner + columns);
  const std::vector<int64_t> x_shape{n, transpose_a ? k : m, transpose_a ? m : k},
      y_shape{n, transpose_b ? p : k, transpose_b ? k : p};
  return {reshape(bmm(reshape(x.t, x_shape), reshape(y.t, y_shape),
                      {.transpose_a = transpose_a, .transpose_b = transpose_b}),
                  shape),
          letters};
}

/// "ab,bc->ac" as the letters of each operand and of the result; checks them.
struct Equation {
  std::vector<std::string> operands;
  std::string result;

  explicit Equation(std::string_view text) {
    const std::string all = filter(text, [](char c) { return c != ' '; });
    const size_t arrow = all.find("->");
    operands.emplace_back();
    std::array<int, 256> count{};
    for (const char c : all.substr(0, arrow)) {
      if (c == ',') {
        operands.emplace_back();
        continue;
      }
      check((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'), "einsum: '", text, "' has '", c,
            "', which is no letter");
      check(!has(operands.back(), c), "einsum: '", text, "' has '", c,
            "' twice in one operand; diagonals are not supported");
      operands.back() += c;
      ++count[size_t(c)];
    }
    if (arrow == std::string::npos) {
      for (int c = 0; c < 256; ++c)
        if (count[size_t(c)] == 1) result += char(c);
      return;
    }
    result = all.substr(arrow + 2);
    for (const char c : result)
      check(count[uint8_t(c)] > 0 && std::count(result.begin(), result.end(), c) == 1, "einsum: '", text,
            "': '", c, "' of the result must occur there once and in an operand");
  }
};

}  // namespace

Tensor einsum(std::string_view equation, const std::vector<Tensor>& operands) {
  const Equation e(equation);
  check(e.operands.size() == operands.size(), "einsum: '", equation, "' names ", e.operands.size(),
        " operands; there are ", operands.size());
  std::array<int64_t, 256> size;
  size.fill(-1);
  for (size_t i = 0; i < operands.size(); ++i) {
    const Tensor& t = operands[i];
    check(int(e.operands[i].size()) == t.ndim(), "einsum: '", equation, "': operand ", i, " is ", t.shape(),
          ", but '", e.operands[i], "' names ", e.operands[i].size(), " dimensions");
    for (int d = 0; d < t.ndim(); ++d) {
      int64_t& known = size[uint8_t(e.operands[i][size_t(d)])];
      check(known < 0 || known == t.size(d), "einsum: '", equation, "': '", e.operands[i][size_t(d)], "' is ",
            known, " and ", t.size(d));
      known = t.size(d);
    }
  }
  Named so_far{operands[0], e.operands[0]};
  for (size_t i = 1; i < operands.size(); ++i) {
    std::string kept = e.result;
    for (size_t j = i + 1; j < operands.size(); ++j) kept += e.operands[j];
    so_far = contracted(so_far, {operands[i], e.operands[i]}, kept);
  }
  return in_order(sum_others(so_far, e.result), e.result).t;
}

}  // namespace weft
