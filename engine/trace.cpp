#include "weft/engine/trace.h"

#include <utility>

#include "weft/engine/tape.h"

namespace weft {

Trace* Trace::current() { return InForce<Trace>::current(); }

void Trace::keep(std::string_view op, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
                 std::any told) {
  ops_.push_back({std::string(op), ScopeName::path(), inputs, outputs, std::move(told)});
}

}  // namespace weft
