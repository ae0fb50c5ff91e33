#include "shared_memory.h"

#include <elf.h>
#include <link.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "weft_emulator/device.h"

namespace weft_emulator {
namespace {

struct Symbols {
  std::unordered_multimap<uintptr_t, std::string> functions;       // by address
  std::vector<std::pair<std::string, SharedArray>> thread_locals;  // of functions
};

/// Where the program was loaded, less where its file says.
uintptr_t load_address() {
  uintptr_t address = 0;
  const auto first = [](dl_phdr_info* info, size_t, void* result) {
    *static_cast<uintptr_t*>(result) = info->dlpi_addr;
    return 1;
  };
  dl_iterate_phdr(first, &address);
  return address;
}

Symbols read_symbols() {
  std::ifstream stream("/proc/self/exe", std::ios::binary);
  const std::string file((std::istreambuf_iterator<char>(stream)), {});
  Symbols symbols;
  const auto read = [&](auto& value, size_t offset) {
    if (offset > file.size() || file.size() - offset < sizeof value) return false;
    std::memcpy(&value, file.data() + offset, sizeof value);
    return true;
  };
  ElfW(Ehdr) header;
  if (!read(header, 0) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return symbols;
  const uintptr_t base = load_address();
  ptrdiff_t thread_index = -1;
  for (size_t i = 0; i < header.e_shnum; ++i) {
    ElfW(Shdr) table, names;
    if (!read(table, header.e_shoff + i * sizeof table) || table.sh_type != SHT_SYMTAB) continue;
    if (!read(names, header.e_shoff + table.sh_link * sizeof names)) continue;
    ElfW(Sym) symbol;
    for (size_t at = 0; at < table.sh_size && read(symbol, table.sh_offset + at); at += sizeof symbol) {
      const size_t name_at = names.sh_offset + symbol.st_name;
      if (name_at >= file.size() || symbol.st_shndx == SHN_UNDEF) continue;
      const std::string_view name(file.c_str() + name_at);
      const int type = symbol.st_info & 0xf;
      if (type == STT_FUNC && name.starts_with("_Z")) symbols.functions.emplace(base + symbol.st_value, name);
      if (type != STT_TLS) continue;
      const SharedArray array{static_cast<ptrdiff_t>(symbol.st_value), symbol.st_size};
      if (name == "threadIdx") thread_index = array.offset;
      if (name.starts_with("_ZZ")) symbols.thread_locals.emplace_back(name, array);
    }
  }
  if (thread_index < 0) symbols.thread_locals.clear();
  for (auto& [name, array] : symbols.thread_locals) array.offset -= thread_index;
  return symbols;
}

unsigned char* base() { return reinterpret_cast<unsigned char*>(&threadIdx); }

/// Calls visit(array, its offset in a copy) for each; returns the size of a copy. Arrays begin at multiples
/// of 16 bytes, the most that a load needs.
template <class Visit>
size_t each_in_copy(const std::vector<SharedArray>& arrays, Visit visit) {
  size_t offset = 0;
  for (const SharedArray& array : arrays) {
    visit(array, offset);
    offset += (array.size + 15) / 16 * 16;
  }
  return offset;
}

}  // namespace

const std::vector<SharedArray>& shared_arrays(const void* kernel) {
  static const Symbols symbols = read_symbols();
  static std::unordered_map<const void*, std::vector<SharedArray>> known;
  const auto [found, is_new] = known.try_emplace(kernel);
  if (!is_new) return found->second;
  const auto [begin, end] = symbols.functions.equal_range(reinterpret_cast<uintptr_t>(kernel));
  for (auto function = begin; function != end; ++function) {
    // A function _Zf has variables _ZZfEv.
    const std::string prefix = "_Z" + function->second.substr(1) + "E";
    for (const auto& [name, array] : symbols.thread_locals)
      if (name.starts_with(prefix)) found->second.push_back(array);
  }
  return found->second;
}

void fill_with_nan(const std::vector<SharedArray>& arrays) {
  for (const SharedArray& array : arrays) std::memset(base() + array.offset, 0xff, array.size);
}

size_t copy_size(const std::vector<SharedArray>& arrays) {
  return each_in_copy(arrays, [](const SharedArray&, size_t) {});
}

void copy_out(const std::vector<SharedArray>& arrays, unsigned char* copy) {
  each_in_copy(arrays, [&](const SharedArray& array, size_t offset) {
    std::memcpy(copy + offset, base() + array.offset, array.size);
  });
}

void copy_in(const std::vector<SharedArray>& arrays, const unsigned char* copy) {
  each_in_copy(arrays, [&](const SharedArray& array, size_t offset) {
    std::memcpy(base() + array.offset, copy + offset, array.size);
  });
}

}  // namespace weft_emulator
