#include "support/onnx_graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <stdexcept>

namespace weft::test::onnx {
namespace {

using Ints = std::vector<int64_t>;

[[noreturn]] void give_up(const std::string& what) { throw std::runtime_error("onnx: " + what); }

// --- protobuf ---

/// A message: calls take(field number, integer value, bytes) for each field.
void each_field(std::string_view text, const std::function<void(int, uint64_t, std::string_view)>& take) {
  size_t at = 0;
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      if (at >= text.size() || shift > 63) give_up("cut off");
      const auto byte = uint8_t(text[at++]);
      value |= uint64_t(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < text.size()) {
    const uint64_t key = varint();
    const uint64_t kind = key & 7, value = kind == 0 ? varint() : 0;
    const size_t size = kind == 2 ? varint() : kind == 5 ? 4 : 0;
    if (kind != 0 && kind != 2 && kind != 5) give_up("a field of an unknown kind");
    if (size > text.size() - at) give_up("cut off");
    take(int(key >> 3), value, text.substr(at, size));
    at += size;
  }
}

Node read_node(std::string_view text) {
  Node n;
  each_field(text, [&](int field, uint64_t, std::string_view bytes) {
    if (field == 1) n.inputs.emplace_back(bytes);
    if (field == 2) n.outputs.emplace_back(bytes);
    if (field == 3) n.name = bytes;
    if (field == 4) n.op = bytes;
    if (field != 5) return;
    std::string name;
    double number = 0;
    Ints list;
    uint64_t type = 0;
    each_field(bytes, [&](int part, uint64_t value, std::string_view of) {
      if (part == 1) name = of;
      if (part == 2) {
        float f;
        std::memcpy(&f, of.data(), sizeof f);
        number = f;
      }
      if (part == 3) number = double(int64_t(value));
      if (part == 8) list.push_back(int64_t(value));
      if (part == 20) type = value;
    });
    if (type == 7)
      n.lists[name] = list;
    else if (type == 1 || type == 2)
      n.numbers[name] = number;
    else
      give_up("an attribute of an unknown type");
  });
  return n;
}

int64_t count(const Ints& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

std::pair<std::string, Array> read_tensor(std::string_view text) {
  std::string name;
  Array a;
  uint64_t type = 0;
  std::string_view raw;
  each_field(text, [&](int field, uint64_t value, std::string_view bytes) {
    if (field == 1) a.shape.push_back(int64_t(value));
    if (field == 2) type = value;
    if (field == 8) name = bytes;
    if (field == 9) raw = bytes;
  });
  const auto fill = [&]<class T>(T) {
    if (raw.size() != size_t(count(a.shape)) * sizeof(T)) give_up("tensor " + name + " of another size");
    std::vector<T> values(raw.size() / sizeof(T));
    std::memcpy(values.data(), raw.data(), raw.size());
    a.data.assign(values.begin(), values.end());
  };
  if (type == 1)
    fill(float());
  else if (type == 7)
    fill(int64_t());
  else
    give_up("tensor " + name + " of an unknown type");
  return {name, a};
}

std::pair<std::string, std::vector<std::string>> read_value_info(std::string_view text) {
  std::string name;
  std::vector<std::string> sizes;
  each_field(text, [&](int field, uint64_t, std::string_view bytes) {
    if (field == 1) name = bytes;
    if (field != 2) return;
    each_field(bytes, [&](int, uint64_t, std::string_view tensor) {
      each_field(tensor, [&](int part, uint64_t, std::string_view shape) {
        if (part != 2) return;
        each_field(shape, [&](int, uint64_t, std::string_view dim) {
          each_field(dim, [&](int kind, uint64_t value, std::string_view symbol) {
            sizes.push_back(kind == 2 ? std::string(symbol) : std::to_string(value));
          });
        });
      });
    });
  });
  return {name, sizes};
}

// --- operators ---

/// Where each position of `out` lies in an array of `shape` that is stretched to it.
std::vector<size_t> places(const Ints& shape, const Ints& out) {
  std::vector<size_t> at(size_t(count(out)), 0);
  if (shape == out) {
    std::iota(at.begin(), at.end(), size_t{0});
    return at;
  }
  const size_t extra = out.size() - shape.size();
  size_t step = 1, inner = 1;
  for (size_t d = out.size(); d-- > 0;) {
    const int64_t own = d < extra ? 1 : shape[d - extra];
    if (own != 1 && own != out[d]) give_up("shapes that do not fit");
    for (size_t i = 0; own != 1 && i < at.size(); ++i) at[i] += i / inner % size_t(out[d]) * step;
    step *= size_t(own), inner *= size_t(out[d]);
  }
  return at;
}

Array elementwise(const std::vector<const Array*>& in, const std::function<double(const double*)>& f) {
  Ints shape;
  for (const Array* a : in) {
    if (a->shape.size() > shape.size()) shape.insert(shape.begin(), a->shape.size() - shape.size(), 1);
    for (size_t d = 1; d <= a->shape.size(); ++d)
      if (a->shape[a->shape.size() - d] != 1) shape[shape.size() - d] = a->shape[a->shape.size() - d];
  }
  Array out{shape, std::vector<double>(size_t(count(shape)))};
  std::vector<std::vector<size_t>> at;
  for (const Array* a : in) at.push_back(places(a->shape, shape));
  double values[3];
  for (size_t i = 0; i < out.data.size(); ++i) {
    for (size_t k = 0; k < in.size(); ++k) values[k] = in[k]->data[at[k][i]];
    out.data[i] = f(values);
  }
  return out;
}

Array transpose(const Array& x, const Ints& perm) {
  Array y;
  for (int64_t d : perm) y.shape.push_back(x.shape[size_t(d)]);
  y.data.resize(x.data.size());
  for (size_t i = 0; i < y.data.size(); ++i) {
    Ints index(perm.size());
    size_t rest = i;
    for (size_t d = perm.size(); d-- > 0; rest /= size_t(y.shape[d]))
      index[size_t(perm[d])] = int64_t(rest % size_t(y.shape[d]));
    size_t from = 0;
    for (size_t d = 0; d < index.size(); ++d) from = from * size_t(x.shape[d]) + size_t(index[d]);
    y.data[i] = x.data[from];
  }
  return y;
}

Array matmul(const Array& a, const Array& b) {
  Ints shape_a(a.shape.begin(), a.shape.end() - 2), shape_b(b.shape.begin(), b.shape.end() - 2);
  const Ints& outer = shape_a.size() >= shape_b.size() ? shape_a : shape_b;
  const size_t m = size_t(a.shape[a.shape.size() - 2]), k = size_t(a.shape.back()),
               n = size_t(b.shape.back());
  if (b.shape[b.shape.size() - 2] != int64_t(k)) give_up("MatMul of sizes that differ");
  const auto at_a = places(shape_a, outer), at_b = places(shape_b, outer);
  Array y{outer, {}};
  y.shape.push_back(int64_t(m)), y.shape.push_back(int64_t(n));
  y.data.assign(size_t(count(y.shape)), 0);
  for (size_t batch = 0; batch < at_a.size(); ++batch)
    for (size_t r = 0; r < m; ++r)
      for (size_t i = 0; i < k; ++i) {
        const double left = a.data[(at_a[batch] * m + r) * k + i];
        for (size_t c = 0; c < n; ++c)
          y.data[(batch * m + r) * n + c] += left * b.data[(at_b[batch] * k + i) * n + c];
      }
  return y;
}

/// Calls visit(output index, input index or -1 where that is padding, position in the window) for the window
/// of each output in planes of [H, W].
void windows(const Node& n, const Ints& in, const Ints& out,
             const std::function<void(size_t, int64_t, size_t)>& visit) {
  const Ints kernel = n.lists.at("kernel_shape"), stride = n.lists.at("strides"), pads = n.lists.at("pads");
  const Ints dilation = n.lists.contains("dilations") ? n.lists.at("dilations") : Ints{1, 1};
  for (int64_t y = 0; y < out[0]; ++y)
    for (int64_t x = 0; x < out[1]; ++x)
      for (int64_t i = 0; i < kernel[0]; ++i)
        for (int64_t j = 0; j < kernel[1]; ++j) {
          const int64_t h = y * stride[0] - pads[0] + i * dilation[0],
                        w = x * stride[1] - pads[1] + j * dilation[1];
          const bool inside = h >= 0 && h < in[0] && w >= 0 && w < in[1];
          visit(size_t(y * out[1] + x), inside ? h * in[1] + w : -1, size_t(i * kernel[1] + j));
        }
}

Ints output_sizes(const Node& n, const Ints& in) {
  const Ints kernel = n.lists.at("kernel_shape"), stride = n.lists.at("strides"), pads = n.lists.at("pads");
  const Ints dilation = n.lists.contains("dilations") ? n.lists.at("dilations") : Ints{1, 1};
  Ints out;
  for (size_t d = 0; d < 2; ++d)
    out.push_back((in[d] + pads[d] + pads[d + 2] - dilation[d] * (kernel[d] - 1) - 1) / stride[d] + 1);
  return out;
}

Array conv(const Node& n, const Array& x, const Array& w, const Array* bias) {
  const Ints in{x.shape[2], x.shape[3]}, out = output_sizes(n, in);
  const size_t groups = size_t(n.numbers.at("group")), outs = size_t(w.shape[0]), per = size_t(w.shape[1]);
  if (per * groups != size_t(x.shape[1])) give_up("Conv of channels that differ");
  const size_t taps = size_t(w.shape[2] * w.shape[3]), from = size_t(in[0] * in[1]),
               to = size_t(out[0] * out[1]);
  Array y{{x.shape[0], int64_t(outs), out[0], out[1]}, {}};
  y.data.assign(size_t(count(y.shape)), 0);
  struct Tap {
    size_t to, from, tap;
  };
  std::vector<Tap> list;
  windows(n, in, out, [&](size_t o, int64_t i, size_t tap) {
    if (i >= 0) list.push_back({o, size_t(i), tap});
  });
  for (size_t image = 0; image < size_t(x.shape[0]); ++image)
    for (size_t o = 0; o < outs; ++o) {
      double* const plane = &y.data[(image * outs + o) * to];
      if (bias) std::fill_n(plane, to, bias->data[o]);
      for (size_t c = 0; c < per; ++c) {
        const double* const source =
            &x.data[(image * size_t(x.shape[1]) + o / (outs / groups) * per + c) * from];
        const double* const weight = &w.data[(o * per + c) * taps];
        for (const Tap& t : list) plane[t.to] += source[t.from] * weight[t.tap];
      }
    }
  return y;
}

Array conv_transpose(const Node& n, const Array& x, const Array& w) {
  const Ints kernel = n.lists.at("kernel_shape"), stride = n.lists.at("strides"), pads = n.lists.at("pads"),
             dilation = n.lists.at("dilations"), more = n.lists.at("output_padding");
  Ints out;
  for (size_t d = 0; d < 2; ++d)
    out.push_back((x.shape[d + 2] - 1) * stride[d] + dilation[d] * (kernel[d] - 1) + 1 - pads[d] -
                  pads[d + 2] + more[d]);
  const size_t groups = size_t(n.numbers.at("group")), ins = size_t(x.shape[1]), per = size_t(w.shape[1]);
  const Ints in{x.shape[2], x.shape[3]};
  Array y{{x.shape[0], int64_t(per * groups), out[0], out[1]}, {}};
  y.data.assign(size_t(count(y.shape)), 0);
  const size_t from = size_t(in[0] * in[1]), to = size_t(out[0] * out[1]),
               taps = size_t(kernel[0] * kernel[1]);
  for (size_t image = 0; image < size_t(x.shape[0]); ++image)
    for (size_t c = 0; c < ins; ++c)
      for (size_t o = 0; o < per; ++o)
        windows(n, out, in, [&](size_t i, int64_t at, size_t tap) {  // the other way round
          if (at < 0) return;
          y.data[(image * per * groups + c / (ins / groups) * per + o) * to + size_t(at)] +=
              x.data[(image * ins + c) * from + i] * w.data[(c * per + o) * taps + tap];
        });
  return y;
}

Array pool(const Node& n, const Array& x, bool average) {
  const Ints in{x.shape[2], x.shape[3]}, out = output_sizes(n, in);
  const bool all = n.numbers.contains("count_include_pad") && n.numbers.at("count_include_pad") == 1;
  const size_t from = size_t(in[0] * in[1]), to = size_t(out[0] * out[1]),
               planes = size_t(x.shape[0] * x.shape[1]);
  Array y{{x.shape[0], x.shape[1], out[0], out[1]}, {}};
  y.data.assign(planes * to, average ? 0 : -std::numeric_limits<double>::infinity());
  for (size_t p = 0; p < planes; ++p) {
    std::vector<double> counted(to, 0);
    windows(n, in, out, [&](size_t o, int64_t i, size_t) {
      counted[o] += i >= 0 || all;
      if (i < 0) return;
      double &value = y.data[p * to + o], v = x.data[p * from + size_t(i)];
      value = average ? value + v : std::max(value, v);
    });
    for (size_t o = 0; average && o < to; ++o) y.data[p * to + o] /= counted[o];
  }
  return y;
}

Array reduce(const Array& x, const Ints& axes, bool keep, double start,
             const std::function<double(double, double)>& add) {
  Ints kept = x.shape, shape;
  for (int64_t d : axes) kept[size_t(d)] = 1;
  for (size_t d = 0; d < kept.size(); ++d)
    if (keep || std::find(axes.begin(), axes.end(), int64_t(d)) == axes.end()) shape.push_back(kept[d]);
  Array y{shape, std::vector<double>(size_t(count(kept)), start)};
  const auto at = places(kept, x.shape);
  for (size_t i = 0; i < x.data.size(); ++i) y.data[at[i]] = add(y.data[at[i]], x.data[i]);
  return y;
}

Ints integers(const Array& a) { return {a.data.begin(), a.data.end()}; }

using Operands = std::vector<const Array*>;
using Function = std::function<double(const double*)>;

const std::map<std::string, Function>& functions() {
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  static const std::map<std::string, Function> all{
      {"Abs", [](const double* v) { return std::abs(v[0]); }},
      {"Add", [](const double* v) { return v[0] + v[1]; }},
      {"Clip", [](const double* v) { return std::min(v[2], std::max(v[1], v[0])); }},
      {"Cos", [](const double* v) { return std::cos(v[0]); }},
      {"Div", [](const double* v) { return v[0] / v[1]; }},
      {"Erf", [](const double* v) { return std::erf(v[0]); }},
      {"Exp", [](const double* v) { return std::exp(v[0]); }},
      {"Greater", [](const double* v) { return double(v[0] > v[1]); }},
      {"GreaterOrEqual", [](const double* v) { return double(v[0] >= v[1]); }},
      {"Less", [](const double* v) { return double(v[0] < v[1]); }},
      {"LessOrEqual", [](const double* v) { return double(v[0] <= v[1]); }},
      {"Log", [](const double* v) { return std::log(v[0]); }},
      {"Max", [](const double* v) { return std::max(v[0], v[1]); }},
      {"Min", [](const double* v) { return std::min(v[0], v[1]); }},
      {"Mul", [](const double* v) { return v[0] * v[1]; }},
      {"Neg", [](const double* v) { return -v[0]; }},
      {"PRelu", [](const double* v) { return v[0] < 0 ? v[1] * v[0] : v[0]; }},
      {"Reciprocal", [](const double* v) { return 1 / v[0]; }},
      {"Relu", [](const double* v) { return std::max(0.0, v[0]); }},
      {"Sigmoid", [=](const double* v) { return sigmoid(v[0]); }},
      {"Sin", [](const double* v) { return std::sin(v[0]); }},
      {"Softplus", [](const double* v) { return std::log1p(std::exp(v[0])); }},
      {"Softsign", [](const double* v) { return v[0] / (1 + std::abs(v[0])); }},
      {"Sqrt", [](const double* v) { return std::sqrt(v[0]); }},
      {"Sub", [](const double* v) { return v[0] - v[1]; }},
      {"Tanh", [](const double* v) { return std::tanh(v[0]); }},
      {"Where", [](const double* v) { return v[0] != 0 ? v[1] : v[2]; }},
  };
  return all;
}

Array slice(const Array& x, const Operands& in) {
  Array y{x.shape, {}};
  const size_t d = size_t(integers(*in[3])[0]);
  const int64_t start = integers(*in[1])[0], end = integers(*in[2])[0];
  y.shape[d] = end - start;
  int64_t inner = 1;
  for (size_t k = d + 1; k < x.shape.size(); ++k) inner *= x.shape[k];
  for (int64_t i = 0; i < int64_t(x.data.size()); ++i)
    if (const int64_t at = i / inner % x.shape[d]; at >= start && at < end)
      y.data.push_back(x.data[size_t(i)]);
  return y;
}

Array pad(const Array& x, const Ints& pads) {
  Array y{x.shape, {}};
  const size_t n = x.shape.size();
  for (size_t d = 0; d < n; ++d) y.shape[d] += pads[d] + pads[n + d];
  y.data.assign(size_t(count(y.shape)), 0);
  for (size_t i = 0; i < x.data.size(); ++i) {
    size_t rest = i, to = 0, step = 1;
    for (size_t d = n; d-- > 0; rest /= size_t(x.shape[d])) {
      to += (rest % size_t(x.shape[d]) + size_t(pads[d])) * step;
      step *= size_t(y.shape[d]);
    }
    y.data[to] = x.data[i];
  }
  return y;
}

Array concat(const Operands& in, size_t axis) {
  Array y{in[0]->shape, {}};
  int64_t outer = 1, inner = 1;
  for (size_t d = 0; d < y.shape.size(); ++d) (d < axis ? outer : inner) *= d == axis ? 1 : y.shape[d];
  y.shape[axis] = 0;
  for (const Array* a : in) y.shape[axis] += a->shape[axis];
  for (int64_t o = 0; o < outer; ++o)
    for (const Array* a : in) {
      const int64_t width = a->shape[axis] * inner;
      y.data.insert(y.data.end(), a->data.begin() + o * width, a->data.begin() + (o + 1) * width);
    }
  return y;
}

/// (x - mean) / sqrt(var + epsilon) over rows of n.
void normalize(std::vector<double>& x, size_t n, double epsilon) {
  for (size_t row = 0; row < x.size(); row += n) {
    double mean = 0, var = 0;
    for (size_t i = row; i < row + n; ++i) mean += x[i] / double(n);
    for (size_t i = row; i < row + n; ++i) var += (x[i] - mean) * (x[i] - mean) / double(n);
    for (size_t i = row; i < row + n; ++i) x[i] = (x[i] - mean) / std::sqrt(var + epsilon);
  }
}

Array compute(const Node& n, const Operands& in) {
  const auto number = [&](const char* name) { return n.numbers.at(name); };
  const auto each = [&](const std::function<double(double)>& f) {
    return elementwise({in[0]}, [&](const double* v) { return f(*v); });
  };
  if (const auto f = functions().find(n.op); f != functions().end()) return elementwise(in, f->second);
  const Array& x = *in[0];
  if (n.op == "LeakyRelu") return each([&](double v) { return v < 0 ? number("alpha") * v : v; });
  if (n.op == "Elu") return each([&](double v) { return v < 0 ? number("alpha") * std::expm1(v) : v; });
  if (n.op == "Selu")
    return each([&](double v) { return number("gamma") * (v > 0 ? v : number("alpha") * std::expm1(v)); });
  if (n.op == "HardSigmoid")
    return each([&](double v) { return std::clamp(number("alpha") * v + number("beta"), 0.0, 1.0); });
  if (n.op == "Conv") return conv(n, x, *in[1], in.size() > 2 ? in[2] : nullptr);
  if (n.op == "ConvTranspose") return conv_transpose(n, x, *in[1]);
  if (n.op == "MaxPool") return pool(n, x, false);
  if (n.op == "AveragePool") return pool(n, x, true);
  if (n.op == "BatchNormalization") {
    Array y = x;
    const size_t channels = size_t(x.shape[1]), inner = x.data.size() / size_t(x.shape[0]) / channels;
    for (size_t i = 0; i < y.data.size(); ++i) {
      const size_t c = i / inner % channels;
      y.data[i] =
          (y.data[i] - in[3]->data[c]) / std::sqrt(in[4]->data[c] + number("epsilon")) * in[1]->data[c] +
          in[2]->data[c];
    }
    return y;
  }
  if (n.op == "LayerNormalization") {
    Array y = x;
    const Ints last(x.shape.begin() + int64_t(number("axis")), x.shape.end());
    normalize(y.data, size_t(count(last)), number("epsilon"));
    y = elementwise({&y, in[1]}, [](const double* v) { return v[0] * v[1]; });
    return in.size() > 2 ? elementwise({&y, in[2]}, [](const double* v) { return v[0] + v[1]; }) : y;
  }
  if (n.op == "Softmax") {
    if (number("axis") != -1) give_up("Softmax over another axis");
    Array y = x;
    const size_t width = size_t(x.shape.back());
    for (size_t row = 0; row < y.data.size(); row += width) {
      double sum = 0;
      for (size_t i = row; i < row + width; ++i) sum += y.data[i] = std::exp(y.data[i]);
      for (size_t i = row; i < row + width; ++i) y.data[i] /= sum;
    }
    return y;
  }
  if (n.op == "MatMul") return matmul(x, *in[1]);
  if (n.op == "Gemm") {
    if (number("transB") != 1) give_up("Gemm with a weight that is not transposed");
    const Array y = matmul(x, transpose(*in[1], {1, 0}));
    return in.size() > 2 ? elementwise({&y, in[2]}, [](const double* v) { return v[0] + v[1]; }) : y;
  }
  if (n.op == "Transpose") return transpose(x, n.lists.at("perm"));
  if (n.op == "Reshape") {
    Array y{integers(*in[1]), x.data};
    const auto open = std::find(y.shape.begin(), y.shape.end(), -1);
    if (open != y.shape.end()) *open = 1, *open = int64_t(x.data.size()) / count(y.shape);
    if (count(y.shape) != int64_t(x.data.size())) give_up("Reshape to another number of elements");
    return y;
  }
  if (n.op == "Expand") {
    const Array target{integers(*in[1]), std::vector<double>(size_t(count(integers(*in[1]))))};
    return elementwise({&x, &target}, [](const double* v) { return v[0]; });
  }
  if (n.op == "Shape") {
    const Ints part(x.shape.begin() + int64_t(number("start")), x.shape.begin() + int64_t(number("end")));
    return {{int64_t(part.size())}, {part.begin(), part.end()}};
  }
  if (n.op == "Slice") return slice(x, in);
  if (n.op == "Pad") return pad(x, integers(*in[1]));
  if (n.op == "Concat") return concat(in, size_t(number("axis")));
  const bool keep = !n.numbers.contains("keepdims") || number("keepdims") != 0;
  constexpr double kMost = std::numeric_limits<double>::infinity();
  const auto sum = std::plus<double>();
  if (n.op == "ReduceSum") return reduce(x, integers(*in[1]), keep, 0, sum);
  if (n.op == "ReduceMax")
    return reduce(x, n.lists.at("axes"), keep, -kMost, [](double a, double b) { return std::max(a, b); });
  if (n.op == "ReduceMin")
    return reduce(x, n.lists.at("axes"), keep, kMost, [](double a, double b) { return std::min(a, b); });
  if (n.op == "ReduceMean") {
    Array y = reduce(x, n.lists.at("axes"), keep, 0, sum);
    for (double& v : y.data) v *= double(y.data.size()) / double(x.data.size());
    return y;
  }
  give_up("unknown operator " + n.op);
}

}  // namespace

Model read(std::string_view bytes) {
  Model m;
  std::string_view graph;
  each_field(bytes, [&](int field, uint64_t value, std::string_view text) {
    if (field == 1) m.ir_version = int64_t(value);
    if (field == 2) m.producer = text;
    if (field == 7) graph = text;
    if (field == 8)
      each_field(text, [&](int part, uint64_t version, std::string_view) {
        if (part == 2) m.opset = int64_t(version);
      });
    if (field == 14) {
      std::string key, entry;
      each_field(text, [&](int part, uint64_t, std::string_view s) { (part == 1 ? key : entry) = s; });
      m.metadata[key] = entry;
    }
  });
  each_field(graph, [&](int field, uint64_t, std::string_view text) {
    if (field == 1) m.nodes.push_back(read_node(text));
    if (field == 5 && !m.constants.insert(read_tensor(text)).second) give_up("a name that occurs twice");
    if (field == 11) m.inputs.insert(read_value_info(text));
    if (field == 12) m.outputs.insert(read_value_info(text));
  });
  return m;
}

Array run(const Model& model, const Array& input) {
  std::map<std::string, Array> values{{model.inputs.begin()->first, input}};
  for (const Node& n : model.nodes) {
    Operands in;
    for (const std::string& name : n.inputs) {
      const auto value = values.find(name);
      const auto constant = model.constants.find(name);
      if ((value == values.end()) == (constant == model.constants.end()))
        give_up(n.name + " takes " + name + ", which is not there, or twice");
      in.push_back(value != values.end() ? &value->second : &constant->second);
    }
    if (n.outputs.size() != 1 || !values.emplace(n.outputs[0], compute(n, in)).second)
      give_up(n.name + " gives what is there already");
  }
  return values.at(model.outputs.begin()->first);
}

}  // namespace weft::test::onnx
