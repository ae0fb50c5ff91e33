// Modules against PyTorch: golden files that ModelFile of tests/golden/model_cases.py wrote.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "support/golden.h"
#include "weft/engine/module.h"

namespace weft::golden {

using Made = std::unique_ptr<Module>;
/// By the kind of a case: makes the module that it is about, as a child "m" of `root` or a root of its own.
using ModuleMakers = std::map<std::string, std::function<Made(Module& root, const Case& c)>>;

/// Runs the cases of tests/golden/FILE, some training steps and an evaluation each, and checks (doctest)
/// output, loss, all gradients and buffers of every pass; and that each kind of `makers` has a case.
void compare_modules(std::string_view file, const ModuleMakers& makers, DType dtype);

}  // namespace weft::golden
