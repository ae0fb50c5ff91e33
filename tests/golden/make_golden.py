#!/usr/bin/env python3
"""Writes the golden files that golden_ops_test and golden_model_test compare with. See README.md beside this file."""

import pathlib

import torch

from model_cases import make_model
from ops_cases import make_ops


def main():
    here = pathlib.Path(__file__).resolve().parent
    torch.set_num_threads(1)  # the same sums in the same order on every machine
    make_ops(here / "ops.safetensors")
    make_model(here / "model.safetensors")


if __name__ == "__main__":
    main()
