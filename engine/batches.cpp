#include "weft/engine/batches.h"

namespace weft {

void Batches::feed() { fail("feed: these batches have no fixed buffers, so steps on them are not captured"); }

}  // namespace weft
