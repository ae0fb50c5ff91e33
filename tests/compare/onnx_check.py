#!/usr/bin/env python3
"""Runs what `weft export` writes in onnxruntime and holds it to weft's own predictions; --torch also loads the safetensors into
the PyTorch networks of tests/golden. Needs onnx, onnxruntime, numpy, safetensors and Pillow (and PyTorch).

Each model is trained for some steps on pictures made here, then all its weights and statistics are moved at random, so that none is at a
value that would hide a part of the network (residual branches start at 0). Compared are log-probabilities of weft predict.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

CLASSES = ("apple", "bear", "car")
JUMPS = ("hardshrink", "thresholded_relu")  # where a rounding error decides for one side or the other


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return done.stdout


def make_pictures(folder, size, count, rng):
    """Pictures of exactly that size, so that nothing is resized: a wave and noise."""
    for split in ("train", "val"):
        for c, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                y, x = np.mgrid[0:size, 0:size] / size
                wave = np.sin((c + 1) * 7 * (x * np.cos(i) + y * np.sin(i)))[..., None] * rng.uniform(40, 90, 3)
                pixels = np.clip(128 + wave + rng.normal(0, 30, (size, size, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")


def load(path):
    with safe_open(path, "numpy") as f:
        return {k: f.get_tensor(k) for k in f.keys()}, f.metadata()


def move(path, rng):
    """Moves the weights of a trained model in its file."""
    tensors, metadata = load(path)
    for name, t in tensors.items():
        last = name.split(".")[-1]
        if last in ("u", "v"):
            continue
        if last == "running_var":
            t *= rng.uniform(0.8, 1.25, t.shape).astype(t.dtype)
        elif last == "gamma":
            t += np.float32(0.01)
        else:
            if name.startswith("dense.hidden.linear"):
                t *= np.float32(2)  # one step leaves the running variance of the depth study's many layers far too large
            spread = 0.1 if t.ndim == 1 else 0.1 * t.std()
            t += (spread * rng.normal(size=t.shape)).astype(t.dtype)
            if t.ndim == 1 and last == "weight" and name.replace("weight", "running_mean") in tensors:
                t += np.float32(0.2) * (np.abs(t).max() < 0.6)  # a branch that starts at 0
    save_file(tensors, path, metadata)


def fit_head(path, logits):
    """Moves the logits of all pictures to a range in which no probability is 0 or 1."""
    tensors, metadata = load(path)
    head = next(n for n in ("head", "linear", "dense.head") if n + ".weight" in tensors)
    tensors[head + ".bias"] -= logits.mean(0)
    for name in (head + ".weight", head + ".bias"):
        tensors[name] *= np.float32(4 / np.ptp(logits, 0).max())
    save_file(tensors, path, metadata)


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def predictions(weft, model, files, classes):
    out = []
    for line in run(weft, "predict", "--model", model, "--json", "--top", len(classes), *files).splitlines():
        p = {e["class"]: e["probability"] for e in json.loads(line)["top"]}
        out.append([p[c] for c in classes])
    return np.log(np.array(out))


def batch(files, metadata):
    return normalized(np.stack([np.asarray(Image.open(f), np.float32) for f in files]), metadata)


def normalized(pixels, metadata):
    mean, std = (np.array(json.loads(metadata[k]), np.float32) for k in ("mean", "std"))
    return ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)


def oblong(path, size, rng):
    """A picture that is resized and cut: to three pixels more than the crop, so that rounding decides for the place of its middle."""
    y, x = np.mgrid[0:2 * size, 0:2 * size + 6] / size
    wave = np.sin(20 * (x + y))[..., None] * rng.uniform(40, 90, 3)
    pixels = np.clip(128 + wave + rng.normal(0, 30, (*x.shape, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def prepared(path, metadata):
    """A picture as docs/export.md prepares it, but for the rounding of what was resized to bytes, which weft has not."""
    size = int(metadata["size"])
    picture = Image.open(path).convert("RGB")
    scale = int(metadata["valid_resize"]) / min(picture.size)
    new = [int(side * scale + 1e-6) for side in picture.size]
    left, top = (round((side - size) / 2) for side in new)
    channels = [Image.fromarray(np.asarray(c, np.float32)).resize(new, Image.BILINEAR).crop((left, top, left + size, top + size))
                for c in picture.split()]
    return normalized(np.stack([np.stack([np.asarray(c) for c in channels], -1)]), metadata)


def mirror(model, size, attention):
    """The PyTorch network of that name in tests/golden, or None."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "golden"))
    import image_model_cases as more
    from model_cases import XResNet
    classes = len(CLASSES)
    if m := re.fullmatch(r"(m?)xresnet(\d+)", model):
        return XResNet(int(m[2]), "mish" if m[1] else "relu", attention, classes=classes)
    if m := re.fullmatch(r"mxresnet(\d+)-trick", model):
        return more.trick(int(m[1]), attention=attention, classes=classes)
    if m := re.fullmatch(r"mxresnet-dw(\d+)(-bn)?", model):
        return (more.depthwise_norm if m[2] else more.depthwise)(int(m[1]), attention=attention, classes=classes)
    if m := re.fullmatch(r"x(se_)?resnext(\d+)", model):
        return more.resnext(int(m[2]), 16 if m[1] else 0, attention=attention, classes=classes)
    if m := re.fullmatch(r"resnet(\d+)(v2)?", model):
        return (more.CifarResNetV2 if m[2] else more.CifarResNet)(int(m[1]), classes=classes)
    if model == "mlp":
        return more.MLP(size * size * 3, classes, [512, 512], "mish")
    if m := re.fullmatch(r"depth(\d+)", model):
        return depth_net(int(m[1]), size, classes)
    return vision_transformer(size, classes) if model == "vit-tiny" else None


