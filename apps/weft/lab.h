// The subcommands of weft lab, each in its file.
#pragma once

#include "weft/apps/weft/command.h"

namespace weft::app {

void add_lab_activations(CLI::App& lab, Action& action);
void add_lab_compare(CLI::App& lab, Action& action);
void add_lab_depth(CLI::App& lab, Action& action);
void add_lab_lr_find(CLI::App& lab, Action& action);
void add_lab_optimizers(CLI::App& lab, Action& action);
void add_lab_landscape(CLI::App& lab, Action& action);
void add_lab_output_landscape(CLI::App& lab, Action& action);

}  // namespace weft::app
