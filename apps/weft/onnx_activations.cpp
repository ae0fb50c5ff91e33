#include "weft/apps/weft/onnx_activations.h"

#include <cmath>
#include <type_traits>

#include "weft/engine/error.h"
#include "weft/kernels/activation_in_hand.h"
#include "weft/kernels/with_activation.h"

namespace weft::app::onnx {

/// A number, or a value of the graph: what takes the place of V in an activation's formula.
struct Symbol {
  Graph* graph = nullptr;  // null: a number
  std::string name = {};
  double constant = 0;

  Symbol() = default;
  template <class Number>
  requires std::is_arithmetic_v<Number>
  explicit Symbol(Number number) : constant(double(number)) {}
  Symbol(Graph& g, std::string value) : graph(&g), name(std::move(value)) {}
  std::string in(Graph& g) const { return graph ? name : g.number(constant); }
};

/// A comparison of two of them.
struct Condition {
  Symbol symbol;
};

namespace {

Symbol apply(const char* op, const Symbol& x, std::vector<Attribute> attributes = {}) {
  return {*x.graph, x.graph->node(op, {x.name}, std::move(attributes))};
}
Symbol apply(const char* op, const Symbol& a, const Symbol& b) {
  Graph& g = a.graph ? *a.graph : *b.graph;
  return {g, g.node(op, {a.in(g), b.in(g)})};
}
Attribute with(const char* name, double value) { return {name, float(value)}; }

/// What is made of numbers alone is a number.
template <class Compute>
Symbol fold(const char* op, const Symbol& a, const Symbol& b, Compute compute) {
  return a.graph || b.graph ? apply(op, a, b) : Symbol(compute(a.constant, b.constant));
}
template <class Compute>
Symbol fold(const char* op, const Symbol& x, Compute compute) {
  return x.graph ? apply(op, x) : Symbol(compute(x.constant));
}

}  // namespace

Symbol operator+(const Symbol& a, const Symbol& b) { return fold("Add", a, b, std::plus<>()); }
Symbol operator-(const Symbol& a, const Symbol& b) {
  if (!a.graph && a.constant == 0 && b.graph) return apply("Neg", b);
  return fold("Sub", a, b, std::minus<>());
}
Symbol operator*(const Symbol& a, const Symbol& b) { return fold("Mul", a, b, std::multiplies<>()); }
Symbol operator/(const Symbol& a, const Symbol& b) { return fold("Div", a, b, std::divides<>()); }
Condition operator<(const Symbol& a, const Symbol& b) { return {apply("Less", a, b)}; }
Condition operator>(const Symbol& a, const Symbol& b) { return {apply("Greater", a, b)}; }
Condition operator<=(const Symbol& a, const Symbol& b) { return {apply("LessOrEqual", a, b)}; }
Condition operator>=(const Symbol& a, const Symbol& b) { return {apply("GreaterOrEqual", a, b)}; }

// The functions of kernels/math.h, found by their argument.
Symbol exp(const Symbol& x) {
  return fold("Exp", x, [](double v) { return std::exp(v); });
}
Symbol bounded_exp(const Symbol& x) { return exp(x); }
Symbol expm1(const Symbol& x) { return exp(x) - Symbol(1); }
Symbol log1p(const Symbol& x) {
  return fold("Log", Symbol(1) + x, [](double v) { return std::log(v); });
}
Symbol tanh(const Symbol& x) { return apply("Tanh", x); }
Symbol erf(const Symbol& x) { return apply("Erf", x); }
Symbol sin(const Symbol& x) { return apply("Sin", x); }
Symbol cos(const Symbol& x) { return apply("Cos", x); }
Symbol sqrt(const Symbol& x) { return apply("Sqrt", x); }
Symbol abs(const Symbol& x) { return apply("Abs", x); }
Symbol reciprocal(const Symbol& x) { return apply("Reciprocal", x); }
Symbol normal_cdf(const Symbol& x) { return Symbol(0.5) * (Symbol(1) + erf(Symbol(std::sqrt(0.5)) * x)); }
Symbol max(const Symbol& a, const Symbol& b) { return apply("Max", a, b); }
Symbol min(const Symbol& a, const Symbol& b) { return apply("Min", a, b); }
Symbol clamp(const Symbol& x, const Symbol& low, const Symbol& high) {
  Graph& g = *x.graph;
  return {g, g.node("Clip", {x.name, low.in(g), high.in(g)})};
}
Symbol zero_or_nan(const Symbol&) { return Symbol(0); }
Symbol select(const Condition& c, const Symbol& a, const Symbol& b) {
  Graph& g = *c.symbol.graph;
  return {g, g.node("Where", {c.symbol.name, a.in(g), b.in(g)})};
}

}  // namespace weft::app::onnx

