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
  for (int i = 0; i < kAllActivationCount; ++i) {
    const auto act = Activation(i);
    const std::string_view name = activation_name(act), text = activation_description(act);
    const double param = activation_default_param(act);
    nlohmann::json row{{"name", name}, {"parameter", param}, {"description", text}};
    std::string remark = param == 0 ? "" : fmt::format(" [parameter {}]", param);
    for (const LearnedParameter& p : activation_parameters(act)) {
      row["learned"][std::string(p.name)] = p.start;
      remark += fmt::format(" [{} learned, from {}]", p.name, p.start);
    }
    if (json_lines)
      fmt::print("{}\n", row.dump());
    else
      fmt::print("{}{}\n", text, remark);
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
