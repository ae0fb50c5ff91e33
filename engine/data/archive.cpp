// Reading tar archives whole. zlib unpacks gzip rather than libarchive, which does not verify the checksum at
// the end.
#include <archive.h>
#include <archive_entry.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <map>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "weft/engine/data/file_tree.h"
#include "weft/engine/data/packed_set.h"
#include "weft/engine/error.h"

namespace weft::data {

namespace {

/// What this machine has; a few bytes of an archive may stand for any number.
int64_t memory_bytes() { return int64_t(sysconf(_SC_PHYS_PAGES)) * int64_t(sysconf(_SC_PAGESIZE)); }

struct Unzip {
  gzFile file;
  std::vector<char> block = std::vector<char>(1 << 18);
  bool zeros_last = false, ran_out = false;  // the last bytes were zeros; more were asked for after them
};

// What zlib has to say about the last read; null where all is well.
const char* trouble(gzFile file) {
  int code = Z_OK;
  const char* text = gzerror(file, &code);
  if (code == Z_OK || code == Z_STREAM_END) return nullptr;
  return code == Z_BUF_ERROR ? "the compressed data ends too early" : text;
}

// Plain data passes through gzread unchanged.
la_ssize_t read_block(archive* reader, void* user, const void** block) {
  auto* source = static_cast<Unzip*>(user);
  const int n = gzread(source->file, source->block.data(), unsigned(source->block.size()));
  if (const char* text = n <= 0 ? trouble(source->file) : nullptr) {
    archive_set_error(reader, EILSEQ, "%s", text);
    return -1;
  }
  if (n > 0)
    source->zeros_last = std::all_of(source->block.data() + std::max(0, n - 512), source->block.data() + n,
                                     [](char c) { return c == 0; });
  else
    source->ran_out = true;
  *block = source->block.data();
  return n;
}

/// What the file is where it is no tar and no gzip, by its first bytes: "a zip archive"; empty: unknown.
std::string other_format(const std::string& path) {
  constexpr std::pair<std::string_view, std::string_view> kFormats[] = {
      {"PK\3\4", "a zip archive"},        {"PK\5\6", "a zip archive"},
      {"BZh", "packed with bzip2"},       {"\3757zXZ", "packed with xz"},
      {"(\265/\375", "packed with zstd"}, {"7z\274\257'\34", "a 7-Zip archive"},
      {"Rar!\32\7", "a RAR archive"}};
  std::ifstream file(path, std::ios::binary);
  char first[8] = {};
  file.read(first, sizeof first);
  const std::string_view begins(first, size_t(file.gcount()));
  for (const auto& [magic, name] : kFormats)
    if (begins.starts_with(magic)) return std::string(name);
  return {};
}

/// The form in UTF-8 where there is one.
std::string text_of(const char* utf8, const char* as_it_is) { return utf8 ? utf8 : as_it_is ? as_it_is : ""; }

/// A tar archive that is being read.
struct TarFile {
  const std::string& path;
  Unzip source;
  std::unique_ptr<gzFile_s, int (*)(gzFile)> closing;
  std::unique_ptr<archive, int (*)(archive*)> reader;
  int64_t limit = memory_bytes(), kept = 0;

  explicit TarFile(const std::string& p)
      : path(p),
        source{gzopen(p.c_str(), "rb")},
        closing(source.file, gzclose),
        reader(archive_read_new(), archive_read_free) {
    check(source.file != nullptr, "data: cannot open ", path);
    gzbuffer(source.file, 1 << 18);
    check(reader != nullptr, "data: cannot set up libarchive");
    archive_read_support_format_tar(reader.get());
    archive_read_support_format_empty(reader.get());
    if (archive_read_open(reader.get(), &source, nullptr, read_block, nullptr) != ARCHIVE_OK) bad();
  }

  [[noreturn]] void bad() const {
    const char* text = archive_error_string(reader.get());
    if (const std::string format = other_format(path); !format.empty())
      fail("data: ", path, " is ", format,
           ", which weft does not read; pack its content anew as a .tgz or .tar, or unpack it and name the "
           "folder");
    fail("data: ", path, " is not a readable .tgz or .tar: ", text ? text : "unknown format",
         "; where it was downloaded, do that again and compare its checksum");
  }

