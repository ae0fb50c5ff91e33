#include "weft/kernels/cuda/cudnn.h"

#include <array>
#include <utility>

#include "weft/kernels/cuda/nvidia.h"

namespace weft::kernels::cuda::cudnn {
namespace {

const char* name_of(cudnnBackendDescriptorType_t type) {
  switch (type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
      return "tensor";
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR:
      return "convolution";
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
      return "convolution forward operation";
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
      return "convolution backward data operation";
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
      return "convolution backward filter operation";
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      return "operation graph";
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
      return "engine heuristics";
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
      return "engine";
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR:
      return "engine config";
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
      return "execution plan";
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
      return "variant pack";
    case CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR:
      return "device properties";
    default:
      return "descriptor";
  }
}

std::string call(const char* function, const char* type) { return std::string(function) + "(" + type + ")"; }

}  // namespace

void check(cudnnStatus_t status, const std::string& call) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 1024> last{};
  nvidia().cudnnGetLastErrorString(last.data(), last.size() - 1);
  std::string message = call + ": " + nvidia().cudnnGetErrorString(status);
  std::string_view said(last.data());
  while (!said.empty() && (said.back() == '\n' || said.back() == ' ')) said.remove_suffix(1);
  if (!said.empty()) message.append(": ").append(said);
  throw Error(message);
}

// --- descriptors ---

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) : type_(name_of(type)) {
  check(nvidia().cudnnBackendCreateDescriptor(type, &raw_), call("cudnnBackendCreateDescriptor", type_));
}

Descriptor::Descriptor(Descriptor&& other) noexcept
    : raw_(std::exchange(other.raw_, nullptr)), type_(other.type_) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(raw_, other.raw_);
  std::swap(type_, other.type_);
  return *this;
}

Descriptor::~Descriptor() {
  if (raw_) nvidia().cudnnBackendDestroyDescriptor(raw_);
}

void Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                     const void* values) {
  const cudnnStatus_t status = nvidia().cudnnBackendSetAttribute(raw_, name, type, count, values);
  if (status != CUDNN_STATUS_SUCCESS)
    check(status,
          std::string("cudnnBackendSetAttribute(") + type_ + ", attribute " + std::to_string(name) + ")");
}

void Descriptor::set(cudnnBackendAttributeName_t name, const Descriptor& value) {
  const cudnnBackendDescriptor_t raw = value.raw_;
  set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &raw);
}

void Descriptor::finalize() {
  const cudnnStatus_t status = nvidia().cudnnBackendFinalize(raw_);
  if (status != CUDNN_STATUS_SUCCESS) check(status, call("cudnnBackendFinalize", type_));
}

int64_t Descriptor::get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t room,
                        void* values) const {
  int64_t count = 0;
  const cudnnStatus_t status = nvidia().cudnnBackendGetAttribute(raw_, name, type, room, &count, values);
  if (status != CUDNN_STATUS_SUCCESS)
    check(status,
          std::string("cudnnBackendGetAttribute(") + type_ + ", attribute " + std::to_string(name) + ")");
  return count;
}

int64_t Descriptor::get_int(cudnnBackendAttributeName_t name) const {
  int64_t value = 0;
  get(name, CUDNN_TYPE_INT64, 1, &value);
  return value;
}

std::string Descriptor::get_text(cudnnBackendAttributeName_t name) const {
  std::string text(size_t(get(name, CUDNN_TYPE_CHAR, 0, nullptr)), '\0');
  get(name, CUDNN_TYPE_CHAR, int64_t(text.size()), text.data());
  while (!text.empty() && text.back() == '\0') text.pop_back();
  return text;
}

void Descriptor::get(cudnnBackendAttributeName_t name, Descriptor& into) const {
  cudnnBackendDescriptor_t raw = into.raw_;
  get(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &raw);
}

Descriptor device_from_json(const std::string& json) {
  Descriptor device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  device.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, json);
  device.finalize();
  return device;
}

// --- graphs ---

TensorSpec channels_last(int64_t id, cudnnDataType_t type, int64_t n, int64_t h, int64_t w, int64_t c,
                         int64_t alignment) {
  return {.id = id,
          .type = type,
          .dims = {n, c, h, w},
          .strides = {h * w * c, 1, w * c, c},
          .alignment = alignment};
}

