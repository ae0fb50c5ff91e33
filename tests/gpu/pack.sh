#!/usr/bin/env bash
# Collects the Debian packages that a build of weft needs into tests/gpu/packages, for a machine with a GPU that lacks
# them and has no network. Needs Debian or Ubuntu with the package lists (apt-get update), and a C compiler.
#   tests/gpu/pack.sh            then copy the source tree with that folder, and start tests/gpu/run.sh there
# The other machine must not have an older C library than this one, and must be of the same architecture.
set -euo pipefail
cd "$(dirname "$0")"

packages=(doctest-dev libeigen3-dev nlohmann-json3-dev libcli11-dev libfmt-dev libjpeg-dev libpng-dev libarchive-dev)
# What every machine with a C++ compiler has, and what no build needs.
everywhere='^(libc6|libc6-dev|libc-dev|libgcc-s1|libstdc\+\+6)$'

if (($# > 0)); then
  sed -n '2,/^set /p' "$0" | sed -n 's/^# \{0,1\}//p'
  [[ $1 == -h || $1 == --help ]] && exit 0 || exit 2
fi
for tool in apt-get apt-cache dpkg objdump cc; do
  command -v "$tool" > /dev/null || { echo "pack.sh: $tool is missing here" >&2 && exit 1; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir "$root"

# Libraries that the packages depend on, and those that these depend on.
all=("${packages[@]}")
for ((i = 0; i < ${#all[@]}; ++i)); do
  while read -r name; do
    [[ $name =~ ^(lib|zlib) && ! $name =~ $everywhere && " ${all[*]} " != *" $name "* ]] && all+=("$name")
  done < <(apt-cache depends --important "${all[i]}" | sed -n 's/^ *Depends: //p')
done
echo "Packages: ${all[*]}"
(cd "$work" && apt-get download -qq -o APT::Sandbox::User="$(id -un)" "${all[@]}")
for deb in "$work"/*.deb; do dpkg -x "$deb" "$root"; done

# Libraries that lie in /lib go to the others; links that name a whole path are made relative.
if [[ -d $root/lib && ! -L $root/lib ]]; then
  cp -a "$root/lib/." "$root/usr/lib/"
  rm -r "${root:?}/lib"
fi
# Headers of one architecture go to the others, as a compiler looks into that folder of the system only.
for folder in "$root"/usr/include/*-linux-gnu*; do
  [[ -d $folder ]] || continue
  cp -a "$folder/." "$root/usr/include/"
  rm -r "$folder"
done
while IFS= read -r -d '' link; do
  target=$(readlink "$link")
  [[ $target == /* ]] && ln -sfn "$(basename "$target")" "$link"
done < <(find "$root" -type l -print0)

# What a build doesn't read.
rm -rf "${root:?}"/{bin,etc,sbin,var} "${root:?}"/usr/{bin,sbin,include/eigen3/unsupported} \
  "${root:?}"/usr/share/{doc,doc-base,man,lintian,bug,gdb,pkgconfig,info,locale,perl5}
find "$root" \( -name '*.a' -o -name '*.la' -o -name '*.py' -o -name '*.pc' \) -delete

# libxml2, with which libarchive reads a format that weft never asks for, draws in ICU and its 30 MB of tables. An
# empty one in their place serves as long as nobody asks ICU for an encoding.
while IFS= read -r -d '' data; do
  name=$(objdump -p "$data" | awk '$1 == "SONAME" { print $2 }')
  version=${name##*.}
  echo "const struct { short size; char magic1, magic2; } icudt${version}_dat = {0, 0, 0};" > "$work/icudata.c"
  cc -shared -fPIC -Wl,-soname,"$name" -o "$data" "$work/icudata.c"
done < <(find "$root" -name 'libicudata.so.*' -type f -print0)
find "$root" \( -name 'libicui18n.*' -o -name 'libicuio.*' -o -name 'libicutest.*' -o -name 'libicutu.*' \) -delete
find "$root" -type d -empty -delete

# Every library that is needed lies here or on every machine, and no link leads nowhere.
basic='^(libc|libm|libdl|libpthread|librt|libgcc_s|libstdc\+\+|ld-linux.*)\.so\.[0-9]+$'
bad=0
while IFS= read -r -d '' library; do
  while read -r needed; do
    [[ $needed =~ $basic || -n $(find "$root" -name "$needed" -print -quit) ]] ||
      { echo "pack.sh: $(basename "$library") needs $needed, which is not packed" >&2 && bad=1; }
  done < <(objdump -p "$library" | awk '$1 == "NEEDED" { print $2 }')
done < <(find "$root" -name '*.so.*' -type f -print0)
while IFS= read -r -d '' link; do
  [[ $link == *.so* ]] && echo "pack.sh: $link leads to nothing" >&2 && bad=1
done < <(find "$root" -xtype l -print0)
((bad == 0)) || exit 1
find "$root" -xtype l -delete

glibc=$(find "$root" -name '*.so.*' -type f -exec objdump -T {} + | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
(cd "$work" && printf '%s\n' *.deb) > "$root/packages.txt"
printf 'DisableFormat: true\nSortIncludes: Never\n' > "$root/.clang-format"  # what formats the tree leaves them alone
rm -rf packages
mv "$root" packages
chmod -R u+w packages
echo "tests/gpu/packages: $(du -sh packages | cut -f 1), $(find packages -type f | wc -l) files; needs ${glibc/_/ } or newer"
