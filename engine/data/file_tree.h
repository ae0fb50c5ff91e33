// The files of a data set, in a folder or in a tar archive, behind one interface. Of it only FileEntry is
// part of the public API: for pictures that a program has in memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace weft::data {

/// The content of a file, shared and never changed.
using Bytes = std::shared_ptr<const std::vector<uint8_t>>;

/// The most bytes that a file of a data set may have.
constexpr int64_t kMaxFileBytes = int64_t{1} << 30;

/// A file of a data set: its content where it came from an archive, else where it lies on disk.
struct FileEntry {
  std::string path = {};  ///< relative to the data set's root, with '/'
  Bytes bytes = {};
  std::string on_disk = {};

  /// The content, read now if it lies on disk. Throws Error where it cannot be read, or has more than
  /// kMaxFileBytes.
  Bytes load() const;
  /// Not so for a symbolic link in an archive, and for what is not wanted there.
  bool has_content() const { return bytes || !on_disk.empty(); }
  /// A class folder without any file is known by the '/' at the end of its path.
  bool is_empty_folder() const { return path.ends_with('/'); }
  /// For messages.
  const std::string& name() const { return on_disk.empty() ? path : on_disk; }
};

/// All that lies under train/ and val/, and the .csv files beside them, sorted by path; or else the files of
/// a packed set (packed_set.h). The root is `path` itself or the only folder in it that has one or the other.
/// Hidden files and folders (first character '.') are left out; files that are neither pictures by name nor
/// .csv come without their content; a class folder on disk without any file is an entry, too. Throws Error
/// where nothing of this kind is there, or the archive is corrupt.
std::vector<FileEntry> read_file_tree(const std::string& path);

/// All regular files of a tar archive, plain or gzipped, with the content of pictures, .csv files and packed
/// sets; a hard link shares that of the file before it that it names. And symbolic links with the names of
/// pictures, without content.
std::vector<FileEntry> read_archive(const std::string& path);

/// True for names that end in .jpg, .jpeg or .png, in capital or small letters.
bool named_as_picture(const std::string& path);
/// True where `path` ends with `suffix`, which is in small letters, in capital or small letters.
bool ends_with_any_case(const std::string& path, const std::string& suffix);
/// The parts between the slashes; empty ones and "." are left out.
std::vector<std::string> path_parts(const std::string& path);

/// The text with "?" for each byte that is not UTF-8; so where all is, the text itself.
std::string as_utf8(const std::string& text);
/// Throws Error naming the first of `classes` that is not UTF-8, which JSON, in files and output, cannot
/// hold.
void check_class_names(const std::string& where, const std::vector<std::string>& classes);

}  // namespace weft::data