// Where ONNX has an operator, or where the formula guards against what float can't do in the kernels alone.
namespace weft::kernels::activations {

using app::onnx::apply;
using app::onnx::Symbol;
using app::onnx::with;

template <>
Symbol relu::forward(Symbol x, Symbol) {
  return apply("Relu", x);
}
template <>
Symbol leaky_relu::forward(Symbol x, Symbol slope) {
  return apply("LeakyRelu", x, {with("alpha", slope.constant)});
}
template <>
Symbol elu::forward(Symbol x, Symbol alpha) {
  return apply("Elu", x, {with("alpha", alpha.constant)});
}
template <>
Symbol selu::forward(Symbol x, Symbol) {
  return apply("Selu", x, {with("alpha", alpha), with("gamma", scale)});
}
template <>
Symbol sigmoid::forward(Symbol x, Symbol) {
  return apply("Sigmoid", x);
}
template <>
Symbol softplus::forward(Symbol x, Symbol) {
  return apply("Softplus", x);
}
template <>
Symbol softsign::forward(Symbol x, Symbol) {
  return apply("Softsign", x);
}
template <>
Symbol logsigmoid::forward(Symbol x, Symbol) {
  return Symbol(0) - apply("Softplus", Symbol(0) - x);
}
template <>
Symbol hardsigmoid::forward(Symbol x, Symbol) {
  return apply("HardSigmoid", x, {with("alpha", 1.0 / 6), with("beta", 0.5)});
}
template <>
Symbol hardswish::forward(Symbol x, Symbol) {
  return x * hardsigmoid::forward(x, Symbol(0));
}
template <>
Symbol silu::forward(Symbol x, Symbol) {
  return x * apply("Sigmoid", x);
}
template <>
Symbol mish::forward(Symbol x, Symbol) {
  return x * apply("Tanh", apply("Softplus", x));
}
template <>
Symbol gelu::forward(Symbol x, Symbol) {
  return x * normal_cdf(x);
}
template <>
Symbol tanhshrink::forward(Symbol x, Symbol) {
  return x - apply("Tanh", x);
}
template <>
Symbol tanhexp::forward(Symbol x, Symbol) {
  return x * apply("Tanh", exp(x));
}
template <>
Symbol prelu::forward(Symbol x, const Symbol (&p)[1]) {
  return apply("PRelu", x, p[0]);
}
template <>
Symbol swish_beta::forward(Symbol x, const Symbol (&p)[1]) {
  return x * apply("Sigmoid", p[0] * x);
}

}  // namespace weft::kernels::activations

namespace weft::app::onnx {

std::string add_activation(Graph& graph, const std::string& x, Activation activation, double param,
                           const std::vector<std::string>& parameters) {
  if (activation == Activation::identity) return x;
  Symbol y;
  const Symbol in(graph, x);
  kernels::with_activation(activation, [&](auto act) { y = act.forward(in, Symbol(param)); });
  kernels::with_learned_activation(activation, [&]<class A>(A) {
    constexpr int kCount = kernels::kLearnedCount<A>;
    check(int(parameters.size()) == kCount, "export: ", activation_name(activation), " without parameters");
    Symbol p[kCount];
    for (int k = 0; k < kCount; ++k) p[k] = Symbol(graph, parameters[size_t(k)]);
    y = A::forward(in, p);
  });
  check(y.graph, "export: the activation ", activation_name(activation), " can't be written as ONNX");
  return y.name;
}

}  // namespace weft::app::onnx
