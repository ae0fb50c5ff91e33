#include "support/golden.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <sstream>

namespace weft::golden {

Case::Case(std::string name, const std::string& text) : name_(std::move(name)) {
  std::istringstream words(text);
  words >> kind_;
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    check(equals != std::string::npos, "golden: case ", name_, " has a malformed attribute '", word, "'");
    attributes_[word.substr(0, equals)] = word.substr(equals + 1);
  }
}

std::string Case::text(const std::string& key) const {
  const auto found = attributes_.find(key);
  check(found != attributes_.end(), "golden: case ", name_, " has no attribute ", key);
  return found->second;
}

double Case::number(const std::string& key) const { return std::stod(text(key)); }

std::vector<int64_t> Case::list(const std::string& key) const {
  std::vector<int64_t> numbers;
  std::istringstream in(text(key));
  for (std::string part; std::getline(in, part, ',');) numbers.push_back(std::stoll(part));
  return numbers;
}

std::vector<double> Case::numbers(const std::string& key) const {
  std::vector<double> numbers;
  std::istringstream in(text(key));
  for (std::string part; std::getline(in, part, ',');) numbers.push_back(std::stod(part));
  return numbers;
}

size_t Case::count(std::string_view prefix) const {
  return size_t(std::count_if(attributes_.begin(), attributes_.end(),
                              [&](const auto& a) { return a.first.rfind(prefix, 0) == 0; }));
}

std::vector<Case> load(std::string_view file, DType dtype) {
  std::map<std::string, std::string> metadata;
  const StateDict tensors = load_safetensors(concat(WEFT_TEST_DIR, "/golden/", file), &metadata);
  std::map<std::string, Case> cases;
  for (const auto& [name, text] : metadata) cases.emplace(name, Case(name, text));
  for (const auto& [path, tensor] : tensors) {
    const size_t slash = path.find('/');
    const auto found = cases.find(path.substr(0, slash));
    check(slash != std::string::npos && found != cases.end(), "golden: tensor ", path,
          " belongs to no case of ", file);
    Case& c = found->second;
    const std::string name = path.substr(slash + 1);
    const bool result = name == "out" || name.rfind("grad.", 0) == 0 || name.rfind("after.", 0) == 0 ||
                        name.rfind("expect.", 0) == 0;
    if (result)
      c.expected_.emplace_back(name, tensor);
    else
      c.inputs_.emplace_back(name, is_floating(tensor.dtype()) ? tensor.to(dtype) : tensor);
  }
  std::vector<Case> list;
  for (auto& [name, c] : cases) {
    for (const auto& [input, tensor] : c.inputs_)
      if (c.expected("grad." + input).defined()) tensor.set_requires_grad();
    list.push_back(std::move(c));
  }
  return list;
}

namespace {

// The stream `name`: splitmix64 of the name's FNV-1a hash and a counter.
class Words {
 public:
  explicit Words(std::string_view name) {
    for (const char c : name) state_ = (state_ ^ uint8_t(c)) * 0x100000001B3u;
  }
  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // The sum of a word's four 16-bit parts, brought to mean 0 and variance 1.
  double next_normal() {
    const uint64_t z = next();
    const int64_t total = int64_t((z & 0xFFFF) + (z >> 16 & 0xFFFF) + (z >> 32 & 0xFFFF) + (z >> 48));
    return double(total - 131070) * 0x1.bb67ae8584caap-16;  // sqrt(3) / 2^16
  }

 private:
  uint64_t state_ = 0xCBF29CE484222325u;
};

constexpr int kProbes = 4, kSamples = 16;

}  // namespace

Tensor normals(std::string_view name, const Shape& shape, DType dtype, double scale, double shift) {
  const Tensor t = Tensor::empty(shape, DType::f32);
  Words words(name);
  std::generate_n(t.data<float>(), t.numel(), [&] { return float(shift + scale * words.next_normal()); });
  return t.to(dtype);
}

std::string difference(const Tensor& actual, const Tensor& wanted, const Tolerance& tolerance) {
  if (!actual.defined()) return "is missing";
  if (actual.shape() != wanted.shape())
    return concat("has shape ", actual.shape(), ", expected ", wanted.shape());
  double largest = 0;
  for (int64_t i = 0; i < wanted.numel(); ++i) largest = std::max(largest, std::abs(wanted.at(i)));
  double worst = 1;
  std::string message;
  for (int64_t i = 0; i < wanted.numel(); ++i) {
    const double a = actual.at(i), b = wanted.at(i), off = std::abs(a - b);
    const double allowed =
        std::min(tolerance.rtol * largest, tolerance.rtol * std::abs(b) + tolerance.atol * largest);
    if (off <= allowed) continue;
    const double excess = allowed > 0 ? off / allowed : INFINITY;
    if (message.empty() || !(excess <= worst)) {
      worst = excess;
      message = concat("element ", i, " of ", wanted.shape(), " is ", a, ", expected ", b, ": ", excess,
                       " times the allowed difference (largest element ", largest, ")");
    }
  }
  return message;
}

Tensor fingerprint(std::string_view name, const Tensor& t) {
  check(t.defined(), "golden: ", name, " is missing");
  std::vector<double> print(2 + kProbes + kSamples);
  const Tensor wide = t.to(DType::f64);
  const std::span<const double> values(wide.data<double>(), size_t(wide.numel()));
  for (const double v : values) {
    print[0] += v * v;
    print[1] = std::max(print[1], std::abs(v));
  }
  print[0] = std::sqrt(print[0]);
  for (size_t i = 0; i < kProbes; ++i) {
    Words words(concat(name, "/probe.", i));
    for (const double v : values) print[2 + i] += v * words.next_normal();
  }
  Words words(concat(name, "/samples"));
  for (size_t i = 0; i < kSamples; ++i) print[2 + kProbes + i] = values[words.next() % values.size()];
  return Tensor::from(print, {int64_t(print.size())});
}

std::string fingerprint_difference(const Tensor& actual, const Tensor& wanted, double rtol) {
  check(actual.shape() == wanted.shape(), "golden: a fingerprint of shape ", wanted.shape());
  const double norm = wanted.at(0), largest = wanted.at(1);
  for (int64_t i = 0; i < wanted.numel(); ++i) {
    const double off = std::abs(actual.at(i) - wanted.at(i)),
                 scale = i == 0 || (i >= 2 && i < 2 + kProbes) ? norm : largest;
    if (!(off <= rtol * scale))
      return concat("fingerprint: ",
                    i == 0            ? "norm"
                    : i == 1          ? "largest"
                    : i < 2 + kProbes ? "dot product"
                                      : "element",
                    " (", i, ") is ", actual.at(i), ", expected ", wanted.at(i), ", off by ", off / scale,
                    " of ", scale);
  }
  return {};
}

}  // namespace weft::golden
