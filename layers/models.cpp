#include "weft/layers/models.h"

namespace weft {
namespace {

struct Model {
  std::string name;
  int depth;
  Activation activation;
};

const std::vector<Model>& models() {
  static const std::vector<Model> list = [] {
    std::vector<Model> made;
    for (int depth : {18, 34, 50, 101, 152})
      made.push_back({concat("mxresnet", depth), depth, Activation::mish});
    for (int depth : {18, 34, 50, 101, 152})
      made.push_back({concat("xresnet", depth), depth, Activation::relu});
    return made;
  }();
  return list;
}

}  // namespace

std::unique_ptr<Module> make_model(std::string_view name, const XResNetOptions& options,
                                   Generator& generator) {
  for (const Model& m : models()) {
    if (m.name != name) continue;
    XResNetOptions o = options;
    if (!o.activation) o.activation = m.activation;
    return std::make_unique<XResNet>(m.depth, o, generator);
  }
  std::string known;
  for (const std::string& n : model_names()) known += (known.empty() ? "" : ", ") + n;
  fail("make_model: there is no model \"", name, "\"; known: ", known);
}

const std::vector<std::string>& model_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Model& m : models()) list.push_back(m.name);
    return list;
  }();
  return names;
}

}  // namespace weft
