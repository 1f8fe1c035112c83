"""The newest row as flat floats, for a logger."""

import math
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .assemble import label
from .gradient_record import PER_LAYER
from .open_step import QUANTITIES, ClosedStep, Key


@lru_cache(maxsize=8)
def _of_layers(keys: tuple[Key, ...], quantity: str) -> tuple[str, ...]:
    return tuple(f"{quantity}/{_plain(label(key))}" for key in keys)


@lru_cache(maxsize=8)
def _of_parameters(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"update_ratio/{_plain(name)}" for name in names)


def _plain(name: str) -> str:
    """A name of letters, digits and `_ . - /`."""
    name = re.sub(r"[^\w.\-/]+", ".", name, flags=re.ASCII)
    return re.sub(r"\.{2,}", ".", name).strip(".")


def newest(row: ClosedStep, parameters: tuple[str, ...], counts: Sequence[int]) -> dict[str, float]:
    """What `Recorder.latest` returns.

    Args:
        row: The newest row.
        parameters: Names of the parameters.
        counts: How many numbers each has.
    """
    outputs = row.outputs.read().numpy().reshape(-1, QUANTITIES)
    sizes = row.parameters.read().numpy().reshape(2, -1)
    scale = float(row.scale)
    found: dict[str, float] = {}
    for quantity, bad in (("output_rms", "output_nan"), ("grad_rms", "grad_nan")):
        values = outputs[:, PER_LAYER.index(quantity)]
        values = values / scale if quantity == "grad_rms" else values
        there = ~np.isnan(values) | (outputs[:, PER_LAYER.index(bad)] > 0)
        _put(found, _of_layers(row.keys, quantity), values, there)
    if row.update is not None:
        before, change = row.update.read().numpy().reshape(2, -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where((before == 0) & (change == 0), 0.0, change / before)
        _put(found, _of_parameters(parameters), ratio, np.ones(len(ratio), bool))
    have = list(row.has_grad)
    if any(have):
        grads = sizes[1] / scale if row.scale_applies else sizes[1]
        found["total_grad_norm"] = float(np.sqrt((np.array(counts) * grads**2)[have].sum()))
    if row.loss is not None:
        found["loss"] = float(row.loss)
    if not math.isnan(row.lr):
        found["lr"] = row.lr
    found["step"] = float(row.step)
    return found


def _put(found: dict, names: tuple[str, ...], values: np.ndarray, there: np.ndarray) -> None:
    if there.all():
        found.update(zip(names, values.tolist(), strict=True))
    else:
        pairs = zip(names, values.tolist(), there.tolist(), strict=True)
        found.update({name: value for name, value, known in pairs if known})