int OpGraph::tensor(const TensorSpec& spec) {
  Descriptor t(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  t.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, spec.id);
  t.set(CUDNN_ATTR_TENSOR_DATA_TYPE, spec.type);
  t.set(CUDNN_ATTR_TENSOR_DIMENSIONS, spec.dims);
  t.set(CUDNN_ATTR_TENSOR_STRIDES, spec.strides);
  t.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, spec.alignment);
  t.finalize();
  tensors_.push_back(std::move(t));
  return int(tensors_.size()) - 1;
}

void OpGraph::convolution(ConvPass pass, const Conv2dParams& p, int x, int w, int y, bool add) {
  const std::array<int64_t, 2> pad{p.pad_h, p.pad_w}, stride{p.stride_h, p.stride_w},
      dilation{p.dilation_h, p.dilation_w};
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  Descriptor c(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  c.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
  c.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
  c.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, int64_t{2});
  c.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, pad);
  c.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, pad);
  c.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, stride);
  c.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, dilation);
  c.finalize();

  struct Names {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t conv, x, w, y, alpha, beta;
  };
  static constexpr Names kNames[] = {
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA}};
  const Names& n = kNames[int(pass)];
  Descriptor op(n.type);
  op.set(n.conv, c);
  op.set(n.x, tensors_[size_t(x)]);
  op.set(n.w, tensors_[size_t(w)]);
  op.set(n.y, tensors_[size_t(y)]);
  op.set(n.alpha, 1.0f);
  op.set(n.beta, add ? 1.0f : 0.0f);
  op.finalize();
  parts_.push_back(std::move(c));
  operations_.push_back(std::move(op));
}

void OpGraph::finalize(const Target& target) {
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const Descriptor& op : operations_) raw.push_back(op.raw());
  graph_.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, int64_t(raw.size()), raw.data());
  if (target.handle) graph_.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle);
  graph_.finalize();
}

// --- engines ---

EngineConfig::EngineConfig(Descriptor config) : config_(std::move(config)) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  config_.get(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  const int64_t count = engine.get(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                   int64_t(notes.size()), notes.data());
  for (size_t i = 0; i < size_t(count) && i < notes.size(); ++i) numerical_ |= 1u << notes[i];
  std::array<cudnnBackendBehaviorNote_t, CUDNN_BEHAVIOR_NOTE_TYPE_COUNT> behavior{};
  const int64_t behaviors = engine.get(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                       int64_t(behavior.size()), behavior.data());
  for (size_t i = 0; i < size_t(behaviors) && i < behavior.size(); ++i) behavior_ |= 1u << behavior[i];
}

std::vector<EngineConfig> engine_configs(const OpGraph& graph, const Target& target,
                                         cudnnBackendHeurMode_t mode) {
  Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph.descriptor());
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  if (target.device) heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target.device);
  if (nvidia().cudnnBackendFinalize(heuristics.raw()) != CUDNN_STATUS_SUCCESS) return {};  // it knows no way

  const int64_t count =
      heuristics.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, nullptr);
  std::vector<Descriptor> found;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int64_t i = 0; i < count; ++i) {
    found.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    raw.push_back(found.back().raw());
  }
  const int64_t filled =
      heuristics.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, raw.data());
  std::vector<EngineConfig> configs;
  for (int64_t i = 0; i < filled && i < count; ++i) configs.emplace_back(std::move(found[size_t(i)]));
  return configs;
}

// --- plans ---

Plan::Plan(const EngineConfig& config, const Target& target) {
  plan_.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config.descriptor());
  if (target.device)
    plan_.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *target.device);
  else
    plan_.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle);
  plan_.finalize();
  workspace_ = plan_.get_int(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
}

Plan::Plan(const std::string& json, const Target& target) {
  plan_.set(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, json);
  if (target.device)
    plan_.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *target.device);
  else
    plan_.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle);
  plan_.finalize();
  workspace_ = plan_.get_int(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
}

std::string Plan::json() const { return plan_.get_text(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION); }

void Plan::execute(cudnnHandle_t handle, std::span<const int64_t> ids, std::span<void* const> pointers,
                   void* workspace) const {
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids);
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, int64_t(pointers.size()),
           pointers.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
  pack.finalize();
  const cudnnStatus_t status = nvidia().cudnnBackendExecute(handle, plan_.raw(), pack.raw());
  if (status != CUDNN_STATUS_SUCCESS) check(status, "cudnnBackendExecute");
}

}  // namespace weft::kernels::cuda::cudnn