  /// Counts memory that stays in use.
  void keep(int64_t bytes) {
    kept += bytes;
    check(kept <= limit, "data: ", path, " holds more than fits into memory (", limit,
          " bytes); unpack it and name the folder");
  }

  /// The header of the next entry, or null at the end.
  archive_entry* next() {
    archive_entry* header = nullptr;
    const int result = archive_read_next_header(reader.get(), &header);
    if (result == ARCHIVE_EOF) return nullptr;
    // A warning is about a name outside the C locale; its UTF-8 form is still whole.
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN) bad();
    return header;
  }

  /// The content of the entry that came last, which has that name.
  Bytes content(archive_entry* header, const std::string& name) {
    const int64_t size = archive_entry_size(header);
    check(size >= 0 && size <= kMaxFileBytes, "data: ", path, ": ", name, " claims ", size, " bytes");
    check(archive_entry_sparse_count(header) == 0, "data: ", path, ": ", name,
          " has holes (a sparse file); pictures have none");
    std::vector<uint8_t> bytes;
    uint8_t block[1 << 14];
    // In blocks, so that a false size in the header takes no memory.
    for (la_ssize_t n; (n = archive_read_data(reader.get(), block, sizeof block)) != 0;) {
      if (n < 0) bad();
      bytes.insert(bytes.end(), block, block + n);
      keep(n);
    }
    bytes.shrink_to_fit();
    return std::make_shared<const std::vector<uint8_t>>(std::move(bytes));
  }

  /// Behind the last entry.
  void check_end(const std::vector<FileEntry>& entries) {
    // libarchive takes the end of the file for the end of the archive, which blocks of zeros mark.
    if (!entries.empty() && source.ran_out && !source.zeros_last)
      fail("data: ", path, " is a tar that ends too early, after ", entries.back().path,
           "; where it was downloaded, do that again and compare its checksum");
    // Where it is compressed to the end, where the checksum of the whole is.
    while (!gzdirect(source.file) &&
           gzread(source.file, source.block.data(), unsigned(source.block.size())) > 0) {
    }
    if (const char* text = trouble(source.file)) fail("data: ", path, " is corrupt: ", text);
  }
};

}  // namespace

std::vector<FileEntry> read_archive(const std::string& path) {
  constexpr size_t kLongestName = 4096;
  TarFile tar(path);
  std::vector<FileEntry> entries;
  std::map<std::string, Bytes> contents;  // that hard links may name
  while (archive_entry* header = tar.next()) {
    const std::string linked = text_of(archive_entry_hardlink_utf8(header), archive_entry_hardlink(header));
    const auto type = archive_entry_filetype(header);
    if (type != AE_IFREG && type != AE_IFLNK && linked.empty()) continue;
    FileEntry entry{
        text_of(archive_entry_pathname_utf8(header), archive_entry_pathname(header)), nullptr, {}};
    if (entry.path.empty()) tar.bad();
    check(entry.path.size() <= kLongestName, "data: ", path, ": a name of ", entry.path.size(),
          " bytes, which begins with ", entry.path.substr(0, 40), "; no file has that");
    tar.keep(int64_t(sizeof entry + entry.path.size()));
    const bool picture = named_as_picture(entry.path);
    const bool wanted = picture || ends_with_any_case(entry.path, ".csv") || in_packed_set(entry.path);
    if (wanted && !linked.empty()) {
      const auto before = contents.find(linked);
      check(before != contents.end(), "data: ", path, ": ", entry.path, " is a hard link to ", linked,
            ", of which nothing was read before; unpack the archive and name the folder");
      entry.bytes = before->second;
    } else if (type == AE_IFLNK) {
      if (!picture) continue;
    } else if (wanted) {
      contents[entry.path] = entry.bytes = tar.content(header, entry.path);
    }
    entries.push_back(std::move(entry));
  }
  tar.check_end(entries);
  return entries;
}

}  // namespace weft::data
