#pragma once

#include <cstdint>
#include <ostream>
#include <type_traits>

#include "weft/kernels/half.h"

namespace weft {

/// Element types: f32 for training, f64 for gradient checks (on the CPU), i64 for labels, u8 for images; bf16
/// and f16 for training in mixed precision on a GPU. On the CPU these two can be stored, converted and moved.
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
constexpr bool is_half(DType t) { return t == DType::bf16 || t == DType::f16; }
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
  else if constexpr (std::is_same_v<T, bf16>)
    return DType::bf16;
  else if constexpr (std::is_same_v<T, f16>)
    return DType::f16;
  else {
    static_assert(std::is_same_v<T, uint8_t>,
                  "weft tensors hold float, double, int64_t, uint8_t, bf16 or f16");
    return DType::u8;
  }
}

}  // namespace weft
