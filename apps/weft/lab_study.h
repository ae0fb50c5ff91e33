// What weft lab compare and its presets have in common.
#pragma once

#include <string>
#include <vector>

#include "weft/apps/weft/run_flags.h"

namespace weft::app {

struct StudyFlags : RunFlags {
  std::string title = "Comparison";
  std::vector<std::string> vary;  ///< "KEY=V1,V2,..."
  bool axes_typed = false;        ///< vary and within are from the command line, not from a preset
  std::string within;
};

/// Adds the flags of a study to a command; flags.preset gives their defaults.
void add_study_flags(CLI::App& command, StudyFlags& flags);

/// Makes the study, or goes on with it; its exit code.
int run_study(StudyFlags flags);

}  // namespace weft::app
