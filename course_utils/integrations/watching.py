"""What the callbacks share: one recorder for one run."""

from typing import Any

import torch

from ..recording import GradientRecord, Recorder, record


class Watching:
    """Starts a recorder when training starts, and closes it when it ends.

    Attributes:
        recorder: The recorder of the last run; None before the first.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.recorder: Recorder | None = None
        self._options = options

    @property
    def record(self) -> GradientRecord:
        """What has been recorded so far.

        Raises:
            RuntimeError: If no training has begun.
        """
        if self.recorder is None:
            raise RuntimeError("Nothing is recorded yet: training has not begun.")
        return self.recorder.record

    def begin(self, model: torch.nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
        """Put the hooks on."""
        self.end()
        self.recorder = record(model, optimizer=optimizers or None, **self._options).start()

    def end(self) -> None:
        """Take the hooks off; a second call does nothing."""
        if self.recorder is not None:
            self.recorder.close()
