"""Slopes that are infinite, and branches that were put aside and come back as 0 × Inf."""

import math

import torch

from ...measuring.torch_internals import Node, saved_tensors
from ..graph import stem
from ..nonfinite import Origin
from .domain import ANGLE, in_log_domain
from .figures import capital, count, format_name, is_half, number, placed
from .reason import Reason


def broken_branch(origin: Origin) -> Reason | None:
    """What held NaN or Inf in the forward pass, was put aside, and comes back as 0 × Inf."""
    assert origin.node is not None
    inside = saved_tensors(origin.node)
    name = origin.source.operation
    bad = next((t for t in inside.values() if not bool(t.isfinite().all())), None)
    if bad is None or name not in (*_SLOPES, "mul", "sub", "add", "expm1", "exp2", "sigmoid"):
        return None
    data = next(iter(origin.data.items()), None)
    said = f"{capital(data[0])} holds {placed(data[1])}. " if data else ""
    shown = placed(bad)
    aside = ("where", "mul", "masked_fill", "index", "nan_to_num", "reciprocal", "div")
    next_one = next((name for name in origin.behind if name in aside), "")
    if next_one in ("reciprocal", "div"):
        return Reason(
            f"{said}{name} holds {shown}; its reciprocal is a harmless 0, but backward that is 0 × "
            "Inf.",
            "# 1 / (1 + exp(-z)) is torch.sigmoid(z); exp(a) / exp(b) is torch.exp(a - b)",
        )
    return Reason(
        f"{said}{name} holds {shown} in the forward pass; what follows puts those places aside "
        "(a where, a mask), but backward 0 × Inf and 0 × NaN are NaN.",
        _twice(name),
    )


def _twice(name: str) -> str:
    """Choose before the operation and after it."""
    call = {"pow": "safe ** p", "div": "1 / safe", "reciprocal": "1 / safe", "mul": "f(safe)"}
    done = call.get(name, f"torch.{name}(safe)")
    return (
        "# choose before the operation as well as after it:\n"
        "# safe = torch.where(good, z, torch.ones_like(z))\n"
        f"# torch.where(good, {done}, other)"
    )


_ROOT = (
    "# torch.sqrt(z + torch.finfo(z.dtype).eps); the root of a sum of squares is\n"
    "# torch.linalg.vector_norm(v, dim=…), whose gradient at 0 is 0"
)


_SLOPES: dict[str, tuple[str, float, str]] = {
    "sqrt": ("the slope of √z is infinite", 0, _ROOT),
    "rsqrt": ("the slope of 1/√z is infinite", 0, "# torch.rsqrt(z + torch.finfo(z.dtype).eps)"),
    "pow": (
        "the slope of z to a power below 1 is infinite",
        0,
        "# (z + torch.finfo(z.dtype).eps) ** p",
    ),
    "acos": ("the slope of acos is infinite", 1, ANGLE.format("torch.acos")),
    "asin": ("the slope of asin is infinite", 1, ANGLE.format("torch.asin")),
    "acosh": ("the slope of acosh is infinite", 1, "# torch.acosh(z.clamp_min(1 + eps))"),
    "atanh": ("the slope of atanh is infinite", 1, "# torch.atanh(z.clamp(-1 + eps, 1 - eps))"),
    "log": ("the slope of log z is infinite", 0, "# torch.log(z + torch.finfo(z.dtype).eps)"),
    "log2": ("the slope of log z is infinite", 0, "# torch.log2(z + torch.finfo(z.dtype).eps)"),
    "log10": ("the slope of log z is infinite", 0, "# torch.log10(z + torch.finfo(z.dtype).eps)"),
    "log1p": ("the slope of log(1 + z) is infinite", -1, "# torch.log1p(z + eps)"),
    "xlogy": ("the slope of log z is infinite", 0, "# torch.xlogy(p, z + eps)"),
    "div": ("the slope of 1/z is infinite", 0, "# x / (z + torch.finfo(z.dtype).eps)"),
    "reciprocal": ("the slope of 1/z is infinite", 0, "# 1 / (z + torch.finfo(z.dtype).eps)"),
    "linalg_vector_norm": ("the slope of this norm is infinite", 0, "# a norm of order 1 or more"),
    "norm": ("the slope of this norm is infinite", 0, "# a norm of order 1 or more"),
    "atan2": ("the angle of (0, 0) has no slope", 0, "# torch.atan2(a, b + eps)"),
    "exp": ("exp overflows", math.inf, ""),
}
"""What has an infinite slope, where, and what to write instead."""


