#pragma once
// Finds the shared arrays of a kernel, to fill them anew for each block and to keep those of blocks that
// wait.

#include <cstddef>
#include <vector>

namespace weft_emulator {

/// One `static thread_local` variable of a function.
struct SharedArray {
  ptrdiff_t offset;  // from threadIdx, which lies in the same segment of every thread
  size_t size;
};

/// Those declared in the kernel itself, by the symbols of the program's file. Of functions that it calls they
/// aren't known, nor where there are no symbols.
const std::vector<SharedArray>& shared_arrays(const void* kernel);

/// Bytes of 0xff in those of this thread.
void fill_with_nan(const std::vector<SharedArray>& arrays);

// Copies of them, for blocks that wait for others.

/// Bytes that a copy takes.
size_t copy_size(const std::vector<SharedArray>& arrays);
/// From this thread's arrays to the copy, and back.
void copy_out(const std::vector<SharedArray>& arrays, unsigned char* copy);
void copy_in(const std::vector<SharedArray>& arrays, const unsigned char* copy);

}  // namespace weft_emulator
