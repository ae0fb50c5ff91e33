#!/usr/bin/env python3
"""Ops off the models' path beside PyTorch: thin matrices, odd channels, single images, broadcasts, copies; in turns.

    cmake -B build -DWEFT_COMPARE=ON && cmake --build build --target odd_shapes
    tests/compare/odd_shapes.py --program build/tests/compare/odd_shapes [--filter matmul]

Of images PyTorch gets both layouts, the better counts. The slowest of weft's come first. Needs torch; nothing else.
"""

import functools
import statistics
import subprocess

import report

# As odd_shapes.cpp reads them: images NHWC, filters OHWI (IHWO of a transposed convolution).
CASES = """
conv2d 1,56,56,64 64,3,3,64 padding=1
conv2d 1,7,7,512 512,3,3,512 padding=1
conv2d 1,56,56,256 64,1,1,256
conv2d 8,224,224,3 64,7,7,3 stride=2 padding=3
conv2d 8,29,29,17 33,3,3,17 padding=1
conv2d 64,28,28,1 6,5,5,1 padding=2
conv2d 64,14,14,6 16,5,5,6
conv2d 8,32,32,64 64,3,3,64 padding=2 dilation=2
conv2d 8,28,28,128 128,3,3,4 padding=1 groups=32
conv2d 8,56,56,96 96,7,7,1 padding=3 groups=96
conv2d 8,14,14,240 240,5,5,1 padding=2 groups=240
conv2d 8,224,224,3 192,16,16,3 stride=16
conv2d 8,17,17,128 128,1,7,128
conv2d 8,56,56,256 512,1,1,256 stride=2
conv2d 8,128,128,64 3,3,3,64 padding=1
conv2d 8,224,224,3 64,3,3,3 padding=1
conv1d 8,1000,64 64,9,64 padding=4
conv_transpose2d 8,28,28,128 128,2,2,64 stride=2
conv_transpose2d 8,64,64,64 64,4,4,3 stride=2
matmul 1,1024 1024,1024
matmul 8,1024 1024,1024
matmul 1024,1024 1024,1
matmul 37,53 53,61
matmul 512,512 512,512
matmul 64,100000 100000,64
matmul 100000,32 32,32
matmul 100000,3 3,7
linear 1,512 10,512 10
linear 64,784 256,784 256
linear 32,2048 1000,2048 1000
bmm 96,128,64 96,64,128
bmm 1024,8,8 1024,8,8
bmm 4096,3,3 4096,3,3
add 1000 1000
add 4194304 4194304
add 256,1024,16 16
add 64,1,256 1,64,256
mul 4096,1024 4096,1
mul 64,1,1,128 64,28,28,128
div 1048576 1048576
maximum 1048576 1048576
exp 1048576
gelu 1048576
silu 1048576
mish 1048576
sum 4096,1024 dim=0
sum 4096,1024 dim=1
sum 64,784,64 dim=1
mean 1048576,5 dim=1
amax 4096,1024 dim=1
softmax 4096,1000
softmax 65536,10
softmax 64,50257
log_softmax 4096,1000
cross_entropy 4096,1000
cross_entropy 512,50257
mse_loss 1048576 1048576
layer_norm 4096,768
layer_norm 100352,96
layer_norm 65536,10
group_norm 8,28,28,256 groups=32
group_norm 8,64,64,32 groups=32
permute 32,64,64,64 order=0312
permute 32,128,8,32 order=0213
permute 2048,2048 order=10
cat 200000,3 200000,5 dim=1
cat 32,32,32,64 32,32,32,64 dim=3
cat 1024,1024 1024,1024 dim=0
narrow 1024,4096 dim=1 start=1000 length=1000
max_pool2d 32,64,64,64 kernel=3 stride=2 padding=1
max_pool2d 64,28,28,6
avg_pool2d 32,64,64,64
dropout 4194304
sin 1048576
var 4096,1024 dim=1
var 4096,1024 dim=0
logsumexp 4096,1000 dim=1
cumsum 4096,1024 dim=1
cumsum 4096,1024 dim=0
cumsum 1048576 dim=0
sort 4096,1000 dim=1
sort 1000,4096 dim=0
sort 65536,10 dim=1
sort 1048576 dim=0
topk 4096,1000 k=5 dim=1
topk 64,50257 k=50 dim=1
topk 1048576 k=1000 dim=0
gather 4096,1000 dim=1 count=1
gather 4096,1000 dim=1 count=500
gather 1024,1024 dim=0 count=512
gather 1048576 dim=0 count=1048576
index_select 30000,512 dim=0 count=8192
index_select 64,1000,64 dim=1 count=500
index_select 1048576 dim=0 count=1048576
qk 8,128,4,32 8,128,4,32
attention 8,4,128,32 8,4,128,32 8,4,128,32
attention 2,12,512,64 2,12,512,64 2,12,512,64
"""


