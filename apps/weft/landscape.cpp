#include "weft/apps/weft/landscape.h"

#include <algorithm>
#include <cmath>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/random.h"
#include "weft/engine/tape.h"
#include "weft/layers/activation.h"
#include "weft/layers/linear.h"
#include "weft/layers/sequential.h"
#include "weft/optim/training/evaluation.h"

namespace weft::app {
namespace {

/// Loss and accuracy of all batches together.
std::pair<double, double> try_all(Module& model, const std::vector<LabelledBatch>& batches) {
  const training::Metric accuracy = training::accuracy();
  double loss = 0, correct = 0, images = 0;
  for (const LabelledBatch& batch : batches) {
    const Tensor logits = model(batch.x);
    loss += cross_entropy(logits, batch.target).item() * double(batch.target.numel());
    correct += accuracy.sum(logits, batch.target);
    images += double(batch.target.numel());
  }
  return {loss / images, correct / images};
}

/// The gradient's length at each point, and its largest change to a neighbour by the distance.
void measure_slopes(const std::vector<float>& slopes, int points, double range, OutputLandscape& l) {
  const double height = l.high - l.low, step = 2 * range / (points - 1);
  if (!(height > 0)) return;  // a constant, whose shape has no measure
  const auto at = [&](int row, int column, int axis) {
    return double(slopes[size_t(2 * (row * points + column) + axis)]) / height;
  };
  const auto change = [&](int row, int column, int to_row, int to_column) {
    return std::hypot(at(to_row, to_column, 0) - at(row, column, 0),
                      at(to_row, to_column, 1) - at(row, column, 1)) /
           step;
  };
  for (int row = 0; row < points; ++row)
    for (int column = 0; column < points; ++column) {
      const double slope = std::hypot(at(row, column, 0), at(row, column, 1));
      l.variation += slope / (double(points) * points);
      l.lipschitz = std::max(l.lipschitz, slope);
      if (column + 1 < points)
        l.gradient_lipschitz = std::max(l.gradient_lipschitz, change(row, column, row, column + 1));
      if (row + 1 < points)
        l.gradient_lipschitz = std::max(l.gradient_lipschitz, change(row, column, row + 1, column));
    }
}

}  // namespace

double coordinate(int k, int points, double range) {
  return range * double(2 * k - (points - 1)) / double(points - 1);
}

std::vector<LabelledBatch> pick_batches(data::BatchLoader& loader, const std::vector<int64_t>& label_map,
                                        int64_t images, const std::function<bool()>& each) {
  const int64_t all = loader.dataset().size(), wanted = std::min(images, all);
  std::vector<LabelledBatch> picked;
  std::vector<Tensor> rows;
  std::vector<int64_t> targets;
  const auto finish = [&] {
    if (rows.empty()) return;
    const auto count = int64_t(rows.size());
    picked.push_back({concat(rows, 0), Tensor::from(targets, {count}).to(rows[0].device())});
    rows.clear(), targets.clear();
  };
  loader.begin_epoch(0);
  int64_t seen = 0;
  while (const auto batch = loader.next()) {
    const std::vector<int64_t> labels = batch->y.to_vector<int64_t>();
    for (size_t i = 0; i < labels.size(); ++i, ++seen) {
      if ((seen + 1) * wanted / all == seen * wanted / all) continue;
      rows.push_back(narrow(batch->x, 0, int64_t(i), 1));
      targets.push_back(label_map[size_t(labels[i])]);
      if (int64_t(rows.size()) == loader.batch_size()) finish();
    }
    if (!each()) return {};
  }
  finish();
  check(!picked.empty(), "none of the pictures could be read");
  return picked;
}

std::vector<Tensor> filter_normalized_direction(const std::vector<Parameter>& parameters,
                                                Generator& generator) {
  std::vector<Tensor> direction;
  for (const Parameter& p : parameters) {
    const Tensor w = p.tensor.detach().to(Device::cpu);
    Tensor d = Tensor::normal(w.shape(), 0, 1, generator);
    if (w.ndim() < 2 || w.numel() == 0) {
      d.fill(0);
    } else {
      const int64_t filters = w.size(0);
      const Shape rows{filters, w.numel() / filters};
      const Tensor own = sqrt(sum(square(w.view(rows)), {1}, true)),
                   drawn = sqrt(sum(square(d.view(rows)), {1}, true));
      d = (d.view(rows) * (own / drawn)).view(w.shape());
    }
    direction.push_back(d.to(p.tensor.device()));
  }
  return direction;
}

std::optional<LossLandscape> loss_landscape(Module& model, const std::vector<LabelledBatch>& batches,
                                            const std::vector<Tensor>& first,
                                            const std::vector<Tensor>& second, double range, int points,
                                            const std::function<bool(int)>& each) {
  check(points >= 3 && points % 2 == 1, "landscape: ", points,
        " points in a direction; it must be an odd number from 3 on");
  const NoGrad nothing;
  const std::vector<Parameter> parameters = model.parameters();
  std::vector<Tensor> middle;
  for (const Parameter& p : parameters) middle.push_back(p.tensor.clone());
  const auto go_to = [&](double x, double y) {
    for (size_t i = 0; i < parameters.size(); ++i)
      parameters[i].tensor.copy_from(middle[i] + first[i] * x + second[i] * y);
  };
  LossLandscape result{{points, points, {}}, {points, points, {}}};
  bool whole = true;
  for (int k = 0; k < points * points && whole; ++k) {
    go_to(coordinate(k % points, points, range), coordinate(k / points, points, range));
    const auto [loss, accuracy] = try_all(model, batches);
    result.loss.values.push_back(loss);
    result.accuracy.values.push_back(accuracy);
    whole = each(k + 1);
  }
  for (size_t i = 0; i < parameters.size(); ++i) parameters[i].tensor.copy_from(middle[i]);
  if (!whole) return std::nullopt;
  return result;
}

OutputLandscape output_landscape(Activation act, uint64_t seed, double range, int points) {
  Generator weights(seed), unused(0);
  Sequential net;
  const int64_t widths[] = {2, 64, 32, 16, 1};
  for (size_t k = 0; k + 1 < std::size(widths); ++k) {
    net.emplace<Linear>("linear" + std::to_string(k), widths[k], widths[k + 1], LinearOptions{}, weights);
    net.emplace<ActivationLayer>("act" + std::to_string(k), act, std::optional<double>{}, widths[k + 1],
                                 unused);
  }
  net.eval();
  std::vector<float> places;
  for (int k = 0; k < points * points; ++k)
    for (const int index : {k % points, k / points})
      places.push_back(float(coordinate(index, points, range)));
  const Tensor x = Tensor::from(places, {int64_t(points) * points, 2}).set_requires_grad();
  Tape tape;
  const Tensor y = net(x);
  const std::vector<float> values = y.to_vector<float>();
  OutputLandscape l{.output = {points, points, {values.begin(), values.end()}}};
  l.low = *std::min_element(values.begin(), values.end());
  l.high = *std::max_element(values.begin(), values.end());
  measure_slopes(tape.grad(sum(y), {x})[0].to_vector<float>(), points, range, l);
  return l;
}

}  // namespace weft::app
