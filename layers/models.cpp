#include "weft/layers/models.h"

#include "weft/layers/cifar_resnet.h"
#include "weft/layers/cifar_resnet_v2.h"
#include "weft/layers/depth_net.h"
#include "weft/layers/mlp.h"
#include "weft/layers/vision_transformer.h"
#include "weft/layers/xresnet.h"

namespace weft {
namespace {

using Catalogue = std::vector<ModelEntry>;
using Made = std::unique_ptr<Module>;

constexpr const char* kMXResNet = "lessw2020/Ranger-Mish-ImageWoof-5@b0aa735 mxresnet.py";
constexpr const char* kBagOfTricks = "He et al. 2018, arXiv 1812.01187; fastai's xresnet.py";
constexpr const char* kTrick = "ayasyrev/model_constructor@df26b9b net.py";
constexpr const char* kDepthwise = "liuyao12/imagenette_experiments@96ad29b ResNet_separable.ipynb";
constexpr const char* kDepthwiseNorm = "liuyao12/imagenette_experiments@ae64a4a Woof_ResNet_separable.ipynb";
constexpr const char* kFastai2 = "fastai/fastai2@3faec08 vision/models/xresnet.py";
constexpr const char* kCifar = "He et al. 2015, arXiv 1512.03385; digantamisra98/Mish@ec1faeb exps/resnet.py";
constexpr const char* kCifarV2 =
    "He et al. 2016, arXiv 1603.05027; keras-team/keras examples/cifar10_resnet.py";
constexpr const char* kViT = "Dosovitskiy et al. 2020, arXiv 2010.11929; Beyer et al. 2022, arXiv 2205.01580";
constexpr const char* kDepth = "digantamisra98/Mish@04f997a Layers_Acc.ipynb";
constexpr const char* kHeInit = "He et al. 2015, arXiv 1502.01852 (its initialisation)";

/// A network of the XResNet family.
ModelEntry xresnet(std::string name, std::string description, const char* source, Activation activation,
                   const XResNetPlan& plan, int64_t parameters, int64_t multiply_adds) {
  return {.name = std::move(name),
          .description = std::move(description),
          .source = source,
          .activation = activation,
          .parameters = parameters,
          .multiply_adds = multiply_adds,
          .attention = true,
          .smallest_size = plan.block.pool == BlockPool::max_blur ? 64 : 8,
          .make = [plan](const ModelOptions& o, Generator& g) -> Made {
            return std::make_unique<XResNet>(plan,
                                             XResNetOptions{.activation = o.activation,
                                                            .activation_param = o.activation_param,
                                                            .self_attention = o.self_attention,
                                                            .symmetric = o.symmetric,
                                                            .recompute = o.recompute,
                                                            .in_channels = o.in_channels,
                                                            .classes = o.classes},
                                             g);
          }};
}

/// Depth (or what else tells the networks of a family apart), parameters, multiply-adds.
struct Size {
  int depth;
  int64_t parameters, multiply_adds;
};

constexpr Size kXResNets[] = {{18, 11228586, 783684608},
                              {34, 21336746, 1387664384},
                              {50, 23575466, 1526091776},
                              {101, 42567594, 2738245632},
                              {152, 58211242, 3950399488}};
constexpr Size kTricks[] = {
    {18, 11228586, 798331904}, {34, 21336746, 1402311680}, {50, 23575466, 1471434752}};
constexpr Size kDepthwises[] = {
    {2, 19294208, 1162899456}, {4, 30760758, 1902284800}, {6, 42227308, 2641670144}};
constexpr Size kDepthwiseNorms[] = {{4, 30824746, 2028064768}};
constexpr Size kSqueezed[] = {{18, 13138026, 742484992},
                              {34, 23638178, 1365409792},
                              {50, 25550618, 1461497856},
                              {101, 46946138, 2684792832}};
constexpr Size kResNeXts[] = {{18, 13047914, 742396928},
                              {34, 23475434, 1365251072},
                              {50, 23019626, 1458982912},
                              {101, 42168426, 2680049664}};
constexpr Size kCifars[] = {{20, 269722, 40551040},
                            {32, 464154, 68862592},
                            {44, 658586, 97174144},
                            {56, 853018, 125485696},
                            {110, 1727962, 252887680}};
constexpr Size kCifarsV2[] = {{20, 568410, 66243072},
                              {56, 1657690, 193120768},
                              {110, 3291610, 383437312},
                              {164, 4925530, 573753856},
                              {245, 7376410, 859228672}};

void add_xresnets(Catalogue& list) {
  const auto add = [&](std::string name, std::string description, const char* source, Activation activation,
                       const XResNetPlan& plan, const Size& s) {
    list.push_back(xresnet(std::move(name), std::move(description), source, activation, plan, s.parameters,
                           s.multiply_adds));
  };
  for (const Size& s : kXResNets)
    add(concat("mxresnet", s.depth), "XResNet with Mish, stem 32-64-64", kMXResNet, Activation::mish,
        xresnet_plan(s.depth), s);
  for (const Size& s : kXResNets)
    add(concat("xresnet", s.depth), "ResNet-D, stem 32-64-64", kBagOfTricks, Activation::relu,
        xresnet_plan(s.depth), s);
  for (const Size& s : kTricks)
    add(concat("mxresnet", s.depth, "-trick"), "ResnetTrick: MaxBlurPool before both branches of a block",
        kTrick, Activation::mish, trick_plan(s.depth), s);
  for (const Size& s : kDepthwises)
    add(concat("mxresnet-dw", s.depth),
        concat("depthwise bottlenecks, ", s.depth, " filters for each channel"), kDepthwise, Activation::mish,
        depthwise_plan(s.depth), s);
  for (const Size& s : kDepthwiseNorms)
    add(concat("mxresnet-dw", s.depth, "-bn"),
        concat("the same with ", s.depth, " filters, batch norm behind them, plain stem"), kDepthwiseNorm,
        Activation::mish, depthwise_norm_plan(s.depth), s);
  for (const Size& s : kSqueezed)
    add(concat("xse_resnext", s.depth), "ResNeXt 32x4 with squeeze-and-excitation", kFastai2,
        Activation::mish, resnext_plan(s.depth, 16), s);
  for (const Size& s : kResNeXts)
    add(concat("xresnext", s.depth), "ResNeXt 32x4", kFastai2, Activation::mish, resnext_plan(s.depth, 0), s);
}

/// A ResNet for CIFAR: `Net` with `Options`, of that depth.
template <class Net, class Options>
ModelEntry cifar_resnet(std::string name, const char* description, const char* source, const Size& s) {
  return {.name = std::move(name),
          .description = description,
          .source = source,
          .activation = Activation::relu,
          .parameters = s.parameters,
          .multiply_adds = s.multiply_adds,
          .size = 32,
          .make = [depth = s.depth](const ModelOptions& o, Generator& g) -> Made {
            return std::make_unique<Net>(depth,
                                         Options{.activation = *o.activation,
                                                 .activation_param = o.activation_param,
                                                 .recompute = o.recompute,
                                                 .in_channels = o.in_channels,
                                                 .classes = o.classes},
                                         g);
          }};
}

void add_cifar_resnets(Catalogue& list) {
  for (const Size& s : kCifars)
    list.push_back(cifar_resnet<CifarResNet, CifarResNetOptions>(
        concat("resnet", s.depth), "ResNet for CIFAR, 16-32-64 channels, shortcut A", kCifar, s));
  for (const Size& s : kCifarsV2)
    list.push_back(cifar_resnet<CifarResNetV2, CifarResNetV2Options>(
        concat("resnet", s.depth, "v2"),
        "ResNet v2 for CIFAR, pre-activated bottlenecks, 64-128-256 channels", kCifarV2, s));
}

void add_transformers(Catalogue& list) {
  list.push_back({.name = "vit-tiny",
                  .description = "vision transformer, patches of 16, width 192, depth 12, 3 heads",
                  .source = kViT,
                  .activation = Activation::gelu,
                  .parameters = 5488330,
                  .multiply_adds = 368052096,
                  .smallest_size = 16,
                  .size_step = 16,
                  .make = [](const ModelOptions& o, Generator& g) -> Made {
                    return std::make_unique<VisionTransformer>(
                        VisionTransformerOptions{
                            .activation = *o.activation, .in_channels = o.in_channels, .classes = o.classes},
                        g);
                  }});
}

void add_dense_nets(Catalogue& list) {
  list.push_back({.name = "mlp",
                  .description = "two hidden layers of 512",
                  .source = kHeInit,
                  .activation = Activation::mish,
                  .parameters = 1472522,
                  .multiply_adds = 1471488,
                  .size = 28,
                  .fixed_size = true,
                  .make = [](const ModelOptions& o, Generator& g) -> Made {
                    return std::make_unique<MLP>(
                        o.image_size * o.image_size * o.in_channels, o.classes,
                        MLPOptions{.activation = *o.activation, .activation_param = o.activation_param}, g);
                  }});
  for (int layers = 15; layers <= 25; ++layers)
    list.push_back(
        {.name = concat("depth", layers),
         .description = concat("the Mish paper's depth study, ", layers - 3, " dense layers of 500"),
         .source = kDepth,
         .activation = Activation::mish,
         .parameters = 5299580 + (layers - 15) * 251500,  // 500 500 + 500 and 1000 of batch norm
         .multiply_adds = 16119000 + (layers - 15) * 250000,
         .size = 28,
         .fixed_size = true,
         .smallest_size = 10,
         .make = [layers](const ModelOptions& o, Generator& g) -> Made {
           return std::make_unique<DepthNet>(layers - 3,
                                             DepthNetOptions{.activation = *o.activation,
                                                             .activation_param = o.activation_param,
                                                             .in_channels = o.in_channels,
                                                             .image_size = o.image_size,
                                                             .classes = o.classes},
                                             g);
         }});
  for (int layers = 15; layers <= 25; ++layers)
    list.push_back(
        {.name = concat("plain", layers),
         .description = concat("as deep with nothing between, ", layers - 1, " dense layers of 500"),
         .source = kHeInit,
         .activation = Activation::mish,
         .parameters = 4438010 + (layers - 15) * 250500,
         .multiply_adds = 4431000 + (layers - 15) * 250000,
         .size = 28,
         .fixed_size = true,
         .make = [layers](const ModelOptions& o, Generator& g) -> Made {
           return std::make_unique<MLP>(o.image_size * o.image_size * o.in_channels, o.classes,
                                        MLPOptions{.hidden = std::vector<int64_t>(size_t(layers - 1), 500),
                                                   .activation = *o.activation,
                                                   .activation_param = o.activation_param},
                                        g);
         }});
}

}  // namespace

const std::vector<ModelEntry>& model_catalogue() {
  static const Catalogue list = [] {
    Catalogue made;
    add_xresnets(made);
    add_cifar_resnets(made);
    add_transformers(made);
    add_dense_nets(made);
    return made;
  }();
  return list;
}

const ModelEntry& find_model(std::string_view name) {
  for (const ModelEntry& entry : model_catalogue())
    if (entry.name == name) return entry;
  fail("make_model: there is no model \"", name, "\"; known: ", joined(model_names()));
}

const std::vector<std::string>& model_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const ModelEntry& entry : model_catalogue()) list.push_back(entry.name);
    return list;
  }();
  return names;
}

std::unique_ptr<Module> make_model(std::string_view name, const ModelOptions& options, Generator& generator) {
  const ModelEntry& entry = find_model(name);
  check(entry.attention || !(options.self_attention || options.symmetric), "make_model: ", name,
        " has no place for self-attention; leave it out");
  ModelOptions own = options;
  if (!own.activation) own.activation = entry.activation;
  return entry.make(own, generator);
}

}  // namespace weft
