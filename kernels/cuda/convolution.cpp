// Convolutions by cuDNN. Which of its plans computes a shape is found at the first call: the first that
// suits, or the fastest of some, with cuBLASLt's product among them for 1x1 filters, and for few channels
// plans for 8 and the product of patches. A shape without a plan, and memory that is not aligned to 16 bytes,
// is for the plain kernels, and so is all where own_kernels_only(), but for sums and statistics of products
// of our own.
#include "weft/kernels/convolution.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "weft/kernels/cuda/conv_padded.h"
#include "weft/kernels/cuda/conv_patches.h"
#include "weft/kernels/cuda/conv_plans.h"
#include "weft/kernels/cuda/conv_stats.h"
#include "weft/kernels/cuda/convolution_kernels.h"
#include "weft/kernels/cuda/cudnn.h"
#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/nvidia.h"
#include "weft/kernels/cuda/plain_product.h"
#include "weft/kernels/cuda/plan_cache.h"
#include "weft/kernels/cuda/timing.h"
#include "weft/kernels/precision.h"

namespace weft::kernels::cuda {
namespace {

constexpr int64_t kMaxWorkspace = int64_t{256} << 20;
constexpr int64_t kSmallWorkspace = int64_t{16} << 20;  // where the GPU's memory is short
constexpr size_t kMaxCandidates = 10;                   // as PyTorch's torch.backends.cudnn.benchmark_limit
constexpr size_t kMaxPadded = 5;                        // beside these

/// How to compute one key.
struct Choice {
  enum class Kind {
    plan,
    padded,   // the plan is that of 8 channels
    patches,  // a product
    gemm,
    product,  // ours: that adds, or tells the statistics, or for few channels gives the gradient of w
    plain,
    apart  // the sum, or the statistics, in a pass of their own
  };
  Kind kind = Kind::plain;
  std::shared_ptr<const cudnn::Plan> plan;
  bool measured = false;  // or just the first that suits
  bool lasting = true;    // or only for this process, as with more memory it may be another
  int64_t copies = 0;     // bytes of copies of the operands, before the plan's workspace

  int64_t workspace() const { return copies + (plan ? plan->workspace() : 0); }
};

struct Buffers {
  void *x, *w, *y;  // or their gradients
};

struct Destroy {
  void operator()(cudnnHandle_t handle) const { nvidia().cudnnDestroy(handle); }
};

struct State {
  std::mutex mutex;
  std::unique_ptr<std::remove_pointer_t<cudnnHandle_t>, Destroy> handles[kLanes];
  std::string machine;  // what plans depend on besides their key
  std::unordered_map<ConvKey, Choice, ConvKeyHash> choices;

