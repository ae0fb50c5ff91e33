// The passes over all parameters of a group that every optimizer's step is made of. What happens to an
// element is said by the optimizers' formulas (kernels/updates/update.h).
//
// Tensors are cut into chunks of a fixed size, so that neither the result nor the order of a sum depends on
// the number of threads, and many small tensors and one large one keep all threads equally busy.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <type_traits>
#include <vector>

#include "weft/engine/weight_copies.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/kernels.h"
#include "weft/kernels/parallel.h"
#include "weft/kernels/updates/multi_tensor.h"
#include "weft/kernels/updates/update.h"
#include "weft/optim/optimizer.h"

namespace weft::optim {

/// Elements of a chunk. Parameter, gradient and two moments in f32 are 256 KiB: they stay in the L2 cache
/// between the loops over one chunk.
constexpr int64_t kChunkSize = 16384;

/// Appends the chunks of a tensor with n elements.
inline void cut(size_t entry, int64_t n, std::vector<ChunkRange>& chunks) {
  for (int64_t begin = 0; begin < n; begin += kChunkSize)
    chunks.push_back({entry, begin, begin + kChunkSize < n ? begin + kChunkSize : n});
}

/// Elements whose squares are summed in their own type before the sum joins a total in double: their rounding
/// errors are far below that of one element.
constexpr int64_t kSumBlock = 512;

/// Whether a sum of squares is so small or large that some may have left the range of T = float, so that they
/// are to be taken again in double.
template <class T>
bool squares_left_range(T sum) {
  return sizeof(T) < sizeof(double) && !(sum > T(1e-25) && sum < T(1e30));
}

/// The sum of squares of at most kSumBlock elements, in a fixed order that leaves the compiler whole vectors.
template <class T>
double block_squares(int64_t n, const T* x) {
  constexpr int kLanes = 32;
  T lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) lane[j] += x[i + j] * x[i + j];
  for (int j = 0; i < n; ++i, ++j) lane[j] += x[i] * x[i];
  for (int step = kLanes / 2; step > 0; step /= 2)
    for (int j = 0; j < step; ++j) lane[j] += lane[j + step];
  if (squares_left_range(lane[0])) {
    double sum = 0;
    for (i = 0; i < n; ++i) sum += double(x[i]) * double(x[i]);
    return sum;
  }
  return double(lane[0]);
}

/// The sum of squares of n elements.
template <class T>
double sum_squares(int64_t n, const T* x) {
  double sum = 0;
  for (int64_t i = 0; i < n; i += kSumBlock)
    sum += block_squares(n - i < kSumBlock ? n - i : kSumBlock, x + i);
  return sum;
}

/// Memory of one chunk.
template <class T>
struct Chunk {
  int64_t n = 0;
  T* p = nullptr;                                       // parameter
  const T* g = nullptr;                                 // gradient
  std::array<T*, kernels::updates::kMaxSlots> state{};  // the group's slots; null where one is a scalar
};

/// The second pass of an update, or the only one: each array is touched by its own pointer only.
template <class U, class T, class... S>
[[gnu::always_inline]] inline void update_elements(const U& update, int64_t n, T* __restrict p,
                                                   const T* __restrict g, S* __restrict... state) {
  const U u = update;  // no store can change it
  for (int64_t i = 0; i < n; ++i) {
    T d = 0;
    if constexpr (kernels::updates::reads_gradient<U>()) d = g[i];
    u(p[i], d, state[i]...);
  }
}
#ifdef __x86_64__
/// The same on vectors twice as wide. To the same bits: "avx2" brings no fused multiply-add.
template <class U, class T, class... S>
[[gnu::target("avx2")]] void update_elements_avx2(const U& update, int64_t n, T* __restrict p,
                                                  const T* __restrict g, S* __restrict... state) {
  update_elements(update, n, p, g, state...);
}
/// Whether this machine has them, and WEFT_ISA does not forbid it.
inline bool has_avx2() {
  static const bool has = std::string_view(kernels::cpu().name).starts_with("avx");
  return has;
}
#endif
template <class U, class T>
void update_chunk(const U& u, const Chunk<T>& c) {
  kernels::updates::with_slots<U>(c.state, [&](auto*... s) {
#ifdef __x86_64__
    if (has_avx2()) return update_elements_avx2(u, c.n, c.p, c.g, s...);
#endif
    update_elements(u, c.n, c.p, c.g, s...);
  });
}

