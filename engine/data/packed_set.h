// Data sets whose pictures lie in a few files of their own format: MNIST's and CIFAR-10's. Not part of the
// public API.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "weft/engine/data/dataset.h"
#include "weft/engine/data/file_tree.h"

namespace weft::data {

/// True where a file of this name makes its folder a packed set.
bool starts_packed_set(const std::string& name);
/// True where the last part of `path` is the name of such a file, or of one with the names of the classes.
bool in_packed_set(const std::string& path);
/// Whether these files, paths below their folder, are a packed set: some start one, and there is no train/ or
/// val/.
bool is_packed_set(const std::vector<FileEntry>& files);
/// Reads a split of it, see ImageDataset::open.
ImageDataset read_packed_set(const std::string& path, const std::vector<FileEntry>& files,
                             const std::string& split);

/// Pictures as PGM or PPM, and their labels.
struct LabelledPictures {
  std::vector<Bytes> pictures;
  std::vector<int64_t> labels;
};
/// The format of MNIST: images (magic number 0x803) and as many labels (0x801), each plain or gzipped. Throws
/// Error naming the file.
LabelledPictures read_idx(const FileEntry& images, const FileEntry& labels);
/// Adds the 32 x 32 pictures of a file of CIFAR-10's binary version. Throws Error naming the file.
void read_cifar10(const FileEntry& file, LabelledPictures& to);

/// The content of a file that must not be larger than `limit` bytes.
Bytes load_packed(const FileEntry& file, uint64_t limit);
/// `content`, unpacked if it is gzipped: at most `limit` bytes of it, so that a small file cannot become a
/// large one unasked. Where the end is reached its checksum is verified. Throws Error naming `name`.
std::vector<uint8_t> unpacked(const std::string& name, std::span<const uint8_t> content, uint64_t limit);

}  // namespace weft::data
