// The layers of a model besides its convolutions for weft bench op: each kind and shape once, run as the
// model runs them.
#include <algorithm>

#include "weft/apps/weft/bench_op.h"
#include "weft/engine/tape.h"
#include "weft/layers/batch_norm.h"
#include "weft/layers/blur_pool.h"
#include "weft/layers/linear.h"
#include "weft/layers/pool.h"
#include "weft/layers/squeeze_excitation.h"
#include "weft/layers/summary.h"

namespace weft::app {
namespace {

constexpr double kIndex = sizeof(int32_t);  // beside each output of max pooling

Shape with_batch(Shape shape, int64_t batch) {
  shape.set(0, batch);
  return shape;
}

/// A layer as it ran: in, out, index: bytes of its input, of its output, and of an index for each output.
struct Found {
  double in, out, index;
  bool residual, activation, gpu;
  bool apart = false;  // the activation is a pass of its own, beside what `activation` says
};

/// How a kind of layer is measured: bytes of forward and backward.
struct Kind {
  const char *family, *op;
  bool (*matches)(Module&);
  double (*forward)(const Found&);
  double (*backward)(const Found&);
};

template <class T>
bool is(Module& m) {
  return dynamic_cast<T*>(&m) != nullptr;
}

double in_and_out(const Found& f) { return f.in + f.out; }
double none(const Found&) { return 0; }

/// Batch norm reads x (and the residual) and writes y. On a GPU nothing stays on the chip between a pass that
/// sums and one that needs the sums, so x is read for the statistics too.
double norm_forward(const Found& f) {
  return ((f.residual ? 3 : 2) + (f.gpu ? 1 : 0) + (f.apart ? 2 : 0)) * f.in;
}
/// It reads x and dy (and the residual) and writes dx (and its gradient); on a GPU the second pass reads two
/// of these again (if there is a residual's gradient, that one).
double norm_backward(const Found& f) {
  const double apart = f.apart ? 3 * f.in : 0;
  if (!f.gpu) return apart + (f.residual ? 5 : 3) * f.in;
  return apart + (f.residual && f.activation ? 7 : 5) * f.in;
}

// Max pooling writes and reads an index beside each output.
const Kind kKinds[] = {
    {"norm", "batch_norm", is<BatchNorm2d>, norm_forward, norm_backward},
    {"pool", "max_pool2d", is<MaxPool2d>, [](const Found& f) { return f.in + f.out + f.index; },
     [](const Found& f) { return f.in + f.out + f.index; }},
    {"pool", "avg_pool2d", is<AvgPool2d>, in_and_out, in_and_out},
    {"pool", "blur_pool2d", is<BlurPool2d>, in_and_out, in_and_out},
    {"pool", "global_avg_pool", is<GlobalAvgPool>, in_and_out, in_and_out},
    // Squeeze-and-excitation reads x for the means and for the product, and on the way back x, dy twice.
    {"attention", "squeeze_excitation", is<SqueezeExcitation>, [](const Found& f) { return 3 * f.in; },
     [](const Found& f) { return 4 * f.in; }},
    {"matmul", "linear", is<Linear>, none, none},
};

OpRun run_of_layer(Module& layer, const Shape& input, bool residual, const BenchPlace& place) {
  const auto f = [&layer](const std::vector<Tensor>& x) {
    auto* bn = dynamic_cast<BatchNorm2d*>(&layer);
    return x.size() == 2 ? bn->forward(x[0], x[1]) : layer.forward(x[0]);
  };
  return run_of(std::vector<Shape>(residual ? 2 : 1, input), f, place, &layer);
}

}  // namespace

std::vector<OpCase> layer_cases(Module& model, int64_t batch, int64_t size, const BenchPlace& place) {
  Tape tape;
  model.forward(Tensor::zeros({2, size, size, 3}));
  std::vector<OpCase> cases;
  model.visit([&](const std::string& path, Module& module) {
    const auto kind =
        std::find_if(std::begin(kKinds), std::end(kKinds), [&](const Kind& k) { return k.matches(module); });
    const auto entries = tape.entries();
    const auto entry =
        std::find_if(entries.begin(), entries.end(), [&](const TapeEntry& e) { return e.scope == path; });
    if (kind == std::end(kKinds) || entry == entries.end()) return;
    const Shape input = with_batch(entry->inputs.front().shape, batch);
    const Shape output = with_batch(entry->outputs.front().shape, batch);
    const auto* norm = dynamic_cast<const BatchNorm2d*>(&module);
    const bool residual = norm && entry->inputs[3].shape.ndim() == input.ndim();
    const bool apart = norm && is_random(norm->options().activation);
    const double element = double(size_of(place.dtype));
    const Found found{.in = element * double(input.numel()),
                      .out = element * double(output.numel()),
                      .index = kIndex * double(output.numel()),
                      .residual = residual,
                      .activation = norm && !apart && norm->options().activation != Activation::identity,
                      .gpu = place.gpu(),
                      .apart = apart};
    OpCase c{.family = kind->family,
             .op = kind->op,
             .shape = text_of(input),
             .count = 1,
             .passes = {{"forward", kind->forward(found)}, {"backward", kind->backward(found)}},
             .prepare = [&module, input, residual, place] {
               return run_of_layer(module, input, residual, place);
             }};
    if (!entry->detail.empty()) c.shape += " " + entry->detail;
    const auto same = std::find_if(cases.begin(), cases.end(), [&](const OpCase& other) {
      return other.op == c.op && other.shape == c.shape;
    });
    if (same == cases.end())
      cases.push_back(std::move(c));
    else
      ++same->count;
  });
  return cases;
}

Shape output_shape(Module& model, const std::string& path, int64_t batch, int64_t size,
                   const Shape& otherwise) {
  const ModelSummary summary = summarize(model, {2, size, size, 3});
  const auto row = std::find_if(summary.rows.begin(), summary.rows.end(),
                                [&](const SummaryRow& r) { return r.path == path && r.output.ndim() == 4; });
  return with_batch(row == summary.rows.end() ? otherwise : row->output, batch);
}

}  // namespace weft::app
