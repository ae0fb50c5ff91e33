#!/usr/bin/env python3
"""Writes loss.safetensors: the losses, forward and backward, by PyTorch in double precision, for tests/golden_loss_test.cpp.

The focal losses follow torchvision's sigmoid_focal_loss and equation 4 of Lin et al. (2017), written out here.
"""

import itertools
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

from golden_file import hash_words, normals, rounded
from ops_cases import OpsFile

REDUCTIONS = ("mean", "sum", "none")


def probabilities(name, shape):
    return rounded(torch.softmax(torch.from_numpy(normals(name, shape)), -1).numpy())


def positive(name, shape):
    return rounded(0.25 + np.abs(normals(name, shape)))


def labels(name, rows, classes):
    return torch.from_numpy((hash_words(name, rows) % np.uint64(classes)).astype(np.int64))


def regression(file):
    shapes = {"x": (3, 5, 7), "target": (3, 5, 7)}
    for r in REDUCTIONS:
        file.case(f"l1.{r}", "l1", shapes, lambda x, target: F.l1_loss(x, target, reduction=r), reduction=r)
        file.case(f"mse.{r}", "mse", shapes, lambda x, target: F.mse_loss(x, target, reduction=r), reduction=r)
        for width in (0.3, 1.0, 2.5):
            file.case(f"huber.{r}.{width}", "huber", shapes,
                      lambda x, target: F.huber_loss(x, target, reduction=r, delta=width), reduction=r, width=width)
            file.case(f"smooth_l1.{r}.{width}", "smooth_l1", shapes,
                      lambda x, target: F.smooth_l1_loss(x, target, reduction=r, beta=width), reduction=r, width=width)
    file.case("smooth_l1.0", "smooth_l1", shapes, lambda x, target: F.smooth_l1_loss(x, target, beta=0.0),
              reduction="mean", width=0.0)


def sigmoid_focal(x, target, alpha, gamma, reduction):
    p = torch.sigmoid(x)
    p_t = p * target + (1 - p) * (1 - target)
    loss = F.binary_cross_entropy_with_logits(x, target, reduction="none") * (1 - p_t) ** gamma
    if alpha >= 0:
        loss = loss * (alpha * target + (1 - alpha) * (1 - target))
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]


def binary(file):
    for r, hard in itertools.product(REDUCTIONS, (True, False)):
        kind = "hard" if hard else "soft"

        def inputs(name, shape=(5, 7), scale=3):
            target = torch.from_numpy(normals(f"{name}/target", shape))
            target = (target > 0).double() if hard else rounded(torch.sigmoid(2 * target).numpy())
            return {"x": rounded(scale * normals(f"{name}/x", shape)), "target": target}

        name = f"bce.{r}.{kind}"
        file.case(name, "bce", inputs(name), lambda x, target: F.binary_cross_entropy_with_logits(x, target, reduction=r),
                  reduction=r)
        name = f"bce.{r}.{kind}.weights"
        more = {"weight": positive(f"{name}/weight", (5, 1)), "pos_weight": positive(f"{name}/pos_weight", (7,))}
        file.case(name, "bce", inputs(name) | more,
                  lambda x, target, weight, pos_weight: F.binary_cross_entropy_with_logits(
                      x, target, weight, reduction=r, pos_weight=pos_weight), constants=("weight", "pos_weight"), reduction=r)
        for alpha, gamma in ((0.25, 2.0), (-1.0, 1.5), (0.6, 0.0), (0.25, 1.0), (0.4, 3.3)):
            name = f"sigmoid_focal.{r}.{kind}.{alpha}.{gamma}"
            file.case(name, "sigmoid_focal", inputs(name), lambda x, target: sigmoid_focal(x, target, alpha, gamma, r),
                      reduction=r, alpha=alpha, gamma=gamma)


def softmax_focal(logits, target, gamma, weight, reduction):
    log_p = F.log_softmax(logits, -1)
    if target.dtype == torch.int64:
        target = F.one_hot(target, logits.shape[-1]).to(logits.dtype)
    if weight is not None:
        target = target * weight
    loss = -(target * (1 - log_p.exp()) ** gamma * log_p).sum(-1)
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]


def classes(file):
    rows, columns = 6, 5
    for r, weighted in itertools.product(REDUCTIONS, (False, True)):
        name = f"{r}.{'weighted' if weighted else 'plain'}"
        weight = {"weight": positive(f"{name}/weight", (columns,))} if weighted else {}
        x = rounded(2 * normals(f"{name}/x", (rows, columns)))
        hard, soft = labels(name, rows, columns), probabilities(f"{name}/soft", (rows, columns))
        for ignore in (None, -100, 2):
            given = hard.clone()
            if ignore is not None:
                given[[1, 4]] = ignore
            options = {"reduction": r} | ({} if ignore is None else {"ignore": ignore})
            skip = -100 if ignore is None else ignore
            log_p = rounded(torch.log_softmax(x, -1).numpy())
            file.case(f"nll.{name}.{ignore}", "nll", {"x": log_p, "target": given} | weight,
                      lambda x, target, weight=None: F.nll_loss(x, target, weight, ignore_index=skip, reduction=r),
                      constants=("weight",), **options)
            for smoothing in (0.0, 0.1):
                file.case(f"cross_entropy.{name}.{ignore}.{smoothing}", "cross_entropy", {"x": x, "target": given} | weight,
                          lambda x, target, weight=None: F.cross_entropy(
                              x, target, weight, ignore_index=skip, reduction=r, label_smoothing=smoothing),
                          constants=("weight",), label_smoothing=smoothing, **options)
        for smoothing in (0.0, 0.2):
            file.case(f"cross_entropy.{name}.soft.{smoothing}", "cross_entropy", {"x": x, "target": soft} | weight,
                      lambda x, target, weight=None: F.cross_entropy(x, target, weight, reduction=r, label_smoothing=smoothing),
                      constants=("weight", "target"), reduction=r, label_smoothing=smoothing)
        for kind, target in (("labels", hard), ("soft", soft)):
            for gamma in (0.0, 0.5, 1.0, 2.0, 3.5):
                file.case(f"softmax_focal.{name}.{kind}.{gamma}", "softmax_focal", {"x": x, "target": target} | weight,
                          lambda x, target, weight=None: softmax_focal(x, target, gamma, weight, r),
                          constants=("weight", "target"), reduction=r, gamma=gamma)


def divergence(file):
    for r in (*REDUCTIONS, "batchmean"):
        x = rounded(torch.log_softmax(torch.from_numpy(normals(f"kl.{r}/x", (5, 7))), -1).numpy())
        target = probabilities(f"kl.{r}/target", (5, 7))
        file.case(f"kl.{r}", "kl", {"x": x, "target": target}, lambda x, target: F.kl_div(x, target, reduction=r),
                  reduction=r, log_target=False)
        file.case(f"kl.{r}.log", "kl", {"x": x, "target": rounded(target.log().numpy())},
                  lambda x, target: F.kl_div(x, target, reduction=r, log_target=True), reduction=r, log_target=True)
    zeros = probabilities("kl.zeros", (5, 7))
    zeros[1, 2] = zeros[3] = 0
    file.case("kl.zeros", "kl", {"x": x, "target": zeros}, lambda x, target: F.kl_div(x, target, reduction="sum"),
              constants=("target",), reduction="sum", log_target=False)


def main():
    torch.set_num_threads(1)
    file = OpsFile()
    for family in (regression, binary, classes, divergence):
        family(file)
    file.write(pathlib.Path(__file__).resolve().parent / "loss.safetensors")


if __name__ == "__main__":
    main()
