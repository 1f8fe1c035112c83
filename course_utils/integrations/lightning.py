"""A callback for Lightning."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ..recording import GradientRecord, Recorder
from .watching import Watching


class LightningRecorder(Callback):
    """Records the run of a `lightning.Trainer`, one row per optimizer step.

    Batches that are accumulated are calls of one row, as in `cu.record`. The loss of a row is that
    of its last batch. After an exception the record holds the steps until then.

    Args:
        **options: Those of `cu.record`, without model and optimizer.

    >>> recorder = LightningRecorder(every=10)  # doctest: +SKIP
    >>> Trainer(callbacks=[recorder]).fit(model, loader)  # doctest: +SKIP
    >>> recorder.record.factor_per_layer()  # doctest: +SKIP
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._watching = Watching(options)
        self._steps = 0

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

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the hooks on; called by the trainer."""
        self._steps = trainer.global_step
        self._watching.begin(pl_module, list(trainer.optimizers))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Add the loss to the row that the optimizer has closed; called by the trainer."""
        if self.recorder is None or trainer.global_step == self._steps:
            return  # more batches of this step are to come
        self._steps = trainer.global_step
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self.recorder.step(loss=loss.detach() if isinstance(loss, torch.Tensor) else None)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the hooks off; called by the trainer."""
        self._watching.end()

    def on_exception(self, *args: Any) -> None:
        """Take the hooks off; called by the trainer."""
        self._watching.end()
