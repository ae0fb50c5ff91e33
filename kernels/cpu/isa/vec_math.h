// Mathematical functions of Vec, under the names that kernels/math.h gives the scalar ones, so that the
// activations work with either. The polynomials are least-maximum-error fits made for these intervals; each
// error stands at its function and is tested. NaN in, NaN out; infinities and denormal numbers come out as
// from the standard functions.
#pragma once

#include "weft/kernels/cpu/isa/vec.h"

namespace weft::kernels::WEFT_ISA {

#if defined(WEFT_ISA_avx512)
// The masked forms with all lanes on make the same instructions; the plain ones make GCC 12 warn of
// uninitialised values.
constexpr __mmask16 kAllLanes = 0xffff;
#endif

/// a > b ? a : b, so the second operand where either is NaN.
WEFT_INLINE Vec max(Vec a, Vec b) {
#if defined(WEFT_ISA_avx512)
  return Vec(FloatLanes(_mm512_maskz_max_ps(kAllLanes, a.v, b.v)));
#elif defined(WEFT_ISA_avx2)
  return Vec(FloatLanes(_mm256_max_ps(a.v, b.v)));
#elif defined(__x86_64__)
  return Vec(FloatLanes(_mm_max_ps(a.v, b.v)));
#else
  return select(a > b, a, b);
#endif
}
/// a < b ? a : b, so the second operand where either is NaN.
WEFT_INLINE Vec min(Vec a, Vec b) {
#if defined(WEFT_ISA_avx512)
  return Vec(FloatLanes(_mm512_maskz_min_ps(kAllLanes, a.v, b.v)));
#elif defined(WEFT_ISA_avx2)
  return Vec(FloatLanes(_mm256_min_ps(a.v, b.v)));
#elif defined(__x86_64__)
  return Vec(FloatLanes(_mm_min_ps(a.v, b.v)));
#else
  return select(a < b, a, b);
#endif
}
WEFT_INLINE Vec sqrt(Vec x) {
#if defined(WEFT_ISA_avx512)
  return Vec(FloatLanes(_mm512_maskz_sqrt_ps(kAllLanes, x.v)));
#elif defined(WEFT_ISA_avx2)
  return Vec(FloatLanes(_mm256_sqrt_ps(x.v)));
#elif defined(__x86_64__)
  return Vec(FloatLanes(_mm_sqrt_ps(x.v)));
#elif defined(WEFT_ISA_neon)
  return Vec(FloatLanes(vsqrtq_f32(x.v)));
#else
  for (int i = 0; i < kWidth; ++i) x.v[i] = __builtin_sqrtf(x.v[i]);
  return x;
#endif
}
/// 1 / x for 1 <= x <= 2^100 within 1 ulp. 512-bit division is slow: there, an estimate good to 14 bits and a
/// Newton step.
WEFT_INLINE Vec reciprocal(Vec x) {
#if defined(WEFT_ISA_avx512)
  const Vec estimate(FloatLanes(_mm512_maskz_rcp14_ps(kAllLanes, x.v)));
  return fma(estimate, fma(-x, estimate, Vec(1.0f)), estimate);
#else
  return Vec(1.0f) / x;
#endif
}
WEFT_INLINE IntLanes bits(Vec x) { return IntLanes(x.v); }
// Whole numbers wrap round, as those made from the bits of a NaN or an infinity may.
typedef uint32_t WordLanes __attribute__((vector_size(4 * kWidth)));
WEFT_INLINE IntLanes add(IntLanes a, IntLanes b) { return IntLanes(WordLanes(a) + WordLanes(b)); }
WEFT_INLINE IntLanes subtract(IntLanes a, IntLanes b) { return IntLanes(WordLanes(a) - WordLanes(b)); }
WEFT_INLINE IntLanes to_exponent(IntLanes n) { return IntLanes(WordLanes(n) << 23); }
WEFT_INLINE Vec from_bits(IntLanes x) { return Vec(FloatLanes(x)); }
WEFT_INLINE IntLanes int_lanes(int32_t x) { return x - IntLanes{}; }
WEFT_INLINE Vec abs(Vec x) { return from_bits(bits(x) & int_lanes(0x7fffffff)); }
/// The magnitude of a (which is not negative) with the sign of b.
WEFT_INLINE Vec with_sign(Vec a, Vec b) {
  return from_bits(bits(a) | (bits(b) & int_lanes(int32_t(0x80000000))));
}

/// c[0] + c[1] x + c[2] x^2 + ...
template <int n>
WEFT_INLINE Vec polynomial(Vec x, const float (&c)[n]) {
  Vec sum(c[n - 1]);
#pragma GCC unroll 16
  for (int i = n - 2; i >= 0; --i) sum = fma(sum, x, Vec(c[i]));
  return sum;
}

/// x = n ln 2 + r with |r| <= ln 2 / 2: n as a float and as integers, and e^r - 1 - r = r^2 P(r).
struct ExpParts {
  Vec n, r, tail;
  IntLanes whole;
};
WEFT_INLINE Vec exp_tail(Vec r) {
  constexpr float kTail[] = {0.5f, 0.16666512f, 0.041666187f, 0.008369599f, 0.001395172f};
  return r * r * polynomial(r, kTail);
}
WEFT_INLINE ExpParts exp_parts(Vec x) {
  // 1.5 * 2^23: adding it rounds to a whole number, which its low bits then hold.
  const Vec magic(12582912.0f);
  const Vec shifted = fma(x, Vec(1.44269504f), magic);
  ExpParts p;
  p.n = shifted - magic;
  p.whole = subtract(bits(shifted), bits(magic));
  p.r = fma(p.n, Vec(-0.693359375f),
            x);  // ln 2 in two parts, the first with few enough bits to be exact times n
  p.r = fma(p.n, Vec(2.12194440e-4f), p.r);
  p.tail = exp_tail(p.r);
  return p;
}
/// 2^n for -126 <= n <= 127.
WEFT_INLINE Vec power_of_two(IntLanes n) { return from_bits(to_exponent(add(n, int_lanes(127)))); }

/// 2^n times the mantissa, for |n| <= 252.
WEFT_INLINE Vec scaled(Vec mantissa, const ExpParts& p) {
#if defined(WEFT_ISA_avx512)
  return Vec(FloatLanes(_mm512_maskz_scalef_ps(kAllLanes, mantissa.v, p.n.v)));
#else
  const IntLanes half = p.whole >> 1;  // in two steps, so that neither leaves the range of the exponent
  return mantissa * power_of_two(half) * power_of_two(subtract(p.whole, half));
#endif
}

/// e^x within 1 ulp.
WEFT_INLINE Vec exp(Vec x) {
  const ExpParts p = exp_parts(min(Vec(89.5f), max(Vec(-105.0f), x)));
  return scaled(Vec(1.0f) + (p.r + p.tail), p);
}

/// e^x for |x| <= 1000 within 1 ulp: where one instruction scales by any power of two, nothing has to be held
/// in range before.
WEFT_INLINE Vec bounded_exp(Vec x) {
#if defined(WEFT_ISA_avx512)
  const ExpParts p = exp_parts(x);
  return scaled(Vec(1.0f) + (p.r + p.tail), p);
#else
  return exp(x);
#endif
}

/// e^x - 1 within 2 ulp.
WEFT_INLINE Vec expm1(Vec x) {
  const Vec c = min(Vec(88.9f), max(Vec(-40.0f), x));
  const ExpParts p = exp_parts(c);
  // 2^n itself would overflow at the upper end.
  const Vec half_scale = power_of_two(subtract(p.whole, int_lanes(1)));
  const Vec half = fma(half_scale, p.r + p.tail, half_scale - Vec(0.5f));
  return half + half;
}

/// e^(-x^2 / 2) for |x| <= 14.4 within 1 ulp. x^2 / 2 is taken exactly: rounded, its last place would be up
/// to 100 units of the result's.
WEFT_INLINE Vec exp_half_square(Vec x) {
  const Vec high = from_bits(bits(x) & int_lanes(int32_t(0xfffff000)));  // its square is exact
  ExpParts p = exp_parts(Vec(-0.5f) * x * x);
  Vec r = fma(p.n, Vec(-0.693359375f), Vec(-0.5f) * high * high);
  r = fma(p.n, Vec(2.12194440e-4f), fma(Vec(-0.5f) * (x - high), x + high, r));
  return scaled(Vec(1.0f) + (r + exp_tail(r)), p);
}

/// ln(1 + f) for sqrt(1/2) - 1 <= f <= sqrt(2) - 1, plus n ln 2.
WEFT_INLINE Vec log_parts(Vec f, Vec n) {
  constexpr float kTail[] = {0.3333333f,  -0.25000826f, 0.20001236f, -0.16623144f,
                             0.14201368f, -0.13162003f, 0.12765427f, -0.07634387f};
  const Vec square = f * f;
  Vec low = square * f * polynomial(f, kTail);
  low = fma(n, Vec(-2.12194440e-4f), low);
  low = fma(Vec(-0.5f), square, low);
  return fma(n, Vec(0.693359375f), f + low);
}

/// x = 2^n (1 + f), f as above, for finite x > 0.
struct LogParts {
  Vec f, n;
};
WEFT_INLINE Vec int_to_float(IntLanes x) {
  return from_bits(add(x, bits(Vec(12582912.0f)))) - Vec(12582912.0f);  // |x| < 2^22
}
WEFT_INLINE LogParts log_split(Vec x) {
  // sqrt(1/2): its bits and above go to the next n.
  const IntLanes offset = subtract(bits(x), int_lanes(0x3f3504f3));
  const IntLanes n = offset >> 23;
  const Vec m = from_bits(subtract(bits(x), to_exponent(n)));
  return {m - Vec(1.0f), int_to_float(n)};
}

/// ln x within 2 ulp; -inf at 0, NaN below.
WEFT_INLINE Vec log(Vec x) {
  const Vec infinity(__builtin_inff());
  const Mask denormal = x < Vec(1.17549435e-38f);
  const LogParts p = log_split(select(denormal, x * Vec(8388608.0f), x));
  Vec y = log_parts(p.f, select(denormal, p.n - Vec(23.0f), p.n));
  y = select(x < infinity, y, x);  // +inf and NaN stay
  y = select(x == Vec(0.0f), -infinity, y);
  return select(x < Vec(0.0f), Vec(__builtin_nanf("")), y);
}

/// ln(1 + x) within 2 ulp; -inf at -1, NaN below.
WEFT_INLINE Vec log1p(Vec x) {
  const Vec infinity(__builtin_inff());
  const Vec u = Vec(1.0f) + x;
  const LogParts p = log_split(u);
  // u is rounded; what it lost, relative to u, is added to the logarithm (after f, of which it is the last
  // digits).
  const Vec lost = select(u > Vec(2.0f), Vec(1.0f) - (u - x), x - (u - Vec(1.0f)));
  Vec y = log_parts(p.f, p.n) + lost * reciprocal(u);
  y = select(x < infinity, y, x);
  y = select(x == Vec(-1.0f), -infinity, y);
  return select(x < Vec(-1.0f), Vec(__builtin_nanf("")), y);
}

/// tanh x within 3 ulp: with m = e^2|x| - 1 it is m / (m + 2).
WEFT_INLINE Vec tanh(Vec x) {
  const Vec a = min(Vec(20.0f), abs(x)), m = expm1(a + a);
  return with_sign(m * reciprocal(m + Vec(2.0f)), x);
}

/// erf x within 2 ulp: x + x P(x^2) near 0, else 1 - e^Q(|x|).
WEFT_INLINE Vec erf(Vec x) {
  constexpr float kNear[] = {0.12837915f,  -0.3761248f,   0.112816826f,
                             -0.02676172f, 0.0049859406f, -0.00059537415f};
  constexpr float kFar[] = {-1.1286522f,    -0.6351359f,    -0.106263146f,  0.023785349f,
                            -0.0036537647f, 0.00032565286f, -1.1522306e-05f};
  const Vec a = min(Vec(4.0f), abs(x));
  const Vec near = fma(x, polynomial(a * a, kNear), x);
  const Vec far = Vec(1.0f) - exp(a * polynomial(a, kFar));
  return select(a < Vec(0.925f), near, with_sign(far, x));
}

/// The normal distribution function (1 + erf(x / sqrt(2))) / 2 within 7 ulp, also where it is small: 1/2 + x
/// P(x^2) near 0, else the tail e^(-x^2 / 2) t Q(t - 1/2) with t = 1 / (1 + 0.3 |x| / sqrt(2)).
WEFT_INLINE Vec normal_cdf(Vec x) {
  constexpr float kNear[] = {0.39894228f,     -0.0664903606f,  0.00997332848f,
                             -0.00118634399f, 0.000113502296f, -7.66053817e-6f};
  constexpr float kTail[] = {0.162489963f, 0.276523616f, 0.397562465f,   0.474868206f,  0.455661903f,
                             0.326655519f, 0.140113006f, -0.0155578454f, -0.0654073453f};
  const Vec a = min(Vec(14.4f), abs(x)), t = reciprocal(fma(Vec(0.21213204f), a, Vec(1.0f)));
  const Vec tail = exp_half_square(a) * (t * polynomial(t - Vec(0.5f), kTail));
  const Vec near = fma(x, polynomial(a * a, kNear), Vec(0.5f));
  return select(a < Vec(1.0f), near, select(x > Vec(0.0f), Vec(1.0f) - tail, tail));
}
/// Its density e^(-x^2 / 2) / sqrt(2 pi) within 3 ulp.
WEFT_INLINE Vec normal_density(Vec x) { return Vec(0.398942280f) * exp_half_square(min(Vec(14.4f), abs(x))); }

/// sin(x + quadrants pi / 2) for whole quadrants, 0 or 1: within 2^-23, or 2 ulp of larger results.
/// Up to 8192 pi / 2 is taken off in three parts, the first two with few enough bits to be exact times their
/// number; lanes beyond are left to the C library.
WEFT_INLINE Vec sine(Vec x, int32_t quadrants) {
  constexpr float kSin[] = {-0.16666655f, 0.008332176f, -0.00019516978f};
  constexpr float kCos[] = {0.041666646f, -0.0013887364f, 2.4438092e-05f}, kFurthest = 8192;
  const Vec magic(12582912.0f), shifted = fma(x, Vec(0.636619772f), magic), n = shifted - magic;
  const IntLanes quadrant = add(bits(shifted), int_lanes(quadrants));  // its two low bits
  Vec r = fma(n, Vec(-1.5703125f), x);
  r = fma(n, Vec(-0.00048398971557617188f), r);
  r = fma(n, Vec(1.6292068e-07f), r);
  const Vec square = r * r;
  const Vec odd = fma(r * square, polynomial(square, kSin), r);
  const Vec even = fma(square * square, polynomial(square, kCos), fma(Vec(-0.5f), square, Vec(1.0f)));
  const Mask swap = {IntLanes((quadrant & int_lanes(1)) != int_lanes(0))};
  const Vec magnitude = select(swap, even, odd);
  const IntLanes sign = IntLanes(WordLanes(quadrant & int_lanes(2)) << 30);
  Vec y = from_bits(bits(magnitude) ^ sign);
  for (int i = 0; i < kWidth; ++i)
    if (__builtin_fabsf(x.v[i]) > kFurthest)
      y.v[i] = quadrants == 0 ? __builtin_sinf(x.v[i]) : __builtin_cosf(x.v[i]);
  return y;
}
WEFT_INLINE Vec sin(Vec x) { return sine(x, 0); }
WEFT_INLINE Vec cos(Vec x) { return sine(x, 1); }

/// Lane l of the result is lane index[l] of v.
WEFT_INLINE Vec permute(Vec v, const int32_t* index) {
#if defined(WEFT_ISA_avx512)
  return Vec(FloatLanes(_mm512_maskz_permutexvar_ps(kAllLanes, _mm512_loadu_si512(index), v.v)));
#elif defined(WEFT_ISA_avx2)
  return Vec(
      FloatLanes(_mm256_permutevar8x32_ps(v.v, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index)))));
