"""LAMB, RangerNovo, DiffGrad, AdaMod, AdaBelief, MADGRAD, Adan, Lion and Ranger with centralised gradients.

    python over9000.py [--originals DIR]

The formulas are written out below from the papers and the authors' repositories. DIR may hold checkouts of those, named
OWNER+NAME: mgrankin+over9000, facebookresearch+madgrad, sail-sg+Adan, lucidrains+lion-pytorch,
lessw2020+Ranger-Deep-Learning-Optimizer, shivram1987+diffGrad, lancopku+AdaMod; then their code is run on the same problem, in
float64, and must agree to 1e-12.
"""
import argparse
import contextlib
import importlib.util
import io
import math
import pathlib
import sys
import types
import warnings

import numpy as np
import torch
from common import Hyper, problem, run_formula, run_torch, store

h = Hyper()


def moments(betas):
    m = v = 0.0

    def update(g):
        nonlocal m, v
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        return m, v

    return update


def lamb(betas, eps, published):
    update = moments(betas)

    def rule(p, g, t, lr, wd):
        m, v = update(g)
        if not published:
            m, v = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        r = m / (np.sqrt(v) + eps) + wd * p
        weights, step = np.linalg.norm(p), np.linalg.norm(r)
        if published:
            weights = min(weights, 10.0)
        p -= lr * (weights / step if weights and step else 1.0) * r

    return rule


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def diffgrad(betas, eps, version, aliased=False):
    update, previous = moments(betas), 0.0

    def rule(p, g, t, lr, wd):
        nonlocal previous
        g = g + wd * p
        m, v = update(g)
        d = np.zeros_like(g) if aliased and t > 1 else previous - g
        xi = [lambda: sigmoid(abs(d)), lambda: sigmoid(d), lambda: 9 * sigmoid(abs(d) / 2) - 4][version]()
        previous = g
        p -= lr * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t) * xi * m / (np.sqrt(v) + eps)

    return rule


def adamod(betas, eps, beta3=0.999):
    update, s = moments(betas), 0.0

    def rule(p, g, t, lr, wd):
        nonlocal s
        m, v = update(g)
        rate = lr * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t) / (np.sqrt(v) + eps)
        s = beta3 * s + (1 - beta3) * rate
        p *= 1 - lr * wd
        p -= np.minimum(rate, s) * m

    return rule


def adabelief(betas, eps, rectify):
    m = s = 0.0

    def rule(p, g, t, lr, wd):
        nonlocal m, s
        p *= 1 - lr * wd
        m = betas[0] * m + (1 - betas[0]) * g
        s = betas[1] * s + (1 - betas[1]) * (g - m) ** 2 + eps
        if rectify:
            p -= lr * problem.rectified(t, m, s, betas, eps, 5.0)
        else:
            p -= lr * m / (1 - betas[0] ** t) / (np.sqrt(s / (1 - betas[1] ** t)) + eps)

    return rule


def madgrad(momentum, eps):
    s = v = 0.0
    start = None

    def rule(p, g, t, lr, wd):
        nonlocal s, v, start
        if start is None:
            start = p.copy()
        g = g + wd * p
        w = (lr + eps) * math.sqrt(t)
        s, v = s + w * g, v + w * g * g
        p[:] = momentum * p + (1 - momentum) * (start - s / (np.cbrt(v) + eps))

    return rule


def adan(betas, eps):
    m = v = n = 0.0
    previous = None

    def rule(p, g, t, lr, wd):
        nonlocal m, v, n, previous
        d = 0 * g if previous is None else g - previous
        previous = g.copy()
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * d
        n = betas[2] * n + (1 - betas[2]) * (g + betas[1] * d) ** 2
        u = (m / (1 - betas[0] ** t) + betas[1] * v / (1 - betas[1] ** t)) / (np.sqrt(n / (1 - betas[2] ** t)) + eps)
        p[:] = (p - lr * u) / (1 + lr * wd)

    return rule


def lion(betas):
    m = 0.0

    def rule(p, g, t, lr, wd):
        nonlocal m
        p *= 1 - lr * wd
        p -= lr * np.sign(betas[0] * m + (1 - betas[0]) * g)
        m = betas[1] * m + (1 - betas[1]) * g

    return rule


def centralized(make_rule):
    """The rule on centralised gradients; it is called for the problem's three shapes in turn."""
    shapes = iter(problem.SHAPES)

    def make():
        rule, shape = make_rule(), next(shapes)

        def wrapped(p, g, t, lr, wd):
            if len(shape) > 1:
                rows = g.reshape(shape[0], -1)
                g = (rows - rows.mean(axis=1, keepdims=True)).reshape(g.shape)
            rule(p, g, t, lr, wd)

        return wrapped

    return make


