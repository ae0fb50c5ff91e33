#include "weft/kernels/cpu/isa/epilogue.h"

#include "weft/kernels/cpu/isa/batch_norm.h"

namespace weft::kernels::WEFT_ISA {

EpiloguePieces::EpiloguePieces(const Epilogue& e, int64_t parts, int64_t rows, int64_t channels, float* y)
    : epilogue_(e),
      in_pieces_(parts > 0),
      rows_(rows),
      channels_(channels),
      y_(y),
      stats_(e.stats.mean ? parts : 0, channels) {
  if (!e.norm) return;
  norm_ = *e.norm;
  norm_.x = y;
}

void EpiloguePieces::add(int64_t part, int64_t row, int64_t rows, int64_t channel, int64_t columns) {
  if (!in_pieces_) return;
  if (epilogue_.stats.mean)
    stats_.add(part, y_ + row * channels_ + channel, rows, channels_, channel, columns);
  if (epilogue_.norm) batch_norm_piece(norm_, y_, row, row + rows, channel, columns);
}

void EpiloguePieces::finish() {
  const ChannelStats& to = epilogue_.stats;
  if (in_pieces_ && to.mean) return stats_.combine(to.mean, to.var);
  if (in_pieces_) return;
  if (to.mean) batch_norm_stats(rows_, channels_, y_, to.mean, to.var);
  if (epilogue_.norm) batch_norm_forward(norm_, y_);
}

}  // namespace weft::kernels::WEFT_ISA
