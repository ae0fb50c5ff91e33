"""Reference values of every op, forward and backward, computed by PyTorch in double precision.

The functions here take and give weft's layout (images NHWC, weights OHWI) and turn to PyTorch's inside, so that autograd
hands the gradients back in weft's layout too.
"""

import itertools

import numpy as np
import torch
import torch.nn.functional as F

from golden_file import GoldenFile, hash_words, normals, rounded

ACTIVATIONS = {
    "identity": lambda x, p: x * 1,
    "relu": lambda x, p: F.relu(x),
    "mish": lambda x, p: F.mish(x),
    "silu": lambda x, p: F.silu(x),
    "sigmoid": lambda x, p: torch.sigmoid(x),
    "tanh": lambda x, p: torch.tanh(x),
    # PyTorch cuts over to x at the threshold; its default of 20 is visible in double precision.
    "softplus": lambda x, p: F.softplus(x, threshold=100),
    "leaky_relu": lambda x, p: F.leaky_relu(x, 0.01 if p is None else p),
    "elu": lambda x, p: F.elu(x, 1 if p is None else p),
    "gelu": lambda x, p: F.gelu(x),
    "gelu_tanh": lambda x, p: F.gelu(x, approximate="tanh"),
    "celu": lambda x, p: F.celu(x, 1 if p is None else p),
    "hardshrink": lambda x, p: F.hardshrink(x, 0.5 if p is None else p),
    # F.hardsigmoid takes 1/6 in float on the way back, and F.celu 1 / alpha: hence the division and an alpha of 0.5.
    "hardsigmoid": lambda x, p: F.relu6(x + 3) / 6,
    "hardswish": lambda x, p: F.hardswish(x),
    "hardtanh": lambda x, p: F.hardtanh(x, *((-1, 1) if p is None else (-p, p))),
    "logsigmoid": lambda x, p: F.logsigmoid(x),
    "relu6": lambda x, p: F.relu6(x),
    "selu": lambda x, p: F.selu(x),
    "softshrink": lambda x, p: F.softshrink(x, 0.5 if p is None else p),
    "softsign": lambda x, p: F.softsign(x),
    "tanhshrink": lambda x, p: F.tanhshrink(x),
}


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


class OpsFile(GoldenFile):
    def put_result(self, name, value):
        """A result: small ones in double precision, so that the f64 run is compared to 1e-12, larger ones as floats."""
        self.put(name, value, np.float64 if value.numel() <= 96 else np.float32)

    def values(self, case, name, shape):
        return rounded(normals(f"{case}/{name}", shape))

    def positive(self, case, name, shape):
        return rounded(0.25 + np.abs(normals(f"{case}/{name}", shape)))

    def case(self, case, op, inputs, f, /, after=(), constants=(), **attributes):
        """Runs out = f(**inputs), sends a random gradient back and stores all of it.

        inputs: tensors, or shapes to be filled with normals. Gradients are stored of all floating inputs but `constants`;
        the inputs named in `after` are changed in place by f, and their new values are stored.
        """
        self.describe(case, op, **attributes)
        tensors = {}
        for name, value in inputs.items():
            t = value if isinstance(value, torch.Tensor) else self.values(case, name, value)
            self.put(f"{case}/{name}", t, np.float32)
            tensors[name] = t.clone().requires_grad_(t.is_floating_point() and name not in constants and name not in after)
        out = f(**tensors)
        self.put_result(f"{case}/out", out)
        if out.requires_grad:
            grad_out = self.values(case, "grad_out", tuple(out.shape))
            self.put(f"{case}/grad_out", grad_out, np.float32)
            out.backward(grad_out)
            for name, t in tensors.items():
                if t.requires_grad:
                    self.put_result(f"{case}/grad.{name}", torch.zeros_like(t) if t.grad is None else t.grad)
        for name in after:
            self.put_result(f"{case}/after.{name}", tensors[name])


