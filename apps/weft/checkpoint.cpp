#include "weft/apps/weft/checkpoint.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "weft/engine/safetensors.h"

namespace weft::app {

using nlohmann::json;

namespace {

constexpr const char* kFormat = "weft checkpoint 1";
const std::string kModel = "model.", kOptimizer = "optimizer.", kScaling = "scaling.";

/// JSON has no infinity and no NaN; both become null and come back as NaN.
double number(const json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

// The one list of what is saved of a RunState, for both directions.
template <class State, class Visit>
void visit_state(State& s, Visit&& visit) {
  visit("epoch", s.epoch), visit("batch", s.batch), visit("step", s.step);
  visit("random_seed", s.random_seed), visit("random_count", s.random_count);
  visit("loss_sum", s.loss_sum), visit("images", s.images), visit("correct", s.correct);
  visit("seconds", s.seconds), visit("lr", s.lr), visit("skipped", s.skipped);
  visit("total_seconds", s.total_seconds), visit("total_train_seconds", s.total_train_seconds);
  visit("total_images", s.total_images);
}

json to_json(const RunState& state) {
  json out;
  visit_state(state, [&](const char* key, const auto& value) { out[key] = value; });
  out["metrics"] = json::array();
  for (const EpochMetrics& m : state.metrics)
    out["metrics"].push_back(
        {m.epoch, m.train_loss, m.val_loss, m.val_accuracy, m.lr, m.seconds, m.images_per_second});
  return out;
}

RunState state_from(const json& in) {
  RunState state;
  visit_state(state, [&](const char* key, auto& value) {
    if constexpr (std::is_same_v<std::remove_reference_t<decltype(value)>, double>)
      value = number(in.at(key));
    else
      value = in.at(key).get<std::remove_reference_t<decltype(value)>>();
  });
  for (const json& m : in.at("metrics"))
    state.metrics.push_back({m.at(0).get<int64_t>(), number(m.at(1)), number(m.at(2)), number(m.at(3)),
                             number(m.at(4)), number(m.at(5)), number(m.at(6))});
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

}  // namespace

void save_checkpoint(const std::string& path, const TrainConfig& config,
                     const std::vector<std::string>& classes, const Module& model,
                     const optim::Optimizer& optimizer, const StateDict& scaling, const RunState& state) {
  StateDict all = with_prefix(kModel, model.state_dict());
  for (auto& entry : with_prefix(kOptimizer, optimizer.state_dict())) all.push_back(std::move(entry));
  for (auto& entry : with_prefix(kScaling, scaling)) all.push_back(std::move(entry));
  save_safetensors(path, all,
                   {{"format", kFormat},
                    {"config", to_json(config).dump()},
                    {"classes", json(classes).dump()},
                    {"state", to_json(state).dump()}});
}

RunState load_checkpoint(const std::string& path, const TrainConfig& config,
                         const std::vector<std::string>& classes, Module& model, optim::Optimizer& optimizer,
                         StateDict& scaling) {
  std::map<std::string, std::string> metadata;
  const StateDict all = load_safetensors(path, &metadata);
  check(metadata["format"] == kFormat, path, ": not a checkpoint of weft train (its format is \"",
        metadata["format"], "\", expected \"", kFormat, "\")");
  RunState state;
  try {
    TrainConfig saved;
    from_json(json::parse(metadata["config"]), path, saved);
    saved.data = config.data;  // the folder may have moved; the classes below must still agree
    const std::vector<std::string> differing = differing_flags(saved, config);
    if (!differing.empty()) {
      std::string flags;
      for (const std::string& flag : differing) flags += (flags.empty() ? "" : ", ") + flag;
      fail(path, ": the checkpoint is of a run with other settings than this folder's config.json (", flags,
           "); put the files of one run together, or start anew");
    }
    check(json::parse(metadata["classes"]) == json(classes), path,
          ": the checkpoint is of a run with other classes than the data have now");
    state = state_from(json::parse(metadata["state"]));
  } catch (const json::exception&) {
    fail(path, ": the checkpoint is damaged (its state cannot be read)");
  }
  try {
    model.load_state_dict(part(all, kModel));
    optimizer.load_state_dict(part(all, kOptimizer));
    scaling = part(all, kScaling);
  } catch (const Error& e) {
    fail(path, ": does not fit this run: ", e.what());
  }
  return state;
}

}  // namespace weft::app
