"""Writes optim_torch.safetensors: options of optimizers that no name of the registry reaches, on the problem of
make_optim_golden.py, by torch.optim in float64. tests/optim_torch_test.cpp has the same options."""
import pathlib

import torch

import make_optim_golden as problem
from golden_file import GoldenFile

torch.set_default_dtype(torch.float64)
o, run = torch.optim, problem.run_torch
b = dict(betas=(0.9, 0.99))
CASES = {
    "rmsprop": lambda: run(o.RMSprop, 0.02, 0.01, alpha=0.95),
    "rmsprop_missing": lambda: run(o.RMSprop, 0.02, 0.01, missing=True, alpha=0.95, momentum=0.8),
    "rmsprop_centered": lambda: run(o.RMSprop, 0.02, 0.01, alpha=0.95, centered=True),
    "adagrad": lambda: run(o.Adagrad, 0.2, 0.01, lr_decay=0.1, initial_accumulator_value=0.5),
    "adagrad_missing": lambda: run(o.Adagrad, 0.2, 0.01, missing=True, lr_decay=0.1),
    "adadelta_missing": lambda: run(o.Adadelta, 1.0, 0.01, missing=True, rho=0.95),
    "amsgrad_missing": lambda: run(o.Adam, 0.02, 0.01, missing=True, amsgrad=True, **b),
    "adamax_missing": lambda: run(o.Adamax, 0.02, 0.01, missing=True, **b),
    "nadam_missing": lambda: run(o.NAdam, 0.02, 0.01, missing=True, momentum_decay=0.1, **b),
}


def newton_schulz():
    """The iteration alone, on a wide and a tall matrix."""
    from torch.optim import _muon
    from golden_file import normals, rounded

    torch.Tensor.bfloat16 = torch.Tensor.double
    for shape in ((5, 12), (9, 4)):
        x = rounded(normals(f"muon {shape[0]}", shape))
        yield f"{shape[0]}", _muon._zeropower_via_newtonschulz(x, (3.4445, -4.7750, 2.0315), 5, 1e-7)


file = GoldenFile()
for name, make in CASES.items():
    file.put(f"optimizer/{name}", make())
for name, value in newton_schulz():
    file.put(f"newton_schulz/{name}", value)
file.write(pathlib.Path(__file__).with_name("optim_torch.safetensors"))
