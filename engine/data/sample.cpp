#include "weft/engine/data/sample.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "weft/engine/data/shapes.h"
#include "weft/engine/error.h"

namespace weft::data {

namespace fs = std::filesystem;

namespace {

constexpr const char* kSplits[] = {"train", "val"};

int per_class(const SampleOptions& options, const std::string& split) {
  check(split == "train" || split == "val", "sample: there is no split '", split, "', only train and val");
  return split == "train" ? options.train_per_class : options.val_per_class;
}

void check_options(const SampleOptions& o) {
  check(o.pixels >= 16 && o.pixels <= 1024, "sample: pixels is ", o.pixels, ", but must be 16 to 1024");
  for (int n : {o.train_per_class, o.val_per_class})
    check(n >= 1 && n <= kMaxSamplePictures, "sample: ", n, " pictures per class, but 1 to ",
          kMaxSamplePictures, " are possible");
}

std::string file_name(const std::string& split, int64_t label, int64_t number) {
  const std::string& name = sample_classes()[size_t(label)];
  char digits[24];
  std::snprintf(digits, sizeof digits, "_%05d.JPEG", int(number));
  return split + "/" + name + "/" + name + digits;
}

std::vector<uint8_t> encode_sample(const std::string& split, int64_t label, int64_t number,
                                   const SampleOptions& options) {
  return encode_jpeg(draw_sample(split, label, number, options), 75 + int(number % 5) * 5);
}

void write_picture(const fs::path& path, const std::vector<uint8_t>& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
  file.close();
  check(bool(file), "sample: cannot write ", path.string(), ": ", std::strerror(errno));
}

/// A new folder beside `target`, gone with all that is in it on scope exit.
struct PartFolder {
  std::string path;
  explicit PartFolder(const fs::path& target) : path(target.string() + ".partXXXXXX") {
    if (target.has_parent_path()) fs::create_directories(target.parent_path());
    const bool made = mkdtemp(path.data()) != nullptr;  // before errno is read
    check(made, "sample: cannot make a folder beside ", target.string(), ": ", std::strerror(errno));
  }
  ~PartFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  PartFolder(const PartFolder&) = delete;
};

}  // namespace

const std::vector<std::string>& sample_classes() {
  static const std::vector<std::string> names = shape_names();
  return names;
}

Image draw_sample(const std::string& split, int64_t label, int64_t number, const SampleOptions& options) {
  check_options(options);
  per_class(options, split);
  check(label >= 0 && label < int64_t(sample_classes().size()), "sample: there is no class ", label);
  check(number >= 0, "sample: picture ", number);
  return draw_shape(int(label), options.pixels, options.seed,
                    uint64_t(number) * 64 + uint64_t(label) * 2 + (split == "val"));
}

ImageDataset sample_dataset(const std::string& split, const SampleOptions& options) {
  check_options(options);
  std::vector<ImageDataset::Sample> samples;
  for (int64_t label = 0; label < int64_t(sample_classes().size()); ++label)
    for (int64_t n = 0; n < per_class(options, split); ++n) {
      auto bytes = std::make_shared<const std::vector<uint8_t>>(encode_sample(split, label, n, options));
      samples.push_back({{file_name(split, label, n), std::move(bytes), {}}, label});
    }
  return ImageDataset(split, sample_classes(), std::move(samples));
}

void make_sample_dataset(const std::string& path, const SampleOptions& options) {
  check_options(options);
  try {
    fs::path target = fs::path(path).lexically_normal();
    if (target.filename().empty()) target = target.parent_path();
    check(!target.empty(), "sample: the path is empty");
    check(!fs::exists(target), "sample: ", path, " exists already: remove it or choose another folder");
    const PartFolder folder(target);
    // One below, because mkdtemp makes a folder that nobody else may read.
    const fs::path part = fs::path(folder.path) / target.filename();
    for (const std::string split : kSplits)
      for (int64_t label = 0; label < int64_t(sample_classes().size()); ++label) {
        fs::create_directories(part / split / sample_classes()[size_t(label)]);
        for (int64_t n = 0; n < per_class(options, split); ++n)
          write_picture(part / file_name(split, label, n), encode_sample(split, label, n, options));
      }
    fs::rename(part, target);
  } catch (const fs::filesystem_error& e) {
    fail("sample: ", e.path1().string(), ": ", e.code().message());
  }
}

}  // namespace weft::data
