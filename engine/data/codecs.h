// The decoders behind decode_image; not part of the public API.
#pragma once

#include "weft/engine/data/image.h"

namespace weft::data {

ImageSize jpeg_size(std::span<const uint8_t> encoded);
Image decode_jpeg(std::span<const uint8_t> encoded, const DecodeOptions& options);
ImageSize png_size(std::span<const uint8_t> encoded);
Image decode_png(std::span<const uint8_t> encoded, const DecodeOptions& options);
ImageSize pnm_size(std::span<const uint8_t> encoded);
Image decode_pnm(std::span<const uint8_t> encoded, const DecodeOptions& options);
/// What stands before the pixels of a PGM (1 channel) or PPM (3).
std::vector<uint8_t> pnm_header(int channels, int height, int width);

/// The size of what decode_image would give, from the header alone.
ImageSize decoded_size(std::span<const uint8_t> encoded, const DecodeOptions& options);

/// Throws unless the picture has pixels, and at most `max_pixels`.
void check_size(const char* format, uint64_t height, uint64_t width, int64_t max_pixels);
/// Throws unless `image` is a picture that an encoder can write.
void check_encodable(const char* op, const Image& image);

}  // namespace weft::data
