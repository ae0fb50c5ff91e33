// Many small conversions in one launch: the weights' copies in 16 bits, and their gradients back to float.
#include <algorithm>
#include <array>

#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/wide.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kBlock = 256, kTile = 4096;                    // threads of a block, elements that it converts
constexpr int kPack = 4, kPacks = kTile / (kBlock * kPack);  // of a thread, all on their way at once
constexpr int kItems = 120;  // in one launch: they are the kernel's parameters, 4 KB at most

template <class From, class To>
struct List {
  int count = 0;
  struct Item {
    const From* from;
    To* to;
    int64_t n;
    int first_block;
  };
  std::array<Item, kItems> items;
};

template <class From, class To>
__global__ void __launch_bounds__(kBlock) weft_convert_all_kernel(const List<From, To> list) {
  wait_for_earlier();
  const int block = int(blockIdx.x);
  int low = 0, high = list.count - 1;  // the last item that begins at or before this block
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (list.items[size_t(middle)].first_block <= block)
      low = middle;
    else
      high = middle - 1;
  }
  const auto& item = list.items[size_t(low)];
  const int64_t begin = int64_t(block - item.first_block) * kTile;
  const int count = int(item.n - begin < kTile ? item.n - begin : kTile);
  const From* from = item.from + begin;
  To* to = item.to + begin;
  const bool wide = reinterpret_cast<uintptr_t>(from) % (kPack * sizeof(From)) == 0 &&
                    reinterpret_cast<uintptr_t>(to) % (kPack * sizeof(To)) == 0;
  const int packed = wide ? count / kPack * kPack : 0;
  Pack<From, kPack> in[kPacks] = {};
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int i = (p * kBlock + int(threadIdx.x)) * kPack;
    if (i < packed) in[p] = load<kPack>(from + i);
  }
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int i = (p * kBlock + int(threadIdx.x)) * kPack;
    float values[kPack];
    to_floats(in[p], values);
    if (i < packed) store(to + i, from_floats<To>(values));
  }
#pragma unroll 1
  for (int i = packed + int(threadIdx.x); i < count; i += kBlock) to[i] = To(float(from[i]));
}

}  // namespace

template <class From, class To>
void convert_all(std::span<const Conversion<From, To>> list) {
  List<From, To> part;
  int blocks = 0;
  const auto flush = [&] {
    if (blocks > 0) launch_early(weft_convert_all_kernel<From, To>, unsigned(blocks), kBlock, part);
    part.count = blocks = 0;
  };
  for (const Conversion<From, To>& c : list) {
    if (c.n == 0) continue;
    if (part.count == kItems) flush();
    part.items[size_t(part.count++)] = {c.from, c.to, c.n, blocks};
    blocks += int((c.n + kTile - 1) / kTile);
  }
  flush();
}

template void convert_all(std::span<const Conversion<float, bf16>>);
template void convert_all(std::span<const Conversion<float, f16>>);
template void convert_all(std::span<const Conversion<bf16, float>>);
template void convert_all(std::span<const Conversion<f16, float>>);

}  // namespace weft::kernels::cuda
