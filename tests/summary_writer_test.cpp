// Event files for TensorBoard, read back by a reader of their own.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "support/errors.h"
#include "support/file_size_limit.h"
#include "support/temp_folder.h"
#include "weft/engine/file.h"
#include "weft/engine/summary_writer.h"

using namespace weft;
using test::TempFolder;

namespace {

/// CRC-32C, bit by bit.
uint32_t crc32c(const std::string& bytes) {
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) {
    crc ^= uint8_t(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
  }
  return ~crc;
}

template <class T>
T take(const std::string& bytes, size_t at) {
  T value;
  REQUIRE(at + sizeof value <= bytes.size());
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

/// The fields of a protobuf message: number -> what stands there (varints as 8 bytes).
using Fields = std::multimap<int, std::string>;
Fields fields_of(const std::string& message) {
  Fields fields;
  size_t at = 0;
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const uint8_t byte = take<uint8_t>(message, at++);
      value |= uint64_t(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.size()) {
    const uint64_t key = varint();
    const int kind = int(key & 7);
    std::string value;
    if (kind == 0) {
      const uint64_t number = varint();
      value.assign(reinterpret_cast<const char*>(&number), sizeof number);
    } else {
      REQUIRE((kind == 1 || kind == 2 || kind == 5));
      const size_t size = kind == 1 ? 8 : kind == 5 ? 4 : size_t(varint());
      REQUIRE(at + size <= message.size());
      value = message.substr(at, size);
      at += size;
    }
    fields.emplace(int(key >> 3), value);
  }
  return fields;
}
std::string only(const Fields& fields, int number) {
  REQUIRE(fields.count(number) == 1);
  return fields.find(number)->second;
}
Fields inside(const Fields& fields, std::initializer_list<int> path) {
  Fields at = fields;
  for (const int number : path) at = fields_of(only(at, number));
  return at;
}
std::vector<double> doubles(const std::string& packed) {
  std::vector<double> values(packed.size() / 8);
  std::memcpy(values.data(), packed.data(), packed.size());
  return values;
}

std::vector<Fields> events_of(const std::string& path) {
  const std::string content = read_file(path);
  const auto masked = [](const std::string& bytes) {
    const uint32_t crc = crc32c(bytes);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
  };
  std::vector<Fields> events;
  for (size_t at = 0; at < content.size();) {
    const auto length = take<uint64_t>(content, at);
    CHECK(take<uint32_t>(content, at + 8) == masked(content.substr(at, 8)));
    const std::string event = content.substr(at + 12, length);
    CHECK(take<uint32_t>(content, at + 12 + length) == masked(event));
    events.push_back(fields_of(event));
    at += 16 + length;
  }
  return events;
}

}  // namespace

TEST_CASE("scalars and texts are records of events") {
  CHECK(crc32c("123456789") == 0xe3069283u);  // the check value of its catalogue entry
  const TempFolder temp;
  {
    SummaryWriter writer(temp / "deep/run");
    CHECK(writer.path() == temp / "deep/run/events.out.tfevents.weft");
    writer.add_scalar("loss/train", 0.1, 3);
    writer.add_scalar("loss/train", NAN, 300);
    writer.add_text("about", "*hello*", 4);
  }
  const std::vector<Fields> events = events_of(temp / "deep/run/events.out.tfevents.weft");
  REQUIRE(events.size() == 4);
  CHECK(only(events[0], 3) == "brain.Event:2");
  CHECK(take<double>(only(events[0], 1), 0) > 1.7e9);  // seconds since 1970
  CHECK(take<int64_t>(only(events[1], 2), 0) == 3);
  const Fields scalar = inside(events[1], {5, 1});
  CHECK(only(scalar, 1) == "loss/train");
  CHECK(take<float>(only(scalar, 2), 0) == 0.1f);
  CHECK(take<int64_t>(only(events[2], 2), 0) == 300);
  CHECK(std::isnan(take<float>(only(inside(events[2], {5, 1}), 2), 0)));
  const Fields text = inside(events[3], {5, 1});
  CHECK(only(text, 1) == "about");
  CHECK(only(inside(text, {9, 1}), 1) == "text");
  CHECK(take<int64_t>(only(inside(text, {8}), 1), 0) == 7);  // DT_STRING
  CHECK(take<int64_t>(only(inside(text, {8, 2, 2}), 1), 0) == 1);
  CHECK(only(inside(text, {8}), 8) == "*hello*");
}

TEST_CASE("a histogram counts in growing buckets") {
  const TempFolder temp;
  SummaryWriter writer(temp.path());
  const std::vector<float> x = {-2, -1.5f, 0, 0, 1e-13f, 0.5f, INFINITY, NAN, 3, 3, 3};
  writer.add_histogram("w", Tensor::from(x, {11}), 7);
  const Fields histogram = inside(events_of(writer.path()).at(1), {5, 1, 5});
  const auto number = [&](int field) { return take<double>(only(histogram, field), 0); };
  CHECK(number(1) == -2);
  CHECK(number(2) == 3);
  CHECK(number(3) == 9);
  CHECK(number(4) == doctest::Approx(6.0));
  CHECK(number(5) == doctest::Approx(4 + 2.25 + 0.25 + 27));
  const std::vector<double> limits = doubles(only(histogram, 6)), counts = doubles(only(histogram, 7));
  REQUIRE(limits.size() == counts.size());
  CHECK(counts[0] == 0);
  CHECK(std::accumulate(counts.begin(), counts.end(), 0.0) == 9);
  for (size_t i = 1; i < limits.size(); ++i) {
    CHECK(limits[i] > limits[i - 1]);
    double within = 0;
    for (const float v : x) within += std::isfinite(v) && v >= limits[i - 1] && v < limits[i];
    CHECK(counts[i] == within);
  }
  CHECK(limits[1] > -2);
  CHECK(limits[1] < -2 / 1.1001);

  writer.add_histogram("huge", Tensor::from(std::vector<double>{-1e300, 1e300}, {2}), 8);
  const Fields huge = inside(events_of(writer.path()).at(2), {5, 1, 5});
  CHECK(doubles(only(huge, 7)).back() == 1);
  CHECK_ERROR(writer.add_histogram("none", Tensor::full({2}, NAN), 0), "none of 2 values is finite");
  CHECK_ERROR(writer.add_histogram("labels", Tensor::zeros({2}, DType::i64), 0),
              "labels: the values are i64");
}

TEST_CASE("a writer goes on where another ended, or was killed") {
  const TempFolder temp;
  const auto scalars = [&](int64_t step, std::optional<int64_t> purge = {}) {
    SummaryWriter writer(temp.path(), purge);
    writer.add_scalar("a", 1, step);
    return writer.path();
  };
  const std::string path = scalars(1);
  scalars(2);
  const std::string whole = read_file(path);
  CHECK(events_of(path).size() == 3);  // one head
  scalars(2, 2);
  const std::vector<Fields> events = events_of(path);
  REQUIRE(events.size() == 5);
  CHECK(take<int64_t>(only(events[3], 2), 0) == 2);
  CHECK(take<int64_t>(only(inside(events[3], {7}), 1), 0) == 1);  // SessionLog::START
  for (size_t cut = 0; cut < whole.size(); ++cut) {
    CAPTURE(cut);
    write_file(path, whole.substr(0, cut));
    scalars(3);
    const size_t kept = events_of(path).size();
    CHECK(kept >= 2);
    CHECK(kept <= 3);
  }
  write_file(path, "something quite different, longer than a record");
  CHECK_ERROR(scalars(4), "is there, but no file of events");
  CHECK(read_file(path) == "something quite different, longer than a record");
  write_file(temp / "file", "");
  CHECK_ERROR(SummaryWriter(temp / "file"), "file");
  CHECK_ERROR(SummaryWriter(temp / "file/run"), "can't make the folder");
}

TEST_CASE("a record that does not fit leaves the file whole") {
  const TempFolder temp;
  SummaryWriter writer(temp.path());
  writer.add_scalar("a", 1, 1);
  {
    const test::FileSizeLimit limit(4096);
    CHECK_ERROR(writer.add_text("much", std::string(100'000, 'x'), 2), "can't write");
  }
  CHECK(events_of(writer.path()).size() == 2);
  writer.add_scalar("a", 1, 2);
  CHECK(events_of(writer.path()).size() == 3);
}
