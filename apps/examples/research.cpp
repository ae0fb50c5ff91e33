// Second derivatives, hooks, recomputation and tracing of NaN, as docs/research.md tells them.
#include <weft/weft.h>

#include <cmath>
#include <iostream>
#include <limits>

using namespace weft;

struct Net : Module {
  Conv2d conv{*this, "conv", 3, 8, {.kernel = 3, .stride = 2, .padding = 1, .bias = false}};
  BatchNorm2d bn{*this, "bn", 8, {.activation = Activation::mish}};
  Linear head{*this, "head", 8, 2};
  Tensor forward(const Tensor& x) override { return head(global_avg_pool(bn(conv(x)))); }
};

struct Batch {
  Tensor images = Tensor::normal({16, 8, 8, 3}), labels = Tensor::empty({16}, DType::i64);
  Batch() {
    for (int64_t i = 0; i < 16; ++i) labels.data<int64_t>()[i] = i % 2;
  }
};

void gradients_of_gradients() {
  Tensor x = Tensor::scalar(3, DType::f64).set_requires_grad();
  Tape tape;
  Tensor y = x * square(x);
  Tensor first = tape.grad(y, {x}, {.create_graph = true})[0];
  Tensor second = tape.grad(first, {x}, {.create_graph = true})[0];
  std::cout << "x^3 at 3: " << y.item() << ", slope " << first.item() << ", curvature " << second.item()
            << '\n';
}

void gradient_penalty(Net& net, const Batch& batch) {
  Tensor images = batch.images.clone().set_requires_grad();
  Tape tape;
  Tensor loss = cross_entropy(net(images), batch.labels);
  Tensor slope = tape.grad(loss, {images}, {.create_graph = true})[0];
  Tensor penalty = sum(square(slope));
  tape.backward(loss + 0.1 * penalty);
  std::cout << "conv.weight has a gradient: " << net.conv.weight.grad().defined() << '\n';
  net.zero_grad();
}

// The eigenvalue of the loss's Hessian that is largest in magnitude, by power iteration.
double sharpness(Module& net, const Batch& batch, int iterations) {
  std::vector<Tensor> parameters, v;
  for (const Parameter& p : net.parameters()) {
    parameters.push_back(p.tensor);
    v.push_back(Tensor::normal(p.tensor.shape()));
  }
  double norm = 0;
  for (int i = 0; i < iterations; ++i) {
    auto loss = [&] { return cross_entropy(net(batch.images), batch.labels); };
    std::vector<Tensor> product = hvp(loss, parameters, v).product;
    norm = 0;
    for (const Tensor& t : product) norm += sum(square(t)).item();
    norm = std::sqrt(norm);
    for (size_t k = 0; k < v.size(); ++k) v[k] = product[k] / norm;
  }
  return norm;
}

void hooks(Net& net, const Batch& batch) {
  std::vector<RemovableHandle> handles;
  net.visit([&](const std::string& path, Module& module) {
    if (path.empty()) return;
    handles.push_back(module.register_forward_hook([path](Module&, const Tensor&, const Tensor& output) {
      std::cout << "forward " << path << ' ' << output.shape() << '\n';
      return Tensor();  // nothing in its place
    }));
    handles.push_back(module.register_full_backward_hook(
        [path](Module&, const Tensor& grad_input, const Tensor& grad_output) {
          std::cout << "backward " << path << ' ' << grad_output.shape() << " to "
                    << (grad_input.defined() ? grad_input.shape().to_string() : "nobody") << '\n';
          return Tensor();
        }));
  });
  Tape tape;
  tape.backward(cross_entropy(net(batch.images), batch.labels));
  for (RemovableHandle& handle : handles) handle.remove();
  net.zero_grad();
}

// A block that computes itself again in backward instead of keeping its insides.
struct Deep : Module {
  Sequential blocks{*this, "blocks"};
  explicit Deep(bool recompute) {
    for (int i = 0; i < 3; ++i) {
      auto& block = blocks.emplace<Sequential>(std::to_string(i));
      block.emplace<Linear>("linear", 64, 64);
      block.emplace<Mish>("act");
      block.recompute(recompute);
    }
  }
  Tensor forward(const Tensor& x) override { return blocks(x); }
};

size_t kept_by(Deep& net, const Tensor& x) {
  size_t before = memory_stats().in_use;
  Tape tape;
  Tensor loss = mean(square(net(x)));
  size_t kept = memory_stats().in_use - before;
  tape.backward(loss);
  return kept;
}

void recomputation() {
  manual_seed(2);
  Deep plain(false);
  manual_seed(2);
  Deep again(true);
  Tensor x = Tensor::normal({512, 64});
  size_t much = kept_by(plain, x), less = kept_by(again, x);
  bool same = true;
  for (size_t i = 0; i < plain.parameters().size(); ++i)
    same &= plain.parameters()[i].tensor.grad().to_vector<float>() ==
            again.parameters()[i].tensor.grad().to_vector<float>();
  std::cout << "keeps less: " << (less < much) << ", same gradients: " << same << '\n';
}

void tracing(Net& net, Batch batch) {
  net.bn.weight.data<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  try {
    DetectAnomaly anomaly({.step = 1200});
    Tape tape;
    tape.backward(cross_entropy(net(batch.images), batch.labels));
  } catch (const Error& e) {
    std::cout << e.what() << '\n';
  }
}

int main() {
  manual_seed(1);
  Net net;
  Batch batch;
  gradients_of_gradients();
  gradient_penalty(net, batch);
  std::cout << "sharpness positive: " << (sharpness(net, batch, 30) > 0) << '\n';
  hooks(net, batch);
  recomputation();
  tracing(net, batch);
}
