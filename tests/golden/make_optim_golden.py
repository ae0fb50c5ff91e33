#!/usr/bin/env python3
"""Writes optim.safetensors: the reference trajectories and schedules of tests/optim_test.cpp.

    python make_optim_golden.py [--over9000 DIR --ranger DIR --rangerlars DIR]

Needs torch, numpy and safetensors. All in float64 on the CPU. Every trajectory is of 100 steps on one small problem (see
`gradient`), stored after the steps in STEPS, its three parameters flattened and joined: [len(STEPS) + 1, 41], row 0 the
initial values. SGD, Adam, AdamW and RAdam come from torch.optim, and the schedules from torch.optim.lr_scheduler. Lookahead,
Ranger, NovoGrad, LARS and RangerLars are not in torch: their formulas are written out below. The three folders may name
checkouts of the authors' repositories (mgrankin/over9000 at 78e8dcd, lessw2020/Ranger-Mish-ImageWoof-5 at b0aa735,
lessw2020/mish at aea56c2); then their code is run on the same problem and must agree with the formulas to 1e-12.
"""
import argparse
import importlib
import math
import pathlib
import sys
import warnings

import numpy as np
import torch

STEPS = [1, 2, 5, 6, 7, 10, 50, 100]
SHAPES = [(5,), (4, 3), (3, 2, 2, 2)]
SIZES = [math.prod(s) for s in SHAPES]
# Parameters 0 and 1 are group 0; parameter 2 is group 1, with this learning rate factor and no weight decay.
GROUP1_LR = 0.3


def initial():
    scale = [1.0, 1.0, 5.0]  # the norm of the third is above 10, where RangerLars clamps it
    return [scale[j] * np.cos(0.5 + 1.3 * np.arange(n) + j) for j, n in enumerate(SIZES)]


def gradient(params, j, t, zero_first=False):
    """Gradient of parameter j (flat) before step t = 1, 2, ...: a bowl with ripples, all parameters coupled, moving in time."""
    p, i = params[j], np.arange(SIZES[j])
    if zero_first and j == 0 and t <= 2:
        return np.zeros_like(p)
    bowl = (0.5 + (7 * i + 3 * j) % 11 / 11.0) * (p - np.sin(1.0 + i + 2.0 * j))
    coupling = math.tanh(0.1 * sum(float(x.sum()) for x in params))
    return bowl + 0.3 * np.sin(3 * p) + 0.2 * coupling + 0.4 * np.cos(0.37 * t + 0.9 * i + j)


def has_gradient(j, t):
    """In the cases named *_missing: parameter 1 joins at step 4, parameter 2 pauses at every third step."""
    return not (j == 1 and t < 4) and not (j == 2 and t % 3 == 0)


def trajectory(step, params, missing=False, zero_first=False, before=None):
    """Runs step(list of flat gradients or None, t), which changes the flat arrays `params` in place."""
    rows = [np.concatenate(params)]
    for t in range(1, 101):
        if before:
            before(t)
        grads = [None if missing and not has_gradient(j, t) else gradient(params, j, t, zero_first) for j in range(3)]
        step(grads, t)
        if t in STEPS:
            rows.append(np.concatenate(params).copy())
    return np.stack(rows)


def run_torch(make, lr, weight_decay, missing=False, zero_first=False, schedule=None, **options):
    """Runs an optimizer with torch's interface."""
    params = initial()
    tensors = [torch.nn.Parameter(torch.from_numpy(p).view(s)) for p, s in zip(params, SHAPES)]  # share memory with params
    groups = [dict(params=tensors[:2], lr=lr, weight_decay=weight_decay), dict(params=tensors[2:], lr=lr * GROUP1_LR, weight_decay=0.0)]
    optimizer = make(groups, lr=lr, **options)
    scheduler = schedule(optimizer) if schedule else None

    def step(grads, t):
        for tensor, g, s in zip(tensors, grads, SHAPES):
            tensor.grad = None if g is None else torch.from_numpy(g.copy()).view(s)
        optimizer.step()
        if scheduler and t < 100:
            scheduler.step()

    return trajectory(step, params, missing, zero_first)


# --- formulas -----------------------------------------------------------------------------------------------------------
# A rule makes the state of one parameter and is called as rule(p, g, t, lr, weight_decay): it changes p in place; t counts
# the parameter's own updates.


