// PNG through libpng. Errors leave by longjmp, see jpeg.cpp for what that asks of the code.
#include <png.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "weft/engine/data/codecs.h"
#include "weft/engine/error.h"

namespace weft::data {

namespace {

struct PngDecoder {
  std::span<const uint8_t> rest;
  char message[128] = "";
  png_structp png = nullptr;
  png_infop info = nullptr;
  int passes = 1;

  explicit PngDecoder(std::span<const uint8_t> encoded) : rest(encoded) {
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, [](png_structp, png_const_charp) {});
    info = png ? png_create_info_struct(png) : nullptr;
    if (!info || !open()) {
      png_destroy_read_struct(&png, &info, nullptr);
      raise();
    }
  }
  ~PngDecoder() { png_destroy_read_struct(&png, &info, nullptr); }
  PngDecoder(const PngDecoder&) = delete;

  [[noreturn]] void raise() const { fail("png: corrupt or truncated: ", message); }

  static void on_error(png_structp png, png_const_charp text) {
    auto* self = static_cast<PngDecoder*>(png_get_error_ptr(png));
    std::snprintf(self->message, sizeof self->message, "%s", text);
    png_longjmp(png, 1);
  }

  static void take(png_structp png, png_bytep out, size_t count) {
    auto* self = static_cast<PngDecoder*>(png_get_io_ptr(png));
    if (count > self->rest.size()) png_error(png, "the data ends too early");
    std::memcpy(out, self->rest.data(), count);
    self->rest = self->rest.subspan(count);
  }

  bool open() {
    if (setjmp(png_jmpbuf(png))) return false;
    png_set_read_fn(png, this, take);
    // The caller's limit on the pixels comes later; libpng's own on each side would hide it behind another
    // message.
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    // Texts, profiles and the like are passed over: a few bytes of them may stand for gigabytes.
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_read_info(png, info);
    return true;
  }

  bool start() {
    if (setjmp(png_jmpbuf(png))) return false;
    const int type = png_get_color_type(png, info);
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
    if (type == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png);
    if (!(type & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
    png_set_scale_16(png);
    passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    return true;
  }

  void read_rows(png_bytep pixels, size_t height, size_t row_bytes) {
    for (int pass = 0; pass < passes; ++pass)
      for (size_t y = 0; y < height; ++y) png_read_row(png, pixels + y * row_bytes, nullptr);
  }
  /// Row by row: a list of pointers to a million short ones would take more than they do.
  bool read(png_bytep pixels, size_t height, size_t row_bytes) {
    if (setjmp(png_jmpbuf(png))) return false;
    read_rows(pixels, height, row_bytes);
    png_read_end(png, nullptr);
    return true;
  }
};

}  // namespace

ImageSize png_size(std::span<const uint8_t> encoded) {
  const PngDecoder decoder(encoded);
  return {int(png_get_image_height(decoder.png, decoder.info)),
          int(png_get_image_width(decoder.png, decoder.info))};
}

Image decode_png(std::span<const uint8_t> encoded, const DecodeOptions& options) {
  PngDecoder decoder(encoded);
  const size_t height = png_get_image_height(decoder.png, decoder.info);
  const size_t width = png_get_image_width(decoder.png, decoder.info);
  check_size("png", height, width, options.max_pixels);
  if (!decoder.start()) decoder.raise();
  check(png_get_rowbytes(decoder.png, decoder.info) == width * 3, "png: unexpected pixel format");
  Image image{int(height), int(width)};
  if (!decoder.read(image.pixels.data(), height, width * 3)) decoder.raise();
  return image;
}

std::vector<uint8_t> encode_png(const Image& image) {
  check_encodable("encode_png", image);
  png_image out{};
  out.version = PNG_IMAGE_VERSION;
  out.width = png_uint_32(image.width);
  out.height = png_uint_32(image.height);
  out.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(out);
  std::vector<uint8_t> bytes(size);
  const bool ok = png_image_write_to_memory(&out, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr);
  check(ok, "encode_png: ", out.message);
  bytes.resize(size);
  return bytes;
}

}  // namespace weft::data
