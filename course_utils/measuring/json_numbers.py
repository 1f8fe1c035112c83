"""Numbers in strict JSON, which has neither NaN nor Inf."""

import math
from typing import cast


def to_json(number: float) -> float | str | None:
    """A number as strict JSON can hold it: NaN is None, Inf "inf" or "-inf".

    >>> to_json(math.nan), to_json(-math.inf), to_json(0.5)
    (None, '-inf', 0.5)
    """
    if math.isnan(number):
        return None
    return number if math.isfinite(number) else str(number)


def from_json(item: object) -> float:
    """The number that `to_json` wrote down; "nan" is read too.

    Raises:
        TypeError: If it is none.

    >>> from_json(None), from_json("-inf"), from_json(0.5)
    (nan, -inf, 0.5)
    """
    if item is None:
        return math.nan
    if isinstance(item, bool) or not (
        isinstance(item, int | float) or item in ("nan", "inf", "-inf")
    ):
        raise TypeError(f"{item!r} is not a number")
    return float(cast("float", item))
