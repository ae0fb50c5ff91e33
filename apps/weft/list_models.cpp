#include "weft/apps/weft/list_models.h"

#include <nlohmann/json.hpp>

#include "weft/apps/weft/bench.h"
#include "weft/apps/weft/command.h"
#include "weft/layers/models.h"

namespace weft::app {

int list_models(bool json_lines) {
  Rows rows({{"name", "model", 17},
             {"parameters", "parameters", 10},
             {"million_multiply_adds", "M mul-adds", 10},
             {"size", "at px", 5},
             {"activation", "activation", 10},
             {"description", "what it is", 56},
             {"source", "source", 0}},
            json_lines);
  rows.text("Parameters with 10 classes, multiply-adds of an image of so many pixels, both without --sa.");
  for (const ModelEntry& entry : model_catalogue())
    rows.print({{"name", entry.name},
                {"description", entry.description},
                {"source", entry.source},
                {"activation", activation_name(entry.activation)},
                {"self_attention", entry.attention},
                {"parameters", entry.parameters},
                {"multiply_adds", entry.multiply_adds},
                {"million_multiply_adds", double(entry.multiply_adds) * 1e-6},
                {"size", entry.size}});
  return kDone;
}

}  // namespace weft::app
