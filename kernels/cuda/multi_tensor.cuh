// One kernel for all tensors of a launch: a block per chunk of kUpdateChunk elements.
#pragma once

#include "weft/kernels/cuda/reduction.h"
#include "weft/kernels/cuda/wide.h"
#include "weft/kernels/updates/multi_tensor.h"

namespace weft::kernels::cuda {

constexpr int kUpdateThreads = 256;
using Quad = Pack<float, 4>;
/// Blocks that a multiprocessor shall hold: as many as leave a thread registers for scalars and state.
template <class U>
constexpr int kUpdateBlocks = U::kSlots + int(sizeof(U) > 48) > 3   ? 2
                              : U::kSlots + int(sizeof(U) > 36) > 2 ? 3
                                                                    : 4;

/// A block's chunk: elements [begin, begin + n) of tensor `tensor`.
struct ChunkPlace {
  int tensor;
  int64_t begin;
};
/// Finds the tensor of this block, all threads together: the last one whose first chunk is not behind it.
__device__ inline ChunkPlace find_chunk(int tensors, const int32_t* first) {
  int tensor = -1;
  for (int base = 0; base < tensors; base += kUpdateThreads) {
    const int i = base + int(threadIdx.x);
    const int here = __syncthreads_count(i < tensors && first[i] <= int(blockIdx.x));
    tensor += here;
    if (here < kUpdateThreads) break;
  }
  return {tensor, int64_t(int(blockIdx.x) - first[tensor]) * kUpdateChunk};
}
__device__ inline int chunk_size(int64_t n, int64_t begin) {
  return int(n - begin < kUpdateChunk ? n - begin : kUpdateChunk);
}

__device__ inline bool wide(const void* p) { return reinterpret_cast<uintptr_t>(p) % sizeof(Quad) == 0; }

/// The sum over the block's threads in a fixed order, for thread 0. Ends with the block together.
template <int kSums>
__device__ void block_sum(double (&sums)[kSums]) {
  constexpr int kWarps = kUpdateThreads / kWarp;
  __shared__ double of_warp[kSums][kWarps];
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  for (int k = 0; k < kSums; ++k) {
    sums[k] = warp_sum(sums[k]);
    if (lane == 0) of_warp[k][warp] = sums[k];
  }
  __syncthreads();
  if (threadIdx.x == 0)
    for (int k = 0; k < kSums; ++k) {
      sums[k] = 0;
      for (int w = 0; w < kWarps; ++w) sums[k] += of_warp[k][w];
    }
  __syncthreads();  // of_warp may be written anew
}

/// Adds up what the blocks of one group have each in `sums` (thread 0's), in a fixed order: true in the last
/// block to come here, whose thread 0 then has the total. partial: [count][kStride], this block's at `index`.
template <int kStride, int kSums>
__device__ bool sum_over_blocks(double (&sums)[kSums], double* partial, int index, int count,
                                uint32_t* arrived) {
  if (threadIdx.x == 0)
    for (int k = 0; k < kSums; ++k) partial[int64_t(index) * kStride + k] = sums[k];
  if (!last_to_arrive(arrived, unsigned(count))) return false;
  for (int k = 0; k < kSums; ++k) {
    sums[k] = 0;
    for (int c = int(threadIdx.x); c < count; c += kUpdateThreads)
      sums[k] += partial[int64_t(c) * kStride + k];
  }
  block_sum(sums);
  return true;
}

/// A block's part of the state tensors, and of one of them 4 elements.
template <class U>
struct ChunkState {
  static constexpr int kCount = U::kSlots > 0 ? U::kSlots : 1;
  float* at[kCount];
  Quad quads[kCount];

  __device__ ChunkState(const UpdateRecord<U>& record, int64_t begin) {
    for (int s = 0; s < U::kSlots; ++s) at[s] = record.state[s] + begin;
  }
  __device__ bool wide() const {
    bool all = true;
    for (int s = 0; s < U::kSlots; ++s) all = all && cuda::wide(at[s]);
    return all;
  }
  __device__ void load_quads(int i) {
    for (int s = 0; s < U::kSlots; ++s) quads[s] = load<4>(at[s] + i);
  }
  __device__ void store_quads(int i) {
    for (int s = 0; s < U::kSlots; ++s) store(at[s] + i, quads[s]);
  }
};

/// A block's part of the gradient.
template <class T>
struct ChunkGradient {
  const T* at;

  __device__ bool wide() const { return reinterpret_cast<uintptr_t>(at) % (4 * sizeof(T)) == 0; }
  __device__ float operator[](int i) const { return float(at[i]); }
  __device__ Quad quad(int i) const {
    Quad d;
    to_floats(load<4>(at + i), d.v);
    return d;
  }
};
/// That of an update which reads none.
struct NoGradient {
  __device__ bool wide() const { return true; }
  __device__ float operator[](int) const { return 0; }
  __device__ Quad quad(int) const { return {}; }
};
/// Calls body(gradient) for the chunk that begins at `begin`. Half: what narrow ones are made of.
template <class Half, class U, class Body>
__device__ void with_gradient(const UpdateRecord<U>& record, int64_t begin, const Body& body) {
  if constexpr (!updates::reads_gradient<U>())
    body(NoGradient{});
  else if (record.narrow)
    body(ChunkGradient<Half>{static_cast<const Half*>(record.g) + begin});
  else
    body(ChunkGradient<float>{static_cast<const float*>(record.g) + begin});
}

/// A block's part of the parameter's copy in 16 bits, if there is one.
template <class Half>
struct ChunkCopy {
  Half* at;

