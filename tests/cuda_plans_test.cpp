// cuDNN's plans for the models' convolutions, built for a GPU that is not there: for a device that is
// described (cuDNN 9.8 and later). Nothing is executed. And the files that keep plans.
//
// Engines that compile their kernels call the driver: where libcuda.so.1 is the toolkit's stub, such a plan
// fails only where its kernels are loaded (CUDA error 34), after cuDNN has found and compiled them.
#include <dlfcn.h>
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <set>

#include "weft/apps/weft/bench_op.h"
#include "weft/kernels/cuda/conv_padded.h"
#include "weft/kernels/cuda/conv_plans.h"
#include "weft/kernels/cuda/nvidia.h"
#include "weft/kernels/cuda/plan_cache.h"
#include "weft/layers/xresnet.h"

namespace fs = std::filesystem;
using namespace weft;
using namespace weft::kernels;
using namespace weft::kernels::cuda;

namespace {

constexpr int64_t kMaxWorkspace = int64_t{256} << 20;

/// What cuDNN serialises of a GPU with compute capability 9.0; the H200 has more memory, and faster.
std::string hopper(const std::string& name, int64_t memory_bytes, int64_t memory_khz) {
  return R"({"maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64],
    "regsPerBlock": 65536, "multiProcessorCount": 132, "warpSize": 32, "maxSharedMemoryPerBlock": 49152,
    "maxSharedMemoryPerBlockOptin": 232448, "reservedSharedMemoryPerBlock": 1024, "maxRegistersPerSM": 65536,
    "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "pciDeviceId": 0,
    "isTccDriver": 0, "supportCoopLaunch": 1, "smClockRateKHz": 1980000, "l2CacheSize": 52428800,
    "cudaDeviceId": 0, "deviceVer": 900, "driverVer": 13000, "smVersion": 900, "schemaVersion": 1,
    "memClockRateKHz": )" +
         std::to_string(memory_khz) + R"(, "totalGlobalMem": )" + std::to_string(memory_bytes) +
         R"(, "deviceName": ")" + name + R"("})";
}

[[noreturn]] void skip(const std::string& why) {
  std::printf("SKIPPED: cuDNN can't build plans without a device here: %s\n", why.c_str());
  std::fflush(stdout);
  std::_Exit(77);
}

cudnn::Descriptor described(const std::string& json) {
  try {
    return cudnn::device_from_json(json);
  } catch (const cuda::Error& e) {
    skip(e.what());
  }
}

const cudnn::Descriptor& h100() {
  static const cudnn::Descriptor device = described(hopper("NVIDIA H100 80GB HBM3", 85017493504, 2619000));
  return device;
}
const cudnn::Descriptor& h200() {
  static const cudnn::Descriptor device = described(hopper("NVIDIA H200", 150754820096, 3201000));
  return device;
}
cudnn::Target target() { return {.device = &h100()}; }

/// The convolutions of an XResNet, each shape once, read off a forward pass.
std::vector<Conv2dParams> convolutions(int depth, int64_t batch, int64_t size) {
  Generator generator(1);
  XResNet model(depth, {}, generator);
  std::vector<Conv2dParams> found;
  for (const app::ConvShape& shape : app::conv_shapes(model, batch, size)) found.push_back(shape.params);
  return found;
}

constexpr ConvPass kPasses[] = {ConvPass::forward, ConvPass::backward_input, ConvPass::backward_weight};
constexpr cudnnDataType_t kTypes[] = {CUDNN_DATA_FLOAT, CUDNN_DATA_BFLOAT16, CUDNN_DATA_HALF};

/// All keys of a shape: passes, types, and what may be asked of the arithmetic.
std::vector<ConvKey> keys_of(const Conv2dParams& p) {
  std::vector<ConvKey> keys;
  for (const ConvPass pass : kPasses)
    for (const cudnnDataType_t type : kTypes)
      for (const bool deterministic : {false, true})
        for (const bool tf32 : {false, true}) {
          if (type != CUDNN_DATA_FLOAT && tf32) continue;
          keys.push_back(
              {.pass = pass, .type = type, .params = p, .tf32 = tf32, .deterministic = deterministic});
        }
  return keys;
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const cuda::Error& e) {
    return e.what();
  }
  return "";
}

struct Folder {
  fs::path path = fs::temp_directory_path() / ("weft_plans_" + std::to_string(getpid()));
  Folder() { fs::remove_all(path); }
  ~Folder() { fs::remove_all(path); }
  std::string string() const { return path.string(); }
};

