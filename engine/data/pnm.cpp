// PGM and PPM with 8-bit binary pixels: "P5" or "P6", width, height and the largest value 255 as text, then
// the pixels. In this form the readers of MNIST and CIFAR-10 hand their pictures on.
#include <cstring>
#include <string>

#include "weft/engine/data/codecs.h"
#include "weft/engine/error.h"

namespace weft::data {

namespace {

struct Header {
  int channels = 0;
  uint64_t width = 0, height = 0;
  std::span<const uint8_t> pixels;  // and what follows them
};

/// The next number; '#' starts a comment that ends with the line. One character of space ends the number.
uint64_t take_number(std::span<const uint8_t>& rest, const char* what) {
  size_t i = 0;
  const auto space = [](uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  while (i < rest.size() && (space(rest[i]) || rest[i] == '#')) {
    if (rest[i] == '#')
      while (i < rest.size() && rest[i] != '\n') ++i;
    else
      ++i;
  }
  uint64_t value = 0;
  const size_t first = i;
  for (; i < rest.size() && rest[i] >= '0' && rest[i] <= '9' && i - first < 10; ++i)
    value = value * 10 + (rest[i] - '0');
  check(i > first && i < rest.size() && space(rest[i]), "pnm: corrupt or truncated: no ", what,
        " where it should be");
  rest = rest.subspan(i + 1);
  return value;
}

Header read_header(std::span<const uint8_t> encoded) {
  Header h;
  h.channels = encoded[1] == '5' ? 1 : 3;
  h.pixels = encoded.subspan(2);
  h.width = take_number(h.pixels, "width");
  h.height = take_number(h.pixels, "height");
  const uint64_t most = take_number(h.pixels, "largest value");
  check(most == 255, "pnm: the largest value is ", most, ", but only 255 can be read");
  return h;
}

}  // namespace

ImageSize pnm_size(std::span<const uint8_t> encoded) {
  const Header h = read_header(encoded);
  check_size("pnm", h.height, h.width, INT64_MAX);
  return {int(h.height), int(h.width)};
}

Image decode_pnm(std::span<const uint8_t> encoded, const DecodeOptions& options) {
  const Header h = read_header(encoded);
  check_size("pnm", h.height, h.width, options.max_pixels);
  const uint64_t pixels = h.width * h.height;
  const uint64_t bytes = pixels * uint64_t(h.channels);
  check(h.pixels.size() >= bytes, "pnm: corrupt or truncated: ", bytes, " bytes are promised, but ",
        h.pixels.size(), " are there");
  Image image{int(h.height), int(h.width)};
  if (h.channels == 3) {
    std::memcpy(image.pixels.data(), h.pixels.data(), image.pixels.size());
    return image;
  }
  uint8_t* to = image.pixels.data();
  for (uint64_t i = 0; i < pixels; ++i, to += 3) to[0] = to[1] = to[2] = h.pixels[i];
  return image;
}

std::vector<uint8_t> pnm_header(int channels, int height, int width) {
  const std::string text = concat(channels == 1 ? "P5\n" : "P6\n", width, " ", height, "\n255\n");
  return {text.begin(), text.end()};
}

}  // namespace weft::data
