// The yardstick for the activations in float: value and slope of every activation in double at any floats, by
// SIMD, and how far results in float are from it. An error is counted in ulp: units in the last place of a
// float.
#pragma once

#include <cstdint>

#include "weft/kernels/activation.h"

namespace weft::kernels {

/// The ulp of y is the distance between floats in y's binade, 2^(floor(log2 |y|) - 23). Below kSmallest it is
/// that of kSmallest: there, what an intermediate result loses below the smallest normal float (up to half of
/// 2^-149, times |x| <= 110) counts as less than a tenth.
constexpr double kSmallest = 0x1p-116;

/// What comparing one array has found.
struct Deviation {
  double ulp = 0;       ///< the largest error; infinite where one of both is, and not for its rounding
  double absolute = 0;  ///< the largest one between finite numbers
  int64_t at = -1;      ///< where the error is `ulp`
  int64_t nan_at = -1;  ///< the first place where one of both is NaN and the other is not
};

/// One set of functions per instruction set.
struct Certifier {
  const char* name;
  /// value[i] = activation(x[i]), slope[i] = activation'(x[i]), in double, with the parameters that the
  /// kernels in float get: one for a fixed activation, as many as it has for a learned one. n is a multiple
  /// of 16. Within 1e-12 of reference<double>, relative to the result, where that does not cross zero: less
  /// than 1e-5 ulp.
  void (*evaluate)(Activation act, const float* parameters, int64_t n, const float* x, double* value,
                   double* slope);
  /// Compares n (a multiple of 16) results with exact ones; infinity counts as 2^128, the float that would
  /// come next, and so does what is beyond. The ulp is that of `least` where an exact result is smaller,
  /// least >= kSmallest.
  Deviation (*compare)(int64_t n, const double* exact, const float* found, double least);
};

/// The certifier in the best instruction set of this machine.
const Certifier& certifier();
/// The number-th one that this machine can run, best first, or null (for tests).
const Certifier* certifier(int number);

}  // namespace weft::kernels