void write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}
std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("a program starts without NVIDIA's libraries, and finds them when it asks") {
  for (const char* name : {"libcudnn.so.9", "libcublasLt.so.12", "libcublasLt.so.13"})
    CHECK(dlopen(name, RTLD_LAZY | RTLD_NOLOAD) == nullptr);
  CHECK(nvidia().cudnnGetVersion() >= 90000);
  CHECK(nvidia().cublasLtGetVersion() >= 120000);
  // nvrtc would open it by name when it first compiles, and find it in the system's folders alone.
  int major = 0, minor = 0;
  void* const nvrtc_version = dlsym(RTLD_DEFAULT, "nvrtcVersion");
  REQUIRE(nvrtc_version);
  reinterpret_cast<int (*)(int*, int*)>(nvrtc_version)(&major, &minor);
  const std::string builtins = "libnvrtc-builtins.so." + std::to_string(major) + "." + std::to_string(minor);
  CHECK(dlopen(builtins.c_str(), RTLD_LAZY | RTLD_NOLOAD) != nullptr);
  const std::string missing = message_of([] { open_library("libnone.so.9", "/none/libnone.so"); });
  CHECK(missing.rfind("libnone.so.9 can't be loaded, which weft needs on a GPU: ", 0) == 0);
  CHECK(missing.find("LD_LIBRARY_PATH") != std::string::npos);
}

TEST_CASE("every convolution of the models has a plan for each pass and type") {
  std::set<std::string> seen;
  int built = 0;
  for (const int depth : {18, 50}) {
    const std::vector<Conv2dParams> shapes = convolutions(depth, 64, 128);
    CHECK(shapes.size() >= 10);
    for (const Conv2dParams& p : shapes)
      for (const ConvKey& key : keys_of(p)) {
        if (!seen.insert(key.text()).second) continue;
        const auto plans = conv_plans(key, target(), 1, kMaxWorkspace);
        CHECK_MESSAGE(!plans.empty(), "no plan for ", key.text());
        if (plans.empty()) continue;
        ++built;
        CHECK(plans.front()->workspace() <= kMaxWorkspace);
      }
  }
  std::printf("%d plans\n", built);
  CHECK(built > 500);
}

TEST_CASE("there is something to choose from") {
  for (const Conv2dParams& p : convolutions(50, 64, 128))
    for (const ConvPass pass : kPasses) {
      const ConvKey key{.pass = pass, .type = CUDNN_DATA_BFLOAT16, .params = p, .tf32 = false};
      CHECK_MESSAGE(conv_plans(key, target(), 10, kMaxWorkspace).size() >= 5, key.text());
      CHECK_MESSAGE(!conv_plans(key, {.device = &h200()}, 1, kMaxWorkspace).empty(), key.text());
    }
}

TEST_CASE("sums are told from what overwrites") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> zeros(3), ones(3, 1), terms{0.5f, -3, nan, inf, 100};
  CHECK(are_sums(zeros, ones, 1) == true);
  CHECK(are_sums(zeros, zeros, 1) == false);
  CHECK(are_sums(terms, std::vector<float>{3.52f, -0.01f, nan, inf, 0}, 3) == true);
  CHECK(are_sums(terms, terms, 3) == false);
  CHECK(are_sums(terms, std::vector<float>{3.5f, nan, nan, inf, 103}, 3) == false);
  CHECK(!are_sums(std::vector<float>{nan, inf, 100}, std::vector<float>{nan, inf, 103}, 3).has_value());
}

TEST_CASE("odd shapes have plans") {
  const Conv2dParams shapes[] = {
      {.batch = 3,
       .in_h = 13,
       .in_w = 11,
       .in_c = 7,
       .out_c = 5,
       .kernel_h = 3,
       .kernel_w = 3,
       .stride_h = 2,
       .stride_w = 2,
       .pad_h = 1,
       .pad_w = 1,
       .dilation_h = 2,
       .dilation_w = 2},
      {.batch = 3,
       .in_h = 13,
       .in_w = 11,
       .in_c = 6,
       .out_c = 9,
       .kernel_h = 3,
       .kernel_w = 2,
       .stride_h = 2,
       .pad_h = 1,
       .pad_w = 2,
       .dilation_h = 2,
       .groups = 3},
      {.batch = 4,
       .in_h = 16,
       .in_w = 16,
       .in_c = 24,
       .out_c = 24,
       .kernel_h = 3,
       .kernel_w = 3,
       .pad_h = 1,
       .pad_w = 1,
       .groups = 24},
      {.batch = 1, .in_h = 9, .in_w = 9, .in_c = 1, .out_c = 10, .kernel_h = 5, .kernel_w = 5},
      {.batch = 2, .in_h = 1, .in_w = 1, .in_c = 3, .out_c = 10},
  };
  for (const Conv2dParams& p : shapes)
    for (const ConvKey& key : keys_of(p))
      CHECK_MESSAGE(!conv_plans(key, target(), 1, kMaxWorkspace).empty(), key.text());
}

