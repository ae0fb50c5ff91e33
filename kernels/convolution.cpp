#include "weft/kernels/convolution.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <string>

#include "weft/kernels/error.h"

namespace weft {
namespace {

constexpr std::array<const char*, 5> kNames = {"automatic", "direct", "winograd2", "winograd3", "winograd4"};

ConvAlgorithm from_environment() {
  const char* text = std::getenv("WEFT_CONV");
  if (!text || !*text) return ConvAlgorithm::automatic;
  if (const auto algorithm = parse_conv_algorithm(text)) return *algorithm;
  throw Error(std::string("WEFT_CONV: '") + text + "' is unknown; choose one of " + joined(kNames));
}

std::atomic<ConvAlgorithm>& forced() {
  static std::atomic<ConvAlgorithm> algorithm{from_environment()};
  return algorithm;
}

std::atomic<bool> tuning{false};

struct Choices {
  std::mutex mutex;
  std::vector<ConvChoice> list;
  std::atomic<bool> any{false};

  ConvChoice* find(std::string_view kernels, const kernels::Conv2dParams& p, kernels::ConvPass pass) {
    for (ConvChoice& c : list)
      if (c.kernels == kernels && c.pass == pass && c.params == p) return &c;
    return nullptr;
  }
};
Choices& choices() {
  static Choices c;
  return c;
}

}  // namespace

const char* conv_algorithm_name(ConvAlgorithm algorithm) { return kNames[size_t(algorithm)]; }

std::optional<ConvAlgorithm> parse_conv_algorithm(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i)
    if (name == kNames[i]) return ConvAlgorithm(i);
  return std::nullopt;
}

ConvAlgorithm conv_algorithm() { return forced(); }
void set_conv_algorithm(ConvAlgorithm algorithm) { forced() = algorithm; }
void set_conv_tuning(bool on) { tuning = on; }
bool conv_tuning() { return tuning; }

std::vector<ConvChoice> conv_choices() {
  const std::lock_guard lock(choices().mutex);
  return choices().list;
}

void add_conv_choices(const std::vector<ConvChoice>& added) {
  const std::lock_guard lock(choices().mutex);
  for (ConvChoice c : added) {
    const char* known = nullptr;
    for (const kernels::KernelTable<float>* table : kernels::all_cpu_tables())
      if (c.kernels == table->name) known = table->name;
    if (!known) continue;
    c.kernels = known;
    if (ConvChoice* old = choices().find(c.kernels, c.params, c.pass))
      *old = c;
    else
      choices().list.push_back(c);
    choices().any = true;
  }
}

namespace kernels {

bool find_conv_algorithm(const char* kernels, const Conv2dParams& p, ConvPass pass,
                         ConvAlgorithm* algorithm) {
  *algorithm = conv_algorithm();
  if (*algorithm != ConvAlgorithm::automatic) return true;
  Choices& c = choices();
  if (c.any) {
    const std::lock_guard lock(c.mutex);
    if (const ConvChoice* choice = c.find(kernels, p, pass)) return *algorithm = choice->algorithm, true;
  }
  return !conv_tuning();
}

void tell_conv_algorithm(const char* kernels, const Conv2dParams& p, ConvPass pass, ConvAlgorithm algorithm) {
  add_conv_choices({{kernels, p, pass, algorithm}});
}

int fastest_of(int count, void (*call)(void* object, int i), void* object) {
  using Clock = std::chrono::steady_clock;
  int fastest = 0;
  Clock::duration shortest = Clock::duration::max();
  for (int round = 0; round < 3; ++round)
    for (int i = 0; i < count; ++i) {
      const auto start = Clock::now();
      call(object, i);
      if (const auto time = Clock::now() - start; time < shortest) shortest = time, fastest = i;
    }
  return fastest;
}

}  // namespace kernels
}  // namespace weft
