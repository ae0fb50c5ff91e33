"""The networks of layers/xresnet.h as a PyTorch user would train them: float32, or bf16 by autocast.

The modules are those of tests/golden/model_cases.py, whose outputs and gradients weft is held to.
"""

import pathlib
import sys
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "golden"))
from model_cases import XResNet  # noqa: E402
from ops_cases import ACTIVATIONS  # noqa: E402

DEPTHS = {f"mxresnet{depth}": depth for depth in (18, 34, 50, 101, 152)}


class Ranger:
    """RAdam with decoupled weight decay over all tensors at once, and Lookahead every 6 steps likewise: the fastest form
    that PyTorch's parts allow."""

    def __init__(self, parameters, lr=4e-3, betas=(0.95, 0.999), eps=1e-5, every=6, alpha=0.5):
        self.parameters = list(parameters)
        self.inner = torch.optim.RAdam(self.parameters, lr=lr, betas=betas, eps=eps, weight_decay=1e-2,
                                       decoupled_weight_decay=True, foreach=True)
        self.slow = [p.detach().clone() for p in self.parameters]
        self.every, self.alpha, self.steps = every, alpha, 0

    @torch.no_grad()
    def step(self):
        self.inner.step()
        self.steps += 1
        if self.steps % self.every == 0:
            torch._foreach_lerp_(self.slow, self.parameters, self.alpha)
            torch._foreach_copy_(self.parameters, self.slow)

    def zero_grad(self):
        self.inner.zero_grad(set_to_none=True)


def build(model, activation, attention):
    net = XResNet(DEPTHS[model], activation, attention)
    for module in net.modules():  # "no activation" must cost nothing
        if getattr(getattr(module, "act", None), "f", None) is ACTIVATIONS["identity"]:
            module.act = torch.nn.Identity()
    return net


def inference_step(net, images, mode, autocast):
    if mode == "compiled":
        from torch._inductor import config

        config.freezing = True  # weights are constants: batch norm is folded into them, and they are packed once
        net = torch.compile(net)

    def step():
        with torch.inference_mode(), autocast():
            net(images)

    return step


def training_step(model, mode, attention, activation, batch, size, inference=False, precision="fp32"):
    """A function that does one training step in the given mode: nchw, channels_last or compiled (with channels_last). Of inference: a
    forward pass in evaluation mode; compiled then means frozen, too. In bf16: with autocast."""
    def autocast():
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")

    torch.manual_seed(1)
    net = build(model, activation, attention)
    images = torch.randn(batch, 3, size, size)
    if mode != "nchw":
        net = net.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    if inference:
        return inference_step(net.eval(), images, mode, autocast)
    labels = torch.arange(batch) % 10
    optimizer = Ranger(net.parameters())
    forward = torch.compile(net) if mode == "compiled" else net

    def step():
        with autocast():
            logits = forward(images)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds_of(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
