#include "weft/apps/weft/onnx_file.h"

#include <string_view>

#include "weft/apps/weft/version.h"
#include "weft/engine/file.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/protobuf.h"
#include "weft/engine/tape.h"

namespace weft::app::onnx {
namespace {

// Numbers of fields below are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
using Message = ProtobufMessage;

Message attribute(const Attribute& a) {
  Message m;
  m.bytes(1, a.name);
  if (const auto* f = std::get_if<float>(&a.value)) return std::move(m.number(2, *f).integer(20, 1));
  if (const auto* i = std::get_if<int64_t>(&a.value)) return std::move(m.integer(3, *i).integer(20, 2));
  for (int64_t i : std::get<std::vector<int64_t>>(a.value)) m.integer(8, i);
  m.integer(20, 7);
  return m;
}

Message node(const Node& n) {
  Message m;
  for (const std::string& input : n.inputs) m.bytes(1, input);
  m.bytes(2, n.name).bytes(3, n.name).bytes(4, n.op);
  for (const Attribute& a : n.attributes) m.message(5, attribute(a));
  return m;
}

constexpr int64_t kFloat = 1, kInt64 = 7;

Message constant(const Constant& c) {
  const Tensor value = c.value();
  Message m;
  for (int64_t size : value.shape()) m.integer(1, size);
  m.integer(2, value.dtype() == DType::i64 ? kInt64 : kFloat).bytes(8, c.name);
  m.bytes(9, {static_cast<const char*>(value.raw()), size_t(value.bytes())});
  return m;
}

Message value_info(const Value& v) {
  Message shape;
  for (int64_t size : v.shape) {
    Message dim;
    size == kBatch ? dim.bytes(2, "N") : dim.integer(1, size);
    shape.message(1, dim);
  }
  Message tensor, type, m;
  tensor.integer(1, kFloat).message(2, shape);
  type.message(1, tensor);
  m.bytes(1, v.name).message(2, type);
  return m;
}

}  // namespace

Tensor Constant::value() const {
  const NoGrad quiet;
  const Tensor ordered = order.empty() ? source : permute(source, order);
  return shape.empty() ? ordered : ordered.view(Shape(std::span<const int64_t>(shape)));
}

void save(const std::string& path, const Model& model, int64_t most) {
  int64_t weights = 0;
  for (const Constant& c : model.constants) weights += c.source.bytes();
  const auto check_size = [&](int64_t bytes) {
    check(bytes <= most, path, ": the model takes ", bytes, " bytes, but an ONNX file holds ", most,
          " at most; export it as .safetensors");
  };
  check_size(weights);

  Message graph;
  for (const Node& n : model.nodes) graph.message(1, node(n));
  graph.bytes(2, "weft");
  for (const Constant& c : model.constants) graph.message(5, constant(c));
  graph.message(11, value_info(model.input)).message(12, value_info(model.output));

  Message opset, head, tail;
  opset.integer(2, kOpset);
  head.integer(1, kIrVersion).bytes(2, "weft").bytes(3, kVersion).message(8, opset);
  for (const auto& [key, value] : model.metadata) {
    Message entry;
    tail.message(14, entry.bytes(1, key).bytes(2, value));
  }
  head.head(7, graph.text().size());
  check_size(int64_t(head.text().size() + graph.text().size() + tail.text().size()));
  const std::string_view pieces[] = {head.text(), graph.text(), tail.text()};
  write_file(path, pieces, std::size(pieces));
}

}  // namespace weft::app::onnx
