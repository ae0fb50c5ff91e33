"""What all golden files share: deterministic numbers and the safetensors writer."""

import json

import numpy as np
import torch

GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)
ROOT_3_OVER_2_16 = float.fromhex("0x1.bb67ae8584caap-16")


def name_key(name):
    """FNV-1a hash of a name, 64 bits."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 % 2**64
    return np.uint64(key)


def hash_words(name, count):
    """Words 0 .. count-1 of the stream `name`: splitmix64 of (name, index)."""
    with np.errstate(over="ignore"):
        z = name_key(name) + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN_RATIO
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def normals(name, shape):
    """Nearly normal numbers of mean 0 and variance 1 from the stream `name`: sums of the four 16-bit parts of each word.

    tests/support/golden.cpp computes the same: integers and one product, so the results agree to the last bit.
    """
    words = hash_words(name, int(np.prod(shape, dtype=np.int64)))
    total = sum((words >> np.uint64(16 * i) & np.uint64(0xFFFF)).astype(np.int64) for i in range(4)) - 131070
    return (total * ROOT_3_OVER_2_16).reshape(shape)


def rounded(values):
    """A float64 tensor whose values are floats, so that f32 and f64 runs start from the same numbers."""
    return torch.from_numpy(np.asarray(values).astype(np.float32).astype(np.float64))


class GoldenFile:
    """Collects named tensors and text, then writes one safetensors file, byte for byte the same every time."""

    TYPES = {np.dtype(np.float32): "F32", np.dtype(np.float64): "F64", np.dtype(np.int64): "I64"}

    def __init__(self):
        self.tensors, self.metadata = {}, {}

    def put(self, name, value, dtype=np.float64):
        """Stores floating values as `dtype`, integers as they are."""
        assert name not in self.tensors, name
        value = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        assert np.all(np.isfinite(value)), name
        value = value if value.dtype == np.int64 else value.astype(dtype)
        self.tensors[name] = np.copy(value, order="C")

    def describe(self, name, kind, /, **attributes):
        """Metadata of a case: its kind and attributes, as "kind key=value key=value"."""
        assert name not in self.metadata, name
        words = [kind] + [f"{key}={int(v) if isinstance(v, bool) else v}" for key, v in attributes.items()]
        self.metadata[name] = " ".join(words)

    def write(self, path):
        header, offset = {"__metadata__": self.metadata}, 0
        # Widest first, so that every tensor is aligned to its element size.
        order = sorted(self.tensors, key=lambda name: (-self.tensors[name].itemsize, name))
        for name in order:
            t = self.tensors[name]
            header[name] = {"dtype": self.TYPES[t.dtype], "shape": list(t.shape),
                            "data_offsets": [offset, offset + t.nbytes]}
            offset += t.nbytes
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with open(path, "wb") as f:
            f.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                f.write(self.tensors[name].tobytes())
        print(f"{path.name}: {len(self.metadata)} cases, {len(self.tensors)} tensors, {path.stat().st_size} bytes")