/// The first pass of an update that needs sums: adds those of at most kSumBlock elements, in the order of
/// block_squares().
template <class U, class T, class... S>
void sum_elements(const U& update, double* sums, int64_t n, const T* __restrict p, const T* __restrict g,
                  S* __restrict... state) {
  namespace up = kernels::updates;
  constexpr int kSums = up::sums_of<U>(), kLanes = 32;
  const U u = update;
  T lane[kSums][kLanes] = {};
  const auto add = [&](int64_t i, int j) {
    T terms[kSums];
    up::first_pass(u, p[i], g[i], terms, state[i]...);
    for (int k = 0; k < kSums; ++k) lane[k][j] += terms[k] * terms[k];
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) add(i + j, j);
  for (int j = 0; i < n; ++i, ++j) add(i, j);
  for (int k = 0; k < kSums; ++k) {
    for (int step = kLanes / 2; step > 0; step /= 2)
      for (int j = 0; j < step; ++j) lane[k][j] += lane[k][j + step];
    double sum = double(lane[k][0]);
    if (squares_left_range(lane[k][0])) {
      sum = 0;
      for (i = 0; i < n; ++i) {
        T terms[kSums];
        u.terms(p[i], g[i], state[i]..., terms);
        sum += double(terms[k]) * double(terms[k]);
      }
    }
    sums[k] += sum;
  }
}

/// The same for a chunk.
template <class U, class T>
void sum_chunk(const U& u, const Chunk<T>& c, double* sums) {
  for (int64_t i = 0; i < c.n; i += kSumBlock)
    kernels::updates::with_slots<U>(c.state, [&](auto*... s) {
      sum_elements(u, sums, c.n - i < kSumBlock ? c.n - i : kSumBlock, c.p + i, c.g + i, (s + i)...);
    });
}

/// Runs updates on the parameters of a group that have a gradient.
class MultiTensor {
 public:
  using Entry = Optimizer::Entry;
  using Group = Optimizer::Group;

  /// Counts an update of each parameter that has a gradient and runs a formula on it: make(options, t, T())
  /// gives it as a U<T>, T float or double, from the group's options and the parameter's number of updates,
  /// this one included; a fourth argument would be its place in the group. Counts a step of the optimizer
  /// with its last group.
  template <class Opt, class Make>
  static void step(Opt& optimizer, size_t group, Make make) {
    const auto begin = [&optimizer, group] {
      if (group + 1 == optimizer.groups_.size()) optimizer.advance();
    };
    run(optimizer, group, begin, [&optimizer, group, make](size_t i, auto type) {
      if (optimizer.before_update_) optimizer.before_update_(group, i);
      Entry& entry = optimizer.groups_[group].entries[i];
      entry.param.tensor.count_change();
      const int64_t t = ++*entry.updates.template data<int64_t>();
      if constexpr (std::is_invocable_v<Make, decltype(optimizer.options(group)), int64_t, decltype(type),
                                        size_t>)
        return std::optional(make(optimizer.options(group), t, type, i));
      else
        return std::optional(make(optimizer.options(group), t, type));
    });
  }

  /// Runs a formula on each parameter that has a gradient and for which make(index of the entry, T()), an
  /// optional U<T>, gives one. `make` is called serially, after begin(). In a captured step both are called
  /// again before each launch: what they refer to must live as long.
  template <class Begin, class Make>
  static void run(Optimizer& optimizer, size_t group, const Begin& begin, const Make& make) {
    run(optimizer, optimizer.groups_[group], begin, make);
  }
  /// The same on a group that `optimizer` keeps elsewhere.
  template <class Begin, class Make>
  static void run(const Optimizer& optimizer, Group& group, const Begin& begin, const Make& make) {
    using Works = Work<formula_of<Make, float>, formula_of<Make, double>>;
    if (group.gpu_memory.defined())
      return run_on_gpu<formula_of<Make, float>>(group, optimizer.skip_, begin, make);
    begin();
    std::vector<Works> work(group.entries.size());
    for (size_t i = 0; i < work.size(); ++i) {
      const Entry& entry = group.entries[i];
      if (!entry.param.tensor.grad().defined()) continue;
      if (entry.dtype == DType::f32)
        work[i].f32 = make(i, float());
      else
        work[i].f64 = make(i, double());
    }
    if constexpr (kernels::updates::sums_of<formula_of<Make, float>>() > 0) finish(group, work);
    kernels::parallel_for(int64_t(group.chunks.size()), [&](int64_t c) {
      on_chunk(group, group.chunks[size_t(c)], work,
               [](const auto& u, const auto& chunk) { update_chunk(u, chunk); });
    });
  }

