#!/usr/bin/env python3
"""Writes layers.safetensors: reference values of normalisation over parts of a sample, embeddings, transposed and 1-d
convolutions, attention, weight parametrisations and the transformer, by PyTorch in double precision. The format is that of
ops.safetensors; parameters of a layer are inputs like others, under their name in weft. See README.md beside this file.
"""

import pathlib

import torch
import torch.nn as nn
import torch.nn.functional as F

from golden_file import hash_words, rounded
from ops_cases import OpsFile, nchw, nhwc


def last(weight):
    """weft's weight [a, K.., b] -> PyTorch's [a, b, K..]."""
    return weight.movedim(-1, 1)


def norms(file):
    for i, (shape, normalized, affine) in enumerate([((3, 7), 1, "wb"), ((2, 3, 5), 1, "w"), ((2, 3, 5), 2, "wb"), ((4, 67), 1, ""),
                                                     ((2, 3, 4, 5), 3, "wb")]):
        size = shape[-normalized:]
        inputs = {"x": shape} | ({"weight": size} if "w" in affine else {}) | ({"bias": size} if "b" in affine else {})
        file.case(f"layer_norm.{i}", "layer_norm", inputs,
                  lambda x, weight=None, bias=None: F.layer_norm(x, size, weight, bias, 1e-3), dims=normalized, eps=1e-3)
    for i, (shape, groups, affine) in enumerate([((2, 3, 3, 6), 3, True), ((3, 2, 5, 4), 1, True), ((2, 7, 8), 8, False), ((5, 6), 2, True),
                                                 ((2, 5, 5, 35), 7, True)]):
        inputs = {"x": shape} | ({"weight": shape[-1:], "bias": shape[-1:]} if affine else {})
        file.case(f"group_norm.{i}", "group_norm", inputs,
                  lambda x, weight=None, bias=None: F.group_norm(x.movedim(-1, 1), groups, weight, bias, 1e-5).movedim(1, -1),
                  groups=groups, eps=1e-5)
    for i, (shape, affine) in enumerate([((2, 3, 4, 5), True), ((3, 7, 3), False)]):
        inputs = {"x": shape} | ({"weight": shape[-1:], "bias": shape[-1:]} if affine else {})
        file.case(f"instance_norm.{i}", "instance_norm", inputs,
                  lambda x, weight=None, bias=None: F.instance_norm(x.movedim(-1, 1), weight=weight, bias=bias).movedim(1, -1))


def embeddings(file):
    for i, (entries, width, shape, padding) in enumerate([(7, 3, (11,), None), (5, 4, (2, 9), 2), (3, 1, (2, 2, 4), -1)]):
        name = f"embedding.{i}"
        index = torch.from_numpy((hash_words(f"{name}/index", torch.Size(shape).numel()) % entries).astype("int64")).reshape(shape)
        file.case(name, "embedding", {"index": index, "weight": (entries, width)},
                  lambda index, weight: F.embedding(index, weight, padding), **({} if padding is None else {"padding": padding}))


