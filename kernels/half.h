// bf16 and f16: 16-bit floating-point numbers. They are stored and moved; arithmetic happens in float.
#pragma once

#include <bit>
#include <cstdint>

#include "weft/kernels/host_device.h"

namespace weft {

/// The upper half of a float: 8 bits of exponent, 7 of mantissa.
struct bf16 {
  uint16_t bits = 0;

  bf16() = default;
  /// Rounds to nearest, ties to even; NaN stays NaN.
  WEFT_HD explicit bf16(float x);
  WEFT_HD explicit bf16(double x) : bf16(float(x)) {}
  WEFT_HD explicit operator float() const;
  WEFT_HD explicit operator double() const { return double(float(*this)); }
};

/// IEEE 754 half precision: 5 bits of exponent, 10 of mantissa; the largest finite number is 65504.
struct f16 {
  uint16_t bits = 0;

  f16() = default;
  /// Rounds to nearest, ties to even; above 65504 it becomes infinite; NaN stays NaN.
  WEFT_HD explicit f16(float x);
  WEFT_HD explicit f16(double x) : f16(float(x)) {}
  WEFT_HD explicit operator float() const;
  WEFT_HD explicit operator double() const { return double(float(*this)); }
};

static_assert(sizeof(bf16) == 2 && sizeof(f16) == 2);

WEFT_HD inline bf16::bf16(float x) {
#ifdef __CUDA_ARCH__
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
#else
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u)
    bits = uint16_t((u >> 16) | 0x40u);  // quiet, and not rounded up to infinity
  else
    bits = uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
#endif
}

WEFT_HD inline bf16::operator float() const {
#ifdef __CUDA_ARCH__
  return __uint_as_float(uint32_t(bits) << 16);
#else
  return std::bit_cast<float>(uint32_t(bits) << 16);
#endif
}

WEFT_HD inline f16::f16(float x) {
#ifdef __CUDA_ARCH__
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
#else
  const uint32_t u = std::bit_cast<uint32_t>(x), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
  if (a > 0x7f800000u) {
    bits = uint16_t(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
  } else if (a >= 0x477ff000u) {  // 65520 and above
    bits = uint16_t(sign | 0x7c00u);
  } else if (a < 0x38800000u) {  // below 2^-14: the sum's last bit is worth 2^-24, so that it rounds there
    const float magic = std::bit_cast<float>(a) + 0.5f;
    bits = uint16_t(sign | (std::bit_cast<uint32_t>(magic) - 0x3f000000u));
  } else {
    const uint32_t rebased = a - 0x38000000u;
    bits = uint16_t(sign | ((rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13));
  }
#endif
}

WEFT_HD inline f16::operator float() const {
#ifdef __CUDA_ARCH__
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
#else
  const uint32_t sign = uint32_t(bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u,
                 mantissa = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent == 0) {
    const float value = float(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
#endif
}

namespace kernels {

/// What an op on T keeps scalars, statistics and gradients of vectors in: float for the 16-bit types, else T.
template <class T>
struct WideOf {
  using type = T;
};
template <>
struct WideOf<bf16> {
  using type = float;
};
template <>
struct WideOf<f16> {
  using type = float;
};
template <class T>
using Wide = typename WideOf<T>::type;

}  // namespace kernels
}  // namespace weft
