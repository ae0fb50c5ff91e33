#!/usr/bin/env python3
"""Single ops in PyTorch beside `weft bench op` and `weft bench optimizer` on the same shapes, in turns.

    tests/compare/pytorch_ops.py --weft build/apps/weft/weft

PyTorch runs each op in nchw and in channels_last, forward and backward timed apart; the better of the two layouts counts.
Needs torch; nothing else.
"""

import statistics

import report


def parse():
    parser = report.parser(__doc__, rounds=5)
    parser.add_argument("--weft", default="build/apps/weft", help="the weft command")
    parser.add_argument("--repeats", type=int, default=10, help="calls of each op in a round")
    return parser.parse_args()


args = parse()

import torch  # noqa: E402  (after the flags, so that --help is quick and needs no torch)
from torch.nn import functional as F  # noqa: E402

from pytorch_model import Ranger, XResNet, seconds_of  # noqa: E402

torch.set_num_threads(args.threads)
SHAPE = (32, 64, 64, 64)  # N C H W: the stem's output of MXResNet18 at 128 px, batch 32


def image(layout):
    x = torch.rand(SHAPE) * 2 - 1
    return x.to(memory_format=layout)


class Op:
    """f(*inputs), forward and backward; the output's gradient lies in memory as the output does."""

    def __init__(self, f, inputs):
        self.f = f
        self.inputs = [x.requires_grad_() for x in inputs]

    def run(self):
        for x in self.inputs:
            x.grad = None
        out = []
        forward = seconds_of(lambda: out.append(self.f(*self.inputs)))
        grad = torch.ones_like(out[0])
        backward = seconds_of(lambda: out[0].backward(grad))
        return {"forward": forward, "backward": backward}


class OptimizerStep:
    def __init__(self):
        self.ranger = Ranger(XResNet(50).parameters())
        for p in self.ranger.parameters:
            p.grad = torch.randn_like(p) * 1e-2

    def run(self):
        return {"step": seconds_of(self.ranger.step)}


def batch_norm_mish(x, weight, bias):
    return F.mish(F.batch_norm(x, None, None, weight, bias, training=True))


def images(f, *more):
    """The op in both layouts."""
    return [lambda layout=layout: Op(f, [image(layout), *(make() for make in more)])
            for layout in (torch.contiguous_format, torch.channels_last)]


LABELS = torch.arange(4096) % 1000
CHANNELS = [lambda: torch.ones(64), lambda: torch.zeros(64)]
OP = ["op", "--model", "mxresnet18", "--size", 128, "--batch-size", 32, "--threads", args.threads, "--seconds", 0.2]
# name: (PyTorch's candidates, what weft measures of the same)
CASES = {
    "batch norm + mish, 32x64x64x64": (images(batch_norm_mish, *CHANNELS),
                                       [*OP, "--only", "norm", "--filter", "batch_norm 32x64x64x64 train + mish"]),
    "mish, 32x64x64x64": (images(F.mish), [*OP, "--only", "activation", "--filter", "mish 32x64x64x64"]),
    "relu, 32x64x64x64": (images(F.relu), [*OP, "--only", "activation", "--filter", "relu 32x64x64x64"]),
    "max pool 3x3 stride 2, 32x64x64x64": (images(lambda x: F.max_pool2d(x, 3, 2, 1)),
                                           [*OP, "--only", "pool", "--filter", "max_pool2d 32x64x64x64"]),
    "cross entropy, 4096x1000": ([lambda: Op(lambda x: F.cross_entropy(x, LABELS, label_smoothing=0.1), [torch.rand(4096, 1000)])],
                                 [*OP, "--only", "loss", "--filter", "cross_entropy 4096x1000"]),
    "Ranger, MXResNet50's parameters": ([OptimizerStep], ["optimizer", "--model", "mxresnet50", "--threads", args.threads,
                                                          "--seconds", 0.2]),
}


def weft_milliseconds(flags):
    rows = report.weft_rows(args.weft, *flags)
    if flags[0] == "optimizer":
        return {"step": next(r["milliseconds"] for r in rows if r["optimizer"] == "ranger")}
    wanted = flags[-1]  # the filter; it also finds ops that have it in their names
    return {row["pass"]: row["milliseconds"] for row in rows if f"{row['op']} {row['shape']}".startswith(wanted)}


def torch_milliseconds(candidate):
    samples = [candidate.run() for _ in range(args.repeats)]
    return {key: 1e3 * statistics.median(s[key] for s in samples) for key in samples[0]}


def main():
    rows = []
    for name, (makers, flags) in CASES.items():
        candidates = [make() for make in makers]
        for candidate in candidates:
            candidate.run()
        weft, torch_ = [], [[] for _ in candidates]
        for _ in range(args.rounds):
            weft.append(weft_milliseconds(flags))
            for results, candidate in zip(torch_, candidates):
                results.append(torch_milliseconds(candidate))
        for key in weft[0]:
            ours = statistics.median(r[key] for r in weft)
            theirs = min(statistics.median(r[key] for r in results) for results in torch_)
            rows.append({"op": name, "pass": key, "weft ms": ours, "PyTorch ms": theirs, "weft's speed over it": theirs / ours})
    title = (f"Single ops, {args.threads} threads; {report.machine()}; {report.weft_version(args.weft)}, PyTorch {torch.__version__}; "
             f"medians of {args.rounds} rounds in turns")
    report.print_table(title, {"op": "", "pass": "", "weft ms": ".2f", "PyTorch ms": ".2f", "weft's speed over it": ".2f"}, rows,
                       args.json)


if __name__ == "__main__":
    main()