def elementwise(file):
    shapes = [((3, 5, 7), (3, 5, 7)), ((3, 5, 7), (7,)), ((5, 7), (3, 1, 1)), ((3, 1, 7), (5, 1)), ((3, 5, 7), (3, 5, 1)),
              ((), (5, 7)), ((5, 7), ()), ((2, 1, 3, 1), (2, 5, 1, 7)), ((67,), (67,))]
    binary = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "maximum": torch.maximum,
              "minimum": torch.minimum}
    for (op, f), (i, (sa, sb)) in itertools.product(binary.items(), enumerate(shapes)):
        name = f"{op}.{i}"
        a, b = file.values(name, "a", sa), file.values(name, "b", sb)
        if op == "div":
            b = torch.copysign(file.positive(name, "b", sb), b)
        file.case(name, op, {"a": a, "b": b}, lambda a, b: f(a, b))
    for op in ("maximum", "minimum"):  # ties share the gradient
        a = file.values(f"{op}.ties", "a", (5, 7)).round()
        b = file.values(f"{op}.ties", "b", (5, 7)).round()
        file.case(f"{op}.ties", op, {"a": a, "b": b}, lambda a, b: binary[op](a, b))

    unary = {"neg": torch.neg, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "square": torch.square,
             "abs": torch.abs, "reciprocal": torch.reciprocal, "sin": torch.sin, "cos": torch.cos}
    for op, f in unary.items():
        make = file.positive if op in ("log", "sqrt", "reciprocal") else file.values
        x = make(op, "x", (3, 5, 7))
        if op == "abs":
            x[0, 0, 0] = 0
        file.case(op, op, {"x": x}, lambda x: f(x))
    file.case("affine", "affine", {"x": (3, 5, 7)}, lambda x: 2.5 * x - 0.75, scale=2.5, shift=-0.75)
    scalar = {"x_plus_c": lambda x, c: x + c, "c_plus_x": lambda x, c: c + x, "x_minus_c": lambda x, c: x - c,
              "c_minus_x": lambda x, c: c - x, "x_times_c": lambda x, c: x * c, "c_times_x": lambda x, c: c * x,
              "x_over_c": lambda x, c: x / c, "c_over_x": lambda x, c: c / x}
    for op, f in scalar.items():
        file.case(op, op, {"x": file.positive(op, "x", (5, 7))}, lambda x: f(x, 1.75), c=1.75)


def activations(file):
    ranges = {"near": 1.5, "far": 10}
    for name, f in ACTIVATIONS.items():
        for label, scale in ranges.items():
            case = f"activation.{name}.{label}"
            x = rounded(scale * normals(f"{case}/x", (3, 5, 7)))
            x[1, 2, 3] = 0
            file.case(case, "activation", {"x": x}, lambda x: f(x, None), name=name)
    for name, param in (("leaky_relu", 0.2), ("elu", 0.7), ("celu", 0.5), ("hardshrink", 0.3), ("hardtanh", 0.8),
                        ("softshrink", 0.3)):
        file.case(f"activation.{name}.param", "activation", {"x": (5, 7)}, lambda x: ACTIVATIONS[name](x, param), name=name,
                  param=param)
        if name in ("leaky_relu", "elu"):  # which have functions of their own
            file.case(f"{name}.param", name, {"x": (5, 7)}, lambda x: ACTIVATIONS[name](x, param), param=param)
    for name in ("relu", "mish", "silu", "sigmoid", "tanh", "softplus", "leaky_relu", "elu", "gelu"):
        file.case(name, name, {"x": (5, 7)}, lambda x: ACTIVATIONS[name](x, None))


