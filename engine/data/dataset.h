// Labelled pictures in ImageNet's folder layout, SPLIT/CLASS/NAME.jpg, or in the files of MNIST or CIFAR-10.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "weft/engine/data/file_tree.h"

namespace weft::data {

/// A list of encoded pictures with their classes. Nothing is decoded here. Pictures of an archive are kept in
/// memory as they are encoded; those of a folder are read when asked for. Const use by several threads at
/// once is safe.
class ImageDataset {
 public:
  struct Sample {
    FileEntry file;
    int64_t label = 0;
  };

  ImageDataset() = default;
  /// A data set from parts, say pictures in memory. Labels must be indices into `classes`.
  ImageDataset(std::string split, std::vector<std::string> classes, std::vector<Sample> samples);

  /// Opens split "train" or "val" of `path`: a folder with train/ and val/ in it or in its only sub-folder
  /// that has them, or a .tgz, .tar.gz or .tar of one. Classes are the sorted names of the folders of train/
  /// that hold pictures (of val/ where there is no train/), pictures are sorted by path: the order never
  /// depends on the file system. Files that are not named .jpg, .jpeg or .png are ignored and counted; hidden
  /// files are passed over in silence. Throws Error with the mend: nothing at `path`, no such split, no
  /// pictures, a class in val that train lacks, a corrupt archive.
  ///
  /// Or opens a packed set in such a place, told by the names of its files, which may be gzipped:
  ///   MNIST and what has its form (Fashion-MNIST, KMNIST): train-images-idx3-ubyte, train-labels-idx1-ubyte,
  ///   t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (the latter two are val); pictures become grey RGB;
  ///   CIFAR-10, binary version: data_batch_1.bin and on, test_batch.bin (val), batches.meta.txt.
  /// The classes are the lines of classes.txt beside them; without it those of batches.meta.txt, CIFAR-10's
  /// own, the clothes of Fashion-MNIST where "fashion" is in the path, or the digits. The pictures keep their
  /// order, and their name() is SPLIT/CLASS/NUMBER. Throws Error for files that are not what their names say.
  static ImageDataset open(const std::string& path, const std::string& split);
  /// Both splits, {train, val}, reading an archive only once.
  static std::pair<ImageDataset, ImageDataset> open_splits(const std::string& path);

  int64_t size() const { return int64_t(samples_.size()); }
  const std::string& split() const { return split_; }
  /// Class names; a label is an index into them.
  const std::vector<std::string>& classes() const { return classes_; }
  int64_t label(int64_t i) const { return at(i).label; }
  /// The path below the root: "train/CLASS/NAME.JPEG".
  const std::string& name(int64_t i) const { return at(i).file.path; }
  /// The encoded picture. Throws Error where its file cannot be read.
  Bytes encoded(int64_t i) const { return at(i).file.load(); }
  /// Files that were passed over because their names are not those of pictures, or because they lie outside a
  /// class folder, or because they are symbolic links in an archive.
  int64_t ignored() const { return ignored_; }
  /// Those of them that lie in class folders, where pictures are expected: "train/CLASS/NAME.webp", sorted.
  const std::vector<std::string>& ignored_in_classes() const { return ignored_in_classes_; }
  /// Class folders of the split that hold no picture: "train/CLASS". In an archive one without any file is
  /// not seen.
  const std::vector<std::string>& empty_classes() const { return empty_classes_; }

  /// Replaces the labels by a column of a CSV table, as of noisy_imagewoof.csv: `csv_and_column` is
  /// "FILE:COLUMN", FILE lies beside train/ in the folder or archive, or is on disk. The table has a header,
  /// a column `path` like name() and class names in COLUMN; rows of the other split are passed over. Throws
  /// Error for a missing file or column, an unknown class, a row whose path is not in the data set, and a
  /// picture without a row. Returns how many labels changed.
  int64_t use_labels(const std::string& csv_and_column);

 private:
  const Sample& at(int64_t i) const;
  static ImageDataset from_tree(const std::string& path, const std::vector<FileEntry>& tree,
                                const std::string& split);

  std::string split_, source_;
  std::vector<std::string> classes_;
  std::vector<Sample> samples_;
  std::vector<FileEntry> tables_;  // .csv files at the root
  int64_t ignored_ = 0;
  std::vector<std::string> ignored_in_classes_, empty_classes_;
};

}  // namespace weft::data
