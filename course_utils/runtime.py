"""Where to compute, and how to make a run repeatable."""

import os
from typing import TypeVar, cast

import torch
from torch import nn

from .arguments import integer, one_of

T = TypeVar("T")
_CHOICES = ("auto", "cpu", "cuda", "mps")


def default_device() -> torch.device:
    """The device the course computes on: `COURSE_DEVICE`, or the best one there is.

    `COURSE_DEVICE` is one of cpu, cuda, mps and auto. Auto (also when unset or empty) takes
    CUDA where torch sees a GPU, and the CPU otherwise. Apple's mps is used when asked for by
    name; it has no float64.

    Returns:
        The torch device.

    Raises:
        ValueError: If `COURSE_DEVICE` is not one of the four words.
        RuntimeError: If the device asked for is absent.

    >>> isinstance(default_device(), torch.device)
    True
    """
    asked = os.environ.get("COURSE_DEVICE", "").strip().lower() or "auto"
    one_of("COURSE_DEVICE", asked, _CHOICES)
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if asked == "auto":
        return torch.device("cuda" if present["cuda"] else "cpu")
    if not present[asked]:
        raise RuntimeError(
            f"COURSE_DEVICE={asked} was asked for, but torch {torch.__version__} sees no such "
            "device here. Set COURSE_DEVICE=cpu or unset it, or install a torch build for it."
        )
    return torch.device(asked)


def seeded(seed: int) -> torch.Generator:
    """A CPU random generator that starts at `seed`.

    Numbers are drawn on the CPU and moved afterwards, so a GPU sees the same weights, batches
    and order as a CPU. The global random state is not touched.

    An integer in the environment variable `COURSE_SEED_OFFSET` is added to every seed: what a
    notebook says has to hold for other draws too (`make seeds`).

    Args:
        seed: Integer from −2⁶³ to 2⁶⁴−1.

    Returns:
        A generator to hand to the `generator` argument of any function that draws.

    Raises:
        TypeError: If `seed` is not an integer.
        ValueError: If `seed` does not fit into 64 bits, or `COURSE_SEED_OFFSET` is no integer.

    >>> a, b = torch.randn(3, generator=seeded(1)), torch.randn(3, generator=seeded(1))
    >>> bool((a == b).all())
    True
    """
    shifted = _seed(seed) + _offset()
    return fixed(integer("seed + COURSE_SEED_OFFSET", shifted, -(2**63), 2**64 - 1))


def fixed(seed: int) -> torch.Generator:
    """A CPU random generator for the package's own draws, which no offset shifts.

    Args:
        seed: Integer from −2⁶³ to 2⁶⁴−1.

    Returns:
        A generator.

    Raises:
        TypeError: If `seed` is not an integer.
        ValueError: If `seed` does not fit into 64 bits.
    """
    return torch.Generator(device="cpu").manual_seed(_seed(seed))


def _seed(value: int) -> int:
    return integer("seed", value, -(2**63), 2**64 - 1, hint="64 bits hold no other: seeded(0).")


def _offset() -> int:
    """`COURSE_SEED_OFFSET`, 0 where it is unset or empty."""
    text = os.environ.get("COURSE_SEED_OFFSET", "").strip()
    try:
        return int(text or 0)
    except ValueError:
        raise ValueError(
            f"COURSE_SEED_OFFSET={text!r} must be an integer, for example 1000. Unset it to draw "
            "what the notebooks show."
        ) from None


def to_device(value: T, target: torch.device | str | None = None) -> T:
    """Move tensors and modules, also inside tuples, lists and dicts, to a device.

    Args:
        value: A tensor, a module (moved in place, as torch does), or a nest of them. Anything
            else is handed back as it is.
        target: Where to; `default_device()` when None.

    Returns:
        The same structure on the device.

    >>> to_device({"x": torch.zeros(2)}, "cpu")["x"].device
    device(type='cpu')
    """
    where = default_device() if target is None else torch.device(target)
    if isinstance(value, torch.Tensor | nn.Module):
        return cast(T, value.to(where))
    if isinstance(value, dict):
        return type(value)((key, to_device(item, where)) for key, item in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(item, where) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(to_device(item, where) for item in value)
    return value
