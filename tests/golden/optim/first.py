"""The first optimizers of the registry: torch.optim where it has them, else the formulas of ../make_optim_golden.py, which that
script compares with the authors' code."""
import torch
from common import Hyper, problem, run_formula, run_torch, store

o, h = torch.optim, Hyper()
adam = dict(betas=h.betas, eps=h.eps)
lookahead = problem.lookahead

store("sgd", h, run_torch(o.SGD, h.lr, h.wd, momentum=h.mom))
store("sgd-nesterov", h, run_torch(o.SGD, h.lr, h.wd, momentum=h.mom, nesterov=True))
store("adam", h, run_torch(o.Adam, h.lr, h.wd, **adam))
store("adamw", h, run_torch(o.AdamW, h.lr, h.wd, **adam))
store("radam", h, run_torch(o.RAdam, h.lr, h.wd, decoupled_weight_decay=True, **adam))
store("lookahead", h, run_formula(lookahead(lambda: problem.adam(h.betas, h.eps, True), 6, 0.5), h.lr, h.wd))
store("ranger", h, run_formula(lookahead(lambda: problem.radam(h.betas, h.eps), 6, 0.5), h.lr, h.wd))
store("novograd", h, run_formula(lambda: problem.novograd(h.betas, h.eps), h.lr, h.wd))
store("novograd-over9000", h, run_formula(lambda: problem.novograd(h.betas, h.eps, restart=True), h.lr, h.wd))
store("ralamb", h, run_formula(lambda: problem.ralamb(h.betas, h.eps, False), h.lr, h.wd))
store("ralamb-fixed", h, run_formula(lambda: problem.ralamb(h.betas, h.eps, True), h.lr, h.wd))
store("rangerlars", h, run_formula(lookahead(lambda: problem.ralamb(h.betas, h.eps, False), 6, 0.5, True), h.lr, h.wd))
store("rangerlars-fixed", h, run_formula(lookahead(lambda: problem.ralamb(h.betas, h.eps, True), 5, 0.5), h.lr, h.wd))


def lars():
    """The group without decay has ratio 1."""
    adapting, plain = problem.lars(h.mom, 1e-3), problem.sgdw(h.mom)
    return lambda p, g, t, lr, wd: (adapting if wd else plain)(p, g, t, lr, wd)


store("lars", Hyper(lr=0.05), run_formula(lars, 0.05, h.wd))
