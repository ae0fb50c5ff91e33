// Convolutions by cuDNN. Which of its plans computes a shape is found at the first call: the first that
// suits, or the fastest of some, with cuBLASLt's product among them for 1x1 filters. A shape without a plan
// runs on the plain kernels.
#include "weft/kernels/convolution.h"

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "weft/kernels/cuda/conv_plans.h"
#include "weft/kernels/cuda/convolution_kernels.h"
#include "weft/kernels/cuda/cudnn.h"
#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/plan_cache.h"

namespace weft::kernels::cuda {
namespace {

constexpr int64_t kMaxWorkspace = int64_t{256} << 20;
constexpr int64_t kSmallWorkspace = int64_t{16} << 20;  // where the GPU's memory is short
constexpr size_t kMaxCandidates = 10;                   // as PyTorch's torch.backends.cudnn.benchmark_limit
constexpr int kRuns = 5, kCallsPerRun = 4;

/// How to compute one key.
struct Choice {
  enum class Kind { plan, gemm, plain };
  Kind kind = Kind::plain;
  std::shared_ptr<const cudnn::Plan> plan;
  bool measured = false;  // or just the first that suits

  int64_t workspace() const { return plan ? plan->workspace() : 0; }
};

struct Buffers {
  void *x, *w, *y;  // or their gradients
};

struct State {
  std::mutex mutex;
  cudnnHandle_t handle = nullptr;
  std::string machine;  // what plans depend on besides their key
  std::unordered_map<ConvKey, Choice, ConvKeyHash> choices;

  cudnn::Target target() const { return {.handle = handle}; }
};

// Never destroyed: at the end of the process CUDA may be gone before it.
State& state() {
  static State* const made = [] {
    auto* s = new State;
    const cudaStream_t to = stream();  // chooses the device
    cudnn::check(cudnnCreate(&s->handle), "cudnnCreate");
    cudnn::check(cudnnSetStream(s->handle, to), "cudnnSetStream");
    s->machine = "cudnn " + std::to_string(cudnnGetVersion()) + " on " + device_info().name;
    return s;
  }();
  return *made;
}

// --- running ---

/// A 1x1 filter with step 1 is a matrix product as it stands.
bool is_product(const Conv2dParams& p) {
  return p.kernel_h == 1 && p.kernel_w == 1 && p.stride_h == 1 && p.stride_w == 1 && p.pad_h == 0 &&
         p.pad_w == 0 && p.groups == 1;
}

template <class T>
void run_product(ConvPass pass, const Conv2dParams& p, T* x, T* w, T* y) {
  const int64_t pixels = p.batch * p.in_h * p.in_w, C = p.in_c, K = p.out_c;
  const auto gemm = table<T>().gemm;
  switch (pass) {
    case ConvPass::forward:  // y [pixels, K] = x [pixels, C] w' [C, K]
      return gemm({.m = pixels, .n = K, .k = C, .transpose_b = true, .lda = C, .ldb = C, .ldc = K}, x, w, y);
    case ConvPass::backward_input:  // dx = dy w
      return gemm({.m = pixels, .n = C, .k = K, .lda = K, .ldb = C, .ldc = C}, y, w, x);
    case ConvPass::backward_weight:  // dw = dy' x
      return gemm({.m = K, .n = C, .k = pixels, .transpose_a = true, .lda = K, .ldb = C, .ldc = C}, y, x, w);
  }
}

template <class T>
void execute(const State& s, const ConvKey& key, const Choice& choice, const Buffers& b, void* workspace) {
  T *x = static_cast<T*>(b.x), *w = static_cast<T*>(b.w), *y = static_cast<T*>(b.y);
  switch (choice.kind) {
    case Choice::Kind::plan: {
      const std::array<int64_t, 3> ids{kConvX, kConvW, kConvY};
      const std::array<void*, 3> pointers{b.x, b.w, b.y};
      return choice.plan->execute(s.handle, ids, pointers, workspace);
    }
    case Choice::Kind::gemm:
      return run_product(key.pass, key.params, x, w, y);
    case Choice::Kind::plain:
      return plain_convolution(key.pass, key.params, x, w, y);
  }
}

// --- measuring ---

/// Things of CUDA that go with the scope.
template <class Handle, cudaError_t (*Destroy)(Handle)>
struct Owned {
  Handle handle = nullptr;
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle) Destroy(handle);
  }
};
using Event = Owned<cudaEvent_t, cudaEventDestroy>;

