#include "weft/apps/weft/fetch.h"

#include <fmt/core.h>
#include <unistd.h>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/process.h"
#include "weft/apps/weft/sha256.h"
#include "weft/engine/error.h"

namespace weft::app {

namespace fs = std::filesystem;

const std::vector<KnownSet>& known_sets() {
  const auto set = [](const std::string& name, const char* sha256, const std::string& about) {
    return KnownSet{name, "https://s3.amazonaws.com/fast-ai-imageclas/" + name + ".tgz", sha256, about};
  };
  const std::string dogs =
      "ten breeds of dogs from ImageNet, 9,025 training and 3,929 validation images, short side ";
  const std::string things =
      "ten classes of ImageNet that are easily told apart, 9,469 training and 3,925 validation images, ";
  static const std::vector<KnownSet> sets = {
      set("imagewoof2-160", "663c22f69c2802d85e2a67103c017e047096702ffddf9149a14011b7002539bf",
          dogs + "160 pixels, about 96 MB"),
      set("imagewoof2-320", "4e4905ed7643120daaf9bf3b2ef7f3a7e8396d9bdaf254a38c6f01f618b4973d",
          dogs + "320 pixels"),
      set("imagenette2-160", "64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5",
          things + "short side 160 pixels, 99 MB"),
      set("imagenette2-320", "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c",
          things + "short side 320 pixels, 342 MB"),
      set("imagenette2", "6cbfac238434d89fe99e651496f0812ebc7a10fa62bd42d6874042bf01de4efd",
          things + "full size, 1.6 GB"),
  };
  return sets;
}

const KnownSet* find_known_set(const std::string& name) {
  for (const KnownSet& set : known_sets())
    if (set.name == name) return &set;
  return nullptr;
}

namespace {

std::string by_hand(const KnownSet& set, const fs::path& target) {
  return fmt::format(
      "with no network here, get {} elsewhere and put it at {}; `weft data fetch {}` then checks it", set.url,
      target.string(), set.name);
}

/// Whether the file is there and the right one.
bool whole(const KnownSet& set, const fs::path& file) {
  return fs::exists(file) && sha256_of_file(file.string()) == set.sha256;
}

/// Curl's exit code.
int run_curl(const KnownSet& set, const fs::path& part, const fs::path& target, bool quiet) {
  std::vector<std::string> curl = {"curl",          "--fail", "--location", "--retry",    "3",
                                   "--continue-at", "-",      "--output",   part.string()};
  if (quiet || !isatty(STDERR_FILENO))
    curl.insert(curl.end(), {"--silent", "--show-error"});
  else
    curl.push_back("--progress-bar");
  curl.push_back(set.url);
  try {
    return run_process(curl);
  } catch (const Error& e) {
    fail(e.what(), " (curl does the download); ", by_hand(set, target));
  }
}

void download(const KnownSet& set, const fs::path& part, const fs::path& target, bool quiet) {
  constexpr int kHttpError = 22, kRangeError = 33, kBadResume = 36;
  int code = run_curl(set, part, target, quiet);
  if ((code == kHttpError || code == kRangeError || code == kBadResume) && fs::exists(part)) {
    fs::remove(part);  // the server cannot go on from what is there: once more from the start
    code = run_curl(set, part, target, quiet);
  }
  check(code == 0, "curl could not download ", set.url, " (exit code ", code,
        "); try again, it goes on where it stopped; ", by_hand(set, target));
}

}  // namespace

fs::path fetch(const KnownSet& set, const fs::path& folder, bool quiet) {
  std::error_code error;
  fs::create_directories(folder, error);
  check(!error, "cannot make the folder ", folder.string(), ": ", error.message());
  const fs::path target = folder / set.file_name(), part = folder / (set.file_name() + ".part");
  if (fs::exists(target)) {
    if (whole(set, target)) return target;
    complain(
        fmt::format("{} is another file than the published one (its SHA-256 is not {}); fetching that one",
                    target.string(), set.sha256));
  }
  if (!whole(set, part)) {
    download(set, part, target, quiet);
    if (!whole(set, part)) {
      fs::remove(part, error);
      fail(set.url, " gave a file whose SHA-256 is not ", set.sha256, "; it was removed; ",
           by_hand(set, target));
    }
  }
  fs::rename(part, target, error);
  check(!error, "cannot rename ", part.string(), " to ", target.string(), ": ", error.message());
  return target;
}

}  // namespace weft::app
