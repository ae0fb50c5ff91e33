#include "weft/kernels/cuda/memset_nodes.h"

#include <vector>

#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/device.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// `value`'s lowest bytes again and again: T is as wide as the memset's elements.
template <class T>
__global__ void __launch_bounds__(kThreads) memset_kernel(T* to, size_t n, T value) {
  for (size_t i = size_t(blockIdx.x) * kThreads + threadIdx.x; i < n; i += size_t(gridDim.x) * kThreads)
    to[i] = value;
}

// Edges have data since CUDA 13; those of a memset have none.
#if CUDART_VERSION >= 13000
#define WEFT_NO_EDGE_DATA nullptr,
#else
#define WEFT_NO_EDGE_DATA
#endif

using Nodes = std::vector<cudaGraphNode_t>;
/// What get(to, count) gives; asked without `to`, how many those are.
template <class Get>
Nodes all_of(const char* name, const Get& get) {
  size_t count = 0;
  check(get(nullptr, &count), name);
  Nodes nodes(count);
  if (count > 0) check(get(nodes.data(), &count), name);
  return nodes;
}
Nodes before(cudaGraphNode_t node) {
  return all_of("cudaGraphNodeGetDependencies", [&](cudaGraphNode_t* to, size_t* count) {
    return cudaGraphNodeGetDependencies(node, to, WEFT_NO_EDGE_DATA count);
  });
}
Nodes after(cudaGraphNode_t node) {
  return all_of("cudaGraphNodeGetDependentNodes", [&](cudaGraphNode_t* to, size_t* count) {
    return cudaGraphNodeGetDependentNodes(node, to, WEFT_NO_EDGE_DATA count);
  });
}
void add_edge(cudaGraph_t graph, cudaGraphNode_t from, cudaGraphNode_t to) {
  check(cudaGraphAddDependencies(graph, &from, &to, WEFT_NO_EDGE_DATA 1), "cudaGraphAddDependencies");
}

template <class T>
cudaGraphNode_t add_kernel(cudaGraph_t graph, const Nodes& after, const cudaMemsetParams& memset,
                           int priority) {
  T* to = static_cast<T*>(memset.dst);
  size_t n = memset.width;
  T value = T(memset.value);
  void* arguments[] = {&to, &n, &value};
  cudaKernelNodeParams kernel{};
  kernel.func = reinterpret_cast<void*>(&memset_kernel<T>);
  kernel.gridDim = blocks_for(int64_t(n), kThreads * 4, 4 * int64_t(multiprocessors()));
  kernel.blockDim = kThreads;
  kernel.kernelParams = arguments;
  cudaGraphNode_t node = nullptr;
  check(cudaGraphAddKernelNode(&node, graph, after.data(), after.size(), &kernel), "cudaGraphAddKernelNode");
  cudaLaunchAttributeValue attribute{};
  attribute.priority = priority;
  check(cudaGraphKernelNodeSetAttribute(node, cudaLaunchAttributePriority, &attribute),
        "cudaGraphKernelNodeSetAttribute");
  return node;
}

}  // namespace

void replace_memsets(cudaGraph_t graph, cudaStream_t stream) {
  int priority = 0;
  check(cudaStreamGetPriority(stream, &priority), "cudaStreamGetPriority");
  const Nodes all = all_of("cudaGraphGetNodes", [&](cudaGraphNode_t* to, size_t* count) {
    return cudaGraphGetNodes(graph, to, count);
  });
  for (cudaGraphNode_t node : all) {
    cudaGraphNodeType type{};
    check(cudaGraphNodeGetType(node, &type), "cudaGraphNodeGetType");
    if (type != cudaGraphNodeTypeMemset) continue;
    cudaMemsetParams memset{};
    check(cudaGraphMemsetNodeGetParams(node, &memset), "cudaGraphMemsetNodeGetParams");
    if (memset.height != 1) continue;
    const Nodes earlier = before(node);
    const auto add = memset.elementSize == 4   ? &add_kernel<uint32_t>
                     : memset.elementSize == 2 ? &add_kernel<uint16_t>
                                               : &add_kernel<uint8_t>;
    const cudaGraphNode_t kernel = add(graph, earlier, memset, priority);
    for (cudaGraphNode_t later : after(node)) add_edge(graph, kernel, later);
    check(cudaGraphDestroyNode(node), "cudaGraphDestroyNode");
  }
}

}  // namespace weft::kernels::cuda