TEST_CASE("few channels of 16 bits can be padded to 8, for which there are plans") {
  const Conv2dParams stem{.batch = 256,
                          .in_h = 128,
                          .in_w = 128,
                          .in_c = 3,
                          .out_c = 32,
                          .kernel_h = 3,
                          .kernel_w = 3,
                          .stride_h = 2,
                          .stride_w = 2,
                          .pad_h = 1,
                          .pad_w = 1};
  const int64_t bytes = padded_bytes(stem);
  CHECK(bytes == 256 * 128 * 128 * 16 + (32 * 9 * 16 + 255) / 256 * 256);
  for (const ConvKey& key : keys_of(stem)) {
    INFO(key.text());
    REQUIRE(can_pad(key) == (key.type != CUDNN_DATA_FLOAT && key.pass != ConvPass::backward_input));
    if (!can_pad(key)) continue;
    const ConvKey wide = padded_key(key);
    CHECK(wide.params.in_c == 8);
    CHECK(wide.deterministic == key.deterministic);
    CHECK(!can_pad(wide));
    CHECK(conv_plans(wide, target(), 5, kMaxWorkspace - bytes).size() >= 3);
  }
  ConvKey key{.type = CUDNN_DATA_HALF, .params = stem};
  CHECK(can_pad(key));
  key.params.groups = 3;
  CHECK(!can_pad(key));
}

TEST_CASE("engines keep what a key asks for") {
  const Conv2dParams p{.batch = 64,
                       .in_h = 32,
                       .in_w = 32,
                       .in_c = 64,
                       .out_c = 64,
                       .kernel_h = 3,
                       .kernel_w = 3,
                       .pad_h = 1,
                       .pad_w = 1};
  int dropped = 0;
  for (const ConvKey& key : keys_of(p)) {
    const cudnn::OpGraph graph = conv_graph(key, target());
    const auto configs = conv_configs(key, graph, target());
    CHECK(!configs.empty());
    for (const cudnn::EngineConfig& config : configs) {
      CHECK(!config.has(CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION));
      if (key.deterministic) CHECK(!config.has(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC));
      if (key.type == CUDNN_DATA_FLOAT && !key.tf32) {
        CHECK(!config.has(CUDNN_NUMERICAL_NOTE_TENSOR_CORE));
        CHECK(!config.has(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS));
      }
    }
    size_t all = 0;
    for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
      all += cudnn::engine_configs(graph, target(), mode).size();
    dropped += int(all - configs.size());
  }
  CHECK(dropped > 0);  // or the filter was never put to the test
  ConvKey exact{.params = p, .exact = true};
  for (const ConvPass pass : kPasses) {
    exact.pass = pass;
    for (const auto& config : conv_configs(exact, conv_graph(exact, target()), target()))
      CHECK(!config.has(CUDNN_NUMERICAL_NOTE_WINOGRAD));
  }
}

TEST_CASE("a plan goes through JSON") {
  const ConvKey key{.type = CUDNN_DATA_BFLOAT16,
                    .params = {.batch = 64, .in_h = 32, .in_w = 32, .in_c = 64, .out_c = 128},
                    .tf32 = false};
  const auto plans = conv_plans(key, target(), 10, kMaxWorkspace);
  REQUIRE(plans.size() > 1);
  std::set<std::string> texts;
  for (const auto& plan : plans) {
    const std::string text = plan->json();
    texts.insert(text);
    const cudnn::Plan again(text, target());
    CHECK(again.workspace() == plan->workspace());
    CHECK(again.json() == text);
  }
  CHECK(texts.size() == plans.size());
  for (const char* text : {"", "{}", "plan", "{\"engine\": 1}"})
    CHECK_THROWS_AS(cudnn::Plan(text, target()), cuda::Error);
  const std::string half = plans.front()->json().substr(0, plans.front()->json().size() / 2);
  CHECK_THROWS_AS(cudnn::Plan(half, target()), cuda::Error);
}

TEST_CASE("errors name the call and say what cuDNN says") {
  const ConvKey key{.type = CUDNN_DATA_BFLOAT16,
                    .params = {.batch = 2, .in_h = 8, .in_w = 8, .in_c = 8, .out_c = 8}};
  // An output larger than the convolution makes.
  const std::string wrong_size = message_of([&] {
    cudnn::OpGraph graph;
    const int x = graph.tensor(cudnn::channels_last(1, key.type, 2, 8, 8, 8)),
              w = graph.tensor(cudnn::channels_last(2, key.type, 8, 1, 1, 8)),
              y = graph.tensor(cudnn::channels_last(3, key.type, 2, 9, 8, 8));
    graph.convolution(ConvPass::forward, key.params, x, w, y);
    graph.finalize(target());
  });
  INFO(wrong_size);
  CHECK(wrong_size.find("cudnnBackendFinalize(convolution forward operation): CUDNN_STATUS_") == 0);
  CHECK(wrong_size.size() > 90);  // more than the name of the status

  const std::string wrong_alignment =
      message_of([&] { cudnn::OpGraph().tensor(cudnn::channels_last(1, CUDNN_DATA_FLOAT, 1, 1, 1, 1, 2)); });
  CHECK(wrong_alignment.find("cudnnBackendFinalize(tensor): CUDNN_STATUS_BAD_PARAM: ") == 0);

  const std::string empty = message_of([&] { cudnn::OpGraph().finalize(target()); });
  CHECK(empty.find("(operation graph") != std::string::npos);

  const std::string no_device = message_of([] { cudnn::device_from_json("{}"); });
  CHECK(no_device.find("cudnnBackendFinalize(device properties): CUDNN_STATUS_") == 0);
}

