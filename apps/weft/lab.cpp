// weft lab: looking at the parts that training is made of.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/command.h"
#include "weft/kernels/activation.h"

namespace weft::app {
namespace {

struct ActivationFlags {
  bool list = false, json_lines = false;
};

int list_activations(const ActivationFlags& flags) {
  for (int i = 0; i < kActivationCount; ++i) {
    const auto act = Activation(i);
    const std::string_view name = activation_name(act), text = activation_description(act);
    const double param = activation_default_param(act);
    if (flags.json_lines)
      fmt::print("{}\n", nlohmann::json{{"name", name}, {"parameter", param}, {"description", text}}.dump());
    else
      fmt::print("{}{}\n", text, param == 0 ? "" : fmt::format(" [parameter {}]", param));
  }
  return kDone;
}

}  // namespace

void add_lab(CLI::App& weft, Action& action) {
  CLI::App* lab = weft.add_subcommand("lab", "Looks at the parts that training is made of");
  lab->require_subcommand(1);
  auto flags = std::make_shared<ActivationFlags>();
  CLI::App* command = lab->add_subcommand("activations", "The activation functions");
  command->add_flag("--list", flags->list, "all of them with formula, source and default parameter")
      ->required();
  command->add_flag("--json", flags->json_lines, "JSON lines");
  command->footer("Each name works with weft train --activation.");
  command->final_callback([flags, &action] { action = [flags] { return list_activations(*flags); }; });
}

}  // namespace weft::app
