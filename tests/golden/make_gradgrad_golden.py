#!/usr/bin/env python3
"""Writes gradgrad.safetensors: second derivatives by torch.autograd in double precision, for tests/golden_gradgrad_test.cpp.

Each case is a loss of some parameters. Stored are its gradient, a Hessian-vector product, and the gradient of a
penalty on the gradient with respect to the images (as WGAN-GP has it). Inputs come from normals(), on both sides.
"""

import pathlib

import torch
import torch.nn.functional as F

from golden_file import GoldenFile, normals, rounded


def nchw(x):
    return x.permute(0, 3, 1, 2)


def conv(x, w, b=None, **options):
    return F.conv2d(nchw(x), nchw(w), b, **options).permute(0, 2, 3, 1)


def batch_norm(x, w, b, training=True, mean=None, var=None):
    return F.batch_norm(x.reshape(-1, x.shape[-1]), mean, var, w, b, training, 0.1, 1e-5).reshape(x.shape)


LABELS = torch.tensor([2, 0, 1, 1])


def mlp(x, w1, b1, w2, b2):
    return F.cross_entropy(torch.tanh(x @ w1.T + b1) @ w2.T + b2, LABELS[:3], label_smoothing=0.1)


def convnet(x, w1, g1, b1, w2, g2, b2, head):
    y = F.mish(batch_norm(conv(x, w1, stride=2, padding=1), g1, b1))
    side = F.avg_pool2d(nchw(y), 2, ceil_mode=True, count_include_pad=False).permute(0, 2, 3, 1)
    y = batch_norm(conv(y, w2, stride=2, padding=1, groups=2), g2, b2)
    y = F.mish(y + side).mean((1, 2))
    return F.cross_entropy(y @ head.T, LABELS, label_smoothing=0.1)


def maxpool(x, w1, b1, head):
    y = F.max_pool2d(nchw(torch.sigmoid(conv(x, w1, b1, dilation=2, padding=1))), 3, 2, 1).permute(0, 2, 3, 1)
    return (F.log_softmax(y.reshape(2, -1) @ head.T, -1) ** 2).mean()


def attention(x, w, v):
    q, k = x @ w, x @ v
    p = torch.softmax(torch.bmm(q, k.transpose(1, 2)) / 2, -1)
    y = torch.cat([torch.bmm(p, x), x.permute(0, 2, 1).reshape(2, 5, 3)], 2)
    return (y.amax(2) * torch.maximum(y, -y / 2).sum(2)).exp().mean().sqrt()


CASES = {
    "mlp": (mlp, {"x": (3, 5), "w1": (7, 5), "b1": (7,), "w2": (4, 7), "b2": (4,)}),
    "convnet": (convnet, {"x": (4, 7, 6, 2), "w1": (4, 3, 3, 2), "g1": (4,), "b1": (4,), "w2": (4, 3, 3, 2), "g2": (4,),
                          "b2": (4,), "head": (3, 4)}),
    "maxpool": (maxpool, {"x": (2, 6, 5, 2), "w1": (3, 3, 3, 2), "b1": (3,), "head": (4, 12)}),
    "attention": (attention, {"x": (2, 5, 3), "w": (3, 4), "v": (3, 4)}),
}


def main():
    torch.set_num_threads(1)
    file = GoldenFile()
    for case, (f, shapes) in CASES.items():
        values = [rounded(0.5 * normals(f"{case}/{name}", shape)).requires_grad_() for name, shape in shapes.items()]
        along = [rounded(normals(f"{case}/along.{name}", shape)) for name, shape in shapes.items()]
        file.describe(case, case)
        loss = f(*values)
        grads = torch.autograd.grad(loss, values, create_graph=True)
        products = torch.autograd.grad(grads, values, along, retain_graph=True)
        penalty = ((grads[0].flatten(1).square().sum(1) + 1e-12).sqrt() - 1).square().mean()
        of_penalty = torch.autograd.grad(penalty, values)
        file.put(f"{case}/out", loss)
        file.put(f"{case}/expect.penalty", penalty)
        for name, g, h, p in zip(shapes, grads, products, of_penalty):
            file.put(f"{case}/grad.{name}", g)
            file.put(f"{case}/expect.product.{name}", h)
            file.put(f"{case}/expect.penalty.{name}", p)
    file.write(pathlib.Path(__file__).resolve().parent / "gradgrad.safetensors")


if __name__ == "__main__":
    main()