def reductions(file):
    ops = {"sum": torch.sum, "mean": torch.mean, "amax": torch.amax, "amin": torch.amin}
    dims = [((2, 3, 5, 2), ()), ((2, 3, 5, 2), (-1,)), ((2, 3, 5, 2), (0,)), ((2, 3, 5, 2), (1, 2)), ((2, 3, 5, 2), (0, 2)),
            ((2, 3, 5, 2), (0, 3)), ((67,), (0,)), ((2, 67), (1,)), ((67, 2), (0,))]
    for (op, f), (i, (shape, d)), keep in itertools.product(ops.items(), enumerate(dims), (False, True)):
        name = f"{op}.{i}{'.keepdim' if keep else ''}"
        x = file.values(name, "x", shape)
        if op in ("amax", "amin"):
            x = (2 * x).round() / 2  # many ties
        file.case(name, op, {"x": x}, lambda x: f(x, dim=d or tuple(range(x.ndim)), keepdim=keep),
                  dims=",".join(map(str, d)), keepdim=keep)
    for i, shape in enumerate([(5, 7), (2, 3, 4), (67,)]):
        x = (2 * file.values(f"argmax.{i}", "x", shape)).round()
        # NumPy's argmax is defined as the first of equal ones.
        file.case(f"argmax.{i}", "argmax", {"x": x}, lambda x: torch.from_numpy(np.asarray(x.numpy().argmax(-1))),
                  constants=("x",))


def spreads(file):
    spread = {"var": torch.var, "std": torch.std}
    dims = [((2, 3, 5, 2), (0, 1, 2, 3)), ((2, 3, 5, 2), (-1,)), ((2, 3, 5, 2), (0, 2)), ((67,), (0,)), ((67, 2), (0,))]
    for i, (shape, d) in enumerate(dims):
        listed = ",".join(map(str, d))
        for (op, f), correction, keep in itertools.product(spread.items(), (0, 1), (False, True)):
            file.case(f"{op}.{i}.{correction}{'.keepdim' if keep else ''}", op, {"x": shape},
                      lambda x: f(x, dim=d, correction=correction, keepdim=keep), dims=listed, keepdim=keep,
                      correction=correction)
        for keep in (False, True):
            x = 3 * file.values(f"logsumexp.{i}.{keep}", "x", shape)
            file.case(f"logsumexp.{i}{'.keepdim' if keep else ''}", "logsumexp", {"x": rounded(x.numpy())},
                      lambda x: torch.logsumexp(x, d, keepdim=keep), dims=listed, keepdim=keep)


def order(file):
    def places(case, shape, size):
        return torch.from_numpy((hash_words(case, int(np.prod(shape))) % np.uint64(size)).astype(np.int64).reshape(shape))

    for i, (shape, dim) in enumerate([((3, 5, 7), -1), ((3, 5, 7), 0), ((3, 5, 7), 1), ((67,), 0), ((2, 67), -1)]):
        file.case(f"cumsum.{i}", "cumsum", {"x": shape}, lambda x: x.cumsum(dim), dim=dim)
        ties = (2 * file.values(f"sort.{i}", "x", shape)).round() / 2
        for descending in (False, True):
            name = f"{i}{'.descending' if descending else ''}"
            file.case(f"sort.{name}", "sort", {"x": ties},
                      lambda x: x.sort(dim=dim, descending=descending, stable=True).values, dim=dim, descending=descending)
            file.case(f"argsort.{name}", "argsort", {"x": ties},
                      lambda x: x.argsort(dim=dim, descending=descending, stable=True), constants=("x",), dim=dim,
                      descending=descending)
            file.case(f"topk.{name}", "topk", {"x": shape}, lambda x: x.topk(2, dim, largest=descending).values, dim=dim,
                      largest=descending)
            file.case(f"topk_indices.{name}", "topk_indices", {"x": shape},
                      lambda x: x.topk(2, dim, largest=descending).indices, constants=("x",), dim=dim, largest=descending)
        # Without ties: which of equal ones PyTorch names is not laid down.
        file.case(f"argmax_dim.{i}", "argmax_dim", {"x": shape}, lambda x: x.argmax(dim), constants=("x",), dim=dim)
        file.case(f"argmin_dim.{i}", "argmin_dim", {"x": shape}, lambda x: x.argmin(dim), constants=("x",), dim=dim)

        chosen = shape[:dim % len(shape)] + (4,) + shape[dim % len(shape) + 1:]
        index = places(f"gather.{i}", chosen, shape[dim])
        file.case(f"gather.{i}", "gather", {"x": shape, "index": index}, lambda x, index: x.gather(dim, index), dim=dim)
        file.case(f"index_select.{i}", "index_select", {"x": shape, "index": places(f"select.{i}", (6,), shape[dim])},
                  lambda x, index: x.index_select(dim, index), dim=dim)
        file.case(f"scatter_add.{i}", "scatter_add", {"x": shape, "index": index, "src": chosen},
                  lambda x, index, src: x.scatter_add(dim, index, src), dim=dim)


