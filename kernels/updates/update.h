// What an optimizer's update is made of: a struct per formula, written once for the CPU and the GPU, for
// float and double. It holds the scalars of one tensor's step and changes one element at a time:
//
//   template <class T>
//   struct NAME {
//     static constexpr const char* kName = "NAME";
//     static constexpr int kSlots = 2;  // state tensors, at most kMaxSlots
//     T rate, ...;
//     // parameter, gradient, one argument for each slot
//     WEFT_HD void operator()(T& p, T g, T& m, T& v) const;
//   };
//
// State tensors come before the scalar slot, if there is one. An update that reads no gradient says `static
// constexpr bool kGradient = false` and is given 0. Where the scalars depend on norms of the whole tensor, a
// first pass takes sums of squares:
//
//     static constexpr int kSums = 2;  // at most kMaxSums
//     // optional: changes the state, which operator() then leaves alone
//     WEFT_HD void advance(T g, T& m, T& v) const;
//     // what is squared and summed
//     WEFT_HD void terms(T p, T g, T m, T v, T* terms) const;
//     // sets the scalars that depend on the sums; `scalar`: the tensor's f64 scalar slot, if there is one
//     WEFT_HD void finish(const double* squares, double* scalar);
//     // optional: where false, finish() is not called
//     WEFT_HD bool needs_sums() const;
//     // optional: called in the place of all others where the GPU leaves a step out (GradScaler)
//     WEFT_HD void skipped(double* scalar) const;
#pragma once

#include <cstddef>
#include <utility>

#include "weft/kernels/host_device.h"
#include "weft/kernels/math.h"

namespace weft::kernels::updates {

constexpr int kMaxSlots = 4, kMaxSums = 2;

template <class U>
constexpr int sums_of() {
  if constexpr (requires { U::kSums; })
    return U::kSums;
  else
    return 0;
}
template <class U>
constexpr bool reads_gradient() {
  if constexpr (requires { U::kGradient; })
    return U::kGradient;
  else
    return true;
}
/// Whether the state is changed by the first pass, and not by the second.
template <class U>
constexpr bool advances_first() {
  return requires { &U::advance; };
}
/// Whether operator() changes the state.
template <class U>
constexpr bool writes_state() {
  return U::kSlots > 0 && !advances_first<U>();
}
template <class U>
WEFT_HD bool needs_sums(const U& u) {
  if constexpr (requires { u.needs_sums(); })
    return u.needs_sums();
  else
    return true;
}

/// Calls body(state[0], ..., state[U::kSlots - 1]).
template <class U, class Array, class Body, size_t... S>
WEFT_HD void with_slots(Array& state, const Body& body, std::index_sequence<S...>) {
  body(state[S]...);
}
template <class U, class Array, class Body>
WEFT_HD void with_slots(Array& state, const Body& body) {
  with_slots<U>(state, body, std::make_index_sequence<size_t(U::kSlots)>());
}
/// One element of the first pass.
template <class U, class T, class... S>
WEFT_HD void first_pass(const U& update, T p, T g, T* terms, S&... state) {
  if constexpr (advances_first<U>()) update.advance(g, state...);
  update.terms(p, g, state..., terms);
}

}  // namespace weft::kernels::updates
