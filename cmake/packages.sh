# shellcheck shell=bash disable=SC2034
# Sourced by quickstart.sh and test.sh: what both need to get from a bare machine to a build.

say() { printf '\n==> %s\n' "$*"; }

# What a build of the library and the weft command takes.
build_packages=(g++ cmake ninja-build libeigen3-dev nlohmann-json3-dev libjpeg-dev libpng-dev libarchive-dev
  libcli11-dev libfmt-dev)

# need_packages NAME...: installs those Debian or Ubuntu packages that are missing; without any, does not touch apt.
need_packages() {
  if ! command -v dpkg-query > /dev/null; then
    echo "This is not Debian or Ubuntu, so nothing is installed. The build needs what these packages hold there:"
    echo "  $*"
    return 0
  fi
  local name missing=()
  for name in "$@"; do
    # A line for each architecture that has it.
    dpkg-query -W -f='${db:Status-Status}\n' "$name" 2> /dev/null | grep -qx installed || missing+=("$name")
  done
  if ((${#missing[@]} == 0)); then
    echo "All needed packages are there."
    return 0
  fi
  local sudo=()
  if ((EUID != 0)); then
    if ! command -v sudo > /dev/null; then
      printf 'These packages are missing, and only root can install them (there is no sudo here):\n  %s\n' \
        "${missing[*]}" >&2
      printf 'Have them installed, then start this again:\n  apt-get install %s\n' "${missing[*]}" >&2
      return 1
    fi
    sudo=(sudo)
  fi
  say "Installing ${missing[*]}"
  "${sudo[@]}" apt-get update -qq || echo "apt-get update failed; trying with the package lists that are there."
  if ! "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
    "${missing[@]}" > /dev/null; then
    printf 'apt-get could not install these packages: %s\n' "${missing[*]}" >&2
    return 1
  fi
}

# configure DIR [-DNAME=VALUE...]: makes or refreshes a Ninja build folder.
configure() {
  local dir=$1
  shift
  # A folder made by another generator, or at another place (a copied tree), can't be used on.
  if [[ -f $dir/CMakeCache.txt ]]; then
    if ! grep -q '^CMAKE_GENERATOR:INTERNAL=Ninja$' "$dir/CMakeCache.txt" ||
      ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$dir/CMakeCache.txt"; then
      echo "$dir was made by another generator or for another folder; making it anew."
      rm -rf "$dir"
    fi
  fi
  cmake -S . -B "$dir" -G Ninja --log-level=WARNING "$@"
}
