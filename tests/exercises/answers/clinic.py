"""Right and wrong answers to the exercises of notebook 12."""

import numpy as np
import torch
from torch import nn


def by_slope(sizes, limit=100.0, flip=False, per_layer=False, steps=-1):
    x = np.arange(len(sizes))
    slope = ((x - x.mean()) * np.log(sizes)).sum() / ((x - x.mean()) ** 2).sum()
    total = -slope * (1 if per_layer else len(sizes) + steps) * (-1 if flip else 1)
    if abs(total) <= np.log(limit):
        return "healthy"
    return "exploding" if total > 0 else "vanishing"


def by_ends(sizes):
    ratio = sizes[0] / sizes[-1]
    return "exploding" if ratio > 100 else "vanishing" if ratio < 0.01 else "healthy"


def by_range(sizes):
    return "vanishing" if sizes.max() / sizes.min() > 100 else "healthy"


def by_threshold(sizes):
    return "vanishing" if sizes.min() < 1e-7 else "exploding" if sizes.max() > 1e4 else "healthy"


def linear_layers(model):
    relu = any(isinstance(module, nn.ReLU) for module in model)
    return [module for module in model if isinstance(module, nn.Linear)], relu


def reset(model, gain, biases=True, only=None, constant=None):
    linear, relu = linear_layers(model)
    for layer in linear if only is None else [linear[only]]:
        std = (gain[0] if relu else gain[1]) / layer.in_features**0.5
        with torch.no_grad():
            if constant is None:
                layer.weight.normal_(0, std)
            else:
                layer.weight.fill_(constant)
            if biases:
                layer.bias.zero_()
    return model


def default(model):
    for layer in linear_layers(model)[0]:
        layer.reset_parameters()
    return model


def orthogonal(model):
    linear, relu = linear_layers(model)
    for layer in linear:
        nn.init.orthogonal_(layer.weight, gain=2**0.5 if relu else 1.0)
        nn.init.zeros_(layer.bias)
    return model


def pairs_of_twins(model):
    for layer in linear_layers(reset(model, (2**0.5, 1.0)))[0]:
        with torch.no_grad():
            layer.weight[1::2] = layer.weight[::2]
    return model


def missing(model, optimizer, *, groups=slice(None), frozen=False, same=lambda p, q: p is q):
    held = [q for group in optimizer.param_groups[groups] for q in group["params"]]
    return [
        name
        for name, p in model.named_parameters()
        if (frozen or p.requires_grad) and not any(same(p, q) for q in held)
    ]


ILL = {"A": "not_connected", "B": "double_softmax", "C": "healthy", "D": "dead"}

RIGHT = {
    "layer_factor": [
        lambda W, s: np.linalg.norm(W) / W.shape[1] ** 0.5 * np.linalg.norm(s) / s.size**0.5
    ],
    "verdict": [by_slope, lambda sizes: by_slope(np.float32(sizes))],
    "fool_the_gauge": [
        [10, 256, 0.9],
        (30, 256, 0.2),
        (np.int64(30), np.int32(256), torch.tensor(0.2)),
        (30, 256, np.float32(0.2)),
    ],
    "unknown_patients": [{name: {kind} for name, kind in ILL.items()}],
    "treat_network": [lambda m: reset(m, (2**0.5, 1.0)), orthogonal],
    "left_behind": [
        lambda m, o: tuple(
            name
            for name, p in m.named_parameters()
            if p.requires_grad and not any(p is q for g in o.param_groups for q in g["params"])
        )
    ],
}