  /// How many state tensors each parameter of a group has.
  static size_t slots(const Optimizer& optimizer, size_t group) { return optimizer.at(group).slots.size(); }

  /// The memory that the steps of a group need on the GPU: records, the first chunk of each, and partial
  /// sums.
  static Tensor gpu_memory(const Group& group) {
    int64_t chunks = 0;
    for (const Entry& entry : group.entries) chunks += gpu_chunks(entry);
    const int64_t bytes =
        partial_sums_at(group) + chunks * kernels::updates::kMaxSums * int64_t(sizeof(double));
    return Tensor::empty({bytes}, DType::u8, Device::cuda);
  }

 private:
  /// The formula for T that `make` gives.
  template <class Make, class T>
  using formula_of = typename std::invoke_result_t<const Make&, size_t, T>::value_type;
  /// What there is to do for an entry: one of the two, or neither.
  template <class F32, class F64>
  struct Work {
    std::optional<F32> f32;
    std::optional<F64> f64;
  };

  /// The one 16-bit type of all that a launch works on.
  static void join(std::optional<DType>& type, const char* formula, DType with) {
    check(!type || *type == with, formula, ": gradients and copies of the weights are in both ", with,
          " and ", type.value_or(with), "; one launch can have either");
    type = with;
  }
  static int64_t gpu_chunks(const Entry& entry) {
    return (entry.shape.numel() + kernels::cuda::kUpdateChunk - 1) / kernels::cuda::kUpdateChunk;
  }
  /// Where partial sums begin in a group's memory.
  static int64_t partial_sums_at(const Group& group) {
    return (int64_t(group.entries.size()) * (kernels::cuda::kMaxRecordBytes + int64_t(sizeof(int32_t))) +
            31) /
           16 * 16;
  }

