#include "weft/engine/data/packed_set.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>

#include "weft/engine/error.h"

namespace weft::data {

namespace {

constexpr const char* kClassFile = "classes.txt";
constexpr const char* kCifarClasses = "batches.meta.txt";
constexpr uint64_t kMostClassText = 1 << 20;

const std::vector<std::string> kDigits = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
const std::vector<std::string> kClothes = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                           "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
const std::vector<std::string> kCifarNames = {"airplane", "automobile", "bird",  "cat",  "deer",
                                              "dog",      "frog",       "horse", "ship", "truck"};

bool is_cifar(const std::string& name) {
  return name == "test_batch.bin" || (name.starts_with("data_batch_") && name.ends_with(".bin"));
}

/// Whether `name` is that of "train-images-idx3-ubyte", also spelt with a dot, or with .gz behind it.
bool is_idx(const std::string& name, const char* split, const char* kind) {
  const std::string stem = concat(split, "-", kind),
                    end = concat("idx", kind == std::string("images") ? 3 : 1, "-ubyte");
  for (const char* join : {"-", "."})
    for (const char* tail : {"", ".gz"})
      if (name == concat(stem, join, end, tail)) return true;
  return false;
}

const FileEntry* find(const std::vector<FileEntry>& files, const std::string& name) {
  for (const FileEntry& f : files)
    if (f.path == name) return &f;
  return nullptr;
}

const FileEntry& find_idx(const std::string& path, const std::vector<FileEntry>& files, const char* split,
                          const char* kind) {
  for (const FileEntry& f : files)
    if (is_idx(f.path, split, kind)) return f;
  fail("data: ", path, " has no ", split, "-", kind, "-idx", kind == std::string("images") ? 3 : 1,
       "-ubyte (or .gz) beside its other files of MNIST's form");
}

/// The lines that are not empty.
std::vector<std::string> read_names(const FileEntry& file) {
  const Bytes content = load_packed(file, kMostClassText);
  std::vector<std::string> names(1);
  for (const uint8_t c : *content)
    if (c == '\n')
      names.emplace_back();
    else if (c != '\r')
      names.back() += char(c);
  std::erase(names, "");
  check(!names.empty(), "data: ", file.name(), " names no class");
  const std::set<std::string> different(names.begin(), names.end());
  check(different.size() == names.size(), "data: ", file.name(), " names a class twice");
  for (const std::string& name : names)
    check(std::none_of(name.begin(), name.end(), [](char c) { return std::iscntrl((unsigned char)c); }),
          "data: ", file.name(), " is not a text with the name of a class in each line");
  check_class_names(file.name(), names);
  return names;
}

/// However the path is spelt.
bool speaks_of_fashion(const std::string& path, const std::string& file) {
  std::error_code none;
  std::string whole = std::filesystem::weakly_canonical(path, none).string() + file;
  for (char& c : whole) c = char(std::tolower((unsigned char)c));
  return whole.find("fashion") != std::string::npos;
}

std::vector<std::string> class_names(const std::string& path, const std::vector<FileEntry>& files,
                                     bool cifar) {
  if (const FileEntry* f = find(files, kClassFile)) return read_names(*f);
  if (!cifar) return speaks_of_fashion(path, files[0].on_disk) ? kClothes : kDigits;
  const FileEntry* f = find(files, kCifarClasses);
  return f ? read_names(*f) : kCifarNames;
}

/// Throws where a file is missing before the one of the highest number.
void check_batches(const std::string& path, const std::vector<FileEntry>& files) {
  const auto batch = [](uint64_t k) { return concat("data_batch_", k, ".bin"); };
  const auto there = [&](uint64_t k) { return find(files, batch(k)) != nullptr; };
  uint64_t missing = 1;
  while (there(missing)) ++missing;
  for (const FileEntry& f : files) {
    const std::string text = f.path.substr(0, f.path.rfind(".bin"));
    const size_t digits = text.find_last_not_of("0123456789") + 1;
    const std::string number = text.substr(std::min(digits, text.size()));
    // One of more digits than any count of files is above it, too.
    const bool above = number.size() > 9 || (!number.empty() && std::stoull(number) > missing);
    if (is_cifar(f.path) && f.path.starts_with("data_batch_") && above)
      fail("data: ", path, " has ", f.path, ", but no ", batch(missing),
           ": unpack the archive of CIFAR-10 again, or number the files without gaps");
  }
}

LabelledPictures read_split(const std::string& path, const std::vector<FileEntry>& files, bool cifar,
                            const std::string& split) {
  if (!cifar) {
    const char* name = split == "train" ? "train" : "t10k";
    return read_idx(find_idx(path, files, name, "images"), find_idx(path, files, name, "labels"));
  }
  if (split == "train") check_batches(path, files);
  LabelledPictures all;
  const char* begin = split == "train" ? "data_batch_" : "test_batch";
  for (const FileEntry& f : files)
    if (is_cifar(f.path) && f.path.starts_with(begin)) read_cifar10(f, all);
  check(!all.labels.empty(), "data: ", path, " has no ", begin, split == "train" ? "*" : "",
        ".bin beside its other files of CIFAR-10");
  return all;
}

}  // namespace

bool starts_packed_set(const std::string& name) {
  if (is_cifar(name)) return true;
  for (const char* split : {"train", "t10k"})
    for (const char* kind : {"images", "labels"})
      if (is_idx(name, split, kind)) return true;
  return false;
}

bool in_packed_set(const std::string& path) {
  const auto parts = path_parts(path);
  if (parts.empty()) return false;
  return starts_packed_set(parts.back()) || parts.back() == kClassFile || parts.back() == kCifarClasses;
}

bool is_packed_set(const std::vector<FileEntry>& files) {
  const auto in_split = [](const FileEntry& f) { return path_parts(f.path).size() > 1; };
  return std::none_of(files.begin(), files.end(), in_split) &&
         std::any_of(files.begin(), files.end(),
                     [](const FileEntry& f) { return starts_packed_set(f.path); });
}

ImageDataset read_packed_set(const std::string& path, const std::vector<FileEntry>& files,
                             const std::string& split) {
  const auto of_cifar = [](const FileEntry& f) { return is_cifar(f.path); };
  const bool cifar = std::any_of(files.begin(), files.end(), of_cifar);
  check(!cifar || std::none_of(files.begin(), files.end(),
                               [&](const FileEntry& f) { return starts_packed_set(f.path) && !of_cifar(f); }),
        "data: ", path, " has files of MNIST's form and of CIFAR-10's: put them into folders of their own");
  std::vector<std::string> classes = class_names(path, files, cifar);
  const LabelledPictures all = read_split(path, files, cifar, split);
  std::vector<ImageDataset::Sample> samples;
  samples.reserve(all.labels.size());
  for (size_t i = 0; i < all.labels.size(); ++i) {
    const int64_t label = all.labels[i];
    check(label < int64_t(classes.size()), "data: picture ", i, " of ", split, " in ", path, " has label ",
          label, ", but there are ", classes.size(), " classes; ", kClassFile, " beside it can name more");
    std::string number = std::to_string(i);
    number.insert(0, number.size() < 5 ? 5 - number.size() : 0, '0');
    samples.push_back(
        {{concat(split, "/", classes[size_t(label)], "/", number), all.pictures[i], {}}, label});
  }
  return ImageDataset(split, std::move(classes), std::move(samples));
}

}  // namespace weft::data
