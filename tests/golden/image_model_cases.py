#!/usr/bin/env python3
"""Reference values of the image layers and models beyond XResNet: writes image_model.safetensors.

The modules are built here from their description (see layers/*.h) under weft's names; the sources that they follow are named in
layers/models.cpp. Weights and inputs are made as in model_cases.py.
"""

import math
import pathlib

import torch
import torch.nn.functional as F
from torch import nn

from model_cases import Act, ConvBn, ModelFile, SelfAttention, XResNet, image
from ops_cases import nchw, nhwc


def binomial(taps):
    row = torch.tensor([math.comb(taps - 1, k) for k in range(taps)], dtype=torch.float64)
    return torch.outer(row, row) / 4 ** (taps - 1)


class BlurPool(nn.Module):
    def __init__(self, filter=3, stride=2, reflect=False):
        super().__init__()
        self.filter, self.stride, self.reflect = filter, stride, reflect

    def forward(self, x):
        pad = ((self.filter - 1) // 2,) * 4
        x = F.pad(x, pad, mode="reflect") if self.reflect else F.pad(x, pad)
        return F.conv2d(x, binomial(self.filter).expand(x.shape[1], 1, -1, -1), stride=self.stride, groups=x.shape[1])


class MaxBlurPool(nn.Module):
    """The maximum over 2x2 (stride 1, ceil), then a binomial filter of 3x3 with stride 2: kornia's since 0.5."""

    def forward(self, x):
        return BlurPool()(F.max_pool2d(x, 2, 1, ceil_mode=True))


class PyramidPool(nn.Module):
    """kornia's MaxBlurPool2d(3) of 2020: the maximum over 3x3, a Gaussian blur of 5x5 with reflection, and half the size by
    bilinear interpolation (contrib/max_blur_pool.py and geometry/transform/pyramid.py before dfc9196a3 of 2021-03-07)."""

    def forward(self, x):
        x = F.max_pool2d(x, 3, 1, 1)
        x = F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), binomial(5).expand(x.shape[1], 1, -1, -1), groups=x.shape[1])
        return F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)


class SqueezeExcitation(nn.Module):
    def __init__(self, channels, hidden, activation="relu"):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.act = Act(activation)

    def forward(self, x):
        scale = torch.sigmoid(self.fc2(self.act(self.fc1(x.mean((2, 3))))))
        return x * scale[:, :, None, None]


