// The choice of convolution algorithms: by cost, forced, measured.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "weft/kernels/convolution.h"
#include "weft/kernels/kernels.h"

using namespace weft;
using namespace weft::kernels;

namespace {

Conv2dParams layer(int64_t batch, int64_t size, int64_t in_c, int64_t out_c, int64_t kernel = 3,
                   int64_t stride = 1) {
  Conv2dParams p;
  p.batch = batch, p.in_h = p.in_w = size, p.in_c = in_c, p.out_c = out_c;
  p.kernel_h = p.kernel_w = kernel, p.stride_h = p.stride_w = stride, p.pad_h = p.pad_w = kernel / 2;
  return p;
}

constexpr ConvPass kPasses[] = {ConvPass::forward, ConvPass::backward_input, ConvPass::backward_weight};

/// x, w, y and their random contents.
struct Operands {
  explicit Operands(const Conv2dParams& params)
      : p(params),
        x(random(p.batch * p.in_h * p.in_w * p.in_c)),
        w(random(p.out_c * p.kernel_h * p.kernel_w * p.in_c)),
        y(random(p.batch * p.out_h() * p.out_w() * p.out_c)) {}

  /// The result of a pass of a table.
  template <class T>
  std::vector<T> run(const KernelTable<T>& k, ConvPass pass) const {
    const std::vector<T> a(x.begin(), x.end()), b(w.begin(), w.end()), c(y.begin(), y.end());
    std::vector<T> out(pass == ConvPass::forward          ? c.size()
                       : pass == ConvPass::backward_input ? a.size()
                                                          : b.size());
    void* workspace = std::aligned_alloc(64, size_t(k.conv2d_workspace(p, pass) + 64) / 64 * 64);
    if (pass == ConvPass::forward) k.conv2d_forward(p, a.data(), b.data(), nullptr, out.data(), workspace);
    if (pass == ConvPass::backward_input)
      k.conv2d_backward_input(p, c.data(), b.data(), out.data(), workspace);
    if (pass == ConvPass::backward_weight)
      k.conv2d_backward_weight(p, a.data(), c.data(), out.data(), workspace);
    std::free(workspace);
    return out;
  }

  Conv2dParams p;
  std::vector<float> x, w, y;

 private:
  static std::vector<float> random(int64_t n) {
    static std::mt19937 generator(7);
    std::normal_distribution<float> normal;
    std::vector<float> v(static_cast<size_t>(n));
    for (float& f : v) f = normal(generator);
    return v;
  }
};

}  // namespace

TEST_CASE("names") {
  for (ConvAlgorithm a : {ConvAlgorithm::automatic, ConvAlgorithm::direct, ConvAlgorithm::winograd2,
                          ConvAlgorithm::winograd3, ConvAlgorithm::winograd4})
    CHECK(parse_conv_algorithm(conv_algorithm_name(a)) == a);
  CHECK_FALSE(parse_conv_algorithm("fft").has_value());
  CHECK_FALSE(parse_conv_algorithm("").has_value());
}

TEST_CASE("by cost: Winograd where it saves, the direct sums elsewhere") {
  for (const KernelTable<float>* table : all_cpu_tables()) {
    CAPTURE(std::string(table->name));
    if (std::string(table->name) == "reference") continue;
    for (ConvPass pass : kPasses) {
      CHECK(table->conv2d_algorithm(layer(32, 32, 64, 64), pass) == ConvAlgorithm::winograd4);
      CHECK(table->conv2d_algorithm(layer(32, 4, 512, 512), pass) == ConvAlgorithm::winograd4);
      CHECK(table->conv2d_algorithm(layer(32, 6, 256, 256), pass) == ConvAlgorithm::winograd3);
      CHECK(table->conv2d_algorithm(layer(32, 2, 512, 512), pass) == ConvAlgorithm::winograd2);
      CHECK(table->conv2d_algorithm(layer(1, 1, 512, 512), pass) == ConvAlgorithm::direct);
      CHECK(table->conv2d_algorithm(layer(32, 32, 64, 64, 3, 2), pass) == ConvAlgorithm::winograd4);
      CHECK(table->conv2d_algorithm(layer(32, 32, 64, 64, 5, 2), pass) == ConvAlgorithm::direct);
      CHECK(table->conv2d_algorithm(layer(32, 32, 64, 64, 1), pass) == ConvAlgorithm::direct);
      CHECK(table->conv2d_algorithm(layer(32, 32, 64, 64, 5), pass) == ConvAlgorithm::direct);
      Conv2dParams grouped = layer(32, 32, 64, 64);
      grouped.groups = 2;
      CHECK(table->conv2d_algorithm(grouped, pass) == ConvAlgorithm::direct);
    }
  }
}

