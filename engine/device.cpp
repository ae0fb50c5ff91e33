#include "weft/engine/device.h"

#include <charconv>
#include <string>

#include "weft/engine/error.h"
#include "weft/kernels/cuda.h"

namespace weft {

Device parse_device(std::string_view name) {
  if (name == "cpu") return Device::cpu;
  int index = 0;
  if (name != "cuda") {
    const std::string_view number = name.substr(0, 5) == "cuda:" ? name.substr(5) : std::string_view();
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), index);
    check(!number.empty() && error == std::errc() && end == number.data() + number.size() && index >= 0,
          "device \"", name, "\" is unknown; choose cpu, cuda, or cuda:N for the GPU of number N");
  }
  std::string why;
  const int count = kernels::cuda::device_count(&why);
  check(count > 0, "device \"", name, "\" can't be used: ", why);
  check(index < count, "device \"", name, "\": there is no GPU of that number; they are numbered 0 to ",
        count - 1);
  kernels::cuda::use_device(index);
  return Device::cuda;
}

}  // namespace weft