  cudnnHandle_t handle() const { return handles[lane()].get(); }
  cudnn::Target target() const { return {.handle = handles[0].get()}; }
  std::string name_of(const ConvKey& key) const { return key.text() + ", " + machine; }
};

// Never destroyed: at the end of the process CUDA may be gone before it.
State& state() {
  static State* const made = [] {
    auto s = std::make_unique<State>();
    stream();  // chooses the device
    for (auto& owned : s->handles) {
      cudnnHandle_t handle = nullptr;
      cudnn::check(nvidia().cudnnCreate(&handle), "cudnnCreate");
      owned.reset(handle);
    }
    s->machine = "cudnn " + std::to_string(nvidia().cudnnGetVersion()) + " on " + device_info().name;
    return s.release();
  }();
  return *made;
}

// --- running ---

template <class T>
void run_product(ConvPass pass, const Conv2dParams& p, bool add, T* x, T* w, T* y) {
  const int64_t pixels = p.batch * p.in_h * p.in_w, C = p.in_c, K = p.out_c;
  const auto gemm = table<T>().gemm;
  switch (pass) {
    case ConvPass::forward:  // y [pixels, K] = x [pixels, C] w' [C, K]
      return gemm({.m = pixels, .n = K, .k = C, .transpose_b = true, .lda = C, .ldb = C, .ldc = K}, x, w, y);
    case ConvPass::backward_input:  // dx = dy w
      return gemm({.m = pixels, .n = C, .k = K, .accumulate = add, .lda = K, .ldb = C, .ldc = C}, y, w, x);
    case ConvPass::backward_weight:  // dw = dy' x
      return gemm({.m = K, .n = C, .k = pixels, .transpose_a = true, .lda = K, .ldb = C, .ldc = C}, y, x, w);
  }
}

template <class T>
void execute(const State& s, const ConvKey& key, const Choice& choice, const Buffers& b, void* workspace) {
  cudnn::check(nvidia().cudnnSetStream(s.handle(), stream()), "cudnnSetStream");
  T *x = static_cast<T*>(b.x), *w = static_cast<T*>(b.w), *y = static_cast<T*>(b.y);
  switch (choice.kind) {
    case Choice::Kind::plan: {
      const std::array<int64_t, 3> ids{kConvX, kConvW, kConvY};
      const std::array<void*, 3> pointers{b.x, b.w, b.y};
      return choice.plan->execute(s.handle(), ids, pointers, workspace);
    }
    case Choice::Kind::padded:
      return execute_padded(s.handle(), key, *choice.plan, b.x, b.w, b.y, workspace);
    case Choice::Kind::patches:
      if constexpr (sizeof(T) == 2) return patches_convolution<T>(key.pass, key.params, x, w, y, workspace);
      break;
    case Choice::Kind::gemm:
      return run_product(key.pass, key.params, key.add, x, w, y);
    case Choice::Kind::product:  // see conv2d_forward_stats()
      if constexpr (sizeof(T) == 2) {
        if (key.pass == ConvPass::backward_weight) return conv_few_weight(key.params, x, y, w, workspace);
        return conv_product_add(pixels_of(key.params), key.params.in_c, key.params.out_c, y, w, x);
      }
      break;
    case Choice::Kind::plain:
      return plain_convolution(key.pass, key.params, x, w, y);
    case Choice::Kind::apart:
      break;  // says what not to do
  }
}

// --- measuring ---

/// Whether the product of patches computes it.
bool has_patches(const ConvKey& key) {
  return key.type != CUDNN_DATA_FLOAT && can_patch(key.pass, key.params);
}

int64_t size_of_x(const Conv2dParams& p) { return p.batch * p.in_h * p.in_w * p.in_c; }
int64_t size_of_y(const Conv2dParams& p) { return p.batch * p.out_h() * p.out_w() * p.out_c; }

/// Whether a candidate for a sum adds indeed, or nothing where that can't be told: cuDNN proposes for a sum
/// what it proposes without. Overwrites dx.
template <class T>
std::optional<bool> adds(const State& s, const ConvKey& key, const Choice& candidate, const Buffers& b,
                         void* workspace) {
  const int64_t size = size_of_x(key.params);
  std::vector<T> some(size_t(std::min(size, int64_t{4096})));
  const auto add_to = [&](float start) {
    const T value(start);
    fill(sizeof(T), size, &value, b.x);
    execute<T>(s, key, candidate, b, workspace);
    download(some.data(), b.x, int64_t(some.size() * sizeof(T)));
    return std::vector<float>(some.begin(), some.end());
  };
  const std::vector<float> terms = add_to(0);
  float start = 1;
  for (const float term : terms)
    if (std::abs(term) < 1024) start = std::max(start, std::abs(term));
  return are_sums(terms, add_to(start), start);
}

/// The fastest. Every candidate writes all of the output, and the one that is chosen will do so last: so the
/// caller's buffers serve, in the state of caches and with the numbers that they have. `trial` is what sums
/// are tried on.
template <class T>
Choice fastest(const State& s, const ConvKey& key, const Buffers& b, const Buffers& trial = {}) {
  std::vector<Choice> candidates;
  for (auto& plan : conv_plans(key, s.target(), kMaxCandidates, kMaxWorkspace))
    candidates.push_back({Choice::Kind::plan, std::move(plan)});
  const int64_t copies = padded_bytes(key.params);
  if (can_pad(key) && copies <= kMaxWorkspace)
    for (auto& plan : conv_plans(padded_key(key), s.target(), kMaxPadded, kMaxWorkspace - copies))
      candidates.push_back({.kind = Choice::Kind::padded, .plan = std::move(plan), .copies = copies});
  if (const int64_t bytes = patches_bytes(key.params); has_patches(key) && bytes <= kMaxWorkspace)
    candidates.push_back({.kind = Choice::Kind::patches, .plan = nullptr, .copies = bytes});
  if (is_product(key.params)) candidates.push_back({Choice::Kind::gemm, nullptr});
  if (key.add && is_product(key.params) &&
      has_conv_product<T>(pixels_of(key.params), key.params.in_c, key.params.out_c))
    candidates.push_back({Choice::Kind::product, nullptr});
  if (key.pass == ConvPass::backward_weight && has_conv_few<T>(key.params))
    candidates.push_back(
        {.kind = Choice::Kind::product, .plan = nullptr, .copies = conv_few_weight_bytes(key.params)});
  const Choice::Kind otherwise = key.add ? Choice::Kind::apart : Choice::Kind::plain;
  if (candidates.empty()) return {otherwise, nullptr, true};

  const auto need = [&] {
    int64_t bytes = 0;
    for (const Choice& c : candidates) bytes = std::max(bytes, c.workspace());
    return bytes;
  };
  // Memory of its own: scratch() would keep the size of the hungriest candidate.
  Memory own(need() > kSmallWorkspace ? allocate_own(need()) : nullptr);
  size_t dropped = 0;
  if (!own)
    dropped = std::erase_if(candidates, [](const Choice& c) { return c.workspace() > kSmallWorkspace; });
  if (candidates.empty()) return {otherwise, nullptr, true, /*lasting=*/false};
  void* workspace = own ? own.get() : need() > 0 ? scratch(need()) : nullptr;

  const Choice* best = nullptr;
  float best_time = 0;
  std::string why;
  bool refuted = false;  // some were seen not to add
  for (const Choice& candidate : candidates) try {
      if (key.add) {
        const std::optional<bool> sum = adds<T>(s, key, candidate, trial, workspace);
        refuted |= sum == false;
        if (sum != true) continue;
      }
      const float time = time_of([&] { execute<T>(s, key, candidate, b, workspace); });
      if (!best || time < best_time) {
        best = &candidate;
        best_time = time;
      }
    } catch (const OutOfMemoryError&) {
      ++dropped;
    } catch (const Error& e) {
      why = e.what();
    }
  if (!best && key.add) return {otherwise, nullptr, true, /*lasting=*/refuted && dropped == 0};
  if (!best && dropped > 0) return {otherwise, nullptr, true, /*lasting=*/false};
  if (!best) throw Error("no algorithm for this convolution (" + key.text() + ") could run: " + why);
  Choice choice = *best;
  choice.measured = true;
  choice.lasting = dropped == 0;
  return choice;
}

// --- choosing ---

const std::string kPadded = "padded ";  // before the plan
const std::string kPatches = "patches";
const std::string kProduct = "product";

Choice from_text(const State& s, const ConvKey& key, const std::string& text) {
  if (text == "gemm") return {Choice::Kind::gemm, nullptr, true};
  if (text == "plain") return {Choice::Kind::plain, nullptr, true};
  if (text == kProduct)
    return {.kind = Choice::Kind::product,
            .plan = nullptr,
            .measured = true,
            .copies = key.pass == ConvPass::backward_weight ? conv_few_weight_bytes(key.params) : 0};
  if (text == "apart") return {Choice::Kind::apart, nullptr, true};
  if (text == kPatches && has_patches(key))
    return {.kind = Choice::Kind::patches,
            .plan = nullptr,
            .measured = true,
            .copies = patches_bytes(key.params)};
  const bool padded = text.starts_with(kPadded);
  const std::string plan = padded ? text.substr(kPadded.size()) : text;
  return {.kind = padded ? Choice::Kind::padded : Choice::Kind::plan,
          .plan = std::make_shared<const cudnn::Plan>(plan, s.target()),
          .measured = true,
          .copies = padded ? padded_bytes(key.params) : 0};
}
std::string to_text(const Choice& choice) {
  switch (choice.kind) {
    case Choice::Kind::patches:
      return kPatches;
    case Choice::Kind::gemm:
      return "gemm";
    case Choice::Kind::product:
      return kProduct;
    case Choice::Kind::plain:
      return "plain";
    case Choice::Kind::apart:
      return "apart";
    case Choice::Kind::padded:
      return kPadded + choice.plan->json();
    case Choice::Kind::plan:
      break;
  }
  return choice.plan->json();
}

/// What is known of a key, from this process or from the folder; else null.
const Choice* known_choice(State& s, const ConvKey& key, const std::string& folder) {
  const auto known = s.choices.find(key);
  if (known != s.choices.end() && known->second.measured) return &known->second;
  if (!folder.empty() && !key.deterministic)
    if (const auto text = read_plan(folder, s.name_of(key))) try {
        return &(s.choices[key] = from_text(s, key, *text));
      } catch (const Error&) {
        // Of a device that only shares its name with this one: find another.
      }
  return known != s.choices.end() ? &known->second : nullptr;
}

const Choice& keep(State& s, const ConvKey& key, const std::string& folder, Choice choice) {
  const Choice& kept = s.choices[key] = std::move(choice);
  if (!folder.empty() && kept.measured && kept.lasting) try {
      write_plan(folder, s.name_of(key), to_text(kept));
    } catch (const Error&) {
      // Not all plans can be written down.
    }
  return kept;
}

template <class T>
const Choice& choose(State& s, const ConvKey& key, const Buffers& b) {
  const bool measure = can_measure();
  const std::string folder = plan_cache_folder();
  const Choice* known = known_choice(s, key, folder);
  if (known && (known->measured || !measure)) return *known;
  if (measure) {
    const FirstLane others_wait;
    return keep(s, key, folder, fastest<T>(s, key, b));
  }
  const auto first = conv_plans(key, s.target(), 1, kMaxWorkspace);
  return s.choices[key] = first.empty() ? Choice{} : Choice{Choice::Kind::plan, first.front()};
}

/// Whether cuDNN may see them.
bool aligned(const Buffers& b) {
  return std::ranges::all_of(std::array{b.x, b.w, b.y},
                             [](void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; });
}

template <class T>
ConvKey key_of(ConvPass pass, const Conv2dParams& p) {
  return {.pass = pass,
          .type = cudnn::data_type<T>(),
          .params = p,
          .tf32 = std::is_same_v<T, float> && float32_matmul_precision() != MatmulPrecision::highest,
          .deterministic = deterministic(),
          .exact = exact()};
}

/// One pass, of which x, w or y is the output.
template <class T>
void convolution(ConvPass pass, const Conv2dParams& p, const T* x, const T* w, const T* y) {
  // The outputs alone are written, and they came as pointers to what can be.
  const Buffers b{const_cast<T*>(x), const_cast<T*>(w), const_cast<T*>(y)};
  if (p.multiply_adds() == 0) {  // sums of nothing
    const int64_t sizes[] = {p.batch * p.out_h() * p.out_w() * p.out_c, p.batch * p.in_h * p.in_w * p.in_c,
                             p.out_c * p.kernel_h * p.kernel_w * (p.in_c / p.groups)};
    void* const outputs[] = {b.y, b.x, b.w};
    if (const int64_t n = sizes[int(pass)])
      check(cudaMemsetAsync(outputs[int(pass)], 0, size_t(n) * sizeof(T), stream()), "cudaMemsetAsync");
    return;
  }
  if (!aligned(b) || own_kernels_only())
    return plain_convolution(pass, p, static_cast<T*>(b.x), static_cast<T*>(b.w), static_cast<T*>(b.y));
  State& s = state();
  const std::lock_guard lock(s.mutex);
  const ConvKey key = key_of<T>(pass, p);
  const Choice& choice = choose<T>(s, key, b);
  execute<T>(s, key, choice, b, choice.workspace() > 0 ? scratch(choice.workspace()) : nullptr);
}

// --- added to dx ---

/// The same on memory of its own, as each run of a candidate changes dx; `apart` where that can't be had.
/// Tried on a dy of its own, too: the caller's may be all zeros, as in the first step of a network whose
/// blocks begin with nothing, or not finite, as in the first steps in f16.
template <class T>
Choice fastest_add(const State& s, const ConvKey& key, Buffers b) {
  const int64_t size = size_of_y(key.params);
  const Memory dx(allocate_own(size_of_x(key.params) * int64_t(sizeof(T))));
  const Memory dy(allocate_own(size * int64_t(sizeof(T))));
  if (!dx || !dy) return {Choice::Kind::apart, nullptr, true, /*lasting=*/false};
  const T value(1.0f / 64);
  fill(sizeof(T), size, &value, dy.get());
  b.x = dx.get();
  return fastest<T>(s, key, b, {dx.get(), b.w, dy.get()});
}

template <class T>
bool conv2d_backward_input_add(const Conv2dParams& p, const T* dy, const T* w, T* dx, void*) {
  if (p.multiply_adds() == 0) return true;
  const Buffers b{dx, const_cast<T*>(w), const_cast<T*>(dy)};
  if (!aligned(b)) return false;
  if (own_kernels_only()) {
    if (!is_product(p)) return false;
    if constexpr (sizeof(T) == 2)
      if (has_conv_product<T>(pixels_of(p), p.in_c, p.out_c))
        return conv_product_add(pixels_of(p), p.in_c, p.out_c, dy, w, dx), true;
    run_product(ConvPass::backward_input, p, true, dx, const_cast<T*>(w), const_cast<T*>(dy));
    return true;
  }
  State& s = state();
  const std::lock_guard lock(s.mutex);
  ConvKey key = key_of<T>(ConvPass::backward_input, p);
  key.add = true;
  const bool measure = can_measure();
  const std::string folder = plan_cache_folder();
  const Choice* choice = known_choice(s, key, folder);
  if (measure && !(choice && choice->measured)) {
    const FirstLane others_wait;
    choice = &keep(s, key, folder, fastest_add<T>(s, key, b));
  } else if (!choice) {
    // Whether a plan adds would have to be tried.
    choice = &(s.choices[key] = {is_product(p) ? Choice::Kind::gemm : Choice::Kind::apart, nullptr});
  }
  if (choice->kind == Choice::Kind::apart) return false;
  execute<T>(s, key, *choice, b, choice->workspace() > 0 ? scratch(choice->workspace()) : nullptr);
  return true;
}

// --- with statistics ---

/// Our kernel, or the fastest convolution and what batch norm does without statistics, each with a batch norm
/// behind it. Its vectors are stand-ins, and y is overwritten.
template <class T>
Choice fastest_stats(State& s, const ConvKey& key, const Buffers& b, float* mean, float* var) {
  const Conv2dParams& p = key.params;
  T *x = static_cast<T*>(b.x), *w = static_cast<T*>(b.w), *y = static_cast<T*>(b.y);
  const KernelTable<T>& k = table<T>();
  const BatchNormArgs<T> a{.rows = pixels_of(p),
                           .channels = p.out_c,
                           .x = y,
                           .mean = mean,
                           .invstd = var,
                           .weight = var,
                           .bias = mean,
                           .activation = Activation::mish};
  constexpr double kEps = 1e-5, kMomentum = 0.1;
  const float own = time_of([&] {
    conv_stats(p, x, w, y, mean, var);
    k.batch_norm_update(a.rows, a.channels, kEps, kMomentum, mean, var, nullptr, nullptr, var);
    k.batch_norm_forward(a, y);
  });
  ConvKey plain = key;
  plain.stats = false;
  const Choice& choice = choose<T>(s, plain, b);
  const float two = time_of([&] {
    execute<T>(s, plain, choice, b, choice.workspace() > 0 ? scratch(choice.workspace()) : nullptr);
    if (k.batch_norm_forward_once(a, kEps, kMomentum, mean, nullptr, nullptr, var, y)) return;
    k.batch_norm_stats_update(a.rows, a.channels, kEps, kMomentum, y, mean, var, nullptr, nullptr, var);
    k.batch_norm_forward(a, y);
  });
  return {own < two ? Choice::Kind::product : Choice::Kind::apart, nullptr, true};
}

template <class T>
bool conv2d_forward_stats(const Conv2dParams& p, const T* x, const T* w, const T* bias, T* y, float* mean,
                          float* var, void*) {
  if constexpr (sizeof(T) == 2) {
    if (bias || !has_conv_stats<T>(p)) return false;
    const Buffers b{const_cast<T*>(x), const_cast<T*>(w), y};
    if (!aligned(b)) return false;
    if (own_kernels_only()) return conv_stats(p, x, w, y, mean, var), true;
    State& s = state();
    const std::lock_guard lock(s.mutex);
    ConvKey key = key_of<T>(ConvPass::forward, p);
    key.stats = true;
    const std::string folder = plan_cache_folder();
    const Choice* choice = known_choice(s, key, folder);
    if (!choice) {
      if (!can_measure()) return false;
      const FirstLane others_wait;
      choice = &keep(s, key, folder, fastest_stats<T>(s, key, b, mean, var));
    }
    if (choice->kind == Choice::Kind::apart) return false;
    conv_stats(p, x, w, y, mean, var);
    return true;
  }
  return false;
}

// --- the table's entries ---

template <class T>
void conv2d_forward(const Conv2dParams& p, const T* x, const T* w, const T* bias, T* y, void*) {
  convolution<T>(ConvPass::forward, p, x, w, y);
  if (bias) add_bias(pixels_of(p), p.out_c, bias, y);
}

template <class T>
void conv2d_backward_input(const Conv2dParams& p, const T* dy, const T* w, T* dx, void*) {
  convolution<T>(ConvPass::backward_input, p, dx, w, dy);
}

template <class T>
void conv2d_backward_weight(const Conv2dParams& p, const T* x, const T* dy, T* dw, void*) {
  convolution<T>(ConvPass::backward_weight, p, x, dw, dy);
}

}  // namespace

template <class T>
void set_conv2d(KernelTable<T>& table) {
  table.conv2d_algorithm = [](const Conv2dParams&, ConvPass) { return ConvAlgorithm::direct; };
  // Plans take their memory from scratch(): which plan it will be is known only at the call.
  table.conv2d_workspace = [](const Conv2dParams&, ConvPass) { return int64_t{0}; };
  table.conv2d_forward = conv2d_forward<T>;
  table.conv2d_forward_stats = conv2d_forward_stats<T>;
  table.conv2d_backward_input = conv2d_backward_input<T>;
  table.conv2d_backward_input_add = conv2d_backward_input_add<T>;
  table.conv2d_backward_weight = conv2d_backward_weight<T>;
}

template void set_conv2d(KernelTable<float>&);
template void set_conv2d(KernelTable<bf16>&);
template void set_conv2d(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
