#include "weft/kernels/certify.h"

#include "weft/kernels/activation_in_hand.h"
#include "weft/kernels/cpu/isa/activations.h"
#include "weft/kernels/cpu/isa/doubles.h"
#include "weft/kernels/cpu/isa/kernels.h"

namespace weft::kernels::WEFT_ISA {

const Certifier& certifier();

namespace {

template <class A, class P>
void evaluate_all(const P& p, int64_t n, const float* x, double* value, double* slope) {
  for (int64_t i = 0; i < n; i += kDoubles) {
    const Doubles at = Doubles::load(x + i);
    A::forward(at, p).store(value + i);
    A::derivative(at, p).store(slope + i);
  }
}

void evaluate(Activation act, const float* parameters, int64_t n, const float* x, double* value,
              double* slope) {
  with_activation(act,
                  [=]<class A>(A) { evaluate_all<A>(Doubles(double(parameters[0])), n, x, value, slope); });
  with_learned_activation(act, [=]<class A>(A) {
    Doubles p[kLearnedCount<A>];
    for (int k = 0; k < kLearnedCount<A>; ++k) p[k] = Doubles(double(parameters[k]));
    evaluate_all<A>(p, n, x, value, slope);
  });
}

/// The largest lane.
double largest(Doubles x) {
  double most = x.v[0];
  for (int i = 1; i < kDoubles; ++i) most = x.v[i] > most ? x.v[i] : most;
  return most;
}

constexpr double kInfiniteFloat = 0x1p128;  // what infinity counts as: the float that would come next

/// x with infinity as it counts, and so with what is beyond.
WEFT_INLINE Doubles counted(Doubles x) {
  return select(abs(x) > Doubles(kInfiniteFloat), with_sign(Doubles(kInfiniteFloat), x), x);
}
/// |found - exact| / ulp(exact), of counted ones; NaN where one is NaN. Infinite for an infinity that is
/// missing or false, unless that is a matter of rounding.
WEFT_INLINE Doubles error_in_ulp(Doubles exact, Doubles found, double least) {
  constexpr double kOverflow = 0x1.ffffffp127, kRounding = 16;
  const Doubles size = min(Doubles(0x1p127), max(abs(exact), Doubles(least)));
  // 2^(23 - exponent of size), by subtracting the exponent from twice the bias.
  const LongLanes exponent = bits(size) & long_lanes(0x7ff0000000000000);
  const Doubles scale = from_bits(subtract(long_lanes((int64_t{2046} + 23) << 52), exponent));
  const Doubles error = abs(found - exact) * scale;
  const DoubleMask infinite = (abs(exact) >= Doubles(kOverflow)) | (abs(found) >= Doubles(kInfiniteFloat));
  return select(infinite & (error > Doubles(kRounding)), Doubles(__builtin_inf()), error);
}

Deviation compare(int64_t n, const double* exact, const float* found, double least) {
  Doubles ulp(0.0), absolute(0.0);
  LongLanes mismatch = long_lanes(0);
  for (int64_t i = 0; i < n; i += kDoubles) {
    const Doubles e = counted(Doubles::load(exact + i)), f = counted(Doubles::load(found + i));
    ulp = max(error_in_ulp(e, f, least), ulp);  // a NaN is passed over
    absolute = max(select(abs(f) < Doubles(kInfiniteFloat), abs(f - e), Doubles(0.0)), absolute);
    mismatch |= LongLanes(e.v == e.v) ^ LongLanes(f.v == f.v);
  }
  Deviation d;
  d.ulp = largest(ulp);
  d.absolute = largest(absolute);
  bool any = false;
  for (int i = 0; i < kDoubles; ++i) any = any || mismatch[i] != 0;
  for (int64_t i = 0; i < n && (d.at < 0 || (any && d.nan_at < 0)); i += kDoubles) {
    const Doubles e = counted(Doubles::load(exact + i)), f = counted(Doubles::load(found + i));
    const Doubles error = error_in_ulp(e, f, least);
    for (int lane = 0; lane < kDoubles; ++lane) {
      if (d.at < 0 && error.v[lane] == d.ulp) d.at = i + lane;
      if (d.nan_at < 0 && (e.v[lane] == e.v[lane]) != (f.v[lane] == f.v[lane])) d.nan_at = i + lane;
    }
  }
  return d;
}

constexpr Certifier kCertifier = {WEFT_TEXT(WEFT_ISA), evaluate, compare};

}  // namespace

const Certifier& certifier() { return kCertifier; }

}  // namespace weft::kernels::WEFT_ISA