def parse():
    parser = report.parser(__doc__, rounds=3)
    parser.add_argument("--program", default="build/tests/compare/odd_shapes")
    parser.add_argument("--filter", default="", help="only cases with this text")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each case, program and round")
    return parser.parse_args()


args = parse()

import torch  # noqa: E402  (after the flags, so that --help is quick and needs no torch)
from torch.nn import functional as F  # noqa: E402

from pytorch_model import seconds_of  # noqa: E402

torch.set_num_threads(args.threads)


def labels(x):
    return torch.arange(x.shape[0]) * 7919 % x.shape[1]


@functools.cache
def index_of(sizes, dim, count, for_each):
    """As index_for() of odd_shapes.cpp."""
    shape = [*sizes]
    shape[dim] = count
    if not for_each:
        shape = [count]
    return (torch.arange(torch.Size(shape).numel()) * 7919 % sizes[dim]).view(shape)


def index(x, o, for_each):
    return index_of(tuple(x.shape), o["dim"], o["count"], for_each)


def options(o, *names):
    return {name: o[name] for name in names if name in o}


CONV = ("stride", "padding", "dilation", "groups")
OPS = {
    "conv2d": lambda t, o: F.conv2d(*t, **options(o, *CONV)),
    "conv1d": lambda t, o: F.conv1d(*t, **options(o, *CONV)),
    "conv_transpose2d": lambda t, o: F.conv_transpose2d(*t, **options(o, "stride")),
    "linear": lambda t, o: F.linear(*t),
    "sum": lambda t, o: t[0].sum(o["dim"]),
    "mean": lambda t, o: t[0].mean(o["dim"]),
    "amax": lambda t, o: t[0].amax(o["dim"]),
    "softmax": lambda t, o: F.softmax(t[0], -1),
    "log_softmax": lambda t, o: F.log_softmax(t[0], -1),
    "cross_entropy": lambda t, o: F.cross_entropy(t[0], labels(t[0])),
    "mse_loss": lambda t, o: F.mse_loss(*t),
    "layer_norm": lambda t, o: F.layer_norm(t[0], t[0].shape[-1:]),
    "group_norm": lambda t, o: F.group_norm(t[0], o["groups"]),
    "permute": lambda t, o: t[0].permute(*map(int, o["order"])).contiguous(),
    "cat": lambda t, o: torch.cat(t, o["dim"]),
    "narrow": lambda t, o: t[0].narrow(o["dim"], o["start"], o["length"]).contiguous(),
    "max_pool2d": lambda t, o: F.max_pool2d(t[0], o.get("kernel", 2), o.get("stride"), o.get("padding", 0)),
    "avg_pool2d": lambda t, o: F.avg_pool2d(t[0], o.get("kernel", 2)),
    "dropout": lambda t, o: F.dropout(t[0], 0.5),
    "attention": lambda t, o: F.scaled_dot_product_attention(*t),
    "var": lambda t, o: t[0].var(o["dim"]),
    "logsumexp": lambda t, o: t[0].logsumexp(o["dim"]),
    "cumsum": lambda t, o: t[0].cumsum(o["dim"]),
    "sort": lambda t, o: t[0].sort(o["dim"]).values,
    "topk": lambda t, o: t[0].topk(o["k"], o["dim"]).values,
    "gather": lambda t, o: t[0].gather(o["dim"], index(t[0], o, True)),
    "index_select": lambda t, o: t[0].index_select(o["dim"], index(t[0], o, False)),
    "qk": lambda t, o: torch.einsum("bqhd,bkhd->bhqk", *t),
    "gelu": lambda t, o: F.gelu(t[0]),
    "silu": lambda t, o: F.silu(t[0]),
    "mish": lambda t, o: F.mish(t[0]),
}
IMAGES = {"conv2d", "conv_transpose2d", "group_norm", "max_pool2d", "avg_pool2d"}
SEQUENCES = {"conv1d"}


