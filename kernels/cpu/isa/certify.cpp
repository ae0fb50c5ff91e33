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

/// What exact counts as: infinite where it rounds to that in float.
WEFT_INLINE Doubles as_float_range(Doubles exact) {
  const Doubles overflow(0x1.ffffffp127);
  return select(abs(exact) >= overflow, with_sign(Doubles(__builtin_inf()), exact), exact);
}
/// |found - exact| / ulp(exact); NaN where both are infinite alike or one is NaN.
WEFT_INLINE Doubles error_in_ulp(Doubles exact, Doubles difference, double least) {
  const Doubles size = min(Doubles(0x1p127), max(abs(exact), Doubles(least)));
  // 2^(23 - exponent of size), by subtracting the exponent from twice the bias.
  const LongLanes exponent = bits(size) & long_lanes(0x7ff0000000000000);
  return difference * from_bits(subtract(long_lanes((int64_t{2046} + 23) << 52), exponent));
}

Deviation compare(int64_t n, const double* exact, const float* found, double least) {
  const Doubles infinity(__builtin_inf());
  Doubles ulp(0.0), absolute(0.0);
  LongLanes mismatch = long_lanes(0);
  for (int64_t i = 0; i < n; i += kDoubles) {
    const Doubles e = as_float_range(Doubles::load(exact + i)), f = Doubles::load(found + i);
    const Doubles difference = abs(f - e);
    ulp = max(error_in_ulp(e, difference, least), ulp);  // a NaN is passed over
    absolute = max(select(difference < infinity, difference, Doubles(0.0)), absolute);
    mismatch |= LongLanes(e.v == e.v) ^ LongLanes(f.v == f.v);
  }
  Deviation d;
  d.ulp = largest(ulp);
  d.absolute = largest(absolute);
  bool any = false;
  for (int i = 0; i < kDoubles; ++i) any = any || mismatch[i] != 0;
  for (int64_t i = 0; i < n && (d.at < 0 || (any && d.nan_at < 0)); i += kDoubles) {
    const Doubles e = as_float_range(Doubles::load(exact + i)), f = Doubles::load(found + i);
    const Doubles error = error_in_ulp(e, abs(f - e), least);
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
