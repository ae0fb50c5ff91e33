#include "weft/kernels/certify.h"

#include <string_view>

#include "weft/kernels/kernels.h"

namespace weft::kernels {

#ifdef WEFT_WITH_avx512
namespace avx512 {
const Certifier& certifier();
}
#endif
#ifdef WEFT_WITH_avx2
namespace avx2 {
const Certifier& certifier();
}
#endif
#ifdef __aarch64__
namespace neon {
const Certifier& certifier();
}
#else
namespace baseline {
const Certifier& certifier();
}
#endif

const Certifier* certifier(int number) {
  int count = 0;
  for (const KernelTable<float>* table : all_cpu_tables()) {
    const std::string_view name = table->name;
    if (name == "reference" || count++ != number) continue;
#ifdef WEFT_WITH_avx512
    if (name == "avx512") return &avx512::certifier();
#endif
#ifdef WEFT_WITH_avx2
    if (name == "avx2") return &avx2::certifier();
#endif
#ifdef __aarch64__
    return &neon::certifier();
#else
    return &baseline::certifier();
#endif
  }
  return nullptr;
}

const Certifier& certifier() { return *certifier(0); }

}  // namespace weft::kernels
