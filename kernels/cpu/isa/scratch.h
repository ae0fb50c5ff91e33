#pragma once

#include "weft/kernels/cpu/scratch.h"

namespace weft::kernels::WEFT_ISA {

/// 64-byte aligned floats for the time of a call.
class Scratch {
 public:
  explicit Scratch(int64_t count) : data_(count > 0 ? allocate_scratch(count) : nullptr) {}
  ~Scratch() {
    if (data_) free_scratch(data_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* get() const { return data_; }

 private:
  float* data_;
};

}  // namespace weft::kernels::WEFT_ISA