WRONG = {
    "layer_factor": {
        "fan_out": lambda W, s: np.sqrt((s**2).mean() * (W**2).sum() / W.shape[0]),
        "mean slope": lambda W, s: s.mean() * np.sqrt((W**2).sum() / W.shape[1]),
        "squared": lambda W, s: (s**2).mean() * (W**2).sum() / W.shape[1],
        "not divided": lambda W, s: np.sqrt((s**2).mean() * (W**2).sum()),
        "operator norm": lambda W, s: np.sqrt((s**2).mean()) * np.linalg.norm(W, 2),
        "standard deviation": lambda W, s: np.sqrt((s**2).mean()) * W.std() * W.shape[0] ** 0.5,
        "operator norm for the other": lambda W, s: (
            np.linalg.norm(W, 2) * np.sqrt((s**2).mean() / W.shape[1])
        ),
        "W itself": lambda W, s: W,
        "weights only": lambda W, s: np.sqrt((W**2).sum() / W.shape[1]),
        "slopes only": lambda W, s: np.sqrt((s**2).mean()),
        "the sum of the two": lambda W, s: (
            np.sqrt((s**2).mean()) + np.sqrt((W**2).sum() / W.shape[1])
        ),
    },
    "verdict": {
        "a constant threshold": by_threshold,
        "first over last": by_ends,
        "largest over smallest": by_range,
        "directions swapped": lambda s: by_slope(s, flip=True),
        "L steps": lambda s: by_slope(s, steps=0),
        "in a set": lambda s: {by_slope(s)},
        "in capitals": lambda s: by_slope(s).upper(),
        "per layer": lambda s: by_slope(s, per_layer=True),
        "per layer against 1": lambda s: "vanishing" if s[0] < s[-1] else "exploding",
        "limit 10": lambda s: by_slope(s, limit=10.0),
        "always healthy": lambda s: "healthy",
        "a number": lambda s: 0.5,
    },
    "fool_the_gauge": {
        "He": (20, 200, (2 / 200) ** 0.5),
        "it vanishes": (20, 256, 0.01),
        "too shallow": (5, 64, 0.3),
        "too narrow, the gauge scatters": (20, 16, 1.0),
        "PyTorch's default": (30, 256, (3 * 256) ** -0.5),
        "too deep": (40, 200, 0.3),
        "two layers": (2, 256, 3.0),
        "overflows": (12, 200, 1e20),
        "text": "20, 200, 0.3",
        "negative": (20, 200, -0.3),
        "NaN": (20, 200, float("nan")),
        "half a layer": (20.5, 200, 0.3),
    },
    "unknown_patients": {
        "all vanish": dict.fromkeys("ABCD", "vanishing"),
        "the small loss taken for an illness": ILL | {"C": "vanishing"},
        "dead taken for vanishing": ILL | {"D": "vanishing"},
        "two swapped": ILL | {"A": "dead", "D": "not_connected"},
        "two kinds": ILL | {"D": {"dead", "vanishing"}},
        "one forgotten": {"A": "not_connected", "B": "double_softmax", "D": "dead"},
        "unknown kind": ILL | {"B": "softmax twice"},
        "a list": list(ILL.values()),
        "all healthy": dict.fromkeys("ABCD", "healthy"),
        "softmax alone taken for a mismatch": ILL | {"B": "loss_mismatch"},
        "cut off taken for a zero": ILL | {"A": "zero_gradient"},
        "a number": ILL | {"C": 1},
    },
    "treat_network": {
        "all weights 1/fan_in": lambda m: reset(m, (1, 1), constant=1 / 128),
        "each unit twice": pairs_of_twins,
        "nothing done": lambda m: m,
        "PyTorch's default": default,
        "Xavier for both": lambda m: reset(m, (1.0, 1.0)),
        "zeros": lambda m: reset(m, (0.0, 0.0)),
        "all alike": lambda m: reset(m, (1, 1), constant=0.01),
        "last layer only": lambda m: reset(m, (2**0.5, 1.0), only=-1),
        "standard deviation 1": lambda m: reset(m, (128**0.5, 128**0.5)),
        "other activation": lambda m: nn.Sequential(
            *(nn.LeakyReLU() if not isinstance(k, nn.Linear) else k for k in reset(m, (1.41, 1.41)))
        ),
        "shallower": lambda m: reset(m, (2**0.5, 1.0))[:1],
        "weights returned": lambda m: [p for p in m.parameters()],
    },
    "left_behind": {
        "first group only": lambda m, o: missing(m, o, groups=slice(1)),
        "last group only": lambda m, o: missing(m, o, groups=slice(-1, None)),
        "frozen ones too": lambda m, o: missing(m, o, frozen=True),
        "frozen ones only": lambda m, o: [
            n for n, p in m.named_parameters() if not p.requires_grad
        ],
        "all that train": lambda m, o: [n for n, p in m.named_parameters() if p.requires_grad],
        "by value": lambda m, o: missing(
            m, o, same=lambda p, q: p.shape == q.shape and torch.equal(p, q)
        ),
        "by shape": lambda m, o: missing(m, o, same=lambda p, q: p.shape == q.shape),
        "those that it holds": lambda m, o: [
            n for n, p in m.named_parameters() if n not in missing(m, o)
        ],
        "by number": lambda m, o: [n for n, _ in m.named_parameters()][
            sum(len(g["params"]) for g in o.param_groups) :
        ],
        "weights only": lambda m, o: [n for n in missing(m, o) if n.endswith("weight")],
        "layers": lambda m, o: list(dict.fromkeys(n.split(".")[0] for n in missing(m, o))),
        "how many": lambda m, o: len(missing(m, o)),
        "the tensors": lambda m, o: [m.get_parameter(n) for n in missing(m, o)],
        "a set": lambda m, o: set(missing(m, o)),
        "sorted by size": lambda m, o: sorted(missing(m, o), key=lambda n: m.get_parameter(n).ndim),
        "one text": lambda m, o: ", ".join(missing(m, o)),
        "nobody": lambda m, o: [],
        "it thaws": lambda m, o: missing(m.requires_grad_(True), o),
    },
}

SAID = [
    ("left_behind", "by value", "Equal numbers are not the same tensor"),
    ("left_behind", "first group only", "several groups"),
    ("left_behind", "frozen ones too", "What is frozen should not train"),
    ("left_behind", "it thaws", "change nothing"),
    ("left_behind", "a set", "a list of names"),
    ("fool_the_gauge", "half a layer", "depth=20.5 must be an integer, from 5 to 30."),
    ("fool_the_gauge", "text", "3 things: check((depth, width, std))"),
    ("treat_network", "each unit twice", "units 0 and 1 of layer 0"),
    ("layer_factor", "fan_out", "fan_in is the number of columns"),
    ("layer_factor", "mean slope", "root mean square"),
    ("layer_factor", "squared", "the square of it"),
    ("layer_factor", "standard deviation", "subtracts the mean"),
    ("layer_factor", "operator norm for the other", "operator norm"),
    ("layer_factor", "weights only", "Two factors"),
    ("layer_factor", "W itself", "expected"),
    ("verdict", "directions swapped", "if layer 1 gets less"),
    ("verdict", "first over last", "No single layer may decide"),
    ("verdict", "L steps", "there are L − 1 steps"),
    ("verdict", "per layer", "by least squares"),
    ("verdict", "in a set", "one of the texts"),
    ("verdict", "in capitals", "one of the texts"),
]
