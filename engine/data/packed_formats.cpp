// The bytes of MNIST's and of CIFAR-10's files.
#include <zlib.h>

#include <algorithm>
#include <filesystem>

#include "weft/engine/data/codecs.h"
#include "weft/engine/data/packed_set.h"
#include "weft/engine/error.h"

namespace weft::data {

namespace {

constexpr uint64_t kMostBytes = uint64_t{1} << 30;  // of a file, unpacked
constexpr uint32_t kImages = 0x803, kLabels = 0x801;

uint32_t number_at(const std::vector<uint8_t>& bytes, size_t i) {
  return uint32_t(bytes[i]) << 24 | uint32_t(bytes[i + 1]) << 16 | uint32_t(bytes[i + 2]) << 8 | bytes[i + 3];
}

struct Idx {
  uint64_t count = 0, rows = 1, columns = 1;
  size_t start = 0;  // of the elements in
  std::vector<uint8_t> bytes;
};

/// A file of unsigned bytes in one or three dimensions, exactly as long as its header says.
Idx read(const FileEntry& file, uint32_t magic) {
  const Bytes content = load_packed(file, kMostBytes);
  const size_t header = magic == kImages ? 16 : 8;
  const std::vector<uint8_t> head = unpacked(file.name(), *content, header);
  check(head.size() >= 4, "data: ", file.name(), " is truncated: ", head.size(), " bytes");
  check(number_at(head, 0) == magic, "data: ", file.name(), " does not begin with the magic number ", magic,
        " of MNIST's ", magic == kImages ? "images" : "labels", " but with ", number_at(head, 0));
  check(head.size() == header, "data: ", file.name(), " is truncated in its header");
  Idx idx;
  idx.start = header;
  idx.count = number_at(head, 4);
  if (magic == kImages) idx.rows = number_at(head, 8), idx.columns = number_at(head, 12);
  check_size(concat("data: ", file.name()).c_str(), idx.rows, idx.columns, 64 << 20);
  check(idx.count > 0, "data: ", file.name(), " has no elements");
  const uint64_t each = idx.rows * idx.columns;
  // A picture takes some hundred bytes beside its pixels.
  check(idx.count <= kMostBytes / (magic == kImages ? each + 256 : each), "data: ", file.name(), " promises ",
        idx.count, " x ", idx.rows, " x ", idx.columns, " bytes; with what else they take the limit is ",
        kMostBytes);
  const uint64_t bytes = header + idx.count * each;
  idx.bytes = unpacked(file.name(), *content, bytes + 1);
  check(idx.bytes.size() >= bytes, "data: ", file.name(), " is truncated: its header promises ", bytes,
        " bytes, but ", idx.bytes.size(), " are there");
  check(idx.bytes.size() == bytes, "data: ", file.name(), " goes on behind the ", bytes,
        " bytes that its header promises");
  return idx;
}

/// A picture of `pixels` bytes behind its header.
std::vector<uint8_t> picture(const std::vector<uint8_t>& header, size_t pixels) {
  std::vector<uint8_t> bytes;
  bytes.reserve(header.size() + pixels);
  bytes = header;
  bytes.resize(header.size() + pixels);
  return bytes;
}

struct Inflater {
  z_stream stream{};
  Inflater() { check(inflateInit2(&stream, 16 + MAX_WBITS) == Z_OK, "data: cannot set up zlib"); }
  ~Inflater() { inflateEnd(&stream); }
  Inflater(const Inflater&) = delete;
};

}  // namespace

std::vector<uint8_t> unpacked(const std::string& name, std::span<const uint8_t> content, uint64_t limit) {
  if (content.size() < 2 || content[0] != 0x1f || content[1] != 0x8b)
    return {content.begin(), content.begin() + int64_t(std::min<uint64_t>(content.size(), limit))};
  Inflater inflater;
  z_stream& s = inflater.stream;
  s.next_in = const_cast<Bytef*>(content.data());  // zlib only reads there
  s.avail_in = uInt(content.size());
  std::vector<uint8_t> out;
  uint8_t block[1 << 14];
  // In blocks, so that a false size in the header takes no memory.
  while (out.size() < limit) {
    s.next_out = block;
    s.avail_out = uInt(std::min<uint64_t>(sizeof block, limit - out.size()));
    const int result = inflate(&s, Z_NO_FLUSH);
    out.insert(out.end(), block, s.next_out);
    if (result == Z_STREAM_END) {
      // Another member may follow; anything else behind the end is passed over, as gzip does.
      if (s.avail_in < 2 || s.next_in[0] != 0x1f || s.next_in[1] != 0x8b) break;
      check(inflateReset(&s) == Z_OK, "data: cannot set up zlib");
      continue;
    }
    check(result != Z_BUF_ERROR && !(result == Z_OK && s.avail_in == 0 && s.avail_out > 0), "data: ", name,
          " is truncated: the compressed data ends too early");
    check(result == Z_OK, "data: ", name, " is corrupt: ", s.msg ? s.msg : "zlib cannot unpack it");
  }
  return out;
}

Bytes load_packed(const FileEntry& file, uint64_t limit) {
  std::error_code error;
  const uint64_t bytes = file.bytes ? file.bytes->size() : std::filesystem::file_size(file.on_disk, error);
  check(!error, "data: cannot open ", file.on_disk, ": ", error.message());
  check(bytes <= limit, "data: ", file.name(), " has ", bytes, " bytes; the limit is ", limit);
  return file.load();
}

LabelledPictures read_idx(const FileEntry& images, const FileEntry& labels) {
  const Idx pixels = read(images, kImages), classes = read(labels, kLabels);
  check(pixels.count == classes.count, "data: ", images.name(), " has ", pixels.count, " pictures, but ",
        labels.name(), " has ", classes.count, " labels");
  const size_t each = size_t(pixels.rows * pixels.columns);
  const std::vector<uint8_t> header = pnm_header(1, int(pixels.rows), int(pixels.columns));
  LabelledPictures all;
  for (size_t i = 0; i < size_t(pixels.count); ++i) {
    std::vector<uint8_t> bytes = picture(header, each);
    std::copy_n(&pixels.bytes[pixels.start + i * each], each, &bytes[header.size()]);
    all.pictures.push_back(std::make_shared<const std::vector<uint8_t>>(std::move(bytes)));
    all.labels.push_back(classes.bytes[classes.start + i]);
  }
  return all;
}

// Records of a label and 1024 bytes each of red, green and blue.
void read_cifar10(const FileEntry& file, LabelledPictures& to) {
  constexpr size_t side = 32, plane = side * side, record = 1 + 3 * plane;
  const Bytes content = load_packed(file, kMostBytes);
  check(!content->empty() && content->size() % record == 0, "data: ", file.name(), " has ", content->size(),
        " bytes, but CIFAR-10's binary files have some times ", record,
        " (is it truncated, or the version for Python?)");
  const std::vector<uint8_t> header = pnm_header(3, int(side), int(side));
  for (size_t at = 0; at < content->size(); at += record) {
    const uint8_t* from = content->data() + at;
    std::vector<uint8_t> bytes = picture(header, 3 * plane);
    uint8_t* pixel = &bytes[header.size()];
    for (size_t i = 0; i < plane; ++i)
      for (size_t c = 0; c < 3; ++c) *pixel++ = from[1 + c * plane + i];
    to.pictures.push_back(std::make_shared<const std::vector<uint8_t>>(std::move(bytes)));
    to.labels.push_back(from[0]);
  }
}

}  // namespace weft::data
