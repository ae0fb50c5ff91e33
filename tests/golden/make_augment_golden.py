#!/usr/bin/env python3
"""Writes augment.safetensors: pictures whose colours torchvision has changed, or that it has padded and cropped, for
tests/data_augment_test.cpp.

Needs torch, torchvision (made with 2.13.0 and 0.28.0) and numpy. Run it in this folder.
"""

import itertools
import pathlib

import numpy as np
import torch
import torchvision.transforms.functional as F

from golden_file import GoldenFile, hash_words

STEPS = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)


def picture(name, height, width):
    """Random colours, and some that are black, white, grey or without one of their parts."""
    values = (hash_words(name, height * width * 3) % np.uint64(1001)).astype(np.float64) / 1000
    pixels = values.reshape(height, width, 3)
    pixels[0, 0], pixels[0, 1], pixels[0, 2] = 0, 1, 0.5
    pixels[1, 0], pixels[1, 1], pixels[1, 2] = [1, 0, 0], [0, 1, 0], [0, 0, 1]
    pixels[2, 0], pixels[2, 1], pixels[2, 2] = [1, 1, 0], [0, 1, 1], [1, 0, 1]
    return pixels.astype(np.float32)


def main():
    file = GoldenFile()
    factors = [(1.4, 1, 1, 0), (0.5, 1, 1, 0), (1, 1.7, 1, 0), (1, 0.2, 1, 0), (1, 1, 2.0, 0), (1, 1, 0, 0), (1, 1, 1, 0.2),
               (1, 1, 1, -0.5), (1, 1, 1, 0.5), (1, 1, 1, -0.07), (0, 1, 1, 0.1)]
    cases = [(f, (0, 1, 2, 3)) for f in factors]
    cases += [((1.2, 0.6, 1.5, -0.3), order) for order in itertools.permutations(range(4))]
    for i, (factor, order) in enumerate(cases):
        pixels = picture(f"jitter.{i}", 7, 9)
        image = torch.from_numpy(pixels).double().permute(2, 0, 1)
        for step in order:
            if factor[step] != (0 if step == 3 else 1):
                image = STEPS[step](image, factor[step])
        file.put(f"jitter.{i}.source", pixels, np.float32)
        file.put(f"jitter.{i}.factors", np.array(factor, np.float64))
        file.put(f"jitter.{i}.order", np.array(order, np.int64))
        file.put(f"jitter.{i}.out", image.permute(1, 2, 0), np.float32)
    # RandomCrop(9, padding, padding_mode=mode), then RandomHorizontalFlip, with what they draw given.
    pads = [(4, "constant", 0, 0, False), (4, "constant", 8, 8, True), (4, "constant", 3, 7, False), (4, "reflect", 0, 8, True),
            (4, "reflect", 8, 0, False), (4, "reflect", 5, 2, True), (8, "reflect", 16, 0, True), (9, "constant", 18, 3, False),
            (1, "constant", 1, 1, True)]
    for i, (padding, mode, top, left, flip) in enumerate(pads):
        pixels = picture(f"pad.{i}", 9, 9)
        image = F.crop(F.pad(torch.from_numpy(pixels).permute(2, 0, 1), [padding], padding_mode=mode), top, left, 9, 9)
        image = F.hflip(image) if flip else image
        file.put(f"pad.{i}.source", pixels, np.float32)
        file.put(f"pad.{i}.crop", np.array([padding, mode == "reflect", top, left, flip], np.int64))
        file.put(f"pad.{i}.out", image.permute(1, 2, 0), np.float32)
    file.write(pathlib.Path(__file__).resolve().parent / "augment.safetensors")


if __name__ == "__main__":
    main()
