#!/usr/bin/env python3
"""Writes learned_activations.safetensors: activations that learn parameters or draw, forward and backward, in double
precision. prelu, and rrelu in evaluation, are PyTorch's; srelu and swish_beta, which it does not have, are the formulas of
their papers, written with torch.where and differentiated by autograd."""

import pathlib

import numpy as np
import torch
import torch.nn.functional as F

from golden_file import GoldenFile, normals, rounded


def srelu(x, t_r, a_r, t_l, a_l):
    """Jin et al., arXiv 1512.07030, equation 1."""
    right, left = t_r + a_r * (x - t_r), t_l + a_l * (x - t_l)
    return torch.where(x >= t_r, right, torch.where(x <= t_l, left, x))


def swish_beta(x, beta):
    """Ramachandran et al., arXiv 1710.05941."""
    return x * torch.sigmoid(beta * x)


def prelu(x, weight):
    """torch.prelu wants the channels second."""
    return F.prelu(x.reshape(-1, x.shape[-1]), weight).reshape(x.shape)


PARAMETERS = {
    "prelu": (prelu, {"weight": (0.25, 0.1)}),
    "swish_beta": (swish_beta, {"beta": (1, 0.5)}),
    "srelu": (srelu, {"t_r": (0.7, 0.2), "a_r": (0.6, 0.3), "t_l": (-0.5, 0.2), "a_l": (0.2, 0.2)}),
}


class File(GoldenFile):
    def case(self, case, op, x, parameters, f):
        self.describe(case, op)
        tensors = {"x": x, **parameters}
        for name, value in tensors.items():
            self.put(f"{case}/{name}", value, np.float32)
        tensors = {name: value.clone().requires_grad_() for name, value in tensors.items()}
        out = f(**tensors)
        grad_out = rounded(normals(f"{case}/grad_out", tuple(out.shape)))
        out.backward(grad_out)
        self.put(f"{case}/out", out)
        self.put(f"{case}/grad_out", grad_out, np.float32)
        for name, value in tensors.items():
            self.put(f"{case}/grad.{name}", value.grad)


def main():
    torch.set_num_threads(1)
    file = File()
    for op, (f, parameters) in PARAMETERS.items():
        # One value for each channel, and one for all; the last input lies in the tails.
        for case, shape, channels, scale in (("image", (2, 3, 5, 7), 7, 1), ("rows", (6, 33), 33, 1),
                                             ("shared", (3, 5, 6), 1, 1), ("tails", (5, 9), 9, 30)):
            name = f"{op}.{case}"
            x = rounded(normals(f"{name}/x", shape) * scale)
            values = {p: rounded(start + spread * normals(f"{name}/{p}", (channels,)))
                      for p, (start, spread) in parameters.items()}
            file.case(name, op, x, values, f)
    x = rounded(normals("rrelu.eval/x", (4, 9)))
    file.case("rrelu.eval", "rrelu", x, {}, lambda x: F.rrelu(x, training=False))
    file.case("rrelu.bounds", "rrelu_bounds", x, {}, lambda x: F.rrelu(x, 0.2, 0.7, training=False))
    file.write(pathlib.Path(__file__).resolve().with_name("learned_activations.safetensors"))


if __name__ == "__main__":
    main()
