// ONNX files: https://github.com/onnx/onnx/blob/main/docs/IR.md. As much of the format as `weft export`
// needs.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "weft/engine/tensor.h"

namespace weft::app::onnx {

/// All operators are those of this version of ONNX's set (LayerNormalization needs it), and of the format
/// that came with it.
constexpr int64_t kOpset = 17, kIrVersion = 8;
/// A size that is not known before the graph runs: the number of images.
constexpr int64_t kBatch = -1;

struct Attribute {
  std::string name;
  std::variant<int64_t, float, std::vector<int64_t>> value;
  bool operator==(const Attribute&) const = default;
};

struct Node {
  std::string op;                   ///< "Conv"
  std::string name;                 ///< of its one output, too
  std::vector<std::string> inputs;  ///< empty: absent
  std::vector<Attribute> attributes = {};
  bool operator==(const Node&) const = default;
};

/// A tensor in the file, f32 or i64: `source` with its dimensions in `order` (empty: as they are), then seen
/// as `shape`. It is made when it is written, so that many graphs may share the weights.
struct Constant {
  std::string name;
  Tensor source;
  std::vector<int> order = {};
  std::vector<int64_t> shape = {};
  bool is_shape = false;  ///< what a Reshape goes by, where -1 stands for what is left

  /// Its elements as they are written.
  Tensor value() const;
};

struct Value {
  std::string name;
  std::vector<int64_t> shape;  ///< kBatch for the number of images
};

/// A graph with one input and one output.
struct Model {
  std::vector<Node> nodes;  ///< each after those whose outputs it takes
  std::vector<Constant> constants;
  Value input, output;
  std::map<std::string, std::string> metadata;
};

/// Readers of protobuf take no more.
constexpr int64_t kMostBytes = (int64_t{1} << 31) - 1;

/// Writes the file atomically. Throws Error where it would be longer than `most` bytes.
void save(const std::string& path, const Model& model, int64_t most = kMostBytes);

}  // namespace weft::app::onnx
