// JPEG through libjpeg-turbo. Its errors leave by longjmp; so the functions that call setjmp own nothing with
// a destructor, and what they fill belongs to their callers.
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
// jpeglib.h needs cstdio before it.
#include <jerror.h>
#include <jpeglib.h>

#include "weft/engine/data/codecs.h"
#include "weft/engine/error.h"

namespace weft::data {

namespace {

struct ErrorManager {
  jpeg_error_mgr base;  // first, so that a pointer to it is one to the whole
  std::jmp_buf escape;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void leave(j_common_ptr info) {
  auto* errors = reinterpret_cast<ErrorManager*>(info->err);
  info->err->format_message(info, errors->message);
  std::longjmp(errors->escape, 1);
}

// Warnings (level < 0) tell of damaged data, which libjpeg would paint over; only these two are about mere
// labels.
void on_message(j_common_ptr info, int level) {
  const int code = info->err->msg_code;
  if (level < 0 && code != JWRN_ADOBE_XFORM && code != JWRN_JFIF_MAJOR) leave(info);
}

void set_up(ErrorManager& errors) {
  jpeg_std_error(&errors.base);
  errors.base.error_exit = leave;
  errors.base.emit_message = on_message;
  errors.message[0] = 0;
}

// A progressive file can ask for any number of passes over a large picture; honest ones have about ten.
void limit_scans(j_common_ptr info) {
  if (info->is_decompressor && reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > 200) {
    info->err->msg_code = JERR_BAD_PROGRESSION;
    leave(info);
  }
}

struct JpegDecoder {
  ErrorManager errors;
  jpeg_decompress_struct info{};
  jpeg_progress_mgr progress{};

  explicit JpegDecoder(std::span<const uint8_t> encoded) {
    set_up(errors);
    info.err = &errors.base;
    if (!open(encoded)) {
      jpeg_destroy_decompress(&info);
      raise();
    }
  }
  ~JpegDecoder() { jpeg_destroy_decompress(&info); }
  JpegDecoder(const JpegDecoder&) = delete;

  [[noreturn]] void raise() const { fail("jpeg: corrupt or truncated: ", errors.message); }

  bool open(std::span<const uint8_t> encoded) {
    if (setjmp(errors.escape)) return false;
    jpeg_create_decompress(&info);
    progress.progress_monitor = limit_scans;
    info.progress = &progress;
    jpeg_mem_src(&info, encoded.data(), static_cast<unsigned long>(encoded.size()));
    jpeg_read_header(&info, TRUE);
    return true;
  }

  bool start(int reduce) {
    if (setjmp(errors.escape)) return false;
    const bool cmyk = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
    info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    info.scale_num = 1;
    info.scale_denom = unsigned(reduce);
    jpeg_start_decompress(&info);
    return true;
  }

  bool read(uint8_t* rows, size_t stride) {
    if (setjmp(errors.escape)) return false;
    while (info.output_scanline < info.output_height) {
      JSAMPROW row = rows + info.output_scanline * stride;
      jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
    return true;
  }
};

// Inverted CMYK as Adobe stores it: 255 is no ink. One ink at full strength leaves nothing of its channel.
void rgb_from_inverted_cmyk(const uint8_t* cmyk, uint8_t* rgb, size_t pixels) {
  for (size_t i = 0; i < pixels; ++i)
    for (size_t c = 0; c < 3; ++c) rgb[3 * i + c] = uint8_t((cmyk[4 * i + c] * cmyk[4 * i + 3] + 127) / 255);
}

struct Encoder {
  ErrorManager errors;
  jpeg_compress_struct info{};
  unsigned char* bytes = nullptr;
  unsigned long size = 0;

  Encoder() {
    set_up(errors);
    info.err = &errors.base;
  }
  ~Encoder() {
    jpeg_destroy_compress(&info);
    std::free(bytes);
  }
  Encoder(const Encoder&) = delete;

  bool write(const Image& image, int quality) {
    if (setjmp(errors.escape)) return false;
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, &bytes, &size);
    info.image_width = JDIMENSION(image.width);
    info.image_height = JDIMENSION(image.height);
    info.input_components = 3;
    info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, quality, TRUE);
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height) {
      JSAMPROW row = const_cast<uint8_t*>(image.at(int(info.next_scanline), 0));
      jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    return true;
  }
};

}  // namespace

ImageSize jpeg_size(std::span<const uint8_t> encoded) {
  const JpegDecoder decoder(encoded);
  return {int(decoder.info.image_height), int(decoder.info.image_width)};
}

Image decode_jpeg(std::span<const uint8_t> encoded, const DecodeOptions& options) {
  JpegDecoder decoder(encoded);
  check_size("jpeg", decoder.info.image_height, decoder.info.image_width, options.max_pixels);
  if (!decoder.start(options.reduce)) decoder.raise();
  Image image(int(decoder.info.output_height), int(decoder.info.output_width));
  const size_t width = size_t(image.width);
  if (decoder.info.out_color_space == JCS_RGB) {
    if (!decoder.read(image.pixels.data(), width * 3)) decoder.raise();
  } else {
    std::vector<uint8_t> cmyk(size_t(image.height) * width * 4);
    if (!decoder.read(cmyk.data(), width * 4)) decoder.raise();
    rgb_from_inverted_cmyk(cmyk.data(), image.pixels.data(), size_t(image.height) * width);
  }
  return image;
}

std::vector<uint8_t> encode_jpeg(const Image& image, int quality) {
  check_encodable("encode_jpeg", image);
  check(quality >= 1 && quality <= 100, "encode_jpeg: quality is ", quality, ", but must be 1 to 100");
  Encoder encoder;
  if (!encoder.write(image, quality)) fail("encode_jpeg: ", encoder.errors.message);
  return std::vector<uint8_t>(encoder.bytes, encoder.bytes + encoder.size);
}

}  // namespace weft::data
