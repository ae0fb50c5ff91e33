// Layers and whole models against PyTorch (golden/model.safetensors): output, loss, all gradients and buffers
// over several training steps and an evaluation.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <map>
#include <memory>

#include "support/golden.h"
#include "weft/layers/layers.h"
#include "weft/weft.h"

using namespace weft;
using golden::Case;

namespace {

using Made = std::unique_ptr<Module>;

const std::map<std::string, std::function<Made(Module&, const Case&)>> modules = {
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

// Gives every parameter and buffer the values that the script gave it; both sides must have the same ones.
void fill_state(const Case& c, Module& module, DType dtype) {
  module.to(dtype);
  size_t filled = 0;
  for (const auto& entry : module.state_dict()) {
    const std::string& name = entry.first;
    const Tensor& tensor = entry.second;
    REQUIRE_MESSAGE(c.has("state." + name), "PyTorch's model has no ", name);
    const std::vector<double> scale_shift = c.numbers("state." + name);
    tensor.copy_from(
        golden::normals(c.name() + "/" + name, tensor.shape(), dtype, scale_shift.at(0), scale_shift.at(1)));
    ++filled;
  }
  REQUIRE(filled == c.count("state."));
}

// Results in f32 agree to the case's tolerance; in f64 to 1e-9 (the longest sums have about 1e6 terms of both
// signs), where they are not stored as floats. Elements that cancel are held to the size of the largest one.
golden::Tolerance tolerance(const Case& c, DType dtype, DType stored) {
  const double rtol = dtype == DType::f32 ? c.number("tolerance") : stored == DType::f32 ? 1.2e-7 : 1e-9;
  return {.rtol = rtol, .atol = rtol};
}

// Moves all parameters a little at random, as the script does.
void move_parameters(const Case& c, const std::string& prefix, Module& module, DType dtype) {
  for (const Parameter& p : module.parameters()) {
    const Tensor by =
        golden::normals(c.name() + "/" + prefix + "move." + p.name, p.tensor.shape(), DType::f64);
    const Tensor moved = Tensor::empty(p.tensor.shape(), DType::f32);
    for (int64_t i = 0; i < moved.numel(); ++i)
      moved.data<float>()[i] = float(p.tensor.at(i) + c.number("move") * by.at(i));
    p.tensor.copy_from(moved.to(dtype));
  }
}

void compare(const Case& c, DType dtype) {
  CAPTURE(c.name());
  const auto maker = modules.find(c.kind());
  REQUIRE_MESSAGE(maker != modules.end(), "no code for kind ", c.kind());
  Module root;
  const Made module = maker->second(root, c);
  fill_state(c, *module, dtype);
  const std::vector<int64_t> sizes = c.list("shape");
  size_t compared = 0;

  for (int64_t pass = 0; pass <= c.integer("steps"); ++pass) {
    const bool training = pass < c.integer("steps");
    const std::string prefix = (training ? std::to_string(pass) : "eval") + ".";
    const auto check_result = [&](const std::string& what, const Tensor& actual) {
      Tensor wanted = c.expected("expect." + prefix + what), got = actual;
      if (!wanted.defined()) {
        wanted = c.expected("expect." + prefix + what + "#print");
        REQUIRE_MESSAGE(wanted.defined(), prefix, what, " is not stored");
        got = golden::fingerprint(c.name() + "/" + prefix + what, actual);
        const std::string off =
            golden::fingerprint_difference(got, wanted, tolerance(c, dtype, wanted.dtype()).rtol);
        CHECK_MESSAGE(off.empty(), prefix, what, " ", off);
      } else {
        const std::string off = golden::difference(got, wanted, tolerance(c, dtype, wanted.dtype()));
        CHECK_MESSAGE(off.empty(), prefix, what, " ", off);
      }
      ++compared;
    };

    module->train(training);
    module->zero_grad();
    const Tensor x = golden::normals(c.name() + "/" + prefix + "x", Shape(sizes), dtype).set_requires_grad();
    Tape tape;
    const Tensor out = (*module)(x);
    check_result("out", out);
    if (c.has("labels")) {
      const std::vector<int64_t> labels = c.list("labels");
      const Tensor target = Tensor::from(labels, {int64_t(labels.size())});
      const Tensor loss = cross_entropy(out, target, {.label_smoothing = 0.1});
      check_result("loss", loss);
      tape.backward(loss);
    } else {
      tape.backward(out, golden::normals(c.name() + "/" + prefix + "grad_out", out.shape(), dtype));
    }
    check_result("grad.x", x.grad());
    for (const Parameter& p : module->parameters()) check_result("grad." + p.name, p.tensor.grad());
    for (const Parameter& p : module->buffers()) check_result("after." + p.name, p.tensor);
    move_parameters(c, prefix, *module, dtype);
  }
  CHECK(compared == c.expected().size());
}

void compare_all(DType dtype) {
  const std::vector<Case> cases = golden::load("model.safetensors", dtype);
  std::map<std::string, int> seen;
  for (const Case& c : cases) {
    compare(c, dtype);
    ++seen[c.kind()];
  }
  for (const auto& entry : modules) CHECK_MESSAGE(seen[entry.first] > 0, "no case of kind ", entry.first);
}

}  // namespace

TEST_CASE("layers and models agree with PyTorch in f32") { compare_all(DType::f32); }

TEST_CASE("layers and models agree with PyTorch in f64") { compare_all(DType::f64); }
