// The other side of odd_shapes.py: reads a line "OP SHAPE... [NAME=NUMBER...]" per case from the standard
// input and answers each with the medians of a forward and a backward pass in milliseconds.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "weft/weft.h"

using namespace weft;

namespace {

struct Case {
  std::string line, op;
  std::vector<Shape> shapes;
  std::map<std::string, int> options;

  explicit Case(std::string text) : line(std::move(text)) {
    std::istringstream words(line);
    words >> op;
    for (std::string word; words >> word;) {
      if (const size_t equals = word.find('='); equals != std::string::npos) {
        options[word.substr(0, equals)] = std::stoi(word.substr(equals + 1));
        continue;
      }
      Shape shape;
      std::istringstream sizes(word);
      for (std::string size; std::getline(sizes, size, ',');) shape.push_back(std::stoll(size));
      shapes.push_back(shape);
    }
  }
  int option(const std::string& name, int by_default) const {
    const auto found = options.find(name);
    return found == options.end() ? by_default : found->second;
  }
};

using Inputs = std::vector<Tensor>;
using Op = std::function<Tensor(const Inputs&, const Case&)>;

Tensor labels_for(const Tensor& logits) {
  const Tensor labels = Tensor::empty({logits.size(0)}, DType::i64);
  for (int64_t i = 0; i < labels.numel(); ++i) labels.data<int64_t>()[i] = i * 7919 % logits.size(1);
  return labels;
}

/// [count] indices all over dimension `dim`, or one for each element; made once for a case.
Tensor index_for(const Tensor& x, const Case& c, bool for_each) {
  static std::map<std::string, Tensor> made;
  Tensor& index = made[c.line];
  if (index.defined()) return index;
  const int dim = c.option("dim", 0);
  Shape shape = x.shape();
  shape.set(dim, c.option("count", 1));
  if (!for_each) shape = {shape[dim]};
  index = Tensor::empty(shape, DType::i64);
  for (int64_t i = 0; i < index.numel(); ++i) index.data<int64_t>()[i] = i * 7919 % x.size(dim);
  return index;
}

Conv2dOptions conv_options(const Case& c) {
  return {.stride = c.option("stride", 1),
          .padding = c.option("padding", 0),
          .dilation = c.option("dilation", 1),
          .groups = c.option("groups", 1)};
}
Pool2dOptions pool_options(const Case& c) {
  const int kernel = c.option("kernel", 2);
  return {.kernel = kernel, .stride = c.option("stride", kernel), .padding = c.option("padding", 0)};
}

const std::map<std::string, Op>& ops() {
  static const std::map<std::string, Op> all = {
      {"conv2d", [](auto& t, auto& c) { return conv2d(t[0], t[1], {}, conv_options(c)); }},
      {"conv1d", [](auto& t, auto& c) { return conv1d(t[0], t[1], {}, conv_options(c)); }},
      {"conv_transpose2d",
       [](auto& t, auto& c) { return conv_transpose2d(t[0], t[1], {}, {.stride = c.option("stride", 1)}); }},
      {"matmul", [](auto& t, auto&) { return matmul(t[0], t[1]); }},
      {"bmm", [](auto& t, auto&) { return bmm(t[0], t[1]); }},
      {"linear", [](auto& t, auto&) { return linear(t[0], t[1], t[2]); }},
      {"add", [](auto& t, auto&) { return add(t[0], t[1]); }},
      {"mul", [](auto& t, auto&) { return mul(t[0], t[1]); }},
      {"div", [](auto& t, auto&) { return div(t[0], t[1]); }},
      {"maximum", [](auto& t, auto&) { return maximum(t[0], t[1]); }},
      {"exp", [](auto& t, auto&) { return exp(t[0]); }},
      {"gelu", [](auto& t, auto&) { return gelu(t[0]); }},
      {"silu", [](auto& t, auto&) { return silu(t[0]); }},
      {"mish", [](auto& t, auto&) { return mish(t[0]); }},
      {"sum", [](auto& t, auto& c) { return sum(t[0], {c.option("dim", 0)}); }},
      {"mean", [](auto& t, auto& c) { return mean(t[0], {c.option("dim", 0)}); }},
      {"amax", [](auto& t, auto& c) { return amax(t[0], {c.option("dim", 0)}); }},
      {"softmax", [](auto& t, auto&) { return softmax(t[0]); }},
      {"log_softmax", [](auto& t, auto&) { return log_softmax(t[0]); }},
      {"cross_entropy", [](auto& t, auto&) { return cross_entropy(t[0], labels_for(t[0])); }},
      {"mse_loss", [](auto& t, auto&) { return mse_loss(t[0], t[1]); }},
      {"layer_norm", [](auto& t, auto&) { return layer_norm(t[0], {t[0].size(-1)}); }},
      {"group_norm", [](auto& t, auto& c) { return group_norm(t[0], c.option("groups", 1)); }},
      {"permute",
       [](auto& t, auto& c) {
         std::vector<int> order;
         for (const char digit : std::to_string(c.option("order", 10))) order.push_back(digit - '0');
         if (int(order.size()) < t[0].ndim()) order.insert(order.begin(), 0);
         return permute(t[0], order);
       }},
      {"cat", [](auto& t, auto& c) { return concat(t, c.option("dim", 0)); }},
      {"narrow",
       [](auto& t, auto& c) {
         return narrow(t[0], c.option("dim", 0), c.option("start", 0), c.option("length", 1));
       }},
      {"max_pool2d", [](auto& t, auto& c) { return max_pool2d(t[0], pool_options(c)); }},
      {"avg_pool2d", [](auto& t, auto& c) { return avg_pool2d(t[0], pool_options(c)); }},
      {"dropout", [](auto& t, auto&) { return dropout(t[0], 0.5); }},
      {"sin", [](auto& t, auto&) { return sin(t[0]); }},
      {"var", [](auto& t, auto& c) { return var(t[0], {c.option("dim", 0)}); }},
      {"logsumexp", [](auto& t, auto& c) { return logsumexp(t[0], {c.option("dim", 0)}); }},
      {"cumsum", [](auto& t, auto& c) { return cumsum(t[0], c.option("dim", 0)); }},
      {"sort", [](auto& t, auto& c) { return sort(t[0], c.option("dim", 0)).values; }},
      {"topk", [](auto& t, auto& c) { return topk(t[0], c.option("k", 1), c.option("dim", 0)).values; }},
      {"gather", [](auto& t, auto& c) { return gather(t[0], c.option("dim", 0), index_for(t[0], c, true)); }},
      {"index_select",
       [](auto& t, auto& c) { return index_select(t[0], c.option("dim", 0), index_for(t[0], c, false)); }},
      {"qk", [](auto& t, auto&) { return einsum("bqhd,bkhd->bhqk", t); }},
      {"attention", [](auto& t, auto&) { return scaled_dot_product_attention(t[0], t[1], t[2]); }},
  };
  return all;
}

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + int64_t(values.size() / 2), values.end());
  return values[values.size() / 2];
}

void measure(const Case& c, double limit) {
  const Op& op = ops().at(c.op);
  Inputs inputs;
  for (const Shape& shape : c.shapes) {
    inputs.push_back(Tensor::uniform(shape, -1, 1));
    inputs.back().set_requires_grad(true);
  }
  Tensor dy;
  {
    const NoGrad quiet;
    dy = Tensor::ones(op(inputs, c).shape());
  }
  std::vector<double> forward, backward;
  const double begin = seconds();
  while (forward.size() < 5 || (seconds() - begin < limit && forward.size() < 500)) {
    double start = seconds();
    {
      const NoGrad quiet;
      op(inputs, c);
      forward.push_back(seconds() - start);
    }
    Tape tape;
    const Tensor y = op(inputs, c);
    start = seconds();
    tape.backward(y, dy);
    backward.push_back(seconds() - start);
    for (const Tensor& t : inputs) t.zero_grad();
  }
  std::printf("%.5f %.5f\n", median(forward) * 1e3, median(backward) * 1e3);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const double limit = argc > 1 ? std::stod(argv[1]) : 0.3;
  if (argc > 2) set_num_threads(std::stoi(argv[2]));
  for (std::string line; std::getline(std::cin, line);) measure(Case(line), limit);
}
