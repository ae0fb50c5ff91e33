// The choice of a convolution's algorithm for each geometry and pass.
#include "weft/kernels/cpu/isa/conv2d.h"

#include "weft/kernels/convolution.h"

namespace weft::kernels::WEFT_ISA {
namespace {

constexpr const char* kName = WEFT_TEXT(WEFT_ISA);
constexpr int kAlgorithms = 4;
constexpr ConvAlgorithm kAll[kAlgorithms] = {ConvAlgorithm::direct, ConvAlgorithm::winograd2,
                                             ConvAlgorithm::winograd3, ConvAlgorithm::winograd4};

/// M of Winograd's F(M x M, 3 x 3), 0 for other algorithms.
int64_t winograd_tile(ConvAlgorithm algorithm) {
  return algorithm < ConvAlgorithm::winograd2 ? 0
                                              : 2 + int64_t(algorithm) - int64_t(ConvAlgorithm::winograd2);
}

/// What this processor makes of them.
Conv2dParams here(Conv2dParams p) {
  p.bf16 = p.bf16 && multiplies_bf16();
  return p;
}

/// `algorithm` where it suits, else the one that computes anything.
ConvAlgorithm usable(ConvAlgorithm algorithm, const Conv2dParams& p) {
  const int64_t tile = winograd_tile(algorithm);
  return tile > 0 && winograd_suits(p, tile) ? algorithm : ConvAlgorithm::direct;
}

const Convolution& implementation(ConvAlgorithm algorithm, const Conv2dParams& p, ConvPass pass) {
  if (const int64_t tile = winograd_tile(algorithm)) return winograd_convolution(p, tile);
  if (depthwise_suits(p)) return depthwise_convolution();
  if (few_suit(p, pass)) return few_convolution();
  return rows_suit(p, pass) ? row_convolution() : direct_convolution();
}

ConvAlgorithm cheapest(const Conv2dParams& p, ConvPass pass, bool packed = false) {
  if (!winograd_suits(p)) return ConvAlgorithm::direct;
  ConvAlgorithm best = ConvAlgorithm::direct;
  double least = packed              ? direct_cost(p, pass, true)
                 : few_suit(p, pass) ? few_cost(p, pass)
                                     : direct_cost(p, pass);
  for (ConvAlgorithm other : kAll)
    if (usable(other, p) != ConvAlgorithm::direct)
      if (const double cost = winograd_cost(p, pass, winograd_tile(other)); cost < least)
        least = cost, best = other;
  return best;
}

/// Tells the algorithm to use; false where it is to be found by measuring.
bool choose(const Conv2dParams& p, ConvPass pass, ConvAlgorithm* algorithm) {
  if (!find_conv_algorithm(kName, p, pass, algorithm))
    return *algorithm = ConvAlgorithm::direct, !winograd_suits(p);
  *algorithm = *algorithm == ConvAlgorithm::automatic ? cheapest(p, pass) : usable(*algorithm, p);
  return true;
}

/// Calls run(implementation, parameters) with the one chosen, or with all of them, the fastest last.
template <class F>
void with_chosen(const Conv2dParams& params, ConvPass pass, F run) {
  const Conv2dParams p = here(params);
  ConvAlgorithm algorithm;
  if (!choose(p, pass, &algorithm)) {
    struct Call {
      const Conv2dParams& p;
      ConvPass pass;
      F& run;
    } call{p, pass, run};
    const auto one = [](void* object, int i) {
      const Call& c = *static_cast<Call*>(object);
      c.run(implementation(usable(kAll[i], c.p), c.p, c.pass), c.p);
    };
    algorithm = usable(kAll[fastest_of(kAlgorithms, one, &call)], p);
    tell_conv_algorithm(kName, p, pass, algorithm);
  }
  run(implementation(algorithm, p, pass), p);
}

}  // namespace

ConvAlgorithm conv2d_algorithm(const Conv2dParams& params, ConvPass pass) {
  const Conv2dParams p = here(params);
  ConvAlgorithm algorithm;
  return choose(p, pass, &algorithm) ? algorithm : ConvAlgorithm::automatic;
}

int64_t conv2d_workspace(const Conv2dParams& params, ConvPass pass) {
  const Conv2dParams p = here(params);
  ConvAlgorithm algorithm;
  if (choose(p, pass, &algorithm)) return implementation(algorithm, p, pass).workspace(p, pass);
  int64_t most = 0;
  for (ConvAlgorithm each : kAll)
    most = larger(most, implementation(usable(each, p), p, pass).workspace(p, pass));
  return most;
}

void conv2d_forward(const Conv2dParams& p, const float* x, const float* w, const float* bias, float* y,
                    void* workspace) {
  with_chosen(p, ConvPass::forward, [&](const Convolution& c, const Conv2dParams& q) {
    c.forward(q, x, w, bias, y, {}, static_cast<float*>(workspace));
  });
}

bool conv2d_forward_stats(const Conv2dParams& p, const float* x, const float* w, const float* bias, float* y,
                          float* mean, float* var, void* workspace) {
  with_chosen(p, ConvPass::forward, [&](const Convolution& c, const Conv2dParams& q) {
    c.forward(q, x, w, bias, y, {.stats = {mean, var}}, static_cast<float*>(workspace));
  });
  return true;
}

void conv2d_forward_norm(const Conv2dParams& p, const float* x, const float* w, const float* bias,
                         const BatchNormArgs<float>& norm, float* y, void* workspace) {
  with_chosen(p, ConvPass::forward, [&](const Convolution& c, const Conv2dParams& q) {
    c.forward(q, x, w, bias, y, {.norm = &norm}, static_cast<float*>(workspace));
  });
}

// Weights are packed for the direct convolution alone, where it wins when nothing is to be packed. What was
// forced or measured stays.
int64_t conv2d_packed_size(const Conv2dParams& params) {
  constexpr int64_t kLeast = 16;
  const Conv2dParams p = here(params);
  if (p.in_c / p.groups < kLeast || p.out_c / p.groups < kLeast) return 0;
  ConvAlgorithm algorithm;
  if (!find_conv_algorithm(kName, p, ConvPass::forward, &algorithm)) return 0;
  if (algorithm == ConvAlgorithm::automatic) algorithm = cheapest(p, ConvPass::forward, true);
  if (usable(algorithm, p) != ConvAlgorithm::direct) return 0;
  return direct_packed_floats(p) * int64_t(sizeof(float));
}

void conv2d_pack(const Conv2dParams& p, const float* w, void* packed) {
  direct_pack(here(p), w, static_cast<float*>(packed));
}

void conv2d_forward_packed(const Conv2dParams& p, const float* x, const void* packed, const float* bias,
                           const BatchNormArgs<float>* norm, float* y) {
  direct_forward_packed(here(p), x, static_cast<const float*>(packed), bias, y, {.norm = norm});
}

void conv2d_backward_input(const Conv2dParams& p, const float* dy, const float* w, float* dx,
                           void* workspace) {
  with_chosen(p, ConvPass::backward_input, [&](const Convolution& c, const Conv2dParams& q) {
    c.backward_input(q, dy, w, dx, static_cast<float*>(workspace));
  });
}

void conv2d_backward_weight(const Conv2dParams& p, const float* x, const float* dy, float* dw,
                            void* workspace) {
  with_chosen(p, ConvPass::backward_weight, [&](const Convolution& c, const Conv2dParams& q) {
    c.backward_weight(q, x, dy, dw, static_cast<float*>(workspace));
  });
}

}  // namespace weft::kernels::WEFT_ISA
