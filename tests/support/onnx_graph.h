// ONNX files read back and run: a reader and an interpreter of their own, which share nothing with what
// weft export writes them with, nor with weft's ops. All arithmetic is in double precision, image by image in
// plain loops, and for the operators that are written alone.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace weft::test::onnx {

struct Array {
  std::vector<int64_t> shape;
  std::vector<double> data;
};

struct Node {
  std::string op, name;
  std::vector<std::string> inputs, outputs;
  std::map<std::string, double> numbers;
  std::map<std::string, std::vector<int64_t>> lists;
};

/// What onnx.proto calls ModelProto, as much as is written.
struct Model {
  int64_t ir_version = 0, opset = 0;
  std::string producer;
  std::vector<Node> nodes;
  std::map<std::string, Array> constants;
  std::map<std::string, std::vector<std::string>> inputs, outputs;  ///< name and sizes, "N" or a number
  std::map<std::string, std::string> metadata;
};

/// Throws std::runtime_error where the bytes are no such file.
Model read(std::string_view bytes);

/// The one output for the one input.
Array run(const Model& model, const Array& input);

}  // namespace weft::test::onnx
