// Learns which points lie inside a circle.
#include <weft/weft.h>

#include <cstdio>
using namespace weft;

struct Net : Module {  // layers register themselves with their parent
  Linear hidden{*this, "hidden", 2, 32};
  Linear head{*this, "head", 32, 2};
  Tensor forward(const Tensor& x) override { return head(mish(hidden(x))); }
};

Tensor inside_circle(const Tensor& points) {
  Tensor labels = Tensor::empty({points.size(0)}, DType::i64);
  const float* p = points.data<float>();
  for (int64_t i = 0; i < labels.numel(); ++i)
    labels.data<int64_t>()[i] = p[2 * i] * p[2 * i] + p[2 * i + 1] * p[2 * i + 1] < 0.5f;
  return labels;
}

int main() {
  manual_seed(1);
  Net net;
  optim::Ranger optimizer(net.parameters(), {.lr = 3e-2});
  for (int step = 0; step < 400; ++step) {
    Tensor points = Tensor::uniform({64, 2}, -1, 1);
    Tape tape;  // records what follows
    Tensor loss = cross_entropy(net(points), inside_circle(points));
    tape.backward(loss);
    optimizer.step();
    optimizer.zero_grad();
  }
  Tensor test = Tensor::uniform({1000, 2}, -1, 1), truth = inside_circle(test), answer = argmax(net(test));
  int right = 0;
  for (int64_t i = 0; i < 1000; ++i) right += answer.at(i) == truth.at(i);
  std::printf("%d of 1000 new points are right\n", right);
  save_safetensors("circle.safetensors", net.state_dict());
  return right > 950 ? 0 : 1;
}
