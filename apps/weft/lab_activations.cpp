// weft lab activations: the catalogue, and what is true of it.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/lab.h"
#include "weft/kernels/activation.h"

namespace weft::app {
namespace {

int list_activations(bool json_lines) {
  for (int i = 0; i < kActivationCount; ++i) {
    const auto act = Activation(i);
    const std::string_view name = activation_name(act), text = activation_description(act);
    const double param = activation_default_param(act);
    if (json_lines)
      fmt::print("{}\n", nlohmann::json{{"name", name}, {"parameter", param}, {"description", text}}.dump());
    else
      fmt::print("{}{}\n", text, param == 0 ? "" : fmt::format(" [parameter {}]", param));
  }
  return kDone;
}

}  // namespace

void add_lab_activations(CLI::App& lab, Action& action) {
  auto json_lines = std::make_shared<bool>(false);
  CLI::App* command = lab.add_subcommand("activations", "The activation functions");
  command->add_flag("--list")->required()->description(
      "all of them with formula, source and default parameter");
  command->add_flag("--json", *json_lines, "JSON lines");
  command->footer("Each name works with weft train --activation.");
  command->final_callback(
      [json_lines, &action] { action = [json_lines] { return list_activations(*json_lines); }; });
}

}  // namespace weft::app