def run_formula(make_rule, lr, weight_decay, missing=False, zero_first=False):
    params, count = initial(), [0, 0, 0]
    rules = [make_rule() for _ in params]

    def step(grads, _):
        for j, g in enumerate(grads):
            if g is None:
                continue
            count[j] += 1
            rules[j](params[j], g, count[j], lr * (GROUP1_LR if j == 2 else 1), 0.0 if j == 2 else weight_decay)

    return trajectory(step, params, missing, zero_first)


def sgdw(momentum):
    u = 0.0

    def rule(p, g, t, lr, wd):
        nonlocal u
        u = g if t == 1 else momentum * u + g
        p -= lr * wd * p + lr * u

    return rule


def adam(betas, eps, decoupled=False):
    m = v = 0.0

    def rule(p, g, t, lr, wd):
        nonlocal m, v
        if decoupled:
            p *= 1 - lr * wd
        else:
            g = g + wd * p
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        p -= lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)

    return rule


def rectified(t, m, v, betas, eps, threshold):
    """RAdam's step without the learning rate."""
    rho_inf = 2 / (1 - betas[1]) - 1
    rho = rho_inf - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
    m_hat = m / (1 - betas[0] ** t)
    if rho <= threshold:
        return m_hat
    r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    return r * math.sqrt(1 - betas[1] ** t) * m_hat / (np.sqrt(v) + eps)


def radam(betas, eps, threshold=5.0):
    m = v = 0.0

    def rule(p, g, t, lr, wd):
        nonlocal m, v
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        p *= 1 - lr * wd
        p -= lr * rectified(t, m, v, betas, eps, threshold)

    return rule


def ralamb(betas, eps, intended):
    m = v = 0.0

    def rule(p, g, t, lr, wd):
        nonlocal m, v
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        d = rectified(t, m, v, betas, eps, 5.0)
        if intended:  # the step's norm divides
            d = d + wd * p
            weights, divisor = np.linalg.norm(p), np.linalg.norm(d)
            ratio = 1.0 if weights == 0 or divisor == 0 else min(10.0, weights / divisor)
        else:  # the new weights' norm divides
            p *= 1 - lr * wd
            weights, divisor = min(10.0, np.linalg.norm(p)), np.linalg.norm(p - lr * d)
            ratio = 1.0 if weights == 0 or divisor == 0 else weights / divisor
        p -= lr * ratio * d

    return rule


def lookahead(make_rule, k, alpha, lazy=False):
    def make():
        rule, slow = make_rule(), None

        def wrapped(p, g, t, lr, wd):
            nonlocal slow
            if slow is None and not lazy:
                slow = p.copy()
            rule(p, g, t, lr, wd)
            if t % k == 0:
                if slow is None:
                    slow = p.copy()
                slow = slow + alpha * (p - slow)
                p[:] = slow

        return wrapped

    return make


def novograd(betas, eps, averaging=False, restart=False):
    m, v = 0.0, 0.0

    def rule(p, g, t, lr, wd):
        nonlocal m, v
        norm = float((g * g).sum())
        v = norm if (v == 0 if restart else t == 1) else betas[1] * v + (1 - betas[1]) * norm
        fresh = g / (math.sqrt(v) + eps) + wd * p
        m = betas[0] * m + ((1 - betas[0]) * fresh if averaging else fresh)
        p -= lr * m

    return rule


def lars(momentum, tau, clip=False):
    u = 0.0

    def rule(p, g, t, lr, wd):
        nonlocal u
        p_norm, g_norm = np.linalg.norm(p), np.linalg.norm(g)
        ratio = tau * p_norm / (g_norm + wd * p_norm) if p_norm and g_norm else 1.0
        u = momentum * u + lr * (min(ratio, 1.0) if clip else ratio) * (g + wd * p)
        p -= u

    return rule


# --- the authors' code ---------------------------------------------------------------------------------------------------


