// The one-dimensional transforms of Winograd's minimal filtering F(M, 3): M outputs of a 3-tap filter from M
// + 2 products. With A, B, G from the points below,
//   y = A^T [(G g) * (B^T d)]     d: M + 2 inputs, g: 3 taps, y: M outputs, * element by element,
// and in two dimensions each transform is applied to the columns and then to the rows (Winograd, 1980; Lavin
// and Gray, 2015, arXiv 1509.09308). The gradient of g is the transposed formula, G^T [(A dy) * (B^T d)].
//
// The Toom-Cook construction: a row of A^T is (1, p, p^2, ...) at the points p, a row of G is (1, p, p^2)
// over the product of p's distances from the other points, a row of B^T is the polynomial with the other
// points as roots. The point at infinity takes the highest coefficients.
//
// A convolution with stride 2 is the sum of two with stride 1: taps 0 and 2 on every other input, tap 1 on
// those between.
#pragma once

#include "weft/kernels/cpu/isa/vec.h"

namespace weft::kernels::WEFT_ISA {

// For one axis of a tile each algorithm has
//   kOut, kIn   outputs, and the inputs that they depend on
//   kStep       inputs from tile to tile
//   kProducts   products; product i takes transformed tap i, or the last where there are fewer
//   kFilters    transformed taps
// and the transforms Input (kIn inputs to kProducts factors), Filter (3 taps to kFilters) and Output
// (kProducts products to kOut outputs), with OutputGradient and FilterGradient the transposed ones of the
// last two. The sums of the weight gradient are one for each filter.

/// F(M, 3) with stride 1. The input gradient is one of the same kind.
template <int M>
struct Winograd;

/// Points 0, a, -a, b, -b, infinity. a = 5/8 and b = 3/2 keep the transforms' coefficients close to 1, which
/// makes the error in f32 less than half of that of the textbook's 1 and 2 (docs/numerics.md), and all
/// products of their squares exact.
template <>
struct Winograd<4> {
  using InputGradient = Winograd;
  static constexpr int kOut = 4, kIn = 6, kStep = 4, kProducts = kIn, kFilters = kIn;
  static constexpr float a = 0.625f, b = 1.5f, a2 = a * a, b2 = b * b, a3 = a2 * a, b3 = b2 * b;
  static constexpr float n0 = 1 / (a2 * b2), na = 1 / (2 * a2 * (a2 - b2)), nb = 1 / (2 * b2 * (b2 - a2));

  /// t = B^T d
  struct Input {
    WEFT_INLINE void operator()(const Vec (&d)[6], Vec (&t)[6]) const {
      const Vec sum(-(a2 + b2)), product(a2 * b2);
      t[0] = fma(product, d[0], fma(sum, d[2], d[4]));
      const Vec even_a = fma(Vec(-b2), d[2], d[4]), odd_a = fma(Vec(-b2), d[1], d[3]);
      t[1] = fma(Vec(a), odd_a, even_a);
      t[2] = fma(Vec(-a), odd_a, even_a);
      const Vec even_b = fma(Vec(-a2), d[2], d[4]), odd_b = fma(Vec(-a2), d[1], d[3]);
      t[3] = fma(Vec(b), odd_b, even_b);
      t[4] = fma(Vec(-b), odd_b, even_b);
      t[5] = fma(product, d[1], fma(sum, d[3], d[5]));
    }
  };
  /// y = A^T m
  struct Output {
    WEFT_INLINE void operator()(const Vec (&m)[6], Vec (&y)[4]) const {
      const Vec even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
      y[0] = m[0] + even_a + even_b;
      y[1] = fma(Vec(a), odd_a, Vec(b) * odd_b);
      y[2] = fma(Vec(a2), even_a, Vec(b2) * even_b);
      y[3] = fma(Vec(a3), odd_a, fma(Vec(b3), odd_b, m[5]));
    }
  };
  /// m = A y
  struct OutputGradient {
    WEFT_INLINE void operator()(const Vec (&y)[4], Vec (&m)[6]) const {
      const Vec even_a = fma(Vec(a2), y[2], y[0]), odd_a = fma(Vec(a3), y[3], Vec(a) * y[1]);
      const Vec even_b = fma(Vec(b2), y[2], y[0]), odd_b = fma(Vec(b3), y[3], Vec(b) * y[1]);
      m[0] = y[0];
      m[1] = even_a + odd_a;
      m[2] = even_a - odd_a;
      m[3] = even_b + odd_b;
      m[4] = even_b - odd_b;
      m[5] = y[3];
    }
  };
  /// u = G g
  struct Filter {
    WEFT_INLINE void operator()(const Vec (&g)[3], Vec (&u)[6]) const {
      const Vec even_a = fma(Vec(a2), g[2], g[0]), odd_a = Vec(a) * g[1];
      const Vec even_b = fma(Vec(b2), g[2], g[0]), odd_b = Vec(b) * g[1];
      u[0] = Vec(n0) * g[0];
      u[1] = Vec(na) * (even_a + odd_a);
      u[2] = Vec(na) * (even_a - odd_a);
      u[3] = Vec(nb) * (even_b + odd_b);
      u[4] = Vec(nb) * (even_b - odd_b);
      u[5] = g[2];
    }
  };
  /// g = G^T u
  struct FilterGradient {
    WEFT_INLINE void operator()(const Vec (&u)[6], Vec (&g)[3]) const {
      const Vec even_a = Vec(na) * (u[1] + u[2]), odd_a = Vec(na * a) * (u[1] - u[2]);
      const Vec even_b = Vec(nb) * (u[3] + u[4]), odd_b = Vec(nb * b) * (u[3] - u[4]);
      g[0] = fma(Vec(n0), u[0], even_a + even_b);
      g[1] = odd_a + odd_b;
      g[2] = fma(Vec(a2), even_a, fma(Vec(b2), even_b, u[5]));
    }
  };
};

/// Points 0, a, -a, c, infinity. a = 3/4 and c = 2 have about the least error of the simple ones, that of
/// F(4, 3).
template <>
struct Winograd<3> {
  using InputGradient = Winograd;
  static constexpr int kOut = 3, kIn = 5, kStep = 3, kProducts = kIn, kFilters = kIn;
  static constexpr float a = 0.75f, c = 2, a2 = a * a, c2 = c * c;
  static constexpr float n0 = 1 / (a2 * c), np = 1 / (2 * a2 * (a - c)), nm = -1 / (2 * a2 * (a + c)),
                         nc = 1 / (c * (c2 - a2));

