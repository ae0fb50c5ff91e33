// Data sets from folders and archives, and what can be wrong with them.
#include <doctest/doctest.h>

#include <cstring>

#include "support/data_files.h"
#include "support/errors.h"
#include "weft/engine/data/dataset.h"

using namespace weft;
using namespace weft::data;
using namespace weft::test;

namespace {

Content png(uint8_t value) { return plain_png(8, 8, value); }

// Two classes; b comes before a on purpose, and names differ in their endings.
Files small_set() {
  return {{"train/b/2.JPEG", png(21)},
          {"train/b/1.png", png(22)},
          {"train/a/x.jpg", png(11)},
          {"train/a/deep/y.JpEg", png(12)},
          {"val/b/9.PNG", png(23)},
          {"val/a/8.jpeg", png(13)},
          {"train/a/._x.jpg", text("hidden")},
          {"train/a/notes.txt", text("ignored")},
          {"train/loose.jpg", png(1)},
          {"train/.cache/z.jpg", png(2)},
          {"labels.csv", text("path,clean,noisy\n")}};
}

void check_small_set(const std::string& path) {
  CAPTURE(path);
  const auto [train, val] = ImageDataset::open_splits(path);
  CHECK(train.classes() == std::vector<std::string>{"a", "b"});
  CHECK(val.classes() == train.classes());
  REQUIRE(train.size() == 4);
  const std::vector<std::string> names{"train/a/deep/y.JpEg", "train/a/x.jpg", "train/b/1.png",
                                       "train/b/2.JPEG"};
  const std::vector<uint8_t> values{12, 11, 22, 21};
  for (int64_t i = 0; i < 4; ++i) {
    CHECK(train.name(i) == names[size_t(i)]);
    CHECK(train.label(i) == i / 2);
    CHECK(*train.encoded(i) == png(values[size_t(i)]));
  }
  REQUIRE(val.size() == 2);
  CHECK(val.name(0) == "val/a/8.jpeg");
  CHECK(train.ignored() == 2);  // notes.txt and the picture outside a class folder
  CHECK(val.ignored() == 0);
  CHECK(ImageDataset::open(path, "val").size() == 2);
  CHECK(train.split() == "train");
  CHECK_ERROR(train.name(4), "picture 4 of a data set of 4");
}

}  // namespace

TEST_CASE("folders and archives of the same files are the same data set") {
  const TempFolder temp;
  const Files files = small_set();
  write_files(temp / "plain", files);
  check_small_set(temp / "plain");
  check_small_set((temp / "plain") + "/");
  std::filesystem::create_symlink("nowhere", temp / "plain/train/a/link.jpg");
  CHECK(ImageDataset::open(temp / "plain", "train").ignored() == 3);
  write_files(temp / "outer/inner", files);
  write_bytes(temp / "outer/README", text("beside it"));
  check_small_set(temp / "outer");

  write_archive(temp / "top.tgz", files);
  check_small_set(temp / "top.tgz");
  write_archive(temp / "folder.tar.gz", files, "imagewoof2-160/");
  check_small_set(temp / "folder.tar.gz");
  write_archive(temp / "dot.tar", files, "./set/", false);
  check_small_set(temp / "dot.tar");
  Files odd{{".", text("a file without a name")}};
  for (const auto& [name, content] : files) odd["set/" + name] = content;
  write_archive(temp / "odd.tar", odd, "", false);
  check_small_set(temp / "odd.tar");
  // Told apart by content, not by name.
  std::filesystem::rename(temp / "folder.tar.gz", temp / "download");
  check_small_set(temp / "download");
}

TEST_CASE("validation alone has classes of its own") {
  const TempFolder temp;
  write_files(temp / "set", {{"val/z/1.png", png(1)}, {"val/y/1.png", png(2)}});
  CHECK(ImageDataset::open(temp / "set", "val").classes() == std::vector<std::string>{"y", "z"});
  CHECK_ERROR(ImageDataset::open(temp / "set", "train"), "has no train/ folder with pictures");
}

TEST_CASE("names beyond ASCII come through an archive") {
  const TempFolder temp;
  write_archive(temp / "set.tgz",
                {{"train/K\xc3\xa4se/\xe7\x8a\xac.png", png(1)}, {"train/b/1.png", png(2)}});
  const auto set = ImageDataset::open(temp / "set.tgz", "train");
  CHECK(set.classes() == std::vector<std::string>{"K\xc3\xa4se", "b"});
}

