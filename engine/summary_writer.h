// SummaryWriter: what training does, for TensorBoard.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "weft/engine/tensor.h"

namespace weft {

/// Writes TensorBoard's event file (`tensorboard --logdir FOLDER` draws it), as
/// torch.utils.tensorboard.SummaryWriter does:
///
///   SummaryWriter writer("runs/one");
///   writer.add_scalar("loss/train", loss.item(), step);
///
/// Each call writes one whole record to FOLDER/events.out.tfevents.weft, which is appended to where it is
/// there; a record at its end that a killed process left unfinished is cut off first. The calls throw Error
/// naming the file where it cannot be written, and leave it whole. Not for several threads at once.
class SummaryWriter {
 public:
  static constexpr const char* kFileName = "events.out.tfevents.weft";

  /// Makes the folder, and those above it. With `purge_step` TensorBoard shows no more of what was written
  /// before from that step on: for training that goes on from an earlier step. Throws Error where the folder
  /// or the file cannot be made, or the file there is none of events.
  explicit SummaryWriter(const std::string& folder, std::optional<int64_t> purge_step = {});
  ~SummaryWriter();
  SummaryWriter(const SummaryWriter&) = delete;
  SummaryWriter& operator=(const SummaryWriter&) = delete;

  /// One number, drawn as a curve over the steps; TensorBoard keeps it as a float. Tags with a common part
  /// before a '/' are shown together.
  void add_scalar(std::string_view tag, double value, int64_t step);
  /// How the elements of a floating tensor are distributed: counts in buckets whose limits grow by a tenth
  /// from 1e-12 to 1e20, on both sides of 0. Elements that are not finite are left out. Throws Error where
  /// none is left. Waits for a GPU.
  void add_histogram(std::string_view tag, const Tensor& values, int64_t step);
  /// A text in Markdown.
  void add_text(std::string_view tag, std::string_view text, int64_t step);

  const std::string& path() const { return path_; }

 private:
  void append(std::string_view event);

  std::string path_;
  int file_ = -1;
};

}  // namespace weft
