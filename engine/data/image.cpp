#include "weft/engine/data/image.h"

#include <algorithm>
#include <array>
#include <climits>

#include "weft/engine/data/codecs.h"
#include "weft/engine/error.h"

namespace weft::data {

namespace {

enum class Format { jpeg, png, pnm };

Format format_of(std::span<const uint8_t> encoded) {
  constexpr std::array<uint8_t, 3> jpeg{0xff, 0xd8, 0xff};
  constexpr std::array<uint8_t, 8> png{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  const auto starts_with = [&](std::span<const uint8_t> magic) {
    return encoded.size() >= magic.size() && std::equal(magic.begin(), magic.end(), encoded.begin());
  };
  check(!encoded.empty(), "image: the file is empty");
  if (starts_with(jpeg)) return Format::jpeg;
  if (starts_with(png)) return Format::png;
  const bool pnm = encoded.size() > 2 && encoded[0] == 'P' && (encoded[1] == '5' || encoded[1] == '6');
  check(pnm, "image: the content is neither JPEG nor PNG nor a binary PGM or PPM; only these can be read");
  return Format::pnm;
}

}  // namespace

void check_size(const char* format, uint64_t height, uint64_t width, int64_t max_pixels) {
  check(height > 0 && width > 0, format, ": a picture of ", width, " x ", height, " pixels");
  check(height <= INT_MAX && width <= INT_MAX && height * width <= uint64_t(max_pixels), format, ": ", width,
        " x ", height, " pixels is more than the limit of ", max_pixels, "; make the picture smaller");
}

void check_encodable(const char* op, const Image& image) {
  check(image.height > 0 && image.width > 0 && image.height <= 65500 && image.width <= 65500, op,
        ": cannot write ", image.width, " x ", image.height, " pixels, each side must be 1 to 65500");
  check(image.pixels.size() == size_t(image.height) * size_t(image.width) * 3, op, ": ", image.pixels.size(),
        " bytes for ", image.width, " x ", image.height, " RGB pixels");
}

ImageSize image_size(std::span<const uint8_t> encoded) {
  switch (format_of(encoded)) {
    case Format::jpeg:
      return jpeg_size(encoded);
    case Format::png:
      return png_size(encoded);
    case Format::pnm:
      break;
  }
  return pnm_size(encoded);
}

ImageSize decoded_size(std::span<const uint8_t> encoded, const DecodeOptions& options) {
  const ImageSize full = image_size(encoded);
  check_size("image", uint64_t(full.height), uint64_t(full.width), options.max_pixels);
  const int reduce = format_of(encoded) == Format::jpeg ? options.reduce : 1;
  return {(full.height + reduce - 1) / reduce, (full.width + reduce - 1) / reduce};
}

Image decode_image(std::span<const uint8_t> encoded, const DecodeOptions& options) {
  check(options.reduce == 1 || options.reduce == 2 || options.reduce == 4 || options.reduce == 8,
        "decode_image: reduce is ", options.reduce, ", but only 1, 2, 4 and 8 are possible");
  switch (format_of(encoded)) {
    case Format::jpeg:
      return decode_jpeg(encoded, options);
    case Format::png:
      return decode_png(encoded, options);
    case Format::pnm:
      break;
  }
  return decode_pnm(encoded, options);
}

}  // namespace weft::data
