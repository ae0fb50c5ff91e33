#!/usr/bin/env python3
"""Training steps of MXResNet with self-attention, Mish and Ranger in PyTorch: what weft's speed on a GPU is held against.

    tests/gpu/pytorch_anchor.py --mode eager --batch-size 64,256          one JSON line a batch size
    tests/gpu/pytorch_anchor.py --mode compile --batch-size 64,256
    tests/gpu/pytorch_anchor.py --device cpu --model mxresnet18 --size 32 --batch-size 4 --steps 2 --rounds 2     a trial

Both modes: channels_last, bf16 autocast, cudnn.benchmark, TF32 for what stays in float, images and labels in the device's
memory, an optimizer that works on all tensors at once. `compile` is torch.compile of forward, loss and backward as by
mode="max-autotune", CUDA graphs included, but for its coordinate descent, which compiles each kernel many times and had not
ended after 190 s (--coordinate-descent takes it in); where that fails, mode="reduce-overhead", and on the CPU the default
mode. A rate is of the median of rounds. Needs torch and numpy; nothing else.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import sys
import time


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["eager", "compile"], default="eager")
    parser.add_argument("--model", default="mxresnet50")
    parser.add_argument("--activation", default="mish")
    parser.add_argument("--no-sa", action="store_true", help="leave the self-attention out")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch-size", default="64,256", help="a list")
    parser.add_argument("--steps", type=int, default=20, help="steps in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--coordinate-descent", action="store_true", help="compile: all of max-autotune")
    parser.add_argument("--again-when", metavar="FILE",
                        help="measure as soon as possible, and once more when this file is there; FILE.ready tells that it is waited for")
    return parser.parse_args()


args = parse()

import torch  # noqa: E402  (after the flags, so that --help is quick and needs no torch)
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "compare"))
import pytorch_model  # noqa: E402
from model_cases import SelfAttention as PlainAttention  # noqa: E402  (pytorch_model has told where)


class SelfAttention(nn.Module):
    """That of tests/golden/model_cases.py with fewer operations, for images in channels_last: (x x^T) (W x) is computed as
    ((x x^T) W) x, which multiplies a small matrix in the middle, and no tensor is copied."""

    def __init__(self, channels):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.weight = nn.Parameter(nn.init.kaiming_normal_(torch.empty(channels, channels)))
        self.register_buffer("u", F.normalize(torch.randn(channels), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(channels), dim=0))

    def normalized_weight(self):
        with torch.no_grad(), torch.autocast(self.weight.device.type, enabled=False):
            self.v.copy_(F.normalize(self.weight.T @ self.u, dim=0))
            self.u.copy_(F.normalize(self.weight @ self.v, dim=0))
            u, v = self.u.clone(), self.v.clone()
        with torch.autocast(self.weight.device.type, enabled=False):
            return self.weight / (u @ (self.weight @ v))

    def forward(self, image):
        x = image.permute(0, 2, 3, 1).flatten(1, 2)  # N, pixels, channels
        mix = x.mT @ x @ self.normalized_weight()
        y = self.gamma * (x @ mix.mT) + x
        return y.view(image.size(0), image.size(2), image.size(3), -1).permute(0, 3, 1, 2)


def build():
    torch.manual_seed(1)
    net = pytorch_model.build(args.model, args.activation, not args.no_sa)
    for module in net.modules():
        if isinstance(getattr(module, "attention", None), PlainAttention):
            module.attention = SelfAttention(module.attention.conv.in_channels)
    return net.to(args.device, memory_format=torch.channels_last)


class Ranger:
    """RAdam with decoupled weight decay (not on vectors) and Lookahead, by few operations on lists of all tensors; steps are
    counted on the CPU, so nothing waits for the device. The formula is that of lessw2020's Ranger 9.3.19."""

    def __init__(self, parameters, lr=4e-3, betas=(0.95, 0.99), eps=1e-6, decay=1e-2, every=6, alpha=0.5):
        self.parameters = list(parameters)
        self.decayed = [p for p in self.parameters if p.ndim > 1]
        self.mean = [torch.zeros_like(p) for p in self.parameters]
        self.square = [torch.zeros_like(p) for p in self.parameters]
        self.slow = [p.detach().clone() for p in self.parameters]
        self.lr, self.betas, self.eps, self.decay, self.every, self.alpha = lr, betas, eps, decay, every, alpha
        self.steps = 0

    @torch.no_grad()
    def step(self):
        self.steps += 1
        b1, b2 = self.betas
        gradients = [p.grad for p in self.parameters]
        torch._foreach_lerp_(self.mean, gradients, 1 - b1)
        torch._foreach_mul_(self.square, b2)
        torch._foreach_addcmul_(self.square, gradients, gradients, 1 - b2)
        torch._foreach_mul_(self.decayed, 1 - self.lr * self.decay)
        power = b2**self.steps
        longest = 2 / (1 - b2) - 1
        length = longest - 2 * self.steps * power / (1 - power)
        size = self.lr / (1 - b1**self.steps)
        if length > 5:
            size *= math.sqrt((1 - power) * (length - 4) / (longest - 4) * (length - 2) / length * longest / (longest - 2))
            root = torch._foreach_sqrt(self.square)
            torch._foreach_add_(root, self.eps)
            torch._foreach_addcdiv_(self.parameters, self.mean, root, -size)
        else:
            torch._foreach_add_(self.parameters, self.mean, alpha=-size)
        if self.steps % self.every == 0:
            torch._foreach_lerp_(self.slow, self.parameters, self.alpha)
            torch._foreach_copy_(self.parameters, self.slow)

    def zero_grad(self):
        for p in self.parameters:
            p.grad = None


