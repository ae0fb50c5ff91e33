#include "weft/optim/training/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "weft/engine/file.h"
#include "weft/engine/finite.h"
#include "weft/engine/safetensors.h"
#include "weft/engine/whole_number.h"

namespace weft::training {

using nlohmann::json;

namespace {

constexpr const char* kFormat = "weft checkpoint 1";
const std::string kModel = "model.", kOptimizer = "optimizer.", kScaling = "scaling.";

/// JSON has no infinity and no NaN; both become null and come back as NaN.
double number(const json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

// The one list of what is saved of a TrainingState, for both directions.
template <class State, class Visit>
void visit_state(State& s, Visit&& visit) {
  visit("epoch", s.epoch), visit("batch", s.batch), visit("step", s.step);
  visit("random_seed", s.random_seed), visit("random_count", s.random_count);
  visit("loss_sum", s.loss_sum), visit("images", s.samples), visit("correct", s.correct);
  visit("seconds", s.seconds), visit("lr", s.lr), visit("skipped", s.skipped);
  visit("total_seconds", s.total_seconds), visit("total_train_seconds", s.total_train_seconds);
  visit("total_images", s.total_samples);
}

/// A row of the history: the metrics stand between the validation loss and the rest.
json to_json(const EpochResult& r) {
  json row = {r.epoch, r.train_loss, r.valid_loss};
  for (double metric : r.metrics) row.push_back(metric);
  for (double value : {r.lr, r.seconds, r.samples_per_second}) row.push_back(value);
  return row;
}

EpochResult result_from(const json& row) {
  constexpr size_t kBefore = 3, kBehind = 3;
  check(row.size() >= kBefore + kBehind, "a row of the history is too short");
  const size_t metrics = row.size() - kBehind;
  EpochResult r{.epoch = whole_number<int64_t>(row.at(0), "epoch"),
                .train_loss = number(row.at(1)),
                .valid_loss = number(row.at(2)),
                .lr = number(row.at(metrics)),
                .seconds = number(row.at(metrics + 1)),
                .samples_per_second = number(row.at(metrics + 2))};
  for (size_t i = kBefore; i < metrics; ++i) r.metrics.push_back(number(row.at(i)));
  return r;
}

json to_json(const TrainingState& state) {
  json out;
  visit_state(state, [&](const char* key, const auto& value) { out[key] = value; });
  out["metrics"] = json::array();
  for (const EpochResult& r : state.history) out["metrics"].push_back(to_json(r));
  return out;
}

TrainingState state_from(const json& in) {
  TrainingState state;
  visit_state(state, [&](const char* key, auto& value) {
    using T = std::remove_reference_t<decltype(value)>;
    if constexpr (std::is_same_v<T, double>) {
      value = number(in.at(key));
      check(std::isfinite(value), key, " is not finite");
    } else {
      // Counts that no run comes to would overflow where more is added. The random state is any number.
      value = whole_number<T>(in.at(key), key, 0,
                              std::is_signed_v<T> ? T(1) << 53 : std::numeric_limits<T>::max());
    }
  });
  for (double seconds : {state.seconds, state.total_seconds, state.total_train_seconds})
    check(seconds >= 0, "a time is negative");
  for (const json& row : in.at("metrics")) {
    state.history.push_back(result_from(row));
    const EpochResult& r = state.history.back();
    check(std::isfinite(r.seconds) && r.seconds >= 0, "a time of the history is negative or not finite");
    check(r.epoch == int64_t(state.history.size()), "the history lacks an epoch");
  }
  check(state.epoch == int64_t(state.history.size()) + 1, "the history lacks an epoch");
  check(state.correct <= state.samples, "more is correct than there were samples");
  return state;
}

StateDict with_prefix(const std::string& prefix, StateDict dict) {
  for (auto& [name, tensor] : dict) name = prefix + name;
  return dict;
}

StateDict part(const StateDict& all, const std::string& prefix) {
  StateDict out;
  for (const auto& [name, tensor] : all)
    if (name.rfind(prefix, 0) == 0) out.emplace_back(name.substr(prefix.size()), tensor);
  return out;
}

/// Throws where a weight or a buffer that was saved is not finite. A buffer of `own`, the module's state,
/// may hold infinities by its nature, as a mask does; then so may the saved one.
void check_saved_finite(const std::string& path, const StateDict& saved, const StateDict& own) {
  for (const auto& [name, tensor] : saved) {
    if (all_finite(tensor)) continue;
    const bool usual = std::any_of(own.begin(), own.end(), [&, &name = name](const auto& entry) {
      return entry.first == name && !all_finite(entry.second);
    });
    check(usual, path, ": the checkpoint is damaged (", name, " is not finite)");
  }
}

}  // namespace

void save_checkpoint(const std::string& path, const Module& module, const optim::Optimizer& optimizer,
                     const StateDict& scaling, const TrainingState& state, const Metadata& metadata) {
  StateDict all = with_prefix(kModel, module.state_dict());
  for (auto& entry : with_prefix(kOptimizer, optimizer.state_dict())) all.push_back(std::move(entry));
  for (auto& entry : with_prefix(kScaling, scaling)) all.push_back(std::move(entry));
  Metadata texts = metadata;
  texts["format"] = kFormat;
  json all_of_state = to_json(state);
  all_of_state["optimizer"] = optimizer.name();
  texts["state"] = all_of_state.dump();
  save_safetensors(path, all, texts);
}

TrainingState load_checkpoint(const std::string& path, Module& module, optim::Optimizer& optimizer,
                              TrainStep& step, int64_t batches,
                              const std::function<void(const Metadata&)>& fits) {
  Metadata metadata;
  const StateDict all = load_safetensors(path, &metadata);
  check(metadata["format"] == kFormat, path, ": not a checkpoint of training (its format is \"",
        metadata["format"], "\", expected \"", kFormat, "\")");
  if (fits) fits(metadata);
  TrainingState state;
  std::string optimizer_name;
  check_nesting(path, metadata["state"]);
  try {
    const json parsed = json::parse(metadata["state"]);
    state = state_from(parsed);
    optimizer_name = parsed.value("optimizer", optimizer.name());
  } catch (const std::exception& e) {
    fail(path, ": the checkpoint is damaged (its state cannot be read: ", e.what(), ")");
  }
  check(optimizer_name == optimizer.name(), path, ": does not fit this run: the optimizer was ",
        optimizer_name, ", now it is ", optimizer.name());
  // The epoch is one more than the history has, and so no number that overflows.
  check(state.batch <= batches && state.step == (state.epoch - 1) * batches + state.batch, path, ": batch ",
        state.batch, " of epoch ", state.epoch, " is not step ", state.step, " where the data make ", batches,
        " batches in an epoch, as they do now; put the run's data back");
  const StateDict model_before = clone(module.state_dict()), optimizer_before = clone(optimizer.state_dict());
  const StateDict model = part(all, kModel);
  check_saved_finite(path, model, model_before);
  try {
    module.load_state_dict(model);
    try {
      optimizer.load_state_dict(part(all, kOptimizer));
      step.load_state_dict(part(all, kScaling));
    } catch (const Error&) {
      module.load_state_dict(model_before);
      optimizer.load_state_dict(optimizer_before);
      throw;
    }
  } catch (const OutOfMemoryError&) {
    throw;
  } catch (const Error& e) {
    fail(path, ": does not fit this run: ", e.what());
  }
  return state;
}

}  // namespace weft::training
