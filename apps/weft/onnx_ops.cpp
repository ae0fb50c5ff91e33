#include "weft/apps/weft/onnx_ops.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "weft/apps/weft/onnx_activations.h"
#include "weft/engine/ops/conv.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/traced.h"
#include "weft/kernels/kernels.h"

namespace weft::app::onnx {
namespace {

using Ints = std::vector<int64_t>;
constexpr Layout kFirst = Layout::channels_first, kLast = Layout::channels_last;

/// The layout in which an op that treats all elements alike takes its operands and gives its result: with the
/// channels first where an operand is there so and all can be.
Layout common_layout(const Graph& g, const std::vector<Tensor>& operands, const Tensor& result) {
  bool first = false;
  for (const Tensor& t : operands) {
    if (!t.defined()) continue;
    const bool one_each = t.ndim() == 1 && !g.is_value(t);
    if (result.ndim() < 3 || (t.ndim() != result.ndim() && t.numel() != 1 && !one_each)) return kLast;
    first = first || g.has(t, kFirst);
  }
  return first ? kFirst : kLast;
}

/// A dimension of a tensor of `ndim` dimensions in that layout.
int64_t place(int dim, int ndim, Layout layout) {
  if (layout == kLast || dim == 0) return dim;
  return dim == ndim - 1 ? 1 : dim + 1;
}

// --- each element by itself ---

void elementwise(Graph& g, const TracedOp& op, const char* name) {
  const Tensor& y = op.outputs[0];
  const Layout layout = common_layout(g, op.inputs, y);
  std::vector<std::string> inputs;
  for (const Tensor& t : op.inputs) inputs.push_back(g.beside(t, layout, y.ndim()));
  g.set(y, layout, g.node(name, inputs));
}

void add_square(Graph& g, const TracedOp& op) {
  const Layout layout = common_layout(g, op.inputs, op.outputs[0]);
  const std::string x = g.get(op.inputs[0], layout);
  g.set(op.outputs[0], layout, g.node("Mul", {x, x}));
}

void add_affine(Graph& g, const TracedOp& op) {
  const auto& [scale, shift] = op.told_as<TracedAffine>();
  const Layout layout = common_layout(g, op.inputs, op.outputs[0]);
  std::string y = g.get(op.inputs[0], layout);
  if (scale != 1) y = g.node("Mul", {y, g.number(scale)});
  if (shift != 0 || scale == 1) y = g.node("Add", {y, g.number(shift)});
  g.set(op.outputs[0], layout, y);
}

/// activation(), or learned_activation() with its parameters behind x.
void activate(Graph& g, const TracedOp& op) {
  const auto& [activation, param] = op.told_as<TracedActivation>();
  const Layout layout = common_layout(g, op.inputs, op.outputs[0]);
  std::vector<std::string> parameters;
  for (size_t i = 1; i < op.inputs.size(); ++i)
    parameters.push_back(g.beside(op.inputs[i], layout, op.outputs[0].ndim()));
  g.set(op.outputs[0], layout, add_activation(g, g.get(op.inputs[0], layout), activation, param, parameters));
}

void add_then_activate(Graph& g, const TracedOp& op) {
  const auto& [activation, param] = op.told_as<TracedActivation>();
  const Layout layout = common_layout(g, op.inputs, op.outputs[0]);
  const std::string sum = g.node("Add", {g.get(op.inputs[0], layout), g.get(op.inputs[1], layout)});
  g.set(op.outputs[0], layout, add_activation(g, sum, activation, param));
}

// --- images ---

/// The weight of a convolution, which must be a constant: OHWI to OIHW (IHWO to IOHW).
std::string filters(Graph& g, const TracedOp& op) {
  check(!g.is_value(op.inputs[1]), "export: ", op.op, " in ", op.scope, ": its weight depends on the images");
  return g.get(op.inputs[1], kFirst);
}

void add_conv2d(Graph& g, const TracedOp& op) {
  const auto& o = op.told_as<Conv2dOptions>();
  const Tensor &weight = op.inputs[1], &bias = op.inputs[2];
  std::vector<std::string> inputs{g.get(op.inputs[0], kFirst), filters(g, op)};
  if (bias.defined()) inputs.push_back(g.get(bias));
  g.set(op.outputs[0], kFirst,
        g.node("Conv", inputs,
               {{"kernel_shape", Ints{weight.size(1), weight.size(2)}},
                {"strides", Ints(2, o.stride)},
                {"pads", Ints(4, o.padding)},
                {"dilations", Ints(2, o.dilation)},
                {"group", o.groups}}));
}

void add_conv_transpose2d(Graph& g, const TracedOp& op) {
  const auto& p = op.told_as<kernels::Conv2dParams>();  // of the convolution that leads back
  const auto missing = [](int64_t whole, int64_t in, int64_t kernel, int64_t stride, int64_t pad,
                          int64_t dilation) {
    return whole - ((in - 1) * stride + dilation * (kernel - 1) + 1 - 2 * pad);
  };
  const Tensor& x = op.inputs[0];
  g.set(op.outputs[0], kFirst,
        g.node("ConvTranspose", {g.get(x, kFirst), filters(g, op)},
               {{"kernel_shape", Ints{p.kernel_h, p.kernel_w}},
                {"strides", Ints{p.stride_h, p.stride_w}},
                {"pads", Ints{p.pad_h, p.pad_w, p.pad_h, p.pad_w}},
                {"dilations", Ints{p.dilation_h, p.dilation_w}},
                {"output_padding",
                 Ints{missing(p.in_h, x.size(1), p.kernel_h, p.stride_h, p.pad_h, p.dilation_h),
                      missing(p.in_w, x.size(2), p.kernel_w, p.stride_w, p.pad_w, p.dilation_w)}},
                {"group", p.groups}}));
}

/// Sizes are those that weft has computed: what hangs over the edge in ceil mode is padding at the end, which
/// neither a maximum nor an average counts.
void add_pool(Graph& g, const TracedOp& op, const char* name, bool average) {
  const auto& p = op.told_as<kernels::Pool2dParams>();
  const auto behind = [](int64_t out, int64_t stride, int64_t kernel, int64_t in, int64_t pad) {
    return std::max<int64_t>(0, (out - 1) * stride + kernel - in - pad);
  };
  const int64_t end_h = behind(p.out_h, p.stride_h, p.kernel_h, p.in_h, p.pad_h),
                end_w = behind(p.out_w, p.stride_w, p.kernel_w, p.in_w, p.pad_w);
  std::vector<Attribute> attributes{{"kernel_shape", Ints{p.kernel_h, p.kernel_w}},
                                    {"strides", Ints{p.stride_h, p.stride_w}},
                                    {"pads", Ints{p.pad_h, p.pad_w, end_h, end_w}}};
  if (average && p.count_include_pad && (p.pad_h > 0 || p.pad_w > 0)) {
    check(end_h <= p.pad_h && end_w <= p.pad_w, "export: ", op.op, " in ", op.scope,
          ": padding that counts and windows that hang over the edge can't both be written as ONNX");
    attributes.push_back({"count_include_pad", int64_t{1}});
  }
  g.set(op.outputs[0], kFirst, g.node(name, {g.get(op.inputs[0], kFirst)}, attributes));
}

void add_batch_norm(Graph& g, const TracedOp& op) {
  const auto& told = op.told_as<TracedBatchNorm>();
  check(!told.training, "export: batch_norm in ", op.scope, " is in training; call eval()");
  const Tensor &x = op.inputs[0], &residual = op.inputs[3], &y = op.outputs[0];
  const Layout layout = x.ndim() > 2 ? kFirst : kLast;  // of two dimensions the second are the channels
  std::string z = g.node("BatchNormalization",
                         {g.get(x, layout), g.get(op.inputs[1]), g.get(op.inputs[2]),
                          g.get(told.running_mean), g.get(told.running_var)},
                         {{"epsilon", float(told.options.eps)}});
  if (residual.defined()) z = g.node("Add", {z, g.get(residual, layout)});
  std::vector<std::string> parameters;
  for (size_t i = 4; i < op.inputs.size(); ++i)
    parameters.push_back(g.beside(op.inputs[i], layout, y.ndim()));
  const Activation act = told.options.activation;
  const double param = told.options.activation_param.value_or(activation_default_param(act));
  g.set(y, layout, add_activation(g, z, act, param, parameters));
}

// --- matrices ---

void add_product(Graph& g, const TracedOp& op) {
  const auto& told = op.told_as<MatmulOptions>();
  const Tensor &a = op.inputs[0], &b = op.inputs[1];
  g.set(op.outputs[0], kLast,
        g.node("MatMul", {told.transpose_a ? g.transposed(a) : g.get(a),
                          told.transpose_b ? g.transposed(b) : g.get(b)}));
}

void add_linear(Graph& g, const TracedOp& op) {
  const Tensor &x = op.inputs[0], &weight = op.inputs[1], &bias = op.inputs[2];
  std::string y;
  if (x.ndim() == 2) {
    std::vector<std::string> inputs{g.get(x), g.get(weight)};
    if (bias.defined()) inputs.push_back(g.get(bias));
    y = g.node("Gemm", inputs, {{"transB", int64_t{1}}});
  } else {
    y = g.node("MatMul", {g.get(x), g.transposed(weight)});
    if (bias.defined()) y = g.node("Add", {y, g.get(bias)});
  }
  g.set(op.outputs[0], kLast, y);
}

void add_masked_softmax(Graph& g, const TracedOp& op) {
  const auto& [scale, masked] = op.told_as<TracedSoftmax>();
  check(!masked, "export: attention under a mask, in ", op.scope, ", has no form in ONNX here");
  std::string x = g.get(op.inputs[0]);
  if (scale != 1) x = g.node("Mul", {x, g.number(scale)});
  g.set(op.outputs[0], kLast, g.node("Softmax", {x}, {{"axis", int64_t{-1}}}));
}

void add_layer_norm(Graph& g, const TracedOp& op) {
  const auto& [width, eps] = op.told_as<TracedLayerNorm>();
  const Tensor &x = op.inputs[0], &weight = op.inputs[1], &bias = op.inputs[2];
  int64_t axis = x.ndim() - 1;
  while (x.shape().numel(int(axis), x.ndim()) < width) --axis;
  Shape last;
  for (int d = int(axis); d < x.ndim(); ++d) last.push_back(x.size(d));
  std::vector<std::string> inputs{g.get(x), g.get(weight.defined() ? weight : Tensor::ones(last))};
  if (bias.defined()) inputs.push_back(g.get(bias));
  g.set(op.outputs[0], kLast,
        g.node("LayerNormalization", inputs, {{"axis", axis}, {"epsilon", float(eps)}}));
}

// --- reductions and what moves data ---

void add_reduce(Graph& g, const TracedOp& op, const char* name) {
  const auto& told = op.told_as<TracedReduction>();
  const Tensor& x = op.inputs[0];
  const int n = x.ndim();
  std::vector<bool> gone(size_t(n), told.dims.empty());
  for (int d : told.dims) gone[size_t(x.shape().index(d))] = true;
  // Without the image's height and width what is left has one order.
  const bool image = n > 2 && std::all_of(gone.begin() + 1, gone.end() - 1, [](bool b) { return b; });
  const Layout layout = g.has(x, kFirst) && (told.keepdim || image) ? kFirst : kLast;
  Ints axes;
  for (int d = 0; d < n; ++d)
    if (gone[size_t(d)]) axes.push_back(place(d, n, layout));
  std::vector<std::string> inputs{g.get(x, layout)};
  std::vector<Attribute> attributes{{"keepdims", int64_t{told.keepdim}}};
  if (std::string_view(name) == "ReduceSum")  // the others follow with opset 18
    inputs.push_back(g.integers(axes));
  else
    attributes.push_back({"axes", axes});
  g.set(op.outputs[0], told.keepdim ? layout : kLast, g.node(name, inputs, attributes));
}

void add_reshape(Graph& g, const TracedOp& op) {
  const Tensor &x = op.inputs[0], &y = op.outputs[0];
  if (!g.is_value(y)) g.set(y, kLast, g.reshape(g.get(x), y.shape()));
}

void add_permute(Graph& g, const TracedOp& op) {
  const Tensor& x = op.inputs[0];
  Ints order;
  for (int d : op.told_as<TracedPermute>().order) order.push_back(x.shape().index(d));
  g.set(op.outputs[0], kLast, g.node("Transpose", {g.get(x)}, {{"perm", order}}));
}

void add_narrow(Graph& g, const TracedOp& op) {
  const auto& [dim, start] = op.told_as<TracedPart>();
  const Tensor &x = op.inputs[0], &y = op.outputs[0];
  const Layout layout = common_layout(g, {x}, y);
  g.set(y, layout,
        g.node("Slice", {g.get(x, layout), g.integers({start}), g.integers({start + y.size(dim)}),
                         g.integers({place(dim, y.ndim(), layout)})}));
}

void add_pad(Graph& g, const TracedOp& op) {
  const auto& [dim, start] = op.told_as<TracedPart>();
  const Tensor &x = op.inputs[0], &y = op.outputs[0];
  const Layout layout = common_layout(g, {x}, y);
  const size_t n = size_t(y.ndim()), at = size_t(place(dim, y.ndim(), layout));
  Ints pads(2 * n, 0);
  pads[at] = start, pads[n + at] = y.size(dim) - x.size(dim) - start;
  g.set(y, layout, g.node("Pad", {g.get(x, layout), g.integers(pads)}));
}

void add_concat(Graph& g, const TracedOp& op) {
  const Tensor& y = op.outputs[0];
  const Layout layout = common_layout(g, op.inputs, y);
  std::vector<std::string> inputs;
  for (const Tensor& t : op.inputs) inputs.push_back(g.get(t, layout));
  const int64_t axis = place(op.told_as<TracedConcat>().dim, y.ndim(), layout);
  g.set(y, layout, g.node("Concat", inputs, {{"axis", axis}}));
}

/// An operator of ONNX that is the op as it stands.
using Add = void (*)(Graph& g, const TracedOp& op);
template <size_t n>
struct Name {
  char text[n];
  constexpr Name(const char (&name)[n]) { std::copy_n(name, n, text); }
};
template <Name name>
void plain(Graph& g, const TracedOp& op) {
  elementwise(g, op, name.text);
}
template <Name name>
void reduced(Graph& g, const TracedOp& op) {
  add_reduce(g, op, name.text);
}

const std::map<std::string_view, Add>& table() {
  static const std::map<std::string_view, Add> all{
      {"abs", plain<"Abs">},
      {"add", plain<"Add">},
      {"add_activation", add_then_activate},
      {"affine", add_affine},
      {"amax", reduced<"ReduceMax">},
      {"amin", reduced<"ReduceMin">},
      {"avg_pool2d", [](Graph& g, const TracedOp& op) { add_pool(g, op, "AveragePool", true); }},
      {"batch_norm", add_batch_norm},
      {"bmm", add_product},
      {"concat", add_concat},
      {"conv2d", add_conv2d},
      {"conv_transpose1d", add_conv_transpose2d},  // of images of one row
      {"conv_transpose2d", add_conv_transpose2d},
      {"cos", plain<"Cos">},
      {"div", plain<"Div">},
      {"exp", plain<"Exp">},
      {"layer_norm", add_layer_norm},
      {"linear", add_linear},
      {"log", plain<"Log">},
      {"masked_softmax", add_masked_softmax},
      {"matmul", add_product},
      {"max_pool2d", [](Graph& g, const TracedOp& op) { add_pool(g, op, "MaxPool", false); }},
      {"maximum", plain<"Max">},
      {"mean", reduced<"ReduceMean">},
      {"minimum", plain<"Min">},
      {"mul", plain<"Mul">},
      {"narrow", add_narrow},
      {"neg", plain<"Neg">},
      {"pad", add_pad},
      {"permute", add_permute},
      {"reciprocal", plain<"Reciprocal">},
      {"reshape", add_reshape},
      {"sin", plain<"Sin">},
      {"sqrt", plain<"Sqrt">},
      {"square", add_square},
      {"sub", plain<"Sub">},
      {"sum", reduced<"ReduceSum">},
  };
  return all;
}

}  // namespace

void add_op(Graph& graph, const TracedOp& op) {
  graph.begin(op);
  const auto found = table().find(op.op);
  if (found != table().end()) return found->second(graph, op);
  check(std::any_cast<TracedActivation>(&op.told), "export: the op ", op.op, op.scope.empty() ? "" : " in ",
        op.scope, " has no form in ONNX here; its place is the table in ", "apps/weft/onnx_ops.cpp");
  activate(graph, op);
}

}  // namespace weft::app::onnx
