#include "weft/layers/vision_transformer.h"

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/shape.h"
#include "weft/layers/init.h"
#include "weft/layers/positions.h"

namespace weft {

VisionTransformer::VisionTransformer(Module* parent, std::string_view name, const VisionTransformerOptions& o,
                                     Generator& generator)
    : Module(parent, name),
      patches(*this, "patches", o.in_channels, o.width, {.kernel = o.patch, .stride = o.patch}, generator),
      class_token(o.class_token
                      ? register_parameter("class_token", Tensor::normal({1, 1, o.width}, 0, 0.02, generator))
                      : Tensor()),
      encoder(*this, "encoder", o.depth, o.width, o.heads,
              {.dim_feedforward = 4 * o.width,
               .dropout = o.dropout,
               .activation = o.activation,
               .norm_first = true},
              true, generator),
      head(*this, "head", o.width, o.classes, {}, generator),
      patch_(o.patch) {
  encoder.visit([&](const std::string&, Module& module) {
    if (auto* linear = dynamic_cast<Linear*>(&module))
      init::xavier_uniform_(linear->weight, 1, generator), init::zeros_(linear->bias);
  });
  init::zeros_(head.weight), init::zeros_(head.bias);
}

Tensor VisionTransformer::forward(const Tensor& x) {
  check(x.ndim() == 4 && x.size(1) % patch_ == 0 && x.size(2) % patch_ == 0 && x.numel() > 0,
        "VisionTransformer: x has shape ", x.shape(),
        "; expected [N, H, W, C] with H and W multiples of the patch ", patch_);
  const Tensor image = patches(x);
  const int64_t n = image.size(0), width = image.size(3);
  const Shape grid{image.size(1), image.size(2)};
  const Tensor& positions =
      positions_.get(image, grid, [&] { return sinusoidal_positions_2d(grid[0], grid[1], width); });
  Tensor tokens = reshape(image, {n, grid.numel(), width}) + positions;
  if (!class_token.defined()) return head(mean(encoder(tokens), {1}));
  const Tensor zeros = Tensor::zeros({n, 1, width}, image.dtype(), image.device());
  tokens = encoder(concat({zeros + cast(class_token, image.dtype()), tokens}, 1));
  return head(reshape(narrow(tokens, 1, 0, 1), {n, width}));
}

std::string VisionTransformer::description() const {
  return concat("VisionTransformer(patch ", patch_, ", width ", head.weight.size(1), ", depth ",
                encoder.size(), class_token.defined() ? ", class token)" : ")");
}

}  // namespace weft
