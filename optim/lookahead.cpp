#include "weft/optim/lookahead.h"

#include "weft/optim/multi_tensor.h"

namespace weft::optim {
namespace {

struct Synchronise {
  double alpha;
  bool start;  // the slow weights start here

  template <class T>
  void operator()(const Chunk<T>& c) const {
    T* __restrict p = c.p, * __restrict slow = c.state[0];
    if (start) {
      for (int64_t i = 0; i < c.n; ++i) slow[i] = p[i];
      return;
    }
    const T alpha = T(this->alpha);
    for (int64_t i = 0; i < c.n; ++i) {
      slow[i] += alpha * (p[i] - slow[i]);
      p[i] = slow[i];
    }
  }
};

}  // namespace

Lookahead::Lookahead(std::unique_ptr<Optimizer> inner, const LookaheadOptions& options)
    : inner_(std::move(inner)) {
  check(inner_ != nullptr, "lookahead: the inner optimizer is null");
  check(dynamic_cast<Lookahead*>(inner_.get()) == nullptr, "lookahead: the inner optimizer (", inner_->name(),
        ") is a Lookahead itself");
  check(inner_->steps() == 0, "lookahead: the inner optimizer has made ", inner_->steps(),
        " steps already; wrap it before its first");
  steps_ = inner_->steps_;  // one counter for both
  adopt_groups(options);
}

void Lookahead::adopt_groups(const LookaheadOptions& options) {
  check(options.k >= 1, "lookahead: k is ", options.k, "; it must be 1 or more");
  check(options.alpha >= 0 && options.alpha <= 1, "lookahead: alpha is ", options.alpha,
        "; it must be in [0, 1]");
  for (size_t g = num_groups(); g < inner_->num_groups(); ++g) {
    append_group(inner_->parameters(g), {{"slow_buffer"}}, inner_->initial_lr(g));
    options_.push_back(options);
  }
}

void Lookahead::step() {
  adopt_groups(options_.empty() ? LookaheadOptions{}
                                : options_.back());  // groups added to the inner optimizer meanwhile
  inner_->check_gradients();
  using Work = MultiTensor::PerEntry<Synchronise>;
  for (size_t g = 0; g < groups_.size(); ++g) {
    Work start(groups_[g].entries.size());
    for (size_t i = 0; i < start.size(); ++i)
      if (const Entry& inner = inner_->groups_[g].entries[i];
          !options_[g].lazy && inner.param.tensor.grad().defined() && count(inner.updates) == 0)
        start[i] = Synchronise{0, true};
    MultiTensor::apply(groups_[g], start);
  }
  inner_->step();
  for (size_t g = 0; g < groups_.size(); ++g) {
    const LookaheadOptions& o = options_[g];
    Work work(groups_[g].entries.size());
    for (size_t i = 0; i < work.size(); ++i) {
      const Entry& inner = inner_->groups_[g].entries[i];
      const int64_t t = count(inner.updates);
      if (inner.param.tensor.grad().defined() && t % o.k == 0)
        work[i] = Synchronise{o.alpha, o.lazy && t == o.k};
    }
    MultiTensor::apply(groups_[g], work);
  }
}

StateDict Lookahead::state() const {
  StateDict dict = inner_->state();
  for (const Group& group : groups_)
    for (const Entry& entry : group.entries)
      dict.emplace_back(entry.param.name + "/slow_buffer", entry.state[0]);
  return dict;
}

}  // namespace weft::optim
