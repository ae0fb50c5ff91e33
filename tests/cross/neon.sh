#!/usr/bin/env bash
# Cross-compiles weft for 64-bit ARM and runs the kernels' tests in qemu's emulator: the NEON kernels, on any machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
source cmake/packages.sh

tests=(kernels_test kernels_order_test reference_test activations_test philox_test parallel_test golden_ops_test gradcheck_test
  layers_test optim_test)
usage="usage: tests/cross/neon.sh [TEST...]
  builds in build-neon/ and runs tests/TEST.cpp, each in full. Default:
  ${tests[*]}"
for argument in "$@"; do
  case $argument in
    -h | --help) echo "$usage" && exit 0 ;;
    -*) echo "$usage" >&2 && exit 2 ;;
  esac
  if [[ ! -f tests/$argument.cpp ]]; then
    echo "neon.sh: there is no tests/$argument.cpp" >&2
    exit 2
  fi
done
(($# == 0)) || tests=("$@")

say "Looking for the packages that this needs"
need_packages cmake ninja-build g++-aarch64-linux-gnu qemu-user libeigen3-dev nlohmann-json3-dev doctest-dev

say "Building for aarch64 (build-neon/)"
configure build-neon -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64-linux-gnu.cmake" -DCMAKE_BUILD_TYPE=Release \
  -DWEFT_WERROR=ON -DWEFT_DATA=OFF -DWEFT_APPS=OFF -DWEFT_INSTALL=OFF
cmake --build build-neon --target "${tests[@]}"

say "Running in the emulator"
pattern=$(IFS='|' && echo "${tests[*]}")
WEFT_ISA=neon ctest --test-dir build-neon --output-on-failure --no-tests=error --timeout 600 -R "^($pattern)\$"