TEST_CASE("forced: where it suits; exact mode") {
  const auto algorithm = [](const Conv2dParams& p) { return cpu().conv2d_algorithm(p, ConvPass::forward); };
  const bool simd = std::string(cpu().name) != "reference";
  set_conv_algorithm(ConvAlgorithm::winograd2);
  CHECK(conv_algorithm() == ConvAlgorithm::winograd2);
  CHECK(algorithm(layer(32, 32, 64, 64)) == (simd ? ConvAlgorithm::winograd2 : ConvAlgorithm::direct));
  CHECK(algorithm(layer(32, 32, 64, 64, 1)) == ConvAlgorithm::direct);
  set_exact(true);
  CHECK(exact());
  CHECK(algorithm(layer(32, 32, 64, 64)) == ConvAlgorithm::direct);
  set_exact(false);
  CHECK_FALSE(exact());
  CHECK(conv_algorithm() == ConvAlgorithm::automatic);
}

TEST_CASE("measured: found once, remembered, kept and taken over") {
  if (std::string(cpu().name) == "reference") return;
  const Conv2dParams p = layer(2, 9, 24, 40);
  const Operands operands(p);
  const size_t before = conv_choices().size();
  set_conv_tuning(true);
  CHECK(conv_tuning());
  for (ConvPass pass : kPasses) {
    CHECK(cpu().conv2d_algorithm(p, pass) == ConvAlgorithm::automatic);  // not known yet
    const auto first = operands.run(cpu(), pass);
    const ConvAlgorithm found = cpu().conv2d_algorithm(p, pass);
    CHECK(found != ConvAlgorithm::automatic);
    CHECK(operands.run(cpu(), pass) == first);  // the first result is the chosen algorithm's too
    set_conv_algorithm(found);
    CHECK(operands.run(cpu(), pass) == first);
    set_conv_algorithm(ConvAlgorithm::automatic);
  }
  CHECK(conv_choices().size() == before + 3);
  // A shape that only one algorithm computes is not measured.
  CHECK(cpu().conv2d_algorithm(layer(2, 9, 8, 8, 5), ConvPass::forward) == ConvAlgorithm::direct);
  set_conv_tuning(false);

  const std::string kernels = cpu().name;
  add_conv_choices({{kernels, p, ConvPass::forward, ConvAlgorithm::winograd2}});
  CHECK(cpu().conv2d_algorithm(p, ConvPass::forward) == ConvAlgorithm::winograd2);
  add_conv_choices({{"other machine", p, ConvPass::forward, ConvAlgorithm::direct}});
  CHECK(cpu().conv2d_algorithm(p, ConvPass::forward) == ConvAlgorithm::winograd2);
  CHECK(conv_choices().size() == before + 3);

  // Where operands may be rounded to bf16, choices are others, if the processor multiplies it.
  Conv2dParams rounded = p;
  rounded.bf16 = true;
  const bool rounds = cpu().multiplies_bf16 && cpu().multiplies_bf16();
  add_conv_choices({{kernels, rounded, ConvPass::forward, ConvAlgorithm::winograd4}});
  CHECK(cpu().conv2d_algorithm(p, ConvPass::forward) == ConvAlgorithm::winograd2);
  CHECK(cpu().conv2d_algorithm(rounded, ConvPass::forward) ==
        (rounds ? ConvAlgorithm::winograd4 : ConvAlgorithm::winograd2));
}

// The table of docs/numerics.md: conv_algorithm_test -tc="error*".
TEST_CASE("error against f64") {
  std::string table =
      "root mean square error over root mean square result: forward, input, weight gradient\n";
  const auto measure = [&](const Operands& operands, int64_t channels, ConvAlgorithm algorithm,
                           const char* kind, double most = 1.5e-6) {
    set_conv_algorithm(algorithm);
    table += std::to_string(channels) + " channels, " + conv_algorithm_name(algorithm) + kind + ":";
    for (ConvPass pass : kPasses) {
      const auto actual = operands.run(cpu(), pass);
      const auto expected = operands.run(reference<double>(), pass);
      double error = 0, size = 0;
      for (size_t i = 0; i < expected.size(); ++i) {
        error += (double(actual[i]) - expected[i]) * (double(actual[i]) - expected[i]);
        size += expected[i] * expected[i];
      }
      const double relative = std::sqrt(error / size);
      CHECK(relative < most);
      char text[32];
      std::snprintf(text, sizeof text, " %.1e", relative);
      table += text;
    }
    table += '\n';
  };
  for (int64_t channels : {16, 64, 256}) {
    const Operands operands(layer(4, 16, channels, channels));
    for (ConvAlgorithm algorithm : {ConvAlgorithm::direct, ConvAlgorithm::winograd2, ConvAlgorithm::winograd3,
                                    ConvAlgorithm::winograd4})
      measure(operands, channels, algorithm, "");
    const Operands strided(layer(4, 32, channels, channels, 3, 2));
    measure(strided, channels, ConvAlgorithm::winograd4, ", stride 2");
    Operands rounded = operands;
    rounded.p.bf16 = true;
    measure(rounded, channels, ConvAlgorithm::direct, ", bf16 allowed", 4e-3);
  }
  set_conv_algorithm(ConvAlgorithm::automatic);
  MESSAGE(table);
}
