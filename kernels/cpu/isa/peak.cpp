#include "weft/kernels/cpu/isa/vec.h"

namespace weft::kernels::WEFT_ISA {

double fma_rounds(int64_t rounds, float* sink);

/// `rounds` times one multiply-add on each of kChains independent vectors, enough to hide the latency;
/// returns the floating-point operations done. The result goes to sink, so that the compiler keeps the loop.
double fma_rounds(int64_t rounds, float* sink) {
#if defined(WEFT_ISA_neon)
  constexpr int kChains = 24;  // up to four units with a latency of four
#else
  constexpr int kChains = 12;
#endif
  Vec acc[kChains];
#pragma GCC unroll 24
  for (int i = 0; i < kChains; ++i) acc[i] = Vec(float(i));
  const Vec factor(sink[0] + 0.5f), term(sink[1] + 1.0f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) acc[i] = fma(acc[i], factor, term);
  }
  for (int i = 0; i < kChains; ++i) acc[i].store(sink);
  Vec sum(0.0f);
  for (int i = 0; i < kChains; ++i) sum += acc[i];
  sum.store(sink);
  return double(rounds) * kChains * kWidth * 2;
}

}  // namespace weft::kernels::WEFT_ISA
