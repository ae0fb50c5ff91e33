// What a warp tells the tensor cores: copies into shared memory that go on beside, 8x8 matrices from there
// into registers, and the product of 16x16 and 16x8. From sm_80 on; on the emulated device by shuffles.
#pragma once

#include "weft/kernels/cuda/reduction.h"
#include "weft/kernels/cuda/wide.h"

namespace weft::kernels::cuda {

/// 16 bytes from global to shared memory, or zeros; `from` has to be valid then, too. All of a thread's since
/// the last commit_copies() are a group.
__device__ inline void copy_beside(void* to, const void* from, bool zeros) {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(unsigned(__cvta_generic_to_shared(to))),
               "l"(from), "r"(zeros ? 0 : 16)
               : "memory");
#else
  *static_cast<Pack<uint32_t, 4>*>(to) =
      zeros ? Pack<uint32_t, 4>{} : *static_cast<const Pack<uint32_t, 4>*>(from);
#endif
}
__device__ inline void commit_copies() {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/// Waits for the thread's own copies but for the last `Groups` groups.
template <int Groups>
__device__ inline void wait_for_copies() {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.wait_group %0;" ::"n"(Groups) : "memory");
#endif
}

/// Four 8x8 matrices of 16-bit elements from shared memory. Lane 8 i + r says where row r of matrix i lies
/// (16 bytes). m[i] gets its elements [lane / 4, 2 (lane % 4)] and the next in the row; with `transposed` [2
/// (lane % 4), lane / 4] and the next in the column.
template <bool transposed = false>
__device__ inline void load_matrices(const void* row, uint32_t (&m)[4]) {
#ifdef __CUDA_ARCH__
  const unsigned at = unsigned(__cvta_generic_to_shared(row));
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(at)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(at)
                 : "memory");
#else
  const int lane = int(threadIdx.x) % kWarp, r = lane / 4, c = lane % 4 * 2;
  const auto element = [&](int matrix, int i, int j) {
    const unsigned long long at = reinterpret_cast<uintptr_t>(row);
    return uint32_t(
        reinterpret_cast<const uint16_t*>(uintptr_t(__shfl_sync(kAllLanes, at, matrix * 8 + i)))[j]);
  };
  for (int i = 0; i < 4; ++i)
    m[i] = transposed ? element(i, c, r) | element(i, c + 1, r) << 16
                      : element(i, r, c) | element(i, r, c + 1) << 16;
#endif
}

/// c [16, 8] += a [16, 16] b [16, 8]. With row = lane / 4 and k = 2 (lane % 4) a lane has a[row, k] and the
/// next in the row (a[0]), a[row + 8, k], a[row, k + 8], a[row + 8, k + 8]; b[k, row] and b[k + 1, row] (b0),
/// b[k + 8, row] and b[k + 9, row] (b1); c[row, k], c[row, k + 1], c[row + 8, k], c[row + 8, k + 1].
template <class T>
__device__ inline void multiply_add(const uint32_t (&a)[4], uint32_t b0, uint32_t b1, float (&c)[4]) {
#ifdef __CUDA_ARCH__
  if constexpr (std::is_same_v<T, bf16>)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  const int lane = int(threadIdx.x) % kWarp, row = lane / 4, pair = lane % 4;
  // Two registers of another lane at once.
  const auto take = [](uint32_t low, uint32_t high, int from, float(&to)[4]) {
    const unsigned long long both =
        __shfl_sync(kAllLanes, static_cast<unsigned long long>(high) << 32 | low, from);
    for (int i = 0; i < 4; ++i) to[i] = float(std::bit_cast<T>(uint16_t(both >> 16 * i)));
  };
  for (int s = 0; s < 4; ++s) {
    float upper[4], lower[4], left[4], right[4];  // k, k + 1, k + 8, k + 9
    take(a[0], a[2], row * 4 + s, upper);
    take(a[1], a[3], row * 4 + s, lower);
    take(b0, b1, pair * 8 + s, left);
    take(b0, b1, pair * 8 + 4 + s, right);
    for (int i = 0; i < 4; ++i) {
      c[0] += upper[i] * left[i];
      c[1] += upper[i] * right[i];
      c[2] += lower[i] * left[i];
      c[3] += lower[i] * right[i];
    }
  }
#endif
}

/// Column `c` of matrix `m`, of the four that make 32 columns of a product: so the two that a lane gets of
/// each are eight side by side, which it can write at once.
__device__ inline int column_of(int m, int c) { return c / 2 * 8 + m * 2 + c % 2; }

}  // namespace weft::kernels::cuda
