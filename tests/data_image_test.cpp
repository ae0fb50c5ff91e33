// Decoding and encoding: against Pillow's pixels, and against broken files.
#include <cstdio>
#include <cstdlib>
// jpeglib.h needs cstdio before it.
#include <doctest/doctest.h>
#include <jpeglib.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "support/errors.h"
#include "weft/engine/data/image.h"
#include "weft/engine/safetensors.h"
#include "weft/kernels/philox.h"

using namespace weft;
using namespace weft::data;

namespace {

StateDict golden() { return load_safetensors(std::string(WEFT_TEST_DIR) + "/golden/data.safetensors"); }

// Smooth waves with a hard edge, so that JPEG has something to lose.
Image picture(int height, int width) {
  Image image(height, width);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c)
        image.at(y, x)[c] =
            uint8_t(128 + 80 * std::sin(0.2 * x + 0.1 * y + c) + (x > width / 2 && y > height / 2 ? 40 : 0));
  return image;
}

int largest_difference(const Image& a, const Image& b) {
  REQUIRE(a.height == b.height);
  REQUIRE(a.width == b.width);
  REQUIRE(a.pixels.size() == b.pixels.size());
  int worst = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i)
    worst = std::max(worst, std::abs(int(a.pixels[i]) - int(b.pixels[i])));
  return worst;
}

std::vector<uint8_t> encode_raw(const std::vector<uint8_t>& samples, int height, int width, J_COLOR_SPACE in,
                                J_COLOR_SPACE out, int components) {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_width = JDIMENSION(width);
  info.image_height = JDIMENSION(height);
  info.input_components = components;
  info.in_color_space = in;
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, out);
  jpeg_set_quality(&info, 100, TRUE);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    JSAMPROW row = const_cast<uint8_t*>(&samples[size_t(info.next_scanline) * size_t(width * components)]);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::vector<uint8_t> result(bytes, bytes + size);
  std::free(bytes);
  return result;
}

