#include "weft/apps/weft/names.h"

#include <algorithm>

#include "weft/apps/weft/command.h"
#include "weft/kernels/activation.h"
#include "weft/layers/models.h"

namespace weft::app {

std::vector<std::string> activation_names() {
  std::vector<std::string> names;
  for (int i = 0; i < kAllActivationCount; ++i) names.emplace_back(activation_name(Activation(i)));
  return names;
}

std::string default_activation(const std::string& model) {
  require_known("--model", model, model_names());
  return std::string(activation_name(find_model(model).activation));
}

void require_fitting(const std::string& model, bool self_attention, int64_t size) {
  require_known("--model", model, model_names());
  const ModelEntry& entry = find_model(model);
  if (self_attention && !entry.attention)
    usage_error("--sa: ", model, " has no place for self-attention; leave it out");
  if (size < entry.smallest_size)
    usage_error("--size ", size, ": ", model, " needs images of at least ", entry.smallest_size, " pixels");
  const int64_t below = size - size % entry.size_step;
  if (below != size)
    usage_error("--size ", size, ": ", model, " takes multiples of ", entry.size_step, "; give ", below,
                " or ", below + entry.size_step);
}

void require_known(std::string_view flag, std::string_view name, const std::vector<std::string>& names) {
  if (std::find(names.begin(), names.end(), name) != names.end()) return;
  usage_error(flag, ": unknown name '", name, "'; known are ", joined(names));
}

DType parse_precision(std::string_view precision) {
  if (precision == "fp32") return DType::f32;
  if (precision == "bf16") return DType::bf16;
  if (precision == "fp16") return DType::f16;
  usage_error("--precision must be fp32, bf16 or fp16, got ", precision);
}

}  // namespace weft::app
