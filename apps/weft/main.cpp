// weft: the command. Parses the command line, runs the chosen subcommand and turns errors into one line and
// an exit code.
#include <fcntl.h>
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/version.h"

namespace weft::app {
namespace {

int report(int code, const std::string& message) {
  std::fflush(stdout);
  complain(message);
  return code;
}

/// `code`, if what was printed has been written.
int after_output(int code) {
  std::cout.flush();
  std::fflush(stdout);
  return std::ferror(stdout) || !std::cout ? report(kFailed, "cannot write to standard output") : code;
}

/// The subcommands that were typed, from the outermost on.
std::vector<const CLI::App*> typed(const CLI::App& app) {
  std::vector<const CLI::App*> all = {&app};
  for (auto chosen = app.get_subcommands(); !chosen.empty(); chosen = all.back()->get_subcommands())
    all.push_back(chosen.front());
  return all;
}

/// Their names, for the hint after a usage error: "weft bench step".
std::string typed_command(const CLI::App& app) { return joined(typed(app), " ", &CLI::App::get_name); }

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
  const auto commands = typed(app).back()->get_subcommands([](const CLI::App*) { return true; });
  const std::vector<std::string> rest = app.remaining(/*recurse=*/true);
  return (rest.empty() ? "a command is missing" : "unknown command " + rest.front()) + "; there are " +
         joined(commands, ", ", &CLI::App::get_name);
}

/// CLI11 reads nothing as 0, and 010 as 8, and of a word it says no more than that it "could not convert".
void check_numbers(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    const bool whole = type.rfind("INT", 0) == 0 || type.rfind("UINT", 0) == 0;
    if (!whole && type.rfind("FLOAT", 0) != 0) continue;
    // A transform comes before the option's own checks.
    const auto wrong = [whole](const std::string& value) -> std::string {
      if (value.empty()) return "it is empty; give a number, or leave the flag out";
      const size_t at = value.find_first_not_of("+-");
      const bool zero = whole && at != std::string::npos && value[at] == '0' && value.size() > at + 1 &&
                        std::isdigit((unsigned char)value[at + 1]);
      if (zero) return value + ": leave out the zero that it begins with";
      char* end = nullptr;
      std::strtod(value.c_str(), &end);
      if (*end != '\0') return value + " is no number";
      const bool digits = value.find_first_not_of("0123456789", at) == std::string::npos;
      return whole && !digits ? value + " is no whole number" : "";
    };
    option->transform(CLI::Validator(wrong, ""));
  }
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) check_numbers(*command);
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
  add_export(app, action);
  add_data(app, action);
  add_bench(app, action);
  add_lab(app, action);
  check_numbers(app);
  app.footer("Exit codes: 0 done, 1 failed, 2 wrong usage. `weft COMMAND --help` describes a command.");
  const auto wrong_usage = [&](const std::string& what) {
    return report(kWrongUsage, fmt::format("{} (see {} --help)", what, typed_command(app)));
  };
  try {
    app.parse(argc, argv);
    return after_output(action());
  } catch (const CLI::ExtrasError&) {
    return wrong_usage(unexpected(app));
  } catch (const CLI::RequiredError& e) {
    const bool command = std::string(e.what()).find("subcommand") != std::string::npos;
    return wrong_usage(command ? wanted_command(app) : e.what());
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return after_output(app.exit(e));  // --help, --version
    return wrong_usage(e.what());
  } catch (const UsageError& e) {
    return report(kWrongUsage, e.what());
  } catch (const std::bad_alloc&) {
    return report(kFailed, "out of memory (a smaller --batch-size or --size needs less)");
  } catch (const std::filesystem::filesystem_error& e) {
    return report(kFailed, e.path1().string() + ": " + e.code().message());
  } catch (const std::exception& e) {
    return report(kFailed, e.what());
  }
}

}  // namespace
}  // namespace weft::app

int main(int argc, char** argv) {
  // Where a stream is closed no file of ours shall take its number, and with it what is meant for it. Not to
  // be written to, so that this is an error still.
  for (int stream = 0; stream <= 2; ++stream)
    if (fcntl(stream, F_GETFD) == -1 && open("/dev/null", O_RDONLY) == -1) return weft::app::kFailed;
  std::signal(SIGPIPE, SIG_IGN);  // a reader that went away is a failed write, not a killed run
  std::signal(SIGXFSZ, SIG_IGN);  // likewise a file that reached the size limit
  return weft::app::run(argc, argv);
}
