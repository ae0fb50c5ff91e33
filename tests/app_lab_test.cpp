// weft lab lr-find, landscape and output-landscape: contour lines, the loss around weights, the output's
// smoothness, rates and files.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "support/command.h"
#include "weft/apps/weft/contours.h"
#include "weft/apps/weft/landscape.h"
#include "weft/weft.h"

using namespace weft::test;
using nlohmann::json;
using weft::read_file;
using weft::Tensor;
using weft::app::contour_lines;
using weft::app::Grid;
using weft::app::Point;

namespace {

Grid grid_of(int rows, int columns, const std::function<double(double, double)>& f) {
  Grid g{rows, columns, {}};
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) g.values.push_back(f(c, r));
  return g;
}

const std::string& sample() {
  static const std::string path = make_sample(32, 2, 2);
  return path;
}

double length_of(const std::vector<std::vector<Point>>& lines) {
  double length = 0;
  for (const auto& line : lines)
    for (size_t i = 1; i < line.size(); ++i)
      length += std::hypot(line[i].x - line[i - 1].x, line[i].y - line[i - 1].y);
  return length;
}

struct Line : weft::Module {
  weft::Linear head{*this, "head", 2, 2};
  Tensor forward(const Tensor& x) override { return head(x); }
};

}  // namespace

TEST_CASE("contour lines") {
  SUBCASE("of a slope: one straight line from side to side") {
    const auto lines = contour_lines(grid_of(4, 6, [](double x, double y) { return x + y; }), 2.5);
    REQUIRE(lines.size() == 1);
    CHECK(lines[0].size() == 6);
    for (const Point& p : lines[0]) CHECK(p.x + p.y == doctest::Approx(2.5));
  }
  SUBCASE("of a bowl: a closed line, as long as the circle") {
    const auto lines =
        contour_lines(grid_of(41, 41, [](double x, double y) { return std::hypot(x - 20, y - 20); }), 15.3);
    REQUIRE(lines.size() == 1);
    CHECK(lines[0].front().x == lines[0].back().x);
    CHECK(lines[0].front().y == lines[0].back().y);
    CHECK(length_of(lines) == doctest::Approx(2 * 3.14159265 * 15.3).epsilon(5e-3));
  }
  SUBCASE("of a saddle: two lines that do not cross, on the sides that its middle says") {
    for (const double level : {-0.5, 0.5}) {
      CAPTURE(level);
      const auto lines = contour_lines({2, 2, {1, -1, -1, 1}}, level);
      REQUIRE(lines.size() == 2);
      for (const auto& line : lines) {
        REQUIRE(line.size() == 2);
        const double x = (line[0].x + line[1].x) / 2, y = (line[0].y + line[1].y) / 2;
        if (level > 0)
          CHECK(x == doctest::Approx(y));  // the corners of 1 are cut off
        else
          CHECK(x == doctest::Approx(1 - y));
        CHECK(length_of({line}) == doctest::Approx(0.25 * std::sqrt(2.0)));
      }
    }
  }
  SUBCASE("not through what is not finite, and none beyond the values") {
    Grid g = grid_of(5, 5, [](double x, double) { return x; });
    CHECK(contour_lines(g, 9).empty());
    CHECK(length_of(contour_lines(g, 1.5)) == doctest::Approx(4));
    g.values[2 * 5 + 1] = std::numeric_limits<double>::infinity();
    CHECK(length_of(contour_lines(g, 1.5)) == doctest::Approx(2));
  }
}

TEST_CASE("a direction has the norm of each filter") {
  weft::manual_seed(2);
  weft::Sequential net;
  net.emplace<weft::Conv2d>("conv", 3, 4, weft::Conv2dLayerOptions{.kernel = 3});
  net.emplace<weft::Linear>("head", 4, 2);
  weft::Generator one(1), two(1);
  const auto parameters = net.parameters();
  const auto direction = weft::app::filter_normalized_direction(parameters, one);
  REQUIRE(direction.size() == parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    CAPTURE(parameters[i].name);
    const Tensor& w = parameters[i].tensor;
    REQUIRE(direction[i].shape() == w.shape());
    const int64_t filters = w.size(0), width = w.numel() / filters;
    for (int64_t f = 0; f < filters; ++f) {
      double own = 0, drawn = 0;
      for (int64_t k = f * width; k < (f + 1) * width; ++k)
        own += std::pow(w.at(k), 2), drawn += std::pow(direction[i].at(k), 2);
      CHECK(drawn == doctest::Approx(w.ndim() > 1 ? own : 0.0));
    }
  }
  const auto again = weft::app::filter_normalized_direction(parameters, two);
  CHECK(again[0].to_vector<float>() == direction[0].to_vector<float>());
}