TEST_CASE("a class whose name is not UTF-8 is refused") {
  const TempFolder temp;
  const auto error = [&](const std::string& name) {
    write_files(temp / "set", {{"train/a/1.png", png(1)}, {"train/" + name + "/1.png", png(2)}});
    const std::string message = error_of([&] { ImageDataset::open(temp / "set", "train"); });
    std::filesystem::remove_all(temp / "set");
    return message;
  };
  CHECK(mentions(error("b\xff\xfe"),
                 "class 'b?"
                 "?' in "));
  CHECK(mentions(error("b\xff\xfe"), "is not UTF-8: rename its folder"));
  // Cut off, too long a form, half of a pair of UTF-16, above U+10FFFF.
  for (const char* name :
       {"\xc3", "\xe7\x8a", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80"})
    CHECK(mentions(error(name), "class '" + std::string(std::strlen(name), '?') + "' in "));
  for (const char* name :
       {"K\xc3\xa4se", "\xe7\x8a\xac", "\xed\x9f\xbf", "\xf0\x9f\x90\x95", "\xf4\x8f\xbf\xbf"})
    CHECK(error(name) == "(no error)");
}

TEST_CASE("links in an archive: hard ones are files, symbolic ones are counted as ignored") {
  const TempFolder temp;
  const auto write = [&](const std::map<std::string, std::string>& hard) {
    archive* out = archive_write_new();
    archive_write_set_format_pax_restricted(out);
    REQUIRE(archive_write_open_filename(out, (temp / "set.tar").c_str()) == ARCHIVE_OK);
    const auto add = [&](const std::string& name, const auto& set, const Content& content) {
      archive_entry* entry = archive_entry_new();
      archive_entry_set_pathname(entry, name.c_str());
      archive_entry_set_size(entry, int64_t(content.size()));
      archive_entry_set_perm(entry, 0644);
      set(entry);
      REQUIRE(archive_write_header(out, entry) == ARCHIVE_OK);
      if (!content.empty())
        REQUIRE(archive_write_data(out, content.data(), content.size()) == la_ssize_t(content.size()));
      archive_entry_free(entry);
    };
    for (const char* name : {"./train/a/1.png", "./train/a/notes.txt"})
      add(
          name, [](archive_entry* e) { archive_entry_set_filetype(e, AE_IFREG); }, png(7));
    for (const auto& link : hard)
      add(link.first, [&](archive_entry* e) { archive_entry_set_hardlink(e, link.second.c_str()); }, {});
    for (const char* name : {"./train/a/s.png", "./train/none/s.png", "./train/a/s.txt"})
      add(name,
          [](archive_entry* e) {
            archive_entry_set_filetype(e, AE_IFLNK);
            archive_entry_set_symlink(e, "1.png");
          },
          {});
    REQUIRE(archive_write_close(out) == ARCHIVE_OK);
    archive_write_free(out);
  };
  write({{"./train/b/2.png", "./train/a/1.png"}, {"./train/b/other.txt", "./train/a/notes.txt"}});
  const auto set = ImageDataset::open(temp / "set.tar", "train");
  CHECK(set.classes() == std::vector<std::string>{"a", "b"});
  REQUIRE(set.size() == 2);
  CHECK(set.name(1) == "train/b/2.png");
  CHECK(*set.encoded(1) == png(7));
  CHECK(set.encoded(1) == set.encoded(0));
  CHECK(set.ignored() == 4);  // two texts, two symbolic links with the names of pictures
  write({{"./train/b/2.png", "./train/a/notes.txt"}});
  CHECK_ERROR(ImageDataset::open(temp / "set.tar", "train"),
              "./train/b/2.png is a hard link to ./train/a/notes.txt, of which nothing was read before");
}

TEST_CASE("a file with holes in an archive is refused: few bytes stand for any number") {
  const TempFolder temp;
  archive* out = archive_write_new();
  archive_write_set_format_pax(out);
  REQUIRE(archive_write_open_filename(out, (temp / "set.tar").c_str()) == ARCHIVE_OK);
  archive_entry* entry = archive_entry_new();
  archive_entry_set_pathname(entry, "train/a/1.png");
  archive_entry_set_filetype(entry, AE_IFREG);
  archive_entry_set_perm(entry, 0644);
  archive_entry_set_size(entry, 300 << 20);
  archive_entry_sparse_add_entry(entry, (300 << 20) - 4, 4);
  REQUIRE(archive_write_header(out, entry) == ARCHIVE_OK);
  const std::vector<char> zeros(1 << 20);
  for (int i = 0; i < 300; ++i) REQUIRE(archive_write_data(out, zeros.data(), zeros.size()) >= 0);
  archive_entry_free(entry);
  REQUIRE(archive_write_close(out) == ARCHIVE_OK);
  archive_write_free(out);
  REQUIRE(std::filesystem::file_size(temp / "set.tar") < 100'000);
  CHECK_ERROR(ImageDataset::open(temp / "set.tar", "train"), "train/a/1.png has holes");
}

TEST_CASE("wrong paths and layouts are errors with the mend") {
  const TempFolder temp;
  CHECK_ERROR(ImageDataset::open(temp / "nothing", "train"),
              "nothing does not exist; expected PATH/train/CLASS/*.jpg");
  CHECK_ERROR(ImageDataset::open(temp.path(), "train"), "has no train/ or val/ folder, it has nothing");

  write_files(temp / "flat", {{"a/1.png", png(1)}, {"b/2.png", png(2)}});
  CHECK_ERROR(ImageDataset::open(temp / "flat", "train"), "has no train/ or val/ folder, it has a, b");
  write_archive(temp / "flat.tgz", {{"a/1.png", png(1)}});
  CHECK_ERROR(ImageDataset::open(temp / "flat.tgz", "train"), "has no train/ or val/ folder, it has a");

  const Files good{{"train/a/1.png", png(1)}, {"val/a/2.png", png(2)}};
  write_files(temp / "two/one", good);
  write_files(temp / "two/other", good);
  CHECK_ERROR(ImageDataset::open(temp / "two", "train"),
              "holds several data sets (one, other): name one of them");
  CHECK(ImageDataset::open(temp / "two/one", "train").size() == 1);
  CHECK_ERROR(ImageDataset::open(temp / "two/one", "test"), "there is no split 'test'");

  std::filesystem::create_directories(temp / "empty/train");
  CHECK_ERROR(ImageDataset::open(temp / "empty", "train"), "has no train/ folder with pictures");
  write_files(temp / "texts", {{"train/a/1.txt", text("x")}, {"train/a/2.gif", text("x")}});
  CHECK_ERROR(ImageDataset::open(temp / "texts", "train"), "has no pictures");
  CHECK_ERROR(ImageDataset::open(temp / "texts", "train"), "only 2 other files");
  write_files(temp / "loose", {{"train/1.png", png(1)}});
  CHECK_ERROR(ImageDataset::open(temp / "loose", "train"),
              "lie in no class folder: expected train/CLASS/*.jpg");

  write_files(temp / "extra",
              {{"train/a/1.png", png(1)}, {"val/a/2.png", png(2)}, {"val/stranger/3.png", png(3)}});
  CHECK_ERROR(ImageDataset::open(temp / "extra", "val"), "class 'stranger' is in val/");
  CHECK(ImageDataset::open(temp / "extra", "train").size() == 1);
}

TEST_CASE("a link to a folder above is found out") {
  const TempFolder temp;
  write_files(temp / "set", {{"train/a/1.png", png(1)}});
  std::filesystem::create_directory_symlink("..", temp / "set/train/a/loop");
  CHECK_ERROR(ImageDataset::open(temp / "set", "train"), "a link to itself?");
}

TEST_CASE("a file that goes away is an error that names it") {
  const TempFolder temp;
  write_files(temp / "set", {{"train/a/1.png", png(1)}});
  const auto set = ImageDataset::open(temp / "set", "train");
  std::filesystem::remove(temp / "set/train/a/1.png");
  CHECK_ERROR(set.encoded(0), "train/a/1.png");
}

TEST_CASE("a corrupt archive is an error wherever it is cut or changed") {
  const TempFolder temp;
  Files files = small_set();
  // Random bytes, so that gzip has to store them and a change shows nowhere but in the checksum.
  Content noise(4000);
  uint32_t state = 1;
  for (uint8_t& b : noise) b = uint8_t((state = state * 1664525u + 1013904223u) >> 24);
  files["train/a/noise.jpg"] = noise;
  write_archive(temp / "good.tgz", files);
  const auto bytes_of = [&](const char* name) {
    std::ifstream in(temp / name, std::ios::binary);
    return Content{std::istreambuf_iterator<char>(in), {}};
  };
  const Content whole = bytes_of("good.tgz");
  REQUIRE(ImageDataset::open(temp / "good.tgz", "train").size() == 5);

  for (size_t cut = 0; cut < whole.size(); cut += 97) {
    CAPTURE(cut);
    write_bytes(temp / "bad.tgz", {whole.begin(), whole.begin() + int64_t(cut)});
    CHECK_ERROR(ImageDataset::open(temp / "bad.tgz", "train"), "bad.tgz");
  }
  for (size_t at = 10; at < whole.size(); at += 61) {  // behind the header, whose time stamp may be anything
    CAPTURE(at);
    Content bad = whole;
    bad[at] ^= 0x10;
    write_bytes(temp / "bad.tgz", bad);
    CHECK_ERROR(ImageDataset::open(temp / "bad.tgz", "train"), "bad.tgz");
  }
  // An uncompressed one, cut between two members: all that is there reads well.
  write_archive(temp / "whole.tar", small_set(), "", false);
  Content tar = bytes_of("whole.tar");
  size_t member = 0;
  for (size_t at = 0; tar[at] != 0;) {  // a header with the size in octal digits, then the content in blocks
    member = at;
    const size_t size = std::stoul(std::string(&tar[at + 124], &tar[at + 135]), nullptr, 8);
    at += 512 + (size + 511) / 512 * 512;
  }
  tar.resize(member);
  write_bytes(temp / "cut.tar", tar);
  CHECK_ERROR(ImageDataset::open(temp / "cut.tar", "train"), "cut.tar is a tar that ends too early, after ");
  tar.resize(member + 512);  // one block of zeros is mark enough, as for GNU tar
  write_bytes(temp / "short.tar", tar);
  CHECK(ImageDataset::open(temp / "short.tar", "train").size() > 0);
  write_bytes(temp / "empty.tgz", {});
  CHECK_ERROR(ImageDataset::open(temp / "empty.tgz", "train"), "empty.tgz has no train/ or val/ folder");
  write_archive(temp / "long.tgz", {{"train/a/" + std::string(5000, 'x') + ".png", png(1)}});
  CHECK_ERROR(ImageDataset::open(temp / "long.tgz", "train"), "long.tgz: a name of 5012 bytes");
  write_bytes(temp / "text.tgz", text("I am no archive, though my name says so."));
  CHECK_ERROR(ImageDataset::open(temp / "text.tgz", "train"), "is not a readable .tgz or .tar");
  const std::pair<std::string, std::string> others[] = {{"PK\3\4\24", "is a zip archive"},
                                                        {"BZh91AY&SY", "is packed with bzip2"},
                                                        {"\3757zXZ", "is packed with xz"},
                                                        {"(\265/\375", "is packed with zstd"}};
  for (const auto& [begins, format] : others) {
    write_bytes(temp / "other.tgz", text(begins + std::string(2000, 'x')));
    CHECK_ERROR(ImageDataset::open(temp / "other.tgz", "train"), format);
    CHECK_ERROR(ImageDataset::open(temp / "other.tgz", "train"), "pack its content anew as a .tgz or .tar");
  }
}

TEST_CASE("labels come from a column of a table beside train/ or on disk") {
  const TempFolder temp;
  Files files{{"train/a/1.png", png(1)},
              {"train/a/2.png", png(2)},
              {"train/b/3.png", png(3)},
              {"val/b/4.png", png(4)}};
  files["noisy.csv"] = text(
      "path,noisy_0,noisy_50,is_valid\r\ntrain/a/1.png,a,b,False\r\n\"train/a/2.png\",a,a,False\r\n"
      "train/b/3.png,b,a,False\r\nval/b/4.png,b,b,True\r\n");
  write_archive(temp / "set.tgz", files, "woof/");
  write_files(temp / "set", files);
  for (const std::string& path : {temp / "set.tgz", temp / "set"}) {
    auto [train, val] = ImageDataset::open_splits(path);
    CHECK(train.use_labels("noisy.csv:noisy_50") == 2);
    CHECK((train.label(0) == 1 && train.label(1) == 0 && train.label(2) == 0));
    CHECK(train.use_labels((temp / "set/noisy.csv") + ":noisy_0") == 2);
    CHECK((train.label(0) == 0 && train.label(1) == 0 && train.label(2) == 1));
    CHECK(val.use_labels("noisy.csv:noisy_50") == 0);
  }

  auto set = ImageDataset::open(temp / "set", "train");
  const auto with = [&](const std::string& csv) {
    write_bytes(temp / "t.csv", text(csv));
    return set.use_labels((temp / "t.csv") + ":noisy");
  };
  CHECK_ERROR(set.use_labels("noisy.csv"), "is not FILE:COLUMN");
  CHECK_ERROR(set.use_labels("noisy.csv:"), "is not FILE:COLUMN");
  CHECK_ERROR(set.use_labels("absent.csv:noisy"), "absent.csv is neither a file nor at the root of ");
  CHECK_ERROR(set.use_labels("noisy.csv:noisy_51"),
              "has no column 'noisy_51', its columns are path, noisy_0, noisy_50, is_valid");
  CHECK_ERROR(with("file,noisy\n"), "has no column 'path'");
  CHECK_ERROR(with(""), "has no column 'path'");
  CHECK_ERROR(with("path,noisy\ntrain/a/1.png,wolf\n"), "line 2 has class 'wolf'");
  CHECK_ERROR(with("path,noisy\ntrain/a/7.png,a\n"), "line 2 names train/a/7.png, which is not in");
  CHECK_ERROR(with("path,noisy\ntrain/a/1.png\n"), "line 2 has 1 fields, its header 2");
  CHECK_ERROR(with("path,noisy\ntrain/a/1.png,b\ntrain/a/2.png,b\n"), "has no row for train/b/3.png");
  CHECK((set.label(0) == 0 && set.label(1) == 0 && set.label(2) == 1));  // an error changes nothing
}
