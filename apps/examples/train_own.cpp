// The training loop around a module and data of your own: a classifier of points in two spirals.
#include <weft/weft.h>

#include <cmath>
#include <cstdio>

using namespace weft;

struct Net : Module {
  Linear hidden1{*this, "hidden1", 2, 32}, hidden2{*this, "hidden2", 32, 32};
  Linear head{*this, "head", 32, 2};
  Tensor forward(const Tensor& x) override { return head(mish(hidden2(mish(hidden1(x))))); }
};

/// n points near two spirals that wind around each other, and which one each belongs to.
TensorBatches spirals(int64_t n, TensorBatchesOptions options) {
  Tensor points = Tensor::normal({n, 2}, 0, 0.03), labels = Tensor::zeros({n}, DType::i64);
  for (int64_t i = 0; i < n; ++i) {
    const double t = 0.2 + 0.8 * double(i) / double(n), angle = 7 * t + (i % 2 ? 3.14159265 : 0);
    points.data<float>()[2 * i] += float(t * std::cos(angle));
    points.data<float>()[2 * i + 1] += float(t * std::sin(angle));
    labels.data<int64_t>()[i] = i % 2;
  }
  return {points, labels, options};
}

int main() {
  manual_seed(1);
  Net net;
  optim::Ranger optimizer(net.parameters(), {.lr = 2e-2});
  TensorBatches train = spirals(1000, {.batch_size = 50}), valid = spirals(500, {.shuffle = false});
  training::Trainer trainer(net, optimizer, train, valid,
                            {.schedule = optim::flat_cosine(),
                             .callbacks = {{.on_epoch = [](auto&, const training::EpochResult& e) {
                               if (e.epoch % 5 == 0)
                                 std::printf("epoch %2d: train loss %.3f, accuracy %.1f %%\n", int(e.epoch),
                                             e.train_loss, 100 * e.metrics[0]);
                             }}}});
  trainer.fit(25);
}
