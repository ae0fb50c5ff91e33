// Downloads of known data sets.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace weft::app {

/// An archive that is published at a fixed address and known by its digest.
struct KnownSet {
  std::string name, url, sha256, about;

  std::string file_name() const { return name + ".tgz"; }
};

const std::vector<KnownSet>& known_sets();
/// The set of that name, or null.
const KnownSet* find_known_set(const std::string& name);

/// Brings the set's archive into `folder` and returns its path: nothing to do where it is there and whole,
/// otherwise curl downloads it (going on where an earlier try ended), and it gets its name only after its
/// SHA-256 has been checked. Throws Error that says what to do by hand where the download fails.
std::filesystem::path fetch(const KnownSet& set, const std::filesystem::path& folder, bool quiet);

}  // namespace weft::app
