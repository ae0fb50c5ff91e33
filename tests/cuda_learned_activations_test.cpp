// Activations that learn parameters or draw, on a GPU: the kernels against the reference loops in double on
// the same (already rounded) inputs, the ops and a model against the CPU.
#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "support/cuda_switches.h"
#include "support/device_arrays.h"
#include "support/errors.h"
#include "support/light.h"
#include "weft/weft.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

Random& generator() {
  static Random random;
  return random;
}

#define CHECK_NEAR(T, got, want) CHECK_MESSAGE(distance<T>(got, want) <= kTolerance<T>, generator().seed())

}  // namespace

TEST_CASE_TEMPLATE("learned activations: y, dx and the parameters' gradients", T, float, bf16, f16) {
  const std::pair<int64_t, int64_t> shapes[] = {{1, 1},     {5, 3},    {300, 1},  {7, 8},    {9, 64},
                                                {1000, 24}, {33, 520}, {4000, 8}, {2, 1032}, {700, 37}};
  for (int i = 0; i < kLearnedActivationCount; ++i)
    for (const auto& shape : shapes)
      for (const int64_t skip : {0, 1}) {
        const int64_t rows = shape.first, channels = shape.second;
        const auto act = Activation(kActivationCount + i);
        CAPTURE(std::string(activation_name(act)));
        CAPTURE(rows);
        CAPTURE(channels);
        CAPTURE(skip);
        const int64_t n = rows * channels;
        auto x = generator().uniform<T>(n, -5, 5);
        const auto dy = generator().uniform<T>(n, -1, 1);
        const auto known = activation_parameters(act);
        std::vector<std::vector<float>> p;
        for (const LearnedParameter& k : known)
          p.push_back(generator().uniform<float>(channels, k.start - 0.3, k.start + 0.3));

        LearnedActivationArgs<double> expected_args;
        expected_args.activation = act, expected_args.rows = rows, expected_args.channels = channels;
        const auto wide_x = to_double(x), wide_dy = to_double(dy);
        expected_args.x = wide_x.data();
        std::vector<std::vector<double>> wide_p, gradients(known.size());
        double* to[kMostLearnedParameters] = {};
        for (size_t k = 0; k < known.size(); ++k) wide_p.push_back(to_double(p[k]));
        for (size_t k = 0; k < known.size(); ++k) {
          expected_args.parameters[k] = wide_p[k].data();
          gradients[k].resize(size_t(channels));
          to[k] = gradients[k].data();
        }
        std::vector<double> y(static_cast<size_t>(n)), dx(static_cast<size_t>(n));
        reference<double>().learned_activation(expected_args, y.data());
        reference<double>().learned_activation_backward(expected_args, wide_dy.data(), dx.data(), to);

        DeviceArray<T> device_x(x, skip), device_dy(dy, skip), device_y(n, skip), device_dx(n, skip);
        std::vector<std::unique_ptr<DeviceArray<float>>> device_p, device_gradients;
        LearnedActivationArgs<T> args;
        args.activation = act, args.rows = rows, args.channels = channels, args.x = device_x.data();
        float* device_to[kMostLearnedParameters] = {};
        for (size_t k = 0; k < known.size(); ++k) {
          device_p.push_back(std::make_unique<DeviceArray<float>>(p[k]));
          device_gradients.push_back(std::make_unique<DeviceArray<float>>(channels));
          args.parameters[k] = device_p[k]->data(), device_to[k] = device_gradients[k]->data();
        }
        const auto& table = cuda::table<T>();
        table.learned_activation(args, device_y.data());
        table.learned_activation_backward(args, device_dy.data(), device_dx.data(), device_to);
        CHECK_NEAR(T, device_y.host(), y);
        CHECK_NEAR(T, device_dx.host(), dx);
        // Sums in float of terms of up to 6, which may cancel.
        std::vector<std::vector<float>> first;
        for (size_t k = 0; k < known.size(); ++k) {
          first.push_back(device_gradients[k]->host());
          for (size_t c = 0; c < gradients[k].size(); ++c)
            CHECK_MESSAGE(std::abs(double(first[k][c]) - gradients[k][c]) <= 1e-5 * std::sqrt(double(rows)),
                          generator().seed());
        }
        // The same bits again, and in place.
        const auto dx_before = device_dx.host();
        table.learned_activation_backward(args, device_dy.data(), device_dy.data(), device_to);
        CHECK(same_bits(device_dy.host(), dx_before));
        for (size_t k = 0; k < known.size(); ++k) CHECK(same_bits(device_gradients[k]->host(), first[k]));
        const auto y_before = device_y.host();
        table.learned_activation(args, device_x.data());
        CHECK(same_bits(device_x.host(), y_before));
      }
}

