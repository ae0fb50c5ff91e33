// An op, its second derivative and a layer of your own, in a program that only links weft. docs/research.md
// tells the story.
#include <weft/weft.h>

#include <cmath>
#include <iostream>

using namespace weft;

// --- an op: sin, which weft does not have ---

Tensor sine(const Tensor& x);
Tensor cosine(const Tensor& x);

// Computes f of each element; your loops, your library, your kernel go here. Any floating type of the CPU.
template <double (*f)(double)>
Tensor map(const Tensor& x) {
  Tensor y = Tensor::empty(x.shape(), DType::f64);
  Tensor in = x.detach().to(DType::f64);
  for (int64_t i = 0; i < x.numel(); ++i) y.data<double>()[i] = f(in.data<double>()[i]);
  return y.to(x.dtype());
}

Tensor sine(const Tensor& x) {
  Tensor y = map<std::sin>(x);
  record("sine", {x}, {y}, [x](BackwardContext& c) { c.set(0, c.grad_output() * cosine(x)); },
         {.double_backward = true});
  return y;
}

Tensor cosine(const Tensor& x) {
  Tensor y = map<std::cos>(x);
  record("cosine", {x}, {y}, [x](BackwardContext& c) { c.set(0, c.grad_output() * -sine(x)); },
         {.double_backward = true});
  return y;
}

// --- the same with a backward that only computes numbers ---

Tensor sine_once(const Tensor& x) {
  Tensor y = map<std::sin>(x);
  record("sine_once", {x}, {y}, [x](BackwardContext& c) {
    Tensor slope = map<std::cos>(x);
    c.set(0, c.grad_output() * slope);
  });
  return y;
}

// --- a layer: SIREN's sine layer (Sitzmann et al., 2020), sin(omega (W x + b)) ---

struct SineLayer : Module {
  SineLayer(Module& parent, std::string_view name, int64_t in, int64_t out, double omega)
      : Module(parent, name), linear(*this, "linear", in, out), omega(omega) {
    double bound = std::sqrt(6.0 / double(in)) / omega;
    init::uniform_(linear.weight, -bound, bound);
  }
  Tensor forward(const Tensor& x) override { return sine(linear(x) * omega); }
  std::string description() const override { return concat("SineLayer(omega ", omega, ")"); }

  Linear linear;
  double omega;
};

struct Siren : Module {
  SineLayer first{*this, "first", 1, 32, 6};
  SineLayer second{*this, "second", 32, 32, 6};
  Linear out{*this, "out", 32, 1};
  Tensor forward(const Tensor& x) override { return out(second(first(x))); }
};

int main() {
  std::cout.precision(6);
  Tensor x = Tensor::from<double>({-2, -0.5, 0.25, 4}, {4}).set_requires_grad();

  auto f = [](const std::vector<Tensor>& in) { return sine(in[0]); };
  std::cout << "gradcheck " << gradcheck(f, {x}).ok << ", gradgradcheck " << gradgradcheck(f, {x}).ok << '\n';
  {
    Tape tape;
    Tensor y = sum(sine(x));
    for (int order = 1; order <= 4; ++order) {
      y = tape.grad(y, {x}, {.grad_outputs = {Tensor::ones(y.shape(), DType::f64)}, .create_graph = true})[0];
      std::cout << "derivative " << order << " at 0.25: " << y.at(2) << '\n';
    }
  }
  try {
    Tape tape;
    tape.grad(sum(sine_once(x)), {x}, {.create_graph = true});
  } catch (const Error& e) {
    std::cout << e.what() << '\n';
  }

  // Learn a curve from its slope alone: the loss holds a gradient, so its gradient is a second derivative.
  manual_seed(3);
  Siren net;
  optim::Adam optimizer(net.parameters(), {.lr = 2e-3f});
  Tensor loss;
  for (int step = 0; step < 400; ++step) {
    Tensor t = Tensor::uniform({64, 1}, -1, 1).set_requires_grad();
    Tape tape;
    Tensor slope = tape.grad(sum(net(t)), {t}, {.create_graph = true})[0];
    loss = mse_loss(slope, 3.0 * cosine(t.detach() * 3.0));  // the slope of sin(3 t)
    tape.backward(loss);
    optimizer.step();
    optimizer.zero_grad();
  }
  Tensor at = Tensor::from<float>({0.F, 0.5F}, {2, 1});
  Tensor y = net(at);
  std::cout << "loss below 0.01: " << (loss.item() < 0.01) << '\n';
  std::cout << "rise from 0 to 0.5 within 0.05 of sin(1.5): "
            << (std::abs(y.at(1) - y.at(0) - std::sin(1.5)) < 0.05) << '\n';
}