def depth_net(layers, size, classes):
    from torch import nn

    class Dense(nn.Module):
        def __init__(self, inputs):
            super().__init__()
            self.hidden, self.head = nn.ModuleDict(), nn.Linear(500, classes)
            for i in range(layers - 3):
                self.hidden[f"linear{i}"], self.hidden[f"norm{i}"] = nn.Linear(inputs, 500), nn.BatchNorm1d(500, 1e-3)
                inputs = 500

        def forward(self, x):
            for name, layer in self.hidden.items():
                x = layer(x) if name.startswith("linear") else nn.functional.mish(layer(x))
            return self.head(x)

    class DepthNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 20, 5), nn.Conv2d(20, 50, 5)
            self.dense = Dense(50 * ((size - 8) // 2) ** 2)

        def forward(self, x):
            x = nn.functional.mish(self.conv2(nn.functional.mish(self.conv1(x))))
            return self.dense(nn.functional.max_pool2d(x, 2).flatten(1))

    return DepthNet()


def vision_transformer(size, classes):
    import torch
    from count_models import ViT
    from torch import nn

    class Positioned(ViT):
        def forward(self, x):
            x = self.patches(x)
            y, x_ = torch.meshgrid(torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij")
            slow = 10000.0 ** (torch.arange(48) / 47)
            x_, y = (t.flatten()[:, None] / slow for t in (x_, y))
            positions = torch.cat([x_.sin(), x_.cos(), y.sin(), y.cos()], 1)
            return self.head(self.encoder(x.flatten(2).mT + positions).mean(1))

    net = Positioned()
    net.head = nn.Linear(192, classes)
    return net


def torch_difference(net, symmetric, state, x, expected):
    import torch
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    for module in net.modules():
        if hasattr(module, "symmetric"):
            module.symmetric = symmetric
    net.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    net.eval()
    return relative(log_softmax(net.double()(torch.from_numpy(x).double()).numpy()), expected)


def relative(got, expected):
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def check(weft, scratch, model, size, options, rng, args):
    import onnx
    import onnxruntime
    data = scratch / f"pictures-{size}"
    if not data.exists():
        make_pictures(data, size, 4, rng)
    folder = scratch / "run"
    flags = [f"--{k}" if v is True else f"--{k}={v}" for k, v in options.items()]
    run(weft, "train", "--data", data, "--model", model, "--size", size, "--epochs", 20 if args.activations else 1, "--batch-size", 4, "--quiet", "--overwrite",
        "--out", folder, *flags)
    move(folder / "model.safetensors", rng)
    files = sorted((data / "val").glob("*/*.png"))
    out = scratch / "model.onnx"

    def export():
        start = time.time()
        run(weft, "export", folder, "--out", out)
        session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
        return time.time() - start, session, session.get_modelmeta().custom_metadata_map

    _, session, metadata = export()
    x = batch(files, metadata)
    logits = session.run(["logits"], {"images": x})[0]
    fit_head(folder / "model.safetensors", logits)
    seconds, session, metadata = export()
    proto = onnx.load(out)
    onnx.checker.check_model(proto, full_check=True)
    expected = predictions(weft, folder, files, json.loads(metadata["classes"]))
    worst = 0
    for n in (1, 4, len(files)):  # none of those that were traced
        worst = max(worst, relative(log_softmax(session.run(["logits"], {"images": x[:n]})[0]), expected[:n]))
    picture = oblong(scratch / "oblong.png", size, rng)
    resized = relative(log_softmax(session.run(["logits"], {"images": prepared(picture, metadata)})[0]),
                       predictions(weft, folder, [picture], json.loads(metadata["classes"])))
    varies = float(np.ptp(expected, 0).max() / np.abs(expected).max())  # lest nothing of the pictures reaches the result
    row = {"model": model, **options, "size": size, "nodes": len(proto.graph.node), "MB": out.stat().st_size / 1e6,
           "transposes": sum(n.op_type == "Transpose" for n in proto.graph.node), "export s": seconds, "varies": varies, "onnxruntime": worst, "resized": resized}
    if args.torch:
        net = mirror(model, size, options.get("sa", False)) if "activation" not in options else None
        if net:
            run(weft, "export", folder, "--out", scratch / "model-torch.safetensors")
            row["torch"] = torch_difference(net, options.get("sym", False), load(scratch / "model-torch.safetensors")[0], x, expected)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weft", default="build/apps/weft")
    parser.add_argument("--models", nargs="*", help="default: all")
    parser.add_argument("--activations", action="store_true", help="resnet20 with each activation, in place of all models")
    parser.add_argument("--size", type=int, default=128, help="of the pictures at most; a model has its own")
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()
    listed = [json.loads(line) for line in run(args.weft, "train", "--list-models", "--json").splitlines()]
    chosen = [m for m in listed if not args.models or m["name"] in args.models]
    if unknown := set(args.models or []) - {m["name"] for m in listed}:
        parser.error(f"no such model: {', '.join(sorted(unknown))}")
    cases = [(m["name"], min(m["size"], args.size), {}) for m in chosen]
    cases += [(m["name"], min(m["size"], args.size), o) for m in chosen if m["self_attention"] and (args.models or "18" in m["name"])
              for o in ({"sa": True}, {"sa": True, "sym": True})]
    if args.activations:
        rows = [json.loads(line) for line in run(args.weft, "lab", "activations", "--list", "--json").splitlines()]
        cases = [("resnet20", 32, {"activation": r["name"]}) for r in rows]
    failed = 0
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as scratch:
        for model, size, options in cases:
            row = check(args.weft, pathlib.Path(scratch), model, size, options, rng, args)
            tolerance = 0.1 if options.get("activation") in JUMPS else args.tolerance
            bad = not (row["onnxruntime"] < tolerance and row["resized"] < tolerance and row.get("torch", 0) < args.tolerance and row["varies"] > 0.01)
            failed += bad
            print(json.dumps({k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in row.items()}) + (" <- too far" if bad else ""),
                  flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
