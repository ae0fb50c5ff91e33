// Found algorithms of convolutions and matrix products in files, one for each key: what tuning has measured
// once need not be measured by the next run.
#pragma once

#include <optional>
#include <string>

namespace weft::kernels::cuda {

/// What was stored for `key` (any text that names all that the choice depends on), or nothing: also where the
/// file is damaged, of another version, or another key's.
std::optional<std::string> read_plan(const std::string& folder, const std::string& key);
/// Stores it; a reader sees the old file or the whole new one. False where that was not possible.
bool write_plan(const std::string& folder, const std::string& key, const std::string& plan);
/// The file that both use.
std::string plan_file(const std::string& folder, const std::string& key);

}  // namespace weft::kernels::cuda