def einsums(file):
    cases = {
        "bqd,bkd->bqk": ((2, 3, 5), (2, 4, 5)), "bqhd,bkhd->bhqk": ((2, 3, 4, 5), (2, 6, 4, 5)), "ij,jk": ((3, 5), (5, 4)),
        "ji,jk->ki": ((5, 3), (5, 4)), "ij,ij->": ((3, 5), (3, 5)), "ij,ij->ij": ((3, 5), (3, 5)), "i,j->ji": ((3,), (4,)),
        "ijk->ki": ((2, 3, 5),), "ba": ((2, 3),), "i,i": ((7,), (7,)), "bij,jk,kl->bil": ((2, 3, 4), (4, 5), (5, 3)),
        "ia,jb,kc,abc->ijk": ((3, 2), (4, 3), (2, 5), (2, 3, 5)), "ijx,jky->ik": ((2, 3, 4), (3, 5, 2)), "b,b->b": ((5,), (5,)),
    }
    for i, (equation, shapes) in enumerate(cases.items()):
        file.case(f"einsum.{i}", "einsum", {f"x{j}": s for j, s in enumerate(shapes)},
                  lambda **x: torch.einsum(equation, *x.values()), equation=equation, count=len(shapes))


def matrices(file):
    for ta, tb in itertools.product((False, True), repeat=2):
        def product(a, b):
            return torch.matmul(a.mT if ta else a, b.mT if tb else b)
        suffix = f"{'t' if ta else 'n'}{'t' if tb else 'n'}"
        for i, (m, k, n) in enumerate([(5, 7, 3), (33, 17, 35), (1, 9, 1)]):
            a, b = (k, m) if ta else (m, k), (n, k) if tb else (k, n)
            file.case(f"matmul.{suffix}.{i}", "matmul", {"a": a, "b": b}, product, transpose_a=ta, transpose_b=tb)
        a, b = (7, 5) if ta else (5, 7), (3, 7) if tb else (7, 3)
        for label, pa, pb in (("both", (4,), (4,)), ("one_a", (), (4,)), ("one_b", (4,), ())):
            file.case(f"bmm.{suffix}.{label}", "bmm", {"a": pa + a, "b": pb + b}, product, transpose_a=ta, transpose_b=tb)
    for label, shape in (("2d", (5, 7)), ("3d", (2, 3, 7)), ("4d", (2, 1, 3, 7)), ("1d", (7,))):
        file.case(f"linear.{label}", "linear", {"x": shape, "weight": (4, 7), "bias": (4,)}, F.linear)
        file.case(f"linear.{label}.no_bias", "linear", {"x": shape, "weight": (4, 7)}, F.linear)