def check_originals(folder, cases):
    warnings.simplefilter("ignore")
    torch.Tensor.float = torch.Tensor.double  # some convert to float32 as they go
    torch.set_default_dtype(torch.float64)
    torch.optim.SGD([torch.zeros(1)], lr=1.0)  # imports what looks for the modules below
    for missing in ("tensorboardX", "tabulate", "colorama"):
        module = sys.modules.setdefault(missing, types.ModuleType(missing))
        module.SummaryWriter = object
        module.tabulate = lambda *a, **k: ""
        module.Fore = module.Back = module.Style = types.SimpleNamespace(RED="", BLUE="", GREEN="", RESET_ALL="")

    def load(path):
        spec = importlib.util.spec_from_file_location("original", pathlib.Path(folder) / path)
        module = importlib.util.module_from_spec(spec)
        with contextlib.redirect_stdout(io.StringIO()):
            spec.loader.exec_module(module)
        return module

    def compare(name, make, lr=h.lr, alias=False, **options):
        def quiet(*args, **kwargs):
            with contextlib.redirect_stdout(io.StringIO()):
                return make(*args, **kwargs)

        run = run_aliased if alias else run_torch
        got = run(quiet, lr, h.wd, **options)
        error = np.max(np.abs(got - cases[name]) / (1 + np.abs(cases[name])))
        print(f"  {name}: {error:.1e} from the authors' code")
        assert error < 1e-12, name

    fast = dict(betas=h.betas, eps=h.eps)
    over = "mgrankin+over9000/"
    compare("lamb-over9000", load(over + "lamb.py").Lamb, **fast)
    compare("adamod", load("lancopku+AdaMod/adamod/adamod.py").AdaMod, **fast)
    compare("adabelief-rectified", load(over + "adabelief.py").AdaBelief, **fast)
    compare("madgrad", load("facebookresearch+madgrad/madgrad/madgrad.py").MADGRAD, momentum=h.mom, eps=h.eps)
    compare("adan", load("sail-sg+Adan/adan.py").Adan, betas=(h.mom, 0.92, h.sqrmom), eps=h.eps, foreach=False)
    compare("lion", load("lucidrains+lion-pytorch/lion_pytorch/lion_pytorch.py").Lion, lr=LION.lr, betas=h.betas)
    compare("ranger-gc", load("lessw2020+Ranger-Deep-Learning-Optimizer/ranger/ranger.py").Ranger, **fast)
    diff = load(over + "diffgrad.py").DiffGrad
    for version, name in enumerate(("diffgrad", "diffgrad-v1", "diffgrad-v2")):
        compare(name, diff, version=version, **fast)  # run_torch() gives a new gradient tensor in each step: no alias
    compare("diffgrad", load("shivram1987+diffGrad/diffGrad.py").diffgrad, **fast)
    compare("diffgrad-published", diff, version=1, alias=True, **fast)


def run_aliased(make, lr, weight_decay, **options):
    """As run_torch(), but the gradients are written into the same tensors, as PyTorch's zero_grad() of the time led to."""
    params = problem.initial()
    tensors = [torch.nn.Parameter(torch.from_numpy(p).view(s)) for p, s in zip(params, problem.SHAPES)]
    groups = [dict(params=tensors[:2], lr=lr, weight_decay=weight_decay),
              dict(params=tensors[2:], lr=lr * problem.GROUP1_LR, weight_decay=0.0)]
    optimizer = make(groups, lr=lr, **options)
    for tensor in tensors:
        tensor.grad = torch.zeros_like(tensor)

    def step(grads, _):
        for tensor, g, s in zip(tensors, grads, problem.SHAPES):
            tensor.grad.copy_(torch.from_numpy(g).view(s))
        optimizer.step()

    return problem.trajectory(step, params)


LION = Hyper(lr=0.002)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--originals")
    args = parser.parse_args()
    b, e, lookahead = h.betas, h.eps, problem.lookahead
    rules = {
        "lamb": lambda: lamb(b, e, False),
        "lamb-over9000": lambda: lamb(b, e, True),
        "rangernovo": lookahead(lambda: problem.novograd(b, e, restart=True), 6, 0.5),
        "diffgrad": lambda: diffgrad(b, e, 0),
        "diffgrad-v1": lambda: diffgrad(b, e, 1),
        "diffgrad-v2": lambda: diffgrad(b, e, 2),
        "diffgrad-published": lambda: diffgrad(b, e, 1, aliased=True),
        "adamod": lambda: adamod(b, e),
        "adabelief": lambda: adabelief(b, e, False),
        "adabelief-rectified": lambda: adabelief(b, e, True),
        "madgrad": lambda: madgrad(h.mom, e),
        "adan": lambda: adan((h.mom, 0.92, h.sqrmom), e),
        "ranger-gc": centralized(lookahead(lambda: problem.radam(b, e), 6, 0.5)),
    }
    cases = {name: run_formula(make, h.lr, h.wd) for name, make in rules.items()}
    cases["lion"] = run_formula(lambda: lion(b), LION.lr, h.wd)
    for name, trajectory in cases.items():
        store(name, LION if name == "lion" else h, trajectory)
    if args.originals:
        check_originals(args.originals, cases)


if __name__ == "__main__":
    main()
