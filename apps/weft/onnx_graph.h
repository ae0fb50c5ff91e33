// An ONNX graph as it grows out of a Trace.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "weft/apps/weft/onnx_file.h"
#include "weft/engine/safetensors.h"
#include "weft/engine/trace.h"

namespace weft::app::onnx {

/// How a tensor's dimensions are ordered in the graph: as in weft, with the channels last, or with the
/// channels moved behind the batch, where ONNX's operators on images want them.
enum class Layout { channels_last, channels_first };

/// The order of dimensions that makes one of the other.
std::vector<int> to_channels_first(int ndim);
std::vector<int> to_channels_last(int ndim);

/// Adds nodes for the ops of a trace. A tensor that depends on the images is a value, in one of the layouts
/// or in both; a transposition is added where one is asked for and only the other is there. All others are
/// constants, those of the model under their names in its state_dict.
class Graph {
 public:
  explicit Graph(const StateDict& state);

  /// Adds nothing yet: what comes is named after this op.
  void begin(const TracedOp& op);

  bool is_value(const Tensor& t) const { return values_.contains(key(t)); }
  bool has(const Tensor& t, Layout layout) const;
  /// Says under which name the tensor is there in `layout`. Where it is there already, as another view of the
  /// same memory, it stays.
  void set(const Tensor& t, Layout layout, const std::string& name);
  /// The results of an op on constants: constants, as they were computed.
  void fold(const TracedOp& op);

  /// The name of a value or constant in `layout`.
  std::string get(const Tensor& t, Layout layout = Layout::channels_last);
  /// The same of a tensor beside others of `ndim` dimensions: one for each channel, [C], becomes [C, 1, 1]
  /// where the channels come first.
  std::string beside(const Tensor& t, Layout layout, int ndim);

  /// With the last two dimensions swapped.
  std::string transposed(const Tensor& t);

  /// Adds a node with one output and gives its name.
  std::string node(const std::string& op, std::vector<std::string> inputs,
                   std::vector<Attribute> attributes = {});
  /// A constant without dimensions.
  std::string number(double value);
  /// A constant [n].
  std::string integers(const std::vector<int64_t>& values);
  /// A Reshape of a value to `shape`, with the traced number of images in it.
  std::string reshape(const std::string& value, const Shape& shape);

  /// The graph, whose result is `output`.
  Model finish(const Value& input, const Value& output, const Tensor& result);

 private:
  using Key = std::pair<const void*, std::vector<int64_t>>;
  static Key key(const Tensor& t);
  std::string constant(const Tensor& t, const std::vector<int>& order, const std::vector<int64_t>& shape);
  std::string unique(const std::string& name);

  Model model_;
  std::string prefix_;
  std::set<std::string> taken_ = {"images", "logits"};
  std::map<std::string, int> count_;
  std::map<Key, std::map<Layout, std::string>> values_;
  std::map<Key, std::string> names_;  // of constants
  std::map<std::tuple<Key, std::vector<int>, std::vector<int64_t>>, std::string> constants_;
  std::map<uint64_t, std::string> numbers_;  // by their bits
  std::map<std::vector<int64_t>, std::string> integers_;
};

}  // namespace weft::app::onnx
