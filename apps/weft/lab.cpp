// weft lab: looking at the parts that training is made of.
#include "weft/apps/weft/lab.h"

#include <CLI/CLI.hpp>

namespace weft::app {

void add_lab(CLI::App& weft, Action& action) {
  CLI::App* lab = weft.add_subcommand("lab", "Looks at the parts that training is made of");
  lab->require_subcommand(1);
  add_lab_activations(*lab, action);
  add_lab_compare(*lab, action);
  add_lab_depth(*lab, action);
  add_lab_lr_find(*lab, action);
  add_lab_optimizers(*lab, action);
  add_lab_landscape(*lab, action);
  add_lab_output_landscape(*lab, action);
}

}  // namespace weft::app
