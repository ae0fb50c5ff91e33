// weft::data from outside: the built-in sample pictures, through the loader.
#include <weft/engine/data/data.h>

#include <cstdio>

int main() {
  using namespace weft::data;
  ImageLoader loader(sample_dataset("train", {.train_per_class = 4}),
                     {.size = 32, .batch_size = 8, .threads = 2});
  long pictures = 0;
  for (auto& [images, labels] : loader) pictures += images.size(0);
  std::printf("%ld pictures of %zu classes\n", pictures, loader.dataset().classes().size());
  return pictures == 40 ? 0 : 1;
}
