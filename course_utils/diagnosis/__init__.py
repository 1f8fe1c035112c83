"""Bring a network and a batch: what is wrong with its gradient, why, and what mends it."""

from .diagnose import diagnose
from .nonfinite import NonFiniteSource, first_nonfinite
from .report import KINDS, Diagnosis, DiagnosisError, Finding
from .spectrum import jacobian_singular_values

__all__ = [
    "KINDS",
    "Diagnosis",
    "DiagnosisError",
    "Finding",
    "NonFiniteSource",
    "diagnose",
    "first_nonfinite",
    "jacobian_singular_values",
]
