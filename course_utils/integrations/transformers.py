"""A callback for the Trainer of transformers."""

from typing import Any

from transformers import TrainerCallback

from ..recording import GradientRecord, Recorder
from .watching import Watching


class TransformersRecorder(TrainerCallback):
    """Records the run of a `transformers.Trainer`, one row per optimizer step.

    Batches that are accumulated are calls of one row, as in `cu.record`. The Trainer hands no loss
    to its callbacks, so `record.losses` is NaN.

    Args:
        **options: Those of `cu.record`, without model and optimizer.

    >>> recorder = TransformersRecorder(every=10)  # doctest: +SKIP
    >>> Trainer(model, args, train_dataset=data, callbacks=[recorder]).train()  # doctest: +SKIP
    >>> recorder.record.factor_per_layer()  # doctest: +SKIP
    """

    def __init__(self, **options: Any) -> None:
        self._watching = Watching(options)

    @property
    def recorder(self) -> Recorder | None:
        """The recorder of the last run; None before the first."""
        return self._watching.recorder

    @property
    def record(self) -> GradientRecord:
        """What has been recorded so far.

        Raises:
            RuntimeError: If no training has begun.
        """
        return self._watching.record

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the hooks on; called by the trainer."""
        optimizer = kwargs.get("optimizer")
        optimizer = getattr(optimizer, "optimizer", optimizer)  # as accelerate prepared it
        self._watching.begin(kwargs["model"], [] if optimizer is None else [optimizer])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the hooks off; called by the trainer."""
        self._watching.end()
