"""The flight recorder: stop at the first NaN or Inf, and keep the step so that it can run again."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..measuring.torch_internals import foreach_copy_, tree_map
from .assemble import label
from .crash_folder import generators, write_folder
from .gradient_record import GradientRecord
from .naming import named_buffers, named_parameters, plain_names
from .nests_on_disk import encoded
from .open_step import GRAD_INF, GRAD_NAN, GRAD_ORDER, OpenStep, Packed
from .parameters import readable
from .whole import local_part

_MEAN, _NAN, _INF = 1, 5, 6
_READ = (_MEAN, _NAN, _INF, GRAD_NAN, GRAD_INF, GRAD_ORDER)


class Found(NamedTuple):
    """The first NaN or Inf of a step.

    Attributes:
        layer: Name of the layer, of the parameter, or "(loss)".
        pass_name: "parameter", "forward", "loss", "backward" or "gradient".
    """

    layer: str
    pass_name: str

    @property
    def words(self) -> str:
        """Where it is, in words."""
        return {
            "parameter": f"in the parameter {self.layer}, before the step",
            "forward": f"in the forward pass, in the output of layer {self.layer}",
            "loss": "in the loss, where each layer's output was finite",
            "backward": f"in the backward pass, in the gradient at the output of {self.layer}",
            "gradient": f"in the gradient of the parameter {self.layer}",
        }[self.pass_name]


def first_bad(
    row: OpenStep,
    names: Sequence[str],
    parameters: dict[int, Any],
    gradients: dict[int, Any],
    loss: Tensor | float | None,
    at_hand: dict[int, Any] | None = None,
    scaled: bool = False,
) -> Found | None:
    """The first NaN or Inf of a step in the order of time; waits once for a device, if at all.

    −Inf alone in an output may be a mask, and is let through as long as the loss is finite.
    Where a GradScaler multiplies the loss by more than 1, gradients do not count: it lowers its
    factor until they fit. Where that is down to 1 and they still do not, they do.

    Args:
        row: The step, whose gradients have been measured.
        names: Of all parameters.
        parameters: RMS by column, of those that have numbers.
        gradients: RMS by column, of those that are there.
        loss: If it is known.
        at_hand: RMS by column of what an optimizer is about to use as gradients.
        scaled: Whether gradients do not count, whatever the factor.
    """
    at_hand = at_hand or {}
    places = [(key, path, values) for key, held in row.outputs for path, values in held]
    numbers: list = [values[i] for *_, values in places for i in _READ]
    numbers += [*parameters.values(), *gradients.values(), *at_hand.values()]
    numbers += [0.0 if loss is None else loss, row.scale]
    waits = any(isinstance(number, Tensor) for number in numbers)
    read = Packed(numbers, waits).read().numpy()
    outputs, rest = np.split(read, [len(places) * len(_READ)])
    ends = np.cumsum([len(parameters), len(gradients), len(at_hand)])
    sizes, grads, last, (loss_now, scale) = np.split(rest, ends)
    mean, nan, inf, grad_nan, grad_inf, order = outputs.reshape(-1, len(_READ)).T

    def layer(index: Any) -> str:
        (name, call), path, _ = places[int(index)]
        return label((name, call, path))

    def first(columns: dict[int, Any], bad: np.ndarray) -> str:
        return names[list(columns)[int(bad.argmax())]]

    if (bad := ~np.isfinite(sizes)).any():
        return Found(first(parameters, bad), "parameter")
    bad = (nan > 0) | (inf > 0)
    mask = (nan == 0) & (mean == -math.inf)
    lost = not math.isfinite(loss_now)
    if (bad & (lost | ~mask)).any():
        return Found(layer((bad & (lost | ~mask)).argmax()), "forward")
    if lost:
        return Found("(loss)", "loss")
    if scaled:
        return None
    if scale > 1:
        bad = ~np.isfinite(last)
        return Found(first(at_hand, bad), "gradient") if bad.any() else None
    if (bad := (np.nan_to_num(grad_nan) > 0) | (np.nan_to_num(grad_inf) > 0)).any():
        return Found(layer(np.where(bad, order, math.inf).argmin()), "backward")
    if (bad := ~np.isfinite(grads)).any():
        return Found(first(gradients, bad), "gradient")
    bad = ~np.isfinite(last)
    return Found(first(at_hand, bad), "gradient") if bad.any() else None


class Flight:
    """What a flight recorder keeps of the step that runs, to write it down if it fails.

    Attributes:
        folder: The folder that was written; None as long as none was.

    Args:
        save: Where to; None to raise only.
        before: Whether to copy the parameters too at the start of each step. Not needed where
            one optimizer moves them, since the check comes before it does.
    """

    def __init__(self, save: Path | None, before: bool) -> None:
        self.folder: Path | None = None
        self.begins = -1
        self._save = save
        self._buffers = _Copies()
        self._parameters = _Copies() if before else None
        self._call: tuple | None = None
        self._noted: tuple[int, Any] = (-1, None)
        self._generators: dict[str, Any] = {}
        self._autocast: dict[str, str] = {}

    @property
    def saves(self) -> bool:
        """Whether a folder is to be written."""
        return self._save is not None

    def prepare(self) -> None:
        """See that the folder can be written, before a step is lost.

        Raises:
            OSError: If not.
        """
        if self._save is not None:
            self._save.parent.mkdir(parents=True, exist_ok=True)

    def begin(self, step: int, model: nn.Module, call: tuple | None) -> None:
        """Keep what a step begins with.

        Args:
            step: Its index.
            model: The watched model.
            call: What it is called with, args and kwargs; None where it is not called itself.
        """
        self.begins = step
        with torch.no_grad():
            self._call = None if call is None else tree_map(_copied, call)
            names = plain_names(model)
            self._buffers.take(named_buffers(model, names))
            if self._parameters is not None:
                self._parameters.take(named_parameters(model, names))
        self._generators = generators()
        self._autocast = {
            device: str(torch.get_autocast_dtype(device)).removeprefix("torch.")
            for device in ("cpu", "cuda")
            if torch.is_autocast_enabled(device)
        }

    def note(self, step: int, batch: Any) -> None:
        """Keep the batch that a step was given, targets included."""
        if self.saves:
            with torch.no_grad():
                self._noted = step, tree_map(_copied, batch)

    def error(
        self,
        found: Found,
        step: int,
        model: nn.Module,
        stepped: bool,
        record: Callable[[], GradientRecord],
    ) -> FloatingPointError:
        """The error to raise; the folder is written.

        Args:
            found: Where the first NaN or Inf is.
            step: Index of the step.
            model: The watched model.
            stepped: Whether an optimizer has stepped since.
            record: Makes the record.
        """
        rank = _rank()
        where = "" if rank is None else f", rank {rank}"
        text = f"The first NaN or Inf is {found.words} (step {step}{where}). "
        text += "The weights have moved since." if stepped else "The optimizer has not stepped."
        if self._save is None:
            text += " With save=folder the step is kept, and cu.replay names the operation."
            return FloatingPointError(text)
        gone = stepped and self._parameters is None
        if gone:
            text += " So the folder has the weights behind the step."
        batch = self._noted[1] if self._noted[0] == step else None
        if self._call is None and batch is None:
            text += " No batch was seen: the model was not called itself. See recorder.note."
        elif batch is None:
            text += " The folder has no targets: recorder.note(batch=(x, y)) hands them over."
        words = {
            **{"step": step, "rank": rank, "layer": found.layer, "pass": found.pass_name},
            "message": text,
            "weights": "after the step" if gone else "before the step",
            "torch": torch.__version__,
            "autocast": self._autocast,
        }
        place = self._save if rank is None else self._save / f"rank{rank}"
        try:
            arrays: dict[str, np.ndarray] = {}
            words |= self._encoded(model, batch, arrays)
            self.folder = write_folder(place, words, arrays, record())
        except Exception as failed:
            error = FloatingPointError(text)
            error.add_note(
                f"Nothing was saved in {str(place)!r}: {type(failed).__name__}: {failed}. What was "
                "there before is as it was."
            )
            return error
        text += f" Saved: cu.replay({str(self.folder)!r}, model, loss) names the operation."
        return FloatingPointError(text)

    def _encoded(
        self, model: nn.Module, batch: Any, arrays: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        names = plain_names(model)
        parameters = named_parameters(model, names)
        held = self._parameters.held if self._parameters else parameters
        return {
            "parameters": {
                name: encoded(local_part(tensor), arrays)
                for name, tensor in held.items()
                if readable(tensor)
            },
            "buffers": {name: encoded(t, arrays) for name, t in self._buffers.held.items()},
            "trainable": [name for name, p in parameters.items() if p.requires_grad],
            "training": {names[name]: m.training for name, m in model.named_modules()},
            "generators": encoded(self._generators, arrays),
            "call": None if self._call is None else encoded(self._call, arrays),
            "batch": None if batch is None else encoded(batch, arrays),
        }

    def let_go(self) -> None:
        """Forget tensors; the folder's name stays."""
        self._buffers, self._call, self._noted = _Copies(), None, (-1, None)
        self._parameters = None


class _Copies:
    """Copies of named tensors, in memory that is made once."""

    def __init__(self) -> None:
        self.held: dict[str, Tensor] = {}
        self._kinds: list[tuple] = []

    def take(self, named: dict[str, Any]) -> None:
        tensors = {name: local_part(t) for name, t in named.items() if readable(t)}
        kinds = [(name, t.shape, t.dtype, t.device) for name, t in tensors.items()]
        if kinds != self._kinds:
            self.held = {name: torch.empty_like(t.detach()) for name, t in tensors.items()}
            self._kinds = kinds
        if tensors:
            foreach_copy_(list(self.held.values()), [t.detach() for t in tensors.values()])


def _copied(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.detach().clone().requires_grad_(leaf.requires_grad)


def _rank() -> int | None:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    return None