def synchronize():
    if args.device != "cpu":
        torch.cuda.synchronize()


# Of max-autotune what is done in minutes.
WITHOUT_DESCENT = "max-autotune without coordinate descent"


def compiled(function, mode):
    if mode == WITHOUT_DESCENT:
        return torch.compile(function, options={"max_autotune": True, "triton.cudagraphs": True}, dynamic=False)
    return torch.compile(function, mode=mode, dynamic=False)


def training_step(batch, compile_mode):
    """A function that does one step on a batch of random images. Without a mode nothing is compiled."""
    net = build()
    images = torch.randn(batch, 3, args.size, args.size, device=args.device).to(memory_format=torch.channels_last)
    labels = (torch.arange(batch) % 10).to(args.device)
    optimizer = Ranger(net.parameters())

    def loss_of(x, y):
        with torch.autocast(torch.device(args.device).type, dtype=torch.bfloat16):
            return F.cross_entropy(net(x), y, label_smoothing=0.1)

    loss = compiled(loss_of, compile_mode) if compile_mode else loss_of

    def step():
        torch.compiler.cudagraph_mark_step_begin()
        loss(images, labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def prepared_step(batch):
    """The step after its first calls (which compile, try algorithms and record graphs), and the mode it was compiled in."""
    thorough = "max-autotune" if args.coordinate_descent else WITHOUT_DESCENT
    modes = [None] if args.mode == "eager" else ["default"] if args.device == "cpu" else [thorough, "reduce-overhead"]
    for mode in modes:
        try:
            step = training_step(batch, mode)
            for _ in range(12 if args.device != "cpu" else 2):
                step()
            synchronize()
            return step, mode
        except Exception as error:
            if mode == modes[-1]:
                raise
            print(f"pytorch_anchor: torch.compile(mode={mode!r}) failed at batch {batch}: {error}", file=sys.stderr)
            torch._dynamo.reset()


def measure(batch, step, compile_mode, setup):
    """Prints the JSON line."""
    seconds = []
    for _ in range(args.rounds):
        synchronize()
        start = time.perf_counter()
        for _ in range(args.steps):
            step()
        synchronize()
        seconds.append((time.perf_counter() - start) / args.steps)
    middle = statistics.median(seconds)
    print(json.dumps({
        "bench": "pytorch", "mode": args.mode, "compile_mode": compile_mode, "model": args.model, "sa": not args.no_sa,
        "activation": args.activation, "size": args.size, "batch_size": batch, "precision": "bf16", "steps": args.steps, "rounds": args.rounds,
        "images_per_second": batch / middle, "step_seconds": middle, "step_seconds_min": min(seconds), "setup_seconds": setup,
        "torch": torch.__version__, "cudnn": torch.backends.cudnn.version(),
        "device": torch.cuda.get_device_name() if args.device != "cpu" else "cpu"}), flush=True)


def main():
    if args.device != "cpu" and not torch.cuda.is_available():
        sys.exit("pytorch_anchor: PyTorch sees no GPU; --device cpu makes a trial without")
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    steps = {}
    for batch in map(int, args.batch_size.split(",")):
        start = time.perf_counter()
        steps[batch] = prepared_step(batch)
        measure(batch, *steps[batch], time.perf_counter() - start)
    if args.again_when:
        pathlib.Path(args.again_when + ".ready").touch()
        parent = os.getppid()
        while not os.path.exists(args.again_when) and os.getppid() == parent:
            time.sleep(0.1)
        for batch, (step, mode) in steps.items():
            for _ in range(3):
                step()
            measure(batch, step, mode, 0)


if __name__ == "__main__":
    main()
