#include "weft/engine/trace.h"

#include <utility>

#include "weft/engine/tape.h"

namespace weft {

// Here, so that a program and a shared library have one variable for what is in force.
Trace::Trace() : in_force_(this) {}
Trace::~Trace() = default;

Trace* Trace::current() { return InForce<Trace>::current(); }

void Trace::keep(std::string_view op, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
                 std::any told) {
  ops_.push_back({std::string(op), ScopeName::path(), inputs, outputs, std::move(told)});
}

}  // namespace weft
