#include "weft/layers/conv_transpose.h"

#include <cmath>

#include "weft/layers/init.h"

namespace weft {
namespace {

/// Checks what all convolutions need.
template <class Options>
void check_options(const char* layer, std::string_view name, int64_t in, int64_t out, const Options& o) {
  check(in > 0 && out > 0, layer, " ", name, ": ", in, " input and ", out,
        " output channels; both must be positive");
  check(o.kernel > 0 && o.stride > 0 && o.dilation > 0 && o.padding >= 0, layer, " ", name, ": kernel ",
        o.kernel, ", stride ", o.stride, ", dilation ", o.dilation, ", padding ", o.padding,
        "; the padding must not be negative, the others must be positive");
  check(o.groups > 0 && in % o.groups == 0 && out % o.groups == 0, layer, " ", name, ": ", in, " input and ",
        out, " output channels can't be split into ", o.groups, " groups");
}

void check_transposed(const char* layer, std::string_view name, int64_t in, int64_t out,
                      const ConvTransposeLayerOptions& o) {
  check_options(layer, name, in, out, o);
  check(o.output_padding >= 0 && o.output_padding < o.stride, layer, " ", name, ": output_padding ",
        o.output_padding, " must be at least 0 and smaller than the stride ", o.stride);
}

/// Uniform in +-1 / sqrt(fan_in of the weight).
Tensor start(const Shape& shape, const Shape& weight, Generator& generator) {
  const double bound = 1 / std::sqrt(double(weight.numel(1, weight.ndim())));
  return init::uniform_(Tensor::empty(shape), -bound, bound, generator);
}

ConvTransposeOptions op_options(const ConvTransposeLayerOptions& o) {
  return {.stride = o.stride,
          .padding = o.padding,
          .output_padding = o.output_padding,
          .dilation = o.dilation,
          .groups = o.groups};
}

template <class Options>
std::string describe(const char* layer, int64_t in, int64_t out, const Options& o) {
  std::string s = concat(layer, "(", in, ", ", out, ", kernel ", o.kernel);
  if (o.stride != 1) s += concat(", stride ", o.stride);
  if (o.padding != 0) s += concat(", padding ", o.padding);
  if constexpr (requires { o.output_padding; })
    if (o.output_padding != 0) s += concat(", output padding ", o.output_padding);
  if (o.dilation != 1) s += concat(", dilation ", o.dilation);
  if (o.groups != 1) s += concat(", groups ", o.groups);
  return s + (o.bias ? ")" : ", no bias)");
}

}  // namespace

ConvTranspose2d::ConvTranspose2d(Module& parent, std::string_view name, int64_t in_channels,
                                 int64_t out_channels, const Options& options, Generator& generator)
    : Module(parent, name), options_(options) {
  check_transposed("ConvTranspose2d", name, in_channels, out_channels, options);
  const Shape shape{in_channels, options.kernel, options.kernel, out_channels / options.groups};
  weight = register_parameter("weight", start(shape, shape, generator));
  if (options.bias) bias = register_parameter("bias", start({out_channels}, shape, generator));
}

Tensor ConvTranspose2d::forward(const Tensor& x) {
  return conv_transpose2d(x, weight, bias, op_options(options_));
}

std::string ConvTranspose2d::description() const {
  return describe("ConvTranspose2d", weight.size(0), weight.size(-1) * options_.groups, options_);
}

ConvTranspose1d::ConvTranspose1d(Module& parent, std::string_view name, int64_t in_channels,
                                 int64_t out_channels, const Options& options, Generator& generator)
    : Module(parent, name), options_(options) {
  check_transposed("ConvTranspose1d", name, in_channels, out_channels, options);
  const Shape shape{in_channels, options.kernel, out_channels / options.groups};
  weight = register_parameter("weight", start(shape, shape, generator));
  if (options.bias) bias = register_parameter("bias", start({out_channels}, shape, generator));
}

Tensor ConvTranspose1d::forward(const Tensor& x) {
  return conv_transpose1d(x, weight, bias, op_options(options_));
}

std::string ConvTranspose1d::description() const {
  return describe("ConvTranspose1d", weight.size(0), weight.size(-1) * options_.groups, options_);
}

Conv1d::Conv1d(Module& parent, std::string_view name, int64_t in_channels, int64_t out_channels,
               const Options& options, Generator& generator)
    : Module(parent, name), options_(options) {
  check_options("Conv1d", name, in_channels, out_channels, options);
  const Shape shape{out_channels, options.kernel, in_channels / options.groups};
  weight = register_parameter("weight", start(shape, shape, generator));
  if (options.bias) bias = register_parameter("bias", start({out_channels}, shape, generator));
}

Tensor Conv1d::forward(const Tensor& x) {
  return conv1d(x, weight, bias,
                {.stride = options_.stride,
                 .padding = options_.padding,
                 .dilation = options_.dilation,
                 .groups = options_.groups});
}

std::string Conv1d::description() const {
  return describe("Conv1d", weight.size(-1) * options_.groups, weight.size(0), options_);
}

}  // namespace weft
