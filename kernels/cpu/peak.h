// Ceilings of this machine, measured, for benchmarks to compare with.
#pragma once

namespace weft::kernels {

/// Best of several short runs of independent multiply-adds in registers, in the instruction set of cpu(), on
/// `threads` threads at once: GFLOP/s, a multiply-add counting two.
double measure_fma_peak(int threads);

/// Best of several copies of memory larger than the caches on `threads` threads: GB/s, read and written bytes
/// counted.
double measure_copy_bandwidth(int threads);

}  // namespace weft::kernels
