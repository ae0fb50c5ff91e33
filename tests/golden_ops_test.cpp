// Every op, forward and backward, against values computed by PyTorch (golden/ops.safetensors).
#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <optional>
#include <set>

#include "support/golden.h"
#include "weft/weft.h"

using namespace weft;
using golden::Case;

namespace {

std::vector<int> ints(const std::vector<int64_t>& values) { return {values.begin(), values.end()}; }

std::optional<double> param(const Case& c) {
  return c.has("param") ? std::optional(c.number("param")) : std::nullopt;
}

MatmulOptions transposes(const Case& c) {
  return {.transpose_a = c.flag("transpose_a"), .transpose_b = c.flag("transpose_b")};
}

Pool2dOptions pool(const Case& c) {
  return {.kernel = c.integer("kernel"),
          .stride = c.integer("stride"),
          .padding = c.integer("padding"),
          .ceil_mode = c.flag("ceil_mode"),
          .count_include_pad = !c.has("count_include_pad") || c.flag("count_include_pad")};
}

Tensor run_conv2d(const Case& c) {
  return conv2d(c["x"], c["weight"], c["bias"],
                {.stride = c.integer("stride"),
                 .padding = c.integer("padding"),
                 .dilation = c.integer("dilation"),
                 .groups = c.integer("groups")});
}

// Batches x0, x1, ... first move the running statistics; the result is that of x, the last one.
Tensor run_batch_norm(const Case& c) {
  const auto run = [&](const Tensor& x) {
    return batch_norm(x, c["weight"], c["bias"], c["running_mean"], c["running_var"], c.flag("training"),
                      {.momentum = c.number("momentum"),
                       .eps = c.number("eps"),
                       .activation = activation_by_name(c.text("activation")),
                       .activation_param = param(c)},
                      c["residual"]);
  };
  for (int64_t i = 0; i + 1 < c.integer("batches"); ++i) run(c[concat("x", i)]);
  return run(c["x"]);
}

Tensor run_concat(const Case& c) {
  std::vector<Tensor> parts;
  for (int64_t i = 0; i < c.integer("count"); ++i) parts.push_back(c[concat("x", i)]);
  return concat(parts, int(c.integer("dim")));
}

Tensor run_interpolate(const Case& c) {
  InterpolateOptions o{
      .mode = c.text("mode") == "nearest" ? InterpolateMode::nearest : InterpolateMode::bilinear,
      .align_corners = c.flag("align_corners")};
  if (c.has("scale")) o.scale = c.number("scale");
  if (c.has("size")) o.size = {c.list("size")[0], c.list("size")[1]};
  return interpolate(c["x"], o);
}

Tensor run_einsum(const Case& c) {
  std::vector<Tensor> operands;
  for (int64_t i = 0; i < c.integer("count"); ++i) operands.push_back(c[concat("x", i)]);
  return einsum(c.text("equation"), operands);
}

int dim(const Case& c) { return int(c.integer("dim")); }

const std::map<std::string, std::function<Tensor(const Case&)>> ops = {
    {"add", [](const Case& c) { return c["a"] + c["b"]; }},
    {"sub", [](const Case& c) { return c["a"] - c["b"]; }},
    {"mul", [](const Case& c) { return c["a"] * c["b"]; }},
    {"div", [](const Case& c) { return c["a"] / c["b"]; }},
    {"maximum", [](const Case& c) { return maximum(c["a"], c["b"]); }},
    {"minimum", [](const Case& c) { return minimum(c["a"], c["b"]); }},
    {"affine", [](const Case& c) { return affine(c["x"], c.number("scale"), c.number("shift")); }},
    {"x_plus_c", [](const Case& c) { return c["x"] + c.number("c"); }},
    {"c_plus_x", [](const Case& c) { return c.number("c") + c["x"]; }},
    {"x_minus_c", [](const Case& c) { return c["x"] - c.number("c"); }},
    {"c_minus_x", [](const Case& c) { return c.number("c") - c["x"]; }},
    {"x_times_c", [](const Case& c) { return c["x"] * c.number("c"); }},
    {"c_times_x", [](const Case& c) { return c.number("c") * c["x"]; }},
    {"x_over_c", [](const Case& c) { return c["x"] / c.number("c"); }},
    {"c_over_x", [](const Case& c) { return c.number("c") / c["x"]; }},
    {"neg", [](const Case& c) { return -c["x"]; }},
    {"exp", [](const Case& c) { return exp(c["x"]); }},
    {"log", [](const Case& c) { return log(c["x"]); }},
    {"sqrt", [](const Case& c) { return sqrt(c["x"]); }},
    {"square", [](const Case& c) { return square(c["x"]); }},
    {"abs", [](const Case& c) { return abs(c["x"]); }},
    {"reciprocal", [](const Case& c) { return reciprocal(c["x"]); }},
    {"sin", [](const Case& c) { return sin(c["x"]); }},
    {"cos", [](const Case& c) { return cos(c["x"]); }},
    {"activation",
     [](const Case& c) { return activation(c["x"], activation_by_name(c.text("name")), param(c)); }},
    {"relu", [](const Case& c) { return relu(c["x"]); }},
    {"mish", [](const Case& c) { return mish(c["x"]); }},
    {"silu", [](const Case& c) { return silu(c["x"]); }},
    {"sigmoid", [](const Case& c) { return sigmoid(c["x"]); }},
    {"tanh", [](const Case& c) { return tanh(c["x"]); }},
    {"softplus", [](const Case& c) { return softplus(c["x"]); }},
    {"leaky_relu",
     [](const Case& c) {
       return c.has("param") ? leaky_relu(c["x"], c.number("param")) : leaky_relu(c["x"]);
     }},
    {"elu", [](const Case& c) { return c.has("param") ? elu(c["x"], c.number("param")) : elu(c["x"]); }},
    {"gelu", [](const Case& c) { return gelu(c["x"]); }},
    {"sum", [](const Case& c) { return sum(c["x"], ints(c.list("dims")), c.flag("keepdim")); }},
    {"mean", [](const Case& c) { return mean(c["x"], ints(c.list("dims")), c.flag("keepdim")); }},
    {"amax", [](const Case& c) { return amax(c["x"], ints(c.list("dims")), c.flag("keepdim")); }},
    {"amin", [](const Case& c) { return amin(c["x"], ints(c.list("dims")), c.flag("keepdim")); }},
    {"argmax", [](const Case& c) { return argmax(c["x"]); }},
    {"argmax_dim", [](const Case& c) { return argmax(c["x"], dim(c)); }},
    {"argmin_dim", [](const Case& c) { return argmin(c["x"], dim(c)); }},
    {"var",
     [](const Case& c) {
       return var(c["x"], ints(c.list("dims")), c.flag("keepdim"), c.number("correction"));
     }},
    {"std",
     [](const Case& c) {
       return weft::std(c["x"], ints(c.list("dims")), c.flag("keepdim"), c.number("correction"));
     }},
    {"logsumexp", [](const Case& c) { return logsumexp(c["x"], ints(c.list("dims")), c.flag("keepdim")); }},
    {"cumsum", [](const Case& c) { return cumsum(c["x"], dim(c)); }},
    {"sort", [](const Case& c) { return sort(c["x"], dim(c), c.flag("descending")).values; }},
    {"argsort", [](const Case& c) { return argsort(c["x"], dim(c), c.flag("descending")); }},
    {"topk", [](const Case& c) { return topk(c["x"], 2, dim(c), c.flag("largest")).values; }},
    {"topk_indices", [](const Case& c) { return topk(c["x"], 2, dim(c), c.flag("largest")).indices; }},
    {"gather", [](const Case& c) { return gather(c["x"], dim(c), c["index"]); }},
    {"index_select", [](const Case& c) { return index_select(c["x"], dim(c), c["index"]); }},
    {"scatter_add", [](const Case& c) { return scatter_add(c["x"], dim(c), c["index"], c["src"]); }},
    {"einsum", run_einsum},
    {"matmul", [](const Case& c) { return matmul(c["a"], c["b"], transposes(c)); }},
    {"bmm", [](const Case& c) { return bmm(c["a"], c["b"], transposes(c)); }},
    {"linear", [](const Case& c) { return linear(c["x"], c["weight"], c["bias"]); }},
    {"conv2d", run_conv2d},
    {"max_pool2d", [](const Case& c) { return max_pool2d(c["x"], pool(c)); }},
    {"avg_pool2d", [](const Case& c) { return avg_pool2d(c["x"], pool(c)); }},
    {"global_avg_pool", [](const Case& c) { return global_avg_pool(c["x"]); }},
    {"interpolate", run_interpolate},
    {"batch_norm", run_batch_norm},
    {"softmax", [](const Case& c) { return softmax(c["x"]); }},
    {"log_softmax", [](const Case& c) { return log_softmax(c["x"]); }},
    {"cross_entropy",
     [](const Case& c) {
       return cross_entropy(c["logits"], c["target"], {.label_smoothing = c.number("label_smoothing")});
     }},
    {"mse_loss", [](const Case& c) { return mse_loss(c["x"], c["target"]); }},
    {"concat", run_concat},
    {"permute", [](const Case& c) { return permute(c["x"], ints(c.list("order"))); }},
    {"reshape", [](const Case& c) { return reshape(c["x"], c.list("sizes")); }},
    {"flatten", [](const Case& c) { return flatten(c["x"], int(c.integer("start"))); }},
};

// f32: 1e-5 of the largest element, and 1e-5 of each element but for rounding (50 units in the last place) of
// the terms that cancelled in it. f64: results that are stored as floats cannot be compared more closely than
// these are rounded.
golden::Tolerance tolerance(DType dtype, DType stored) {
  if (dtype == DType::f32) return {.rtol = 1e-5, .atol = 3e-6};
  if (stored == DType::f32) return {.rtol = 1.2e-7, .atol = 1e-12};
  return {.rtol = 1e-12, .atol = 1e-14};
}

void compare_all(DType dtype) {
  std::set<std::string> seen;
  for (const Case& c : golden::load("ops.safetensors", dtype)) {
    CAPTURE(c.name());
    const auto op = ops.find(c.kind());
    REQUIRE_MESSAGE(op != ops.end(), "no code for kind ", c.kind());
    seen.insert(c.kind());

    Tape tape;
    const Tensor out = op->second(c);
    if (c["grad_out"].defined()) tape.backward(out, c["grad_out"]);
    const auto actual = [&](const std::string& what) {
      const std::string subject = what.substr(what.find('.') + 1);
      if (what == "out") return out;
      return what.rfind("grad.", 0) == 0 ? c[subject].grad() : c[subject];
    };
    for (const auto& result_entry : c.expected()) {
      const std::string& what = result_entry.first;
      const Tensor& wanted = result_entry.second;
      const Tensor result = actual(what);
      const std::string off = golden::difference(result, wanted, tolerance(dtype, wanted.dtype()));
      CHECK_MESSAGE(off.empty(), what, " ", off);
      const DType type = is_floating(wanted.dtype()) ? dtype : wanted.dtype();
      if (result.defined()) CHECK(result.dtype() == type);
    }
  }
  for (const auto& op : ops) CHECK_MESSAGE(seen.count(op.first) == 1, "no case of kind ", op.first);
}

}  // namespace

TEST_CASE("ops agree with PyTorch in f32") { compare_all(DType::f32); }

TEST_CASE("ops agree with PyTorch in f64") { compare_all(DType::f64); }