def check_originals(cases, args):
    """Runs the authors' files, made to compute in float64, and compares."""
    warnings.simplefilter("ignore")
    torch.Tensor.float = torch.Tensor.double  # they convert to float32 as they go, or make float32 scalars
    torch.set_default_dtype(torch.float64)
    module = sys.modules["torch.optim.optimizer"]
    module.required = getattr(module, "required", None)

    def load(folder, name):
        sys.path.insert(0, folder)
        for stale in ("ranger", "rangerlars", "radam", "lookahead", "ralamb", "novograd", "over9000"):
            sys.modules.pop(stale, None)
        loaded = importlib.import_module(name)
        sys.path.pop(0)
        return loaded

    def compare(case, got):
        error = np.max(np.abs(got - cases[case]) / (1 + np.abs(cases[case])))
        print(f"  {case}: {error:.1e} from the authors' code")
        assert error < 1e-12, case

    fast = dict(betas=(0.9, 0.99), eps=1e-6)
    if args.over9000:
        radam_file, over9000 = load(args.over9000, "radam"), load(args.over9000, "over9000")
        look, novo = load(args.over9000, "lookahead"), load(args.over9000, "novograd")
        compare("radam_decoupled", run_torch(radam_file.PlainRAdam, 0.02, 0.05, betas=(0.9, 0.99), eps=1e-8))
        compare("lookahead_adam_lazy", run_torch(lambda g, lr, **o: look.Lookahead(torch.optim.Adam(g, lr=lr, **o), 0.5, 6), 0.02, 0.01, betas=(0.9, 0.99)))
        compare("rangerlars_published", run_torch(lambda g, lr, **o: over9000.Over9000(g, lr=lr, **o), 0.02, 0.05, **fast))
        compare("novograd_over9000", run_torch(novo.Novograd, 0.02, 0.01, zero_first=True, betas=(0.9, 0.99), grad_averaging=True))
    if args.ranger:
        ranger = load(args.ranger, "ranger").Ranger
        compare("ranger", run_torch(ranger, 0.02, 0.05, betas=(0.95, 0.99), eps=1e-6))
        compare("ranger_missing", run_torch(ranger, 0.02, 0.05, missing=True, betas=(0.95, 0.99), eps=1e-6))
    if args.rangerlars:
        compare("rangerlars_fixed", run_torch(load(args.rangerlars, "rangerlars").RangerLars, 0.02, 0.05, **fast))


# --- schedules -----------------------------------------------------------------------------------------------------------


def run_schedule(make, total, momentum=False):
    """Rows of (lr / base lr[, momentum]) for steps 0 .. total - 1."""
    base = 0.5
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=base, momentum=0.9)
    scheduler = make(optimizer, base)
    rows = []
    for _ in range(total):
        group = optimizer.param_groups[0]
        rows.append([group["lr"] / base] + ([group["momentum"]] if momentum else []))
        optimizer.step()
        if len(rows) < total:
            scheduler.step()
    return np.array(rows)


def flat_cosine(total, start):
    flat = int(start * total)
    return np.array([[1.0 if t < flat else 0.5 * (1 + math.cos(math.pi * (t - flat) / (total - flat)))] for t in range(total)])


