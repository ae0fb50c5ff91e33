// What a picture shows, by a model of `weft train`, in a program of one's own:
//   predict_own runs/1/model.safetensors dog.jpg
#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "weft/engine/data/image.h"
#include "weft/engine/data/transforms.h"
#include "weft/engine/file.h"
#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/safetensors.h"
#include "weft/layers/models.h"

using namespace weft;

int main(int argc, char** argv) try {
  if (argc != 3) fail("usage: predict_own MODEL.safetensors PICTURE");
  std::map<std::string, std::string> metadata;
  const StateDict weights = load_safetensors(argv[1], &metadata);
  const nlohmann::json info = nlohmann::json::parse(metadata["info"]);
  const int size = info.at("size");
  const auto net = make_model(info.at("model").get<std::string>(),
                              {.activation = activation_by_name(info.at("activation").get<std::string>()),
                               .self_attention = info.at("sa"),
                               .symmetric = info.at("sym"),
                               .classes = int64_t(info.at("classes").size()),
                               .image_size = size});
  net->load_state_dict(weights);
  net->optimize_for_inference();

  const std::string bytes = read_file(argv[2], int64_t{1} << 30);
  const data::Image picture =
      data::decode_image({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  const Tensor x = Tensor::empty({1, size, size, 3});
  data::resize_center_crop(picture, size, std::max(size, info.at("valid_resize").get<int>()),
                           {info.at("mean"), info.at("std")}, x.data<float>());
  const int64_t best = argmax((*net)(x)).to_vector<int64_t>()[0];
  std::printf("%s\n", info.at("classes")[size_t(best)].get<std::string>().c_str());
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "predict_own: %s\n", e.what());
  return 1;
}
