#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <thread>

#include "support/errors.h"
#include "support/file_size_limit.h"
#include "support/temp_folder.h"
#include "weft/engine/file.h"
#include "weft/engine/safetensors.h"

using namespace weft;
using test::TempFolder;
namespace fs = std::filesystem;

namespace {

std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t n = header.size();
  std::string s(8, '\0');
  std::memcpy(s.data(), &n, 8);
  return s + header + data;
}

}  // namespace

TEST_CASE("safetensors: what is saved is loaded, in order, with its metadata") {
  const TempFolder folder;
  const std::string path = folder / "a.safetensors";
  const StateDict saved = {{"w", Tensor::from<float>({1.5F, -2}, {2, 1})},
                           {"d", Tensor::from<double>({3.25}, {})},
                           {"labels", Tensor::from<int64_t>({-1, 1LL << 40, 0}, {3})},
                           {"image", Tensor::from<uint8_t>({0, 255}, {2})},
                           {"none", Tensor::empty({0, 3})},
                           {"half", Tensor::empty({4}, DType::bf16)}};
  save_safetensors(path, saved, {{"model", "mxresnet18"}, {"note", "\"quoted\" \n line"}});
  std::map<std::string, std::string> metadata;
  const StateDict loaded = load_safetensors(path, &metadata);
  REQUIRE(loaded.size() == saved.size());
  for (size_t i = 0; i < saved.size(); ++i) {
    CHECK(loaded[i].first == saved[i].first);
    CHECK(loaded[i].second.dtype() == saved[i].second.dtype());
    CHECK(loaded[i].second.shape() == saved[i].second.shape());
    CHECK(std::memcmp(loaded[i].second.raw(), saved[i].second.raw(), size_t(saved[i].second.bytes())) == 0);
  }
  CHECK(metadata["model"] == "mxresnet18");
  CHECK(metadata["note"] == "\"quoted\" \n line");
  CHECK(!find(loaded, "absent").defined());
}

TEST_CASE("safetensors: every cut of a file is an error, never a crash") {
  const TempFolder folder;
  const std::string path = folder / "a.safetensors", cut = folder / "cut.safetensors";
  save_safetensors(path, {{"a", Tensor::ones({5})}, {"b", Tensor::zeros({2, 2}, DType::i64)}});
  const std::string whole = read_file(path);
  for (size_t n = 0; n < whole.size(); ++n) {
    write_file(cut, whole.substr(0, n));
    CHECK_ERROR(load_safetensors(cut), "cut.safetensors: ");
  }
  // Any changed byte of the header: an error or a readable file.
  for (size_t i = 0; i < whole.size() - 52; ++i) {
    std::string bad = whole;
    bad[i] = char(bad[i] ^ 0x15);
    write_file(cut, bad);
    try {
      load_safetensors(cut);
    } catch (const Error&) {
    }
  }
}

