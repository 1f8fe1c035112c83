"""Companion package of the course on vanishing and exploding gradients.

Rooms are loaded on first use, so importing the package costs almost nothing beyond torch. What
stands under `TYPE_CHECKING` is read by editors and type checkers only; the table below it is what
runs, and a test holds the two together.

>>> import course_utils as cu
>>> cu.ACTIVATIONS["sigmoid"].bound
0.25
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import activations as activations
    from . import claims as claims
    from . import data as data
    from . import diagnosis as diagnosis
    from . import exercises as exercises
    from . import explorers as explorers
    from . import networks as networks
    from . import plots as plots
    from . import recording as recording
    from . import runtime as runtime
    from . import theory as theory
    from . import training as training
    from .activations import ACTIVATIONS as ACTIVATIONS
    from .activations import Activation as Activation
    from .activations import activation_slope as activation_slope
    from .claims import Comparison as Comparison
    from .claims import ledger as ledger
    from .data import ImageData as ImageData
    from .data import adding_problem as adding_problem
    from .data import load_digits as load_digits
    from .data import load_mnist as load_mnist
    from .data import spirals as spirals
    from .diagnosis import Diagnosis as Diagnosis
    from .diagnosis import Finding as Finding
    from .diagnosis import diagnose_run as diagnose_run
    from .diagnosis import first_nonfinite as first_nonfinite

    # In a circle of imports mypy takes the room's names `diagnose` and `replay` for their files.
    from .diagnosis.diagnose import diagnose as diagnose
    from .diagnosis.replay import replay as replay
    from .networks import INITIALIZERS as INITIALIZERS
    from .networks import conv_net as conv_net
    from .networks import initialize as initialize
    from .networks import mlp as mlp
    from .networks import recurrent as recurrent
    from .recording import GradientRecord as GradientRecord
    from .recording import Recorder as Recorder
    from .recording import record as record
    from .recording import record_through_time as record_through_time
    from .runtime import default_device as default_device
    from .runtime import seeded as seeded
    from .runtime import to_device as to_device
    from .training import Histories as Histories
    from .training import History as History
    from .training import fit as fit
    from .training import fit_many as fit_many

__version__ = "0.1.0"

_CONTENTS: dict[str, tuple[str, ...]] = {  # room: what is reached as cu.<name> too
    "activations": ("ACTIVATIONS", "Activation", "activation_slope"),
    "claims": ("Comparison", "ledger"),
    "data": ("ImageData", "adding_problem", "load_digits", "load_mnist", "spirals"),
    "diagnosis": (
        "Diagnosis",
        "Finding",
        "diagnose",
        "diagnose_run",
        "first_nonfinite",
        "replay",
    ),
    "exercises": (),
    "explorers": (),
    "networks": ("INITIALIZERS", "conv_net", "initialize", "mlp", "recurrent"),
    "plots": (),
    "recording": ("GradientRecord", "Recorder", "record", "record_through_time"),
    "runtime": ("default_device", "seeded", "to_device"),
    "theory": (),
    "training": ("Histories", "History", "fit", "fit_many"),
}
_ROOMS = tuple(_CONTENTS)
_NAMES = {name: room for room, names in _CONTENTS.items() for name in names}
__all__ = sorted((*_ROOMS, *_NAMES))


def __getattr__(name: str) -> Any:
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