/// The median time of run() in milliseconds. It runs out of a captured graph: launched one by one, short
/// kernels would show the time that the CPU takes to launch them.
float time_of(const std::function<void()>& run) {
  run();  // loads kernels
  synchronize();
  Owned<cudaGraph_t, cudaGraphDestroy> graph;
  Owned<cudaGraphExec_t, cudaGraphExecDestroy> exec;
  check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
  try {
    for (int i = 0; i < kCallsPerRun; ++i) run();
  } catch (...) {
    cudaStreamEndCapture(stream(), &graph.handle);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(stream(), &graph.handle), "cudaStreamEndCapture");
  check(cudaGraphInstantiate(&exec.handle, graph.handle, 0), "cudaGraphInstantiate");
  check(cudaGraphLaunch(exec.handle, stream()), "cudaGraphLaunch");

  std::array<Event, kRuns + 1> events;
  for (Event& e : events) check(cudaEventCreate(&e.handle), "cudaEventCreate");
  check(cudaEventRecord(events[0].handle, stream()), "cudaEventRecord");
  for (size_t i = 1; i < events.size(); ++i) {
    check(cudaGraphLaunch(exec.handle, stream()), "cudaGraphLaunch");
    check(cudaEventRecord(events[i].handle, stream()), "cudaEventRecord");
  }
  synchronize();
  std::array<float, kRuns> times{};
  for (size_t i = 0; i < times.size(); ++i)
    check(cudaEventElapsedTime(&times[i], events[i].handle, events[i + 1].handle), "cudaEventElapsedTime");
  std::nth_element(times.begin(), times.begin() + kRuns / 2, times.end());
  return times[kRuns / 2] / kCallsPerRun;
}

/// The fastest. Every candidate writes all of the output, and the one that is chosen will do so last: so the
/// caller's buffers serve, in the state of caches and with the numbers that they have.
template <class T>
Choice fastest(const State& s, const ConvKey& key, const Buffers& b) {
  std::vector<Choice> candidates;
  for (auto& plan : conv_plans(key, s.target(), kMaxCandidates, kMaxWorkspace))
    candidates.push_back({Choice::Kind::plan, std::move(plan)});
  if (is_product(key.params)) candidates.push_back({Choice::Kind::gemm, nullptr});
  if (candidates.empty()) candidates.push_back({Choice::Kind::plain, nullptr});

  const auto need = [&] {
    int64_t bytes = 0;
    for (const Choice& c : candidates) bytes = std::max(bytes, c.workspace());
    return bytes;
  };
  // Memory of its own: scratch() would keep the size of the hungriest candidate.
  struct Release {
    void operator()(void* memory) const { release(memory); }
  };
  std::unique_ptr<void, Release> own(need() > kSmallWorkspace ? allocate(need()) : nullptr);
  if (!own) std::erase_if(candidates, [](const Choice& c) { return c.workspace() > kSmallWorkspace; });
  if (candidates.empty()) return {Choice::Kind::plain, nullptr};
  void* workspace = own ? own.get() : need() > 0 ? scratch(need()) : nullptr;

  const Choice* best = nullptr;
  float best_time = 0;
  std::string why;
  for (const Choice& candidate : candidates) try {
      const float time = time_of([&] { execute<T>(s, key, candidate, b, workspace); });
      if (!best || time < best_time) {
        best = &candidate;
        best_time = time;
      }
    } catch (const Error& e) {
      why = e.what();
    }
  if (!best) throw Error("no algorithm for this convolution (" + key.text() + ") could run: " + why);
  Choice choice = *best;
  choice.measured = true;
  return choice;
}

