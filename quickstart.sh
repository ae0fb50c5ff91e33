#!/usr/bin/env bash
# From a fresh Debian 12 or Ubuntu 22.04+ to a trained network: installs the packages that are missing, builds the weft
# command into build/, and trains MXResNet18 on the built-in sample pictures. Can be run again; does only what is missing.
set -euo pipefail
cd "$(dirname "$0")"
source cmake/packages.sh

if (($# > 0)); then
  echo "usage: ./quickstart.sh"
  echo "Installs missing packages, builds weft and trains MXResNet18 on ten classes of drawn pictures (minutes, on two cores)."
  [[ $1 == -h || $1 == --help ]] && exit 0 || exit 2
fi

say "Looking for the packages that the build needs"
need_packages "${build_packages[@]}"

say "Building the weft command (build/apps/weft)"
# CUDA kernels take minutes to compile: only where there is a GPU, and for that one.
cuda=(-DWEFT_CUDA=OFF)
gpus=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | tr -d . | sort -u | paste -sd ';' || true)
if [[ $gpus =~ ^[0-9]+(;[0-9]+)*$ ]]; then cuda=(-DWEFT_CUDA=AUTO "-DCMAKE_CUDA_ARCHITECTURES=$gpus"); fi
configure build -DCMAKE_BUILD_TYPE=Release -DCMAKE_UNITY_BUILD=ON -DWEFT_TESTS=OFF "${cuda[@]}"
cmake --build build --target weft_command

say "Training MXResNet18 on the built-in sample pictures"
exec build/apps/weft train --size 32 --epochs 8 --batch-size 25 --min-scale 0.7
