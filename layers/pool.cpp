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

Tensor Upsample::forward(const Tensor& x) {
  return ops::interpolate(x, options_,
                          [&](int which, const Tensor& like, const Shape& size, const auto& make) {
                            return constants_[size_t(which)].get(like, size, make);
                          });
}

std::string Upsample::description() const {
  const InterpolateOptions& o = options_;
  return concat("Upsample(",
                o.scale != 0 ? concat("scale ", o.scale) : concat("size ", o.size[0], " x ", o.size[1]),
                o.mode == InterpolateMode::nearest ? ", nearest" : ", bilinear",
                o.align_corners ? ", align corners)" : ")");
}

}  // namespace weft
