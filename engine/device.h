#pragma once

#include <cstdint>
#include <ostream>
#include <string_view>

namespace weft {

/// Where a tensor's memory lies and which kernels work on it: the CPU, or the NVIDIA GPU of this process.
enum class Device : uint8_t { cpu, cuda };

/// "cpu", "cuda".
constexpr const char* name_of(Device d) { return d == Device::cpu ? "cpu" : "cuda"; }
inline std::ostream& operator<<(std::ostream& out, Device d) { return out << name_of(d); }

/// "cpu" or "cuda", or "cuda:1" for the GPU of that number: chooses it for this process. Throws Error for
/// another name, and where there is no such device, with the reason.
Device parse_device(std::string_view name);

}  // namespace weft