TEST_CASE_TEMPLATE("rrelu draws what the stream of the key says", T, float, bf16, f16) {
  for (const int64_t n : {int64_t{1}, int64_t{3}, int64_t{7}, int64_t{1000}, 4096 + generator().below(5000)})
    for (const int64_t skip : {0, 1}) {
      auto x = generator().uniform<T>(n, -2, 2);
      const auto in = generator().uniform<T>(n, -1, 1);
      if (n > 100) x[100] = T(std::numeric_limits<float>::quiet_NaN()), x[101] = T(0.0f);
      std::vector<double> expected(x.size());
      const uint64_t key = 77;
      DeviceArray<uint64_t> device_key(std::vector<uint64_t>{key});
      reference<double>().rrelu(n, 0.125, 1.0 / 3, &key, to_double(x).data(), to_double(in).data(),
                                expected.data());
      DeviceArray<T> device_x(x, skip), device_in(in, skip), out(n, skip);
      cuda::table<T>().rrelu(n, 0.125, 1.0 / 3, device_key.data(), device_x.data(), device_in.data(),
                             out.data());
      CHECK_NEAR(T, out.host(), expected);
      const auto before = out.host();
      cuda::table<T>().rrelu(n, 0.125, 1.0 / 3, device_key.data(), device_x.data(), device_in.data(),
                             device_in.data());
      CHECK(same_bits(device_in.host(), before));
    }
}

TEST_CASE("the ops give the CPU's gradients, with one parameter for each channel or for all") {
  for (int i = 0; i < kLearnedActivationCount; ++i)
    for (const int64_t count : {int64_t{1}, int64_t{24}})
      for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        const auto act = Activation(kActivationCount + i);
        CAPTURE(std::string(activation_name(act)));
        CAPTURE(count);
        Generator same(4);
        const Tensor x = Tensor::normal({3, 5, 24}, 0, 1, same).to(dtype).to(DType::f32),
                     dy = Tensor::normal({3, 5, 24}, 0, 1, same).to(dtype).to(DType::f32);
        std::vector<Tensor> p;
        for (const LearnedParameter& k : activation_parameters(act))
          p.push_back(Tensor::normal({count}, k.start, 0.1, same));
        const auto run = [&](Device device, DType type) {
          std::vector<Tensor> leaves{x.to(type).to(device).set_requires_grad()};
          for (const Tensor& t : p) leaves.push_back(t.to(device).set_requires_grad());
          Tape tape;
          const Tensor y = learned_activation(leaves[0], act, {leaves.begin() + 1, leaves.end()});
          tape.backward(y, dy.to(type).to(device));
          std::vector<Tensor> results{y.detach()};
          for (const Tensor& t : leaves) results.push_back(t.grad());
          return results;
        };
        const auto cpu = run(Device::cpu, DType::f32), gpu = run(Device::cuda, dtype);
        for (size_t r = 0; r < cpu.size(); ++r) {
          CHECK(gpu[r].device() == Device::cuda);
          CHECK(gpu[r].dtype() == (r < 2 ? dtype : DType::f32));
          const auto a = gpu[r].to(Device::cpu).to(DType::f32).to_vector<float>();
          const auto e = to_double(cpu[r].to_vector<float>());
          CHECK(distance<float>(a, e) <= (dtype == DType::f32 || r >= 2 ? 1e-5 : 1e-2));
        }
      }
}

TEST_CASE("batch norm fused with them gives the CPU's gradients") {
  for (int i = 0; i < kLearnedActivationCount; ++i)
    for (const int64_t count : {int64_t{1}, int64_t{24}})
      for (const bool with_residual : {false, true})
        for (const bool training : {false, true})
          for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
            const auto act = Activation(kActivationCount + i);
            CAPTURE(std::string(activation_name(act)));
            CAPTURE(count);
            CAPTURE(with_residual);
            CAPTURE(training);
            CAPTURE(dtype);
            Generator same(4);
            const auto image = [&] {
              return Tensor::normal({3, 5, 24}, 0, 1, same).to(dtype).to(DType::f32);
            };
            const Tensor x = image(), residual = image(), dy = image();
            std::vector<Tensor> vectors{Tensor::normal({24}, 1, 0.3, same), Tensor::normal({24}, 0, 1, same)};
            for (const LearnedParameter& k : activation_parameters(act))
              vectors.push_back(Tensor::normal({count}, k.start, 0.1, same));
            const auto run = [&](Device device, DType type) {
              std::vector<Tensor> leaves{x.to(type).to(device), residual.to(type).to(device)};
              for (const Tensor& v : vectors) leaves.push_back(v.clone().to(device));
              for (Tensor& leaf : leaves) leaf.set_requires_grad();
              const Tensor mean = Tensor::full({24}, 0.1).to(device), var = Tensor::ones({24}).to(device);
              Tape tape;
              const Tensor y =
                  batch_norm(leaves[0], leaves[2], leaves[3], mean, var, training, {.activation = act},
                             with_residual ? leaves[1] : Tensor(), {}, {leaves.begin() + 4, leaves.end()});
              tape.backward(y, dy.to(type).to(device));
              std::vector<Tensor> results{y.detach()};
              for (size_t k = 0; k < leaves.size(); ++k)
                if (with_residual || k != 1) results.push_back(leaves[k].grad());
              return results;
            };
            const auto cpu = run(Device::cpu, DType::f32), gpu = run(Device::cuda, dtype);
            for (size_t r = 0; r < cpu.size(); ++r) {
              CAPTURE(r);
              REQUIRE(gpu[r].shape() == cpu[r].shape());
              const bool wide = dtype == DType::f32 || r >= (with_residual ? 3u : 2u);
              CHECK(gpu[r].dtype() == (wide ? DType::f32 : dtype));
              const auto a = gpu[r].to(Device::cpu).to(DType::f32).to_vector<float>();
              CHECK(distance<float>(a, to_double(cpu[r].to_vector<float>())) <= (wide ? 1e-5 : 1e-2));
            }
          }
}

