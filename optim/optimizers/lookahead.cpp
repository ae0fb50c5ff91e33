#include "weft/optim/optimizers/lookahead.h"

#include "weft/optim/multi_tensor.h"

namespace weft::optim {

Lookahead::Lookahead(std::unique_ptr<Optimizer> inner, const LookaheadOptions& options)
    : inner_(std::move(inner)) {
  check(inner_ != nullptr, "lookahead: the inner optimizer is null");
  check(dynamic_cast<Lookahead*>(inner_.get()) == nullptr, "lookahead: the inner optimizer (", inner_->name(),
        ") is a Lookahead itself");
  check(inner_->steps() == 0, "lookahead: the inner optimizer has made ", inner_->steps(),
        " steps already; wrap it before its first");
  steps_ = inner_->steps_;  // one counter for both
  inner_->before_update_ = [this](size_t group, size_t entry) { start(group, entry); };
  inner_->group_added_ = [this, options] { adopt_groups(options_.empty() ? options : options_.back()); };
  check_options(options);
  adopt_groups(options);
}

void Lookahead::check_options(const LookaheadOptions& options) {
  check(options.k >= 1, "lookahead: k is ", options.k, "; it must be 1 or more");
  check(options.alpha >= 0 && options.alpha <= 1, "lookahead: alpha is ", options.alpha,
        "; it must be in [0, 1]");
}

void Lookahead::adopt_groups(const LookaheadOptions& options) {
  for (size_t g = num_groups(); g < inner_->num_groups(); ++g) {
    append_group(inner_->parameters(g), {{"slow_buffer"}}, inner_->initial_lr(g));
    options_.push_back(options);
  }
}

void Lookahead::step() {
  inner_->step();
  for (size_t g = 0; g < groups_.size(); ++g)
    MultiTensor::run(
        *this, g, [] {},
        [this, g](size_t i, auto type) {
          using Update = updates::lookahead<decltype(type)>;
          const LookaheadOptions& o = options_[g];
          const int64_t t = count(inner_->groups_[g].entries[i].updates);
          std::optional<Update> work;
          if (t % o.k == 0) work = Update{.start = o.lazy && t == o.k, .alpha = decltype(type)(o.alpha)};
          return work;
        });
}

void Lookahead::start(size_t group, size_t entry) {
  if (!options_[group].lazy && count(inner_->groups_[group].entries[entry].updates) == 0)
    groups_[group].entries[entry].state[0].copy_from(inner_->groups_[group].entries[entry].param.tensor);
}

StateDict Lookahead::state_dict() const {
  StateDict dict = inner_->state_dict();
  for (const Group& group : groups_)
    for (const Entry& entry : group.entries)
      dict.emplace_back(entry.param.name + "/slow_buffer", entry.state[0]);
  return dict;
}

}  // namespace weft::optim
