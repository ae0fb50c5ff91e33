// Mixing, which is the library's.
#pragma once

#include "weft/engine/data/mixing.h"

namespace weft::app {

using data::draw_mixup;
using data::mixup_weights;

}  // namespace weft::app
