// Layers and whole models against PyTorch (golden/model.safetensors): output, loss, all gradients and buffers
// over several training steps and an evaluation.
#include <doctest/doctest.h>

#include <memory>

#include "support/golden_modules.h"
#include "weft/layers/layers.h"
#include "weft/weft.h"

using namespace weft;
using golden::Case;
using golden::Made;

namespace {

const golden::ModuleMakers modules = {
    {"linear",
     [](Module& root, const Case& c) -> Made {
       return std::make_unique<Linear>(root, "m", c.integer("inputs"), c.integer("outputs"));
     }},
    {"conv2d",
     [](Module& root, const Case& c) -> Made {
       return std::make_unique<Conv2d>(root, "m", c.integer("inputs"), c.integer("outputs"),
                                       Conv2dLayerOptions{.kernel = c.integer("kernel"),
                                                          .stride = c.integer("stride"),
                                                          .padding = c.integer("padding"),
                                                          .dilation = c.integer("dilation"),
                                                          .groups = c.integer("groups")});
     }},
    {"batch_norm2d",
     [](Module& root, const Case& c) -> Made {
       return std::make_unique<BatchNorm2d>(root, "m", c.integer("channels"));
     }},
    {"conv_bn",
     [](Module& root, const Case& c) -> Made {
       return std::make_unique<ConvBn>(root, "m", c.integer("inputs"), c.integer("outputs"),
                                       ConvBnOptions{.kernel = c.integer("kernel"),
                                                     .stride = c.integer("stride"),
                                                     .activation = activation_by_name(c.text("activation"))});
     }},
    {"self_attention",
     [](Module& root, const Case& c) -> Made {
       return std::make_unique<SimpleSelfAttention>(root, "m", c.integer("channels"),
                                                    SelfAttentionOptions{.symmetric = c.flag("symmetric")});
     }},
    {"res_block",
     [](Module& root, const Case& c) -> Made {
       return std::make_unique<ResBlock>(
           root, "m", c.integer("inputs"), c.integer("hidden"),
           ResBlockOptions{.expansion = c.integer("expansion"),
                           .stride = c.integer("stride"),
                           .activation = activation_by_name(c.text("activation")),
                           .self_attention = c.flag("attention"),
                           .symmetric = c.flag("symmetric")});
     }},
    {"xresnet",
     [](Module& root, const Case& c) -> Made {
       return std::make_unique<XResNet>(root, "m", int(c.integer("depth")),
                                        XResNetOptions{.activation = activation_by_name(c.text("activation")),
                                                       .self_attention = c.flag("attention"),
                                                       .symmetric = c.flag("symmetric")});
     }},
};

}  // namespace

TEST_CASE("layers and models agree with PyTorch in f32") {
  golden::compare_modules("model.safetensors", modules, DType::f32);
}

TEST_CASE("layers and models agree with PyTorch in f64") {
  golden::compare_modules("model.safetensors", modules, DType::f64);
}