  struct Input {
    WEFT_INLINE void operator()(const Vec (&d)[5], Vec (&t)[5]) const {
      const Vec low = fma(Vec(-a2), d[0], d[2]), high = fma(Vec(-a2), d[1], d[3]);
      const Vec even = fma(Vec(-c), d[2], d[3]), odd = fma(Vec(-c), d[1], d[2]);
      t[0] = fma(Vec(-c), low, high);
      t[1] = fma(Vec(a), odd, even);
      t[2] = fma(Vec(-a), odd, even);
      t[3] = high;
      t[4] = fma(Vec(-c), high, fma(Vec(-a2), d[2], d[4]));
    }
  };
  struct Output {
    WEFT_INLINE void operator()(const Vec (&m)[5], Vec (&y)[3]) const {
      const Vec even = m[1] + m[2], odd = m[1] - m[2];
      y[0] = m[0] + even + m[3];
      y[1] = fma(Vec(a), odd, Vec(c) * m[3]);
      y[2] = fma(Vec(a2), even, fma(Vec(c2), m[3], m[4]));
    }
  };
  struct OutputGradient {
    WEFT_INLINE void operator()(const Vec (&y)[3], Vec (&m)[5]) const {
      const Vec even = fma(Vec(a2), y[2], y[0]), odd = Vec(a) * y[1];
      m[0] = y[0];
      m[1] = even + odd;
      m[2] = even - odd;
      m[3] = fma(Vec(c2), y[2], fma(Vec(c), y[1], y[0]));
      m[4] = y[2];
    }
  };
  struct Filter {
    WEFT_INLINE void operator()(const Vec (&g)[3], Vec (&u)[5]) const {
      const Vec even = fma(Vec(a2), g[2], g[0]), odd = Vec(a) * g[1];
      u[0] = Vec(n0) * g[0];
      u[1] = Vec(np) * (even + odd);
      u[2] = Vec(nm) * (even - odd);
      u[3] = Vec(nc) * fma(Vec(c2), g[2], fma(Vec(c), g[1], g[0]));
      u[4] = g[2];
    }
  };
  struct FilterGradient {
    WEFT_INLINE void operator()(const Vec (&u)[5], Vec (&g)[3]) const {
      const Vec plus = Vec(np) * u[1], minus = Vec(nm) * u[2], third = Vec(nc) * u[3];
      const Vec even = plus + minus, odd = plus - minus;
      g[0] = fma(Vec(n0), u[0], even + third);
      g[1] = fma(Vec(a), odd, Vec(c) * third);
      g[2] = fma(Vec(a2), even, fma(Vec(c2), third, u[4]));
    }
  };
};

/// Points 0, 1, -1, infinity.
template <>
struct Winograd<2> {
  using InputGradient = Winograd;
  static constexpr int kOut = 2, kIn = 4, kStep = 2, kProducts = kIn, kFilters = kIn;

