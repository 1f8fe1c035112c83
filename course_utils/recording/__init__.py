"""Watch any network: outputs, gradients, parameters and updates per layer and step."""

from .across_ranks import combine
from .crash_folder import SavedStep, read_folder, set_generators
from .gradient_record import GradientRecord, NonFinite
from .naming import named_buffers, named_parameters, plain_names
from .nests_on_disk import NotKept, decoded
from .recorder import Recorder, record
from .slope import Factor
from .through_time import record_through_time

__all__ = [
    "Factor",
    "GradientRecord",
    "NonFinite",
    "NotKept",
    "Recorder",
    "SavedStep",
    "combine",
    "decoded",
    "named_buffers",
    "named_parameters",
    "plain_names",
    "read_folder",
    "record",
    "record_through_time",
    "set_generators",
]
