// The documentation can't rot: C++ that it quotes must stand in the file it names, and quoted output must be
// what the program prints. A fenced block is preceded by one of these lines:
//   <!-- code: apps/examples/tutorial_tape.cpp -->    before ```cpp, or before ```diff for what that adds
//   <!-- output: tutorial_tape -->                    before ```text, the name of a program of apps/examples
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

const fs::path kRoot = fs::path(WEFT_TEST_DIR).parent_path();

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// The lines without indentation; empty ones left out.
std::vector<std::string> lines_of(std::istream& in) {
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);)
    if (!trimmed(line).empty()) lines.push_back(trimmed(line));
  return lines;
}

struct Block {
  std::string document, language,
      source;  // source: what the marker line says, "code: FILE" or "output: NAME"
  int line = 0;
  std::vector<std::string> lines;
};

std::vector<Block> blocks_of(const fs::path& document) {
  std::ifstream in(document);
  REQUIRE(in.good());
  std::vector<Block> blocks;
  std::string line, marker;
  int number = 0;
  bool inside = false;
  for (; std::getline(in, line); ++number) {
    const std::string text = trimmed(line);
    if (text.compare(0, 3, "```") == 0) {
      inside = !inside;
      if (inside)
        blocks.push_back({fs::relative(document, kRoot).string(), text.substr(3), marker, number, {}});
      marker.clear();
    } else if (inside) {
      if (!text.empty()) blocks.back().lines.push_back(text);
    } else if (text.compare(0, 5, "<!-- ") == 0 && text.size() > 9) {
      marker = text.substr(5, text.size() - 9);
    } else if (!text.empty()) {
      marker.clear();
    }
  }
  CHECK_MESSAGE(!inside, document.string(), ": a fenced block is not closed");
  return blocks;
}

std::vector<fs::path> all_documents() {
  std::vector<fs::path> documents = {kRoot / "README.md", kRoot / "CONTRIBUTING.md", kRoot / "CHANGELOG.md"};
  for (const auto& entry : fs::directory_iterator(kRoot / "docs"))
    if (entry.path().extension() == ".md") documents.push_back(entry.path());
  return documents;
}

std::vector<Block> all_blocks() {
  std::vector<Block> all;
  for (const fs::path& document : all_documents()) {
    const auto blocks = blocks_of(document);
    all.insert(all.end(), blocks.begin(), blocks.end());
  }
  return all;
}

/// What a diff adds.
std::vector<std::string> added_lines(const std::vector<std::string>& diff) {
  std::vector<std::string> added;
  for (const std::string& line : diff)
    if (line[0] == '+' && line.compare(0, 3, "+++") != 0 && !trimmed(line.substr(1)).empty())
      added.push_back(trimmed(line.substr(1)));
  return added;
}

bool contains(const std::vector<std::string>& text, const std::vector<std::string>& part) {
  return std::search(text.begin(), text.end(), part.begin(), part.end()) != text.end();
}

}  // namespace

TEST_CASE("quoted C++ stands in the source it names") {
  int checked = 0;
  for (const Block& block : all_blocks()) {
    if (block.language != "cpp" && block.language != "diff") continue;
    const std::string where = block.document + ":" + std::to_string(block.line);
    REQUIRE_MESSAGE(block.source.compare(0, 6, "code: ") == 0, where,
                    ": C++ without a line `<!-- code: FILE -->`");
    std::ifstream in(kRoot / block.source.substr(6));
    REQUIRE_MESSAGE(in.good(), where, ": no file ", block.source.substr(6));
    const auto quoted = block.language == "diff" ? added_lines(block.lines) : block.lines;
    CHECK(!quoted.empty());
    CHECK_MESSAGE(contains(lines_of(in), quoted), where, ": not in ", block.source.substr(6), " as quoted");
    ++checked;
  }
  CHECK(checked >= 10);
}

TEST_CASE("links between the documents lead somewhere") {
  int checked = 0;
  for (const fs::path& document : all_documents()) {
    std::ifstream in(document);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const std::regex link(R"(\]\(([^) #:]+)\))");  // [words](file), no address of the web
    for (std::sregex_iterator i(text.begin(), text.end(), link), end; i != end; ++i) {
      CHECK_MESSAGE(fs::exists(document.parent_path() / (*i)[1].str()), document.string(), ": no ",
                    (*i)[1].str());
      ++checked;
    }
  }
  CHECK(checked >= 10);
}

#ifdef WEFT_EXAMPLES_DIR
TEST_CASE("quoted output is what the examples print") {
  const char* const given = std::getenv("WEFT_EXAMPLES_DIR");  // as in support/command.h
  const std::string folder = given ? given : WEFT_EXAMPLES_DIR;
  std::map<std::string, std::vector<std::string>> outputs;
  int checked = 0;
  for (const Block& block : all_blocks()) {
    if (block.source.compare(0, 8, "output: ") != 0) continue;
    const std::string name = block.source.substr(8);
    if (!outputs.count(name)) {
      FILE* pipe = popen((folder + "/" + name).c_str(), "r");
      REQUIRE(pipe);
      std::string text;
      char buffer[4096];
      for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, n);
      REQUIRE_MESSAGE(pclose(pipe) == 0, name, " failed");
      std::istringstream in(text);
      outputs[name] = lines_of(in);
    }
    CHECK_MESSAGE(contains(outputs[name], block.lines), block.document, ":", block.line, ": not what ", name,
                  " prints");
    ++checked;
  }
  CHECK(checked >= 5);
}
#endif
