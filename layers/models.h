#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "weft/layers/xresnet.h"

namespace weft {

/// A model by its name on the command line: mxresnet18, 34, 50, 101, 152 (Mish) and xresnet18 ... (ReLU),
/// with the activation of the options instead where it is given. Throws Error that lists the names if there
/// is no such model.
std::unique_ptr<Module> make_model(std::string_view name, const XResNetOptions& options = {},
                                   Generator& generator = default_generator());

/// The names that make_model knows.
const std::vector<std::string>& model_names();

}  // namespace weft