TEST_CASE("safetensors: hostile headers") {
  const TempFolder folder;
  const std::string path = folder / "bad.safetensors";
  const auto refused = [&](const std::string& header, const char* part) {
    write_file(path, file_of(header, std::string(16, 'x')));
    CHECK_ERROR(load_safetensors(path), part);
  };
  refused(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,12]}})", "does not fit its data offsets");
  refused(R"({"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}})", "cut off");
  refused(R"({"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})",
          "bad.safetensors: tensor a: shape: negative size");
  refused(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}})",
          "bad.safetensors: tensor a: shape: [4611686018427387904, 4] has too many elements");
  refused(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})",
          "bad.safetensors: tensor a: shape: 9 dimensions");
  refused(R"({"a":{"dtype":"F32","shape":[1e30],"data_offsets":[0,8]}})",
          "bad.safetensors: tensor a: its shape is 1e+30, expected a whole number");
  refused(R"({"a":{"dtype":"F32","shape":[4.9],"data_offsets":[0,16]}})", "its shape is 4.9");
  refused(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,16]}})",
          "its shape is 184467");
  refused(R"({"a":{"dtype":"F32","shape":4,"data_offsets":[0,16]}})", "its shape must be a list");
  refused(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0.5,16.7]}})", "its data_offsets is 0.5");
  refused(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[-1,15]}})", "its data_offsets is -1");
  refused(R"({"a":{"dtype":"F8","shape":[16],"data_offsets":[0,16]}})", "has dtype F8");
  refused(R"({"a":{"dtype":"F32","shape":[4]}})", "damaged");
  refused(
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
      "tensor a occurs twice");
  const auto two = [](const char* a, const char* b) {
    return R"({"a":{"dtype":"U8","shape":[8],"data_offsets":)" + std::string(a) +
           R"(},"b":{"dtype":"U8","shape":[8],"data_offsets":)" + b + "}}";
  };
  write_file(path, file_of(two("[8,16]", "[0,8]"), std::string(16, 'x')));
  CHECK(load_safetensors(path).front().first == "a");
  refused(two("[0,8]", "[0,8]"),
          "tensor b begins at byte 0 of the data, not where the one before it ends, at 8");
  refused(two("[0,8]", "[4,12]"), "tensor b begins at byte 4");
  refused(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[12,16]}})", "tensor a begins at byte 12");
  refused(R"({"a":{"dtype":"U8","shape":[12],"data_offsets":[0,12]}})",
          "4 bytes of the data belong to no tensor");
  refused("{}", "16 bytes of the data belong to no tensor");
  refused("[1]", "no JSON object");
  // Parsing takes stack for each level.
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  refused(R"({"a":{"dtype":"F32","shape":)" + deep + R"(,"data_offsets":[0,0]}})",
          "bad.safetensors: its JSON nests 200002 levels deep");
  refused("not json", "not a safetensors file");
  write_file(path, std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10));
  CHECK_ERROR(load_safetensors(path), "cut off");
  CHECK_ERROR(load_safetensors(folder / "absent"), "can't read");
  CHECK_ERROR(load_safetensors(folder.path()), "it is a folder");
  CHECK_ERROR(save_safetensors(path, {{"a", Tensor::ones({1})}, {"a", Tensor::ones({1})}}), "occurs twice");
}

