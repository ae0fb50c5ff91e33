"""Reference values of layers and whole models: several training steps and an evaluation, computed by PyTorch in double precision.

The models are built here from their description (see layers/*.h) under weft's names. Weights, inputs and the gradients that
are sent back come from golden_file.normals on both sides; only results are stored, and of large tensors only a fingerprint.
"""

import math

import numpy as np
import torch
from torch import nn

from golden_file import GoldenFile, hash_words, normals, rounded
from ops_cases import ACTIVATIONS, nchw, nhwc

LARGEST_STORED = 256  # elements; larger tensors are stored as fingerprints
PROBES, SAMPLES = 4, 16


class Act(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.f = ACTIVATIONS[name]

    def forward(self, x):
        return self.f(x, None)


class ConvBn(nn.Module):
    def __init__(self, inputs, outputs, kernel=3, stride=1, activation="identity"):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = Act(activation)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class SelfAttention(nn.Module):
    """gamma (x x^T) (W x) + x of x: [N, C, H W], W under spectral normalisation; symmetric: (W + W^T) / 2 in its place."""

    def __init__(self, channels, symmetric=False):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.conv = nn.utils.spectral_norm(nn.Conv1d(channels, channels, 1, bias=False))
        self.symmetric = symmetric

    def forward(self, image):
        x = image.flatten(2)
        wx = self.conv(x)  # sets conv.weight to the normalised one
        if self.symmetric:
            wx = (wx + self.conv.weight.squeeze(-1).T @ x) / 2
        return (self.gamma * (x @ x.mT @ wx) + x).view_as(image)


class ResBlock(nn.Module):
    def __init__(self, inputs, hidden, expansion=1, stride=1, activation="mish", attention=False, symmetric=False):
        super().__init__()
        outputs = hidden * expansion
        plan = ([(inputs, hidden, 3, stride), (hidden, outputs, 3, 1)] if expansion == 1 else
                [(inputs, hidden, 1, 1), (hidden, hidden, 3, stride), (hidden, outputs, 1, 1)])
        self.depth = len(plan)
        for i, (a, b, kernel, s) in enumerate(plan, 1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, kernel, s, kernel // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b))
        self.attention = SelfAttention(outputs, symmetric) if attention else nn.Identity()
        self.pool = nn.AvgPool2d(2, ceil_mode=True) if stride != 1 else nn.Identity()
        self.shortcut = ConvBn(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.act = Act(activation)

    def forward(self, x):
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.depth:
                y = self.act(y)
        return self.act(self.attention(y) + self.shortcut(self.pool(x)))


class XResNet(nn.Module):
    PLANS = {18: (1, (2, 2, 2, 2)), 34: (1, (3, 4, 6, 3)), 50: (4, (3, 4, 6, 3)), 101: (4, (3, 4, 23, 3)),
             152: (4, (3, 8, 36, 3))}

    def __init__(self, depth, activation="mish", attention=False, symmetric=False, classes=10):
        super().__init__()
        expansion, blocks = self.PLANS[depth]
        self.stem = nn.Sequential(ConvBn(3, 32, stride=2, activation=activation), ConvBn(32, 64, activation=activation),
                                  ConvBn(64, 64, activation=activation))
        self.pool = nn.MaxPool2d(3, 2, 1)
        stages, inputs = [], 64
        for s, count in enumerate(blocks):
            stage = []
            for b in range(count):
                stage.append(ResBlock(inputs, 64 << s, expansion, 2 if s > 0 and b == 0 else 1, activation,
                                      attention and s == 0 and b == count - 1, symmetric))
                inputs = (64 << s) * expansion
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.head(self.stages(self.pool(self.stem(x))).mean((2, 3)))


def to_weft(name, t):
    """A tensor of a module's state in weft's layout: OIHW to OHWI, the attention's [C, C, 1] to [C, C]."""
    return nhwc(t) if t.ndim == 4 else t.squeeze(-1) if t.ndim == 3 else t


def state(module):
    """Parameters and buffers under weft's names."""
    tensors = {}
    for name, t in [*module.named_parameters(), *module.named_buffers()]:
        for theirs, ours in (("weight_orig", "weight"), ("weight_u", "u"), ("weight_v", "v")):
            if name.split(".")[-1] == theirs:
                name = name.removesuffix(theirs) + ours
        if not name.endswith("num_batches_tracked"):
            tensors[name] = t
    return tensors


def scale_and_shift(name, t, gamma, running_var):
    """How a tensor of the state is made from normals: none is left at a value that would hide a part of the network."""
    last = name.split(".")[-1]
    if last == "gamma":
        return 0, gamma
    if last in ("u", "v"):
        return 1 / math.sqrt(t.numel()), 0
    if last == "running_var":
        return 0.1, running_var
    if last in ("bias", "running_mean"):
        return 0.1, 0
    if t.ndim == 1:  # batch norm
        return 0.2, 1
    return math.sqrt(2 * len(t) / t.numel()), 0


class ModelFile(GoldenFile):
    def put_result(self, case, name, value):
        value = value.detach().numpy()
        if value.size <= LARGEST_STORED:
            self.put(f"{case}/expect.{name}", value, np.float64 if value.size <= 16 else np.float32)
        else:
            self.put(f"{case}/expect.{name}#print", fingerprint(f"{case}/{name}", value))

    def case(self, case, kind, module, shape, f, tolerance, steps=3, move=0.02, gamma=0.02, running_var=1, labels=None, **attributes):
        """Runs `module` forward and backward for some steps in training and once in evaluation, and stores after each pass
        the output (and loss), the gradients of input and parameters, and the buffers. After each pass all parameters move a
        little at random: steps along the gradients would let the rounding errors of a float run grow from pass to pass.

        f(module, x): x and output in weft's layout.
        """
        module.double()
        tensors = state(module)
        with torch.no_grad():
            for name, t in tensors.items():
                scale, shift = scale_and_shift(name, t, gamma, running_var)
                attributes[f"state.{name}"] = f"{scale!r},{shift!r}"
                layout = to_weft(name, t)
                layout.copy_(rounded(shift + scale * normals(f"{case}/{name}", tuple(layout.shape))))
        if labels is not None:
            attributes["labels"] = ",".join(map(str, labels))
        self.describe(case, kind, shape=",".join(map(str, shape)), steps=steps, move=move, tolerance=tolerance, **attributes)
        for step in [*range(steps), "eval"]:
            module.train(step != "eval")
            module.zero_grad()
            x = rounded(normals(f"{case}/{step}.x", shape)).requires_grad_()
            out = f(module, x)
            self.put_result(case, f"{step}.out", out)
            if labels is None:
                out.backward(rounded(normals(f"{case}/{step}.grad_out", tuple(out.shape))))
            else:
                loss = nn.functional.cross_entropy(out, torch.tensor(labels), label_smoothing=0.1)
                self.put_result(case, f"{step}.loss", loss)
                loss.backward()
            self.put_result(case, f"{step}.grad.x", x.grad)
            for name, t in tensors.items():
                if t.requires_grad:
                    self.put_result(case, f"{step}.grad.{name}", to_weft(name, t.grad))
                    with torch.no_grad():
                        layout = to_weft(name, t)
                        by = rounded(normals(f"{case}/{step}.move.{name}", tuple(layout.shape)))
                        layout.copy_(rounded(layout + move * by))
                else:
                    self.put_result(case, f"{step}.after.{name}", to_weft(name, t))


def fingerprint(name, value):
    """Norm, largest absolute value, dot products with random vectors, and some of the elements."""
    flat = value.reshape(-1)
    dots = [flat @ normals(f"{name}/probe.{i}", flat.shape) for i in range(PROBES)]
    samples = flat[(hash_words(f"{name}/samples", SAMPLES) % np.uint64(flat.size)).astype(np.int64)]
    return np.array([np.sqrt(flat @ flat), np.abs(flat).max(), *dots, *samples])


def image(module, x):
    return nhwc(module(nchw(x)))


def layers(file):
    f32 = 1e-5
    file.case("linear", "linear", nn.Linear(7, 4), (5, 7), lambda m, x: m(x), f32, inputs=7, outputs=4)
    file.case("conv2d", "conv2d", nn.Conv2d(6, 4, 3, 2, 2, 2, 2), (2, 7, 6, 6), image, f32, inputs=6, outputs=4, kernel=3,
              stride=2, padding=2, dilation=2, groups=2)
    file.case("batch_norm2d", "batch_norm2d", nn.BatchNorm2d(5), (3, 4, 3, 5), image, f32, channels=5)
    file.case("conv_bn", "conv_bn", ConvBn(5, 6, 3, 2, "mish"), (2, 5, 7, 5), image, f32, inputs=5, outputs=6, kernel=3,
              stride=2, activation="mish")
    for symmetric in (False, True):
        file.case(f"self_attention{'.symmetric' if symmetric else ''}", "self_attention", SelfAttention(12, symmetric),
                  (2, 5, 7, 12), image, f32, steps=5, channels=12, symmetric=symmetric)
    blocks = {
        "basic": dict(inputs=6, hidden=6),
        "basic.wider": dict(inputs=5, hidden=6, activation="relu"),
        "basic.stride": dict(inputs=5, hidden=6, stride=2),
        "basic.attention": dict(inputs=6, hidden=6, attention=True),
        "basic.symmetric": dict(inputs=6, hidden=6, attention=True, symmetric=True),
        "bottleneck": dict(inputs=12, hidden=3, expansion=4),
        "bottleneck.wider": dict(inputs=6, hidden=3, expansion=4, attention=True),
        "bottleneck.stride": dict(inputs=12, hidden=5, expansion=4, stride=2, activation="silu"),
    }
    for name, options in blocks.items():
        options = dict(expansion=1, stride=1, activation="mish", attention=False, symmetric=False) | options
        file.case(f"res_block.{name}", "res_block", ResBlock(**options), (3, 5, 7, options["inputs"]), image, f32, **options)


def networks(file):
    file.case("mxresnet18", "xresnet", XResNet(18, attention=True), (4, 48, 40, 3), lambda m, x: m(nchw(x)), 1e-4, steps=1,
              gamma=0.01, running_var=3, labels=[3, 0, 9, 3], depth=18, activation="mish", attention=True, symmetric=False)


def make_model(path):
    file = ModelFile()
    layers(file)
    networks(file)
    file.write(path)
