// Pictures in memory: decoding of JPEG, PNG, PGM and PPM, and encoding for the sample set and the tests.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace weft::data {

/// A picture of 8-bit RGB pixels: row after row, channels interleaved.
struct Image {
  int height = 0, width = 0;
  std::vector<uint8_t> pixels;  ///< height * width * 3

  Image() = default;
  /// A black picture.
  Image(int h, int w) : height(h), width(w), pixels(size_t(h) * size_t(w) * 3) {}
  uint8_t* at(int y, int x) { return &pixels[(size_t(y) * size_t(width) + size_t(x)) * 3]; }
  const uint8_t* at(int y, int x) const { return &pixels[(size_t(y) * size_t(width) + size_t(x)) * 3]; }
};

struct DecodeOptions {
  /// JPEG only: 1, 2, 4 or 8 decodes at that fraction of the size (rounded up) from the low frequencies
  /// alone. Faster for large pictures, but a slightly different filter than a full decode and a resize. PNG
  /// ignores it.
  int reduce = 1;
  /// A picture with more pixels is refused before memory is taken for it.
  int64_t max_pixels = 64 << 20;
};

struct ImageSize {
  int height = 0, width = 0;
};

/// The size in the header of a JPEG, PNG, PGM or PPM. Throws Error as decode_image does.
ImageSize image_size(std::span<const uint8_t> encoded);

/// Decodes a JPEG or PNG, or a binary PGM or PPM of 8 bits, told apart by content. Grey is spread over three
/// channels, CMYK and YCCK (stored inverted, as Adobe does and Pillow assumes) become RGB, palettes are
/// expanded, 16 bits scaled to 8 and an alpha channel dropped. The orientation tag and colour profiles are
/// ignored, as by Pillow. Throws Error for anything else, for corrupt or truncated data (also where libjpeg
/// would only warn and fill up with grey) and for pictures above `max_pixels`.
Image decode_image(std::span<const uint8_t> encoded, const DecodeOptions& options = {});

/// A baseline JPEG with 4:2:0 chroma, quality 1 .. 100.
std::vector<uint8_t> encode_jpeg(const Image& image, int quality = 90);
/// An 8-bit RGB PNG.
std::vector<uint8_t> encode_png(const Image& image);

}  // namespace weft::data
