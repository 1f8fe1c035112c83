"""Explorers: every slider setting measured beforehand, drawn in the browser."""

from .gradient_descent import gradient_descent_explorer
from .grid import GridExplorer
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
    "gradient_descent_explorer",
]
