// weft: the command. Parses the command line, runs the chosen subcommand and turns errors into one line and
// an exit code.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <new>
#include <string>
#include <vector>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/version.h"

namespace weft::app {
namespace {

int report(int code, const char* message) {
  std::fflush(stdout);
  fmt::print(stderr, "weft: {}\n", message);
  return code;
}

/// The subcommands that were typed, from the outermost on.
std::vector<const CLI::App*> typed(const CLI::App& app) {
  std::vector<const CLI::App*> all = {&app};
  for (auto chosen = app.get_subcommands(); !chosen.empty(); chosen = all.back()->get_subcommands())
    all.push_back(chosen.front());
  return all;
}

/// Their names, for the hint after a usage error: "weft bench step".
std::string typed_command(const CLI::App& app) {
  std::string names;
  for (const CLI::App* command : typed(app)) names += (names.empty() ? "" : " ") + command->get_name();
  return names;
}

/// What is wrong with the first argument that nobody wanted.
std::string unexpected(const CLI::App& app) {
  const std::vector<std::string> rest = app.remaining(/*recurse=*/true);
  const auto flag = std::find_if(rest.begin(), rest.end(),
                                 [](const std::string& a) { return a.size() > 1 && a[0] == '-'; });
  if (flag != rest.end()) return "unknown flag " + *flag;
  return "unexpected argument" + (rest.empty() ? "" : " " + rest.front());
}

/// What is wrong where a command is wanted: an unknown word, or none.
std::string wanted_command(const CLI::App& app) {
  std::string known;
  for (const CLI::App* command : typed(app).back()->get_subcommands([](const CLI::App*) { return true; }))
    known += (known.empty() ? "" : ", ") + command->get_name();
  const std::vector<std::string> rest = app.remaining(/*recurse=*/true);
  return (rest.empty() ? "a command is missing" : "unknown command " + rest.front()) + "; there are " + known;
}

int run(int argc, char** argv) {
  CLI::App app("Trains image classifiers with the weft engine.", "weft");
  app.set_version_flag("--version", std::string("weft ") + kVersion);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  Action action;
  add_train(app, action);
  add_eval(app, action);
  add_predict(app, action);
  add_data(app, action);
  add_bench(app, action);
  add_lab(app, action);
  app.footer("Exit codes: 0 done, 1 failed, 2 wrong usage. `weft COMMAND --help` describes a command.");
  const auto wrong_usage = [&](const std::string& what) {
    return report(kWrongUsage, fmt::format("{} (see {} --help)", what, typed_command(app)).c_str());
  };
  try {
    app.parse(argc, argv);
    const int code = action();
    std::fflush(stdout);
    if (std::ferror(stdout)) return report(kFailed, "cannot write to standard output");
    return code;
  } catch (const CLI::ExtrasError&) {
    return wrong_usage(unexpected(app));
  } catch (const CLI::RequiredError& e) {
    const bool command = std::string(e.what()).find("subcommand") != std::string::npos;
    return wrong_usage(command ? wanted_command(app) : e.what());
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    return wrong_usage(e.what());
  } catch (const UsageError& e) {
    return report(kWrongUsage, e.what());
  } catch (const std::bad_alloc&) {
    return report(kFailed, "out of memory (a smaller --batch-size or --size needs less)");
  } catch (const std::exception& e) {
    return report(kFailed, e.what());
  }
}

}  // namespace
}  // namespace weft::app

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader that went away is a failed write, not a killed run
  std::signal(SIGXFSZ, SIG_IGN);  // likewise a file that reached the size limit
  return weft::app::run(argc, argv);
}
