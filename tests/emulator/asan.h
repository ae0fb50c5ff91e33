#pragma once
// AddressSanitizer's functions, and nothing in place of them where it is off.

#if defined(__SANITIZE_ADDRESS__)
#define WEFT_EMULATOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT_EMULATOR_ASAN 1
#endif
#endif

#ifdef WEFT_EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(pointer, size) ((void)(pointer), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(pointer, size) ((void)(pointer), (void)(size))
#endif