#else
  float lanes[kWidth], out[kWidth];
  v.store(lanes);
  for (int l = 0; l < kWidth; ++l) out[l] = lanes[index[l]];
  return Vec::load(out);
#endif
}

/// Lane i + step in lane i, for i < step; the other lanes are of no account.
template <int step>
WEFT_INLINE Vec lanes_from(Vec x) {
#if defined(WEFT_ISA_avx512)
  if constexpr (step == 8) return Vec(FloatLanes(_mm512_maskz_shuffle_f32x4(kAllLanes, x.v, x.v, 0x4e)));
  if constexpr (step == 4) return Vec(FloatLanes(_mm512_maskz_shuffle_f32x4(kAllLanes, x.v, x.v, 0xb1)));
  if constexpr (step == 2) return Vec(FloatLanes(_mm512_maskz_permute_ps(kAllLanes, x.v, 0x4e)));
  if constexpr (step == 1) return Vec(FloatLanes(_mm512_maskz_permute_ps(kAllLanes, x.v, 0xb1)));
#elif defined(WEFT_ISA_avx2)
  if constexpr (step == 4) return Vec(FloatLanes(_mm256_permute2f128_ps(x.v, x.v, 1)));
  if constexpr (step == 2) return Vec(FloatLanes(_mm256_permute_ps(x.v, 0x4e)));
  if constexpr (step == 1) return Vec(FloatLanes(_mm256_permute_ps(x.v, 0xb1)));
#elif defined(__x86_64__)
  if constexpr (step == 2) return Vec(FloatLanes(_mm_shuffle_ps(x.v, x.v, 0x4e)));
  if constexpr (step == 1) return Vec(FloatLanes(_mm_shuffle_ps(x.v, x.v, 0xb1)));
#else
  for (int i = 0; i < step; ++i) x.v[i] = x.v[i + step];
  return x;
#endif
}

/// The lanes combined to one, always in the same order: the halves, then their halves.
template <int step = kWidth / 2, class F>
WEFT_INLINE float fold_lanes(Vec x, F combine) {
  if constexpr (step == 0)
    return x.v[0];
  else
    return fold_lanes<step / 2>(combine(x, lanes_from<step>(x)), combine);
}

/// The sum of the lanes.
WEFT_INLINE float lane_sum(Vec x) {
  return fold_lanes(x, [](Vec a, Vec b) { return a + b; });
}

}  // namespace weft::kernels::WEFT_ISA