def main():
    from safetensors.numpy import save_file  # only here: the scripts of optim/ do without

    parser = argparse.ArgumentParser()
    for name in ("--over9000", "--ranger", "--rangerlars"):
        parser.add_argument(name)
    args = parser.parse_args()

    o, ls = torch.optim, torch.optim.lr_scheduler
    b = dict(betas=(0.9, 0.99))
    b1, b2 = (0.9, 0.99), (0.95, 0.99)
    one_cycle = lambda opt: ls.OneCycleLR(opt, max_lr=[0.02, 0.02 * GROUP1_LR], total_steps=100, div_factor=10)
    cases = {
        "sgd": run_torch(o.SGD, 0.05, 0.0),
        "sgd_momentum": run_torch(o.SGD, 0.05, 0.01, momentum=0.9, dampening=0.1),
        "sgd_nesterov": run_torch(o.SGD, 0.05, 0.01, momentum=0.9, nesterov=True),
        "sgd_missing": run_torch(o.SGD, 0.05, 0.01, missing=True, momentum=0.9, dampening=0.5),
        "sgd_decoupled": run_formula(lambda: sgdw(0.9), 0.05, 0.05),
        "sgd_one_cycle": run_torch(o.SGD, 0.02, 0.01, momentum=0.9, schedule=one_cycle),
        "adam": run_torch(o.Adam, 0.02, 0.01, **b),
        "adam_missing": run_torch(o.Adam, 0.02, 0.01, missing=True, **b),
        "adam_one_cycle": run_torch(o.Adam, 0.02, 0.01, schedule=one_cycle, **b),
        "adamw": run_torch(o.AdamW, 0.02, 0.05, **b),
        "radam": run_torch(o.RAdam, 0.02, 0.01, **b),
        "radam_decoupled": run_torch(o.RAdam, 0.02, 0.05, decoupled_weight_decay=True, **b),
        "radam_missing": run_torch(o.RAdam, 0.02, 0.01, missing=True, **b),
        "radam_threshold4": run_formula(lambda: radam(b1, 1e-8, 4.0), 0.02, 0.05),
        "lookahead_adam": run_formula(lookahead(lambda: adam(b1, 1e-8), 5, 0.5), 0.02, 0.01),
        "lookahead_adam_lazy": run_formula(lookahead(lambda: adam(b1, 1e-8), 6, 0.5, True), 0.02, 0.01),
        "lookahead_sgd": run_formula(lookahead(lambda: sgdw(0.9), 5, 0.8), 0.05, 0.0),
        "ranger": run_formula(lookahead(lambda: radam(b2, 1e-6), 6, 0.5), 0.02, 0.05),
        "ranger_missing": run_formula(lookahead(lambda: radam(b2, 1e-6), 6, 0.5), 0.02, 0.05, missing=True),
        "novograd": run_formula(lambda: novograd((0.95, 0.98), 1e-8), 0.02, 0.01),
        "novograd_zero_first": run_formula(lambda: novograd((0.95, 0.98), 1e-8), 0.02, 0.01, zero_first=True),
        "novograd_over9000": run_formula(lambda: novograd(b1, 1e-8, True, True), 0.02, 0.01, zero_first=True),
        "lars": run_formula(lambda: lars(0.9, 0.02), 0.5, 0.01),
        "lars_clip": run_formula(lambda: lars(0.9, 0.5, True), 0.05, 0.01),
        "rangerlars_published": run_formula(lookahead(lambda: ralamb(b1, 1e-6, False), 6, 0.5, True), 0.02, 0.05),
        "rangerlars_fixed": run_formula(lookahead(lambda: ralamb(b1, 1e-6, True), 5, 0.5), 0.02, 0.05),
    }
    # The formulas also agree with torch where torch has the optimizer.
    assert np.allclose(cases["radam_decoupled"], run_formula(lambda: radam(b1, 1e-8), 0.02, 0.05), rtol=1e-12, atol=1e-14)
    check_originals(cases, args)

    schedules = {
        "one_cycle_100": run_schedule(lambda opt, lr: ls.OneCycleLR(opt, lr, total_steps=100), 100, True),
        "one_cycle_37": run_schedule(lambda opt, lr: ls.OneCycleLR(opt, lr, total_steps=37, pct_start=0.4, div_factor=10,
            final_div_factor=100, base_momentum=0.8, max_momentum=0.9), 37, True),
        "one_cycle_3": run_schedule(lambda opt, lr: ls.OneCycleLR(opt, lr, total_steps=3), 3, True),
        "cosine_50": run_schedule(lambda opt, lr: ls.CosineAnnealingLR(opt, 50), 50),
        "cosine_floor_50": run_schedule(lambda opt, lr: ls.CosineAnnealingLR(opt, 50, eta_min=0.05 * lr), 50),
        "warmup_constant_20": run_schedule(lambda opt, lr: ls.LinearLR(opt, 1 / 3, total_iters=8), 20),
        "warmup_cosine_50": run_schedule(lambda opt, lr: ls.ChainedScheduler([ls.LinearLR(opt, 0.1, total_iters=10),
            ls.CosineAnnealingLR(opt, 50)]), 50),
        "flat_cosine_705": flat_cosine(705, 0.72),
        "flat_cosine_7": flat_cosine(7, 0.5),
    }
    tensors = {**{f"optimizer/{k}": v for k, v in cases.items()}, **{f"schedule/{k}": v for k, v in schedules.items()}}
    assert all(t.dtype == np.float64 and np.isfinite(t).all() for t in tensors.values())
    path = pathlib.Path(__file__).with_name("optim.safetensors")
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, {"steps": str(STEPS), "torch": torch.__version__})
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
