// How much memory decoded pictures may take.
#pragma once

#include <cstdint>
#include <string>

namespace weft::app {

/// Bytes that this process can still take without swapping: what /proc/meminfo calls available, less where a
/// control group (version 2) allows less. 0 where neither can be read. `root` stands for "/" in tests.
int64_t available_memory_bytes(const std::string& root = "");

/// A quarter of that, the default of --cache-bytes.
int64_t default_cache_bytes();

}  // namespace weft::app
