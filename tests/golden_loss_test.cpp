// The losses, forward and backward, against values computed by PyTorch (golden/loss.safetensors).
#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <set>

#include "support/golden.h"
#include "weft/weft.h"

using namespace weft;
using golden::Case;

namespace {

Reduction reduction(const Case& c) {
  static const std::map<std::string, Reduction> names = {{"mean", Reduction::mean},
                                                         {"sum", Reduction::sum},
                                                         {"none", Reduction::none},
                                                         {"batchmean", Reduction::batchmean}};
  return names.at(c.text("reduction"));
}

std::optional<int64_t> ignore_index(const Case& c) {
  return c.has("ignore") ? std::optional(c.integer("ignore")) : std::nullopt;
}

const std::map<std::string, std::function<Tensor(const Case&)>> losses = {
    {"l1", [](const Case& c) { return l1_loss(c["x"], c["target"], reduction(c)); }},
    {"mse", [](const Case& c) { return mse_loss(c["x"], c["target"], reduction(c)); }},
    {"huber", [](const Case& c) { return huber_loss(c["x"], c["target"], c.number("width"), reduction(c)); }},
    {"smooth_l1",
     [](const Case& c) { return smooth_l1_loss(c["x"], c["target"], c.number("width"), reduction(c)); }},
    {"bce",
     [](const Case& c) {
       return binary_cross_entropy_with_logits(
           c["x"], c["target"],
           {.weight = c["weight"], .pos_weight = c["pos_weight"], .reduction = reduction(c)});
     }},
    {"sigmoid_focal",
     [](const Case& c) {
       return sigmoid_focal_loss(
           c["x"], c["target"],
           {.alpha = c.number("alpha"), .gamma = c.number("gamma"), .reduction = reduction(c)});
     }},
    {"nll",
     [](const Case& c) {
       return nll_loss(c["x"], c["target"],
                       {.weight = c["weight"], .ignore_index = ignore_index(c), .reduction = reduction(c)});
     }},
    {"cross_entropy",
     [](const Case& c) {
       return cross_entropy(c["x"], c["target"],
                            {.label_smoothing = c.number("label_smoothing"),
                             .weight = c["weight"],
                             .ignore_index = ignore_index(c),
                             .reduction = reduction(c)});
     }},
    {"softmax_focal",
     [](const Case& c) {
       return softmax_focal_loss(
           c["x"], c["target"],
           {.gamma = c.number("gamma"), .weight = c["weight"], .reduction = reduction(c)});
     }},
    {"kl",
     [](const Case& c) {
       return kl_div(c["x"], c["target"], {.log_target = c.flag("log_target"), .reduction = reduction(c)});
     }},
};

// As in golden_ops_test; a power in f32 is off by some units more where its base is small.
golden::Tolerance tolerance(DType dtype, DType stored) {
  if (dtype == DType::f32) return {.rtol = 2e-5, .atol = 3e-6};
  if (stored == DType::f32) return {.rtol = 1.2e-7, .atol = 1e-12};
  return {.rtol = 1e-12, .atol = 1e-14};
}

void compare_all(DType dtype) {
  std::set<std::string> seen;
  for (const Case& c : golden::load("loss.safetensors", dtype)) {
    CAPTURE(c.name());
    const auto loss = losses.find(c.kind());
    REQUIRE_MESSAGE(loss != losses.end(), "no code for kind ", c.kind());
    seen.insert(c.kind());
    Tape tape;
    const Tensor out = loss->second(c);
    tape.backward(out, c["grad_out"]);
    for (const auto& expected : c.expected()) {
      const std::string& what = expected.first;
      const Tensor& wanted = expected.second;
      const Tensor result = what == "out" ? out : c[what.substr(what.find('.') + 1)].grad();
      const std::string off = golden::difference(result, wanted, tolerance(dtype, wanted.dtype()));
      CHECK_MESSAGE(off.empty(), what, " ", off);
      if (result.defined()) CHECK(result.dtype() == dtype);
    }
  }
  for (const auto& loss : losses) CHECK_MESSAGE(seen.count(loss.first) == 1, "no case of kind ", loss.first);
}

}  // namespace

TEST_CASE("losses agree with PyTorch in f32") { compare_all(DType::f32); }

TEST_CASE("losses agree with PyTorch in f64") { compare_all(DType::f64); }
