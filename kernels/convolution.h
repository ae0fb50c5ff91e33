// Which algorithm computes a convolution on the CPU in f32: chosen for each shape, forced, or found by
// measuring.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "weft/kernels/kernels.h"

namespace weft {

/// The algorithms. One that cannot compute a shape is passed over for `direct`, which computes any.
enum class ConvAlgorithm : uint8_t {
  automatic,  ///< the cheapest by a model of the costs
  direct,     ///< the sums as they are written, in register tiles: the exact mode
  winograd2,  ///< 3x3, stride 1: Winograd's F(2x2, 3x3), four ninths of the multiplications; of 2x2 images a
              ///< fourth
  winograd3,  ///< 3x3, stride 1: Winograd's F(3x3, 3x3), 25 of 81 multiplications
  winograd4,  ///< 3x3: Winograd's F(4x4, 3x3), a quarter of the multiplications; with stride 2, padding 1, 81
              ///< of 144
};
/// "automatic", "direct", "winograd2", "winograd3", "winograd4".
const char* conv_algorithm_name(ConvAlgorithm algorithm);
/// The algorithm of that name, or nothing.
std::optional<ConvAlgorithm> parse_conv_algorithm(std::string_view name);

/// The algorithm that all convolutions use from now on. Default: what the environment variable WEFT_CONV
/// names (an unknown name throws Error at the first convolution), else automatic. Not to be changed while
/// another thread computes a convolution: it may have asked for the memory of another algorithm.
ConvAlgorithm conv_algorithm();
void set_conv_algorithm(ConvAlgorithm algorithm);

/// Whether convolutions in f32 are the plain sums: no Winograd. The same as conv_algorithm() ==
/// ConvAlgorithm::direct. How far Winograd is from the plain sums stands in docs/numerics.md; what the
/// operands may be rounded to is said in precision.h.
inline bool exact() { return conv_algorithm() == ConvAlgorithm::direct; }
inline void set_exact(bool on) { set_conv_algorithm(on ? ConvAlgorithm::direct : ConvAlgorithm::automatic); }

/// While on (and nothing is forced), the first convolution of each shape and pass runs every algorithm that
/// suits it and remembers the fastest. Which one that is can differ from run to run, and with it the last
/// digits of results, unless the choices are kept: conv_choices() and add_conv_choices().
void set_conv_tuning(bool on);
bool conv_tuning();

/// The algorithm found for one shape and pass by one set of kernels.
struct ConvChoice {
  std::string_view kernels;  ///< KernelTable::name, a string that lives for ever
  kernels::Conv2dParams params;
  kernels::ConvPass pass = kernels::ConvPass::forward;
  ConvAlgorithm algorithm = ConvAlgorithm::automatic;
};
/// What tuning has found, and what was added.
std::vector<ConvChoice> conv_choices();
/// Takes over choices, for example of an earlier run; they hold whether tuning is on or not. A later choice
/// for the same shape replaces an earlier one; those of kernels that this machine has not are left out. Not
/// while another thread computes a convolution.
void add_conv_choices(const std::vector<ConvChoice>& choices);

namespace kernels {

// For the kernels of each instruction set, which may not use the standard library's templates.

/// Tells what to use for one shape and pass; false where that is to be measured and then told.
bool find_conv_algorithm(const char* kernels, const Conv2dParams& p, ConvPass pass, ConvAlgorithm* algorithm);
void tell_conv_algorithm(const char* kernels, const Conv2dParams& p, ConvPass pass, ConvAlgorithm algorithm);
/// Runs call(object, i) for i < count, each three times, and returns the i of the shortest time.
int fastest_of(int count, void (*call)(void* object, int i), void* object);

}  // namespace kernels
}  // namespace weft
