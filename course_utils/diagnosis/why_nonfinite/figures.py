"""Numbers, counts and places in words, for what is said about a NaN or Inf."""

import math

import torch
from torch import Tensor


def is_half(z: Tensor) -> bool:
    """Whether a tensor has 16 bits."""
    return z.dtype in (torch.float16, torch.bfloat16)


def format_name(z: Tensor) -> str:
    """Its number format."""
    return str(z.dtype).removeprefix("torch.")


def least(z: Tensor) -> float:
    """Its smallest number; NaN without one, as for complex numbers."""
    return math.nan if z.is_complex() or not z.numel() else float(z.detach().double().min())


def count(chosen: Tensor) -> str:
    """How many of how many."""
    return f"{int(chosen.sum())} of {chosen.numel()} numbers"


def placed(tensor: Tensor) -> str:
    """How many NaN and Inf, and in which column or place.

    >>> placed(torch.tensor([[1, math.nan], [0, math.nan]]))
    '2 NaN among 4 numbers, in column 1'
    """
    plain = tensor.detach()
    bad = ~plain.isfinite()
    lost = int(plain.isnan().sum())
    infinite = int(bad.sum()) - lost
    counts = [f"{lost} NaN"] * bool(lost) + [f"{infinite} Inf"] * bool(infinite)
    text = f"{' and '.join(counts)} among {plain.numel()} numbers"
    if not plain.dim():
        return text.replace(" among 1 numbers", "")
    places = bad.nonzero().tolist()
    if (column := one_column(bad)) is not None:
        return f"{text}, in column {column}"
    if plain.dim() > 1 and len(plain) > 1 and len({place[0] for place in places}) == 1:
        return f"{text}, all in sample {places[0][0]}"
    return f"{text}, first at {index_of(places[0])}"


def one_column(bad: Tensor) -> int | None:
    """The column of a table in which all of them stand."""
    if bad.dim() != 2 or bad.shape[1] < 2:
        return None
    columns = bad.any(0).nonzero().flatten().tolist()
    return columns[0] if len(columns) == 1 else None


def shape_of(tensor: Tensor) -> str:
    """Its shape in words."""
    return f"({'×'.join(map(str, tensor.shape))})"


def index_of(place: list[int]) -> str:
    """A place in a tensor; a bare number where it has one axis."""
    return f"[{', '.join(map(str, place))}]" if len(place) != 1 else f"{place[0]}"


def number(value: float) -> str:
    """A number with three digits, whole ones in full.

    >>> [number(value) for value in (-0.3, 65504.0, 123456.0, math.inf)]
    ['−0.3', '65504', '1.23e5', 'Inf']
    """
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "−Inf"
    if value == round(value) and abs(value) < 1e5:
        text = str(int(value))
    else:
        text = f"{value:.3g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e−")
    return text.replace("-", "−")


def near_one(value: float) -> str:
    """A number that three digits would not tell from ±1.

    >>> near_one(1.00000012), near_one(2.5)
    ('1 + 1.2e-7', '2.5')
    """
    excess = abs(value) - 1
    if not 0 < abs(excess) < 1e-3:
        return number(value)
    more = f"{abs(excess):.2g}".replace("e-0", "e-")
    return f"{'−' if value < 0 else ''}1 {'+' if (excess > 0) == (value > 0) else '−'} {more}"


def capital(text: str) -> str:
    """The same with a capital first."""
    return text[:1].upper() + text[1:]
