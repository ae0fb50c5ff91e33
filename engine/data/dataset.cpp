#include "weft/engine/data/dataset.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "weft/engine/data/packed_set.h"
#include "weft/engine/error.h"

namespace weft::data {

namespace {

// The class folder of "split/CLASS/.../NAME"; empty where the file lies in no class folder or is in another
// split.
std::string class_of(const std::string& path, const std::string& split) {
  const auto parts = path_parts(path);
  return parts.size() >= 3 && parts[0] == split ? parts[1] : "";
}

std::set<std::string> classes_of(const std::vector<FileEntry>& tree, const std::string& split) {
  std::set<std::string> classes;
  for (const FileEntry& e : tree)
    if (named_as_picture(e.path) && e.has_content())
      if (std::string c = class_of(e.path, split); !c.empty()) classes.insert(std::move(c));
  return classes;
}

}  // namespace

ImageDataset::ImageDataset(std::string split, std::vector<std::string> classes, std::vector<Sample> samples)
    : split_(std::move(split)),
      source_("memory"),
      classes_(std::move(classes)),
      samples_(std::move(samples)) {
  for (const Sample& s : samples_)
    check(s.label >= 0 && s.label < int64_t(classes_.size()), "data: ", s.file.path, " has label ", s.label,
          ", but there are ", classes_.size(), " classes");
}

ImageDataset ImageDataset::from_tree(const std::string& path, const std::vector<FileEntry>& tree,
                                     const std::string& split) {
  check(split == "train" || split == "val", "data: there is no split '", split, "', only train and val");
  const bool packed = is_packed_set(tree);
  ImageDataset set = packed ? read_packed_set(path, tree, split) : ImageDataset();
  set.split_ = split;
  set.source_ = path;
  for (const FileEntry& e : tree)
    if (ends_with_any_case(e.path, ".csv") && path_parts(e.path).size() == 1) set.tables_.push_back(e);
  if (packed) return set;
  const auto in_train = classes_of(tree, "train"), here = classes_of(tree, split);
  const auto& known = in_train.empty() ? here : in_train;
  set.classes_.assign(known.begin(), known.end());
  check_class_names(path, set.classes_);

  bool split_exists = false, loose_pictures = false;
  std::set<std::string> folders;
  for (const FileEntry& e : tree) {
    if (!e.path.starts_with(split + "/")) continue;
    split_exists = true;
    if (e.is_empty_folder()) {
      folders.insert(path_parts(e.path).back());
      continue;
    }
    const std::string name = class_of(e.path, split);
    if (!name.empty()) folders.insert(name);
    if (name.empty() || !named_as_picture(e.path) || !e.has_content()) {
      loose_pictures |= name.empty() && named_as_picture(e.path);
      ++set.ignored_;
      if (!name.empty()) set.ignored_in_classes_.push_back(e.path);
      continue;
    }
    const auto c = std::lower_bound(set.classes_.begin(), set.classes_.end(), name);
    check(c != set.classes_.end() && *c == name, "data: class '", name, "' is in val/ of ", path,
          " but not in train/: add pictures of it to train/ or remove it from val/");
    set.samples_.push_back({e, c - set.classes_.begin()});
  }
  for (const std::string& folder : folders)
    if (!here.contains(folder)) set.empty_classes_.push_back(split + "/" + folder);
  if (set.samples_.empty() && loose_pictures)
    fail("data: the pictures of ", split, "/ in ", path, " lie in no class folder: expected ", split,
         "/CLASS/*.jpg");
  if (set.samples_.empty() && split_exists)
    fail("data: ", split, "/ of ", path, " has no pictures (", split, "/CLASS/*.jpg, .jpeg, .png), only ",
         set.ignored_, " other files");
  check(!set.samples_.empty(), "data: ", path, " has no ", split, "/ folder with pictures (expected ", split,
        "/CLASS/*.jpg, .jpeg, .png)");
  return set;
}

ImageDataset ImageDataset::open(const std::string& path, const std::string& split) {
  return from_tree(path, read_file_tree(path), split);
}

std::pair<ImageDataset, ImageDataset> ImageDataset::open_splits(const std::string& path) {
  const auto tree = read_file_tree(path);
  return {from_tree(path, tree, "train"), from_tree(path, tree, "val")};
}

const ImageDataset::Sample& ImageDataset::at(int64_t i) const {
  check(i >= 0 && i < size(), "data: picture ", i, " of a data set of ", size());
  return samples_[size_t(i)];
}

}  // namespace weft::data