// Decodes what may be broken: a picture or an Error, nothing else.
bool decodes(const std::vector<uint8_t>& bytes) {
  try {
    const Image image = decode_image(bytes, {.max_pixels = 1 << 20});
    CHECK(image.pixels.size() == size_t(image.height) * size_t(image.width) * 3);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

TEST_CASE("JPEG and PNG of every kind decode as in Pillow") {
  const StateDict dict = golden();
  int cases = 0;
  for (const auto& [name, file] : dict) {
    if (!name.starts_with("decode.") || !name.ends_with(".file")) continue;
    const std::string kind = name.substr(7, name.size() - 12);
    CAPTURE(kind);
    const Tensor wanted = find(dict, "decode." + kind + ".out");
    const Image image = decode_image(file.to_vector<uint8_t>());
    Image expected(int(wanted.size(0)), int(wanted.size(1)));
    expected.pixels = wanted.to_vector<uint8_t>();
    CHECK(largest_difference(image, expected) <= (kind.starts_with("jpeg") ? 2 : 0));
    const ImageSize size = image_size(file.to_vector<uint8_t>());
    CHECK(size.height == image.height);
    CHECK(size.width == image.width);
    ++cases;
  }
  CHECK(cases == 12);
}

TEST_CASE("CMYK and YCCK JPEGs become RGB, grey is spread") {
  // Inverted, as Adobe stores it: 255 is no ink. Red is yellow and magenta ink; half black halves it.
  const int h = 16, w = 16;
  std::vector<uint8_t> cmyk;
  for (int i = 0; i < h * w; ++i) cmyk.insert(cmyk.end(), {255, 0, 0, uint8_t(i < h * w / 2 ? 255 : 128)});
  for (J_COLOR_SPACE space : {JCS_CMYK, JCS_YCCK}) {
    CAPTURE(int(space));
    const Image image = decode_image(encode_raw(cmyk, h, w, JCS_CMYK, space, 4));
    CHECK(std::abs(image.at(2, 3)[0] - 255) <= 3);
    CHECK(std::abs(image.at(13, 3)[0] - 128) <= 3);
    for (int c : {1, 2}) CHECK(image.at(2, 3)[c] <= 3);
  }
  std::vector<uint8_t> grey(size_t(h * w), 77);
  const Image image = decode_image(encode_raw(grey, h, w, JCS_GRAYSCALE, JCS_GRAYSCALE, 1));
  CHECK(std::all_of(image.pixels.begin(), image.pixels.end(), [](uint8_t v) { return v == 77; }));
}

TEST_CASE("what is encoded decodes again") {
  for (const auto [h, w] : {std::array{1, 1}, std::array{17, 5}, std::array{64, 48}}) {
    const Image image = picture(h, w);
    CHECK(largest_difference(decode_image(encode_png(image)), image) == 0);
    CHECK(largest_difference(decode_image(encode_jpeg(image, 100)), image) <=
          24);  // 4:2:0 blurs the colours' edge
  }
  CHECK(encode_jpeg(picture(64, 64), 95).size() > encode_jpeg(picture(64, 64), 30).size());
  CHECK_ERROR(encode_jpeg(picture(8, 8), 0), "quality is 0");
  CHECK_ERROR(encode_png(Image{}), "each side must be 1 to 65500");
  Image odd = picture(4, 4);
  odd.pixels.pop_back();
  CHECK_ERROR(encode_jpeg(odd), "47 bytes for 4 x 4");
}

TEST_CASE("a reduced decode is a smaller picture of the same") {
  const auto bytes = encode_jpeg(picture(100, 61), 95);
  for (int reduce : {2, 4, 8}) {
    const Image small = decode_image(bytes, {.reduce = reduce});
    CHECK(small.height == (100 + reduce - 1) / reduce);
    CHECK(small.width == (61 + reduce - 1) / reduce);
    CHECK(std::abs(small.at(1, 1)[0] - picture(100, 61).at(reduce * 3 / 2, reduce * 3 / 2)[0]) < 30);
  }
  CHECK_ERROR(decode_image(bytes, {.reduce = 3}), "reduce is 3");
}

TEST_CASE("what is no picture is refused with the reason") {
  const auto text = [](std::string s) { return std::vector<uint8_t>(s.begin(), s.end()); };
  CHECK_ERROR(decode_image({}), "the file is empty");
  CHECK_ERROR(decode_image(text("Hello, I am a text file named .JPEG")), "neither JPEG nor PNG");
  CHECK_ERROR(decode_image(text("\xff")), "neither JPEG nor PNG");
  CHECK_ERROR(image_size(text("GIF89a")), "neither JPEG nor PNG");
  CHECK_ERROR(decode_image(text("\xff\xd8\xff")), "jpeg: corrupt or truncated");
  CHECK_ERROR(decode_image(text("\x89PNG\r\n\x1a\n")), "png: corrupt or truncated: the data ends too early");
  // A text of 1 GiB that is not there takes no memory.
  std::vector<uint8_t> long_text = encode_png(picture(4, 4));
  const std::vector<uint8_t> head{0x40, 0, 0, 0, 't', 'E', 'X', 't'};
  long_text.insert(long_text.begin() + 33, head.begin(), head.end());  // behind the first chunk
  const auto resident = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss >> 10;  // MiB
  };
  const long before = resident();
  CHECK_ERROR(decode_image(long_text), "png: corrupt or truncated");
  CHECK(resident() - before < 200);
}

TEST_CASE("a picture cut short is an error wherever it is cut") {
  const std::vector<std::vector<uint8_t>> files{encode_jpeg(picture(40, 56)), encode_png(picture(40, 56))};
  for (const auto& whole : files) {
    REQUIRE(decodes(whole));
    for (size_t cut = 0; cut < whole.size(); cut += 1 + whole.size() / 150) {
      CAPTURE(cut);
      CHECK_FALSE(decodes({whole.begin(), whole.begin() + int64_t(cut)}));
    }
    CHECK_FALSE(decodes({whole.begin(), whole.end() - 2}));
  }
}

TEST_CASE("huge dimensions are refused before memory is taken") {
  auto jpeg = encode_jpeg(picture(16, 16));
  const std::array<uint8_t, 2> frame{0xff, 0xc0};
  const auto at = std::search(jpeg.begin(), jpeg.end(), frame.begin(), frame.end());
  REQUIRE(at != jpeg.end());
  std::fill(at + 5, at + 9, uint8_t{0xfa});  // height and width
  CHECK_ERROR(decode_image(jpeg), "64250 x 64250 pixels is more than the limit of 67108864");

  CHECK_ERROR(decode_image(encode_png(picture(20, 30)), {.max_pixels = 599}),
              "30 x 20 pixels is more than the limit of 599; make the picture smaller");
  CHECK_NOTHROW(decode_image(encode_png(picture(20, 30)), {.max_pixels = 600}));
}

TEST_CASE("changed bytes give a picture or an Error, never more") {
  int errors = 0, pictures = 0;
  const StateDict dict = golden();
  for (const auto& entry : dict) {
    const std::string& name = entry.first;
    if (!name.starts_with("decode.") || !name.ends_with(".file")) continue;
    CAPTURE(name);
    const auto whole = entry.second.to_vector<uint8_t>();
    for (uint64_t round = 0; round < 60; ++round) {
      auto bytes = whole;
      const auto r = kernels::philox(1, round, whole.size());
      for (uint32_t k = 0; k <= r[0] % 4; ++k) {
        const auto place = kernels::philox(2, round * 8 + k, whole.size());
        bytes[place[0] % bytes.size()] = uint8_t(place[1]);
      }
      (decodes(bytes) ? pictures : errors) += 1;
    }
  }
  CHECK(errors > 100);
  CHECK(pictures > 20);
}
