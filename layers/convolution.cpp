#include "weft/layers/convolution.h"

#include <cmath>

#include "weft/layers/init.h"

namespace weft {

template <class OptionsT>
ConvolutionLayer<OptionsT>::ConvolutionLayer(const char* layer, int dimensions, Module& parent,
                                             std::string_view name, int64_t in, int64_t out, const Options& o,
                                             Generator& generator)
    : Module(parent, name), layer_(layer), options_(o) {
  check(in > 0 && out > 0, layer, " ", name, ": ", in, " input and ", out,
        " output channels; both must be positive");
  check(o.kernel > 0 && o.stride > 0 && o.dilation > 0 && o.padding >= 0, layer, " ", name, ": kernel ",
        o.kernel, ", stride ", o.stride, ", dilation ", o.dilation, ", padding ", o.padding,
        "; the padding must not be negative, the others must be positive");
  check(o.groups > 0 && in % o.groups == 0 && out % o.groups == 0, layer, " ", name, ": ", in, " input and ",
        out, " output channels can't be split into ", o.groups, " groups");
  if constexpr (kTransposed)
    check(o.output_padding >= 0 && o.output_padding < o.stride, layer, " ", name, ": output_padding ",
          o.output_padding, " must be at least 0 and smaller than the stride ", o.stride);
  Shape shape{kTransposed ? in : out};
  for (int i = 0; i < dimensions; ++i) shape.push_back(o.kernel);
  shape.push_back((kTransposed ? out : in) / o.groups);
  const double bound = 1 / std::sqrt(double(shape.numel(1, shape.ndim())));
  const auto start = [&](const Shape& s) {
    return init::uniform_(Tensor::empty(s), -bound, bound, generator);
  };
  weight = register_parameter("weight", start(shape));
  if (o.bias) bias = register_parameter("bias", start({out}));
}

template <class OptionsT>
std::string ConvolutionLayer<OptionsT>::description() const {
  const Options& o = options_;
  int64_t in = weight.size(-1) * o.groups, out = weight.size(0);
  if (kTransposed) std::swap(in, out);
  std::string s = concat(layer_, "(", in, ", ", out, ", kernel ", o.kernel);
  if (o.stride != 1) s += concat(", stride ", o.stride);
  if (o.padding != 0) s += concat(", padding ", o.padding);
  if constexpr (kTransposed)
    if (o.output_padding != 0) s += concat(", output padding ", o.output_padding);
  if (o.dilation != 1) s += concat(", dilation ", o.dilation);
  if (o.groups != 1) s += concat(", groups ", o.groups);
  return s + (o.bias ? ")" : ", no bias)");
}

template class ConvolutionLayer<Conv2dLayerOptions>;
template class ConvolutionLayer<ConvTransposeLayerOptions>;

}  // namespace weft