TEST_CASE("keys differ in every part") {
  const ConvKey key{.params = {.batch = 2, .in_h = 8, .in_w = 8, .in_c = 8, .out_c = 8}};
  std::vector<ConvKey> keys{key};
  const auto with = [&](auto change) {
    keys.push_back(key);
    change(keys.back());
  };
  with([](ConvKey& k) { k.pass = ConvPass::backward_input; });
  with([](ConvKey& k) { k.pass = ConvPass::backward_weight; });
  with([](ConvKey& k) { k.type = CUDNN_DATA_HALF; });
  with([](ConvKey& k) { k.type = CUDNN_DATA_BFLOAT16; });
  with([](ConvKey& k) { k.tf32 = false; });
  with([](ConvKey& k) { k.deterministic = true; });
  with([](ConvKey& k) { k.exact = true; });
  for (const auto member :
       {&Conv2dParams::batch, &Conv2dParams::in_h, &Conv2dParams::in_w, &Conv2dParams::in_c,
        &Conv2dParams::out_c, &Conv2dParams::kernel_h, &Conv2dParams::kernel_w, &Conv2dParams::stride_h,
        &Conv2dParams::stride_w, &Conv2dParams::pad_h, &Conv2dParams::pad_w, &Conv2dParams::dilation_h,
        &Conv2dParams::dilation_w, &Conv2dParams::groups})
    with([&](ConvKey& k) { k.params.*member += 3; });
  std::set<std::string> texts;
  std::set<size_t> hashes;
  for (const ConvKey& k : keys) {
    texts.insert(k.text());
    hashes.insert(ConvKeyHash()(k));
  }
  CHECK(texts.size() == keys.size());
  CHECK(hashes.size() == keys.size());
}

TEST_CASE("plans are kept in files") {
  const Folder folder;
  const std::string f = (folder.path / "deeper").string();
  CHECK(!read_plan(f, "a"));
  CHECK(write_plan(f, "a", "plan of a"));
  CHECK(write_plan(f, "b", "{\"engine\": \"\xc3\xa4\\\"\"}\n"));
  CHECK(read_plan(f, "a") == "plan of a");
  CHECK(read_plan(f, "b") == "{\"engine\": \"\xc3\xa4\\\"\"}\n");
  CHECK(write_plan(f, "a", "another"));
  CHECK(read_plan(f, "a") == "another");
  CHECK(!read_plan(f, "c"));
  size_t files = 0;
  for (const auto& entry : fs::directory_iterator(f)) files += entry.is_regular_file();
  CHECK(files == 2);  // nothing beside them is left
}

TEST_CASE("damaged and foreign files of plans are as good as none") {
  const Folder folder;
  const std::string f = folder.string();
  REQUIRE(write_plan(f, "a", "plan of a"));
  const std::string path = plan_file(f, "a"), text = read(path);
  REQUIRE(read_plan(f, "a"));
  for (size_t size = 0; size + 2 < text.size(); ++size) {  // the last two: a bracket and the line's end
    write(path, text.substr(0, size));
    CHECK(!read_plan(f, "a"));
  }
  for (const char* other :
       {"[]", "1", "null", "{\"format\": 2, \"key\": \"a\"}", "{\"format\": 2, \"key\": \"a\", \"plan\": 7}",
        "{\"format\": 1, \"key\": \"a\", \"plan\": \"p\"}", "\xff\xfe"}) {
    write(path, other);
    CHECK(!read_plan(f, "a"));
  }
  REQUIRE(write_plan(f, "b", "plan of b"));
  fs::copy_file(plan_file(f, "b"), path, fs::copy_options::overwrite_existing);
  CHECK(!read_plan(f, "a"));  // another key of the same hash
  CHECK(write_plan(f, "a", "new"));
  CHECK(read_plan(f, "a") == "new");

  write(f + "/file", "");
  CHECK(!write_plan(f + "/file", "a", "plan"));  // no folder
  CHECK(!read_plan(f + "/file", "a"));
}
