// What the runs of a study say, as statistics, tables and a picture.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "weft/apps/weft/drawing.h"
#include "weft/apps/weft/statistics.h"
#include "weft/apps/weft/study.h"

namespace weft::app {

/// Of a cell's runs that have ended and not diverged.
struct CellResult {
  MeanOf accuracy;  ///< on the validation images after the last epoch
  MeanOf loss, seconds;
  double best_accuracy = 0;
  int64_t diverged = 0;
  size_t baseline = 0;                ///< the cell that it is compared with; itself: with none
  PairedDifference difference = {};   ///< to that, over the seeds that both have
  std::optional<double> p_holm = {};  ///< difference.p, corrected for all comparisons of the study
};
std::vector<CellResult> results_of(const Study& study);

/// A sentence for each cell whose runs ended with the numbers of an earlier cell's, bit for bit and with
/// every seed: what is varied between the two does nothing there, as pad_mode where nothing is padded.
std::vector<std::string> cells_alike(const Study& study);

/// results.csv: a line for each run that has ended.
std::string results_csv(const Study& study);
/// summary.json.
nlohmann::json study_summary(const Study& study, const std::vector<CellResult>& results);
/// report.md: a table with a line for each cell, and how to read it.
std::string study_report(const Study& study, const std::vector<CellResult>& results);
/// plot.svg: mean and interval of each cell. Over a setting that is a number, or a name that ends in one,
/// with a line for each combination of the others; else one below the other.
Drawing plot_study(const Study& study, const std::vector<CellResult>& results);

/// Writes them all.
void write_report(const StudyFolder& folder, const Study& study);

}  // namespace weft::app
