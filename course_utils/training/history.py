"""What happened in a training run: plain numbers that draw, print and store themselves."""

import html
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..measuring import from_json, to_json


@dataclass(frozen=True, eq=False)
class History:
    """What happened in a training run. Plain numbers: no model, no graph.

    Attributes:
        loss: 𝓛 of the batch before each step, float64, (steps,).
        accuracy: Share of right answers in that batch; NaN where labels are not classes, or an
            output is NaN or Inf.
        grad_norm: Length of the whole gradient before clipping.
        lr: η of each step.
        epoch_loss: Mean of `loss` over the samples of each complete epoch, (epochs,).
        epoch_accuracy: The same of `accuracy`.
        test_loss: 𝓛 on the test set after each epoch; NaN without a test set.
        test_accuracy: Share of right answers on the test set; NaN likewise.
        steps_per_epoch: Batches in an epoch; 0 where no epoch was completed and it is not known.
        stopped: "finished", "interrupted", "non-finite loss" or "non-finite gradient".
        layer: Where the first NaN or Inf arose; None where there was none.
        message: The same in a sentence; empty for a finished run.
    """

    loss: Tensor
    accuracy: Tensor
    grad_norm: Tensor
    lr: Tensor
    epoch_loss: Tensor
    epoch_accuracy: Tensor
    test_loss: Tensor
    test_accuracy: Tensor
    steps_per_epoch: int = 0
    stopped: str = "finished"
    layer: str | None = None
    message: str = ""

    @property
    def steps(self) -> int:
        """Number of steps with a loss."""
        return len(self.loss)

    @property
    def epochs(self) -> int:
        """Number of complete epochs."""
        return len(self.epoch_loss)

    def to_dict(self) -> dict[str, Any]:
        """Lists and strings that JSON can hold; NaN becomes None, Inf "inf" or "-inf"."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: [to_json(x) for x in value.tolist()] if isinstance(value, Tensor) else value
            for name, value in values.items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "History":
        """The history that `to_dict` wrote down.

        Raises:
            ValueError: If a field is missing, unknown or not a list of numbers.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise ValueError(f"values must be a dict with the keys {', '.join(sorted(names))}.")
        try:
            read: dict[str, Any] = {
                name: torch.tensor([from_json(x) for x in value], dtype=torch.float64)
                if isinstance(value, list)
                else value
                for name, value in values.items()
            }
        except (TypeError, ValueError):
            raise ValueError("values holds a list with something else than numbers.") from None
        return cls(**read)

    def _summary(self) -> list[tuple[str, str]]:
        ended = self.stopped + (f" in {self.layer}" if self.layer else "")
        rows = [("steps", str(self.steps)), ("epochs", str(self.epochs)), ("ended", ended)]
        if self.steps:
            rows.append(("loss", f"{self.loss[0]:.3g} → {self.loss[-1]:.3g}"))
        if self.epochs:
            for label, values in (
                ("training accuracy", self.epoch_accuracy),
                ("test accuracy", self.test_accuracy),
            ):
                if values[-1].isfinite():
                    rows.append((label, f"{values[-1]:.3f}"))
        return rows

    def __repr__(self) -> str:
        text = ", ".join(f"{name} {value}" for name, value in self._summary())
        return f"History({text})"

    def _repr_html_(self) -> str:
        return _table(self._summary())


@dataclass(frozen=True, eq=False)
class Histories:
    """What happened when many models were trained at once. Plain numbers, models first.

    Indexing and iterating give the `History` of one model. What a model did not live to see is
    NaN: steps after it diverged, and epochs that it did not complete.

    Attributes:
        loss: 𝓛 of each model's batch before each step, float64, (models, steps).
        accuracy: Share of right answers in that batch; NaN where labels are not classes, or an
            output is NaN or Inf.
        grad_norm: Length of the whole gradient before clipping.
        lr: η of each step.
        epoch_loss: Mean of `loss` over the samples of each complete epoch, (models, epochs).
        epoch_accuracy: The same of `accuracy`.
        test_loss: 𝓛 on the test set after each epoch; NaN without a test set.
        test_accuracy: Share of right answers on the test set; NaN likewise.
        steps_per_epoch: Batches in an epoch.
        stopped: Of each model: "finished", "interrupted", "non-finite loss" or "non-finite
            gradient".
        layer: Where its first NaN or Inf arose; None where there was none.
        message: The same in a sentence; empty for a finished run.
    """

    loss: Tensor
    accuracy: Tensor
    grad_norm: Tensor
    lr: Tensor
    epoch_loss: Tensor
    epoch_accuracy: Tensor
    test_loss: Tensor
    test_accuracy: Tensor
    steps_per_epoch: int
    stopped: tuple[str, ...]
    layer: tuple[str | None, ...]
    message: tuple[str, ...]

    @property
    def diverged(self) -> Tensor:
        """Which models ended at a loss or gradient that is NaN or Inf; bool, (models,)."""
        return torch.tensor([why.startswith("non-finite") for why in self.stopped])

    def __len__(self) -> int:
        return len(self.stopped)

    def __getitem__(self, model: int) -> History:
        """The history of one model, as `cu.fit` would have returned it."""
        if not -len(self) <= model < len(self):
            raise IndexError(
                f"model {model} is not among the {len(self)} models, 0 to {len(self) - 1}."
            )
        steps = ~self.lr[model].isnan()
        epochs = ~self.epoch_loss[model].isnan()
        return History(
            loss=self.loss[model][steps],
            accuracy=self.accuracy[model][steps],
            grad_norm=self.grad_norm[model][steps],
            lr=self.lr[model][steps],
            epoch_loss=self.epoch_loss[model][epochs],
            epoch_accuracy=self.epoch_accuracy[model][epochs],
            test_loss=self.test_loss[model][epochs],
            test_accuracy=self.test_accuracy[model][epochs],
            steps_per_epoch=self.steps_per_epoch,
            stopped=self.stopped[model],
            layer=self.layer[model],
            message=self.message[model],
        )

    def _summary(self) -> list[tuple[str, str]]:
        ended = [f"{self.stopped.count(why)} {why}" for why in dict.fromkeys(self.stopped)]
        rows = [
            ("models", str(len(self))),
            ("steps", str(self.loss.shape[1])),
            ("epochs", str(self.epoch_loss.shape[1])),
            ("ended", ", ".join(ended)),
        ]
        for label, values in (
            ("training accuracy", self.epoch_accuracy),
            ("test accuracy", self.test_accuracy),
        ):
            last = values[:, -1:]
            last = last[last.isfinite()]
            if len(last):
                rows.append((label, f"{last.min():.3f} to {last.max():.3f}"))
        return rows

    def __repr__(self) -> str:
        text = ", ".join(f"{name} {value}" for name, value in self._summary())
        return f"Histories({text})"

    def _repr_html_(self) -> str:
        return _table(self._summary())


def _table(summary: list[tuple[str, str]]) -> str:
    rows = "".join(
        f"<tr><th style='text-align:left'>{name}</th><td>{html.escape(value)}</td></tr>"
        for name, value in summary
    )
    return f"<table>{rows}</table>"
