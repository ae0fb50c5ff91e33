#pragma once

#include <cstddef>
#include <filesystem>

namespace weft::app {

/// While it lives, convolutions measure which algorithm is the fastest for each of their shapes
/// (weft::set_conv_tuning), beginning with what was found earlier on this machine; keep(), and its end,
/// write what is new beside it. The file belongs to one set of kernels and one number of threads:
/// conv2d-avx512-2.json in the cache folder. A file that cannot be understood is measured anew; one that
/// cannot be written is one warning on the standard error stream.
class ConvTuning {
 public:
  explicit ConvTuning(std::filesystem::path file = default_file());
  ~ConvTuning();
  ConvTuning(const ConvTuning&) = delete;
  ConvTuning& operator=(const ConvTuning&) = delete;

  /// Throws nothing.
  void keep();

  static std::filesystem::path default_file();

 private:
  std::filesystem::path file_;
  size_t known_;
  bool complained_ = false;
};

/// Keeps the algorithms that cuDNN was measured to be fastest with in the cache folder, for later runs on
/// this GPU.
void keep_gpu_plans();

}  // namespace weft::app