def slope(origin: Origin) -> Reason | None:
    """An infinite slope, as of √ at 0."""
    assert origin.node is not None and origin.leaving is not None
    name = origin.source.operation
    if name not in _SLOPES:
        return None
    what, where, remedy = _SLOPES[name]
    bad = ~origin.leaving.isfinite()
    arriving = origin.arriving
    aside = (
        arriving is not None
        and arriving.shape == bad.shape
        and bool(bad.any())
        and bool((arriving[bad] == 0).all())
    )
    inside = saved_tensors(origin.node)
    squared = name == "sqrt" and _squares(origin.node)
    at = next((inside[key] for key in ("other", "self", "result") if key in inside), None)
    point = where
    if at is not None and at.shape == bad.shape:
        point = float(at[bad][0])
    if abs(point) == where:
        why = f"{what} at {number(point)}, and {count(bad)} are there."
    else:
        why = f"{name} has no finite slope at {number(point)} ({count(bad)})."
    if aside:
        why += " What follows puts them aside (the gradient that arrives is 0), but 0 × Inf is NaN."
        return Reason(capital(why), _twice(name))
    if squared:
        remedy = (
            "# the root of a sum of squares: torch.linalg.vector_norm(v, dim=…), whose gradient at "
            "0 is 0;\n# or torch.sqrt(z + torch.finfo(z.dtype).eps)"
        )
    if name in ("log", "log2", "log10"):
        remedy = in_log_domain(origin.node.next_functions[0][0])
    return Reason(capital(why), remedy)


def _squares(node: Node) -> bool:
    """Whether the argument of a root is a sum of squares."""
    after = node.next_functions[0][0]
    while after is not None and stem(after) in ("View", "Unsqueeze", "Squeeze"):
        after = after.next_functions[0][0]
    before = after.next_functions[0][0] if after is not None and after.next_functions else None
    summed = after is not None and stem(after) in ("Sum", "Mean")
    return summed and before is not None and stem(before) in ("Pow", "Mul")


def spectrum(origin: Origin) -> Reason | None:
    """Equal singular values or eigenvalues, by whose difference the backward pass divides."""
    assert origin.node is not None
    name = origin.source.operation
    if not any(word in name for word in ("svd", "eigh", "eig")):
        return None
    inside = saved_tensors(origin.node)
    values = next((t for k, t in inside.items() if k in ("S", "L", "eigenvalues", "s")), None)
    pair = ""
    if values is not None and not values.is_complex() and values.shape[-1] > 1:
        line = values.detach().double().reshape(-1, values.shape[-1])
        gaps = line.sort(-1).values.diff(dim=-1)
        row, place = divmod(int(gaps.argmin()), gaps.shape[-1])
        two = line.sort(-1).values[row, place : place + 2].tolist()
        pair = f" ({number(two[0])} and {number(two[1])})"
    return Reason(
        f"{name} divides by the differences of its values, and two of them are equal{pair}.",
        "# use the values alone (torch.linalg.svdvals, torch.linalg.eigvalsh), which have no such "
        "quotient,\n# or start from a matrix without equal ones: a + 1e-3 * torch.randn_like(a)",
    )


def too_steep(origin: Origin) -> Reason | None:
    """An overflow of the gradient itself."""
    arriving, leaving = origin.arriving, origin.leaving
    if arriving is None or leaving is None or not arriving.numel():
        return None
    largest = float(arriving.detach().abs().double().max())
    top = torch.finfo(leaving.dtype).max
    if largest < top**0.25:
        return None
    return Reason(
        f"The gradient that arrives is as large as {number(largest)}, and "
        f"{format_name(leaving)} ends at {number(top)}: it overflows.",
        "# a smaller factor in front of the loss (a GradScaler lowers it by itself), or bfloat16"
        if is_half(leaving)
        else "# start from smaller weights or normalize: the gradient explodes on its way;\n"
        "# clipping comes too late",
        overflow=True,
    )


def no_slope(origin: Origin) -> Reason:
    """Any other operation that hands on what is not finite."""
    assert origin.node is not None
    name, inside = origin.source.operation, saved_tensors(origin.node)
    at = next((t for t in inside.values() if bool((t == 0).any())), None)
    zeros = "" if at is None else f"; {count(at == 0)} that it was computed from are 0"
    return Reason(
        f"{name} gets a finite gradient and hands on {origin.source.value}: it has no finite "
        f"slope there{zeros}.",
        "# keep the argument away from that point: z + torch.finfo(z.dtype).eps; for a matrix\n"
        "# a + 1e-6 * torch.eye(n)",
    )
