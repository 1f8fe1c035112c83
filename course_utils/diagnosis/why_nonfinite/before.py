"""NaN and Inf that were there before the operation: data, weights, constants."""

import math

from ..nonfinite import Origin
from .figures import capital, one_column, placed
from .reason import Reason


def data(origin: Origin) -> Reason | None:
    """A batch that holds it."""
    if origin.source.operation != "data" or origin.out is None:
        return None
    name = next(iter(origin.data), "the batch")
    letter = "y" if origin.source.layer == "(target)" else "x"
    first = "find out how it came into the data"
    bad = ~origin.out.detach().isfinite()
    if (column := one_column(bad)) is not None:
        first += f"; fill {letter}[:, {column}], or leave it out"
    return Reason(
        f"{capital(name)} holds {placed(origin.out)}. The network is not to blame.",
        f"# {first}. Until then, without those samples:\n"
        f"# good = {letter}.flatten(1).isfinite().all(1); x, y = x[good], y[good]",
    )


def parameter(origin: Origin) -> Reason | None:
    """A parameter or buffer that holds it."""
    if not origin.source.operation.startswith("parameter") or origin.out is None:
        return None
    name = origin.source.operation.removeprefix("parameter ")
    return Reason(
        f"{name} holds {placed(origin.out).replace('sample', 'row')}: an earlier step was too "
        "long, its gradient or its data were not finite, or the tensor was never filled.",
        "# start again from the last good checkpoint, with norm clipping;\n"
        "# cu.record shows the step in which it came",
    )


def constant(origin: Origin) -> Reason | None:
    """Another operand that holds it."""
    if not origin.held or origin.out is None:
        return None
    return Reason(
        f"One of its operands, of shape {tuple(origin.out.shape)}, held {placed(origin.out)} "
        "already: it comes neither from the batch nor from a parameter, so from the code (class "
        "weights, a statistic, a constant).",
        "# check that constant: assert constant.isfinite().all()",
    )


def undefined(origin: Origin) -> Reason | None:
    """NaN that a line of code, or a function of torch, writes for what has no value."""
    numbers = [a for a in (*origin.args, *origin.kwargs.values()) if isinstance(a, float)]
    if not any(math.isnan(a) for a in numbers):
        return None
    return Reason(
        "It is written there: as a mark in the code, or by a function that is not defined for its "
        "argument (a logarithm of a negative determinant).",
        "# look for float('NaN') in the code, and at what the functions around it are given",
    )
