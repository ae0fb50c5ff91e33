// One SIMD vector of doubles with the functions of kernels/math.h, for checking what Vec computes: the
// structs of the activations on it are the yardstick of all floats. Errors are a few units in the last place
// of a double, a float's being 2^29 of them. NaN in, NaN out.
#pragma once

#include "weft/kernels/cpu/isa/vec.h"

namespace weft::kernels::WEFT_ISA {

constexpr int kDoubles = kWidth / 2;

typedef double DoubleLanes __attribute__((vector_size(8 * kDoubles)));
typedef int64_t LongLanes __attribute__((vector_size(8 * kDoubles)));
typedef uint64_t WordPairLanes __attribute__((vector_size(8 * kDoubles)));
typedef double UnalignedDoubleLanes __attribute__((vector_size(8 * kDoubles), aligned(8), may_alias));
typedef float HalfLanes __attribute__((vector_size(4 * kDoubles), aligned(4), may_alias));

struct DoubleMask {
  LongLanes v;
};

struct Doubles {
  DoubleLanes v;

  Doubles() = default;
  WEFT_INLINE Doubles(DoubleLanes lanes) : v(lanes) {}
  WEFT_INLINE Doubles(double s) : v(s - DoubleLanes{}) {}

  static WEFT_INLINE Doubles load(const double* p) {
    return Doubles(DoubleLanes(*reinterpret_cast<const UnalignedDoubleLanes*>(p)));
  }
  static WEFT_INLINE Doubles load(const float* p) {
    return Doubles(__builtin_convertvector(*reinterpret_cast<const HalfLanes*>(p), DoubleLanes));
  }
  WEFT_INLINE void store(double* p) const { *reinterpret_cast<UnalignedDoubleLanes*>(p) = v; }
};

WEFT_INLINE Doubles operator+(Doubles a, Doubles b) { return Doubles(a.v + b.v); }
WEFT_INLINE Doubles operator-(Doubles a, Doubles b) { return Doubles(a.v - b.v); }
WEFT_INLINE Doubles operator*(Doubles a, Doubles b) { return Doubles(a.v * b.v); }
WEFT_INLINE Doubles operator/(Doubles a, Doubles b) { return Doubles(a.v / b.v); }
WEFT_INLINE DoubleMask operator<(Doubles a, Doubles b) { return {LongLanes(a.v < b.v)}; }
WEFT_INLINE DoubleMask operator>(Doubles a, Doubles b) { return {LongLanes(a.v > b.v)}; }
WEFT_INLINE DoubleMask operator<=(Doubles a, Doubles b) { return {LongLanes(a.v <= b.v)}; }
WEFT_INLINE DoubleMask operator>=(Doubles a, Doubles b) { return {LongLanes(a.v >= b.v)}; }
WEFT_INLINE DoubleMask operator==(Doubles a, Doubles b) { return {LongLanes(a.v == b.v)}; }
WEFT_INLINE DoubleMask operator&(DoubleMask a, DoubleMask b) { return {a.v & b.v}; }
WEFT_INLINE DoubleMask operator|(DoubleMask a, DoubleMask b) { return {a.v | b.v}; }
WEFT_INLINE Doubles select(DoubleMask m, Doubles a, Doubles b) { return Doubles(m.v ? a.v : b.v); }

/// a > b ? a : b, so the second operand where either is NaN.
WEFT_INLINE Doubles max(Doubles a, Doubles b) { return select(a > b, a, b); }
WEFT_INLINE Doubles min(Doubles a, Doubles b) { return select(a < b, a, b); }

WEFT_INLINE LongLanes bits(Doubles x) { return LongLanes(x.v); }
WEFT_INLINE Doubles from_bits(LongLanes x) { return Doubles(DoubleLanes(x)); }
WEFT_INLINE LongLanes long_lanes(int64_t x) { return x - LongLanes{}; }
WEFT_INLINE LongLanes add(LongLanes a, LongLanes b) { return LongLanes(WordPairLanes(a) + WordPairLanes(b)); }
WEFT_INLINE LongLanes subtract(LongLanes a, LongLanes b) {
  return LongLanes(WordPairLanes(a) - WordPairLanes(b));
}
WEFT_INLINE Doubles abs(Doubles x) { return from_bits(bits(x) & long_lanes(INT64_MAX)); }
/// The magnitude of a (which is not negative) with the sign of b.
WEFT_INLINE Doubles with_sign(Doubles a, Doubles b) {
  return from_bits(bits(a) | (bits(b) & long_lanes(INT64_MIN)));
}
WEFT_INLINE Doubles reciprocal(Doubles x) { return Doubles(1.0) / x; }

/// The function f of the C library on each lane.
template <class F>
WEFT_INLINE Doubles each_lane(Doubles x, F f) {
  for (int i = 0; i < kDoubles; ++i) x.v[i] = f(x.v[i]);
  return x;
}
WEFT_INLINE Doubles sqrt(Doubles x) {
  return each_lane(x, [](double v) { return __builtin_sqrt(v); });
}
WEFT_INLINE Doubles sin(Doubles x) {
  return each_lane(x, [](double v) { return __builtin_sin(v); });
}
WEFT_INLINE Doubles cos(Doubles x) {
  return each_lane(x, [](double v) { return __builtin_cos(v); });
}
WEFT_INLINE Doubles erf(Doubles x) {
  return each_lane(x, [](double v) { return __builtin_erf(v); });
}
WEFT_INLINE Doubles normal_cdf(Doubles x) {
  return Doubles(0.5) * each_lane(x, [](double v) { return __builtin_erfc(-0.7071067811865476 * v); });
}

template <int n>
WEFT_INLINE Doubles polynomial(Doubles x, const double (&c)[n]) {
  Doubles sum(c[n - 1]);
#pragma GCC unroll 16
  for (int i = n - 2; i >= 0; --i) sum = sum * x + Doubles(c[i]);
  return sum;
}

/// x = n ln 2 + r with |r| <= ln 2 / 2, and e^r - 1 = r + tail.
struct DoubleExpParts {
  LongLanes n;
  Doubles r, tail;
};
WEFT_INLINE DoubleExpParts exp_parts(Doubles x) {
  constexpr double kTail[] = {0.500000000000000102,   0.166666666666666675,   0.0416666666666240377,
                              0.0083333333333300549,  0.00138888889172587583, 0.000198412698630882544,
                              2.48015212259864325e-5, 2.7557268406190795e-6,  2.76201217173819352e-7,
                              2.51004110820149011e-8};
  const Doubles magic(6755399441055744.0);  // 1.5 * 2^52
  const Doubles shifted = x * Doubles(1.4426950408889634) + magic, n = shifted - magic;
  DoubleExpParts p;
  p.n = subtract(bits(shifted), bits(magic));
  // ln 2 in two parts, the first with few enough bits to be exact times n
  p.r = x - n * Doubles(0.69314718036912382) - n * Doubles(1.9082149292705877e-10);
  p.tail = p.r * p.r * polynomial(p.r, kTail);
  return p;
}
WEFT_INLINE Doubles power_of_two(LongLanes n) {
  return from_bits(LongLanes(WordPairLanes(add(n, long_lanes(1023))) << 52));
}

WEFT_INLINE Doubles exp(Doubles x) {
  const DoubleExpParts p = exp_parts(min(Doubles(710.0), max(Doubles(-746.0), x)));
  const LongLanes half = p.n >> 1;  // in two steps, so that neither leaves the range of the exponent
  return (Doubles(1.0) + (p.r + p.tail)) * power_of_two(half) * power_of_two(subtract(p.n, half));
}
WEFT_INLINE Doubles bounded_exp(Doubles x) { return exp(x); }
WEFT_INLINE Doubles normal_density(Doubles x) {
  return Doubles(0.3989422804014327) * exp(Doubles(-0.5) * x * x);
}
WEFT_INLINE Doubles expm1(Doubles x) {
  const DoubleExpParts p = exp_parts(min(Doubles(709.9), max(Doubles(-80.0), x)));
  const Doubles half_scale = power_of_two(subtract(p.n, long_lanes(1)));
  const Doubles half = half_scale * (p.r + p.tail) + (half_scale - Doubles(0.5));
  return half + half;
}

/// For x >= 0: with u = 1 + x = 2^n (1 + f), s = f / (2 + f), ln(1 + f) = f - s (f - s^2 P(s^2)).
WEFT_INLINE Doubles log1p(Doubles x) {
  constexpr double kP[] = {0.666666666666666969, 0.399999999998995045, 0.285714286259754849,
                           0.222222111347950799, 0.181828891252617221, 0.153317216005560413,
                           0.146164496850434059};
  const Doubles u = Doubles(1.0) + x;
  const LongLanes offset = subtract(bits(u), long_lanes(0x3fe6a09e667f3bcd));  // sqrt(1/2)
  const LongLanes n = offset >> 52;
  const Doubles f = from_bits(subtract(bits(u), LongLanes(WordPairLanes(n) << 52))) - Doubles(1.0);
  const Doubles whole = from_bits(add(n, bits(Doubles(6755399441055744.0)))) - Doubles(6755399441055744.0);
  const Doubles s = f / (Doubles(2.0) + f), square = s * s;
  const Doubles lost = select(x > Doubles(1.0), Doubles(1.0) - (u - x), x - (u - Doubles(1.0)));
  const Doubles low =
      lost / u + whole * Doubles(1.9082149292705877e-10) - s * (f - square * polynomial(square, kP));
  const Doubles y = whole * Doubles(0.69314718036912382) + (f + low);
  return select(x < Doubles(__builtin_inf()), y, x);
}

WEFT_INLINE Doubles tanh(Doubles x) {
  const Doubles a = min(Doubles(40.0), abs(x)), m = expm1(a + a);
  return with_sign(m / (m + Doubles(2.0)), x);
}

}  // namespace weft::kernels::WEFT_ISA
