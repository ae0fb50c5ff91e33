// The names that flags accept, and the answer to one that they don't.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "weft/engine/dtype.h"

namespace weft::app {

std::vector<std::string> activation_names();
/// Throws UsageError where the model cannot have self-attention or images of that size.
void require_fitting(const std::string& model, bool self_attention, int64_t size);
/// What a model has where --activation is not given. Throws UsageError where there is no such model.
std::string default_activation(const std::string& model);
/// The activations' dtype for --precision: fp32, bf16 or fp16. Throws UsageError for another.
DType parse_precision(std::string_view precision);

/// Throws UsageError listing `names` unless `name` is one of them.
void require_known(std::string_view flag, std::string_view name, const std::vector<std::string>& names);

}  // namespace weft::app
