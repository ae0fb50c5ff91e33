// Parts of the weft command that stand alone: digests, downloads, mixup, settings.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "support/command.h"
#include "support/temp_folder.h"
#include "weft/apps/weft/augmentation.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/config.h"
#include "weft/apps/weft/conv_tuning.h"
#include "weft/apps/weft/fetch.h"
#include "weft/apps/weft/losses.h"
#include "weft/apps/weft/memory.h"
#include "weft/apps/weft/model_file.h"
#include "weft/apps/weft/process.h"
#include "weft/apps/weft/progress.h"
#include "weft/apps/weft/sha256.h"
#include "weft/engine/data/image.h"
#include "weft/engine/data/mixing.h"
#include "weft/engine/file.h"
#include "weft/engine/ops/conv.h"
#include "weft/engine/safetensors.h"
#include "weft/kernels/convolution.h"

using namespace weft;
using namespace weft::app;
using test::TempFolder;
namespace fs = std::filesystem;

namespace {

std::string sha256(std::string_view message) {
  Sha256 sha;
  sha.update(message);
  return sha.hex_digest();
}

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("sha256 gives NIST's digests (FIPS 180-4 examples and the million letters)") {
  CHECK(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  const std::string million(1'000'000, 'a');
  const std::string expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
  CHECK(sha256(million) == expected);
  Sha256 in_pieces;
  for (size_t at = 0, piece = 1; at < million.size(); at += piece, piece = piece * 7 % 301 + 1)
    in_pieces.update(std::string_view(million).substr(at, piece));
  CHECK(in_pieces.hex_digest() == expected);
}

TEST_CASE("fetch checks what came, goes on from a part and keeps nothing wrong") {
  if (run_process({"sh", "-c", "command -v curl > /dev/null"}) != 0) {
    MESSAGE("curl is not installed: not tested");
    return;
  }
  const TempFolder folder;
  const std::string content(100'000, 'w'), source = folder / "source.tgz";
  write_file(source, content);
  const KnownSet set{"test-set", "file://" + source, sha256(content), "a test"};
  const fs::path out = folder / "out", target = out / "test-set.tgz", part = out / "test-set.tgz.part";

  SUBCASE("from nothing, and again") {
    CHECK(fetch(set, out, true) == target);
    CHECK(read_file(target.string()) == content);
    CHECK(!fs::exists(part));
    fs::remove(source);
    CHECK(fetch(set, out, true) == target);  // needs no download
  }
  SUBCASE("from a part") {
    fs::create_directories(out);
    write_file(part.string(), content.substr(0, 12'345));
    fetch(set, out, true);
    CHECK(read_file(target.string()) == content);
  }
  SUBCASE("a damaged target is fetched anew") {
    fs::create_directories(out);
    write_file(target.string(), "damaged");
    fetch(set, out, true);
    CHECK(read_file(target.string()) == content);
  }
  SUBCASE("another content is refused and removed") {
    KnownSet other = set;
    other.sha256 = sha256("something else");
    CHECK(error_of([&] { fetch(other, out, true); }).find("SHA-256") != std::string::npos);
    CHECK(!fs::exists(target));
    CHECK(!fs::exists(part));
  }
  SUBCASE("no source: says what to do by hand") {
    fs::remove(source);
    const std::string error = error_of([&] { fetch(set, out, true); });
    CHECK(error.find(target.string()) != std::string::npos);
    CHECK(error.find(set.url) != std::string::npos);
  }
}

TEST_CASE("run_process reports exit codes, signals and missing programs") {
  CHECK(run_process({"sh", "-c", "exit 3"}) == 3);
  CHECK(run_process({"sh", "-c", "kill -9 $$"}) == 128 + 9);
  CHECK_THROWS_AS(run_process({"there-is-no-such-program"}), Error);
}

TEST_CASE("available memory is the least that the kernel and the control groups leave") {
  TempFolder folder;
  const std::string root = folder / "root";
  const auto write = [&](const char* path, const char* text) {
    fs::create_directories(fs::path(root + path).parent_path());
    write_file(root + path, text);
  };
  CHECK(available_memory_bytes(root) == 0);
  write("/proc/meminfo", "MemTotal:  8000 kB\nMemFree:   100 kB\nMemAvailable:   4000 kB\nBuffers:  1 kB\n");
  CHECK(available_memory_bytes(root) == 4000 * 1024);
  write("/proc/self/cgroup", "12:cpu:/elsewhere\n0::/outer/inner\n");
  CHECK(available_memory_bytes(root) == 4000 * 1024);
  write("/sys/fs/cgroup/outer/inner/memory.max", "max\n");
  write("/sys/fs/cgroup/outer/inner/memory.current", "1000\n");
  CHECK(available_memory_bytes(root) == 4000 * 1024);
  write("/sys/fs/cgroup/outer/memory.max", "5000\n");
  write("/sys/fs/cgroup/outer/memory.current", "2000\n");
  CHECK(available_memory_bytes(root) == 3000);
  write("/sys/fs/cgroup/memory.max", "100\n");
  write("/sys/fs/cgroup/memory.current", "200\n");
  CHECK(available_memory_bytes(root) == 0);
}

TEST_CASE("mixup weights follow max(w, 1 - w) of a Beta distribution") {
  for (double alpha : {0.2, 1.0, 4.0}) {
    const int64_t n = 20'000;
    const std::vector<float> w = data::mixup_weights(alpha, n, 7);
    double sum_of_squares = 0;
    for (float v : w) {
      REQUIRE(v >= 0.5f);
      REQUIRE(v <= 1.0f);
      sum_of_squares += (double(v) - 0.5) * (double(v) - 0.5);
    }
    // The spread around 1/2 is not changed by the max: the variance of Beta(a, a), 1 / (4 (2a + 1)). Its
    // standard error is below 1 % at this n.
    CHECK(sum_of_squares / double(n) == doctest::Approx(1 / (4 * (2 * alpha + 1))).epsilon(0.05));
    CHECK(w == data::mixup_weights(alpha, n, 7));
    CHECK(w != data::mixup_weights(alpha, n, 8));
  }
}

TEST_CASE("mixup mixes images and labels with the same weights") {
  const int64_t n = 8, classes = 8;
  Tensor images = Tensor::empty({n, 2, 3, 3}), labels = Tensor::empty({n}, DType::i64);
  for (int64_t i = 0; i < n; ++i) {
    labels.data<int64_t>()[i] = i;
    for (int64_t p = 0; p < 18; ++p)
      images.data<float>()[i * 18 + p] = float(1 << i);  // an image tells who is in it
  }
  std::vector<data::Mix> mix(static_cast<size_t>(n));
  data::draw_mixup(0.4, 99, mix);
  const DeviceBatch mixed = data::mixup({images, labels}, mix, classes);
  for (int64_t i = 0; i < n; ++i) {
    double total = 0, pixel = 0;
    for (int64_t c = 0; c < classes; ++c) {
      const double t = double(mixed.targets.data<float>()[i * classes + c]);
      total += t, pixel += t * double(1 << c);
    }
    CHECK(total == doctest::Approx(1));
    CHECK(double(mixed.targets.data<float>()[i * classes + i]) >= 0.5);
    for (int64_t p = 0; p < 18; ++p)
      CHECK(double(mixed.x.data<float>()[i * 18 + p]) == doctest::Approx(pixel));
  }
}

TEST_CASE("a path is one word for a shell") {
  for (const char* plain : {"runs/20261123-182700", "./a_b+c=d.e:f@g%h,"}) CHECK(shell_word(plain) == plain);
  CHECK(shell_word("") == "''");
  CHECK(shell_word("./o/sp ace") == "'./o/sp ace'");
  CHECK(shell_word("it's $HOME") == "'it'\\''s $HOME'");
}

TEST_CASE("settings survive JSON, and bad files are named with the key") {
  TrainConfig config;
  config.lr = 0.1, config.model = "xresnet50", config.sa = true, config.seed = ~uint64_t{0},
  config.size = 192;
  TrainConfig back;
  from_json(to_json(config), "test", back);
  CHECK(back == config);
  CHECK(differing_flags(config, TrainConfig{}) ==
        std::vector<std::string>{"--lr", "--model", "--sa", "--seed", "--size"});

  const auto error = [](const nlohmann::json& json) {
    TrainConfig c;
    return error_of([&] { from_json(json, "some.json", c); });
  };
  CHECK(error({{"lr", "fast"}}).find("\"lr\"") != std::string::npos);
  CHECK(error({{"epochs", 1.5}}).find("\"epochs\"") != std::string::npos);
  CHECK(error({{"epochs", "6"}}) == "some.json: \"epochs\" is \"6\", expected a whole number");
  CHECK(error({{"epochs", 1e30}}).find("some.json: \"epochs\" is 1e+30") == 0);
  CHECK(error({{"epochs", ~uint64_t{0}}}).find("\"epochs\" is 18446744073709551615") != std::string::npos);
  CHECK(error({{"epochs", true}}).find("\"epochs\"") != std::string::npos);
  CHECK(error({{"seed", -1}}).find("\"seed\"") != std::string::npos);
  CHECK(error({{"lerning_rate", 1}}).find("lerning_rate") != std::string::npos);
  CHECK(error(nlohmann::json::array()).find("some.json") != std::string::npos);
}

TEST_CASE("mixing of a run: mixup, CutMix, or either by batch") {
  TrainConfig c;
  data::BatchOptions none;
  set_mixing(c, 10, none);
  CHECK_FALSE(none.mixup);
  const auto cut_batches = [&](double mixup, double cutmix) {
    c.mixup = mixup, c.cutmix = cutmix;
    data::BatchOptions options;
    set_mixing(c, 10, options);
    CHECK(options.cutmix == (cutmix > 0));
    int cut = 0;
    for (int64_t batch = 0; batch < 10; ++batch)
      for (int64_t epoch = 0; epoch < 20; ++epoch) {
        std::vector<data::Mix> mix(8), again(8);
        options.mixup(epoch, batch, mix);
        options.mixup(epoch, batch, again);
        bool any = false;
        for (size_t i = 0; i < mix.size(); ++i) {
          any |= mix[i].cut.height > 0;
          CHECK(mix[i].weight == again[i].weight);
        }
        cut += any;
      }
    return cut;
  };
  CHECK(cut_batches(0.4, 0) == 0);
  CHECK(cut_batches(0, 1) == 200);
  const int either = cut_batches(0.4, 1);
  CHECK(either > 70);
  CHECK(either < 130);
  data::LoaderOptions loader;
  c.jitter = "0.1,0.2,0.3,0.4", c.erase = 0.25, c.flip = false, c.min_scale = 0.5;
  set_augmentation(c, loader);
  CHECK(loader.jitter.saturation == 0.3);
  CHECK(loader.jitter.hue == 0.4);
  CHECK(loader.erasing.p == 0.25);
  CHECK_FALSE(loader.flip);
  CHECK(loader.min_scale == 0.5);
  CHECK(loader.pad.padding == 0);
  c.pad = 4, c.pad_mode = "reflect";
  set_augmentation(c, loader);
  CHECK(loader.pad.padding == 4);
  CHECK(loader.pad.mode == data::PaddingMode::reflect);
}

TEST_CASE("training losses by name: smoothed labels and mixed targets") {
  const Tensor logits = Tensor::from<float>({1, -2, 0.5, 0, 3, -1}, {2, 3}),
               labels = Tensor::from<int64_t>({2, 0}, {2}),
               hot = Tensor::from<float>({0, 0, 1, 1, 0, 0}, {2, 3});
  for (const std::string& name : loss_names()) {
    CAPTURE(name);
    TrainConfig c;
    c.loss = name, c.label_smoothing = 0.1;
    const auto loss = training_loss(c);
    CHECK(loss(logits, labels).item() == doctest::Approx(loss(logits, hot).item()).epsilon(1e-6));
  }
  TrainConfig focal;
  focal.loss = "focal", focal.focal_gamma = 0;
  CHECK(training_loss(focal)(logits, labels).item() ==
        doctest::Approx(training_loss(TrainConfig{})(logits, labels).item()).epsilon(1e-6));
  TrainConfig bce;
  bce.loss = "bce";
  double wanted = 0;
  for (int i = 0; i < 6; ++i) {
    const double x = double(logits.data<float>()[i]), t = 0.9 * double(hot.data<float>()[i]) + 0.1 / 3;
    wanted += std::log1p(std::exp(x)) - t * x;
  }
  CHECK(training_loss(bce)(logits, labels).item() == doctest::Approx(wanted / 6).epsilon(1e-6));
}

TEST_CASE("validate refuses what no run can have, by flag") {
  const auto error = [](auto change) {
    TrainConfig c;
    c.activation = "mish";
    change(c);
    std::string message;
    try {
      validate(c);
    } catch (const UsageError& e) {
      message = e.what();
    }
    return message;
  };
  CHECK(error([](TrainConfig&) {}) == "");
  CHECK(error([](TrainConfig& c) { c.lr = 0; }).find("--lr") == 0);
  CHECK(error([](TrainConfig& c) { c.lr = std::nan(""); }).find("--lr") == 0);
  CHECK(error([](TrainConfig& c) { c.epochs = 0; }).find("--epochs") == 0);
  CHECK(error([](TrainConfig& c) { c.batch_size = 0; }).find("--batch-size") == 0);
  CHECK(error([](TrainConfig& c) { c.mom = 1; }).find("--mom") == 0);
  CHECK(error([](TrainConfig& c) { c.min_scale = 0; }).find("--min-scale") == 0);
  CHECK(error([](TrainConfig& c) { c.label_smoothing = 1; }).find("--label-smoothing") == 0);
  CHECK(error([](TrainConfig& c) { c.loss = "hinge"; }).find("--loss") == 0);
  CHECK(error([](TrainConfig& c) { c.focal_gamma = -1; }).find("--focal-gamma") == 0);
  CHECK(error([](TrainConfig& c) { c.cutmix = -1; }).find("--cutmix") == 0);
  CHECK(error([](TrainConfig& c) { c.erase = 1.5; }).find("--erase") == 0);
  CHECK(error([](TrainConfig& c) { c.pad = -1; }).find("--pad ") == 0);
  CHECK(error([](TrainConfig& c) { c.pad = c.size; }) == "");
  CHECK(error([](TrainConfig& c) { c.pad = c.size, c.pad_mode = "reflect"; }).find("--pad ") == 0);
  CHECK(error([](TrainConfig& c) { c.pad_mode = "zeros"; }).find("--pad-mode") == 0);
  for (const char* jitter :
       {"1", "1,1,1", "1,1,1,0.1,1", "1,1,1,0.6", "-1,0,0,0", "a,b,c,d", "1,1,1,", "nan,0,0,0"})
    CHECK(error([=](TrainConfig& c) { c.jitter = jitter; }).find("--jitter") == 0);
  CHECK(error([](TrainConfig& c) { c.jitter = "0.4,0.4,0.4,0.1"; }) == "");
  CHECK(error([](TrainConfig& c) { c.valid_resize = 64; }).find("--valid-resize") == 0);
  CHECK(error([](TrainConfig& c) { c.noisy_labels = "table.csv"; }).find("--noisy-labels") == 0);
  CHECK(error([](TrainConfig& c) { c.device = "gpu"; }).find("--device") == 0);
  CHECK(error([](TrainConfig& c) { c.precision = "fp8"; }).find("--precision") == 0);
  CHECK(error([](TrainConfig& c) { c.optimizer = "rangr"; }).find("ranger") != std::string::npos);
}

TEST_CASE("convolution tuning: kept in a file, read again, a damaged file is measured anew") {
  const TempFolder folder;
  const fs::path file = folder / "below/conv2d.json";
  const auto convolve = [](int64_t channels) {
    conv2d(Tensor::ones({1, 6, 6, channels}), Tensor::ones({8, 3, 3, channels}), {}, {.padding = 1});
  };
  const auto listed = [&] { return nlohmann::json::parse(read_file(file.string())); };
  const bool simd = std::string(kernels::cpu().name) != "reference";  // the plain loops have one algorithm
  {
    const ConvTuning tuning(file);
    CHECK(conv_tuning());
    convolve(3);
  }
  CHECK_FALSE(conv_tuning());
  if (!simd) return;
  const size_t known = listed().size();
  CHECK(known >= 1);
  CHECK(listed()[0]["kernels"].is_null());
  CHECK(listed().back()["in_c"] == 3);
  const std::string before = read_file(file.string());
  {
    const ConvTuning tuning(file);
    convolve(3);  // known
  }
  CHECK(read_file(file.string()) == before);
  {
    const ConvTuning tuning(file);
    convolve(5);
  }
  CHECK(listed().size() == known + 1);
  write_file(file.string(), "{]");
  {
    const ConvTuning tuning(file);
    convolve(7);
  }
  CHECK(listed().size() == known + 2);
  nlohmann::json edited = listed();
  edited[0]["in_h"] = 60.9;  // no size
  write_file(file.string(), edited.dump());
  {
    const ConvTuning tuning(file);
    convolve(9);
  }
  CHECK(listed().size() == known + 3);
  for (const nlohmann::json& choice : listed()) CHECK(choice["in_h"] == 6);
}

TEST_CASE("a model file whose description or weights were edited is refused by name") {
  const TempFolder folder;
  const std::string file = folder / "model.safetensors";
  ModelInfo good;
  good.model = "mlp", good.activation = "relu", good.size = 16, good.classes = {"a", "b"};
  const auto model = build_model(good);
  const auto error = [&](const std::function<void(nlohmann::json&)>& edit) {
    save_model(file, *model, good);
    std::map<std::string, std::string> metadata;
    const StateDict weights = load_safetensors(file, &metadata);
    nlohmann::json info = nlohmann::json::parse(metadata["info"]);
    edit(info);
    metadata["info"] = info.dump();
    save_safetensors(file, weights, metadata);
    std::string message;
    try {
      load_model(file);
    } catch (const UsageError&) {
      message = "an error of usage";
    } catch (const Error& e) {
      message = e.what();
    }
    return message.substr(message.rfind(file, 0) == 0 ? file.size() : 0);
  };
  const auto with = [&](const char* key, const nlohmann::json& value) {
    return error([&](nlohmann::json& info) { info[key] = value; });
  };
  CHECK(error([](nlohmann::json&) {}) == "");
  for (const int64_t size :
       {int64_t{-8}, int64_t{0}, int64_t{4097}, int64_t{1} << 40, (int64_t{1} << 32) + 16})
    CHECK(with("size", size).find(": damaged (its description makes no model: its size is ") == 0);
  for (const int64_t resize : {int64_t{-1}, int64_t{15}, int64_t{8193}, (int64_t{1} << 32) + 16})
    CHECK(with("valid_resize", resize).find("its valid_resize is ") != std::string::npos);
  CHECK(with("size", 16.9).find(": damaged (its description makes no model: its size is 16.9, expected") ==
        0);
  CHECK(with("size", 1e30).find("its size is 1e+30") != std::string::npos);
  CHECK(with("valid_resize", 128.9).find("its valid_resize is 128.9") != std::string::npos);
  CHECK(with("std", {0, 1, 1}).find("mean and std of colour 0 are 0.485 and 0") != std::string::npos);
  CHECK(with("std", {1, 1, -1}).find("of colour 2") != std::string::npos);
  CHECK(with("mean", {1, 1e300, 1}).find("of colour 1") != std::string::npos);
  CHECK(with("mean", {1, 1}).find("cannot be read") != std::string::npos);
  CHECK(with("classes", nlohmann::json::array()).find("names no classes") != std::string::npos);
  CHECK(with("classes", {"a", "a"}).find("names a class twice") != std::string::npos);
  CHECK(with("model", "nope").find("no model \"nope\"") != std::string::npos);
  CHECK(with("activation", "nope").find(": damaged") == 0);
  // Little, that promises much.
  CHECK(with("size", 4096).find(": damaged (it has ") == 0);
  std::vector<std::string> many;
  for (int i = 0; i < 1'000'000; ++i) many.push_back(std::to_string(i));
  CHECK(with("classes", many).find("fewer than its 1000000 classes") != std::string::npos);
  CHECK(with("sa", true).find("no place for self-attention") != std::string::npos);

  // A result that is not finite all the same, of a pixel divided by almost nothing.
  const std::string set = folder / "set", image = set + "/val/a/1.png";
  const std::vector<uint8_t> png = data::encode_png(data::Image(16, 16));
  for (const char* name : {"train/a", "val/a"}) {
    fs::create_directories(fs::path(set) / name);
    write_file(set + "/" + name + "/1.png", {reinterpret_cast<const char*>(png.data()), png.size()});
  }
  CHECK(with("std", {1e-39, 1, 1}) == "");
  test::check_error(test::weft_run({"predict", "--model", file, image}), 1, {image, "is not finite"});
  test::check_error(test::weft_run({"eval", "--model", file, "--data", set, "--json"}), 1, {file, "loss is"});

  // The file is not to blame where no threads can be had.
  CHECK(error([](nlohmann::json&) {}) == "");
  const test::Result threads =
      test::weft_limited("export WEFT_THREADS=abc", {"predict", "--model", file, image});
  test::check_error(threads, 1, {"weft: WEFT_THREADS: 'abc'"});

  const StateDict weights = model->state_dict();
  weights.front().second.data<float>()[0] = std::nanf("");
  CHECK(error([](nlohmann::json&) {}) == ": damaged (a weight is not finite)");
}

TEST_CASE("text that is not UTF-8 is written with a sign in its place") {
  const TempFolder folder;
  const std::string file = folder / "model.safetensors";
  ModelInfo info;
  info.model = "mlp", info.activation = "relu", info.size = 16, info.classes = {"a\xff", "b"};
  save_model(file, *build_model(info), info);
  CHECK(load_model(file).info.classes[0] == "a\xef\xbf\xbd");
  CHECK_NOTHROW(Progress(Output::json).event({{"data", "\xff"}}));
}

TEST_CASE("--exact and --tune exclude each other") {
  TrainConfig config;
  config.activation = "mish";
  config.exact = config.tune = true;
  CHECK_THROWS_WITH_AS(validate(config), doctest::Contains("--exact"), UsageError);
}