def convolutions(file):
    geometries = [dict(stride=1, padding=0, output_padding=0, dilation=1, groups=1), dict(stride=2, padding=1, output_padding=1, dilation=1, groups=1),
                  dict(stride=3, padding=2, output_padding=2, dilation=2, groups=2), dict(stride=2, padding=0, output_padding=0, dilation=1, groups=4),
                  dict(stride=1, padding=1, output_padding=0, dilation=3, groups=1)]
    for i, g in enumerate(geometries):
        bias = {"bias": (6 if i != 3 else 8,)} if i % 2 == 0 else {}
        inputs = {"x": (2, 4, 3, 4), "weight": (4, 3, 2, (6 if i != 3 else 8) // g["groups"])} | bias
        file.case(f"conv_transpose2d.{i}", "conv_transpose2d", inputs,
                  lambda x, weight, bias=None: nhwc(F.conv_transpose2d(nchw(x), last(weight), bias, **g)), **g)
        inputs = {"x": (2, 5, 4), "weight": (4, 3, (6 if i != 3 else 8) // g["groups"])} | bias
        file.case(f"conv_transpose1d.{i}", "conv_transpose1d", inputs,
                  lambda x, weight, bias=None: F.conv_transpose1d(x.mT, last(weight), bias, **g).mT, **g)
    for i, (stride, padding, dilation, groups) in enumerate([(1, 0, 1, 1), (2, 3, 1, 1), (1, 2, 2, 2), (3, 1, 1, 4)]):
        inputs = {"x": (2, 9, 4), "weight": (8, 3, 4 // groups)} | ({"bias": (8,)} if i % 2 == 0 else {})
        file.case(f"conv1d.{i}", "conv1d", inputs,
                  lambda x, weight, bias=None: F.conv1d(x.mT, last(weight), bias, stride, padding, dilation, groups).mT,
                  stride=stride, padding=padding, dilation=dilation, groups=groups)


def padding_of(name, n, keys):
    """Which keys are padding: about a third, never the first."""
    mask = torch.from_numpy((hash_words(name, n * keys) % 3 == 0).astype("int64")).reshape(n, keys)
    mask[:, 0] = 0
    return mask


def attention(file):
    for i, (shape, keys, value, causal, mask) in enumerate([
            ((2, 3, 5, 4), 5, 4, False, None), ((2, 3, 5, 4), 5, 4, True, None), ((2, 1, 3, 8), 7, 5, False, (3, 7)),
            ((2, 2, 3, 4), 6, 4, False, (2, 2, 3, 6)), ((3, 4, 6), 4, 3, False, (3, 4, 4))]):
        name = f"sdpa.{i}"
        inputs = {"q": shape, "k": (*shape[:-2], keys, shape[-1]), "v": (*shape[:-2], keys, value)}
        if mask:
            m = file.values(name, "mask", mask)
            if i == 2:
                m[1] = 0  # PyTorch's rows of -inf alone are a case of their own
            inputs["mask"] = m
        file.case(name, "sdpa", inputs,
                  lambda q, k, v, mask=None: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal),
                  constants=("mask",), causal=causal)
    # Booleans: nothing is left to the second query.
    allowed = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]]).bool()
    file.case("sdpa.masked", "sdpa", {"q": (2, 3, 5), "k": (2, 4, 5), "v": (2, 4, 5), "left_out": (~allowed).long()},
              lambda q, k, v, left_out: F.scaled_dot_product_attention(q, k, v, attn_mask=left_out == 0), causal=0)


def layer_case(file, name, kind, module, inputs, call, constants=(), after=(), **attributes):
    """A layer in training mode: its parameters and buffers become inputs under their names."""
    module = module.double().train()
    state = {key: rounded(0.5 * file.values(name, key, tuple(t.shape)).numpy() + (key.startswith("norm") and key.endswith("weight")))
             for key, t in module.state_dict().items()}
    keys = list(state)
    file.case(name, kind, inputs | state,
              lambda **t: call(lambda *args, **kw: torch.func.functional_call(module, {k: t[k] for k in keys}, args, kw),
                               **{k: v for k, v in t.items() if k not in keys}), constants=constants, after=after, **attributes)


def transformers(file):
    for i, (bias, cross, causal, padded, *widths) in enumerate([(True, False, False, False), (False, False, True, False),
                                                                (True, True, False, True), (True, False, False, True),
                                                                (True, True, False, True, 5, 7), (False, True, False, False, 4, 6)]):
        name = f"mha.{i}"
        kdim, vdim = widths or (6, 6)
        inputs = {"query": (2, 5, 6)} | ({"key": (2, 4, kdim), "value": (2, 4, vdim)} if cross else {})
        keys = 4 if cross else 5
        if padded:
            inputs["padding"] = padding_of(f"{name}/padding", 2, keys)

        def call(f, query, key=None, value=None, padding=None):
            mask = nn.Transformer.generate_square_subsequent_mask(keys, dtype=torch.float64) if causal else None
            key, value = (query, query) if key is None else (key, value)
            return f(query, key, value, key_padding_mask=None if padding is None else padding != 0, attn_mask=mask, need_weights=False)[0]

        layer_case(file, name, "mha", nn.MultiheadAttention(6, 3, bias=bias, batch_first=True, kdim=kdim, vdim=vdim), inputs, call,
                   heads=3, bias=bias, causal=causal, **(dict(kdim=kdim, vdim=vdim) if widths else {}))
    for i, (norm_first, activation, padded) in enumerate([(False, "relu", False), (True, "gelu", False), (True, "relu", True), (False, "gelu", True)]):
        name = f"encoder_layer.{i}"
        inputs = {"x": (2, 5, 6)} | ({"padding": padding_of(f"{name}/padding", 2, 5)} if padded else {})
        layer = nn.TransformerEncoderLayer(6, 2, 9, dropout=0, activation=activation, batch_first=True, norm_first=norm_first)
        layer_case(file, name, "encoder_layer", layer, inputs,
                   lambda f, x, padding=None: f(x, src_key_padding_mask=None if padding is None else padding != 0),
                   norm_first=norm_first, activation=activation)
    layer = nn.TransformerEncoderLayer(4, 2, 5, dropout=0, activation="gelu", batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(4), enable_nested_tensor=False)
    causal = nn.Transformer.generate_square_subsequent_mask(3, dtype=torch.float64)
    layer_case(file, "encoder", "encoder", encoder, {"x": (2, 3, 4)}, lambda f, x: f(x, mask=causal, is_causal=True))


def parametrizations(file):
    def spectral(x, weight, u, v, bias, to_torch, forward):
        """Two forward passes of torch.nn.utils.spectral_norm from u, v and weight as given."""
        left, right, matrix = u.clone(), v.clone(), to_torch(weight)
        for _ in range(2):
            with torch.no_grad():
                right = F.normalize(matrix.T @ left, dim=0, eps=1e-12)
                left = F.normalize(matrix @ right, dim=0, eps=1e-12)
        u.data.copy_(left), v.data.copy_(right)
        return forward(x, weight / (left @ matrix @ right), bias)

    kinds = {"linear": (((4, 5), (3, 5), 3, 5), lambda w: w, lambda x, w, b: F.linear(x, w, b)),
             "conv2d": (((2, 4, 4, 3), (5, 2, 2, 3), 5, 12), lambda w: w.flatten(1), lambda x, w, b: nhwc(F.conv2d(nchw(x), last(w), b))),
             "conv_transpose2d": (((2, 3, 3, 4), (4, 2, 2, 5), 5, 16), lambda w: w.flatten(0, 2).T,
                                  lambda x, w, b: nhwc(F.conv_transpose2d(nchw(x), last(w), b)))}
    for kind, ((x, weight, rows, columns), to_torch, forward) in kinds.items():
        def unit(name, n):
            return rounded(F.normalize(file.values(f"spectral.{kind}", name, (n,)), dim=0))
        file.case(f"spectral.{kind}", "spectral",
                  {"x": x, "weight": weight, "bias": (weight[0] if kind != "conv_transpose2d" else weight[-1],), "u": unit("u", rows),
                   "v": unit("v", columns)},
                  lambda x, weight, bias, u, v: spectral(x, weight, u, v, bias, to_torch, forward), after=("u", "v"), layer=kind)
        g = (weight[0],) + (1,) * (len(weight) - 1)
        file.case(f"weight_norm.{kind}", "weight_norm",
                  {"x": x, "weight": weight, "bias": (weight[0] if kind != "conv_transpose2d" else weight[-1],), "g": g},
                  lambda x, weight, bias, g: forward(x, torch._weight_norm(weight, g, 0), bias), layer=kind)
    # The formula above is PyTorch's.
    layer = nn.utils.spectral_norm(nn.Linear(5, 3).double())
    w, u, v = layer.weight_orig.detach().clone(), layer.weight_u.clone(), layer.weight_v.clone()
    x = torch.ones(1, 5, dtype=torch.float64)
    first, second = layer(x), layer(x)
    assert torch.allclose(second, spectral(x, w, u, v, layer.bias, lambda w: w, F.linear)) and not torch.allclose(first, second)
    assert torch.allclose(u, layer.weight_u) and torch.allclose(v, layer.weight_v)

    def sagan(x, gamma, **t):
        def project(which):
            u, v, w = t[f"{which}.u"], t[f"{which}.v"], t[f"{which}.weight"]
            with torch.no_grad():
                right = F.normalize(w.T @ u, dim=0, eps=1e-12)
                left = F.normalize(w @ right, dim=0, eps=1e-12)
            return (w / (left @ w @ right)) @ x.flatten(1, 2).mT
        # fastai.layers.SelfAttention.forward
        f, g, h = project("query"), project("key"), project("value")
        beta = F.softmax(torch.bmm(f.transpose(1, 2), g), dim=1)
        return (gamma * torch.bmm(h, beta)).mT.reshape(x.shape) + x

    state = {"gamma": (1,)}
    for which, rows in (("query", 2), ("key", 2), ("value", 16)):
        state |= {f"{which}.weight": (rows, 16)}
        for name, n in (("u", rows), ("v", 16)):
            state[f"{which}.{name}"] = rounded(F.normalize(file.values("self_attention", f"{which}.{name}", (n,)), dim=0))
    file.case("self_attention", "self_attention", {"x": (2, 3, 2, 16)} | state, sagan,
              constants=tuple(k for k in state if k[-2:] in (".u", ".v")))


def positions(file):
    # pytorch.org/tutorials/beginner/transformer_tutorial.html
    length, width = 7, 6
    place = torch.arange(length, dtype=torch.float64).unsqueeze(1)
    term = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-torch.log(torch.tensor(10000.0, dtype=torch.float64)) / width))
    table = torch.zeros(length, width, dtype=torch.float64)
    table[:, 0::2], table[:, 1::2] = torch.sin(place * term), torch.cos(place * term)
    file.case("positions", "positions", {"x": (2, length, width)}, lambda x: x + table)
    # posemb_sincos_2d of google-research/big_vision (models/vit.py)
    height, width, channels = 3, 4, 12
    y, x = torch.meshgrid(torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij")
    omega = 1 / 10000 ** (torch.arange(channels // 4, dtype=torch.float64) / (channels // 4 - 1))
    y, x = y.flatten()[:, None] * omega, x.flatten()[:, None] * omega
    table2 = torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], 1)
    file.case("positions_2d", "positions_2d", {"x": (1, height * width, channels)}, lambda x: x + table2, height=height, width=width)


def make_layers(path):
    file = OpsFile()
    for part in (norms, embeddings, convolutions, attention, transformers, parametrizations, positions):
        part(file)
    file.write(path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_layers(pathlib.Path(__file__).resolve().parent / "layers.safetensors")
