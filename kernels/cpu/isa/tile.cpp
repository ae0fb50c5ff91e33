#include "weft/kernels/cpu/isa/pairs.h"
#include "weft/kernels/cpu/isa/tile_loops.h"

namespace weft::kernels::WEFT_ISA {
namespace {

struct Floats {
  static WEFT_INLINE Vec broadcast(const float* p) { return Vec(*p); }
  static WEFT_INLINE Vec add(Vec x, Vec column, Vec sum) { return fma(x, column, sum); }
};

}  // namespace

TileFunction tile_function(int rows, int vecs, bool pairs) {
  if constexpr (kPairs)
    if (pairs) return pair_tile_function(rows, vecs);
  return find_tile<Floats>(rows, vecs);
}

OuterFunction outer_function(int rows, int vecs, bool pairs) {
  if constexpr (kPairs)
    if (pairs) return pair_outer_function(rows, vecs);
  return find_outer<Floats>(rows, vecs);
}

}  // namespace weft::kernels::WEFT_ISA
