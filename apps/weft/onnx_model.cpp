#include "weft/apps/weft/onnx_model.h"

#include <algorithm>
#include <cstring>

#include "weft/apps/weft/onnx_graph.h"
#include "weft/apps/weft/onnx_ops.h"
#include "weft/engine/error.h"
#include "weft/engine/eval_guard.h"
#include "weft/engine/trace.h"

namespace weft::app::onnx {
namespace {

constexpr int64_t kFew = 2, kMore = 3;

/// The graph for exactly that many images.
Model graph_of(Module& model, int64_t count, const Value& input) {
  Generator generator{uint64_t(count)};  // each time other images
  const Tensor images =
      Tensor::normal({count, input.shape[2], input.shape[3], input.shape[1]}, 0, 1, generator);
  const Trace trace;
  const Tensor logits = model(images);
  check(logits.ndim() >= 1 && logits.size(0) == count, "export: the model makes ", logits.shape(), " of ",
        count, " images; the result must have a row for each");
  Graph graph(model.state_dict());
  graph.set(images, Layout::channels_first, input.name);
  for (const TracedOp& op : trace.ops()) {
    const bool depends = std::any_of(op.inputs.begin(), op.inputs.end(),
                                     [&](const Tensor& t) { return t.defined() && graph.is_value(t); });
    if (depends)
      add_op(graph, op);
    else
      graph.fold(op);
  }
  Value output{"logits", {logits.shape().begin(), logits.shape().end()}};
  output.shape.at(0) = kBatch;
  return graph.finish(input, output, logits);
}

bool scales(int64_t few, int64_t more) { return few * kMore == more * kFew; }

/// A constant with a row for each image, all of them equal (zeros that are joined to an image, say), becomes
/// one row, and these nodes repeat it.
bool repeat_rows(Model& graph, Constant& constant, const Constant& more) {
  const Tensor few = constant.value(), other = more.value();
  Shape row = few.shape(), expected = few.shape();
  if (few.ndim() == 0 || few.size(0) != kFew || few.dtype() != DType::f32) return false;
  row.set(0, 1), expected.set(0, kMore);
  if (other.shape() != expected) return false;
  const auto* const first = static_cast<const char*>(few.raw());
  const size_t bytes = size_t(few.bytes() / kFew);
  for (const auto& [t, count] : {std::pair(few, kFew), std::pair(other, kMore)})
    for (int64_t i = 0; i < count; ++i)
      if (std::memcmp(static_cast<const char*>(t.raw()) + size_t(i) * bytes, first, bytes) != 0) return false;

  const std::string name = constant.name;
  constant = {.name = name + "/row", .source = few.part(0, row)};
  const std::vector<int64_t> rest(row.begin() + 1, row.end());
  const std::vector<Node> nodes{
      {"Shape", name + "/N", {graph.input.name}, {{"start", int64_t{0}}, {"end", int64_t{1}}}},
      {"Concat", name + "/shape", {name + "/N", name + "/sizes"}, {{"axis", int64_t{0}}}},
      {"Expand", name, {name + "/row", name + "/shape"}}};
  graph.nodes.insert(graph.nodes.begin(), nodes.begin(), nodes.end());
  graph.constants.push_back({.name = name + "/sizes", .source = Tensor::from(rest, {int64_t(rest.size())})});
  return true;
}

/// What a Reshape goes by: a size that grows with the images becomes what is left.
bool leave_open(Constant& constant, const Constant& more) {
  const auto few = constant.source.to_vector<int64_t>(), other = more.source.to_vector<int64_t>();
  std::vector<int64_t> open = few;
  if (few.size() != other.size()) return false;
  for (size_t i = 0; i < few.size(); ++i) {
    if (few[i] == other[i]) continue;
    if (!scales(few[i], other[i])) return false;
    open[i] = -1;
  }
  if (std::count(open.begin(), open.end(), -1) > 1) return false;
  constant.source = Tensor::from(open, {int64_t(open.size())});
  return true;
}

bool equal(const Constant& a, const Constant& b) {
  if (a.order != b.order || a.shape != b.shape || a.source.shape() != b.source.shape() ||
      a.source.dtype() != b.source.dtype())
    return false;
  return a.source.raw() == b.source.raw() ||
         std::memcmp(a.source.raw(), b.source.raw(), size_t(a.source.bytes())) == 0;
}

}  // namespace

Model make_graph(Module& model, int64_t channels, int64_t height, int64_t width) {
  const EvalGuard evaluation(model);
  const Value input{"images", {kBatch, channels, height, width}};
  Model few = graph_of(model, kFew, input);
  const Model more = graph_of(model, kMore, input);
  const auto differ = [](const std::string& what, const std::string& name) {
    fail("export: ", what, " ", name, " is another for ", kFew, " images than for ", kMore,
         ", and not by their number alone: this model has no graph that fits any batch");
  };
  if (few.output.shape != more.output.shape) differ("the shape of", few.output.name);
  for (size_t i = 0; i < std::min(few.nodes.size(), more.nodes.size()); ++i)
    if (few.nodes[i] != more.nodes[i]) differ("the node", few.nodes[i].name);
  if (few.nodes.size() != more.nodes.size() || few.constants.size() != more.constants.size())
    differ("the number of", "nodes or constants");
  for (size_t i = 0; i < more.constants.size(); ++i) {
    Constant& c = few.constants[i];
    const Constant& other = more.constants[i];
    if (c.name == other.name &&
        (equal(c, other) || (c.is_shape ? leave_open(c, other) : repeat_rows(few, c, other))))
      continue;
    differ("the constant", c.name);
  }
  return few;
}

}  // namespace weft::app::onnx
