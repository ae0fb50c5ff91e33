// MNIST's and CIFAR-10's files: read right from folders, gzipped files and archives, and refused where they
// are not what they should be.
#include <doctest/doctest.h>

#include <filesystem>

#include "support/data_files.h"
#include "support/errors.h"
#include "weft/engine/data/dataset.h"
#include "weft/engine/data/loader.h"

using namespace weft;
using namespace weft::data;
using namespace weft::test;

namespace {

Content gzipped(const Content& content) {
  const TempFolder temp;
  archive* out = archive_write_new();
  archive_write_add_filter_gzip(out);
  archive_write_set_format_raw(out);
  REQUIRE(archive_write_open_filename(out, (temp / "x.gz").c_str()) == ARCHIVE_OK);
  archive_entry* entry = archive_entry_new();
  archive_entry_set_filetype(entry, AE_IFREG);
  REQUIRE(archive_write_header(out, entry) == ARCHIVE_OK);
  REQUIRE(archive_write_data(out, content.data(), content.size()) == la_ssize_t(content.size()));
  archive_entry_free(entry);
  REQUIRE(archive_write_close(out) == ARCHIVE_OK);
  archive_write_free(out);
  std::ifstream in(temp / "x.gz", std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Content big_endian(const std::vector<uint32_t>& numbers) {
  Content bytes;
  for (const uint32_t n : numbers)
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(uint8_t(n >> shift));
  return bytes;
}

/// Pixel p of picture i is i + 7 p.
Content images(uint32_t count, uint32_t rows, uint32_t columns) {
  Content bytes = big_endian({0x803, count, rows, columns});
  for (uint32_t i = 0; i < count; ++i)
    for (uint32_t p = 0; p < rows * columns; ++p) bytes.push_back(uint8_t(i + 7 * p));
  return bytes;
}
Content labels(const std::vector<uint8_t>& values) {
  Content bytes = big_endian({0x801, uint32_t(values.size())});
  bytes.insert(bytes.end(), values.begin(), values.end());
  return bytes;
}

Files mnist() {
  return {{"train-images-idx3-ubyte", images(3, 4, 5)},
          {"train-labels-idx1-ubyte", labels({7, 0, 9})},
          {"t10k-images-idx3-ubyte", images(2, 4, 5)},
          {"t10k-labels-idx1-ubyte", labels({1, 1})},
          {"README", text("about it")}};
}

void check_mnist(const std::string& path) {
  CAPTURE(path);
  const auto [train, val] = ImageDataset::open_splits(path);
  REQUIRE(train.size() == 3);
  CHECK(val.size() == 2);
  CHECK(train.classes().size() == 10);
  CHECK(train.classes() == val.classes());
  CHECK(train.label(0) == 7);
  CHECK(train.label(2) == 9);
  CHECK(train.name(2).ends_with("/00002"));
  CHECK(train.split() == "train");
  for (int64_t i = 0; i < 3; ++i) {
    const Bytes file = train.encoded(i);
    CHECK(image_size(*file).height == 4);
    CHECK(image_size(*file).width == 5);
    const Image picture = decode_image(*file);
    for (int p = 0; p < 20; ++p)
      for (int c = 0; c < 3; ++c) CHECK(picture.pixels[size_t(3 * p + c)] == uint8_t(i + 7 * p));
  }
}

/// Records of label l + i, pixel p of channel c is i + p + 80 c.
Content cifar(int count, uint8_t label) {
  Content bytes;
  for (int i = 0; i < count; ++i) {
    bytes.push_back(uint8_t(label + i));
    for (int c = 0; c < 3; ++c)
      for (int p = 0; p < 1024; ++p) bytes.push_back(uint8_t(i + p + 80 * c));
  }
  return bytes;
}
Files cifar10() {
  return {{"data_batch_1.bin", cifar(2, 3)},
          {"data_batch_2.bin", cifar(1, 9)},
          {"test_batch.bin", cifar(1, 0)},
          {"batches.meta.txt", text("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n")}};
}

void check_cifar(const std::string& path) {
  CAPTURE(path);
  const auto [train, val] = ImageDataset::open_splits(path);
  REQUIRE(train.size() == 3);
  CHECK(val.size() == 1);
  CHECK(train.classes() == std::vector<std::string>{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"});
  CHECK(train.name(1) == "train/e/00001");
  CHECK(train.label(2) == 9);
  const Image picture = decode_image(*train.encoded(1));
  REQUIRE(picture.width == 32);
  REQUIRE(picture.height == 32);
  for (int p = 0; p < 1024; p += 93)
    for (int c = 0; c < 3; ++c) CHECK(picture.pixels[size_t(3 * p + c)] == uint8_t(1 + p + 80 * c));
}

/// The message for MNIST with one file replaced.
std::string mnist_error(const std::string& name, const Content& content) {
  Files files = mnist();
  files[name] = content;
  const TempFolder temp;
  write_files(temp.path(), files);
  return error_of([&] { ImageDataset::open_splits(temp.path()); });
}

}  // namespace

TEST_CASE("MNIST from plain and gzipped files, with other spellings, and from archives") {
  const TempFolder temp;
  write_files(temp / "plain", mnist());
  check_mnist(temp / "plain");
  write_files(temp / "set/raw", mnist());
  check_mnist(temp / "set");
  write_archive(temp / "set.tgz", mnist());
  check_mnist(temp / "set.tgz");
  write_archive(temp / "deep.tar", mnist(), "./MNIST/", false);
  check_mnist(temp / "deep.tar");
  Files packed;
  for (const auto& [name, content] : mnist()) packed[name + ".gz"] = gzipped(content);
  write_files(temp / "packed", packed);
  check_mnist(temp / "packed");
  Files dotted = mnist();
  for (auto& [name, content] : mnist())
    if (const size_t at = name.find("-idx"); at != std::string::npos) {
      std::string other = name;
      other[at] = '.';
      dotted[other] = content;
      dotted.erase(name);
    }
  write_files(temp / "fashion-dotted", dotted);
  check_mnist(temp / "fashion-dotted");
  CHECK(ImageDataset::open(temp / "fashion-dotted", "val").classes()[9] == "Ankle boot");
  {
    const auto here = std::filesystem::current_path();
    std::filesystem::current_path(temp / "fashion-dotted");
    CHECK(ImageDataset::open(".", "val").classes()[9] == "Ankle boot");  // however it is spelt
    std::filesystem::current_path(here);
  }
  CHECK(ImageDataset::open(temp / "plain", "val").classes()[9] == "9");
  write_bytes(temp / "plain/classes.txt", text("o\nI\nZ\nE\nA\r\nS\nb\nL\nB\ng\nX"));
  CHECK(ImageDataset::open(temp / "plain", "val").classes().size() == 11);
  CHECK(ImageDataset::open(temp / "plain", "train").name(0) == "train/L/00000");
}

TEST_CASE("CIFAR-10 from a folder and from its archive") {
  const TempFolder temp;
  write_files(temp / "plain", cifar10());
  check_cifar(temp / "plain");
  write_archive(temp / "cifar-10-binary.tar.gz", cifar10(), "cifar-10-batches-bin/");
  check_cifar(temp / "cifar-10-binary.tar.gz");
  Files nameless = cifar10();
  nameless.erase("batches.meta.txt");
  write_files(temp / "nameless", nameless);
  CHECK(ImageDataset::open(temp / "nameless", "train").classes()[9] == "truck");
}

TEST_CASE("pictures of packed sets go through the loader") {
  const TempFolder temp;
  write_files(temp.path(), mnist());
  ImageLoader loader(ImageDataset::open(temp.path(), "train"),
                     {.size = 8, .batch_size = 3, .train = false, .strict = true});
  loader.begin_epoch(0);
  const auto batch = loader.next();
  REQUIRE(batch);
  CHECK(batch->images.shape() == Shape{3, 8, 8, 3});
  CHECK(batch->labels.to_vector<int64_t>() == std::vector<int64_t>{7, 0, 9});
}

TEST_CASE("no picture is mirrored where that is unwanted") {
  std::vector<ImageDataset::Sample> samples;
  Content picture = text("P5\n2 2\n255\n");
  for (const int v : {0, 255, 0, 255}) picture.push_back(uint8_t(v));
  for (int i = 0; i < 40; ++i)
    samples.push_back({{std::to_string(i), std::make_shared<const Content>(picture), {}}, 0});
  const ImageDataset set("train", {"only"}, samples);
  for (const bool flip : {true, false}) {
    ImageLoader loader(set, {.size = 2, .batch_size = 40, .min_scale = 1, .flip = flip});
    loader.begin_epoch(0);
    const auto batch = loader.next();
    int mirrored = 0;
    for (int i = 0; i < 40; ++i)
      mirrored += batch->images.data<float>()[i * 12] > batch->images.data<float>()[i * 12 + 3];
    CHECK(mirrored == doctest::Approx(flip ? 20 : 0).epsilon(0.4));
  }
}

TEST_CASE("a packed set's labels come from a table beside its files") {
  const TempFolder temp;
  Files files = mnist();
  files["noisy.csv"] = text("path,noisy\ntrain/7/00000,7\ntrain/0/00001,9\ntrain/9/00002,9\n");
  write_files(temp / "set", files);
  write_archive(temp / "set.tgz", files);
  for (const std::string& path : {temp / "set", temp / "set.tgz"}) {
    CAPTURE(path);
    auto [train, val] = ImageDataset::open_splits(path);
    CHECK(train.use_labels("noisy.csv:noisy") == 1);
    CHECK(train.label(1) == 9);
    CHECK_ERROR(val.use_labels("other.csv:noisy"), path);
  }
}

TEST_CASE("files of MNIST's form that are not what they should be") {
  const char *pixels = "train-images-idx3-ubyte", *classes = "train-labels-idx1-ubyte";
  CHECK(mnist_error(pixels, images(3, 4, 5)) == "(no error)");
  CHECK(mentions(mnist_error(pixels, labels({1, 2, 3})), "magic number 2051"));
  CHECK(mentions(mnist_error(classes, images(3, 4, 5)), "magic number 2049"));
  CHECK(mentions(mnist_error(pixels, {}), "truncated: 0 bytes"));
  CHECK(mentions(mnist_error(pixels, big_endian({0x803, 3})), "truncated in its header"));
  CHECK(mentions(mnist_error(pixels, images(2, 4, 5)), "2 pictures, but"));
  CHECK(mentions(mnist_error(classes, labels({7, 0, 10})), "label 10, but there are 10 classes"));
  CHECK(mentions(mnist_error(pixels, big_endian({0x803, 0, 4, 5})), "has no elements"));
  CHECK(mentions(mnist_error(pixels, big_endian({0x803, 3, 0, 5})),
                 "train-images-idx3-ubyte: a picture of 5 x 0 pixels"));
  for (const uint32_t huge : {0xffffffffu, 0x10000u, 0x7fffffffu}) {
    CHECK(mentions(mnist_error(pixels, big_endian({0x803, huge, 4000, 5000})), "the limit is"));
    CHECK(mentions(mnist_error(pixels, big_endian({0x803, 1, huge, huge})), "train-images-idx3-ubyte: "));
    CHECK(mentions(mnist_error(pixels, big_endian({0x803, 1, huge, huge})), "the limit of"));
    CHECK(
        mentions(mnist_error(classes, big_endian({0x801, huge})), huge == 0x10000u ? "truncated" : "limit"));
  }
  CHECK(mentions(mnist_error(pixels, big_endian({0x803, 5'000'000, 1, 1})), "the limit is"));
  Content cut = images(3, 4, 5);
  cut.pop_back();
  CHECK(mentions(mnist_error(pixels, cut), "truncated: its header promises 76 bytes, but 75"));
  Content longer = images(3, 4, 5);
  longer.push_back(0);
  CHECK(mentions(mnist_error(pixels, longer), "goes on behind the 76 bytes"));

  const TempFolder temp;
  Files files = mnist();
  files.erase("t10k-labels-idx1-ubyte");
  write_files(temp / "a", files);
  CHECK(ImageDataset::open(temp / "a", "train").size() == 3);
  CHECK_ERROR(ImageDataset::open(temp / "a", "val"), "has no t10k-labels-idx1-ubyte");
  CHECK_ERROR(ImageDataset::open(temp / "a", "test"), "there is no split 'test'");
  files = mnist();
  files["test_batch.bin"] = cifar(1, 0);
  write_files(temp / "b", files);
  CHECK_ERROR(ImageDataset::open(temp / "b", "train"), "into folders of their own");
  for (const auto& [content, part] :
       std::map<std::string, std::string>{{"", "names no class"},
                                          {"x\ny\nx\n", "twice"},
                                          {std::string("a\0b", 3), "is not a text"},
                                          {"a\xff\n", "classes.txt is not UTF-8"}}) {
    files = mnist();
    files["classes.txt"] = text(content);
    const TempFolder here;
    write_files(here.path(), files);
    CHECK_ERROR(ImageDataset::open(here.path(), "train"), part);
  }
}

TEST_CASE("a gzipped file of several members is all of them") {
  const Content whole = images(3, 4, 5);
  Content file;
  for (const auto& [from, to] : {std::pair{0, 10}, {10, 10}, {10, 50}, {50, 76}}) {
    const Content member = gzipped({whole.begin() + from, whole.begin() + to});
    file.insert(file.end(), member.begin(), member.end());
  }
  Files files = mnist();
  files["train-images-idx3-ubyte"] = file;
  const TempFolder temp;
  write_files(temp.path(), files);
  check_mnist(temp.path());
  file.pop_back();
  CHECK(mentions(mnist_error("train-images-idx3-ubyte", file), "truncated"));
  file.back() ^= 1;
  file.insert(file.end(), 3, 0);
  CHECK(mentions(mnist_error("train-images-idx3-ubyte", file), "corrupt"));
  file = gzipped(whole);
  file.insert(file.end(), 512, 0);  // as of a tape
  CHECK(mnist_error("train-images-idx3-ubyte", file) == "(no error)");
}

TEST_CASE("gzipped files that are cut, damaged, or larger than they say") {
  const char* name = "train-images-idx3-ubyte";  // told by content, not by the name
  const Content good = gzipped(images(3, 4, 5));
  CHECK(mnist_error(name, good) == "(no error)");
  for (size_t keep = 3; keep < good.size(); keep += 7)
    CHECK(mentions(mnist_error(name, Content(good.begin(), good.begin() + int64_t(keep))), "truncated"));
  Content damaged = good;
  damaged[damaged.size() - 6] ^= 1;  // in the checksum
  CHECK(mentions(mnist_error(name, damaged), "corrupt"));
  for (size_t i = 0; i < good.size(); ++i) {  // an error or the same set, and no crash
    damaged = good;
    damaged[i] ^= 0x55;
    mnist_error(name, damaged);
  }
  Content bomb = images(3, 4, 5);
  bomb.resize(64 << 20);
  const Content small = gzipped(bomb);
  REQUIRE(small.size() < 100000);
  CHECK(mentions(mnist_error(name, small), "goes on behind the 76 bytes"));
}

TEST_CASE("CIFAR-10 files that are not what they should be") {
  const auto error_with = [](const std::string& name, const Content& content) {
    Files files = cifar10();
    files[name] = content;
    const TempFolder temp;
    write_files(temp.path(), files);
    return error_of([&] { ImageDataset::open_splits(temp.path()); });
  };
  Content cut = cifar(2, 0);
  cut.pop_back();
  CHECK(mentions(error_with("data_batch_2.bin", cut), "data_batch_2.bin has 6145 bytes"));
  CHECK(mentions(error_with("data_batch_2.bin", {}), "has 0 bytes"));
  CHECK(
      mentions(error_with("data_batch_4.bin", cifar(1, 0)), "has data_batch_4.bin, but no data_batch_3.bin"));
  CHECK(mentions(error_with("data_batch_12345678901234567890.bin", cifar(1, 0)), "but no data_batch_3.bin"));
  CHECK(mentions(error_with("data_batch_2.bin", cifar(1, 10)), "label 10, but there are 10 classes"));
  CHECK(mentions(error_with("batches.meta.txt", text("a\nb\n")), "label 3, but there are 2 classes"));
  const TempFolder temp;
  write_files(temp.path(), {{"data_batch_1.bin", cifar(1, 0)}});
  CHECK(ImageDataset::open(temp.path(), "train").size() == 1);
  CHECK_ERROR(ImageDataset::open(temp.path(), "val"), "has no test_batch.bin");
}

TEST_CASE("PGM and PPM") {
  const Content grey = text("P5 # a comment 9\n#another\n2\t1 255\nxy");
  CHECK(decode_image(grey).pixels == Content{'x', 'x', 'x', 'y', 'y', 'y'});
  CHECK(decode_image(text("P6 2 1\n255\nabcdef")).pixels == text("abcdef"));
  CHECK(image_size(grey).width == 2);
  CHECK_ERROR(decode_image(text("P6 2 1\n255\nabcde")), "6 bytes are promised, but 5 are there");
  CHECK_ERROR(decode_image(text("P5 2 1 65535\nabcd")), "only 255 can be read");
  CHECK_ERROR(decode_image(text("P5 0 1 255\n")), "0 x 1 pixels");
  CHECK_ERROR(decode_image(text("P5 99999999 99999999 255\n")), "more than the limit");
  CHECK_ERROR(decode_image(text("P5 99999999999999999999 1 255\n")), "no width");
  CHECK_ERROR(decode_image(text("P5 -1 1 255\n")), "no width");
  CHECK_ERROR(decode_image(text("P5 1")), "no width");
  CHECK_ERROR(decode_image(text("P5 1 1 255")), "no largest value");
  CHECK_ERROR(decode_image(text("P5#")), "no width");
}
