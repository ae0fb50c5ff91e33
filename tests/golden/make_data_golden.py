#!/usr/bin/env python3
"""Writes data.safetensors: pictures decoded and resized by Pillow, for tests/data_*_test.cpp.

Needs numpy, pillow and safetensors. Run it in this folder: python3 make_data_golden.py
"""

import io

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

tensors = {}


def source(height, width):
    """Waves of several lengths and a hard edge."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    v = 128 + 60 * np.sin(0.31 * x + 0.17 * y + c) + 40 * np.cos(0.9 * x - 1.3 * y + 2 * c)
    v[height // 3 : height // 2, width // 4 : width // 2] = [250, 10, 90]
    return np.clip(np.rint(v), 0, 255).astype(np.uint8)


def resizes():
    pixels = source(37, 53)
    picture = Image.fromarray(pixels)
    tensors["resize.source"] = pixels
    cases = [  # left, top, width, height of the box; height and width of the result
        (0, 0, 53, 37, 16, 16),
        (3, 5, 40, 30, 16, 24),
        (10, 2, 17, 33, 32, 8),
        (20, 11, 9, 7, 24, 24),
        (5, 5, 20, 20, 20, 20),
        (0, 0, 53, 37, 3, 5),
        (52, 36, 1, 1, 4, 4),
    ]
    for i, (left, top, w, h, height, width) in enumerate(cases):
        tensors[f"resize.{i}.case"] = np.array([left, top, w, h, height, width], np.int64)
        out = picture.crop((left, top, left + w, top + h)).resize((width, height), Image.BILINEAR)
        tensors[f"resize.{i}.out"] = np.asarray(out)
    # Resize and centre crop as torchvision's Resize(resize) and CenterCrop(size).
    for i, (size, resize) in enumerate([(16, 16), (16, 19), (30, 30), (48, 64)]):
        width, height = int(resize * 53 / 37), resize
        left, top = round((width - size) / 2), round((height - size) / 2)
        out = picture.resize((width, height), Image.BILINEAR).crop((left, top, left + size, top + size))
        tensors[f"center.{i}.case"] = np.array([size, resize], np.int64)
        tensors[f"center.{i}.out"] = np.asarray(out)


def decodes():
    rgb = Image.fromarray(source(21, 34))

    def put(name, picture, kind, wanted=None, **options):
        file = io.BytesIO()
        picture.save(file, kind, **options)
        tensors[f"decode.{name}.file"] = np.frombuffer(file.getvalue(), np.uint8)
        decoded = Image.open(io.BytesIO(file.getvalue())).convert("RGB")
        tensors[f"decode.{name}.out"] = np.asarray(decoded) if wanted is None else wanted

    put("jpeg_420", rgb, "JPEG", quality=85)
    put("jpeg_444_progressive", rgb, "JPEG", quality=90, subsampling=0, progressive=True)
    put("jpeg_grey", rgb.convert("L"), "JPEG", quality=80)
    put("jpeg_cmyk", rgb.convert("CMYK"), "JPEG", quality=90)
    put("png_rgb", rgb, "PNG")
    put("png_rgba", Image.merge("RGBA", [*rgb.split(), rgb.split()[0]]), "PNG")
    put("png_grey", rgb.convert("L"), "PNG")
    put("png_grey_alpha", rgb.convert("LA"), "PNG")
    put("png_bits", rgb.convert("1"), "PNG")
    put("png_palette", rgb.quantize(11), "PNG")
    put("png_palette_transparent", rgb.quantize(11), "PNG", transparency=3)
    grey16 = (np.asarray(rgb.convert("L")).astype(np.uint16) * 250 + 7).astype(np.uint16)
    grey8 = np.rint(grey16 / 257).astype(np.uint8)
    put("png_grey16", Image.fromarray(grey16), "PNG", wanted=np.repeat(grey8[:, :, None], 3, 2))


resizes()
decodes()
save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, "data.safetensors")