// --- choosing ---

Choice from_text(const State& s, const std::string& text) {
  if (text == "gemm") return {Choice::Kind::gemm, nullptr, true};
  if (text == "plain") return {Choice::Kind::plain, nullptr, true};
  return {Choice::Kind::plan, std::make_shared<const cudnn::Plan>(text, s.target()), true};
}
std::string to_text(const Choice& choice) {
  return choice.kind == Choice::Kind::gemm    ? "gemm"
         : choice.kind == Choice::Kind::plain ? "plain"
                                              : choice.plan->json();
}

template <class T>
const Choice& choose(State& s, const ConvKey& key, const Buffers& b) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream(), &capture), "cudaStreamIsCapturing");
  const bool measure = conv_autotune() && !key.deterministic && capture == cudaStreamCaptureStatusNone;
  const auto known = s.choices.find(key);
  if (known != s.choices.end() && (known->second.measured || !measure)) return known->second;

  const std::string folder = key.deterministic ? std::string() : plan_cache_folder();
  const std::string name = key.text() + ", " + s.machine;
  if (!folder.empty())
    if (const auto text = read_plan(folder, name)) try {
        return s.choices[key] = from_text(s, *text);
      } catch (const Error&) {
        // Of a device that only shares its name with this one: find another.
      }
  if (!measure) {
    const auto first = conv_plans(key, s.target(), 1, kMaxWorkspace);
    return s.choices[key] = first.empty() ? Choice{} : Choice{Choice::Kind::plan, first.front()};
  }
  const Choice& chosen = s.choices[key] = fastest<T>(s, key, b);
  if (!folder.empty() && chosen.measured) try {
      write_plan(folder, name, to_text(chosen));
    } catch (const Error&) {
      // Not all plans can be written down.
    }
  return chosen;
}

/// A power of two, at most 16, that divides all addresses.
int64_t alignment(const Buffers& b) {
  const uintptr_t bits = reinterpret_cast<uintptr_t>(b.x) | reinterpret_cast<uintptr_t>(b.w) |
                         reinterpret_cast<uintptr_t>(b.y) | 16u;
  return int64_t(bits & (~bits + 1));
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
  State& s = state();
  const std::lock_guard lock(s.mutex);
  const ConvKey key{.pass = pass,
                    .type = cudnn::data_type<T>(),
                    .params = p,
                    .tf32 = std::is_same_v<T, float> && allow_tf32(),
                    .deterministic = deterministic(),
                    .exact = exact(),
                    .alignment = alignment(b)};
  const Choice& choice = choose<T>(s, key, b);
  execute<T>(s, key, choice, b, choice.workspace() > 0 ? scratch(choice.workspace()) : nullptr);
}

// --- the table's entries ---

template <class T>
void conv2d_forward(const Conv2dParams& p, const T* x, const T* w, const T* bias, T* y, void*) {
  convolution<T>(ConvPass::forward, p, x, w, y);
  if (bias) add_bias(p.batch * p.out_h() * p.out_w(), p.out_c, bias, y);
}

template <class T>
void conv2d_forward_stats(const Conv2dParams& p, const T* x, const T* w, const T* bias, T* y, Wide<T>* mean,
                          Wide<T>* var, void* workspace) {
  conv2d_forward(p, x, w, bias, y, workspace);
  table<T>().batch_norm_stats(p.batch * p.out_h() * p.out_w(), p.out_c, y, mean, var);
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
  table.conv2d_backward_weight = conv2d_backward_weight<T>;
}

template void set_conv2d(KernelTable<float>&);
template void set_conv2d(KernelTable<bf16>&);
template void set_conv2d(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
