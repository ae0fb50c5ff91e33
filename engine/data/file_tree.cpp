#include "weft/engine/data/file_tree.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <set>

#include "weft/engine/data/packed_set.h"
#include "weft/engine/error.h"

namespace weft::data {

namespace fs = std::filesystem;

namespace {

constexpr const char* kLayout =
    "expected PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg (.jpeg, .png), or a .tgz or .tar of that, or "
    "the files of MNIST (train-images-idx3-ubyte ...) or CIFAR-10 (data_batch_1.bin ...)";
constexpr int kMaxDepth = 8;

bool is_split(const std::string& name) { return name == "train" || name == "val"; }

bool has_split(const fs::path& folder) {
  return fs::is_directory(folder / "train") || fs::is_directory(folder / "val");
}

bool has_packed_set(const fs::path& folder) {
  const fs::directory_iterator files(folder, fs::directory_options::skip_permission_denied);
  return std::any_of(begin(files), end(files), [](const fs::directory_entry& e) {
    return e.is_regular_file() && starts_packed_set(e.path().filename().string());
  });
}

bool has_set(const fs::path& folder) { return has_split(folder) || has_packed_set(folder); }

// "a, b, c, ..." of at most five.
std::string some_of(const std::set<std::string>& names) {
  std::string text;
  int n = 0;
  for (const std::string& name : names) {
    if (n++) text += ", ";
    if (n > 5) return text + "...";
    text += name;
  }
  return text.empty() ? "nothing" : text;
}

fs::path root_of_folder(const fs::path& path) {
  if (has_set(path)) return path;
  std::set<std::string> with, all;
  for (const fs::directory_entry& e : fs::directory_iterator(path)) {
    const std::string name = e.path().filename().string();
    if (name.starts_with('.')) continue;
    all.insert(name);
    if (e.is_directory() && has_set(e.path())) with.insert(name);
  }
  check(!with.empty(), "data: ", path.string(), " has no train/ or val/ folder, it has ", some_of(all), "; ",
        kLayout);
  check(with.size() == 1, "data: ", path.string(), " holds several data sets (", some_of(with),
        "): name one of them");
  return path / *with.begin();
}

constexpr int kClassDepth = 2;  // of the folders of classes, for walk()

void walk(const fs::path& folder, const std::string& prefix, int depth, std::vector<FileEntry>& out) {
  check(depth < kMaxDepth, "data: ", folder.string(), " is nested more than ", kMaxDepth,
        " folders deep (a link to itself?)");
  const size_t before = out.size();
  for (const fs::directory_entry& e : fs::directory_iterator(folder)) {
    const std::string name = e.path().filename().string();
    if (name.starts_with('.')) continue;
    if (e.is_directory())
      walk(e.path(), prefix + name + "/", depth + 1, out);
    else if (e.is_regular_file())
      out.push_back({prefix + name, nullptr, e.path().string()});
    else if (e.is_symlink())  // to nothing: counted as ignored, like links in archives
      out.push_back({prefix + name, nullptr, {}});
  }
  if (depth == kClassDepth && out.size() == before) out.push_back({prefix, nullptr, {}});
}

std::vector<FileEntry> read_folder(const fs::path& path) {
  const fs::path root = root_of_folder(path);
  std::vector<FileEntry> entries;
  for (const char* split : {"train", "val"})
    if (fs::is_directory(root / split)) walk(root / split, std::string(split) + "/", 1, entries);
  for (const fs::directory_entry& e : fs::directory_iterator(root)) {
    const std::string name = e.path().filename().string();
    const bool wanted = ends_with_any_case(name, ".csv") || in_packed_set(name);
    if (e.is_regular_file() && wanted && !name.starts_with('.'))
      entries.push_back({name, nullptr, e.path().string()});
  }
  return entries;
}

std::vector<FileEntry> read_packed(const std::string& path) {
  std::vector<FileEntry> all = read_archive(path), entries;
  // Where do train/ and val/, or the files of a packed set, lie: at the top or in a folder there?
  std::set<std::string> roots, top;
  for (const FileEntry& e : all) {
    const auto parts = path_parts(e.path);
    if (parts.empty() || parts[0].starts_with('.')) continue;
    top.insert(parts[0]);
    if (is_split(parts[0]) || (parts.size() == 1 && starts_packed_set(parts[0])))
      roots.insert("");
    else if (parts.size() > 1 && (is_split(parts[1]) || (parts.size() == 2 && starts_packed_set(parts[1]))))
      roots.insert(parts[0]);
  }
  check(!roots.empty(), "data: archive ", path, " has no train/ or val/ folder, it has ", some_of(top), "; ",
        kLayout);
  const bool at_top = roots.contains("");
  check(at_top || roots.size() == 1, "data: archive ", path, " holds several data sets (", some_of(roots),
        "): unpack it and name one of them");
  for (FileEntry& e : all) {
    auto parts = path_parts(e.path);
    if (parts.empty()) continue;  // "."
    if (!at_top) {
      if (parts[0] != *roots.begin()) continue;
      parts.erase(parts.begin());
    }
    const bool beside = e.has_content() && parts.size() == 1 &&
                        (ends_with_any_case(parts[0], ".csv") || in_packed_set(parts[0]));
    if (parts.empty() || !(is_split(parts[0]) || beside)) continue;
    if (std::any_of(parts.begin(), parts.end(), [](const auto& p) { return p.starts_with('.'); })) continue;
    e.path = parts[0];
    for (size_t i = 1; i < parts.size(); ++i) e.path += "/" + parts[i];
    entries.push_back(std::move(e));
  }
  return entries;
}

}  // namespace

Bytes FileEntry::load() const {
  if (bytes) return bytes;
  std::ifstream file(on_disk, std::ios::binary);
  check(bool(file), "data: cannot open ", on_disk);
  std::vector<uint8_t> content;
  char block[1 << 16];
  while (file.read(block, sizeof block), file.gcount() > 0) {
    content.insert(content.end(), block, block + file.gcount());
    check(int64_t(content.size()) <= kMaxFileBytes, "data: ", on_disk, " has more than ", kMaxFileBytes,
          " bytes; a picture or a table has less");
  }
  check(file.eof(), "data: cannot read ", on_disk);
  return std::make_shared<const std::vector<uint8_t>>(std::move(content));
}

std::vector<FileEntry> read_file_tree(const std::string& path) {
  try {
    check(fs::exists(path), "data: ", path, " does not exist; ", kLayout);
    std::vector<FileEntry> entries = fs::is_directory(path) ? read_folder(path) : read_packed(path);
    // In an archive the later of two files of the same name is the valid one, as when unpacking.
    std::stable_sort(entries.begin(), entries.end(),
                     [](const auto& a, const auto& b) { return a.path < b.path; });
    std::vector<FileEntry> unique;
    for (FileEntry& e : entries) {
      if (!unique.empty() && unique.back().path == e.path) unique.pop_back();
      unique.push_back(std::move(e));
    }
    return unique;
  } catch (const fs::filesystem_error& e) {
    fail("data: ", e.path1().string(), ": ", e.code().message());
  }
}

bool ends_with_any_case(const std::string& path, const std::string& suffix) {
  return path.size() >= suffix.size() &&
         std::equal(suffix.rbegin(), suffix.rend(), path.rbegin(),
                    [](char a, char b) { return a == std::tolower(static_cast<unsigned char>(b)); });
}

bool named_as_picture(const std::string& path) {
  return ends_with_any_case(path, ".jpg") || ends_with_any_case(path, ".jpeg") ||
         ends_with_any_case(path, ".png");
}

std::vector<std::string> path_parts(const std::string& path) {
  std::vector<std::string> parts;
  for (size_t from = 0; from < path.size();) {
    const size_t to = std::min(path.find('/', from), path.size());
    std::string part = path.substr(from, to - from);
    if (!part.empty() && part != ".") parts.push_back(std::move(part));
    from = to + 1;
  }
  return parts;
}

std::string as_utf8(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t k) { return i + k < text.size() ? uint8_t(text[i + k]) : uint8_t{0}; };
    const uint8_t first = byte(0);
    const size_t length = first < 0x80   ? 1
                          : first < 0xc2 ? 0
                          : first < 0xe0 ? 2
                          : first < 0xf0 ? 3
                          : first < 0xf5 ? 4
                                         : 0;
    // Neither longer than need be, nor half of a pair of UTF-16, nor above U+10FFFF (RFC 3629).
    bool good = length > 0 && !(first == 0xe0 && byte(1) < 0xa0) && !(first == 0xed && byte(1) > 0x9f) &&
                !(first == 0xf0 && byte(1) < 0x90) && !(first == 0xf4 && byte(1) > 0x8f);
    for (size_t k = 1; k < length; ++k) good = good && (byte(k) & 0xc0) == 0x80;
    out += good ? text.substr(i, length) : "?";
    i += good ? length : 1;
  }
  return out;
}

void check_class_names(const std::string& where, const std::vector<std::string>& classes) {
  for (const std::string& name : classes)
    if (const std::string shown = as_utf8(name); shown != name)
      fail("data: the name of class '", shown, "' in ", where,
           " is not UTF-8: rename its folder (or mend the file that lists the classes)");
}

}  // namespace weft::data
