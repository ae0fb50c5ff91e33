"""Optimizers that torch.optim has. Muon computes in float64 here, where torch's goes through bf16."""
import torch
from common import Hyper, run_torch, store

o, h = torch.optim, Hyper()
adam = dict(betas=h.betas, eps=h.eps)

store("rmsprop", h, run_torch(o.RMSprop, h.lr, h.wd, alpha=h.sqrmom, momentum=h.mom, eps=h.eps))
store("rmsprop-centered", h, run_torch(o.RMSprop, h.lr, h.wd, alpha=h.sqrmom, momentum=h.mom, eps=h.eps, centered=True))
fast = Hyper(lr=0.2)
store("adagrad", fast, run_torch(o.Adagrad, fast.lr, fast.wd, eps=fast.eps))
fast = Hyper(lr=1.0, sqrmom=0.9)
store("adadelta", fast, run_torch(o.Adadelta, fast.lr, fast.wd, rho=fast.sqrmom, eps=fast.eps))
store("amsgrad", h, run_torch(o.Adam, h.lr, h.wd, amsgrad=True, **adam))
store("amsgradw", h, run_torch(o.AdamW, h.lr, h.wd, amsgrad=True, **adam))
store("adamax", h, run_torch(o.Adamax, h.lr, h.wd, **adam))
torch.set_default_dtype(torch.float64)  # NAdam keeps its product of momenta in it
store("nadam", h, run_torch(o.NAdam, h.lr, h.wd, **adam))
store("nadamw", h, run_torch(o.NAdam, h.lr, h.wd, decoupled_weight_decay=True, **adam))


def muon(params_groups, lr, **options):
    """torch.optim.Muon on the matrices [out, rest], AdamW on the vectors, as one optimizer."""
    matrices, vectors = [], []
    for group in params_groups:
        rest = {k: v for k, v in group.items() if k != "params"}
        for p in group["params"]:
            (matrices if p.ndim > 1 else vectors).append(dict(rest, params=[p], whole=p))
    flat = [dict(g, params=[torch.nn.Parameter(g["whole"].detach().flatten(1))]) for g in matrices]  # shares the memory
    first = o.Muon(flat, lr=lr, momentum=h.mom, adjust_lr_fn="match_rms_adamw")
    second = o.AdamW(vectors, lr=lr, **adam)

    class Both:
        def step(self):
            for g, f in zip(matrices, flat):
                f["params"][0].grad = g["whole"].grad.flatten(1)
            first.step()
            second.step()

    return Both()


torch.Tensor.bfloat16 = torch.Tensor.double
store("muon", h, run_torch(muon, h.lr, h.wd))
