#include "weft/engine/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "weft/engine/tape.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/parallel.h"
#include "weft/kernels/philox.h"

namespace weft {
namespace {

constexpr int64_t kGrain = 1 << 15;  // elements per task of the plain loops

/// Calls body with a null T* for the element type of `dtype`.
template <class Body>
void with_type(const char* what, DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return body(static_cast<float*>(nullptr));
    case DType::f64:
      return body(static_cast<double*>(nullptr));
    case DType::i64:
      return body(static_cast<int64_t*>(nullptr));
    case DType::u8:
      return body(static_cast<uint8_t*>(nullptr));
    case DType::bf16:
      return body(static_cast<bf16*>(nullptr));
    case DType::f16:
      return body(static_cast<f16*>(nullptr));
  }
  fail(what, ": unknown dtype");
}

template <class T>
constexpr bool is_half_type = std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

/// static_cast, by way of float for the 16-bit types.
template <class To, class From>
To convert(From x) {
  if constexpr (is_half_type<From>)
    return convert<To>(float(x));
  else if constexpr (is_half_type<To>)
    return To(float(x));
  else
    return static_cast<To>(x);
}

/// Whether they share memory, as parts of one tensor may.
bool overlap(const Tensor& a, const Tensor& b) {
  const auto begin = [](const Tensor& t) { return reinterpret_cast<uintptr_t>(t.raw()); };
  const auto end = [&](const Tensor& t) { return begin(t) + uintptr_t(t.bytes()); };
  return begin(a) < end(b) && begin(b) < end(a);
}

void convert_on_gpu(const Tensor& from, const Tensor& to) {
  check(from.dtype() != DType::f64 && to.dtype() != DType::f64,
        "copy_from: a GPU has no kernels for f64; convert on the CPU");
  with_type("copy_from", to.dtype(), [&]<class To>(To*) {
    with_type("copy_from", from.dtype(), [&]<class From>(From*) {
      if constexpr (!std::is_same_v<To, double> && !std::is_same_v<From, double>)
        kernels::cuda::convert(to.numel(), static_cast<const From*>(from.raw()), static_cast<To*>(to.raw()));
    });
  });
}

/// Fills a floating tensor from a function of four random words per pair of elements. What rounding takes to
/// `high` becomes the next number below.
template <class Pair>
Tensor random_fill(const Shape& shape, Generator& generator, DType dtype, Pair pair,
                   double high = std::numeric_limits<double>::quiet_NaN()) {
  check(dtype == DType::f32 || dtype == DType::f64, "random: dtype ", dtype,
        " can't hold random reals; use f32 or f64");
  Tensor t = Tensor::empty(shape, dtype);
  const uint64_t key = generator.next_key();
  with_type("random", dtype, [&]<class T>(T*) {
    T* out = static_cast<T*>(t.raw());
    const int64_t n = t.numel();
    const auto rounded = [&](double v) {
      const T r = T(v);
      if constexpr (std::is_floating_point_v<T>)
        if (double(r) >= high) return std::nextafter(r, std::numeric_limits<T>::lowest());
      return r;
    };
    kernels::parallel_ranges((n + 1) / 2, kGrain / 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto w = kernels::philox(key, uint64_t(i));
        const auto [a, b] = pair(kernels::uniform_double(w[0], w[1]), kernels::uniform_double(w[2], w[3]));
        out[2 * i] = rounded(a);
        if (2 * i + 1 < n) out[2 * i + 1] = rounded(b);
      }
    });
  });
  return t;
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  Tensor t;
  t.impl_ = std::make_shared<Impl>();
  t.impl_->shape = shape;
  t.impl_->numel = shape.numel();
  t.impl_->dtype = dtype;
  int64_t bytes;
  check(!__builtin_mul_overflow(t.impl_->numel, size_of(dtype), &bytes), "tensor: shape ", shape, " of ",
        dtype, " is too large");
  t.impl_->storage = std::make_shared<Storage>(size_t(bytes), device);
  return t;
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  t.fill(value);
  return t;
}