TEST_CASE("safetensors: the time for a header is that of its length") {
  const TempFolder folder;
  std::string header = "{";
  for (int i = 0; i < 200'000; ++i)
    header += (i ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  write_file(folder / "many", file_of(header + "}", ""));
  const StateDict many =
      load_safetensors(folder / "many");  // two minutes where each name is compared with all
  REQUIRE(many.size() == 200'000);
  CHECK(many[100].first == "100");
}

TEST_CASE("nested JSON: brackets in strings are no levels") {
  const std::string many(100, '[');
  CHECK_ERROR(check_nesting("some.json", many), "some.json: its JSON nests 100 levels deep");
  CHECK_ERROR(check_nesting("some.json", R"({"a\\":)" + many), "nests 101 levels");
  check_nesting("some.json", R"({"a\"":")" + many + R"(", "b": [[]]})");
  CHECK_NOTHROW(check_nesting("some.json", many.substr(36)));
  CHECK_ERROR(check_nesting("some.json", many.substr(35)), "at most 64");
}

TEST_CASE("safetensors: an undefined tensor is named, and nothing is written") {
  const TempFolder folder;
  const std::string path = folder / "a.safetensors";
  CHECK_ERROR(save_safetensors(path, {{"w", Tensor::ones({1})}, {"head.bias", Tensor()}}),
              "the tensor \"head.bias\" is undefined");
  CHECK_FALSE(fs::exists(path));
}

TEST_CASE("safetensors: names and texts are UTF-8") {
  const TempFolder folder;
  const std::string path = folder / "a.safetensors";
  CHECK_ERROR(save_safetensors(path, {{"\xff", Tensor::ones({1})}}), "is not UTF-8");
  CHECK_ERROR(save_safetensors(path, {{"w", Tensor::ones({1})}}, {{"note", "\xc3("}}), "is not UTF-8");
  CHECK_FALSE(fs::exists(path));
}

TEST_CASE("a file that is too large is not read") {
  const TempFolder folder;
  write_file(folder / "file", "12345");
  CHECK(read_file(folder / "file", 5) == "12345");
  CHECK_ERROR(read_file(folder / "file", 4), "file: it has more than 4 bytes");
}

TEST_CASE("a file is replaced whole or left as it was") {
  const TempFolder folder;
  const std::string path = folder / "file";
  write_file(path, "old");
  SUBCASE("replaced") {
    write_file(path, "new");
    CHECK(read_file(path) == "new");
  }
  SUBCASE("no room") {
    {
      const test::FileSizeLimit limit(4096);
      CHECK_ERROR(write_file(path, std::string(100'000, 'x')), "can't write");
    }
    CHECK(read_file(path) == "old");
  }
  SUBCASE("no such folder") {
    CHECK_ERROR(write_file(folder / "absent/file", "x"), "No such file");
    CHECK_ERROR(check_writable(folder / "absent/file"), "absent/file: No such file");
  }
  SUBCASE("the name of a folder") {
    CHECK_ERROR(write_file(folder.path(), "x"), "it is a folder");
    CHECK_ERROR(check_writable(folder.path()), "it is a folder");
  }
  SUBCASE("a look beforehand leaves the file as it is") {
    check_writable(path);
    check_writable(folder / "new");
    CHECK(read_file(path) == "old");
    CHECK(!fs::exists(folder / "new"));
  }
  SUBCASE("through a link") {
    fs::create_symlink(path, folder / "link");
    write_file(folder / "link", "new");
    CHECK(fs::is_symlink(folder / "link"));
    CHECK(read_file(path) == "new");
    fs::create_symlink("later", folder / "link to nothing");
    write_file(folder / "link to nothing", "made");
    CHECK(fs::is_symlink(folder / "link to nothing"));
    CHECK(read_file(folder / "later") == "made");
  }
  SUBCASE("what is no file stays what it is") {
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    CHECK_ERROR(write_file(folder / "pipe", "x"), "pipe: it is no file, but a device or a pipe");
    CHECK(fs::is_fifo(folder / "pipe"));
    CHECK_ERROR(check_writable("/dev/null"), "it is no file");
  }
  SUBCASE("by two threads at once") {
    const auto write = [&](const char* text) {
      for (int i = 0; i < 50; ++i) write_file(path, text);
    };
    std::exception_ptr failed;
    std::thread other([&] {
      try {
        write("one");
      } catch (...) {
        failed = std::current_exception();
      }
    });
    CHECK_NOTHROW(write("two"));
    other.join();
    CHECK(!failed);
    CHECK(read_file(path).size() == 3);
  }
  // Nothing is left beside it.
  for (const auto& entry : fs::directory_iterator(folder.path()))
    CHECK(entry.path().filename().string().find(".tmp") == std::string::npos);
}

TEST_CASE("what a killed writer left can be removed") {
  const TempFolder folder;
  const std::string path = folder / "file";
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  REQUIRE(::waitpid(gone, nullptr, 0) == gone);
  const std::string left = std::to_string(gone);
  const auto put = [&](const std::string& name, std::chrono::seconds age) {
    write_file(folder / name, "x");
    fs::last_write_time(folder / name, fs::file_time_type::clock::now() - age);
    return folder / name;
  };
  using std::chrono::hours;
  const std::vector<std::string> kept = {put("file.tmp" + std::to_string(::getppid()), hours(2)),
                                         put("file.tmp" + left + "x", hours(2)), put("file.tmp", hours(2)),
                                         put("other.tmp" + left, hours(2))};
  const std::string young = put("file.tmp0" + left, std::chrono::seconds(0));
  const std::string old = put("file.tmp" + left, hours(2)), older = put("file.tmp" + left + "-12", hours(2));
  remove_leftovers(path);
  CHECK_FALSE(fs::exists(old));
  CHECK_FALSE(fs::exists(older));
  CHECK(fs::exists(young));
  remove_leftovers(path, true);
  CHECK_FALSE(fs::exists(young));
  for (const std::string& name : kept) CHECK_MESSAGE(fs::exists(name), name);
  remove_leftovers(folder / "absent/file");
}

TEST_CASE("a file that may not be read") {
  const TempFolder folder;
  write_file(folder / "file", "x");
  fs::permissions(folder / "file", fs::perms::none);
  const bool root = ::geteuid() == 0;  // who may read everything
  if (root && ::seteuid(65534) != 0) return;
  const std::string message = error_of([&] { read_file(folder / "file"); });
  if (root) REQUIRE(::seteuid(0) == 0);
  CHECK(message == concat("can't read ", folder / "file",
                          ": Permission denied; give yourself the right to read it (chmod), or name another "
                          "file"));
}

TEST_CASE("read_file reads files and pipes, and refuses what has no end") {
  const TempFolder folder;
  CHECK_ERROR(read_file("/dev/zero"), "can't read /dev/zero: it is neither a file nor a pipe");
  const std::string pipe = folder / "pipe", content(200'000, 'p');
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  std::thread writer([&] {
    std::FILE* out = std::fopen(pipe.c_str(), "wb");
    std::fwrite(content.data(), 1, content.size(), out);
    std::fclose(out);
  });
  CHECK(read_file(pipe) == content);
  writer.join();
}
