// Image layers, blocks and models beyond XResNet against PyTorch (golden/image_model.safetensors).
#include <doctest/doctest.h>

#include <memory>

#include "support/golden_modules.h"
#include "weft/layers/layers.h"

using namespace weft;
using golden::Case;
using golden::Made;

namespace {

BlockPool pool_of(const std::string& name) {
  return name == "avg" ? BlockPool::avg : name == "max" ? BlockPool::max : BlockPool::max_blur;
}

Activation act(const Case& c) { return activation_by_name(c.text("activation")); }

const golden::ModuleMakers modules = {
    {"blur_pool",
     [](Module& root, const Case& c) -> Made {
       return std::make_unique<BlurPool2d>(
           root, "m",
           BlurPool2dOptions{
               .filter = c.integer("filter"), .stride = c.integer("stride"), .reflect = c.flag("reflect")});
     }},
    {"max_blur_pool",
     [](Module& root, const Case& c) -> Made {
       return std::make_unique<MaxBlurPool2d>(root, "m",
                                              c.flag("pyramid") ? kPyramidPool : MaxBlurPool2dOptions{});
     }},
    {"squeeze",
     [](Module& root, const Case& c) -> Made {
       return std::make_unique<SqueezeExcitation>(root, "m", c.integer("channels"), c.integer("hidden"),
                                                  SqueezeExcitationOptions{.activation = act(c)});
     }},
    {"separable",
     [](Module& root, const Case& c) -> Made {
       return std::make_unique<DepthwiseSeparableConv>(
           root, "m", c.integer("inputs"), c.integer("outputs"),
           DepthwiseSeparableConvOptions{.stride = c.integer("stride"),
                                         .multiplier = c.integer("multiplier"),
                                         .norm_between = c.flag("between"),
                                         .activation = act(c)});
     }},
    {"block",
     [](Module& root, const Case& c) -> Made {
       return std::make_unique<ResBlock>(root, "m", c.integer("inputs"), c.integer("hidden"),
                                         ResBlockOptions{.expansion = c.integer("expansion"),
                                                         .stride = c.integer("stride"),
                                                         .activation = act(c),
                                                         .self_attention = c.flag("attention"),
                                                         .pool = pool_of(c.text("pool")),
                                                         .pool_first = c.flag("pool_first"),
                                                         .groups = c.integer("groups"),
                                                         .width = c.integer("width"),
                                                         .depthwise = c.integer("depthwise"),
                                                         .depthwise_norm = c.flag("depthwise_norm"),
                                                         .reduction = c.integer("reduction")});
     }},
    {"cifar_block",
     [](Module& root, const Case& c) -> Made {
       return std::make_unique<CifarBlock>(
           root, "m", c.integer("inputs"), c.integer("outputs"), c.integer("stride"),
           CifarResNetOptions{.activation = act(c),
                              .shortcut = c.text("shortcut") == "A" ? CifarShortcut::A : CifarShortcut::B});
     }},
    {"cifar_block_v2",
     [](Module& root, const Case& c) -> Made {
       return std::make_unique<CifarBlockV2>(root, "m",
                                             CifarBlockV2::Plan{.in_channels = c.integer("inputs"),
                                                                .width = c.integer("width"),
                                                                .out_channels = c.integer("outputs"),
                                                                .stride = c.integer("stride"),
                                                                .activate = c.flag("activate"),
                                                                .project = c.flag("project")},
                                             CifarResNetV2Options{.activation = act(c)});
     }},
    {"mlp",
     [](Module& root, const Case&) -> Made {
       return std::make_unique<MLP>(root, "m", 7, 3,
                                    MLPOptions{.hidden = {6, 5}, .activation = Activation::silu});
     }},
    {"model",
     [](Module&, const Case& c) -> Made {
       ModelOptions options{.self_attention = c.flag("attention")};
       if (c.has("activation")) options.activation = act(c);
       if (c.has("size")) options.image_size = c.integer("size");
       return make_model(c.text("model"), options);
     }},
};

}  // namespace

TEST_CASE("image layers, blocks and models agree with PyTorch in f32") {
  golden::compare_modules("image_model.safetensors", modules, DType::f32);
}

TEST_CASE("image layers, blocks and models agree with PyTorch in f64") {
  golden::compare_modules("image_model.safetensors", modules, DType::f64);
}
