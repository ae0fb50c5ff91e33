#include "weft/apps/weft/augmentation.h"

#include <cstdlib>

#include "weft/apps/weft/command.h"
#include "weft/engine/data/mixing.h"
#include "weft/kernels/philox.h"

namespace weft::app {

namespace {
constexpr uint64_t kMixupStream = 0x6d697875;  // "mixu": apart from the other streams of the seed
}

data::ColorJitter parse_jitter(const std::string& text) {
  data::ColorJitter jitter;
  if (text.empty()) return jitter;
  double* const parts[] = {&jitter.brightness, &jitter.contrast, &jitter.saturation, &jitter.hue};
  const char* at = text.c_str();
  for (int i = 0; i < 4; ++i) {
    char* end = nullptr;
    *parts[i] = std::strtod(at, &end);
    if (end == at || *end != (i < 3 ? ',' : '\0'))
      usage_error("--jitter must be four numbers B,C,S,H for brightness, contrast, saturation and hue, got ",
                  text);
    at = end + 1;
  }
  try {
    data::check_options(jitter);
  } catch (const Error& e) {
    usage_error("--jitter ", text, ": ", e.what());
  }
  return jitter;
}

void set_augmentation(const TrainConfig& c, data::LoaderOptions& options) {
  options.min_scale = c.min_scale;
  options.pad = {.padding = int(c.pad),
                 .mode = c.pad_mode == "reflect" ? data::PaddingMode::reflect : data::PaddingMode::constant};
  options.flip = c.flip;
  options.jitter = parse_jitter(c.jitter);
  options.erasing.p = c.erase;
}

void set_mixing(const TrainConfig& c, int64_t steps_per_epoch, data::BatchOptions& options) {
  if (c.mixup <= 0 && c.cutmix <= 0) return;
  options.cutmix = c.cutmix > 0;
  options.mixup = [seed = c.seed, blend = c.mixup, cut = c.cutmix, side = int(c.size), steps_per_epoch](
                      int64_t epoch, int64_t batch, std::span<data::Mix> mix) {
    const auto w = kernels::philox(seed, uint64_t(epoch * steps_per_epoch + batch), kMixupStream);
    const uint64_t key = uint64_t(w[0]) << 32 | w[1];
    if (cut > 0 && (blend <= 0 || (w[2] & 1)))  // with both, a fair coin
      data::draw_cutmix(cut, side, key, mix);
    else
      data::draw_mixup(blend, key, mix);
  };
}

}  // namespace weft::app
