// Golden files: cases with inputs and results computed by PyTorch, see tests/golden/README.md.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "weft/engine/safetensors.h"
#include "weft/engine/tensor.h"

namespace weft::golden {

/// One case of a golden file. "conv2d.stride" of kind conv2d has tensors x, weight (inputs), out, grad_out
/// (the gradient sent back from out), grad.x, grad.weight (the gradients that follow) and after.NAME (what
/// NAME has become).
class Case {
 public:
  Case(std::string name, const std::string& text);

  const std::string& name() const { return name_; }
  const std::string& kind() const { return kind_; }

  /// The input of that name, the same tensor each time; undefined where the case has none. Floating inputs
  /// that have a stored gradient require one.
  Tensor operator[](std::string_view name) const { return find(inputs_, name); }
  const StateDict& inputs() const { return inputs_; }
  /// A stored result: "out", "grad.x", ...; undefined where there is none.
  Tensor expected(std::string_view name) const { return find(expected_, name); }
  const StateDict& expected() const { return expected_; }

  bool has(const std::string& key) const { return attributes_.count(key) != 0; }
  /// Attributes; all throw Error where the case has none of that name.
  std::string text(const std::string& key) const;
  double number(const std::string& key) const;
  int64_t integer(const std::string& key) const { return int64_t(number(key)); }
  bool flag(const std::string& key) const { return integer(key) != 0; }
  /// "0,-1" -> {0, -1}.
  std::vector<int64_t> list(const std::string& key) const;
  std::vector<double> numbers(const std::string& key) const;
  /// How many attributes start with `prefix`.
  size_t count(std::string_view prefix) const;

 private:
  friend std::vector<Case> load(std::string_view file, DType dtype);
  std::string name_, kind_;
  std::map<std::string, std::string> attributes_;
  StateDict inputs_, expected_;
};

/// The cases of tests/golden/FILE, floating inputs converted to `dtype`.
std::vector<Case> load(std::string_view file, DType dtype);

/// Nearly normal numbers (mean 0, variance 1), the stream `name` of golden_file.py, times scale plus shift,
/// rounded to float and then converted.
Tensor normals(std::string_view name, const Shape& shape, DType dtype, double scale = 1, double shift = 0);

/// How far a result may be from the stored one: |a - b| <= rtol |b| + atol max|b| for each element, and
/// nothing is further off than rtol max|b|.
struct Tolerance {
  double rtol = 0, atol = 0;
};
/// What separates `actual` from `wanted` beyond the tolerance: "element 3 is 0.5, expected 0.25", or nothing.
std::string difference(const Tensor& actual, const Tensor& wanted, const Tolerance& tolerance);

/// What is stored of a tensor that is too large to be stored whole, see fingerprint() in model_cases.py: its
/// norm, its largest absolute value, four dot products with random vectors, 16 of its elements.
Tensor fingerprint(std::string_view name, const Tensor& t);
/// As difference(), for fingerprints: norms, dot products (as parts of the norm) and elements (as parts of
/// the largest one) may be off by rtol.
std::string fingerprint_difference(const Tensor& actual, const Tensor& wanted, double rtol);

}  // namespace weft::golden
