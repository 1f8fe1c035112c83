"""Where to compute, and how to make a run repeatable."""

import difflib
import os
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import nn

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
    if asked not in _CHOICES:
        raise ValueError(f"COURSE_DEVICE={asked!r} is unknown: use one of {', '.join(_CHOICES)}.")
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

    Args:
        seed: Integer from −2⁶³ to 2⁶⁴−1.

    Returns:
        A generator to hand to the `generator` argument of any function that draws.

    Raises:
        TypeError: If `seed` is not an integer.
        ValueError: If `seed` does not fit into 64 bits.

    >>> a, b = torch.randn(3, generator=seeded(1)), torch.randn(3, generator=seeded(1))
    >>> bool((a == b).all())
    True
    """
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"seed={seed!r} must be an integer, for example seeded(0).")
    number = seed.__index__()
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"seed={number} does not fit into 64 bits: choose a smaller number.")
    return torch.Generator(device="cpu").manual_seed(number)


def check_generator(generator: object) -> None:
    """Refuse what is not a generator on the CPU, for functions that draw.

    Args:
        generator: What the caller handed over.

    Raises:
        TypeError: If it is no `torch.Generator`.
        ValueError: If it lives on another device than the CPU.

    >>> check_generator(seeded(0))
    """
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator={generator!r} must be a torch.Generator, for example cu.seeded(0)."
        )
    if generator.device.type != "cpu":
        raise ValueError(
            f"generator lives on {generator.device}: numbers are drawn on the CPU, so that they "
            "are the same everywhere. Use cu.seeded(0)."
        )


def unknown(argument: str, value: object, known: Iterable[str]) -> str:
    """The message for a name that is not among the known ones.

    Args:
        argument: Name of the argument.
        value: What was given.
        known: What could have been given.

    Returns:
        One line: argument, value, the closest known name if one is close, all known names.

    >>> unknown("init", "hee", ("he", "xavier"))
    "init='hee' is unknown: did you mean 'he'? Known: he, xavier."
    """
    names = list(known)
    folded = {name.lower().replace("_", ""): name for name in names}
    text = str(value).lower().replace("_", "").replace("-", "").replace(" ", "")
    close = difflib.get_close_matches(text, folded, n=1)
    guess = f" did you mean {folded[close[0]]!r}?" if close else ""
    return f"{argument}={value!r} is unknown:{guess} Known: {', '.join(names)}."


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
        return value.to(where)
    if isinstance(value, dict):
        return type(value)((key, to_device(item, where)) for key, item in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(item, where) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(to_device(item, where) for item in value)
    return value
