#!/usr/bin/env python3
"""Writes model_counts.h: parameters and multiply-adds of the catalogue's models, counted in PyTorch on networks that are built
from their description (model_cases.py, image_model_cases.py), with 10 classes and without attention.

Multiply-adds are those of convolutions and matrix products of one image, by torch's FlopCounterMode. Blur pooling counts as the
two products with a matrix, of rows and of columns, that weft makes of it.
"""

import pathlib

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from image_model_cases import MLP, CifarResNet, CifarResNetV2, PyramidPool, depthwise, depthwise_norm, resnext, trick
from model_cases import XResNet
from ops_cases import nhwc


def depth_net(layers, size):
    """The depth study's network: 5x5 convolutions, dense layers with batch norm."""
    inputs, dense = 50 * ((size - 8) // 2) ** 2, []
    for _ in range(layers - 3):
        dense += [nn.Linear(inputs, 500), nn.BatchNorm1d(500), nn.Mish()]
        inputs = 500
    return nn.Sequential(nn.Conv2d(3, 20, 5), nn.Mish(), nn.Conv2d(20, 50, 5), nn.Mish(), nn.MaxPool2d(2), nn.Flatten(), *dense,
                         nn.Linear(inputs, 10))


class Pixels(nn.Module):
    """A network on numbers that lie as in weft."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(nhwc(x))


class ViT(nn.Module):
    """ViT-Ti/16 with the mean of the patches for a class token."""

    def __init__(self, width=192):
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 3, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.patches, self.head = nn.Conv2d(3, width, 16, 16), nn.Linear(width, 10)
        self.encoder = nn.TransformerEncoder(layer, 12, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, x):
        return self.head(self.encoder(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def pool_by_products(self, x):
    """Shape and multiply-adds of PyramidPool."""
    h, w = x.shape[2:]
    return x.new_zeros(h // 2, h) @ x @ x.new_zeros(w, w // 2)


def models():
    for m in ("mxresnet", "xresnet"):
        for depth in (18, 34, 50, 101, 152):
            yield f"{m}{depth}", 128, XResNet(depth)
    for depth in (18, 34, 50):
        yield f"mxresnet{depth}-trick", 128, trick(depth)
    for multiplier in (2, 4, 6):
        yield f"mxresnet-dw{multiplier}", 128, depthwise(multiplier)
    yield "mxresnet-dw4-bn", 128, depthwise_norm(4)
    for depth in (18, 34, 50, 101):
        yield f"xse_resnext{depth}", 128, resnext(depth, 16)
    for depth in (18, 34, 50, 101):
        yield f"xresnext{depth}", 128, resnext(depth, 0)
    for depth in (20, 32, 44, 56, 110):
        yield f"resnet{depth}", 32, CifarResNet(depth)
    for depth in (20, 56, 110, 164, 245):
        yield f"resnet{depth}v2", 32, CifarResNetV2(depth)
    yield "vit-tiny", 128, ViT()
    yield "mlp", 28, Pixels(MLP(28 * 28 * 3, 10, [512, 512]))
    for layers in range(15, 26):
        yield f"depth{layers}", 28, depth_net(layers, 28)
    for layers in range(15, 26):
        yield f"plain{layers}", 28, Pixels(MLP(28 * 28 * 3, 10, [500] * (layers - 1)))


def main():
    lines = ["// Written by count_models.py: parameters and multiply-adds as PyTorch counts them.", "#pragma once", "",
             "#include <cstdint>", "", "struct ModelCount {", "  const char* name;", "  int64_t size, parameters, multiply_adds;",
             "};", "constexpr ModelCount kModelCounts[] = {"]
    torch.set_default_device("meta")  # shapes only
    PyramidPool.forward = pool_by_products
    torch.backends.mha.set_fastpath_enabled(False)  # which is not counted
    for name, size, model in models():
        model.double().eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, size, size, dtype=torch.float64))
        parameters = sum(p.numel() for p in model.parameters())
        lines.append(f'    {{"{name}", {size}, {parameters}, {counter.get_total_flops() // 2}}},')
    (pathlib.Path(__file__).resolve().parent / "model_counts.h").write_text("\n".join(lines + ["};", ""]))


if __name__ == "__main__":
    main()
