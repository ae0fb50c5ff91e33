#include "weft/engine/summary_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <vector>

#include "weft/engine/error.h"
#include "weft/engine/file.h"
#include "weft/engine/protobuf.h"

namespace weft {
namespace {

// A file of events is a row of records (TFRecord, https://www.tensorflow.org/tutorials/load_data/tfrecord):
// the length as 8 bytes, its check sum, the content, its check sum. The content is a message Event of
// tensorflow/core/util/event.proto; numbers of fields below are its.
constexpr size_t kHead = 12, kTail = 4;

/// CRC-32C (Castagnoli), turned and shifted as the format wants it.
uint32_t check_sum(std::string_view bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int bit = 0; bit < 8; ++bit) t[i] = t[i] >> 1 ^ (t[i] & 1 ? 0x82f63b78u : 0);
    }
    return t;
  }();
  uint32_t crc = ~0u;
  for (char c : bytes) crc = crc >> 8 ^ table[(crc ^ uint8_t(c)) & 0xff];
  crc = ~crc;
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

template <class T>
std::string bytes_of(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

bool begins_record(std::string_view content) {
  return content.size() >= kHead && content.substr(8, 4) == bytes_of(check_sum(content.substr(0, 8)));
}

/// Bytes of the whole records that `content` begins with.
size_t whole_records(std::string_view content) {
  size_t at = 0;
  for (;;) {
    const std::string_view rest = content.substr(at);
    if (!begins_record(rest)) return at;
    uint64_t length;
    std::memcpy(&length, rest.data(), sizeof length);
    if (rest.size() < kHead + kTail || length > rest.size() - kHead - kTail) return at;
    if (rest.substr(kHead + length, kTail) != bytes_of(check_sum(rest.substr(kHead, length)))) return at;
    at += kHead + length + kTail;
  }
}

ProtobufMessage event() {
  using namespace std::chrono;
  ProtobufMessage e;
  return e.number(1, duration<double>(system_clock::now().time_since_epoch()).count());
}

ProtobufMessage summary_event(const ProtobufMessage& value, int64_t step) {
  ProtobufMessage summary, e = event();
  return e.integer(2, step).message(5, summary.message(1, value));
}

/// Limits of the buckets, those of torch.utils.tensorboard.
const std::vector<double>& bucket_limits() {
  static const std::vector<double> limits = [] {
    std::vector<double> above;
    for (double v = 1e-12; v < 1e20; v *= 1.1) above.push_back(v);
    std::vector<double> all(above.rbegin(), above.rend());
    for (double& v : all) v = -v;
    all.push_back(0);
    all.insert(all.end(), above.begin(), above.end());
    return all;
  }();
  return limits;
}

}  // namespace

SummaryWriter::SummaryWriter(const std::string& folder, std::optional<int64_t> purge_step)
    : path_((std::filesystem::path(folder) / kFileName).string()) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  check(!error, "can't make the folder ", folder, ": ", error.message());
  size_t whole = 0;
  if (std::filesystem::exists(path_, error)) {
    const std::string content = read_file(path_);
    whole = whole_records(content);
    check(content.size() < kHead || begins_record(content), path_,
          " is there, but no file of events; remove it, or name another folder");
  }
  file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  const bool cut = file_ >= 0 && ::ftruncate(file_, off_t(whole)) == 0;  // before errno is read
  check(cut, "can't write ", path_, ": ", std::strerror(errno));
  if (whole == 0) append(event().bytes(3, "brain.Event:2").text());
  if (purge_step) {
    ProtobufMessage start, e = event();
    append(e.integer(2, *purge_step).message(7, start.integer(1, 1)).text());
  }
}

SummaryWriter::~SummaryWriter() {
  if (file_ >= 0) ::close(file_);
}

void SummaryWriter::append(std::string_view event) {
  const std::string length = bytes_of(uint64_t(event.size()));
  std::string record = length + bytes_of(check_sum(length));
  record += event;
  record += bytes_of(check_sum(event));
  ssize_t written;
  do written = ::write(file_, record.data(), record.size());
  while (written < 0 && errno == EINTR);
  if (written == ssize_t(record.size())) return;
  const int code = written < 0 ? errno : ENOSPC;  // less is written only where there is no more room
  const off_t end = ::lseek(file_, 0, SEEK_END);
  if (written > 0 && ::ftruncate(file_, end - written) != 0) {
    // The part of a record stays; the next writer cuts it off.
  }
  fail("can't write ", path_, ": ", std::strerror(code), "; free some space and try again");
}

void SummaryWriter::add_scalar(std::string_view tag, double value, int64_t step) {
  ProtobufMessage v;
  append(summary_event(v.bytes(1, tag).number(2, float(value)), step).text());
}

void SummaryWriter::add_histogram(std::string_view tag, const Tensor& values, int64_t step) {
  check(is_floating(values.dtype()), "add_histogram: ", tag, ": the values are ", values.dtype(),
        ", not of a floating type");
  const Tensor all = values.to(Device::cpu).to(DType::f64);
  const std::vector<double>& limits = bucket_limits();
  std::vector<double> counts(limits.size());  // counts[i]: up to limits[i], from the limit before on
  double least = INFINITY, most = -INFINITY, number = 0, sum = 0, squares = 0;
  const double* x = all.data<double>();
  for (int64_t i = 0; i < all.numel(); ++i) {
    if (!std::isfinite(x[i])) continue;
    least = std::min(least, x[i]), most = std::max(most, x[i]);
    number += 1, sum += x[i], squares += x[i] * x[i];
    const auto above = std::upper_bound(limits.begin() + 1, limits.end() - 1, x[i]);
    counts[size_t(above - limits.begin())] += 1;
  }
  check(number > 0, "add_histogram: ", tag, ": none of ", all.numel(), " values is finite");
  // An empty bucket first, whose limit is where the next one begins.
  const auto first =
      std::find_if(counts.begin(), counts.end(), [](double n) { return n > 0; }) - counts.begin() - 1;
  const auto last =
      counts.rend() - std::find_if(counts.rbegin(), counts.rend(), [](double n) { return n > 0; });
  const size_t length = size_t(last - first);
  ProtobufMessage histogram, v;
  histogram.number(1, least).number(2, most).number(3, number).number(4, sum).number(5, squares);
  histogram.numbers(6, std::span(limits).subspan(size_t(first), length));
  histogram.numbers(7, std::span(counts).subspan(size_t(first), length));
  append(summary_event(v.bytes(1, tag).message(5, histogram), step).text());
}

void SummaryWriter::add_text(std::string_view tag, std::string_view text, int64_t step) {
  constexpr int64_t kString = 7;
  ProtobufMessage plugin, metadata, dim, shape, tensor, v;
  metadata.message(1, plugin.bytes(1, "text"));
  tensor.integer(1, kString).message(2, shape.message(2, dim.integer(1, 1))).bytes(8, text);
  append(summary_event(v.bytes(1, tag).message(9, metadata).message(8, tensor), step).text());
}

}  // namespace weft