class SeparableConv(nn.Module):
    def __init__(self, inputs, outputs, stride=1, multiplier=1, between=False, activation="identity"):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs * multiplier, 3, stride, 1, groups=inputs, bias=False)
        self.between = nn.BatchNorm2d(inputs * multiplier) if between else None
        self.pointwise = nn.Conv2d(inputs * multiplier, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = Act(activation)

    def forward(self, x):
        x = self.depthwise(x)
        if self.between:
            x = self.act(self.between(x))
        return self.act(self.norm(self.pointwise(x)))


class Block(nn.Module):
    """The residual block with everything that the leaderboard's networks add to it."""

    def __init__(self, inputs, hidden, expansion=1, stride=1, activation="mish", attention=False, pool="avg", pool_first=False,
                 groups=1, width=0, depthwise=0, depthwise_norm=False, reduction=0):
        super().__init__()
        outputs = hidden * expansion
        width = hidden * depthwise or width or hidden
        spatial = dict(stride=1 if pool_first else stride, padding=1, bias=False, groups=hidden if depthwise else groups)
        if expansion == 1:
            convs = [nn.Conv2d(inputs, width, 3, **spatial), nn.Conv2d(width, outputs, 3, padding=1, bias=False)]
        else:
            inner = hidden if depthwise else width
            convs = [nn.Conv2d(inputs, inner, 1, bias=False), nn.Conv2d(inner, width, 3, **spatial),
                     nn.Conv2d(width, outputs, 1, bias=False)]
        self.plan = []
        for i, conv in enumerate(convs, 1):
            setattr(self, f"conv{i}", conv)
            bare = depthwise and not depthwise_norm and i == 2
            if not bare:
                setattr(self, f"bn{i}", nn.BatchNorm2d(conv.out_channels))
            self.plan.append((f"conv{i}", None if bare else f"bn{i}", i < len(convs) and not bare))
        if reduction:
            self.squeeze = SqueezeExcitation(outputs, math.ceil(outputs // reduction / 8) * 8, activation)
        self.after = [m for m in [getattr(self, "squeeze", None)] if m]
        if attention:
            self.attention = SelfAttention(outputs)
            self.after.append(self.attention)
        pools = {"avg": lambda: nn.AvgPool2d(2, ceil_mode=True), "max": lambda: nn.MaxPool2d(2, ceil_mode=True),
                 "max_blur": PyramidPool}
        self.pool, self.pool_first = pools[pool]() if stride != 1 else nn.Identity(), pool_first
        self.shortcut = ConvBn(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.act = Act(activation)

    def forward(self, x):
        side = self.pool(x)
        y = side if self.pool_first else x
        for conv, norm, active in self.plan:
            y = getattr(self, conv)(y)
            if norm:
                y = getattr(self, norm)(y)
            if active:
                y = self.act(y)
        for module in self.after:
            y = module(y)
        return self.act(y + self.shortcut(side))


class Net(nn.Module):
    """A network of such blocks, in the order of XResNet."""

    def __init__(self, blocks, options, stem=(32, 64, 64), base_width=0, separable=0, max_blur_stem=False, activation="mish",
                 attention=False, classes=10):
        super().__init__()
        layers, inputs = [], 3
        for i, outputs in enumerate(stem):
            stride = 2 if i == 0 else 1
            layers.append(SeparableConv(inputs, outputs, stride, separable, activation=activation) if separable else
                          ConvBn(inputs, outputs, stride=stride, activation=activation))
            inputs = outputs
        self.stem = nn.Sequential(*layers)
        self.pool = PyramidPool() if max_blur_stem else nn.MaxPool2d(3, 2, 1)
        stages = []
        for s, count in enumerate(blocks):
            stage, hidden = [], 64 << s
            for b in range(count):
                own = dict(options, stride=2 if s > 0 and b == 0 else 1, activation=activation,
                           attention=attention and s == 0 and b == count - 1)
                if base_width:
                    own["width"] = hidden * base_width // 64 * own["groups"]
                stage.append(Block(inputs, hidden, **own))
                inputs = hidden * options["expansion"]
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.head(self.stages(self.pool(self.stem(x))).mean((2, 3)))


DEPTHS = {depth: (expansion, blocks) for depth, (expansion, blocks) in XResNet.PLANS.items()}


def trick(depth, **options):
    expansion, blocks = DEPTHS[depth]
    return Net(blocks, dict(expansion=expansion, pool="max_blur", pool_first=True), max_blur_stem=True, **options)


def depthwise(multiplier, **options):
    return Net((3, 6, 8, 3), dict(expansion=4, pool="max_blur", pool_first=True, depthwise=multiplier), separable=multiplier,
               **options)


def depthwise_norm(multiplier, **options):
    return Net((3, 6, 8, 3), dict(expansion=4, pool="max_blur", pool_first=True, depthwise=multiplier, depthwise_norm=True),
               max_blur_stem=True, **options)


def resnext(depth, reduction, **options):
    expansion, blocks = DEPTHS[depth]
    return Net(blocks, dict(expansion=expansion, pool="max", groups=32, reduction=reduction), stem=(32, 32, 64), base_width=4,
               **options)


class CifarBlock(nn.Module):
    def __init__(self, inputs, outputs, stride=1, shortcut="A", activation="relu"):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.act, self.stride, self.added = Act(activation), stride, (outputs - inputs) // 2
        if shortcut == "B" and (inputs != outputs or stride != 1):
            self.shortcut = ConvBn(inputs, outputs, 1, stride)

    def forward(self, x):
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        if hasattr(self, "shortcut"):
            return self.act(y + self.shortcut(x))
        side = x[:, :, ::self.stride, ::self.stride]
        return self.act(y + F.pad(side, (0, 0, 0, 0, self.added, self.added)))


class CifarResNet(nn.Module):
    def __init__(self, depth, activation="relu", classes=10):
        super().__init__()
        self.conv1, self.bn1, self.act = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), Act(activation)
        inputs = 16
        for stage in (1, 2, 3):
            blocks, outputs = [], 8 << stage
            for b in range(depth // 6):
                blocks.append(CifarBlock(inputs, outputs, 2 if stage > 1 and b == 0 else 1, activation=activation))
                inputs = outputs
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        x = self.act(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class CifarBlockV2(nn.Module):
    """A bottleneck with full pre-activation, figure 4e of https://arxiv.org/abs/1603.05027."""

    def __init__(self, inputs, width, outputs, stride=1, activate=True, project=False, activation="relu"):
        super().__init__()
        if activate:
            self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1, self.bn2 = nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn3 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.act = nn.Conv2d(width, outputs, 1, bias=False), Act(activation)
        if project:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        y = self.act(self.bn1(x)) if hasattr(self, "bn1") else x
        y = self.conv2(self.act(self.bn2(self.conv1(y))))
        y = self.conv3(self.act(self.bn3(y)))
        return y + (self.shortcut(x) if hasattr(self, "shortcut") else x)


class CifarResNetV2(nn.Module):
    def __init__(self, depth, activation="relu", classes=10):
        super().__init__()
        self.conv1, self.bn1, self.act = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), Act(activation)
        inputs = 16
        for stage, (width, outputs) in enumerate([(16, 64), (64, 128), (128, 256)]):
            blocks = []
            for b in range((depth - 2) // 9):
                blocks.append(CifarBlockV2(inputs, width, outputs, 2 if stage and b == 0 else 1, stage > 0 or b > 0, b == 0, activation))
                inputs = outputs
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.bn, self.linear = nn.BatchNorm2d(256), nn.Linear(256, classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.act(self.bn1(self.conv1(x))))))
        return self.linear(self.act(self.bn(x)).mean((2, 3)))


class MLP(nn.Module):
    def __init__(self, inputs, outputs, hidden, activation="relu"):
        super().__init__()
        self.hidden, self.act = nn.ModuleDict(), Act(activation)
        for i, units in enumerate(hidden):
            self.hidden[f"linear{i}"] = nn.Linear(inputs, units)
            inputs = units
        self.head = nn.Linear(inputs, outputs)

    def forward(self, x):
        """x in weft's layout: its numbers are joined in the order in which they lie in memory."""
        x = x.flatten(1)
        for layer in self.hidden.values():
            x = self.act(layer(x))
        return self.head(x)


def layers(file):
    f32 = 1e-5
    for name, options in {"blur_pool": {}, "blur_pool.odd": dict(filter=2), "blur_pool.wide": dict(filter=5, stride=1),
                          "blur_pool.reflect": dict(reflect=True), "blur_pool.reflect6": dict(filter=6, reflect=True),
                          "blur_pool.reflect4": dict(filter=4, stride=3, reflect=True)}.items():
        options = dict(filter=3, stride=2, reflect=False) | options
        file.case(name, "blur_pool", BlurPool(**options), (2, 7, 10, 5), image, f32, steps=1, **options)
    file.case("max_blur_pool", "max_blur_pool", MaxBlurPool(), (2, 7, 10, 5), image, f32, steps=1, pyramid=False)
    file.case("max_blur_pool.pyramid", "max_blur_pool", PyramidPool(), (2, 9, 10, 5), image, f32, steps=1, pyramid=True)
    for activation in ("relu", "mish"):
        file.case(f"squeeze.{activation}", "squeeze", SqueezeExcitation(12, 8, activation), (3, 4, 5, 12), image, f32, channels=12,
                  hidden=8, activation=activation)
    for name, options in {"separable": {}, "separable.between": dict(between=True, activation="relu", multiplier=2),
                          "separable.stride": dict(stride=2, multiplier=3, activation="mish")}.items():
        options = dict(inputs=5, outputs=6, stride=1, multiplier=1, between=False, activation="identity") | options
        file.case(name, "separable", SeparableConv(**options), (2, 5, 7, 5), image, f32, **options)


def blocks(file):
    f32 = 1e-5
    rows = {
        "trick": dict(inputs=12, hidden=5, expansion=4, stride=2, pool="max_blur", pool_first=True),
        "trick.basic": dict(inputs=6, hidden=7, stride=2, pool="max_blur", pool_first=True, activation="relu"),
        "depthwise": dict(inputs=12, hidden=3, expansion=4, stride=2, pool="max_blur", pool_first=True, depthwise=2),
        "depthwise.attention": dict(inputs=12, hidden=3, expansion=4, depthwise=4, attention=True),
        "depthwise.norm": dict(inputs=12, hidden=3, expansion=4, stride=2, pool="max_blur", pool_first=True, depthwise=4,
                               depthwise_norm=True, attention=True),
        "resnext": dict(inputs=12, hidden=6, expansion=4, stride=2, pool="max", groups=2, width=8, reduction=4),
        "resnext.basic": dict(inputs=8, hidden=8, groups=2, width=6, reduction=2),
        "resnext.attention": dict(inputs=24, hidden=6, expansion=4, groups=2, width=4, reduction=2, attention=True),
    }
    for name, options in rows.items():
        options = dict(expansion=1, stride=1, activation="mish", attention=False, pool="avg", pool_first=False, groups=1, width=0,
                       depthwise=0, depthwise_norm=False, reduction=0) | options
        file.case(f"block.{name}", "block", Block(**options), (3, 6, 7, options["inputs"]), image, f32, **options)
    for name, options in {"": {}, ".A": dict(outputs=8, stride=2), ".B": dict(outputs=8, stride=2, shortcut="B", activation="mish")}.items():
        options = dict(inputs=4, outputs=4, stride=1, shortcut="A", activation="relu") | options
        file.case(f"cifar_block{name}", "cifar_block", CifarBlock(**options), (3, 5, 7, 4), image, f32, **options)
    for name, options in {"": {}, ".first": dict(outputs=8, activate=False, project=True),
                          ".stride": dict(outputs=7, stride=2, project=True, activation="mish")}.items():
        options = dict(inputs=6, width=5, outputs=6, stride=1, activate=True, project=False, activation="relu") | options
        file.case(f"cifar_block_v2{name}", "cifar_block_v2", CifarBlockV2(**options), (3, 5, 7, 6), image, f32, **options)


def networks(file):
    # Mish has no kink that a rounding error could cross. The overlapping maxima of the pyramid pool have: of two that are
    # next to equal float may choose the other.
    loss = dict(steps=1, gamma=0.01, running_var=3, labels=[3, 0, 9, 3])
    file.case("model.trick", "model", trick(18, attention=True), (4, 64, 64, 3), lambda m, x: m(nchw(x)), 2e-2,
              model="mxresnet18-trick", attention=True, **loss)
    file.case("model.resnet20", "model", CifarResNet(20, "mish"), (4, 16, 12, 3), lambda m, x: m(nchw(x)), 1e-4, model="resnet20", activation="mish",
              attention=False, **loss)
    file.case("model.resnet20v2", "model", CifarResNetV2(20, "mish"), (4, 16, 12, 3), lambda m, x: m(nchw(x)), 1e-4, model="resnet20v2",
              activation="mish", attention=False, **loss)
    file.case("model.mlp", "model", MLP(8 * 8 * 3, 10, [512, 512], activation="mish"), (4, 8, 8, 3), lambda m, x: m(x), 1e-4,
              model="mlp", attention=False, size=8, **loss)
    # Without batch norm: behind a bias it leaves rounding errors for gradients, which no two programs share.
    file.case("mlp", "mlp", MLP(7, 3, [6, 5], activation="silu"), (5, 7), lambda m, x: m(x), 1e-5)


def main():
    torch.set_num_threads(1)
    file = ModelFile()
    layers(file)
    blocks(file)
    networks(file)
    file.write(pathlib.Path(__file__).resolve().parent / "image_model.safetensors")


if __name__ == "__main__":
    main()