  template <class U>
  __device__ ChunkCopy(const UpdateRecord<U>& record, int64_t begin)
      : at(record.copy ? static_cast<Half*>(record.copy) + begin : nullptr) {}
  __device__ bool wide() const { return reinterpret_cast<uintptr_t>(at) % (4 * sizeof(Half)) == 0; }
  /// The elements from i on.
  template <int V>
  __device__ void set(int i, const float (&values)[V]) const {
    if (at) store(at + i, from_floats<Half>(values));
  }
};

template <class U, class Half>
__global__ void __launch_bounds__(kUpdateThreads, kUpdateBlocks<U>) update_kernel(UpdateLaunch launch) {
  wait_for_earlier();
  if (launch.skip && *launch.skip != 0) return;
  const ChunkPlace place = find_chunk(launch.tensors, launch.first);
  const auto& record = static_cast<const UpdateRecord<U>*>(launch.records)[place.tensor];
  if (!record.p) return;
  const U u = record.update;
  const int n = chunk_size(record.n, place.begin);
  float* p = record.p + place.begin;
  const ChunkCopy<Half> copy(record, place.begin);
  ChunkState<U> state(record, place.begin);
  with_gradient<Half>(record, place.begin, [&](const auto& g) {
    int done = 0;
    if (wide(p) && g.wide() && copy.wide() && state.wide()) {
      done = n / 4 * 4;
      for (int i = int(threadIdx.x) * 4; i < done; i += kUpdateThreads * 4) {
        Quad w = load<4>(p + i);
        const Quad d = g.quad(i);
        state.load_quads(i);
        for (int j = 0; j < 4; ++j)
          updates::with_slots<U>(state.quads, [&](auto&... s) { u(w.v[j], d.v[j], s.v[j]...); });
        store(p + i, w);
        copy.set(i, w.v);
        if constexpr (updates::writes_state<U>()) state.store_quads(i);
      }
    }
    for (int i = done + int(threadIdx.x); i < n; i += kUpdateThreads) {
      updates::with_slots<U>(state.at, [&](auto*... s) { u(p[i], g[i], s[i]...); });
      copy.set(i, {p[i]});
    }
  });
}

template <class U, class Half>
__global__ void __launch_bounds__(kUpdateThreads, 3) sums_kernel(UpdateLaunch launch) {
  wait_for_earlier();
  constexpr int kSums = updates::sums_of<U>();
  const ChunkPlace place = find_chunk(launch.tensors, launch.first);
  auto& record = static_cast<UpdateRecord<U>*>(launch.records)[place.tensor];
  if (!record.p) return;
  const U u = record.update;
  if (launch.skip && *launch.skip != 0) {
    if constexpr (requires { u.skipped(record.scalar); })
      if (place.begin == 0 && threadIdx.x == 0) u.skipped(record.scalar);
    return;
  }
  if (!updates::needs_sums(u)) return;
  const int n = chunk_size(record.n, place.begin);
  const float* p = record.p + place.begin;
  ChunkState<U> state(record, place.begin);
  double sums[kSums] = {};
  const auto add = [&](float w, float d, auto&... s) {
    float terms[kSums];
    updates::first_pass(u, w, d, terms, s...);
    for (int k = 0; k < kSums; ++k) sums[k] += double(terms[k]) * double(terms[k]);
  };
  with_gradient<Half>(record, place.begin, [&](const auto& g) {
    int done = 0;
    if (wide(p) && g.wide() && state.wide()) {
      done = n / 4 * 4;
      for (int i = int(threadIdx.x) * 4; i < done; i += kUpdateThreads * 4) {
        const Quad w = load<4>(p + i), d = g.quad(i);
        state.load_quads(i);
        for (int j = 0; j < 4; ++j)
          updates::with_slots<U>(state.quads, [&](auto&... s) { add(w.v[j], d.v[j], s.v[j]...); });
        if constexpr (updates::advances_first<U>()) state.store_quads(i);
      }
    }
    for (int i = done + int(threadIdx.x); i < n; i += kUpdateThreads)
      updates::with_slots<U>(state.at, [&](auto*... s) { add(p[i], g[i], s[i]...); });
  });
  block_sum(sums);
  const int first = launch.first[place.tensor], chunks = int((record.n + kUpdateChunk - 1) / kUpdateChunk);
  if (sum_over_blocks<updates::kMaxSums>(sums, launch.partial + int64_t(first) * updates::kMaxSums,
                                         int(blockIdx.x) - first, chunks, &record.arrived) &&
      threadIdx.x == 0) {
    U finished = u;
    finished.finish(sums, record.scalar);
    record.update = finished;
  }
}

/// The launches of one update, for the table in optim/cuda_updates.cu.
template <class U>
constexpr UpdateKernels update_kernels() {
  static_assert(sizeof(UpdateRecord<U>) <= kMaxRecordBytes && U::kSlots <= updates::kMaxSlots &&
                updates::sums_of<U>() <= updates::kMaxSums);
  UpdateKernels kernels{};
  if constexpr (updates::sums_of<U>() > 0)
    kernels.sums = [](const UpdateLaunch& l) {
      const auto kernel = l.f16 ? sums_kernel<U, f16> : sums_kernel<U, bf16>;
      if (l.chunks > 0) launch_early(kernel, unsigned(l.chunks), kUpdateThreads, l);
    };
  kernels.update = [](const UpdateLaunch& l) {
    const auto kernel = l.f16 ? update_kernel<U, f16> : update_kernel<U, bf16>;
    if (l.chunks > 0) launch_early(kernel, unsigned(l.chunks), kUpdateThreads, l);
  };
  return kernels;
}

}  // namespace weft::kernels::cuda
