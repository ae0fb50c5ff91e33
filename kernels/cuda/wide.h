// 16 bytes at a time: loads, stores, and the way to floats and back.
#pragma once

#include <algorithm>
#include <bit>
#include <initializer_list>
#include <type_traits>

#include "weft/kernels/cuda/device.h"

namespace weft::kernels::cuda {

/// Elements in 16 bytes.
template <class T>
constexpr int kWide = 16 / int(sizeof(T));

/// Whether 16 bytes at a time can be read and written from each of the pointers on.
inline bool aligned(std::initializer_list<const void*> pointers) {
  return std::all_of(pointers.begin(), pointers.end(),
                     [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; });
}

template <int V, class T>
__device__ inline Pack<T, V> load(const T* p) {
  return *reinterpret_cast<const Pack<T, V>*>(p);
}
template <int V, class T>
__device__ inline void store(T* p, const Pack<T, V>& values) {
  *reinterpret_cast<Pack<T, V>*>(p) = values;
}

#ifdef __CUDA_ARCH__
/// Whether values are converted two at a time, which takes half the instructions or less.
template <class T, int V>
constexpr bool kPairs = sizeof(T) == 2 && V % 2 == 0;

/// low and high rounded to T, in one register.
template <class T>
__device__ inline uint32_t round_pair(float low, float high) {
  uint32_t pair;
  if constexpr (std::is_same_v<T, bf16>)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
#else
template <class T, int V>
constexpr bool kPairs = false;
template <class T>
uint32_t round_pair(float low, float high);
#endif

template <class T, int V>
__device__ inline void to_floats(Pack<T, V> from, float (&to)[V]) {
  if constexpr (std::is_same_v<T, bf16> && kPairs<T, V>) {
#pragma unroll
    for (int j = 0; j < V; j += 2) {
      const uint32_t pair = uint32_t(from.v[j].bits) | uint32_t(from.v[j + 1].bits) << 16;
      to[j] = std::bit_cast<float>(pair << 16);
      to[j + 1] = std::bit_cast<float>(pair & 0xffff0000u);
    }
  } else {
#pragma unroll
    for (int j = 0; j < V; ++j) to[j] = float(from.v[j]);
  }
}

template <class T, int V>
__device__ inline Pack<T, V> from_floats(const float (&from)[V]) {
  Pack<T, V> to;
  if constexpr (kPairs<T, V>) {
#pragma unroll
    for (int j = 0; j < V; j += 2) {
      const uint32_t pair = round_pair<T>(from[j], from[j + 1]);
      to.v[j].bits = uint16_t(pair);
      to.v[j + 1].bits = uint16_t(pair >> 16);
    }
  } else {
#pragma unroll
    for (int j = 0; j < V; ++j) to.v[j] = T(from[j]);
  }
  return to;
}

/// V neighbouring elements as they came from memory, for who has them in hand for long.
template <class T, int V>
struct Held {
  Pack<T, V> pack;

  static __device__ Held from(const T* p) { return {load<V>(p)}; }
  __device__ void store(T* p) const { cuda::store(p, pack); }
  __device__ void get(float (&to)[V]) const { to_floats(pack, to); }
};
/// Two of 16 bits in a register: as a Pack the compiler spreads them over two.
template <class T, int V>
requires(sizeof(T) == 2 && V % 2 == 0) struct alignas(2 * V) Held<T, V> {
  uint32_t pairs[V / 2];

  static __device__ Held from(const T* p) { return *reinterpret_cast<const Held*>(p); }
  __device__ void store(T* p) const { *reinterpret_cast<Held*>(p) = *this; }
  __device__ void get(float (&to)[V]) const {
#pragma unroll
    for (int k = 0; k < V / 2; ++k) {
      float two[2];
      get(k, two);
      to[2 * k] = two[0];
      to[2 * k + 1] = two[1];
    }
  }
  /// The pair of number k.
  __device__ void get(int k, float (&to)[2]) const {
    if constexpr (std::is_same_v<T, bf16>) {
      to[0] = std::bit_cast<float>(pairs[k] << 16);
      to[1] = std::bit_cast<float>(pairs[k] & 0xffff0000u);
    } else {
      to[0] = float(std::bit_cast<T>(uint16_t(pairs[k])));
      to[1] = float(std::bit_cast<T>(uint16_t(pairs[k] >> 16)));
    }
  }
  __device__ void set(int k, const float (&from)[2]) {
    if constexpr (kPairs<T, V>)
      pairs[k] = round_pair<T>(from[0], from[1]);
    else
      pairs[k] = uint32_t(T(from[0]).bits) | uint32_t(T(from[1]).bits) << 16;
  }
};

/// V floats, in loads of up to four.
template <int V>
__device__ inline void load_floats(const float* p, float (&to)[V]) {
  constexpr int Q = V < 4 ? V : 4;
#pragma unroll
  for (int i = 0; i < V; i += Q) {
    const Pack<float, Q> four = load<Q>(p + i);
#pragma unroll
    for (int j = 0; j < Q; ++j) to[i + j] = four.v[j];
  }
}
template <int V>
__device__ inline void store_floats(float* p, const float (&from)[V]) {
  constexpr int Q = V < 4 ? V : 4;
#pragma unroll
  for (int i = 0; i < V; i += Q) {
    Pack<float, Q> four;
#pragma unroll
    for (int j = 0; j < Q; ++j) four.v[j] = from[i + j];
    store<Q>(p + i, four);
  }
}

}  // namespace weft::kernels::cuda
