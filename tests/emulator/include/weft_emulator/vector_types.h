#pragma once
// CUDA's short vectors, aligned as CUDA aligns them: the compiler may use aligned loads, and UBSan sees where
// that is wrong.

#define WEFT_EMULATOR_VECTOR2(name, T, alignment) \
  struct alignas(alignment) name {                \
    T x, y;                                       \
  };                                              \
  inline name make_##name(T x, T y) { return {x, y}; }
#define WEFT_EMULATOR_VECTOR3(name, T) \
  struct name {                        \
    T x, y, z;                         \
  };                                   \
  inline name make_##name(T x, T y, T z) { return {x, y, z}; }
#define WEFT_EMULATOR_VECTOR4(name, T, alignment) \
  struct alignas(alignment) name {                \
    T x, y, z, w;                                 \
  };                                              \
  inline name make_##name(T x, T y, T z, T w) { return {x, y, z, w}; }

WEFT_EMULATOR_VECTOR2(char2, signed char, 2)
WEFT_EMULATOR_VECTOR2(uchar2, unsigned char, 2)
WEFT_EMULATOR_VECTOR2(short2, short, 4)
WEFT_EMULATOR_VECTOR2(ushort2, unsigned short, 4)
WEFT_EMULATOR_VECTOR2(int2, int, 8)
WEFT_EMULATOR_VECTOR2(uint2, unsigned, 8)
WEFT_EMULATOR_VECTOR2(float2, float, 8)
WEFT_EMULATOR_VECTOR2(longlong2, long long, 16)
WEFT_EMULATOR_VECTOR2(ulonglong2, unsigned long long, 16)
WEFT_EMULATOR_VECTOR2(double2, double, 16)
WEFT_EMULATOR_VECTOR3(int3, int)
WEFT_EMULATOR_VECTOR3(uint3, unsigned)
WEFT_EMULATOR_VECTOR3(float3, float)
WEFT_EMULATOR_VECTOR3(double3, double)
WEFT_EMULATOR_VECTOR4(char4, signed char, 4)
WEFT_EMULATOR_VECTOR4(uchar4, unsigned char, 4)
WEFT_EMULATOR_VECTOR4(short4, short, 8)
WEFT_EMULATOR_VECTOR4(ushort4, unsigned short, 8)
WEFT_EMULATOR_VECTOR4(int4, int, 16)
WEFT_EMULATOR_VECTOR4(uint4, unsigned, 16)
WEFT_EMULATOR_VECTOR4(float4, float, 16)

#undef WEFT_EMULATOR_VECTOR2
#undef WEFT_EMULATOR_VECTOR3
#undef WEFT_EMULATOR_VECTOR4

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};
