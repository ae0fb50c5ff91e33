// How exact the activations are: their kernels on all floats against double.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "weft/kernels/kernels.h"

namespace weft::app {

/// A stretch of the line around a zero of a function, other than 0: there, no sum of rounded terms can keep
/// its relative accuracy, and errors are counted in ulp of `least`, what the function has at the nearer end.
struct Crossing {
  double low, high, least;
};
/// Those of the value or slope of an activation as it is before training (kernels/initial_activation.h)
/// between -128 and 128: an eighth of |x0| to each side of a zero x0. Of a function with more than 8 zeros
/// (sine_relu) one stretch without a lower end, `least` being its largest size between -128 and the last
/// zero.
std::vector<Crossing> find_crossings(Activation act, bool of_slope);

/// The worst of one function on one instruction set.
struct Worst {
  double ulp = 0;          ///< see kernels/certify.h; infinite where an infinity is missing or false
  float at = 0;            ///< where
  double exact = 0;        ///< there
  float found = 0;         ///< there
  double near_zero = 0;    ///< largest absolute error in the crossings
  int64_t nan_blocks = 0;  ///< blocks of floats with a NaN that is missing or false
  float nan_at = 0;        ///< the first of them
};
struct Certificate {
  Activation act;
  const kernels::KernelTable<float>* table;
  Worst value, slope;
};

/// Compares value and slope of an activation, as it is before training (kernels/initial_activation.h), on
/// these tables with double: at every stride-th of the 2^32 floats, in the order of their bits, and at
/// infinities, zeros and the ends of the range. `progress` (done, of) is called now and then; the result is
/// empty where it answers false.
std::vector<Certificate> certify(Activation act,
                                 const std::vector<const kernels::KernelTable<float>*>& tables,
                                 uint64_t stride,
                                 const std::function<bool(int64_t done, int64_t of)>& progress);

}  // namespace weft::app
