#include "weft/optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include "weft/optim/multi_tensor.h"

namespace weft::optim {
namespace {

constexpr int64_t kMostSteps = int64_t{1} << 53;  // of a state; what a run comes to leaves room for more

std::string describe(const Tensor& t) {
  const std::string text = concat(t.dtype(), " ", t.shape());
  return t.device() == Device::cpu ? text : concat(text, " on ", t.device());
}

/// "a, b, c and 4 more", for messages.
std::string list(const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  std::string text;
  for (size_t i = 0; i < names.size() && i < kShown; ++i) text += (i ? ", '" : "'") + names[i] + "'";
  if (names.size() > kShown) text += concat(" and ", names.size() - kShown, " more");
  return text;
}

}  // namespace

void Optimizer::zero_grad() {
  for (const Group& group : groups_)
    for (const Entry& entry : group.entries) entry.param.tensor.zero_grad();
}

std::vector<Parameter> Optimizer::parameters() const {
  std::vector<Parameter> all;
  for (const Group& group : groups_)
    for (const Entry& entry : group.entries) all.push_back(entry.param);
  return all;
}

std::vector<Parameter> Optimizer::parameters(size_t group) const {
  std::vector<Parameter> own;
  for (const Entry& entry : at(group).entries) own.push_back(entry.param);
  return own;
}

std::vector<bool> Optimizer::trained() const {
  std::vector<bool> of;
  for (const Group& group : groups_)
    for (const Entry& entry : group.entries) of.push_back(entry.param.tensor.requires_grad());
  return of;
}

const Optimizer::Group& Optimizer::at(size_t group) const {
  check(group < groups_.size(), name(), ": there is no parameter group ", group, "; there are ",
        groups_.size());
  return groups_[group];
}

void Optimizer::check_lr(double lr) const {
  check(std::isfinite(lr) && lr >= 0, name(), ": lr is ", lr, "; it must be a finite number, 0 or more");
}

void Optimizer::set_initial_lr(size_t group, double lr) {
  set_lr(group, lr);
  groups_.at(group).initial_lr = lr;
}

void Optimizer::append_group(const std::vector<Parameter>& parameters, std::vector<Slot> slots,
                             double initial_lr) {
  std::vector<Parameter> all = this->parameters();
  std::unordered_set<std::string> names;
  std::unordered_set<const void*> tensors;  // identity: the memory, which an empty tensor may lack
  for (const Parameter& p : all) {
    names.insert(p.name);
    tensors.insert(p.tensor.raw());
  }
  Group group;
  for (const Parameter& p : parameters) {
    check(p.tensor.defined(), name(), ": parameter '", p.name, "' is undefined");
    check(p.tensor.dtype() == DType::f32 || p.tensor.dtype() == DType::f64, name(), ": parameter '", p.name,
          "' is ", describe(p.tensor), "; only f32 and f64 can be trained");
    check(names.insert(p.name).second, name(), ": two parameters are named '", p.name,
          "'; parameters(\"PART\") of a part of a network gives its names a beginning of their own");
    check(p.tensor.numel() == 0 || tensors.insert(p.tensor.raw()).second, name(), ": parameter '", p.name,
          "' is in the optimizer already, under another name");
    if (all.empty() && group.entries.empty()) device_ = p.tensor.device();
    check(p.tensor.device() == device_, name(), ": parameter '", p.name, "' is on ", p.tensor.device(),
          " but others are on ", device_, "; all parameters of an optimizer must be on one device");
    check(device_ == Device::cpu || p.tensor.dtype() == DType::f32, name(), ": parameter '", p.name, "' is ",
          describe(p.tensor), "; only f32 can be trained there");
    Entry entry{p, p.tensor.shape(), p.tensor.dtype(), Tensor::zeros({}, DType::i64), {}};
    for (const Slot& slot : slots)
      entry.state.push_back(slot.scalar ? Tensor::zeros({}, DType::f64, device_)
                                        : Tensor::zeros(entry.shape, entry.dtype, device_));
    cut(group.entries.size(), p.tensor.numel(), group.chunks);
    group.entries.push_back(std::move(entry));
  }
  group.slots = std::move(slots);
  if (device_ == Device::cuda) group.gpu_memory = MultiTensor::gpu_memory(group);
  group.initial_lr = initial_lr;
  groups_.push_back(std::move(group));
  if (group_added_) group_added_();
}

void Optimizer::check_gradients() const {
  check(std::any_of(groups_.begin(), groups_.end(), [](const Group& g) { return !g.entries.empty(); }),
        name(),
        ": there are no parameters; does the module register_parameter() its tensors, and are its layers "
        "constructed with it as their parent?");
  for (const Group& group : groups_)
    for (const Entry& entry : group.entries) {
      const Tensor &p = entry.param.tensor, &g = p.grad();
      check(p.shape() == entry.shape && p.dtype() == entry.dtype && p.device() == device_, name(),
            ": parameter '", entry.param.name, "' is ", describe(p), " now but was ", entry.dtype, " ",
            entry.shape, device_ == Device::cpu ? "" : " on cuda",
            " when it was added; make the optimizer after converting the module");
      if (!g.defined()) continue;
      const bool narrow = device_ == Device::cuda && is_half(g.dtype());  // see BackwardOptions::narrow
      check(g.shape() == p.shape() && (g.dtype() == p.dtype() || narrow) && g.device() == p.device(), name(),
            ": parameter '", entry.param.name, "' is ", describe(p), " but its gradient is ", describe(g));
    }
}

void Optimizer::uncount(int64_t steps, const std::vector<bool>& of) {
  *steps_.data<int64_t>() -= std::min(steps, count(steps_));
  size_t place = 0;
  for (const Group& group : groups_)
    for (const Entry& entry : group.entries) {
      if (place < of.size() && of[place])
        *entry.updates.data<int64_t>() -= std::min(steps, count(entry.updates));
      ++place;
    }
}

StateDict Optimizer::state_dict() const {
  StateDict dict{{"step", steps_}};
  for (const Group& group : groups_)
    for (const Entry& entry : group.entries) {
      dict.emplace_back(entry.param.name + "/step", entry.updates);
      for (size_t s = 0; s < group.slots.size(); ++s)
        dict.emplace_back(entry.param.name + "/" + group.slots[s].name, entry.state[s]);
    }
  return dict;
}

void Optimizer::load_state_dict(const StateDict& dict) {
  std::unordered_map<std::string, const Tensor*> given;
  for (const auto& [key, tensor] : dict) {
    check(tensor.defined(), name(), ": '", key, "' of the loaded state is undefined");
    check(given.emplace(key, &tensor).second, name(), ": '", key, "' is in the loaded state twice");
  }
  const StateDict own = state_dict();
  std::vector<std::string> missing, left_over;
  std::unordered_set<std::string> known;
  for (const auto& [key, tensor] : own) {
    known.insert(key);
    const auto found = given.find(key);
    if (found == given.end()) {
      missing.push_back(key);
      continue;
    }
    const Tensor& t = *found->second;
    check(t.shape() == tensor.shape() && t.dtype() == tensor.dtype(), name(), ": '", key,
          "' of the loaded state is ", describe(t), " but ", describe(tensor), " is expected");
    if (t.dtype() != DType::i64) continue;
    const int64_t steps = count(t.to(Device::cpu));
    check(steps >= 0 && steps <= kMostSteps, name(), ": '", key, "' of the loaded state is ", steps,
          ", and no number of steps");
  }
  for (const auto& [key, tensor] : dict)
    if (!known.count(key)) left_over.push_back(key);
  check(missing.empty(), name(), ": the loaded state lacks ", list(missing),
        "; is it of another optimizer, or of another network?");
  check(left_over.empty(), name(), ": the loaded state has ", list(left_over),
        " which this optimizer does not know; is it of another optimizer, or of another network?");
  for (const auto& [key, tensor] : own) tensor.copy_from(*given.at(key));
}

}  // namespace weft::optim
