#include "support/golden_modules.h"

#include <doctest/doctest.h>

#include "weft/engine/ops/loss.h"
#include "weft/engine/tape.h"

namespace weft::golden {
namespace {

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
        normals(c.name() + "/" + name, tensor.shape(), dtype, scale_shift.at(0), scale_shift.at(1)));
    ++filled;
  }
  REQUIRE(filled == c.count("state."));
}

// Results in f32 agree to the case's tolerance; in f64 to 1e-9 (the longest sums have about 1e6 terms of both
// signs), where they are not stored as floats. Elements that cancel are held to the size of the largest one.
Tolerance tolerance(const Case& c, DType dtype, DType stored) {
  const double rtol = dtype == DType::f32 ? c.number("tolerance") : stored == DType::f32 ? 1.2e-7 : 1e-9;
  return {.rtol = rtol, .atol = rtol};
}

// Moves all parameters a little at random, as the script does.
void move_parameters(const Case& c, const std::string& prefix, Module& module, DType dtype) {
  for (const Parameter& p : module.parameters()) {
    const Tensor by = normals(c.name() + "/" + prefix + "move." + p.name, p.tensor.shape(), DType::f64);
    const Tensor moved = Tensor::empty(p.tensor.shape(), DType::f32);
    for (int64_t i = 0; i < moved.numel(); ++i)
      moved.data<float>()[i] = float(p.tensor.at(i) + c.number("move") * by.at(i));
    p.tensor.copy_from(moved.to(dtype));
  }
}

void compare(const Case& c, const ModuleMakers& modules, DType dtype) {
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
        got = fingerprint(c.name() + "/" + prefix + what, actual);
        const std::string off = fingerprint_difference(got, wanted, tolerance(c, dtype, wanted.dtype()).rtol);
        CHECK_MESSAGE(off.empty(), prefix, what, " ", off);
      } else {
        const std::string off = difference(got, wanted, tolerance(c, dtype, wanted.dtype()));
        CHECK_MESSAGE(off.empty(), prefix, what, " ", off);
      }
      ++compared;
    };

    module->train(training);
    module->zero_grad();
    const Tensor x = normals(c.name() + "/" + prefix + "x", Shape(sizes), dtype).set_requires_grad();
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
      tape.backward(out, normals(c.name() + "/" + prefix + "grad_out", out.shape(), dtype));
    }
    check_result("grad.x", x.grad());
    for (const Parameter& p : module->parameters()) check_result("grad." + p.name, p.tensor.grad());
    for (const Parameter& p : module->buffers()) check_result("after." + p.name, p.tensor);
    move_parameters(c, prefix, *module, dtype);
  }
  CHECK(compared == c.expected().size());
}

}  // namespace

void compare_modules(std::string_view file, const ModuleMakers& makers, DType dtype) {
  std::map<std::string, int> seen;
  for (const Case& c : load(file, dtype)) {
    compare(c, makers, dtype);
    ++seen[c.kind()];
  }
  for (const auto& entry : makers) CHECK_MESSAGE(seen[entry.first] > 0, "no case of kind ", entry.first);
}

}  // namespace weft::golden
