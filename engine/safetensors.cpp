#include "weft/engine/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>
#include <vector>

#include "weft/engine/file.h"
#include "weft/engine/whole_number.h"

namespace weft {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors data are little-endian");

/// The names in the outermost object, in their order and with those that occur twice; a parsed object has
/// neither.
struct OuterNames : nlohmann::json_sax<json> {
  std::vector<std::string> names;
  int depth = 0;
  bool key(std::string& name) override {
    if (depth == 1) names.push_back(name);
    return true;
  }
  bool start_object(size_t) override { return ++depth > 0; }
  bool end_object() override { return --depth >= 0; }
  bool start_array(size_t) override { return ++depth > 0; }
  bool end_array() override { return --depth >= 0; }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(json::number_integer_t) override { return true; }
  bool number_unsigned(json::number_unsigned_t) override { return true; }
  bool number_float(json::number_float_t, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(json::binary_t&) override { return true; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }
};

struct NamedType {
  DType dtype;
  const char* name;
};
constexpr NamedType kTypes[] = {{DType::f32, "F32"}, {DType::f64, "F64"},   {DType::i64, "I64"},
                                {DType::u8, "U8"},   {DType::bf16, "BF16"}, {DType::f16, "F16"}};

const char* type_name(DType t) {
  for (const auto& e : kTypes)
    if (e.dtype == t) return e.name;
  fail("safetensors: dtype ", t, " has no name");
}

DType parse_type(const std::string& path, const std::string& tensor, const std::string& name) {
  for (const auto& e : kTypes)
    if (name == e.name) return e.dtype;
  fail(path, ": tensor ", tensor, " has dtype ", name,
       ", which weft does not read (it reads F32, F64, I64, U8, BF16, F16)");
}

template <class T>
std::vector<T> whole_numbers(const json& list, const std::string& what) {
  check(list.is_array(), what, " must be a list");
  std::vector<T> numbers;
  for (const json& value : list) numbers.push_back(whole_number<T>(value, what));
  return numbers;
}

/// What the header says of a tensor: its bytes are [begin, end) of the data.
struct StoredTensor {
  std::string name;
  DType dtype;
  Shape shape;
  uint64_t begin, end;
};

StoredTensor parse_tensor(const std::string& path, const std::string& name, const json& value,
                          size_t data_bytes) {
  const DType dtype = parse_type(path, name, value.at("dtype").get<std::string>());
  const auto sizes =
      whole_numbers<int64_t>(value.at("shape"), concat(path, ": tensor ", name, ": its shape"));
  const auto offsets = whole_numbers<uint64_t>(value.at("data_offsets"),
                                               concat(path, ": tensor ", name, ": its data_offsets"));
  Shape shape;
  int64_t bytes = 0;
  try {
    shape = Shape(std::span<const int64_t>(sizes));
    bytes = Shape{shape.numel(), size_of(dtype)}.numel();
  } catch (const Error& e) {
    fail(path, ": tensor ", name, ": ", e.what());
  }
  check(offsets.size() == 2 && offsets[0] <= offsets[1] && offsets[1] - offsets[0] == uint64_t(bytes), path,
        ": tensor ", name, " of ", dtype, " ", shape, " does not fit its data offsets; the file is damaged");
  check(offsets[1] <= data_bytes, path, ": cut off (tensor ", name, " ends at byte ", offsets[1],
        " of the data, but there are ", data_bytes, ")");
  return {name, dtype, shape, offsets[0], offsets[1]};
}

std::vector<StoredTensor> parse_header(const std::string& path, std::string_view text, size_t data_bytes,
                                       std::map<std::string, std::string>* metadata) try {
  const json header = json::parse(text);
  check(header.is_object(), path, ": not a safetensors file (its header is no JSON object)");
  OuterNames outer;
  json::sax_parse(text, &outer);
  std::unordered_set<std::string> known;
  std::vector<StoredTensor> stored;
  for (const std::string& name : outer.names) {
    check(known.insert(name).second, path, ": tensor ", name, " occurs twice");
    const json& value = header.at(name);
    if (name != "__metadata__")
      stored.push_back(parse_tensor(path, name, value, data_bytes));
    else if (metadata)
      *metadata = value.get<std::map<std::string, std::string>>();
  }
  return stored;
} catch (const json::exception& e) {
  fail(path, ": not a safetensors file, or damaged (", e.what(), ")");
}

/// Each byte belongs to one tensor, so that no file takes more memory than it has bytes.
void check_coverage(const std::string& path, const std::vector<StoredTensor>& stored, size_t data_bytes) {
  std::vector<const StoredTensor*> in_order;
  for (const StoredTensor& t : stored) in_order.push_back(&t);
  std::sort(in_order.begin(), in_order.end(), [](const StoredTensor* a, const StoredTensor* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  uint64_t end = 0;
  for (const StoredTensor* t : in_order) {
    check(t->begin == end, path, ": damaged (tensor ", t->name, " begins at byte ", t->begin,
          " of the data, not where the one before it ends, at ", end, ")");
    end = t->end;
  }
  check(end == data_bytes, path, ": damaged (", data_bytes - end, " bytes of the data belong to no tensor)");
}

}  // namespace

Tensor find(const StateDict& dict, std::string_view name) {
  for (const auto& [key, tensor] : dict)
    if (key == name) return tensor;
  return {};
}

StateDict clone(const StateDict& dict) {
  StateDict copies;
  for (const auto& [name, tensor] : dict) copies.emplace_back(name, tensor.clone());
  return copies;
}

void save_safetensors(const std::string& path, const StateDict& tensors,
                      const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::vector<std::string_view> pieces(2);
  std::vector<Tensor> here;  // keeps copies of what lies on a GPU
  int64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    check(name != "__metadata__" && !header.contains(name), "save_safetensors: the name \"", name,
          "\" occurs twice or is reserved");
    check(tensor.defined(), "save_safetensors: the tensor \"", name,
          "\" is undefined; give it a value or leave it out");
    header[name] = {{"dtype", type_name(tensor.dtype())},
                    {"shape", std::vector<int64_t>(tensor.shape().begin(), tensor.shape().end())},
                    {"data_offsets", {offset, offset + tensor.bytes()}}};
    offset += tensor.bytes();
    here.push_back(tensor.to(Device::cpu));
    pieces.emplace_back(static_cast<const char*>(here.back().raw()), size_t(tensor.bytes()));
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::type_error&) {
    fail("save_safetensors: ", path, ": a tensor's name or a text of the metadata is not UTF-8");
  }
  text.append((8 - text.size() % 8) % 8, ' ');  // the data start at a multiple of 8
  const uint64_t length = text.size();
  pieces[0] = {reinterpret_cast<const char*>(&length), sizeof length};
  pieces[1] = text;
  write_file(path, pieces.data(), pieces.size());
}

StateDict load_safetensors(const std::string& path, std::map<std::string, std::string>* metadata) {
  const std::string content = read_file(path);
  uint64_t length = 0;
  check(content.size() >= sizeof length, path, ": not a safetensors file (", content.size(), " bytes)");
  std::memcpy(&length, content.data(), sizeof length);
  check(length <= content.size() - sizeof length && length <= 100'000'000, path,
        ": not a safetensors file, or cut off (a header of ", length, " bytes in a file of ", content.size(),
        ")");
  const std::string_view text = std::string_view(content).substr(sizeof length, length),
                         data = std::string_view(content).substr(sizeof length + length);
  check_nesting(path, text);

  const std::vector<StoredTensor> stored = parse_header(path, text, data.size(), metadata);
  check_coverage(path, stored, data.size());
  StateDict dict;
  for (const StoredTensor& s : stored) {
    Tensor t = Tensor::empty(s.shape, s.dtype);
    std::memcpy(t.raw(), data.data() + s.begin, size_t(s.end - s.begin));
    dict.emplace_back(s.name, std::move(t));
  }
  return dict;
}

}  // namespace weft