  struct Input {
    WEFT_INLINE void operator()(const Vec (&d)[4], Vec (&t)[4]) const {
      t[0] = d[0] - d[2];
      t[1] = d[1] + d[2];
      t[2] = d[2] - d[1];
      t[3] = d[3] - d[1];
    }
  };
  struct Output {
    WEFT_INLINE void operator()(const Vec (&m)[4], Vec (&y)[2]) const {
      y[0] = m[0] + m[1] + m[2];
      y[1] = m[1] - m[2] + m[3];
    }
  };
  struct OutputGradient {
    WEFT_INLINE void operator()(const Vec (&y)[2], Vec (&m)[4]) const {
      m[0] = y[0];
      m[1] = y[0] + y[1];
      m[2] = y[0] - y[1];
      m[3] = y[1];
    }
  };
  struct Filter {
    WEFT_INLINE void operator()(const Vec (&g)[3], Vec (&u)[4]) const {
      const Vec half(0.5f), even = half * (g[0] + g[2]), odd = half * g[1];
      u[0] = g[0];
      u[1] = even + odd;
      u[2] = even - odd;
      u[3] = g[2];
    }
  };
  struct FilterGradient {
    WEFT_INLINE void operator()(const Vec (&u)[4], Vec (&g)[3]) const {
      const Vec half(0.5f), even = half * (u[1] + u[2]), odd = half * (u[1] - u[2]);
      g[0] = u[0] + even;
      g[1] = odd;
      g[2] = even + u[3];
    }
  };
};

/// The two outputs of an image of two pixels with one of padding, whose inputs 0 and 3 are zero:
///   y0 = g1 (d1 + d2) + (g2 - g1) d2,  y1 = g1 (d1 + d2) + (g0 - g1) d1
struct TwoPixels {
  using InputGradient = TwoPixels;
  static constexpr int kOut = 2, kIn = 4, kStep = 2, kProducts = 3, kFilters = 3;

  struct Input {
    WEFT_INLINE void operator()(const Vec (&d)[4], Vec (&t)[3]) const {
      t[0] = d[1] + d[2];
      t[1] = d[2];
      t[2] = d[1];
    }
  };
  struct Output {
    WEFT_INLINE void operator()(const Vec (&m)[3], Vec (&y)[2]) const {
      y[0] = m[0] + m[1];
      y[1] = m[0] + m[2];
    }
  };
  struct OutputGradient {
    WEFT_INLINE void operator()(const Vec (&y)[2], Vec (&m)[3]) const {
      m[0] = y[0] + y[1];
      m[1] = y[0];
      m[2] = y[1];
    }
  };
  struct Filter {
    WEFT_INLINE void operator()(const Vec (&g)[3], Vec (&u)[3]) const {
      u[0] = g[1];
      u[1] = g[2] - g[1];
      u[2] = g[0] - g[1];
    }
  };
  struct FilterGradient {
    WEFT_INLINE void operator()(const Vec (&u)[3], Vec (&g)[3]) const {
      g[0] = u[2];
      g[1] = u[0] - u[1] - u[2];
      g[2] = u[1];
    }
  };
};

/// F(4, 2), the points as those of F(3, 3).
struct TwoTaps {
  static constexpr float a = Winograd<3>::a, c = Winograd<3>::c, a2 = a * a, c2 = c * c, a3 = a2 * a,
                         c3 = c2 * c;
  static constexpr float n0 = Winograd<3>::n0, np = Winograd<3>::np, nm = Winograd<3>::nm,
                         nc = Winograd<3>::nc;

