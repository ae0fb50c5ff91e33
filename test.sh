#!/usr/bin/env bash
# Builds weft with warnings as errors and runs all tests, then the sanitizers. Can be run again; does only what is missing.
set -euo pipefail
cd "$(dirname "$0")"
source cmake/packages.sh

usage="usage: ./test.sh [--fast | --full]
  formatting     clang-format 14 finds nothing to change (left out where that version is not there)
  build-test/    everything, Release, warnings as errors; all tests, among them an outside project that uses weft. With the CUDA
                 toolkit and cuDNN the CUDA kernels too, whose tests on a device are skipped where there is none. The
                 comparisons with other libraries are built, not run
  build-asan/    AddressSanitizer and UndefinedBehaviorSanitizer in all of weft: the tests of build-test/ linked with it, but
                 for the slow ones, those of stored numbers, and those of the CUDA kernels, whose emulated device has
                 guards of its own
  build-tsan/    ThreadSanitizer: the tests of the thread pool and of the data loader
--fast leaves the two sanitizer builds out. --full, for a release, compiles each source and header by itself (else several
at a time), kernels for all GPUs (else for sm_90), and with sanitizers AVX-512 too (else AVX2), the CUDA kernels and the
tests themselves, with the checks of pointers and of variables' scopes that are left out else."
fast=no
unity=-DCMAKE_UNITY_BUILD=ON gpus=-DCMAKE_CUDA_ARCHITECTURES=90
asan_parts=(-DWEFT_ISAS=avx2 -DWEFT_EMULATED=OFF "-DWEFT_TEST_OBJECTS=$PWD/build-test")
# Without the uses of variables after their scope: a third of the build's time. And all of "undefined" but what looks at
# pointers before they are used (null, object-size, pointer-overflow, vptr): a tenth, and most of it AddressSanitizer finds
# at the use.
asan_flags=-fno-sanitize-address-use-after-scope
checks=shift,integer-divide-by-zero,unreachable,vla-bound,return,signed-integer-overflow,bounds,alignment,bool,enum,builtin
checks+=,nonnull-attribute,returns-nonnull-attribute
for argument in "$@"; do
  case $argument in
    --fast) fast=yes ;;
    --full)
      unity=-DCMAKE_UNITY_BUILD=OFF gpus=-UCMAKE_CUDA_ARCHITECTURES
      asan_parts=(-UWEFT_ISAS -UWEFT_EMULATED -UWEFT_TEST_OBJECTS) asan_flags= checks=undefined
      ;;
    -h | --help) echo "$usage" && exit 0 ;;
    *) echo "$usage" >&2 && exit 2 ;;
  esac
done
jobs=$(nproc)

say "Looking for the packages that the tests need"
need_packages "${build_packages[@]}" doctest-dev clang-format libdnnl-dev

say "Formatting"
version=$(clang-format --version 2> /dev/null | grep -o 'version [0-9]*' || true)
if [[ $version == "version 14" ]]; then
  find kernels engine layers optim apps tests -regex '.*[.]\(h\|cpp\|cuh?\)' -print0 |
    xargs -0 clang-format --dry-run -Werror
  echo "clang-format finds nothing to change."
else
  echo "Left out: the style is that of clang-format 14, and here is ${version:-none}."
fi

say "All tests, Release, warnings as errors (build-test/)"
configure build-test -DCMAKE_BUILD_TYPE=Release -DWEFT_WERROR=ON -DWEFT_COMPARE=ON "$unity" "$gpus"
cmake --build build-test
ctest --test-dir build-test -j "$jobs" --output-on-failure

if [[ $fast == yes ]]; then
  say "All tests passed; the sanitizers were left out (--fast)"
  exit 0
fi

# Sanitizers of GCC before 13 lose their way where the kernel scatters addresses widely; without scattering they find it.
fixed=()
setarch "$(uname -m)" -R true 2> /dev/null && fixed=(setarch "$(uname -m)" -R)
# The tests ask for memory that cannot be had, and expect an error of weft.
export ASAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=second_deadlock_stack=1

say "AddressSanitizer and UndefinedBehaviorSanitizer (build-asan/)"
cmake --preset asan --log-level=WARNING "$unity" "${asan_parts[@]}" "-DWEFT_SANITIZE=address,$checks" \
  "-DCMAKE_CXX_FLAGS=$asan_flags"
cmake --build build-asan
WEFT_TEST_LIGHT=1 "${fixed[@]}" ctest --test-dir build-asan -j "$jobs" --output-on-failure

say "ThreadSanitizer: thread pool and loader (build-tsan/)"
cmake --preset tsan --log-level=WARNING "$unity"
cmake --build build-tsan --target thread_tests
"${fixed[@]}" ctest --test-dir build-tsan -j "$jobs" --output-on-failure -L threads

say "All tests passed, sanitizers too"