def convolutions(file):
    #        x             weight (OHWI)   stride pad dilation groups bias
    cases = {
        "plain": ((2, 5, 7, 3), (4, 3, 3, 3), 1, 0, 1, 1, True),
        "no_bias": ((2, 5, 7, 3), (4, 3, 3, 3), 1, 1, 1, 1, False),
        "stride": ((2, 9, 6, 3), (5, 3, 3, 3), 2, 1, 1, 1, True),
        "stride_3": ((1, 11, 8, 2), (3, 3, 3, 2), 3, 2, 1, 1, True),
        "dilation": ((2, 8, 9, 3), (4, 3, 3, 3), 1, 2, 2, 1, True),
        "dilation_stride": ((2, 11, 9, 2), (3, 3, 3, 2), 2, 1, 3, 1, False),
        "groups": ((2, 6, 5, 6), (9, 3, 3, 2), 1, 1, 1, 3, True),
        "groups_stride": ((2, 7, 6, 4), (6, 3, 3, 2), 2, 1, 1, 2, False),
        "depthwise": ((2, 6, 7, 5), (5, 3, 3, 1), 1, 1, 1, 5, True),
        "depthwise_2": ((2, 6, 7, 3), (6, 3, 3, 1), 2, 1, 1, 3, True),
        "pointwise": ((2, 5, 4, 7), (6, 1, 1, 7), 1, 0, 1, 1, True),
        "pointwise_no_bias": ((2, 5, 4, 7), (6, 1, 1, 7), 1, 0, 1, 1, False),
        "pointwise_stride": ((2, 5, 6, 7), (3, 1, 1, 7), 2, 0, 1, 1, True),
        "pointwise_padded": ((1, 4, 3, 3), (2, 1, 1, 3), 1, 1, 1, 1, True),
        "wide_kernel": ((2, 7, 8, 2), (3, 3, 5, 2), 1, 2, 1, 1, True),
        "even_kernel": ((2, 6, 7, 3), (2, 2, 4, 3), 2, 1, 1, 1, True),
        "whole_image": ((3, 4, 5, 2), (6, 4, 5, 2), 1, 0, 1, 1, True),
        "one_pixel": ((2, 1, 1, 3), (4, 3, 3, 3), 1, 1, 1, 1, True),
        "unread_edge": ((1, 8, 8, 2), (3, 3, 3, 2), 3, 0, 1, 1, False),
        "channels_16": ((1, 6, 5, 16), (16, 3, 3, 16), 1, 1, 1, 1, False),
        "channels_17": ((1, 5, 6, 17), (19, 3, 3, 17), 1, 1, 1, 1, True),
        "channels_33_stride": ((2, 6, 7, 9), (33, 3, 3, 9), 2, 1, 1, 1, True),
    }
    for label, (x, weight, stride, padding, dilation, groups, bias) in cases.items():
        inputs = {"x": x, "weight": weight} | ({"bias": (weight[0],)} if bias else {})
        file.case(f"conv2d.{label}", "conv2d", inputs,
                  lambda x, weight, bias=None: nhwc(F.conv2d(nchw(x), nchw(weight), bias, stride, padding, dilation, groups)),
                  stride=stride, padding=padding, dilation=dilation, groups=groups)


def pools(file):
    #                       x     kernel stride padding ceil_mode
    sizes = [((2, 6, 8, 3), 2, 0, 0, False), ((2, 7, 9, 3), 3, 2, 1, False), ((2, 7, 5, 3), 2, 0, 0, False),
             ((2, 7, 5, 3), 2, 0, 0, True), ((2, 8, 7, 2), 3, 2, 0, True), ((2, 8, 7, 2), 3, 2, 1, True),
             ((1, 5, 6, 4), 3, 1, 1, False), ((1, 6, 7, 17), 2, 3, 1, True), ((1, 9, 8, 2), 4, 3, 2, True),
             ((1, 1, 3, 2), 2, 2, 0, True), ((1, 5, 7, 16), 5, 4, 2, False)]
    for i, (x, kernel, stride, padding, ceil_mode) in enumerate(sizes):
        common = dict(kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)
        args = dict(kernel_size=kernel, stride=stride or None, padding=padding, ceil_mode=ceil_mode)
        file.case(f"max_pool2d.{i}", "max_pool2d", {"x": x}, lambda x: nhwc(F.max_pool2d(nchw(x), **args)), **common)
        for count in (True, False):
            file.case(f"avg_pool2d.{i}{'' if count else '.no_pad'}", "avg_pool2d", {"x": x},
                      lambda x: nhwc(F.avg_pool2d(nchw(x), **args, count_include_pad=count)), **common,
                      count_include_pad=count)
    negative = -file.positive("max_pool2d.negative", "x", (1, 5, 5, 2))  # the padding must not win
    file.case("max_pool2d.negative", "max_pool2d", {"x": negative}, lambda x: nhwc(F.max_pool2d(nchw(x), 3, 2, 1)), kernel=3,
              stride=2, padding=1, ceil_mode=False)
    file.case("global_avg_pool", "global_avg_pool", {"x": (3, 5, 7, 4)}, lambda x: x.mean((1, 2)))


def batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps, act, param, residual=None):
    channels_first = x.movedim(-1, 1)
    z = F.batch_norm(channels_first, running_mean, running_var, weight, bias, training, momentum, eps).movedim(1, -1)
    return ACTIVATIONS[act](z if residual is None else z + residual, param)


def batch_norms(file):
    def case(name, shape, training=True, momentum=0.1, eps=1e-5, act="identity", param=None, residual=False, batches=1):
        c = shape[-1]
        xs = {f"x{i}" if i + 1 < batches else "x": shape for i in range(batches)}
        inputs = {key: rounded(1.5 + (2 + i) * normals(f"{name}/{key}", s)) for i, (key, s) in enumerate(xs.items())}
        inputs["weight"] = torch.copysign(file.positive(name, "weight", (c,)), file.values(name, "sign", (c,)))
        inputs["bias"] = file.values(name, "bias", (c,))
        inputs["running_mean"] = 1 + file.values(name, "running_mean", (c,))
        inputs["running_var"] = file.positive(name, "running_var", (c,))
        inputs = {key: rounded(t.numpy()) for key, t in inputs.items()}
        if residual:
            inputs["residual"] = file.values(name, "residual", shape)

        def f(weight, bias, running_mean, running_var, residual=None, **x):
            for batch in xs:
                y = batch_norm(x[batch], weight, bias, running_mean, running_var, training, momentum, eps, act, param,
                               residual)
            return y
        file.case(name, "batch_norm", inputs, f, after=("running_mean", "running_var"), constants=tuple(xs)[:-1], training=training,
                  momentum=momentum, eps=eps, activation=act, **({} if param is None else {"param": param}), batches=batches)

    case("batch_norm.train", (3, 4, 5, 7))
    case("batch_norm.eval", (3, 4, 5, 7), training=False)
    case("batch_norm.rows", (11, 6))
    case("batch_norm.rows_eval", (11, 6), training=False)
    case("batch_norm.options", (2, 3, 5, 4), momentum=0.3, eps=1e-2)
    case("batch_norm.wide", (2, 3, 2, 35))
    case("batch_norm.three_batches", (2, 3, 5, 4), batches=3)
    case("batch_norm.three_batches_eval", (2, 3, 5, 4), training=False, batches=3)
    for act in ACTIVATIONS:
        for training, residual in itertools.product((True, False), repeat=2):
            mode = ("train" if training else "eval") + ("_residual" if residual else "")
            case(f"batch_norm.{act}.{mode}", (2, 3, 5, 3), training=training, act=act, residual=residual)
    for act, param in (("leaky_relu", 0.2), ("elu", 0.7)):
        case(f"batch_norm.{act}.param", (2, 3, 5, 3), act=act, param=param, residual=True)