class Case:
    def __init__(self, line):
        self.line = line
        self.op, *words = line.split()
        self.shapes = [tuple(map(int, w.split(","))) for w in words if "=" not in w]
        pairs = [w.split("=") for w in words if "=" in w]
        self.options = {k: v if k == "order" else int(v) for k, v in pairs}
        self.f = OPS.get(self.op) or (lambda t, o: getattr(torch, self.op)(*t))

    def inputs(self, layout):
        made = []
        for shape in self.shapes:
            x = torch.rand(shape) * 2 - 1
            if self.op in IMAGES:
                x = x.permute(0, 3, 1, 2).contiguous(memory_format=layout)
            elif self.op in SEQUENCES:
                x = x.permute(0, 2, 1).contiguous()
            made.append(x.requires_grad_())
        return made

    def milliseconds(self, layout):
        inputs = self.inputs(layout)
        with torch.no_grad():
            grad = torch.ones_like(self.f(inputs, self.options))
        forward, backward, spent = [], [], 0
        while len(forward) < 5 or (spent < args.seconds and len(forward) < 500):
            with torch.no_grad():
                forward.append(seconds_of(lambda: self.f(inputs, self.options)))
            out = []
            spent += forward[-1] + seconds_of(lambda: out.append(self.f(inputs, self.options)))
            backward.append(seconds_of(lambda: out[0].backward(grad)))
            spent += backward[-1]
            for x in inputs:
                x.grad = None
        return 1e3 * statistics.median(forward), 1e3 * statistics.median(backward)


def weft_milliseconds(cases):
    out = subprocess.run([args.program, str(args.seconds), str(args.threads)], input="".join(c.line + "\n" for c in cases), check=True,
                         capture_output=True, text=True).stdout
    return [tuple(map(float, line.split())) for line in out.splitlines()]


def main():
    cases = [Case(line) for line in CASES.split("\n") if line and args.filter in line]
    ours, theirs = [], []
    for _ in range(args.rounds):
        ours.append(weft_milliseconds(cases))
        layouts = (torch.contiguous_format, torch.channels_last)
        theirs.append([tuple(map(min, zip(*(c.milliseconds(x) for x in layouts[: 2 if c.op in IMAGES else 1])))) for c in cases])
    rows = []
    for i, case in enumerate(cases):
        for k, name in enumerate(("forward", "backward")):
            a, b = (statistics.median(r[i][k] for r in rounds) for rounds in (ours, theirs))
            rows.append({"op": case.line, "pass": name, "weft ms": a, "PyTorch ms": b, "weft's speed over it": b / a})
    rows.sort(key=lambda r: r["weft's speed over it"])
    ratios = [r["weft's speed over it"] for r in rows]
    title = (f"Ops off the models' path, {args.threads} threads; {report.machine()}; PyTorch {torch.__version__}; medians of {args.rounds} rounds "
             f"in turns; weft's speed over PyTorch's: median {statistics.median(ratios):.2f}, at least 1 in {sum(r >= 1 for r in ratios)} of {len(ratios)}")
    report.print_table(title, {"op": "", "pass": "", "weft ms": ".3f", "PyTorch ms": ".3f", "weft's speed over it": ".2f"}, rows, args.json)


if __name__ == "__main__":
    main()
