// The code of docs/tutorial-tape.md, in its order: from two derivatives by hand to a trained network.
#include <weft/weft.h>

#include <cmath>
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>
#include <vector>

namespace by_hand {

// The whole computation, as a function of w.
double loss_of(double w) {
  double x = 2, b = -0.3, target = 0.9;
  double z = w * x + b;
  double y = std::tanh(z);
  double d = y - target;
  return d * d;
}

void slopes() {
  double w = 0.5, x = 2, b = -0.3, target = 0.9;
  // Forward: every step keeps its result.
  double z = w * x + b;
  double y = std::tanh(z);
  double d = y - target;
  double loss = d * d;
  // Backward: the last step first. dq means "the slope of the loss along q".
  double dd = 2 * d;             // loss = d * d
  double dy = dd;                // d = y - target
  double dz = dy * (1 - y * y);  // y = tanh(z), whose slope is 1 - tanh(z)^2
  double dw = dz * x;            // z = w * x + b
  double db = dz;
  std::printf("loss %.6f, slope along w %.6f, along b %.6f\n", loss, dw, db);

  double h = 1e-6;
  std::printf("measured along w %.6f\n", (loss_of(w + h) - loss_of(w - h)) / (2 * h));
}

// A tape in twenty lines.
struct Value {
  double value;
  double grad = 0;  // slope of the loss along this value
};
using Number = std::shared_ptr<Value>;
std::vector<std::function<void()>> tape;  // how to go back through each step

Number number(double value) { return std::make_shared<Value>(Value{value}); }

Number multiply(Number a, Number b) {
  Number out = number(a->value * b->value);
  tape.push_back([=] {
    a->grad += out->grad * b->value;
    b->grad += out->grad * a->value;
  });
  return out;
}

Number add(Number a, Number b) {
  Number out = number(a->value + b->value);
  tape.push_back([=] {
    a->grad += out->grad;
    b->grad += out->grad;
  });
  return out;
}

Number tanh(Number a) {
  Number out = number(std::tanh(a->value));
  tape.push_back([=] { a->grad += out->grad * (1 - out->value * out->value); });
  return out;
}

void backward(Number loss) {
  loss->grad = 1;
  for (size_t i = tape.size(); i-- > 0;) tape[i]();
}

void recorded() {
  Number w = number(0.5), b = number(-0.3);
  Number y = tanh(add(multiply(w, number(2)), b));
  Number d = add(y, number(-0.9));
  Number loss = multiply(d, d);
  backward(loss);
  std::printf("loss %.6f, slope along w %.6f, along b %.6f\n", loss->value, w->grad, b->grad);
}

}  // namespace by_hand

using namespace weft;

void same_with_weft() {
  Tensor w = Tensor::scalar(0.5, DType::f64).set_requires_grad();
  Tensor b = Tensor::scalar(-0.3, DType::f64).set_requires_grad();
  Tape tape;  // recording starts ...
  Tensor y = weft::tanh(w * 2.0 + b);
  Tensor loss = square(y - 0.9);
  std::cout << tape.to_string();
  tape.backward(loss);
  std::printf("loss %.6f, slope along w %.6f, along b %.6f\n", loss.item(), w.grad().item(), b.grad().item());
}  // ... and ends here

void rules() {
  Tensor w = Tensor::scalar(3, DType::f64).set_requires_grad();

  // Without a tape nothing is recorded: this is inference.
  std::cout << "without a tape: requires_grad " << square(w).requires_grad() << '\n';

  // Gradients add up until they are cleared.
  for (int i = 0; i < 2; ++i) {
    Tape tape;
    tape.backward(square(w));
  }
  std::cout << "after two tapes: " << w.grad() << '\n';
  w.zero_grad();
  std::cout << "after zero_grad: " << w.grad() << '\n';

  // A tape is walked once.
  Tape tape;
  Tensor loss = square(w);
  tape.backward(loss);
  try {
    tape.backward(loss);
  } catch (const Error& e) {
    std::cout << e.what() << '\n';
  }
}

void watched() {
  Tensor x = Tensor::from<double>({1, -2, 3}, {3}).set_requires_grad();
  Tape tape;
  tape.add_hook([](const TapeEntry& entry, std::span<const Tensor> grads) {
    std::cout << "back through " << entry.op << ": " << grads[0] << '\n';
  });
  Tensor loss = sum(square(relu(x)));
  std::cout << tape.to_dot();
  tape.backward(loss);
  std::cout << "x.grad() " << x.grad() << '\n';
}

// x / (1 + |x|), with slope 1 / (1 + |x|)^2.
Tensor softsign(const Tensor& x) {
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  for (int64_t i = 0; i < x.numel(); ++i) {
    double v = x.data<double>()[i];
    y.data<double>()[i] = v / (1 + std::abs(v));
  }
  record("softsign", {x}, {y}, [x](BackwardContext& context) {
    const Tensor& dy = context.grad_output();
    Tensor dx = Tensor::empty(x.shape(), x.dtype());
    for (int64_t i = 0; i < x.numel(); ++i) {
      double s = 1 + std::abs(x.data<double>()[i]);
      dx.data<double>()[i] = dy.data<double>()[i] / (s * s);
    }
    context.set(0, dx);
  });
  return y;
}

// The same with the square forgotten.
Tensor wrong_softsign(const Tensor& x) {
  Tensor y = softsign(x.detach());
  record("wrong_softsign", {x}, {y}, [x](BackwardContext& context) {
    NoGrad constants;
    context.set(0, context.grad_output() / (abs(x.detach()) + 1.0));
  });
  return y;
}

void own_op() {
  Tensor x = Tensor::from<double>({-2, -0.5, 0.25, 4}, {4}).set_requires_grad();
  auto right = gradcheck([](const std::vector<Tensor>& in) { return softsign(in[0]); }, {x});
  std::cout << "softsign: " << (right ? "the gradient is right" : right.message) << '\n';
  auto wrong = gradcheck([](const std::vector<Tensor>& in) { return wrong_softsign(in[0]); }, {x});
  std::cout << "wrong_softsign: " << (wrong ? "the gradient is right" : wrong.message) << '\n';
}

struct Curve : Module {
  Linear hidden{*this, "hidden", 1, 32};
  Linear out{*this, "out", 32, 1};
  Tensor forward(const Tensor& x) override { return out(weft::tanh(hidden(x))); }
};

void training_loop() {
  manual_seed(7);
  Curve net;
  optim::Adam optimizer(net.parameters(), {.lr = 1e-2});
  for (int step = 0; step <= 1000; ++step) {
    Tensor x = Tensor::uniform({128, 1}, -3, 3);
    Tensor y = Tensor::empty({128, 1});
    for (int i = 0; i < 128; ++i) y.data<float>()[i] = std::sin(x.data<float>()[i]);

    Tape tape;
    Tensor loss = mse_loss(net(x), y);
    if (step == 0) std::cout << tape.to_string();
    tape.backward(loss);
    optimizer.step();
    optimizer.zero_grad();
    if (step == 1000) std::cout << "mean square error below 0.001: " << (loss.item() < 1e-3) << '\n';
  }
  Tensor at = Tensor::from<float>({1.5}, {1, 1});
  std::printf("sin(1.5) is about %.1f\n", net(at).item());
}

int main() {
  by_hand::slopes();
  by_hand::recorded();
  same_with_weft();
  rules();
  watched();
  own_op();
  training_loop();
}