def losses(file):
    for i, (shape, scale) in enumerate([((5, 7), 1), ((2, 3, 11), 1), ((4, 67), 1), ((5, 7), 5), ((3, 1), 1), ((9,), 1)]):
        for op, f in (("softmax", torch.softmax), ("log_softmax", torch.log_softmax)):
            x = rounded(scale * normals(f"{op}.{i}/x", shape))
            file.case(f"{op}.{i}", op, {"x": x}, lambda x: f(x, -1))
    for smoothing, (rows, classes) in itertools.product((0.0, 0.1, 1.0), ((5, 7), (3, 10))):
        name = f"cross_entropy.{rows}x{classes}.{smoothing}"
        labels = torch.from_numpy((hash_words(name, rows) % np.uint64(classes)).astype(np.int64))
        soft = rounded(torch.softmax(torch.from_numpy(normals(f"{name}/target", (rows, classes))), -1).numpy())
        for label, target in (("labels", labels), ("soft", soft)):
            file.case(f"{name}.{label}", "cross_entropy", {"logits": rounded(3 * normals(f"{name}/x", (rows, classes))), "target": target},
                      lambda logits, target: F.cross_entropy(logits, target, label_smoothing=smoothing),
                      constants=("target",), label_smoothing=smoothing)
    file.case("mse_loss", "mse_loss", {"x": (3, 5, 7), "target": (3, 5, 7)}, lambda x, target: F.mse_loss(x, target))


def movement(file):
    for dim, shapes in ((0, ((2, 3, 5), (1, 3, 5), (4, 3, 5))), (1, ((2, 3, 5), (2, 1, 5), (2, 7, 5))),
                        (-1, ((2, 3, 5), (2, 3, 1), (2, 3, 8))), (0, ((3,),))):
        file.case(f"concat.{dim}.{len(shapes)}", "concat", {f"x{i}": s for i, s in enumerate(shapes)},
                  lambda **x: torch.cat(list(x.values()), dim), dim=dim, count=len(shapes))
    for order in ((1, 0), (2, 0, 1), (0, 3, 1, 2), (0, 2, 3, 1), (3, 2, 1, 0), (0, 1, 2)):
        shape = (2, 3, 5, 4)[:len(order)]
        text = ",".join(map(str, order))
        file.case(f"permute.{text}", "permute", {"x": shape}, lambda x: x.permute(order), order=text)
    for shape, sizes in (((3, 4, 5), (5, 12)), ((3, 4, 5), (-1,)), ((6,), (2, -1, 1)), ((2, 3), (3, 2))):
        text = ",".join(map(str, sizes))
        file.case(f"reshape.{text}", "reshape", {"x": shape}, lambda x: x.reshape(sizes), sizes=text)
    for start in (0, 1, 2):
        file.case(f"flatten.{start}", "flatten", {"x": (2, 3, 5, 4)}, lambda x: x.flatten(start), start=start)


def interpolations(file):
    sizes = [((2, 3, 5, 2), dict(scale=2)), ((1, 3, 4, 3), dict(scale=3)), ((2, 5, 7, 2), dict(scale=1.5)), ((1, 7, 6, 2), dict(scale=0.6)),
             ((1, 5, 3, 2), dict(size=(8, 7))), ((2, 6, 5, 1), dict(size=(3, 5))), ((1, 1, 4, 2), dict(size=(3, 1)))]
    for i, (x, how) in enumerate(sizes):
        args = {"scale_factor": how["scale"]} if "scale" in how else {"size": how["size"]}
        attributes = {k: ",".join(map(str, v)) if k == "size" else v for k, v in how.items()}
        file.case(f"interpolate.{i}.nearest", "interpolate", {"x": x}, lambda x: nhwc(F.interpolate(nchw(x), **args)), mode="nearest",
                  align_corners=False, **attributes)
        for corners in (False, True):
            file.case(f"interpolate.{i}.bilinear{'.corners' if corners else ''}", "interpolate", {"x": x},
                      lambda x: nhwc(F.interpolate(nchw(x), mode="bilinear", align_corners=corners, **args)), mode="bilinear",
                      align_corners=corners, **attributes)


def make_ops(path):
    file = OpsFile()
    for family in (elementwise, activations, reductions, matrices, convolutions, pools, batch_norms, losses, movement, spreads,
                   order, einsums, interpolations):
        family(file)
    file.write(path)
