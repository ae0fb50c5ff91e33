"""What the scripts of this folder share: each writes NAME.safetensors for some names that make_optimizer() knows.

A file holds "trajectory", float64 [len(STEPS) + 1, 41], on the problem of ../make_optim_golden.py (see there), and "hyper",
float64 [5]: lr, mom, sqrmom, eps, wd as make_optimizer() takes them. The second group has 0.3 times the rate and no decay.
tests/optim_golden_test.cpp reads the file of every registered name.
"""
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
import make_optim_golden as problem  # noqa: E402
from golden_file import GoldenFile  # noqa: E402

run_torch, run_formula = problem.run_torch, problem.run_formula


class Hyper:
    """The numbers of a command line."""

    def __init__(self, lr=0.02, mom=0.9, sqrmom=0.99, eps=1e-6, wd=0.05):
        self.lr, self.mom, self.sqrmom, self.eps, self.wd = lr, mom, sqrmom, eps, wd
        self.betas = (mom, sqrmom)


def store(name, hyper, trajectory):
    """Writes NAME.safetensors."""
    assert trajectory.shape == (len(problem.STEPS) + 1, sum(problem.SIZES)), name
    file = GoldenFile()
    file.put("trajectory", trajectory)
    file.put("hyper", [hyper.lr, hyper.mom, hyper.sqrmom, hyper.eps, hyper.wd])
    file.write(FOLDER / f"{name}.safetensors")
