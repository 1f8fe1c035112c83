"""Watch any network: outputs, gradients, parameters and updates per layer and step."""

from .across_ranks import combine
from .gradient_record import GradientRecord, NonFinite
from .recorder import Recorder, record
from .slope import Factor
from .through_time import record_through_time

__all__ = [
    "Factor",
    "GradientRecord",
    "NonFinite",
    "Recorder",
    "combine",
    "record",
    "record_through_time",
]