  static WEFT_INLINE void input(const Vec (&d)[5], Vec* t) {
    Vec five[5];
    Winograd<3>::Input{}(d, five);
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i) t[i] = five[i];
  }
  static WEFT_INLINE void output(const Vec* m, Vec (&y)[4]) {
    const Vec even = m[1] + m[2], odd = m[1] - m[2];
    y[0] = m[0] + even + m[3];
    y[1] = fma(Vec(a), odd, Vec(c) * m[3]);
    y[2] = fma(Vec(a2), even, Vec(c2) * m[3]);
    y[3] = fma(Vec(a3), odd, fma(Vec(c3), m[3], m[4]));
  }
  static WEFT_INLINE void output_gradient(const Vec (&y)[4], Vec* m) {
    const Vec even = fma(Vec(a2), y[2], y[0]), odd = fma(Vec(a3), y[3], Vec(a) * y[1]);
    m[0] = y[0];
    m[1] = even + odd;
    m[2] = even - odd;
    m[3] = fma(Vec(c3), y[3], fma(Vec(c2), y[2], fma(Vec(c), y[1], y[0])));
    m[4] = y[3];
  }
  static WEFT_INLINE void filter(Vec g0, Vec g1, Vec* u) {
    u[0] = Vec(n0) * g0;
    u[1] = Vec(np) * fma(Vec(a), g1, g0);
    u[2] = Vec(nm) * fma(Vec(-a), g1, g0);
    u[3] = Vec(nc) * fma(Vec(c), g1, g0);
    u[4] = g1;
  }
  static WEFT_INLINE void filter_gradient(const Vec* u, Vec& g0, Vec& g1) {
    const Vec plus = Vec(np) * u[1], minus = Vec(nm) * u[2], third = Vec(nc) * u[3];
    g0 = fma(Vec(n0), u[0], plus + minus + third);
    g1 = fma(Vec(a), plus - minus, fma(Vec(c), third, u[4]));
  }
};

/// Stride 2: the five products of TwoTaps on inputs 0, 2, ... and one product for each input between. The
/// input gradient, for a padding of 1.
struct StridedInputGradient {
  static constexpr int kOut = 8, kIn = 5, kStep = 4, kProducts = 9, kFilters = 6;

  struct Input {
    WEFT_INLINE void operator()(const Vec (&d)[5], Vec (&t)[9]) const {
      TwoTaps::input(d, t);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) t[5 + i] = d[i];
    }
  };
  struct Output {
    WEFT_INLINE void operator()(const Vec (&m)[9], Vec (&y)[8]) const {
      Vec two[4];
      TwoTaps::output(m, two);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) y[2 * i] = m[5 + i], y[2 * i + 1] = two[i];
    }
  };
  struct Filter {
    WEFT_INLINE void operator()(const Vec (&g)[3], Vec (&u)[6]) const {
      TwoTaps::filter(g[0], g[2], u);
      u[5] = g[1];
    }
  };
};
struct StridedWinograd {
  using InputGradient = StridedInputGradient;
  static constexpr int kOut = 4, kIn = 9, kStep = 8, kProducts = 9, kFilters = 6;

  struct Input {
    WEFT_INLINE void operator()(const Vec (&d)[9], Vec (&t)[9]) const {
      const Vec even[5] = {d[0], d[2], d[4], d[6], d[8]};
      TwoTaps::input(even, t);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) t[5 + i] = d[2 * i + 1];
    }
  };
  struct Output {
    WEFT_INLINE void operator()(const Vec (&m)[9], Vec (&y)[4]) const {
      TwoTaps::output(m, y);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) y[i] += m[5 + i];
    }
  };
  struct OutputGradient {
    WEFT_INLINE void operator()(const Vec (&y)[4], Vec (&m)[9]) const {
      TwoTaps::output_gradient(y, m);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) m[5 + i] = y[i];
    }
  };
  using Filter = StridedInputGradient::Filter;
  struct FilterGradient {
    WEFT_INLINE void operator()(const Vec (&u)[6], Vec (&g)[3]) const {
      TwoTaps::filter_gradient(u, g[0], g[2]);
      g[1] = u[5];
    }
  };
};

/// A transform of columns and then rows: kFrom x kFrom values to kTo x kTo. load(i, j) gives a value,
/// store(i, j, v) takes one.
template <int kFrom, int kTo, class Load, class Transform, class Store>
WEFT_INLINE void transform_2d(Load load, Transform transform, Store store) {
  Vec rows[kTo][kFrom];
#pragma GCC unroll 9
  for (int j = 0; j < kFrom; ++j) {
    Vec from[kFrom], to[kTo];
#pragma GCC unroll 9
    for (int i = 0; i < kFrom; ++i) from[i] = load(i, j);
    transform(from, to);
#pragma GCC unroll 9
    for (int i = 0; i < kTo; ++i) rows[i][j] = to[i];
  }
#pragma GCC unroll 9
  for (int i = 0; i < kTo; ++i) {
    Vec to[kTo];
    transform(rows[i], to);
#pragma GCC unroll 9
    for (int j = 0; j < kTo; ++j) store(i, j, to[j]);
  }
}

}  // namespace weft::kernels::WEFT_ISA
