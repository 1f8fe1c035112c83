"""Watch any network: outputs, gradients, parameters and updates per layer and step."""

from .gradient_record import GradientRecord, NonFinite
from .recorder import Recorder, record
from .slope import Factor
from .through_time import through_time

__all__ = ["Factor", "GradientRecord", "NonFinite", "Recorder", "record", "through_time"]
