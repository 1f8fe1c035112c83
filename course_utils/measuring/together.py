"""Measure many small tensors of one shape together.

A call of torch costs as much as reading some ten thousand numbers, so small outputs are copied
when they appear and measured some hundred at a time, in float64: no square of a float32 number
overflows or vanishes there.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .reductions import careful
from .torch_internals import set_grad_enabled

_STRIDED = torch.strided
SMALL = 1 << 12
"""Entries up to which tensors are measured together."""


def is_small(value: Tensor) -> bool:
    """Whether a CPU tensor is one of those that are measured together."""
    return (
        value.dtype is torch.float32
        and 0 < value.numel() <= SMALL
        and value.layout is _STRIDED
        and value.is_contiguous()
    )


def rms_together(values: Sequence[Tensor]) -> list[tuple[float, float, float]]:
    """RMS and numbers of NaN and Inf of each of some small tensors of one shape."""
    return [(rms, nan, inf) for rms, _, nan, inf in _moments(_rows(values))]


def outputs_together(
    values: Sequence[Tensor], saturation: tuple[float, float] | None, dead: bool
) -> list[list[float]]:
    """The seven numbers of `OutputNumbers.on_cpu` for each of some small tensors of one shape.

    Args:
        values: Outputs.
        saturation: As in `on_cpu`.
        dead: As there.
    """
    rows = _rows(values)
    count, units = rows.shape[1], len(values[0]) if values[0].dim() > 1 else 0
    bools = rows != 0
    far = np.full(len(rows), math.nan)
    if saturation is not None:
        center, distance = saturation
        signs = np.sign(np.abs(rows - np.float32(center)) - np.float32(distance))
        far = 0.5 + 0.5 * signs.mean(1, dtype=np.float64)
    gone = np.full(len(rows), math.nan)
    if dead and units:
        gone = 1.0 - bools.reshape(len(rows), units, -1).any(1).mean(1)
    return [
        [
            rms,
            mean,
            1.0 - np.count_nonzero(bools[i]) / count,
            math.nan if nan or inf else float(far[i]),
            float(gone[i]),
            nan,
            inf,
        ]
        for i, (rms, mean, nan, inf) in enumerate(_moments(rows))
    ]


def _rows(values: Sequence[Tensor]) -> np.ndarray:
    graph_is_built = torch.is_grad_enabled()
    set_grad_enabled(False)
    try:
        return torch.stack(list(values)).view(len(values), -1).numpy()
    finally:
        set_grad_enabled(graph_is_built)


def _moments(rows: np.ndarray) -> list[tuple[float, float, float, float]]:
    """RMS, mean, number of NaN and of Inf of each row."""
    count = rows.shape[1]
    wide = rows.astype(np.float64)
    with np.errstate(invalid="ignore"):
        squares = np.matmul(wide[:, None, :], wide[:, :, None]).ravel()
        sizes = np.sqrt(squares / count).tolist()
        means = (wide @ np.full(count, 1.0 / count)).tolist()
    return [
        (size, mean, 0.0, 0.0) if size < math.inf else careful(torch.from_numpy(row), count)
        for size, mean, row in zip(sizes, means, rows, strict=True)
    ]