TEST_CASE("the loss around weights is that of the changed weights") {
  weft::manual_seed(4);
  Line net;
  net.eval();
  const Tensor x = Tensor::uniform({6, 2}, -1, 1), y = Tensor::from<int64_t>({0, 1, 1, 0, 1, 0}, {6});
  const std::vector<weft::app::LabelledBatch> batches = {
      {weft::narrow(x, 0, 0, 4), weft::narrow(y, 0, 0, 4)},
      {weft::narrow(x, 0, 4, 2), weft::narrow(y, 0, 4, 2)}};
  weft::Generator generator(9);
  const auto parameters = net.parameters();
  const auto first = weft::app::filter_normalized_direction(parameters, generator),
             second = weft::app::filter_normalized_direction(parameters, generator);
  const auto before = net.head.weight.to_vector<float>();
  int last = 0;
  const auto found = weft::app::loss_landscape(net, batches, first, second, 0.5, 5, [&](int done) {
    last = done;
    return true;
  });
  REQUIRE(found.has_value());
  CHECK(last == 25);
  CHECK(net.head.weight.to_vector<float>() == before);
  Line moved;
  for (const auto& [row, column] : {std::pair{2, 2}, {0, 4}, {3, 1}}) {
    const double s = 0.25 * (column - 2), t = 0.25 * (row - 2);
    for (size_t i = 0; i < parameters.size(); ++i)
      moved.parameters()[i].tensor.copy_from(parameters[i].tensor.detach() + first[i] * s + second[i] * t);
    CHECK(found->loss.at(row, column) ==
          doctest::Approx(weft::cross_entropy(moved(x), y).item()).epsilon(1e-5));
  }
  // Ended early, the weights are back, too.
  CHECK(!weft::app::loss_landscape(net, batches, first, second, 0.5, 5, [](int done) { return done < 3; }));
  CHECK(net.head.weight.to_vector<float>() == before);
}

TEST_CASE("numbers of an output landscape") {
  // Without an activation the output is a plane: one slope everywhere, so extremes at opposite corners.
  const auto plane = weft::app::output_landscape(weft::Activation::identity, 3, 2, 9);
  CHECK(plane.variation == doctest::Approx(plane.lipschitz).epsilon(1e-4));
  CHECK(plane.gradient_lipschitz < 1e-5);
  CHECK(plane.lipschitz > 1 / (4 * std::sqrt(2.0)) - 1e-6);  // height over the diagonal is the least
  CHECK(plane.lipschitz < 1.0 / 4 + 1e-6);                   // and over a side the most
  // The slopes are those of the values: compared with differences between neighbours of a fine grid.
  const auto smooth = weft::app::output_landscape(weft::Activation::mish, 3, 2, 81);
  double steepest = 0;
  const double step = 4.0 / 80, height = smooth.high - smooth.low;
  for (int r = 1; r + 1 < 81; ++r)
    for (int c = 1; c + 1 < 81; ++c)
      steepest = std::max(steepest, std::hypot(smooth.output.at(r, c + 1) - smooth.output.at(r, c - 1),
                                               smooth.output.at(r + 1, c) - smooth.output.at(r - 1, c)) /
                                        (2 * step * height));
  CHECK(smooth.lipschitz == doctest::Approx(steepest).epsilon(0.05));
  // The same weights: with ReLU, which bends at once, the slope jumps more. At the end of other weights it
  // may be 0 everywhere.
  CHECK(weft::app::output_landscape(weft::Activation::relu, 3, 2, 9).lipschitz == 0);
  const auto sharp = weft::app::output_landscape(weft::Activation::relu, 4, 2, 81);
  REQUIRE(sharp.high > sharp.low);
  CHECK(sharp.gradient_lipschitz > 2 * smooth.gradient_lipschitz);
  for (const weft::Activation act : {weft::Activation::rrelu, weft::Activation::prelu})
    CHECK(weft::app::output_landscape(act, 3, 2, 9).variation > 0);
}

