"""Bring a network and a batch: what is wrong with its gradient, why, and what mends it."""

from .diagnose import diagnose
from .nonfinite import NonFiniteSource, first_nonfinite
from .over_run.diagnose_run import diagnose_run
from .replay import replay
from .report import KINDS, Diagnosis, DiagnosisError, Finding
from .slope import LIMIT, fit_slope
from .spectrum import jacobian_singular_values

__all__ = [
    "KINDS",
    "LIMIT",
    "Diagnosis",
    "DiagnosisError",
    "Finding",
    "NonFiniteSource",
    "diagnose",
    "diagnose_run",
    "first_nonfinite",
    "fit_slope",
    "jacobian_singular_values",
    "replay",
]
