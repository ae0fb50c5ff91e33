#include "weft/layers/pool.h"

namespace weft {
namespace {

std::string describe(const char* name, const Pool2dOptions& o) {
  std::string s = concat(name, "(kernel ", o.kernel, ", stride ", o.stride ? o.stride : o.kernel);
  if (o.padding) s += concat(", padding ", o.padding);
  return s + (o.ceil_mode ? ", ceil)" : ")");
}

}  // namespace

std::string MaxPool2d::description() const { return describe("MaxPool2d", options_); }
std::string AvgPool2d::description() const { return describe("AvgPool2d", options_); }

}  // namespace weft
