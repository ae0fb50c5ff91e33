#include "weft/engine/module.h"

#include <algorithm>
#include <unordered_set>

#include "weft/engine/backward_walk.h"
#include "weft/engine/checkpoint.h"
#include "weft/engine/tape.h"

namespace weft {

Module::Module(Module& parent, std::string_view name) : Module(&parent, name) {}

Module::Module(Module* parent, std::string_view name) {
  if (parent) parent->register_module(name, *this);
}

Module& Module::register_module(std::string_view name, Module& module) {
  check_name(name);
  check(!module.parent_ && &module != this, "module: \"", name, "\" has a parent already",
        module.name_.empty() ? "" : concat(", which calls it \"", module.name_, "\""),
        "; make it without one");
  children_.push_back({std::string(name), &module});
  module.name_ = name;
  module.parent_ = this;
  return module;
}

Module& Module::adopt(std::string_view name, std::unique_ptr<Module> module) {
  check(module != nullptr, "module: adopt(\"", name, "\"): there is no module, the pointer is null");
  Module& child = register_module(name, *module);
  adopted_.push_back(std::move(module));
  return child;
}

// A child may end before its parent: where the constructor of a layer throws, for one.
Module::~Module() {
  if (parent_) std::erase_if(parent_->children_, [&](const Child& c) { return c.module == this; });
  for (const Child& c : children_) c.module->parent_ = nullptr;
}

void Module::check_name(std::string_view name) const {
  check(!name.empty() && name.find('.') == std::string_view::npos, "module: \"", name,
        "\" can't be a name; it must not be empty or contain a dot");
  const auto taken = [&](const auto& e) { return e.name == name; };
  check(std::none_of(entries_.begin(), entries_.end(), taken) &&
            std::none_of(children_.begin(), children_.end(), taken),
        "module: the name \"", name, "\" is taken");
}

Tensor Module::forward(const Tensor&) {
  fail(description(), ": has no forward of one tensor; call the one that its class declares");
}

Tensor Module::operator()(const Tensor& x) {
  return call(x, [this](const Tensor& in) {
    if (recompute_ && training_)
      return checkpoint([this](const Tensor& again) { return forward(again); }, in);
    return forward(in);
  });
}

namespace {
/// y = x, with a backward that `pass` has a look at: gives the gradient to go on with, or undefined for the
/// same.
Tensor watched(const Tensor& x, std::function<Tensor(const Tensor& grad)> pass) {
  const Tensor y = x.detach();
  record("backward_hook", {x}, {y},
         [pass = std::move(pass)](BackwardContext& c) {
           c.walk().join();  // it may look at gradients
           const Tensor other = pass(c.grad_output());
           c.set(0, other.defined() ? other : c.grad_output());
         },
         {.double_backward = true, .looks_back = false});
  return y;
}
}  // namespace

Tensor Module::call_hooked(const Tensor& x, const std::function<Tensor(const Tensor&)>& compute) {
  Tensor in = x;
  hooks_->forward_pre.each([&](const ForwardPreHook& hook) {
    if (const Tensor other = hook(*this, in); other.defined()) in = other;
  });
  const bool watch = !hooks_->backward.empty() && Tape::current(), input_wanted = watch && recording({&in});
  const auto grad_output = std::make_shared<Tensor>();  // from the output's place in backward to the input's
  const auto run_backward = [this](Tensor grad_input, const Tensor& of_output) {
    hooks_->backward.each([&](const BackwardHook& hook) {
      if (const Tensor other = hook(*this, grad_input, of_output); other.defined()) grad_input = other;
    });
    return grad_input;
  };
  if (input_wanted)
    in = watched(in, [=](const Tensor& g) { return run_backward(g, std::exchange(*grad_output, {})); });
  Tensor y = compute(in);
  hooks_->forward.each([&](const ForwardHook& hook) {
    if (const Tensor other = hook(*this, in, y); other.defined()) y = other;
  });
  if (!watch || !recording({&y})) return y;
  return watched(y, [=](const Tensor& g) {
    if (input_wanted)
      *grad_output = g;
    else
      run_backward({}, g);
    return Tensor();
  });
}

Tensor Module::register_parameter(std::string_view name, Tensor value) {
  check_name(name);
  value.set_requires_grad();
  entries_.push_back({std::string(name), value, true});
  return value;
}

Tensor Module::register_buffer(std::string_view name, Tensor value) {
  check_name(name);
  entries_.push_back({std::string(name), value, false});
  return value;
}

void Module::collect(const std::string& prefix, bool parameters, bool buffers, StateDict& out) const {
  for (const Entry& e : entries_)
    if (e.trained ? parameters : buffers) out.emplace_back(prefix + e.name, e.tensor);
  for (const Child& c : children_) c.module->collect(prefix + c.name + ".", parameters, buffers, out);
}

namespace {
std::vector<Parameter> as_parameters(StateDict&& dict) {
  std::vector<Parameter> list;
  for (auto& [name, tensor] : dict) list.push_back({std::move(name), std::move(tensor)});
  return list;
}
}  // namespace

std::vector<Parameter> Module::parameters(std::string_view prefix) const {
  StateDict dict;
  collect(prefix.empty() ? "" : concat(prefix, "."), true, false, dict);
  std::unordered_set<const void*> seen;  // by memory, which a tensor without elements may lack
  std::erase_if(dict, [&](const auto& named) {
    return named.second.numel() > 0 && !seen.insert(named.second.raw()).second;
  });
  return as_parameters(std::move(dict));
}

std::vector<Parameter> Module::buffers() const {
  StateDict dict;
  collect("", false, true, dict);
  return as_parameters(std::move(dict));
}

StateDict Module::state_dict() const {
  StateDict dict;
  collect("", true, true, dict);
  return dict;
}

IncompatibleKeys Module::load_state_dict(const StateDict& dict, bool strict) {
  const StateDict own = state_dict();
  IncompatibleKeys keys;
  std::string problems;
  const auto complain = [&](const auto&... parts) {
    problems += concat(problems.empty() ? "" : "; ", parts...);
  };
  for (const auto& [name, tensor] : own) {
    const Tensor given = find(dict, name);
    if (!given.defined()) {
      keys.missing.push_back(name);
      if (strict) complain(name, " is missing");
    } else if (given.shape() != tensor.shape()) {
      complain(name, " has shape ", given.shape(), " but the model expects ", tensor.shape());
    }
  }
  for (const auto& [name, tensor] : dict) {
    if (find(own, name).defined()) continue;
    keys.unexpected.push_back(name);
    if (strict) complain(name, " is not in the model");
  }
  if (problems.size() > 600) problems = problems.substr(0, 600) + " ...";
  check(problems.empty(), "load_state_dict: ", problems, "; is it the file of another model?");
  for (const auto& [name, tensor] : own)
    if (const Tensor given = find(dict, name); given.defined()) tensor.copy_from(given);
  return keys;
}

void Module::train(bool on) {
  training_ = on;
  if (on) optimized_ = false;
  for (const Child& c : children_) c.module->train(on);
}

void Module::optimize_for_inference() {
  training_ = false;
  optimized_ = true;
  for (const Child& c : children_) c.module->optimize_for_inference();
}

void Module::zero_grad() {
  for (const Parameter& p : parameters()) p.tensor.zero_grad();
}

void Module::to(DType dtype) {
  for (const auto& [name, tensor] : state_dict()) {
    tensor.zero_grad();
    if (is_floating(tensor.dtype())) tensor.set_data(tensor.to(dtype));
  }
}

void Module::to(Device device) {
  for (const auto& [name, tensor] : state_dict()) {
    tensor.zero_grad();
    tensor.set_data(tensor.to(device));
  }
}

int64_t Module::num_parameters() const {
  int64_t n = 0;
  for (const Parameter& p : parameters()) n += p.tensor.numel();
  return n;
}

void Module::visit(const std::function<void(const std::string&, Module&)>& visit) {
  const auto walk = [&](const auto& self, const std::string& path, Module& module) -> void {
    visit(path, module);
    for (const Child& c : module.children_)
      self(self, path.empty() ? c.name : path + "." + c.name, *c.module);
  };
  walk(walk, "", *this);
}

}  // namespace weft
