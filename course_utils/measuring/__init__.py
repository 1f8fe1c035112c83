"""What several rooms measure with: reductions, slopes, cells, nests, layers, numbers in JSON."""

from .cells import GATES, DiagonalCell, State, cell, initial_states
from .json_numbers import from_json, to_json
from .layers import ROOT, WHOLE, has_weight, is_layer
from .nests import tensors_in
from .reductions import OutputNumbers, rms_of, rms_on_device, trusted
from .slope import line_slope
from .together import SMALL, Alike, SmallOutputs, is_small, outputs_together, rms_together

__all__ = [
    "GATES",
    "ROOT",
    "SMALL",
    "WHOLE",
    "Alike",
    "DiagonalCell",
    "OutputNumbers",
    "SmallOutputs",
    "State",
    "cell",
    "from_json",
    "has_weight",
    "initial_states",
    "is_layer",
    "is_small",
    "line_slope",
    "outputs_together",
    "rms_of",
    "rms_on_device",
    "rms_together",
    "tensors_in",
    "to_json",
    "trusted",
]
