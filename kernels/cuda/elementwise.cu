// unary, binary, compare, select, pow, affine, choose_backward, dropout and rrelu. The op is looked up once a
// thread, outside of the loop over its elements: a branch that all threads take alike costs nothing beside
// the memory, and one kernel serves all ops (but sin and cos).
#include "weft/kernels/activations/random/rrelu.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/activation_table.h"
#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/map.h"
#include "weft/kernels/cuda/strided.h"
#include "weft/kernels/host_device.h"
#include "weft/kernels/philox.h"
#include "weft/kernels/power.h"

namespace weft::kernels::cuda {
namespace {

#define WEFT_EACH(j) _Pragma("unroll") for (int j = 0; j < N; ++j)

struct UnaryForward {
  Unary op;
  template <int N>
  __device__ void operator()(int64_t, const float (&in)[1][N], float (&out)[1][N]) const {
    const auto& x = in[0];
    auto& y = out[0];
    switch (op) {
      case Unary::neg:
        WEFT_EACH(j) y[j] = -x[j];
        break;
      case Unary::exp:
        WEFT_EACH(j) y[j] = std::exp(x[j]);
        break;
      case Unary::log:
        WEFT_EACH(j) y[j] = std::log(x[j]);
        break;
      case Unary::sqrt:
        WEFT_EACH(j) y[j] = std::sqrt(x[j]);
        break;
      case Unary::square:
        WEFT_EACH(j) y[j] = x[j] * x[j];
        break;
      case Unary::abs:
        WEFT_EACH(j) y[j] = std::abs(x[j]);
        break;
      case Unary::reciprocal:
      default:
        WEFT_EACH(j) y[j] = 1.0f / x[j];
        break;
    }
  }
};

/// x, dy -> dx
struct UnaryBackward {
  Unary op;
  template <int N>
  __device__ void operator()(int64_t, const float (&in)[2][N], float (&out)[1][N]) const {
    const auto &x = in[0], &dy = in[1];
    auto& dx = out[0];
    switch (op) {
      case Unary::neg:
        WEFT_EACH(j) dx[j] = -dy[j];
        break;
      case Unary::exp:
        WEFT_EACH(j) dx[j] = dy[j] * std::exp(x[j]);
        break;
      case Unary::log:
        WEFT_EACH(j) dx[j] = dy[j] * (1.0f / x[j]);
        break;
      case Unary::sqrt:
        WEFT_EACH(j) dx[j] = dy[j] * (0.5f / std::sqrt(x[j]));
        break;
      case Unary::square:
        WEFT_EACH(j) dx[j] = dy[j] * (2.0f * x[j]);
        break;
      case Unary::abs:  // 0 at the kink
        WEFT_EACH(j) dx[j] = dy[j] * (float(x[j] > 0) - float(x[j] < 0));
        break;
      case Unary::reciprocal:
      default:
        WEFT_EACH(j) dx[j] = dy[j] * (-1.0f / (x[j] * x[j]));
        break;
    }
  }
};

// sin and cos are kernels of their own: large angles take many registers, which the other ops do without.
WEFT_OUT_OF_LINE __device__ float sine(float x) { return std::sin(x); }
WEFT_OUT_OF_LINE __device__ float cosine(float x) { return std::cos(x); }

constexpr bool is_wave(Unary op) { return op == Unary::sin || op == Unary::cos; }

struct Wave {
  Unary op;
  template <int N>
  __device__ void operator()(int64_t, const float (&x)[1][N], float (&y)[1][N]) const {
    WEFT_EACH(j) y[0][j] = op == Unary::sin ? sine(x[0][j]) : cosine(x[0][j]);
  }
};

/// x, dy -> dx
struct WaveBackward {
  Unary op;
  template <int N>
  __device__ void operator()(int64_t, const float (&in)[2][N], float (&dx)[1][N]) const {
    WEFT_EACH(j) dx[0][j] = in[1][j] * (op == Unary::sin ? cosine(in[0][j]) : -sine(in[0][j]));
  }
};

struct BinaryForward {
  Binary op;
  template <int N>
  __device__ void operator()(const float (&a)[N], const float (&b)[N], float (&y)[N]) const {
    switch (op) {
      case Binary::add:
        WEFT_EACH(j) y[j] = a[j] + b[j];
        break;
      case Binary::sub:
        WEFT_EACH(j) y[j] = a[j] - b[j];
        break;
      case Binary::mul:
        WEFT_EACH(j) y[j] = a[j] * b[j];
        break;
      case Binary::div:
        WEFT_EACH(j) y[j] = a[j] / b[j];
        break;
      case Binary::maximum:  // NaN where either is
        WEFT_EACH(j) y[j] = a[j] > b[j] || a[j] != a[j] ? a[j] : b[j];
        break;
      case Binary::minimum:
        WEFT_EACH(j) y[j] = a[j] < b[j] || a[j] != a[j] ? a[j] : b[j];
        break;
      case Binary::equal:
      default:
        WEFT_EACH(j) y[j] = float(a[j] == b[j]);
        break;
    }
  }
  template <int N>
  __device__ void operator()(int64_t, const float (&in)[2][N], float (&out)[1][N]) const {
    (*this)(in[0], in[1], out[0]);
  }
};

/// 1 where op holds, else 0.
struct Comparison {
  Compare op;
  template <int N>
  __device__ void operator()(const float (&a)[N], const float (&b)[N], float (&y)[N]) const {
    switch (op) {
      case Compare::eq:
        WEFT_EACH(j) y[j] = float(a[j] == b[j]);
        break;
      case Compare::ne:
        WEFT_EACH(j) y[j] = float(a[j] != b[j]);
        break;
      case Compare::lt:
        WEFT_EACH(j) y[j] = float(a[j] < b[j]);
        break;
      case Compare::le:
      default:
        WEFT_EACH(j) y[j] = float(a[j] <= b[j]);
        break;
    }
  }
};

struct Power {
  float exponent;
  template <int N>
  __device__ void operator()(int64_t, const float (&x)[1][N], float (&y)[1][N]) const {
    WEFT_EACH(j) y[0][j] = power(x[0][j], exponent);
  }
};

struct Affine {
  float alpha, beta;
  template <int N>
  __device__ void operator()(int64_t, const float (&x)[1][N], float (&y)[1][N]) const {
    WEFT_EACH(j) y[0][j] = fmaf(alpha, x[0][j], beta);
  }
};

/// a, b, y, dy -> da, db
struct ChooseBackward {
  template <int N>
  __device__ void operator()(int64_t, const float (&in)[4][N], float (&out)[2][N]) const {
    WEFT_EACH(j) {
      const float a = in[0][j], b = in[1][j], y = in[2][j], dy = in[3][j];
      const bool tie = a == b, none = y != y;  // a NaN: both get all
      out[0][j] = tie ? dy / 2 : none || y == a ? dy : 0.0f;
      out[1][j] = tie ? dy / 2 : none || y == b ? dy : 0.0f;
    }
  }
};

/// The words of the stream `key` at positions i to i + N.
template <int N>
__device__ inline void draw(uint64_t key, int64_t i, uint32_t (&drawn)[N]) {
  const uint64_t counter = uint64_t(i) >> 2;
  if constexpr (N == 1) {
    const auto words = philox(key, counter);
    const int at = int(i & 3);
    drawn[0] = at == 0 ? words[0] : at == 1 ? words[1] : at == 2 ? words[2] : words[3];
  } else {
#pragma unroll
    for (int group = 0; group < N / 4; ++group) {
      const auto words = philox(key, counter + unsigned(group));
#pragma unroll
      for (int j = 0; j < 4; ++j) drawn[4 * group + j] = words[size_t(j)];
    }
  }
}

/// Keeps where the random word is at least `least`.
struct Dropout {
  const uint64_t* key;
  uint32_t least;
  float scale;
  template <int N>
  __device__ void operator()(int64_t i, const float (&x)[1][N], float (&y)[1][N]) const {
    uint32_t drawn[N];
    draw(*key, i, drawn);
    WEFT_EACH(j) y[0][j] = drawn[j] >= least ? x[0][j] * scale : 0.0f;
  }
};

/// x, in -> out
struct RandomSlope {
  const uint64_t* key;
  float low, range;
  template <int N>
  __device__ void operator()(int64_t i, const float (&in)[2][N], float (&out)[1][N]) const {
    uint32_t drawn[N];
    draw(*key, i, drawn);
    WEFT_EACH(j)
    out[0][j] = in[1][j] * activations::rrelu::slope(in[0][j], low, range, uniform_float(drawn[j]));
  }
};

#undef WEFT_EACH

// --- broadcasting ---

constexpr int kBroadcastBlock = 256, kBroadcastPacks = 2;

/// N neighbours at p, or one element N times where `step` is 0.
template <int N, class T>
__device__ Pack<T, N> load_neighbours(const T* p, int step) {
  if (step) return load<N>(p);
  Pack<T, N> pack;
#pragma unroll
  for (int j = 0; j < N; ++j) pack.v[j] = *p;
  return pack;
}

/// y[i] = op(a, b) for packs of N elements; an operand's step is its stride within a pack, 0 or 1 (any one
/// for N = 1).
template <int N, class Op, class T, class Y>
__global__ void __launch_bounds__(kBroadcastBlock)
    broadcast_kernel(Op op, uint32_t packs, const Walk<2> walk, int a_step, int b_step, const T* a,
                     const T* b, Y* y) {
  wait_for_earlier();
  const uint32_t first = blockIdx.x * uint32_t(kBroadcastBlock * kBroadcastPacks) + threadIdx.x;
  Pack<T, N> in[kBroadcastPacks][2] = {};
#pragma unroll
  for (int p = 0; p < kBroadcastPacks; ++p) {
    const uint32_t i = first + p * kBroadcastBlock;
    if (i >= packs) break;
    int64_t offset[2];
    walk.offsets(i, offset);
    in[p][0] = load_neighbours<N>(a + offset[0], a_step);
    in[p][1] = load_neighbours<N>(b + offset[1], b_step);
  }
#pragma unroll
  for (int p = 0; p < kBroadcastPacks; ++p) {
    const uint32_t i = first + p * kBroadcastBlock;
    if (i >= packs) break;
    float x[2][N], z[N];
    to_floats(in[p][0], x[0]);
    to_floats(in[p][1], x[1]);
    op(x[0], x[1], z);
    store(y + int64_t(i) * N, from_floats<Y>(z));
  }
}

/// y[i] = c ? a : b, the same way.
template <int N, class T>
__global__ void __launch_bounds__(kBroadcastBlock)
    select_kernel(uint32_t packs, const Walk<3> walk, int a_step, int b_step, int c_step, const T* a,
                  const T* b, const uint8_t* c, T* y) {
  wait_for_earlier();
  const uint32_t i = blockIdx.x * uint32_t(kBroadcastBlock) + threadIdx.x;
  if (i >= packs) return;
  int64_t offset[3];
  walk.offsets(i, offset);
  Pack<T, N> chosen = load_neighbours<N>(a + offset[0], a_step);
  const Pack<T, N> other = load_neighbours<N>(b + offset[1], b_step);
  const Pack<uint8_t, N> condition = load_neighbours<N>(c + offset[2], c_step);
#pragma unroll
  for (int j = 0; j < N; ++j)
    if (!condition.v[j]) chosen.v[j] = other.v[j];
  store(y + int64_t(i) * N, chosen);
}

/// Whether the operands can be walked in packs of N neighbours: each is dense in the innermost dimension, or
/// one element for a whole row.
template <int N, int K>
bool in_packs(const Strided<K>& s, const void* const (&operands)[K], const void* y) {
  bool wide = s.ndim > 0 && aligned({y}) && s.size[size_t(s.ndim) - 1] % N == 0;
  for (size_t k = 0; k < size_t(K) && wide; ++k) {
    const int64_t step = s.stride[k][size_t(s.ndim) - 1];
    if (step == 0) continue;
    wide = step == 1 && aligned({operands[k]});
    for (int d = 0; d + 1 < s.ndim; ++d) wide = wide && s.stride[k][size_t(d)] % N == 0;
  }
  return wide;
}

/// Makes `s` a walk over packs of N neighbours. The operands' steps within a pack.
template <int N, int K>
std::array<int, size_t(K)> to_packs(Strided<K>& s) {
  std::array<int, size_t(K)> step{};
  if (s.ndim == 0) return step;
  const size_t inner = size_t(s.ndim) - 1;
  s.size[inner] /= N;
  for (size_t k = 0; k < size_t(K); ++k) {
    step[k] = s.stride[k][inner] != 0;
    s.stride[k][inner] *= N;
  }
  return step;
}

/// Over `s` in packs of N neighbours.
template <int N, class Op, class T, class Y>
void broadcast(Op op, Strided<2> s, const T* a, const T* b, Y* y) {
  const auto step = to_packs<N>(s);
  each_part(s, [&](const Strided<2>& part, int64_t start, const std::array<int64_t, 2>& offset) {
    const int64_t packs = part.count();
    launch_early(broadcast_kernel<N, Op, T, Y>, blocks_for(packs, kBroadcastBlock * kBroadcastPacks),
                 kBroadcastBlock, op, uint32_t(packs), Walk<2>(part), step[0], step[1], a + offset[0],
                 b + offset[1], y + start * N);
  });
}
/// The same in the widest packs that there can be; `s` is collapsed.
template <class Op, class T, class Y>
void broadcast(Op op, const Strided<2>& s, const T* a, const T* b, Y* y) {
  constexpr int N = kWide<T>;
  in_packs<N>(s, {a, b}, y) ? broadcast<N>(op, s, a, b, y) : broadcast<1>(op, s, a, b, y);
}

template <class T>
void binary(Binary op, const Broadcast& shape, const T* a, const T* b, T* y) {
  Strided<2> s{shape.ndim, shape.size, {shape.a_stride, shape.b_stride}};
  if (s.count() == 0) return;
  s.collapse();
  if (s.ndim == 1 && s.stride[0][0] == 1 && s.stride[1][0] == 1)
    return map<2, 1, T>(s.size[0], {{a, b}, {y}}, BinaryForward{op});
  broadcast(BinaryForward{op}, s, a, b, y);
}

template <class T>
void compare(Compare op, const Broadcast& shape, const T* a, const T* b, uint8_t* y) {
  Strided<2> s{shape.ndim, shape.size, {shape.a_stride, shape.b_stride}};
  if (s.count() == 0) return;
  s.collapse();
  broadcast(Comparison{op}, s, a, b, y);
}

template <int N, class T>
void select(Strided<3> s, const T* a, const T* b, const uint8_t* c, T* y) {
  const auto step = to_packs<N>(s);
  each_part(s, [&](const Strided<3>& part, int64_t start, const std::array<int64_t, 3>& offset) {
    const int64_t packs = part.count();
    launch_early(select_kernel<N, T>, blocks_for(packs, kBroadcastBlock), kBroadcastBlock, uint32_t(packs),
                 Walk<3>(part), step[0], step[1], step[2], a + offset[0], b + offset[1], c + offset[2],
                 y + start * N);
  });
}

template <class T>
void select(const Broadcast& shape, const uint8_t* c, const T* a, const T* b, T* y) {
  Strided<3> s{shape.ndim, shape.size, {shape.a_stride, shape.b_stride, shape.c_stride}};
  if (s.count() == 0) return;
  s.collapse();
  constexpr int N = kWide<T>;
  in_packs<N>(s, {a, b, c}, y) ? select<N>(s, a, b, c, y) : select<1>(s, a, b, c, y);
}

// --- the other entries ---

template <class T>
void unary(Unary op, int64_t n, const T* x, T* y) {
  if (is_wave(op))
    map<1, 1, T>(n, {{x}, {y}}, Wave{op});
  else
    map<1, 1, T>(n, {{x}, {y}}, UnaryForward{op});
}

template <class T>
void unary_backward(Unary op, int64_t n, const T* x, const T* dy, T* dx) {
  if (is_wave(op))
    map<2, 1, T>(n, {{x, dy}, {dx}}, WaveBackward{op});
  else
    map<2, 1, T>(n, {{x, dy}, {dx}}, UnaryBackward{op});
}

template <class T>
void pow(Wide<T> exponent, int64_t n, const T* x, T* y) {
  map<1, 1, T>(n, {{x}, {y}}, Power{exponent});
}

template <class T>
void affine(int64_t n, Wide<T> alpha, Wide<T> beta, const T* x, T* y) {
  map<1, 1, T>(n, {{x}, {y}}, Affine{alpha, beta});
}

template <class T>
void choose_backward(int64_t n, const T* a, const T* b, const T* y, const T* dy, T* da, T* db) {
  map<4, 2, T>(n, {{a, b, y, dy}, {da, db}}, ChooseBackward{});
}

template <class T>
void dropout(int64_t n, double p, const uint64_t* key, const T* x, T* y) {
  // word >= p 2^32 as a comparison of whole numbers; where no word is large enough, the scale does it.
  const double bound = p * 0x1p32;
  uint64_t least = uint64_t(bound);
  if (double(least) < bound) ++least;
  if (n <= 0) return;
  if (least > 0xffffffffu) {
    const T zero(0.0f);
    return fill(sizeof(T), n, &zero, y);
  }
  map<1, 1, T>(n, {{x}, {y}}, Dropout{key, uint32_t(least), float(1 / (1 - p))});
}

template <class T>
void rrelu(int64_t n, double lower, double upper, const uint64_t* key, const T* x, const T* in, T* out) {
  map<2, 1, T>(n, {{x, in}, {out}}, RandomSlope{key, float(lower), float(upper - lower)});
}

}  // namespace

template <class T>
void set_elementwise(KernelTable<T>& table) {
  table.unary = unary<T>;
  table.unary_backward = unary_backward<T>;
  table.binary = binary<T>;
  table.compare = compare<T>;
  table.select = select<T>;
  table.pow = pow<T>;
  table.affine = affine<T>;
  table.choose_backward = choose_backward<T>;
  table.dropout = dropout<T>;
  table.rrelu = rrelu<T>;
  set_activation(table);
}

template void set_elementwise(KernelTable<float>&);
template void set_elementwise(KernelTable<bf16>&);
template void set_elementwise(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
