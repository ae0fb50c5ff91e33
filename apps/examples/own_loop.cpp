// Transfer learning in a loop of one's own, as docs/own-loop.md tells it.
#include <weft/weft.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
using namespace weft;

struct Net : Module {
  MLP body{*this, "body", 2, 32, {.hidden = {32}, .activation = Activation::mish, .dropout = 0.05}};
  std::optional<Linear> head;
  explicit Net(int64_t classes) { head.emplace(*this, "head", 32, classes); }
  Tensor forward(const Tensor& x) override { return (*head)(mish(body(x))); }
};

// Points in a square, and whether they lie inside a circle, outside, or, as a third class, far outside.
DeviceBatch points(int64_t n, int64_t classes) {
  Tensor x = Tensor::uniform({n, 2}, -1, 1), y = Tensor::empty({n}, DType::i64);
  for (int64_t i = 0; i < n; ++i) {
    double radius = std::hypot(x.at(2 * i), x.at(2 * i + 1));
    y.data<int64_t>()[i] = (radius > 0.5) + (classes == 3 && radius > 0.9);
  }
  return {.x = x, .y = y};
}

void train(const std::string& file, int64_t epochs) {  // from where the file stands, if there is one
  manual_seed(2);
  DeviceBatch known = points(900, 3), valid = points(300, 3);
  TensorBatches batches(known.x, known.y, {.batch_size = 30});
  Net net(2);
  net.head.emplace(net, "head", 32, 3);  // a new one in the old one's place
  StateDict start = load_safetensors("own_loop_start.safetensors");
  std::erase_if(start, [](const auto& entry) { return entry.first.starts_with("head."); });
  for (const std::string& name : net.load_state_dict(start, false).missing)
    std::printf("starts at random: %s\n", name.c_str());
  for (const Parameter& p : net.body.hidden.parameters()) p.tensor.set_requires_grad(false);
  optim::AdamW optimizer(net.body.parameters("body"), {.lr = 2e-3});
  optimizer.add_group(net.head->parameters("head"), {.lr = 2e-2});
  // All that going on needs. The dictionary shares their memory: it is filled by a file, and saved.
  Tensor done = Tensor::zeros({}, DType::i64), draws = done.clone(), best = Tensor::zeros({}, DType::f64);
  StateDict state = net.state_dict();
  for (const auto& entry : optimizer.state_dict()) state.push_back(entry);
  state.insert(state.end(), {{"done", done}, {"draws", draws}, {"best", best}});
  if (std::filesystem::exists(file)) {
    StateDict saved = load_safetensors(file);
    for (const auto& [name, tensor] : state) tensor.copy_from(find(saved, name));
    default_generator().set_state(2, uint64_t(draws.item()));
  }
  for (int64_t epoch = int64_t(done.item()); epoch < epochs; ++epoch) {
    batches.begin_epoch(epoch);  // in an order that follows from its number
    for (int64_t step = epoch * batches.batches(); auto batch = batches.next(); ++step) {
      optim::flat_cosine().apply(optimizer, step, 12 * batches.batches());
      Tape tape;
      tape.backward(cross_entropy(net(batch->x), batch->y));
      optim::clip_grad_norm_(optimizer.parameters(), 1.0);
      optimizer.step(), optimizer.zero_grad();
    }
    EvalGuard evaluation(net);
    double accuracy = mean(eq(argmax(net(valid.x)), valid.y).to(DType::f32)).item();
    if (accuracy > best.item()) best.fill(accuracy), save_safetensors(file + ".best", net.state_dict());
    done.fill(double(epoch + 1)), draws.fill(double(default_generator().count()));
    save_safetensors(file, state);
  }
}

int main() {
  manual_seed(1);
  Net net(2);
  DeviceBatch known = points(900, 2);
  TensorBatches batches(known.x, known.y);
  optim::AdamW optimizer(net.parameters(), {.lr = 1e-2});
  training::Trainer(net, optimizer, batches).fit(10);
  save_safetensors("own_loop_start.safetensors", net.state_dict());
  for (const char* file : {"own_loop_a.safetensors", "own_loop_b.safetensors"}) std::filesystem::remove(file);
  train("own_loop_a.safetensors", 12);
  train("own_loop_b.safetensors", 5), train("own_loop_b.safetensors", 12);
  bool same = read_file("own_loop_a.safetensors") == read_file("own_loop_b.safetensors");
  std::printf("best accuracy above 0.9: %d, stopped and gone on with to the same bits: %d\n",
              find(load_safetensors("own_loop_a.safetensors"), "best").item() > 0.9, same);
}
