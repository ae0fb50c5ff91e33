#include "weft/apps/weft/command.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "weft/apps/weft/names.h"
#include "weft/kernels/kernels.h"
#include "weft/kernels/parallel.h"

namespace weft::app {

std::string shell_word(const std::string& text) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) ||
           std::string_view("/._-+,:=@%").find(c) != std::string_view::npos;
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) return text;
  std::string word = "'";
  for (char c : text) word += c == '\'' ? "'\\''" : std::string(1, c);
  return word + "'";
}

std::string printable(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = [&](size_t k) { return static_cast<unsigned char>(text[k]); };
    if (byte(i) < 0x20 || byte(i) == 0x7f)
      out += fmt::format("\\x{:02x}", byte(i));
    else if (byte(i) == 0xc2 && i + 1 < text.size() && byte(i + 1) >= 0x80 && byte(i + 1) < 0xa0)
      out += fmt::format("\\x{:02x}", byte(++i));  // U+0080 to U+009F, in UTF-8
    else
      out += text[i];
  }
  return out;
}

void complain(const std::string& text) {
  std::string line = "weft: ";
  for (size_t from = 0, to; from <= text.size(); from = to + 1) {
    to = std::min(text.find('\n', from), text.size());
    line += printable(text.substr(from, to - from)) + "\n";
  }
  std::fputs(line.c_str(), stderr);
}

std::string count_of(int64_t count, const std::string& thing) {
  return concat(count, " ", thing, count == 1 ? "" : "s");
}

std::string fits_64_bits(const std::string& value) {
  uint64_t number = 0;
  const char* const end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, number);
  return stop == end && error == std::errc() ? "" : value + " is no whole number from 0 to 2^64 - 1";
}

std::function<std::string(const std::string&)> number_from(double least, double most,
                                                           const std::string& wanted) {
  return [=](const std::string& value) {
    char* end = nullptr;
    const double number = std::strtod(value.c_str(), &end);
    const bool fits = end != value.c_str() && *end == '\0' && number >= least && number <= most;
    return fits ? "" : "must be " + wanted + ", got " + value;
  };
}

void add_device(CLI::App& command, std::string& device, std::string& precision) {
  command.add_option("--device", device, "cpu, or cuda[:i] for the NVIDIA GPU of that number")
      ->capture_default_str();
  command
      .add_option("--precision", precision,
                  "fp32; bf16: on the CPU products only, all on a GPU; fp16: on a GPU")
      ->check(CLI::IsMember({"fp32", "bf16", "fp16"}))
      ->capture_default_str();
}

Place place_of(const std::string& device, const std::string& precision) {
  const DType dtype = parse_precision(precision);
  const bool numbered =
      device.size() > 5 && device.rfind("cuda:", 0) == 0 &&
      std::all_of(device.begin() + 5, device.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (device != "cpu" && device != "cuda" && !numbered)
    usage_error("--device must be cpu or cuda[:i], got ", device);
  if (device != "cpu") return {parse_device(device), dtype, MatmulPrecision::high};
  if (dtype == DType::f16)
    fail("--precision fp16: the CPU computes in fp32 and bf16; choose one of these, or --device cuda");
  if (dtype == DType::bf16 && !cpu_multiplies_bf16())
    fail("--precision bf16: this processor's kernels (", kernels::cpu().name,
         ") don't multiply bf16, which takes AVX-512 BF16; use fp32, or --device cuda");
  return {Device::cpu, DType::f32, dtype == DType::bf16 ? MatmulPrecision::medium : MatmulPrecision::high};
}

void add_threads(CLI::App& command, int& threads) {
  command.add_option("--threads", threads, "threads [the cores that the process may use]")
      ->check(CLI::Range(1, 256));
}

void use_threads(int threads) {
  if (threads > 0) set_num_threads(threads);
}

}  // namespace weft::app
