#!/usr/bin/env python3
"""Writes activation_values.h: value, slope and curvature of every activation, from the textbook formulas at 300 digits.

Slopes and curvatures (second derivatives) are derivatives of the values, taken by mpmath, so they know nothing of weft's
formulas. Needs mpmath.
"""

from pathlib import Path

from mpmath import cos, diff, erf, exp, log, mp, mpf, nstr, sin, sqrt, tanh

mp.dps = 300

# Exact in binary, and at no kink of any function below.
POINTS = [mpf(x) for x in ("-12", "-2.75", "-0.625", "0.75", "2.5")]


def sigmoid(x):
    return 1 / (1 + exp(-x))


def softplus(x):
    return log(1 + exp(x))


def clamp(x, low, high):
    return min(max(x, mpf(low)), mpf(high))


SELU_ALPHA = mpf("1.6732632423543772848170429916717")
SELU_SCALE = mpf("1.0507009873554804934193349852946")

ACTIVATIONS = {
    "aria2": lambda x: (1 + exp(-x)) ** mpf("-1.5"),
    "bent_identity": lambda x: (sqrt(x * x + 1) - 1) / 2 + x,
    "celu": lambda x: x if x > 0 else exp(x) - 1,
    "elish": lambda x: (x if x >= 0 else exp(x) - 1) * sigmoid(x),
    "elu": lambda x: x if x > 0 else exp(x) - 1,
    "eswish": lambda x: mpf("1.75") * x * sigmoid(x),
    "ftswish": lambda x: (x * sigmoid(x) if x >= 0 else 0) + mpf("-0.2"),
    "gelu": lambda x: x * (1 + erf(x / sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + tanh(sqrt(2 / mp.pi) * (x + mpf("0.044715") * x**3))) / 2,
    "hard_elish": lambda x: (x if x >= 0 else exp(x) - 1) * clamp((x + 1) / 2, 0, 1),
    "hard_mish": lambda x: x / 2 * min(mpf(2), max(mpf(0), x + 2)),
    "hardshrink": lambda x: x if abs(x) > 0.5 else mpf(0),
    "hardsigmoid": lambda x: clamp(x + 3, 0, 6) / 6,
    "hardswish": lambda x: x * clamp(x + 3, 0, 6) / 6,
    "hardtanh": lambda x: clamp(x, -1, 1),
    "identity": lambda x: x,
    "isrlu": lambda x: x if x >= 0 else x / sqrt(1 + x * x),
    "isru": lambda x: x / sqrt(1 + x * x),
    "leaky_relu": lambda x: x if x > 0 else x / 100,
    "lecun_tanh": lambda x: mpf("1.7159") * tanh(2 * x / 3),
    "logsigmoid": lambda x: log(sigmoid(x)),
    "mish": lambda x: x * tanh(softplus(x)),
    "penalized_tanh": lambda x: tanh(x) if x > 0 else tanh(x) / 4,
    "relu": lambda x: max(x, mpf(0)),
    "relu6": lambda x: clamp(x, 0, 6),
    "selu": lambda x: SELU_SCALE * (x if x > 0 else SELU_ALPHA * (exp(x) - 1)),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "sine_relu": lambda x: x if x > 0 else (sin(x) - cos(x)) / 1000,
    "soft_clipping": lambda x: 2 * log((1 + exp(x / 2)) / (1 + exp((x - 1) / 2))),
    "softplus": softplus,
    "softshrink": lambda x: x - clamp(x, -0.5, 0.5),
    "softsign": lambda x: x / (1 + abs(x)),
    "sqnl": lambda x: x - x * abs(x) / 4 if abs(x) <= 2 else mpf(1 if x > 0 else -1),
    "tanh": tanh,
    "tanhexp": lambda x: x * tanh(exp(x)),
    "tanhshrink": lambda x: x - tanh(x),
    "thresholded_relu": lambda x: x if x > 1 else mpf(0),
    "weighted_tanh": lambda x: tanh(mpf("1.7145") * x),
}


def row(numbers):
    return "{" + ", ".join(nstr(mpf(v), 17, strip_zeros=True) for v in numbers) + "}"


def curvature(f, x):
    """f''(x); what is left of a straight line's is 0."""
    v = diff(f, x, 2)
    return v if abs(v) > mpf("1e-100") else mpf(0)


def main():
    lines = [
        "// Written by make_activation_values.py: value, slope, curvature of activations with default parameters.",
        "#pragma once",
        "// clang-format off",
        f"constexpr double kActivationPoints[] = {row(POINTS)};",
        "struct KnownActivation {",
        "  const char* name;",
        f"  double value[{len(POINTS)}], slope[{len(POINTS)}], curvature[{len(POINTS)}];",
        "};",
        "constexpr KnownActivation kKnownActivations[] = {",
    ]
    for name, f in sorted(ACTIVATIONS.items()):
        lines.append(
            f'    {{"{name}", {row(map(f, POINTS))}, {row(diff(f, x) for x in POINTS)}, '
            f"{row(curvature(f, x) for x in POINTS)}}},"
        )
    lines += ["};", "// clang-format on", ""]
    Path(__file__).with_name("activation_values.h").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