TEST_CASE("batch norm fused with them gives the same bits in a captured step") {
  for (int i = 0; i < kLearnedActivationCount; ++i) {
    const auto act = Activation(kActivationCount + i);
    CAPTURE(std::string(activation_name(act)));
    const auto run = [act](bool captured) {
      Generator same(6);
      Module root;
      BatchNorm2d bn(root, "bn", 24, {.activation = act});
      root.to(Device::cuda);
      const Tensor x = Tensor::normal({6, 5, 24}, 0, 1, same).to(Device::cuda),
                   residual = Tensor::normal({6, 5, 24}, 0, 1, same).to(Device::cuda);
      std::vector<Tensor> results;
      for (const Parameter& p : root.parameters())
        results.push_back(Tensor::zeros(p.tensor.shape()).to(Device::cuda));
      const MemoryPool pool(Device::cuda);
      const auto step = [&] {
        {
          Tape tape;
          tape.backward(sum(square(bn(x, residual))));
        }
        for (size_t k = 0; k < results.size(); ++k) {
          results[k].copy_from(results[k] + root.parameters()[k].tensor.grad());
          root.parameters()[k].tensor.zero_grad();
        }
      };
      const MemoryPool::Use use(pool);
      step();
      if (captured) {
        const auto graph = kernels::cuda::capture(step);
        graph->launch();
        graph->launch();
      } else {
        step();
        step();
      }
      std::vector<float> all;
      for (const Tensor& t : results)
        for (float v : t.to(Device::cpu).to_vector<float>()) all.push_back(v);
      return all;
    };
    const auto eager = run(false);
    CHECK(std::any_of(eager.end() - 24, eager.end(), [](float v) { return v != 0; }));
    CHECK(eager == run(true));
  }
}

TEST_CASE("rrelu on a GPU draws what the CPU draws") {
  const auto run = [](Device device) {
    Generator same(9), draws(5);
    const Tensor x = Tensor::normal({4, 33}, 0, 1, same).to(device).set_requires_grad();
    Tape tape;
    const Tensor y = rrelu(x, 0.1, 0.4, true, draws);
    tape.backward(y, Tensor::ones({4, 33}).to(device));
    return x.grad().to(Device::cpu).to_vector<float>();
  };
  const auto cpu = run(Device::cpu), gpu = run(Device::cuda);
  CHECK(distance<float>(gpu, to_double(cpu)) <= 1e-6);
}

TEST_CASE("a model with each of them gives the CPU's loss and gradients") {
  const ExactFloat exact;
  for (int i = kActivationCount; i < kAllActivationCount; i += light() ? 3 : 1) {
    const auto act = Activation(i);
    CAPTURE(std::string(activation_name(act)));
    const auto run = [&](Device device) {
      manual_seed(3);
      auto model = make_model("xresnet18", {.activation = act, .self_attention = true});
      model->to(device);
      const Tensor x = Tensor::normal({3, 16, 16, 3}).to(device),
                   labels = Tensor::from<int64_t>({1, 2, 3}, {3}).to(device);
      Tape tape;
      const Tensor loss = cross_entropy((*model)(x), labels);
      tape.backward(loss);
      std::vector<std::pair<std::string, std::vector<float>>> results{
          {"loss", loss.to(Device::cpu).to_vector<float>()}};
      for (const Parameter& p : model->parameters())
        if (mentions(p.name, "act.") || p.name == "stem.0.conv.weight")
          results.emplace_back(p.name, p.tensor.grad().to(Device::cpu).to_vector<float>());
      return results;
    };
    const auto cpu = run(Device::cpu), gpu = run(Device::cuda);
    REQUIRE(cpu.size() == gpu.size());
    CHECK(cpu.size() > (is_learned(act) ? 10u : 1u));
    for (size_t r = 0; r < cpu.size(); ++r) {
      double difference = 0, norm = 0;
      for (size_t k = 0; k < cpu[r].second.size(); ++k) {
        difference += std::pow(double(cpu[r].second[k]) - double(gpu[r].second[k]), 2);
        norm += std::pow(double(cpu[r].second[k]), 2);
      }
      CHECK_MESSAGE(std::sqrt(difference) <= 1e-3 * std::sqrt(norm) + 1e-6, cpu[r].first);
    }
  }
}
