// Updates on the GPU, as the floors above see them: one launch (two where sums are needed) for any number of
// tensors. Everything here can be captured; what changes from step to step is uploaded by upload_each_step().
#pragma once

#include <cstdint>
#include <string_view>

#include "weft/kernels/updates/gradients.h"
#include "weft/kernels/updates/update.h"

namespace weft::kernels::cuda {

/// Elements that one block of threads works on. Small enough that the blocks of a model fill the GPU several
/// times, so that it is not left half idle at the end.
constexpr int64_t kUpdateChunk = 4096;

/// A tensor's place, and the update to run on it: U is the struct of a formula (update.h) for float.
template <class U>
struct alignas(16) UpdateRecord {
  float* p = nullptr;       // null: this tensor is left as it is
  const void* g = nullptr;  // gradient: floats, or 16-bit numbers where `narrow`
  void* copy = nullptr;     // in 16 bits; where given it is written whenever p is
  float* state[updates::kMaxSlots] = {};
  double* scalar = nullptr;
  int64_t n = 0;
  uint32_t arrived = 0;  // blocks that have added their sums
  bool narrow = false;
  U update{};
};
/// No record is larger.
constexpr int64_t kMaxRecordBytes = 256;

/// What a launch works on, all but the first three in the GPU's memory.
struct UpdateLaunch {
  int32_t tensors = 0;
  int32_t chunks = 0;              ///< of all tensors
  bool f16 = false;                ///< whether the 16-bit numbers are f16, and not bf16
  void* records = nullptr;         ///< UpdateRecord<U>[tensors]
  const int32_t* first = nullptr;  ///< [tensors]: the number of chunks of the tensors before this one
  double* partial = nullptr;       ///< [chunks][kMaxSums], only where sums are needed
  const float* skip = nullptr;     ///< where given and not 0, everything is left as it is
};

/// The kernels of one update.
struct UpdateKernels {
  void (*sums)(const UpdateLaunch&);  ///< the first pass, with finish() at its end; null without one
  void (*update)(const UpdateLaunch&);
};
/// By the kName of an update; null where it has no kernels for the GPU.
const UpdateKernels* find_update(std::string_view name);

/// Gradients that are treated alike.
struct GradientRecord {
  float* g = nullptr;
  int64_t n = 0;
};
struct GradientLaunch {
  int32_t tensors = 0, chunks = 0;
  const GradientRecord* records = nullptr;
  const int32_t* first = nullptr;
  double* partial = nullptr;  ///< [chunks]
};
/// The norm of all gradients, and what to multiply them by so that it is at most the one wanted. To be zeroed
/// before each use.
struct ClipResult {
  double norm = 0;
  float factor = 0;
  uint32_t arrived = 0;  // blocks that have added their squares
};
/// Takes the norm, sums in a fixed order: factor = max_norm / (norm + 1e-6).
void gradient_norm(const GradientLaunch& gradients, double max_norm, ClipResult* result);
/// Multiplies by the factor unless that is 1 or more.
void scale_gradients(const GradientLaunch& gradients, const ClipResult* result);
/// Holds every element between -limit and limit.
void clip_gradients(const GradientLaunch& gradients, float limit);
/// Divides by *scale; sets *found to 1 where an element is not finite.
void unscale_gradients(const GradientLaunch& gradients, const float* scale, float* found);
/// rule.after_step().
void update_loss_scale(const updates::LossScaleRule& rule, float* scale, float* found, int64_t* left_out,
                       int64_t* tracker, int64_t* skipped);

}  // namespace weft::kernels::cuda