  template <class U, class Begin, class Make>
  static void run_on_gpu(const Group& group, const Tensor& skip, const Begin& begin, const Make& make) {
    namespace up = kernels::updates;
    namespace cuda = kernels::cuda;
    const cuda::UpdateKernels* kernels = cuda::find_update(U::kName);
    check(kernels != nullptr, U::kName,
          ": the library has no kernels for this formula on the GPU (optim/cuda_updates.cu)");
    // What is worked on is settled here; the scalars are made in each step.
    struct Plan {
      std::vector<size_t> entries;
      std::vector<cuda::UpdateRecord<U>> records;
      std::vector<int32_t> first;
      bool any = false, sums = false;  // whether there is something to do
    };
    const auto plan = std::make_shared<Plan>();
    std::optional<DType> half;
    int64_t chunks = 0;
    for (size_t i = 0; i < group.entries.size(); ++i) {
      const Entry& entry = group.entries[i];
      const Tensor &p = entry.param.tensor, &g = p.grad();
      if (!g.defined()) continue;
      cuda::UpdateRecord<U> record;
      record.p = p.data<float>(), record.n = p.numel();
      record.g = g.raw(), record.narrow = is_half(g.dtype());
      if (record.narrow) join(half, U::kName, g.dtype());
      if (const Tensor copy = WeightCopies::follow(p); copy.defined()) {
        record.copy = copy.raw();
        join(half, U::kName, copy.dtype());
      }
      for (size_t s = 0; s < group.slots.size(); ++s)
        if (!group.slots[s].scalar) record.state[s] = entry.state[s].data<float>();
      record.scalar = scalar_slot(group, i);
      plan->entries.push_back(i);
      plan->records.push_back(record);
      plan->first.push_back(int32_t(chunks));
      chunks += gpu_chunks(entry);
      check(chunks < int64_t(1) << 31, U::kName, ": a group is too large");
    }
    const size_t n = plan->records.size(), record_bytes = n * sizeof(cuda::UpdateRecord<U>);
    char* const memory = static_cast<char*>(group.gpu_memory.raw());
    cuda::upload_each_step(memory, int64_t(record_bytes + n * sizeof(int32_t) + 16), [=](void* staging) {
      begin();
      plan->any = plan->sums = false;
      auto* const records = static_cast<cuda::UpdateRecord<U>*>(staging);
      for (size_t r = 0; r < n; ++r) {
        records[r] = plan->records[r];
        const std::optional<U> update = make(plan->entries[r], float());
        if (update) records[r].update = *update;
        if (!update) records[r].p = nullptr;
        plan->any = plan->any || update;
        plan->sums = plan->sums || (update && up::needs_sums(*update));
      }
      if (n > 0)
        std::memcpy(static_cast<char*>(staging) + record_bytes, plan->first.data(), n * sizeof(int32_t));
    });
    const cuda::UpdateLaunch launch{.tensors = int32_t(n),
                                    .chunks = int32_t(chunks),
                                    .f16 = half == DType::f16,
                                    .records = memory,
                                    .first = reinterpret_cast<const int32_t*>(memory + record_bytes),
                                    .partial = reinterpret_cast<double*>(memory + partial_sums_at(group)),
                                    .skip = skip.defined() ? skip.data<float>() : nullptr};
    const bool captured = cuda::capturing();  // then another launch may have something to do
    if (kernels->sums && (captured || plan->sums)) kernels->sums(launch);
    if (captured || plan->any) kernels->update(launch);
  }

  /// The first pass: takes the sums in the order of the chunks, and finishes the updates by them.
  template <class F32, class F64>
  static void finish(Group& group, std::vector<Work<F32, F64>>& work) {
    namespace up = kernels::updates;
    using Sums = std::array<double, size_t(up::sums_of<F32>())>;
    std::vector<Sums> partial(group.chunks.size()), sums(group.entries.size());
    kernels::parallel_for(int64_t(group.chunks.size()), [&](int64_t c) {
      on_chunk(group, group.chunks[size_t(c)], work, [&](const auto& u, const auto& chunk) {
        if (up::needs_sums(u)) sum_chunk(u, chunk, partial[size_t(c)].data());
      });
    });
    for (size_t c = 0; c < partial.size(); ++c)
      for (size_t k = 0; k < partial[c].size(); ++k) sums[group.chunks[c].entry][k] += partial[c][k];
    for (size_t i = 0; i < work.size(); ++i) {
      double* scalar = scalar_slot(group, i);
      if (work[i].f32 && up::needs_sums(*work[i].f32)) work[i].f32->finish(sums[i].data(), scalar);
      if (work[i].f64 && up::needs_sums(*work[i].f64)) work[i].f64->finish(sums[i].data(), scalar);
    }
  }

  /// The memory of the entry's scalar slot; null where the group has none.
  static double* scalar_slot(const Group& group, size_t entry) {
    for (size_t s = 0; s < group.slots.size(); ++s)
      if (group.slots[s].scalar) return group.entries[entry].state[s].data<double>();
    return nullptr;
  }

  template <class W, class Body>
  static void on_chunk(const Group& group, const ChunkRange& range, const std::vector<W>& work, Body&& body) {
    const W& w = work[range.entry];
    if (w.f32) body(*w.f32, chunk<float>(group, range));
    if (w.f64) body(*w.f64, chunk<double>(group, range));
  }

  template <class T>
  static Chunk<T> chunk(const Group& group, const ChunkRange& range) {
    const Entry& entry = group.entries[range.entry];
    const Tensor& p = entry.param.tensor;
    Chunk<T> c{range.end - range.begin, p.data<T>() + range.begin, p.grad().data<T>() + range.begin, {}};
    for (size_t s = 0; s < group.slots.size(); ++s)
      if (!group.slots[s].scalar) c.state[s] = entry.state[s].data<T>() + range.begin;
    return c;
  }
};

}  // namespace weft::optim