TEST_CASE("lr-find tries rising rates and suggests some") {
  const Arguments find = {"lab", "lr-find",      "--data", sample(),      "--model", "mlp",        "--size",
                          "8",   "--batch-size", "10",     "--optimizer", "sgd",     "--start-lr", "1e-4"};
  const Result r = weft_run(find + Arguments{"--steps", "30", "--end-lr", "1000", "--csv", at("rates.csv"),
                                             "--plot", at("rates.svg"), "--json"});
  REQUIRE_MESSAGE(r.code == 0, r.err);
  const json event = json::parse(r.out);
  CHECK(event.at("event") == "lr_find");
  CHECK(event.at("diverged") == true);
  CHECK(event.at("valley").get<double>() > 1e-4);
  const std::vector<std::string> lines = lines_of(read_file(at("rates.csv")));
  CHECK(lines.at(0) == "lr,loss,smoothed_loss");
  for (size_t k = 1; k < lines.size(); ++k)
    CHECK(std::stod(lines[k]) == doctest::Approx(1e-4 * std::pow(1e7, double(k - 1) / 29.0)).epsilon(1e-5));
  CHECK(lines.size() - 1 == event.at("steps"));
  CHECK(has(read_file(at("rates.svg")), "valley"));
  const Result few = weft_run(find + Arguments{"--steps", "2"});
  CHECK(few.code == 0);
  CHECK(has(few.out, "valley    none: 2 points are too few"));
  CHECK(has(few.out, "give more --steps"));
  check_error(weft_run(find + Arguments{"--end-lr", "1e-5"}), 2, {"--end-lr 1e-05", "--start-lr"});
  check_error(weft_run(find + Arguments{"--plot", at("rates.gif")}), 2, {"rates.gif"});
  check_error(weft_run(find + Arguments{"--runs", "3"}), 2, {"--runs 3"});
}

TEST_CASE("the landscapes") {
  const std::string& data = sample();
  REQUIRE(weft_run({"train", "--data", data, "--model", "mlp", "--size", "8", "--epochs", "1", "--batch-size",
                    "10", "--quiet", "--out", at("run")})
              .code == 0);
  const Result r = weft_run({"lab", "landscape", "--model", at("run"), "--points", "5", "--images", "7",
                             "--csv", at("loss.csv"), "--plot", at("loss.svg"), "--json"});
  REQUIRE_MESSAGE(r.code == 0, r.err);
  const json row = json::parse(r.out);
  CHECK(row.at("images") == 7);
  CHECK(row.at("lowest_loss").get<double>() <= row.at("loss").get<double>());
  const std::vector<std::string> lines = lines_of(read_file(at("loss.csv")));
  CHECK(lines.at(0) == "x,y,loss,accuracy");
  CHECK(lines.size() - 1 == 25);
  CHECK(std::any_of(lines.begin(), lines.end(), [](const auto& line) { return line.rfind("0,0,", 0) == 0; }));
  CHECK(has(read_file(at("loss.svg")), "<svg"));
  CHECK(has(weft_run({"lab", "landscape", "--help"}).out, "2 range / (points - 1)"));
  check_error(weft_run({"lab", "landscape", "--model", at("run"), "--points", "4"}), 2,
              {"--points 4", "odd"});
  check_error(weft_run({"lab", "landscape", "--model", at("run"), "--plot", at("loss.gif")}), 2,
              {"loss.gif"});
  check_error(weft_run({"lab", "landscape", "--model", at("nothing"), "--csv", at("absent/loss.csv")}), 1,
              {"can't write", "absent/loss.csv"});  // before anything else
  check_error(weft_run({"lab", "landscape", "--model", at("nothing")}), 1, {"nothing"});
  check_error(weft_run({"lab", "landscape", "--model", at("run"), "--range", "nan"}), 2, {"--range", "nan"});

  const Result outputs = weft_run({"lab", "output-landscape", "--names", "mish,relu", "--runs", "2",
                                   "--points", "21", "--plot", at("out.png"), "--json"});
  REQUIRE_MESSAGE(outputs.code == 0, outputs.err);
  std::vector<std::string> names;
  for (const std::string& line : lines_of(outputs.out)) {
    names.push_back(json::parse(line).at("name"));
    CHECK(json::parse(line).at("variation").get<double>() > 0);
  }
  CHECK(names == std::vector<std::string>{"mish", "relu"});
  CHECK(read_file(at("out.png")).substr(1, 3) == "PNG");
  const Arguments small = {"lab", "output-landscape", "--names", "mish", "--points", "5", "--runs"};
  CHECK(has(weft_run(small + Arguments{"2"}).out, "+- std deviation"));
  CHECK(!has(weft_run(small + Arguments{"1"}).out, "deviation"));
  check_error(weft_run({"lab", "output-landscape", "--names", "smish"}), 2, {"smish", "mish"});
}
