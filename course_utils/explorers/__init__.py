"""Explorers: every slider setting measured beforehand, drawn in the browser."""

from .activations import activations_explorer
from .chain_rule import chain_rule_explorer
from .clinic import clinic_explorer
from .clipping import clipping_explorer
from .eigenvalues import eigenvalues_explorer
from .gate import gate_explorer
from .gradient_descent import gradient_descent_explorer
from .grid import GridExplorer
from .initialization import initialization_explorer
from .normalization import normalization_explorer
from .precision import precision_explorer
from .record import record_explorer
from .residual import residual_explorer
from .spec import Bars, Line, Panel, Points, Readout, Slider, Text

__all__ = [
    "Bars",
    "GridExplorer",
    "Line",
    "Panel",
    "Points",
    "Readout",
    "Slider",
    "Text",
    "activations_explorer",
    "chain_rule_explorer",
    "clinic_explorer",
    "clipping_explorer",
    "eigenvalues_explorer",
    "gate_explorer",
    "gradient_descent_explorer",
    "initialization_explorer",
    "normalization_explorer",
    "precision_explorer",
    "record_explorer",
    "residual_explorer",
]
