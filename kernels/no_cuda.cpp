// In the place of kernels/cuda/ in a build without CUDA.
#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/augment.h"
#include "weft/kernels/cuda/metrics.h"
#include "weft/kernels/cuda/timing.h"
#include "weft/kernels/cuda/uploader.h"
#include "weft/kernels/updates/multi_tensor.h"

namespace weft::kernels::cuda {
namespace {

constexpr const char* kReason = "this weft was built without CUDA; build it with WEFT_CUDA=ON";

[[noreturn]] void absent() { throw Error(kReason); }

}  // namespace

template <class T>
const KernelTable<T>& table() {
  absent();
}
template const KernelTable<float>& table<float>();
template const KernelTable<bf16>& table<bf16>();
template const KernelTable<f16>& table<f16>();

int device_count(std::string* why) {
  if (why) *why = kReason;
  return 0;
}
DeviceInfo device_info() { absent(); }
void use_device(int) { absent(); }
void synchronize() { absent(); }
bool ranges_on() { return false; }
void push_range(const char*) {}
void pop_range() {}
bool deterministic() { return false; }
void set_deterministic(bool) {}
bool conv_autotune() { return true; }
void set_conv_autotune(bool) {}
std::string plan_cache_folder() { return {}; }
void set_plan_cache_folder(std::string) {}
int64_t run_beside(const std::function<void()>&) { absent(); }
void await_beside(int64_t) {}
void* allocate(int64_t) { absent(); }
void release(void*) noexcept {}
void set_reclaim(void (*)()) {}
void upload(void*, const void*, int64_t) { absent(); }
void download(void*, const void*, int64_t) { absent(); }
void copy(void*, const void*, int64_t) { absent(); }
void copy_rows(const void*, int64_t, void*, int64_t, int64_t, int64_t) { absent(); }
void permute(int, int, const int64_t*, const int64_t*, const void*, void*) { absent(); }
void fill(int, int64_t, const void*, void*) { absent(); }

template <class From, class To>
void convert(int64_t, const From*, To*) {
  absent();
}
#define WEFT_CONVERT_TO(From, To) template void convert(int64_t, const From*, To*);
#define WEFT_CONVERT(From)       \
  WEFT_CONVERT_TO(From, float)   \
  WEFT_CONVERT_TO(From, bf16)    \
  WEFT_CONVERT_TO(From, f16)     \
  WEFT_CONVERT_TO(From, int64_t) \
  WEFT_CONVERT_TO(From, uint8_t)
WEFT_CONVERT(float)
WEFT_CONVERT(bf16)
WEFT_CONVERT(f16)
WEFT_CONVERT(int64_t)
WEFT_CONVERT(uint8_t)

const UpdateKernels* find_update(std::string_view) { return nullptr; }
void gradient_norm(const GradientLaunch&, double, ClipResult*) { absent(); }
void scale_gradients(const GradientLaunch&, const ClipResult*) { absent(); }
void clip_gradients(const GradientLaunch&, float) { absent(); }
void unscale_gradients(const GradientLaunch&, const float*, float*) { absent(); }
void update_loss_scale(const updates::LossScaleRule&, float*, float*, int64_t*, int64_t*, int64_t*) {
  absent();
}

template <class From, class To>
void convert_all(std::span<const Conversion<From, To>>) {
  absent();
}
template void convert_all(std::span<const Conversion<float, bf16>>);
template void convert_all(std::span<const Conversion<float, f16>>);
template void convert_all(std::span<const Conversion<bf16, float>>);
template void convert_all(std::span<const Conversion<f16, float>>);

struct Graph::Impl {};
Graph::Graph(std::unique_ptr<Impl>) {}
Graph::~Graph() = default;
void Graph::launch() { absent(); }
int64_t Graph::nodes() const { return 0; }
int64_t work_count() { absent(); }
void upload_each_step(void*, int64_t, std::function<void(void*)>) { absent(); }
std::unique_ptr<Graph> capture(const std::function<void()>&) { absent(); }
bool capturing() { return false; }

template <class T>
void augment(const AugmentArgs&, const PictureView*, const uint8_t*, T*) {
  absent();
}
template <class From, class To>
void mixup(int64_t, int64_t, const MixView*, const From*, To*) {
  absent();
}
template <class To>
void mixup_padded(int64_t, int64_t, int, const MixView*, const float*, To*) {
  absent();
}
#define WEFT_AUGMENT(T)                                                              \
  template void augment(const AugmentArgs&, const PictureView*, const uint8_t*, T*); \
  template void mixup(int64_t, int64_t, const MixView*, const T*, T*);               \
  template void mixup_padded(int64_t, int64_t, int, const MixView*, const float*, T*);
WEFT_AUGMENT(float)
WEFT_AUGMENT(bf16)
WEFT_AUGMENT(f16)
template void mixup(int64_t, int64_t, const MixView*, const float*, bf16*);
template void mixup(int64_t, int64_t, const MixView*, const float*, f16*);
void padded_crop(const PaddedCropArgs&, const Retouch*, const float*, float*) { absent(); }
void retouch(const RetouchArgs&, const Retouch*, float*) { absent(); }
void gather_labels(int64_t, const int64_t*, const int64_t*, int64_t*) { absent(); }
void mix_targets(int64_t, int64_t, const MixView*, const int64_t*, float*) { absent(); }
int64_t free_memory() { absent(); }

struct Timer::Impl {};
Timer::Timer() { absent(); }
Timer::~Timer() = default;
void Timer::mark() { absent(); }
std::vector<double> Timer::seconds() { absent(); }

struct Uploader::Impl {};
Uploader::Uploader(int64_t) { absent(); }
Uploader::~Uploader() = default;
void* Uploader::staging() { absent(); }
void Uploader::start(int64_t) { absent(); }
const void* Uploader::receive() { absent(); }
void Uploader::done() { absent(); }

template <class T>
void accumulate_metrics(int64_t, int64_t, const T*, const int64_t*, const float*, double*) {
  absent();
}
template void accumulate_metrics(int64_t, int64_t, const float*, const int64_t*, const float*, double*);
template void accumulate_metrics(int64_t, int64_t, const bf16*, const int64_t*, const float*, double*);
template void accumulate_metrics(int64_t, int64_t, const f16*, const int64_t*, const float*, double*);

}  // namespace weft::kernels::cuda
