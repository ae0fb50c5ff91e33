// What the files of the direct weight gradient share: the plan of blocks and parts, and the tiles over one
// block.
#pragma once

#include "weft/kernels/cpu/isa/conv2d.h"
#include "weft/kernels/cpu/isa/panels.h"

namespace weft::kernels::WEFT_ISA {

// Sums of one task, which stay in the L2 cache, and its least output and input channels. One tap has few
// sums, so that all else of the task stays there too.
constexpr int64_t kBlockFloats = 40 << 10, kOneTapFloats = 16 << 10, kBlock = 64;
// Pixels between two visits to the sums, for several taps and for one.
constexpr int64_t kPixels = 64, kOneTapPixels = 128;
constexpr int64_t kMaxSegments = 64;
// Image parts are summed apart (always the same parts, whatever the number of threads) until there are this
// many tasks.
constexpr int64_t kEnoughTasks = 32, kLeastPixels = 512, kMaxPartialFloats = int64_t{8} << 20;

struct WeightPlan {
  Conv2dParams p;
  int64_t out_h, out_w, in_c, out_c, taps;  // channels of one group
  bool gather, pairs;                       // pairs: of bf16, along the pixels
  int64_t row_c;  // sums of an output channel: taps * in_c, to whole vectors if gathered
  int64_t rows;   // output rows of all images
  int64_t block;  // rows between two visits
  int64_t parts;  // parts of `rows` summed apart
  int64_t oc_block = kBlock, ic_block = kBlock, oc_blocks, ic_blocks;

  explicit WeightPlan(const Conv2dParams& params) : p(params) {
    out_h = WEFT_ISA::out_h(p);
    out_w = WEFT_ISA::out_w(p);
    in_c = p.in_c / p.groups;
    out_c = p.out_c / p.groups;
    taps = p.kernel_h * p.kernel_w;
    gather = in_c % kWidth != 0;
    pairs = pairs_suit(p, ConvPass::backward_weight);
    row_c = gather ? round_up(taps * in_c, kWidth) : taps * in_c;
    rows = p.batch * out_h;
    block =
        smaller(kMaxSegments, larger(1, (taps > 1 && !gather ? kPixels : kOneTapPixels) / larger(1, out_w)));
    if (gather) {
      ic_block = row_c;
    } else {
      // The larger the block, the fewer times x and dy are read.
      const int64_t limit = taps > 1 ? kBlockFloats : kOneTapFloats;
      while (oc_block < out_c && 2 * oc_block * ic_block * taps <= limit) {
        oc_block *= 2;
        if (ic_block < in_c && 2 * oc_block * ic_block * taps <= limit) ic_block *= 2;
      }
      while (ic_block < in_c && 2 * oc_block * ic_block * taps <= limit) ic_block *= 2;
    }
    oc_blocks = ceil_div(out_c, oc_block);
    ic_blocks = gather ? 1 : ceil_div(in_c, ic_block);
    const int64_t tasks = p.groups * oc_blocks * ic_blocks;
    parts = smaller(smaller(ceil_div(kEnoughTasks, tasks), rows * out_w / kLeastPixels), rows);
    parts = larger(1, smaller(parts, kMaxPartialFloats / larger(1, sums())));
  }
  int64_t sums() const { return p.out_c * row_c; }
  bool needs_partials() const { return parts > 1 || gather; }
};

/// The parts of x and dy that the next visit to the sums will read. The tiles of this one ask for them piece
/// by piece: column after column of kAheadFloats, each over all pixels.
class Ahead {
 public:
  Ahead() = default;
  void set_x(const float* base, int64_t pitch, int64_t pixels, int64_t columns) {
    parts_[1] = {base, pitch, pixels, columns};
  }
  void set_dy(const float* base, int64_t pitch, int64_t pixels, int64_t columns) {
    parts_[0] = {base, pitch, pixels, columns};
  }
  /// Gives a tile the next `pieces` to ask for, or none.
  void next(int64_t pieces, OuterTile& t) {
    t.ahead = nullptr;
    while (part_ >= 0 && (parts_[part_].pixels <= 0 || column_ >= parts_[part_].columns))
      --part_, column_ = 0;
    if (part_ < 0) return;
    const Part& part = parts_[part_];
    t.ahead = part.base + pixel_ * part.pitch + column_;
    t.ahead_step = part.pitch;
    pixel_ += pieces;
    if (pixel_ >= part.pixels) pixel_ = 0, column_ += kAheadFloats;
  }

 private:
  struct Part {
    const float* base = nullptr;
    int64_t pitch = 0, pixels = 0, columns = 0;
  };
  Part parts_[2];
  int part_ = 1;
  int64_t pixel_ = 0, column_ = 0;
};

/// dst[0..rows)[0..columns) (+)= the outer products of the segments, in register tiles.
void outer_products(OuterTile t, int64_t rows, int64_t columns, float* dst, Ahead& ahead, bool pairs = false);

/// Sums of one part, group and block of output channels where the plan gathers; conv2d_weight_gather.cpp.
void sum_gathered(const WeightPlan& plan, const float* x, const float* dy, int64_t first, int64_t last,
                  int64_t group, int64_t oc, float* sums);

}  // namespace weft::kernels::WEFT_ISA
