#pragma once

#include <cstdint>
#include <ostream>
#include <type_traits>

namespace weft {

/// Element types: f32 for training, f64 for gradient checks, i64 for labels, u8 for images; bf16 and f16 can
/// be stored and moved but have no arithmetic yet.
enum class DType : uint8_t { f32, f64, i64, u8, bf16, f16 };

constexpr int64_t size_of(DType t) {
  constexpr int64_t sizes[] = {4, 8, 8, 1, 2, 2};
  return sizes[int(t)];
}
/// "f32", "f64", "i64", "u8", "bf16", "f16".
constexpr const char* name_of(DType t) {
  constexpr const char* names[] = {"f32", "f64", "i64", "u8", "bf16", "f16"};
  return names[int(t)];
}
constexpr bool is_floating(DType t) { return t != DType::i64 && t != DType::u8; }
inline std::ostream& operator<<(std::ostream& out, DType t) { return out << name_of(t); }

/// The DType of a C++ type.
template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>)
    return DType::f32;
  else if constexpr (std::is_same_v<T, double>)
    return DType::f64;
  else if constexpr (std::is_same_v<T, int64_t>)
    return DType::i64;
  else {
    static_assert(std::is_same_v<T, uint8_t>, "weft tensors hold float, double, int64_t or uint8_t");
    return DType::u8;
  }
}

}  // namespace weft
