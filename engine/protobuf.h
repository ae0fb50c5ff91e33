// Messages in protobuf's encoding, for the file formats that are made of them. Not part of the public API.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace weft {

/// A message (https://protobuf.dev/programming-guides/encoding) as it grows: each field is its number with
/// the kind of its value, and the value.
class ProtobufMessage {
 public:
  ProtobufMessage& integer(int field, int64_t value) {
    varint(uint64_t(field) << 3);
    varint(uint64_t(value));
    return *this;
  }
  ProtobufMessage& number(int field, float value) {
    varint(uint64_t(field) << 3 | 5);
    return fixed(value);
  }
  ProtobufMessage& number(int field, double value) {
    varint(uint64_t(field) << 3 | 1);
    return fixed(value);
  }
  /// A repeated field, packed.
  ProtobufMessage& numbers(int field, std::span<const double> values) {
    head(field, values.size_bytes());
    for (double value : values) fixed(value);
    return *this;
  }
  ProtobufMessage& bytes(int field, std::string_view value) {
    head(field, value.size());
    text_ += value;
    return *this;
  }
  ProtobufMessage& message(int field, const ProtobufMessage& value) { return bytes(field, value.text_); }
  /// What comes before `size` bytes that are written after it.
  ProtobufMessage& head(int field, size_t size) {
    varint(uint64_t(field) << 3 | 2);
    varint(size);
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  template <class T>
  ProtobufMessage& fixed(T value) {
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    text_.append(bytes, sizeof value);
    return *this;
  }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) text_ += char(value | 0x80);
    text_ += char(value);
  }
  std::string text_;
};

}  // namespace weft
