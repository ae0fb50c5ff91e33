// Ops on a GPU for weft bench op: run under a tape as in a step, but captured; and the batches that are made
// there.
#include <algorithm>
#include <memory>

#include "weft/apps/weft/bench_gpu.h"
#include "weft/apps/weft/bench_op.h"
#include "weft/engine/tape.h"
#include "weft/kernels/cuda/augment.h"

namespace weft::app {

namespace cuda = kernels::cuda;

namespace {

/// Of an op that is measured: what stays between its passes, apart for each of the calls in a row.
struct Call {
  std::unique_ptr<Tape> tape;
  Tensor y, gradient;
};

struct OnTape {
  OpFunction f;
  Module* layer;
  std::vector<Tensor> leaves;
  Tensor gradient;  // of the output
  double forward_flops = 0, backward_flops = 0;
  std::vector<Call> calls{size_t(GpuPasses::kMaxCalls)};

  void forward(Call& c) const {
    const NoGrad outside;  // the tape stays after this, but records no longer
    c.tape = std::make_unique<Tape>();
    std::vector<Tensor> x;
    for (const Tensor& leaf : leaves) x.push_back(c.tape->input(leaf));
    c.y = f(x);
  }
  /// As in a step, where the output's gradient is handed over and may be overwritten.
  void backward(Call& c) const {
    c.tape->backward(std::move(c.y), std::move(c.gradient));
    c.tape.reset();
    if (layer) layer->zero_grad();
  }

  /// Runs f once, to see what it makes of the leaves.
  void look() {
    Call c;
    forward(c);
    for (const TapeEntry& e : c.tape->entries()) {
      const double flops = 2 * double(e.multiply_adds);
      forward_flops += flops;
      for (size_t i = 0; i < std::min<size_t>(2, e.inputs.size()); ++i)  // the factors, as in a profile
        if (e.inputs[i].variable) backward_flops += flops;
    }
    gradient = random_on_gpu(c.y.shape(), c.y.dtype());
  }
};

}  // namespace

OpRun run_on_gpu(const std::vector<Shape>& inputs, const OpFunction& f, const BenchPlace& place,
                 Module* layer) {
  const auto op = std::make_shared<OnTape>();
  op->f = f, op->layer = layer;
  for (const Shape& shape : inputs) op->leaves.push_back(random_on_gpu(shape, place.dtype));
  if (layer) layer->zero_grad();
  op->look();
  const auto passes = std::make_shared<GpuPasses>(place.capture, GpuPasses::kMaxCalls);
  passes->add([op](int64_t i) { op->calls[size_t(i)].gradient = op->gradient.clone(); }, false);
  passes->add([op](int64_t i) { op->forward(op->calls[size_t(i)]); });
  passes->add([op](int64_t i) { op->backward(op->calls[size_t(i)]); });
  return [op, passes](double seconds) -> std::vector<OpSample> {
    const std::vector<double> times = (*passes)(seconds);
    return {{times[0], op->forward_flops}, {times[1], op->backward_flops}};
  };
}

namespace {

/// Pictures of random bytes in the GPU's memory, a quarter larger than the images that are made of them, and
/// taken whole, every other one mirrored.
struct Pictures {
  Tensor pixels, views, mix;
  cuda::AugmentArgs args;

  Pictures(int64_t batch, int64_t size, bool mixed) {
    const int side = side_of(size), pitch = pitch_of(size);
    std::vector<cuda::PictureView> all;
    std::vector<cuda::MixView> mixes;
    const cuda::ResizeAxis axis{
        .start = 0, .scale = double(side) / double(size), .from = 0, .low = 0, .high = side};
    for (int64_t i = 0; i < batch; ++i) {
      all.push_back({.offset = i * side * pitch,
                     .pitch = pitch,
                     .flip = int32_t(i % 2),
                     .rows = axis,
                     .columns = axis});
      mixes.push_back({.weight = 0.75f, .partner = int32_t((i + 1) % batch)});
    }
    pixels = random_on_gpu({batch * side * pitch / 4}, DType::f32);  // as bytes they are random enough
    views = on_gpu(all);
    args.n = batch, args.size = int(size);
    std::fill_n(args.scale, 3, 1.0f / 128), std::fill_n(args.shift, 3, -1.0f);
    if (mixed) mix = on_gpu(mixes), args.mix = static_cast<const cuda::MixView*>(mix.raw());
  }

  static int side_of(int64_t size) { return int(size + size / 4); }
  static int pitch_of(int64_t size) { return (3 * side_of(size) + 3) / 4 * 4; }

  template <class T>
  static Tensor on_gpu(const std::vector<T>& values) {
    const int64_t bytes = int64_t(values.size() * sizeof(T));
    Tensor t = Tensor::empty({bytes}, DType::u8, Device::cuda);
    cuda::upload(t.raw(), values.data(), bytes);
    return t;
  }
};

OpRun run_of_augment(int64_t batch, int64_t size, bool mixed, const BenchPlace& place) {
  const Pictures p(batch, size, mixed);
  const Tensor out = Tensor::empty({batch, size, size, 3}, place.dtype, Device::cuda);
  const auto passes = std::make_shared<GpuPasses>(place.capture, GpuPasses::kMaxCalls);
  passes->add([p, out](int64_t) {
    const auto make = [&](auto* to) {
      cuda::augment(p.args, static_cast<const cuda::PictureView*>(p.views.raw()),
                    static_cast<const uint8_t*>(p.pixels.raw()), to);
    };
    if (out.dtype() == DType::f32) return make(out.data<float>());
    if (out.dtype() == DType::bf16) return make(out.data<bf16>());
    make(out.data<f16>());
  });
  return [passes](double seconds) -> std::vector<OpSample> { return {{(*passes)(seconds).front(), 0}}; };
}

}  // namespace

std::vector<OpCase> augment_cases(int64_t batch, int64_t size, const BenchPlace& place) {
  const int side = Pictures::side_of(size);
  const double bytes = double(batch) * (double(side) * Pictures::pitch_of(size) +
                                        3.0 * double(size * size) * double(size_of(place.dtype)));
  std::vector<OpCase> cases;
  for (const bool mixed : {false, true})
    cases.push_back({.family = "augment",
                     .op = mixed ? "crop and mix" : "crop",
                     .shape = text_of({batch, side, side, 3}) + " to " + text_of({batch, size, size, 3}),
                     .passes = {{"forward", bytes}},
                     .prepare = [=] { return run_of_augment(batch, size, mixed, place); }});
  return cases;
}

}  // namespace weft::app
