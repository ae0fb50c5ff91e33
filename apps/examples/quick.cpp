// A network, an optimizer and a training loop: weft inside a program of your own.
#include <weft/layers/layers.h>
#include <weft/optim/optim.h>
#include <weft/weft.h>

#include <cstdio>

using namespace weft;

struct Net : Module {
  Conv2d conv{*this, "conv", 3, 16, {.kernel = 3, .stride = 2, .padding = 1, .bias = false}};
  BatchNorm2d bn{*this, "bn", 16, {.activation = Activation::mish}};
  Linear head{*this, "head", 16, 2};
  Tensor forward(const Tensor& x) override { return head(global_avg_pool(bn(conv(x)))); }
};

int main() {
  manual_seed(1);
  std::vector<int64_t> classes;  // noise, and noise a little brighter
  std::vector<float> brightness;
  for (int i = 0; i < 64; ++i) classes.push_back(i % 2), brightness.push_back(i % 2 ? 0.3f : 0.f);
  const Tensor labels = Tensor::from(classes, {64});
  const Tensor images = Tensor::normal({64, 16, 16, 3}) + Tensor::from(brightness, {64, 1, 1, 1});

  Net net;
  optim::Ranger opt(net.parameters(), {.lr = 1e-2, .betas = {0.95, 0.99}, .eps = 1e-6});
  for (int step = 1; step <= 60; ++step) {
    Tape tape;
    const Tensor loss = cross_entropy(net(images), labels, {.label_smoothing = 0.1});
    tape.backward(loss);
    opt.step();
    opt.zero_grad();
    if (step % 20 == 0) std::printf("step %d: loss %.4f\n", step, loss.item());
  }
  save_safetensors("quick.safetensors", net.state_dict());
}
