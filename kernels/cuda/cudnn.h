// cuDNN's graph API, as far as convolutions need it: a thin layer over the C interface (cudnn_backend.h), in
// which descriptors own themselves and every failure is an Error that names the call. The way from a
// convolution to running it: OpGraph -> engine_configs() -> Plan -> Plan::execute().
#pragma once

#include <cudnn.h>

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "weft/kernels/cuda.h"
#include "weft/kernels/half.h"

namespace weft::kernels::cuda::cudnn {

/// Throws Error "CALL: STATUS: what cuDNN said last" unless `status` is success.
void check(cudnnStatus_t status, const std::string& call);

/// cuDNN's name for a type of elements.
template <class T>
constexpr cudnnDataType_t data_type();
template <>
constexpr cudnnDataType_t data_type<float>() {
  return CUDNN_DATA_FLOAT;
}
template <>
constexpr cudnnDataType_t data_type<bf16>() {
  return CUDNN_DATA_BFLOAT16;
}
template <>
constexpr cudnnDataType_t data_type<f16>() {
  return CUDNN_DATA_HALF;
}

/// A backend descriptor: attributes are set, finalize() makes it usable and fixed.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  Descriptor(Descriptor&& other) noexcept;
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();

  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
           const void* values);
  void set(cudnnBackendAttributeName_t name, int64_t value) { set(name, CUDNN_TYPE_INT64, 1, &value); }
  void set(cudnnBackendAttributeName_t name, std::span<const int64_t> values) {
    set(name, CUDNN_TYPE_INT64, int64_t(values.size()), values.data());
  }
  void set(cudnnBackendAttributeName_t name, float value) { set(name, CUDNN_TYPE_FLOAT, 1, &value); }
  void set(cudnnBackendAttributeName_t name, bool value) { set(name, CUDNN_TYPE_BOOLEAN, 1, &value); }
  void set(cudnnBackendAttributeName_t name, cudnnDataType_t value) {
    set(name, CUDNN_TYPE_DATA_TYPE, 1, &value);
  }
  void set(cudnnBackendAttributeName_t name, const Descriptor& value);
  void set(cudnnBackendAttributeName_t name, const std::string& text) {
    set(name, CUDNN_TYPE_CHAR, int64_t(text.size()), text.data());
  }
  void finalize();

  /// Reads at most `room` elements and returns how many there are; none are read where room is 0.
  int64_t get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t room,
              void* values) const;
  int64_t get_int(cudnnBackendAttributeName_t name) const;
  std::string get_text(cudnnBackendAttributeName_t name) const;
  /// Fills an empty descriptor of the right type.
  void get(cudnnBackendAttributeName_t name, Descriptor& into) const;

  cudnnBackendDescriptor_t raw() const { return raw_; }

 private:
  cudnnBackendDescriptor_t raw_ = nullptr;
  const char* type_ = "";
};

/// What plans are made for: the device of a handle; or, with no GPU at hand, a device that is described
/// (cuDNN 9.8 and later), for which plans can be built but not executed.
struct Target {
  cudnnHandle_t handle = nullptr;
  const Descriptor* device = nullptr;
};
/// A device from what a device-properties descriptor gives as JSON.
Descriptor device_from_json(const std::string& json);

/// A tensor of a graph. Its id names it when its memory is given; a virtual one has no memory.
struct TensorSpec {
  int64_t id = 0;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  std::vector<int64_t> dims, strides;  // N, C, H, W (K, C, R, S of a filter), in elements
  int64_t alignment = 16;              // bytes
};
/// One that lies in memory as [n, h, w, c].
TensorSpec channels_last(int64_t id, cudnnDataType_t type, int64_t n, int64_t h, int64_t w, int64_t c,
                         int64_t alignment = 16);

/// Operations on tensors that run as one plan, summing in float.
class OpGraph {
 public:
  /// Adds a tensor and returns its place, for the calls below.
  int tensor(const TensorSpec& spec);
  /// y = x * w, dx from dy and w, or dw from x and dy; with `add` added to what is there. In each case x, w,
  /// y is the order.
  void convolution(ConvPass pass, const Conv2dParams& p, int x, int w, int y, bool add = false);
  /// To be called once, after the last operation.
  void finalize(const Target& target);

  const Descriptor& descriptor() const { return graph_; }

 private:
  std::vector<Descriptor> tensors_, parts_, operations_;
  Descriptor graph_{CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR};
};

/// One way to compute a graph: an engine and its settings.
class EngineConfig {
 public:
  explicit EngineConfig(Descriptor config);
  bool has(cudnnBackendNumericalNote_t note) const { return numerical_ >> note & 1u; }
  bool has(cudnnBackendBehaviorNote_t note) const { return behavior_ >> note & 1u; }
  const Descriptor& descriptor() const { return config_; }

 private:
  Descriptor config_;
  uint32_t numerical_ = 0, behavior_ = 0;
};
/// The configs that cuDNN proposes, best first; none where it knows no way.
std::vector<EngineConfig> engine_configs(const OpGraph& graph, const Target& target,
                                         cudnnBackendHeurMode_t mode);

/// What can be executed. Building one may compile kernels (has(CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION)).
class Plan {
 public:
  Plan(const EngineConfig& config, const Target& target);
  /// From json() of an equal plan for an equal device; throws Error where the text is of no use here.
  Plan(const std::string& json, const Target& target);

  /// Bytes that execute() needs.
  int64_t workspace() const { return workspace_; }
  std::string json() const;
  /// Starts the work on the handle's stream. pointers[i] is the memory of tensor ids[i].
  void execute(cudnnHandle_t handle, std::span<const int64_t> ids, std::span<void* const> pointers,
               void* workspace) const;

 private:
  Descriptor plan_{CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR};
  int64_t workspace_ = 0;
};

}  // namespace weft::kernels::cuda::cudnn
