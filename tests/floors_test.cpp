// The house keeps its floors: includes only go down, and public headers show nothing of what lies under them.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

const fs::path kRoot = fs::path(WEFT_TEST_DIR).parent_path();

struct Include {
  std::string name;
  bool quoted;  // "..." and not <...>
  int line;
};

std::vector<Include> includes_of(const fs::path& file) {
  std::ifstream in(file);
  REQUIRE(in.good());
  std::vector<Include> found;
  std::string text;
  for (int line = 1; std::getline(in, text); ++line) {
    const size_t hash = text.find_first_not_of(" \t");
    if (hash == std::string::npos || text[hash] != '#') continue;
    const size_t word = text.find_first_not_of(" \t", hash + 1);
    if (word == std::string::npos || text.compare(word, 7, "include") != 0) continue;
    const size_t open = text.find_first_of("\"<", word + 7);
    if (open == std::string::npos) continue;  // a macro's name
    const size_t close = text.find(text[open] == '<' ? '>' : '"', open + 1);
    REQUIRE(close != std::string::npos);
    found.push_back({text.substr(open + 1, close - open - 1), text[open] == '"', line});
  }
  return found;
}

std::vector<fs::path> sources_under(const std::string& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder))
    if (entry.is_regular_file() && (entry.path().extension() == ".h" || entry.path().extension() == ".cpp"))
      files.push_back(fs::relative(entry.path(), kRoot));
  return files;
}

bool starts_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

// The floor of a path below the root. engine/data is one of its own: the core must do without the image
// libraries.
std::string floor_of(const std::string& path) {
  if (starts_with(path, "engine/data/")) return "engine/data";
  return path.substr(0, path.find('/'));
}

const std::map<std::string, std::vector<std::string>> kMayUse = {
    {"kernels", {"kernels"}},
    {"engine", {"kernels", "engine"}},
    {"engine/data", {"kernels", "engine", "engine/data"}},
    {"layers", {"kernels", "engine", "layers"}},
    {"optim", {"kernels", "engine", "optim"}},
    {"apps", {"kernels", "engine", "engine/data", "layers", "optim", "apps", "weft.h"}},
};

}  // namespace

TEST_CASE("kernels that are launched early say of no memory that nothing writes it") {
  int checked = 0;
  for (const char* folder : {"kernels/cuda", "optim"})
    for (const auto& entry : fs::directory_iterator(kRoot / folder)) {
      const std::string name = entry.path().string();
      if (entry.path().extension() != ".cu" && entry.path().extension() != ".h") continue;
      std::ifstream in(name);
      const std::string text{std::istreambuf_iterator<char>(in), {}};
      static const std::regex early("wait_for_earlier|launch_early|launch_together|map<");
      if (!std::regex_search(text, early) || entry.path().filename() == "device.h") continue;
      ++checked;
      static const std::regex promise("const [A-Za-z0-9_:<>]+\\* __restrict__");
      CHECK_MESSAGE(!std::regex_search(text, promise), name,
                    ": see wait_for_earlier() in kernels/cuda/device.h");
    }
  CHECK(checked > 10);
}

TEST_CASE("includes only go down") {
  int checked = 0;
  for (const char* folder : {"kernels", "engine", "layers", "optim", "apps"}) {
    for (const fs::path& file : sources_under(folder)) {
      const std::vector<std::string>& allowed = kMayUse.at(floor_of(file.generic_string()));
      for (const Include& include : includes_of(kRoot / file)) {
        if (!starts_with(include.name, "weft/")) {
          CHECK_MESSAGE(!include.quoted, file.string(), ":", include.line, ": \"", include.name,
                        "\" should be written from the root, as \"weft/...\"");
          continue;
        }
        const std::string target = floor_of(include.name.substr(5));
        const bool down = std::find(allowed.begin(), allowed.end(), target) != allowed.end();
        CHECK_MESSAGE(down, file.string(), ":", include.line, ": ", floor_of(file.generic_string()),
                      " must not include ", include.name);
        ++checked;
      }
    }
  }
  CHECK(checked > 100);
}

TEST_CASE("public headers include the standard library and weft, nothing else") {
  int checked = 0;
  for (const char* folder : {"kernels", "engine", "layers", "optim"}) {
    for (const fs::path& file : sources_under(folder)) {
      const std::string name = file.generic_string();
      // The inside of the kernels is not installed.
      if (file.extension() != ".h" || starts_with(name, "kernels/cpu/") ||
          starts_with(name, "kernels/cuda/") || starts_with(name, "kernels/reference/"))
        continue;
      ++checked;
      for (const Include& include : includes_of(kRoot / file)) {
        const bool ours = starts_with(include.name, "weft/");
        // Standard headers have neither a dot nor a slash in their names; Eigen/Dense, jpeglib.h, immintrin.h
        // have.
        const bool standard = !include.quoted && include.name.find_first_of("./") == std::string::npos;
        CHECK_MESSAGE((ours || standard), name, ":", include.line, ": a public header includes ",
                      include.name);
        const bool inner = starts_with(include.name, "weft/kernels/cpu/") ||
                           starts_with(include.name, "weft/kernels/cuda/") ||
                           starts_with(include.name, "weft/kernels/reference/");
        CHECK_MESSAGE(!inner, name, ":", include.line, ": ", include.name, " is not installed");
      }
      std::ifstream in(kRoot / file);
      const std::string text{std::istreambuf_iterator<char>(in), {}};
      CHECK_MESSAGE(text.find("#pragma once") != std::string::npos, name, " has no #pragma once");
    }
  }
  CHECK(checked > 20);
}