Tensor Tensor::arange(double start, double end, double step, DType dtype, Device device) {
  const double n = std::ceil((end - start) / step);
  check(n >= 0 && n < 0x1p53, "arange: from ", start, " to ", end, " by ", step,
        "; the step must lead to the end");
  const Tensor t = empty({int64_t(n)}, dtype);
  with_type("arange", dtype, [&]<class T>(T*) {
    for (int64_t i = 0; i < t.numel(); ++i) t.data<T>()[i] = convert<T>(start + double(i) * step);
  });
  return t.to(device);
}

Tensor Tensor::uniform(const Shape& shape, double low, double high, Generator& generator, DType dtype) {
  check(low <= high, "uniform: nothing lies between ", low, " and ", high, "; give the lower bound first");
  const auto pair = [=](double a, double b) {
    return std::pair(low + (high - low) * a, low + (high - low) * b);
  };
  return low < high ? random_fill(shape, generator, dtype, pair, high)
                    : random_fill(shape, generator, dtype, pair);
}

Tensor Tensor::normal(const Shape& shape, double mean, double std, Generator& generator, DType dtype) {
  check(std >= 0, "normal: the standard deviation is ", std, ", but must be 0 or more");
  return random_fill(shape, generator, dtype, [=](double a, double b) {
    // 1 - a is in (0, 1], so the logarithm is finite.
    const double r = std * std::sqrt(-2 * std::log(1 - a)), angle = 2 * std::numbers::pi * b;
    return std::pair(mean + r * std::cos(angle), mean + r * std::sin(angle));
  });
}

double Tensor::item() const {
  check(numel() == 1, "item: a tensor of shape ", shape(), " has ", numel(), " elements, not one");
  return at(0);
}

double Tensor::at(int64_t index) const {
  check(index >= 0 && index < numel(), "at: index ", index, " is out of range for shape ", shape());
  double value = 0;
  with_type("at", dtype(), [&]<class T>(T*) {
    const T* place = static_cast<const T*>(raw()) + index;
    T element;
    if (device() == Device::cuda)
      kernels::cuda::download(&element, place, sizeof element);
    else
      element = *place;
    value = convert<double>(element);
  });
  return value;
}

std::string Tensor::to_string(int64_t limit) const {
  if (!defined()) return "undefined";
  std::string s = concat(dtype(), " ", shape());
  if (device() != Device::cpu) s += concat(" on ", device());
  s += " {";
  for (int64_t i = 0; i < std::min(limit, numel()); ++i) {
    s += i ? ", " : "";
    is_floating(dtype()) ? s += concat(at(i)) : s += concat(int64_t(at(i)));
  }
  return s + (numel() > limit ? ", ...}" : "}");
}

std::ostream& operator<<(std::ostream& out, const Tensor& t) { return out << t.to_string(); }

Tensor Tensor::clone() const {
  Tensor t = empty(shape(), dtype(), device());
  t.copy_from(*this);
  return t;
}

void Tensor::copy_from(const Tensor& source) const {
  check(shape() == source.shape(), "copy_from: shape ", source.shape(), " can't be copied into shape ",
        shape());
  const bool here = device() == Device::cpu, there = source.device() == Device::cpu;
  if (bytes() == 0 || (dtype() == source.dtype() && raw() == source.raw())) return;
  if (!here && !there && overlap(*this, source)) return copy_from(source.clone());
  count_change();
  if (dtype() == source.dtype()) {
    if (here && there)
      std::memmove(raw(), source.raw(), size_t(bytes()));
    else if (here)
      kernels::cuda::download(raw(), source.raw(), bytes());
    else if (there)
      kernels::cuda::upload(raw(), source.raw(), bytes());
    else
      kernels::cuda::copy(raw(), source.raw(), bytes());
    return;
  }
  if (!here && !there) return convert_on_gpu(source, *this);
  if (here != there) return copy_from(here ? source.to(Device::cpu) : source.to(dtype()));
  with_type("copy_from", dtype(), [&]<class To>(To*) {
    with_type("copy_from", source.dtype(), [&]<class From>(From*) {
      const From* from = static_cast<const From*>(source.raw());
      To* to = static_cast<To*>(raw());
      kernels::parallel_ranges(numel(), kGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) to[i] = convert<To>(from[i]);
      });
    });
  });
}

