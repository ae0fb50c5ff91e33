// weft lab optimizers: the optimizers that weft train --optimizer knows.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/lab.h"
#include "weft/optim/registry.h"

namespace weft::app {
namespace {

int list_optimizers(bool json_lines) {
  for (const std::string& name : optim::optimizer_names()) {
    const std::string_view text = optim::optimizer_description(name);
    if (json_lines) {
      fmt::print("{}\n", nlohmann::json{{"name", name}, {"description", text}}.dump());
      continue;
    }
    std::string lines = name + ": ";
    for (size_t i = 0; i < text.size(); ++i) {
      lines += text[i];
      if (text[i] == '\n' && text.substr(i + 1, 1) != "\n") lines += "  ";
    }
    fmt::print("{}\n\n", lines);
  }
  return kDone;
}

}  // namespace

void add_lab_optimizers(CLI::App& lab, Action& action) {
  auto json_lines = std::make_shared<bool>(false);
  CLI::App* command = lab.add_subcommand("optimizers", "The optimizers");
  command->add_flag("--list")->required()->description("all of them with formula and source");
  command->add_flag("--json", *json_lines, "JSON lines");
  command->footer("Each name works with weft train --optimizer.");
  command->final_callback(
      [json_lines, &action] { action = [json_lines] { return list_optimizers(*json_lines); }; });
}

}  // namespace weft::app
