"""Companion package of the course on vanishing and exploding gradients.

Rooms are loaded on first use, so importing the package costs almost nothing beyond torch.

>>> import course_utils as cu
>>> cu.ACTIVATIONS["sigmoid"].bound
0.25
"""

from importlib import import_module

__version__ = "0.1.0"

_ROOMS = (
    "activations",
    "claims",
    "data",
    "diagnosis",
    "exercises",
    "explorers",
    "networks",
    "plots",
    "recording",
    "runtime",
    "theory",
    "training",
)
_NAMES = {
    "default_device": "runtime",
    "seeded": "runtime",
    "to_device": "runtime",
    "ACTIVATIONS": "activations",
    "Activation": "activations",
    "activation_slope": "activations",
    "load_digits": "data",
    "load_mnist": "data",
    "spirals": "data",
    "adding_problem": "data",
    "ImageData": "data",
    "mlp": "networks",
    "conv_net": "networks",
    "recurrent": "networks",
    "initialize": "networks",
    "INITIALIZERS": "networks",
    "record": "recording",
    "Recorder": "recording",
    "GradientRecord": "recording",
    "record_through_time": "recording",
    "diagnose": "diagnosis",
    "Diagnosis": "diagnosis",
    "Finding": "diagnosis",
    "first_nonfinite": "diagnosis",
    "fit": "training",
    "fit_many": "training",
    "Histories": "training",
    "History": "training",
    "Comparison": "claims",
    "ledger": "claims",
}
__all__ = sorted((*_ROOMS, *_NAMES))


def __getattr__(name: str):
    """Load a room, or a public name from its room, the first time it is asked for."""
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name in _NAMES:
        value = getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List rooms and public names, so that tab completion finds them before they are loaded."""
    return sorted({*globals(), *__all__})
