// SHA-256 (FIPS 180-4), for checking downloads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace weft::app {

/// Takes a message in pieces and gives its digest.
class Sha256 {
 public:
  void update(std::string_view bytes);
  /// Of everything taken so far, as 64 lower-case hex digits. The object is spent afterwards.
  std::string hex_digest();

 private:
  void block(const uint8_t* p);

  std::array<uint32_t, 8> h_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> buffer_{};
  size_t filled_ = 0;
  uint64_t bytes_ = 0;
};

/// Digest of a file, read in pieces. Throws Error where it cannot be read.
std::string sha256_of_file(const std::string& path);

}  // namespace weft::app
