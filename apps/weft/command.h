// What the subcommands share: how they enter the command line and how they fail.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "weft/engine/device.h"
#include "weft/engine/dtype.h"
#include "weft/engine/error.h"
#include "weft/kernels/precision.h"

namespace CLI {
class App;
}

namespace weft::app {

/// Wrong usage: an unknown name, a value out of range, flags that contradict each other. Exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

template <class... Parts>
[[noreturn]] void usage_error(const Parts&... parts) {
  throw UsageError(concat(parts...));
}

/// Exit codes, part of the contract with scripts.
constexpr int kDone = 0, kFailed = 1, kWrongUsage = 2;

/// A path or a value as one word for a shell: in quotes where it needs them.
std::string shell_word(const std::string& text);

/// "1 run", "2 runs".
std::string count_of(int64_t count, const std::string& thing);

/// The text with control characters spelt out, "\x1b", as a terminal must not get them: names of folders may
/// hold any.
std::string printable(const std::string& text);

/// Writes "weft: TEXT" to stderr, printable but for ends of lines. Nothing fails where nobody can read it: a
/// run must not end for that.
void complain(const std::string& text);

/// What the parsed command line asks for; set by the callback of the chosen subcommand, run when all parsing
/// is over.
using Action = std::function<int()>;

/// Each adds its subcommand to `weft`.
void add_train(CLI::App& weft, Action& action);
void add_eval(CLI::App& weft, Action& action);
void add_predict(CLI::App& weft, Action& action);
void add_export(CLI::App& weft, Action& action);
void add_data(CLI::App& weft, Action& action);
void add_bench(CLI::App& weft, Action& action);
void add_lab(CLI::App& weft, Action& action);

/// What is wrong with the value of a flag for 64 bits without a sign, for CLI11, which takes -1; empty:
/// nothing.
std::string fits_64_bits(const std::string& value);

/// The same of a flag for numbers from `least` to `most`, which is `wanted` in words.
std::function<std::string(const std::string&)> number_from(double least, double most,
                                                           const std::string& wanted);

/// Adds --device [cpu] and --precision [fp32].
void add_device(CLI::App& command, std::string& device, std::string& precision);

/// Where to compute, in what dtype, and what products in f32 round to.
struct Place {
  Device device = Device::cpu;
  DType dtype = DType::f32;
  MatmulPrecision products = MatmulPrecision::high;
};
/// What --device and --precision say, so that a wrong word is wrong usage: a GPU's dtype; bf16 on the CPU is
/// f32 whose products round to bf16. Throws UsageError for unknown names, Error for a device that is not
/// there and for a precision that it does not compute in.
Place place_of(const std::string& device, const std::string& precision);

/// Adds --threads [the cores that the process may use]; `threads` is 0 where it is not given.
void add_threads(CLI::App& command, int& threads);
/// Applies it.
void use_threads(int threads);

}  // namespace weft::app
