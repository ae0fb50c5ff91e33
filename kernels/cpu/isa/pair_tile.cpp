// Compiled for AVX-512 BF16 where the instruction set is AVX-512.
#include "weft/kernels/cpu/isa/pairs.h"

#if defined(WEFT_ISA_avx512)

#include "weft/kernels/cpu/isa/tile_loops.h"

namespace weft::kernels::WEFT_ISA {
namespace {

struct Pairs {
  static WEFT_INLINE Vec broadcast(const float* p) {
    int32_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return Vec(FloatLanes(_mm512_castsi512_ps(_mm512_set1_epi32(bits))));
  }
  static WEFT_INLINE Vec add(Vec x, Vec column, Vec sum) {
    return Vec(FloatLanes(_mm512_dpbf16_ps(__m512(sum.v), __m512bh(x.v), __m512bh(column.v))));
  }
};

}  // namespace

TileFunction pair_tile_function(int rows, int vecs) { return find_tile<Pairs>(rows, vecs); }
OuterFunction pair_outer_function(int rows, int vecs) { return find_outer<Pairs>(rows, vecs); }

}  // namespace weft::kernels::WEFT_ISA

#endif
