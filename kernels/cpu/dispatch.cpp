// Chooses the instruction set at run time. The table functions below only return the address of a constant;
// nothing of an instruction set runs before it has been found to be supported.
#include <cstdlib>
#include <string>
#include <vector>

#include "weft/kernels/error.h"
#include "weft/kernels/kernels.h"

namespace weft::kernels {

#ifdef WEFT_WITH_avx512
namespace avx512 {
const KernelTable<float>& table();
}
#endif
#ifdef WEFT_WITH_avx2
namespace avx2 {
const KernelTable<float>& table();
}
#endif
#ifdef __aarch64__
namespace neon {
const KernelTable<float>& table();
}
#else
namespace baseline {
const KernelTable<float>& table();
}
#endif

namespace {

TableList supported_tables() {
  TableList list;
  const auto add = [&](const KernelTable<float>& table) { list.tables[size_t(list.count++)] = &table; };
#ifdef WEFT_WITH_avx512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("fma"))
    add(avx512::table());
#endif
#ifdef WEFT_WITH_avx2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) add(avx2::table());
#endif
#ifdef __aarch64__
  add(neon::table());  // every such machine has it
#else
  add(baseline::table());
#endif
  add(reference<float>());
  return list;
}

const KernelTable<float>& choose_table() {
  const TableList& list = all_cpu_tables();
  const char* wanted = std::getenv("WEFT_ISA");
  if (!wanted || !*wanted) return **list.begin();
  std::vector<std::string> names;
  for (const KernelTable<float>* table : list) {
    if (std::string(table->name) == wanted) return *table;
    names.emplace_back(table->name);
  }
  throw Error(std::string("WEFT_ISA: '") + wanted + "' is unknown or not supported here; choose one of " +
              joined(names));
}

}  // namespace

const TableList& all_cpu_tables() {
  static const TableList list = supported_tables();
  return list;
}

const KernelTable<float>& cpu() {
  static const KernelTable<float>& table = choose_table();
  return table;
}

}  // namespace weft::kernels
