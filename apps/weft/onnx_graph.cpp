#include "weft/apps/weft/onnx_graph.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "weft/engine/error.h"

namespace weft::app::onnx {

std::vector<int> to_channels_first(int ndim) {
  std::vector<int> order{0, ndim - 1};
  for (int d = 1; d + 1 < ndim; ++d) order.push_back(d);
  return order;
}
std::vector<int> to_channels_last(int ndim) {
  std::vector<int> order{0};
  for (int d = 2; d < ndim; ++d) order.push_back(d);
  order.push_back(1);
  return order;
}

Graph::Graph(const StateDict& state) {
  for (const auto& [name, tensor] : state) names_.emplace(key(tensor), name);
}

Graph::Key Graph::key(const Tensor& t) { return {t.raw(), {t.shape().begin(), t.shape().end()}}; }

std::string Graph::unique(const std::string& name) {
  std::string chosen = name;
  while (!taken_.insert(chosen).second) chosen = concat(name, "_", ++count_[name]);
  return chosen;
}

void Graph::begin(const TracedOp& op) { prefix_ = op.scope.empty() ? "" : op.scope + "/"; }

bool Graph::has(const Tensor& t, Layout layout) const {
  const auto found = values_.find(key(t));
  return found != values_.end() && found->second.contains(layout);
}

void Graph::set(const Tensor& t, Layout layout, const std::string& name) {
  values_[key(t)].emplace(layout, name);
}

void Graph::fold(const TracedOp& op) {
  begin(op);
  for (const Tensor& t : op.outputs) names_.emplace(key(t), prefix_ + op.op);
}

std::string Graph::get(const Tensor& t, Layout layout) {
  const auto found = values_.find(key(t));
  if (found == values_.end())
    return constant(t, layout == Layout::channels_first ? to_channels_first(t.ndim()) : std::vector<int>(),
                    {});
  auto& names = found->second;
  if (const auto there = names.find(layout); there != names.end()) return there->second;
  const std::vector<int> order =
      layout == Layout::channels_first ? to_channels_first(t.ndim()) : to_channels_last(t.ndim());
  const std::string name = node("Transpose", {names.begin()->second},
                                {{"perm", std::vector<int64_t>(order.begin(), order.end())}});
  names.emplace(layout, name);
  return name;
}

std::string Graph::beside(const Tensor& t, Layout layout, int ndim) {
  if (layout == Layout::channels_last || t.numel() == 1) return get(t);
  if (t.ndim() == ndim) return get(t, layout);
  check(t.ndim() == 1 && !is_value(t), "export: ", t.shape(), " beside ", ndim, " dimensions");
  std::vector<int64_t> shape(size_t(ndim - 1), 1);
  shape[0] = t.size(0);
  return constant(t, {}, shape);
}

std::string Graph::transposed(const Tensor& t) {
  std::vector<int> order(size_t(t.ndim()));
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[order.size() - 2], order.back());
  if (!is_value(t)) return constant(t, order, {});
  return node("Transpose", {get(t)}, {{"perm", std::vector<int64_t>(order.begin(), order.end())}});
}

std::string Graph::constant(const Tensor& t, const std::vector<int>& order,
                            const std::vector<int64_t>& shape) {
  check(t.dtype() == DType::f32 || t.dtype() == DType::i64, "export: a constant of ", t.dtype());
  std::string& name = constants_[{key(t), order, shape}];
  if (!name.empty()) return name;
  const auto known = names_.find(key(t));
  name = unique(known != names_.end() ? known->second : "constant");
  model_.constants.push_back({.name = name, .source = t, .order = order, .shape = shape});
  return name;
}

std::string Graph::node(const std::string& op, std::vector<std::string> inputs,
                        std::vector<Attribute> attributes) {
  model_.nodes.push_back({op, unique(prefix_ + op), std::move(inputs), std::move(attributes)});
  return model_.nodes.back().name;
}

std::string Graph::number(double value) {
  std::string& name = numbers_[std::bit_cast<uint64_t>(value)];
  if (name.empty()) {
    name = unique(concat("number_", value));
    model_.constants.push_back({.name = name, .source = Tensor::scalar(value)});
  }
  return name;
}

std::string Graph::integers(const std::vector<int64_t>& values) {
  std::string& name = integers_[values];
  if (name.empty()) {
    name = unique("integers");
    model_.constants.push_back({.name = name, .source = Tensor::from(values, {int64_t(values.size())})});
  }
  return name;
}

std::string Graph::reshape(const std::string& value, const Shape& shape) {
  const std::string name = unique(prefix_ + "shape");
  const std::vector<int64_t> sizes(shape.begin(), shape.end());
  model_.constants.push_back({.name = name, .source = Tensor::from(sizes, {shape.ndim()}), .is_shape = true});
  return node("Reshape", {value, name});
}

Model Graph::finish(const Value& input, const Value& output, const Tensor& result) {
  check(is_value(result), "export: the model's result does not depend on the images");
  const std::string last = get(result);
  for (Node& n : model_.nodes) {
    if (n.name == last) n.name = output.name;
    std::replace(n.inputs.begin(), n.inputs.end(), last, output.name);
  }
  model_.input = input, model_.output = output;
  return std::move(model_);
}

}  // namespace weft::app::onnx
