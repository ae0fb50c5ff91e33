// Data sets on disk for the tests of weft::data.
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "support/temp_folder.h"
#include "weft/engine/data/image.h"

namespace weft::test {

using Content = std::vector<uint8_t>;
/// Content by path.
using Files = std::map<std::string, Content>;

inline Content text(const std::string& s) { return Content(s.begin(), s.end()); }

/// A PNG of one colour with one differing corner, so that mirroring shows.
inline Content plain_png(int height, int width, uint8_t value) {
  data::Image image(height, width);
  for (uint8_t& v : image.pixels) v = value;
  for (int c = 0; c < 3; ++c) image.at(0, 0)[c] = uint8_t(255 - value);
  return data::encode_png(image);
}

inline void write_bytes(const std::string& path, const Content& content) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(content.data()), std::streamsize(content.size()));
  REQUIRE(out.good());
}

/// Writes all files below `root`.
inline void write_files(const std::string& root, const Files& files) {
  for (const auto& [name, content] : files) write_bytes(root + "/" + name, content);
}

/// Writes a tar archive, gzipped or plain, with `prefix` before each name.
inline void write_archive(const std::string& path, const Files& files, const std::string& prefix = "",
                          bool gzip = true) {
  archive* out = archive_write_new();
  if (gzip) archive_write_add_filter_gzip(out);
  archive_write_set_format_pax_restricted(out);
  REQUIRE(archive_write_open_filename(out, path.c_str()) == ARCHIVE_OK);
  for (const auto& [name, content] : files) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, (prefix + name).c_str());
    archive_entry_set_size(entry, int64_t(content.size()));
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    REQUIRE(archive_write_header(out, entry) >= ARCHIVE_WARN);  // it warns of names outside the C locale
    REQUIRE(archive_write_data(out, content.data(), content.size()) == la_ssize_t(content.size()));
    archive_entry_free(entry);
  }
  REQUIRE(archive_write_close(out) == ARCHIVE_OK);
  archive_write_free(out);
}

}  // namespace weft::test