void Tensor::fill(double value) const {
  count_change();
  with_type("fill", dtype(), [&]<class T>(T*) {
    T* p = static_cast<T*>(raw());
    const T element = convert<T>(value);
    if (device() == Device::cuda)
      kernels::cuda::fill(sizeof(T), numel(), &element, p);
    else
      kernels::parallel_ranges(numel(), (256 << 10) / int64_t(sizeof(T)),
                               [=](int64_t begin, int64_t end) { std::fill(p + begin, p + end, element); });
  });
}

Tensor Tensor::to(DType wanted) const {
  if (dtype() == wanted) return *this;
  Tensor t = empty(shape(), wanted, device());
  t.copy_from(*this);
  return t;
}

Tensor Tensor::to(Device wanted) const {
  if (device() == wanted) return *this;
  Tensor t = empty(shape(), dtype(), wanted);
  t.copy_from(*this);
  return t;
}

void Tensor::copy_to_host(void* to) const {
  if (bytes() == 0) return;
  if (device() == Device::cuda)
    kernels::cuda::download(to, raw(), bytes());
  else
    std::memcpy(to, raw(), size_t(bytes()));
}

void Tensor::set_data(const Tensor& other) const {
  if (impl().storage == other.impl().storage) count_change();
  impl().storage = other.impl().storage;
  impl().offset = other.impl().offset;
  impl().shape = other.impl().shape;
  impl().numel = other.impl().numel;
  impl().dtype = other.impl().dtype;
}

Tensor Tensor::view(const Shape& shape) const {
  check(shape.numel() == numel(), "view: shape ", this->shape(), " has ", numel(), " elements, but ", shape,
        " needs ", shape.numel());
  Tensor t;
  t.impl_ = std::make_shared<Impl>(impl());
  t.impl_->shape = shape;
  t.impl_->variable = nullptr;
  return t;
}

Tensor Tensor::part(int64_t first, const Shape& shape) const {
  const int64_t n = shape.numel();
  check(first >= 0 && first <= numel() - n, "part: ", shape, " from element ", first,
        " on is not within a tensor of shape ", this->shape());
  Tensor t;
  t.impl_ = std::make_shared<Impl>(impl());
  t.impl_->offset += first * size_of(dtype());
  t.impl_->shape = shape;
  t.impl_->numel = n;
  t.impl_->variable = nullptr;
  return t;
}

bool Tensor::Moment::has_passed() const {
  const auto storage = storage_.lock();
  if (const auto handle = handle_.lock(); handle && handle->storage != storage) return true;  // set_data()
  return storage && storage->version() != version_;
}

bool Tensor::Moment::operator==(const Moment& other) const {
  const auto same = [](const auto& a, const auto& b) { return !a.owner_before(b) && !b.owner_before(a); };
  return same(storage_, other.storage_) && version_ == other.version_;
}

bool Tensor::requires_grad() const { return impl().variable != nullptr; }

const Tensor& Tensor::set_requires_grad(bool on) const {
  check(is_floating(dtype()), "set_requires_grad: dtype ", dtype(),
        " has no gradient; convert with .to(DType::f32)");
  if (on && !impl().variable) impl().variable = std::make_shared<Variable>();
  if (!on) impl().variable = nullptr;
  return *this;
}

const Tensor& Tensor::grad() const {
  static const Tensor none;
  return impl().variable ? impl().variable->grad : none;
}

void Tensor::set_grad(Tensor grad) const {
  if (!impl().variable && !grad.defined()) return;
  check(impl().variable && impl().variable->leaf,
        "set_grad: only a leaf that requires a gradient has one; call set_requires_grad() first");
  check(!grad.defined() || (grad.shape() == shape() && grad.dtype() == dtype() && grad.device() == device()),
        "set_grad: a gradient of ",
        grad.defined() ? concat(grad.dtype(), " ", grad.shape(), " on ", grad.device()) : "",
        " does not fit a tensor of ", dtype(), " ", shape(), " on ", device());
  impl().variable->grad = std::move(grad);
}

void Tensor::require_dtype(DType wanted) const {
  check(dtype() == wanted, "data: the tensor holds ", dtype(), ", not ", wanted,
        "; convert with .to(DType::", wanted, ")");
}

}  // namespace weft
