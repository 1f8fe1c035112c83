"""The recorder: puts hooks on a model for the length of a with block."""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import integer
from ..measuring import OutputNumbers, has_weight
from ..measuring.torch_internals import Node, is_compiled, queue_callback, uncompiled, will_execute
from .assemble import assemble
from .gradient_record import GradientRecord
from .hooks import ForwardTap, PassBegins
from .latest import newest
from .open_step import ACCUMULATED, MEASURED, ClosedStep, OpenStep, Packed, Watch
from .parameters import Sizes, Update, count_of, readable
from .selection import named_layers


def record(
    model: nn.Module,
    layers: str | Iterable[str | nn.Module] | Callable[[str, nn.Module], bool] | None = None,
    every: int = 1,
    optimizer: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | None = None,
    *,
    scaler: torch.amp.GradScaler | None = None,
    evaluation: bool = False,
) -> "Recorder":
    """Watch outputs, gradients and parameters of any model, without changing its training.

    ```python
    with cu.record(model) as recorder:
        for batch in loader:
            loss = step(model, batch)
            recorder.step(loss=loss)
    record = recorder.record
    ```

    A step is everything between two calls of `recorder.step()`. With `optimizer=` a step closes
    by itself when the optimizer has stepped, the record holds the update ratio, and
    `recorder.step(loss=loss)` after the optimizer's step only adds the loss.

    What a row holds: ∂L/∂h is the gradient of the backward pass that filled `.grad`, at the
    output h of a module. With a plain call of `torch.autograd.grad` it is that of the first such
    call. A module called twice in a step has two rows, `name` and `name#2`.

    Gradient accumulation: batches accumulated in one step are calls `name`, `name#2`, …, each
    with the gradient of its own loss, and `parameter_grad_rms` is that of the sum in `.grad`.
    Call `recorder.step()` after each batch instead, and each batch is a step with its own rows,
    and `parameter_grad_rms` that of the running sum.

    What cannot be seen: operations that are no modules (`F.relu`, `h + x`). The layer before
    them is recorded, with the gradient at its own output. A fused nn.RNN, nn.LSTM or nn.GRU
    shows its output sequence as one tensor: see `record_through_time`. A validation pass is not
    recorded: neither without gradients nor in eval mode, unless `evaluation=True`.

    Args:
        model: Any nn.Module. A compiled one runs eagerly inside the block, with a warning.
        layers: Which modules have rows. None: leaf modules, and recurrent and attention modules.
            "all": every module. Or names, modules, or a function of name and module.
        every: Record step 0, every, 2·every, …; in between the hooks are off.
        optimizer: The optimizer whose steps close the rows, or several: the last one closes.
            Costs one copy of the parameters in memory.
        scaler: The torch.amp.GradScaler in use: its factor is divided out of every gradient.
            Without it the gradients are those that backward computes, with the factor in.
        evaluation: Also record forward passes in eval mode or without gradients.

    Returns:
        A `Recorder`, to be used in a with statement.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a layer is unknown, `every` is below 1, or the optimizer holds none of the
            model's parameters.

    >>> model = nn.Linear(2, 1)
    >>> with record(model) as recorder:
    ...     model(torch.ones(4, 2)).sum().backward()
    >>> recorder.record.grad_rms.tolist()
    [[1.0]]
    """
    return Recorder(model, layers, every, optimizer, scaler=scaler, evaluation=evaluation)


class Recorder:
    """Hooks on a model, and the rows measured so far. Made by `record`; see there."""

    def __init__(
        self,
        model: nn.Module,
        layers: str | Iterable[str | nn.Module] | Callable[[str, nn.Module], bool] | None = None,
        every: int = 1,
        optimizer: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | None = None,
        *,
        scaler: torch.amp.GradScaler | None = None,
        evaluation: bool = False,
    ) -> None:
        _check_model(model)
        if scaler is not None and not hasattr(scaler, "get_scale"):
            raise TypeError(f"scaler={scaler!r} must be a torch.amp.GradScaler or None.")
        self._watch = Watch(model, bool(evaluation))
        self._compiled = is_compiled(model)
        self._target: nn.Module | None = (target := uncompiled(model))
        self._layers = named_layers(target, layers)
        self._every = integer("every", every, 1, hint="1 records each step, 10 each tenth.")
        named = list(target.named_parameters())
        self._parameter_names = tuple(name for name, _ in named)
        self._parameters = [parameter for _, parameter in named]
        self._parameter_counts = tuple(map(count_of, self._parameters))
        self._sizes = Sizes(self._parameters)
        self._first_leaf: Node | None = None
        self._optimizers = _optimizers(optimizer, self._parameters)
        self._scaler = scaler
        self._types = {name: type(module).__name__ for name, module in self._layers}
        self._weighted = {name for name, module in self._layers if has_weight(module)}
        self._update = Update(self._sizes)
        self._before: list | None = None
        self._rows: list[ClosedStep] = []
        self._later: set[tuple[str, int]] = set()
        self._index = 0
        self._closed_by: str | None = None
        self._warned: set[str] = set()
        self._handles: list = []
        self._taps: list = []
        self._exit = contextlib.ExitStack()
        self._state = "new"
        self._built: GradientRecord | None = None

    @property
    def model(self) -> nn.Module | None:
        """The watched model; None when the block is over."""
        return self._watch.model

    def __enter__(self) -> "Recorder":
        """Put the hooks on.

        Raises:
            RuntimeError: If this recorder was used before.
        """
        if self._state != "new":
            raise RuntimeError("This recorder was used before: make a new one with record(model).")
        self._state = "open"
        if self._compiled:
            self._run_eagerly()
        assert self._target is not None
        # The module that forwards to the rest, to see a new pass begin.
        handle = self._target.register_forward_pre_hook(PassBegins(self._new_forward_pass))
        self._handles.append(handle)
        for i, optimizer in enumerate(self._optimizers):
            last = i == len(self._optimizers) - 1
            self._handles.append(optimizer.register_step_pre_hook(self._before_update))
            if last:
                self._handles.append(optimizer.register_step_post_hook(self._after_update))
        self._open_row()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        """Take the hooks off, also after an exception, and let go of the model."""
        try:
            if kind is None and self._watch.row is not None and self._watch.row.outputs:
                self._close_row(self._watch.row)
        finally:
            if self._watch.row is not None:
                self._watch.row.release()
            self._watch.row = None
            self._remove_taps()
            for handle in self._handles:
                handle.remove()
            self._exit.close()
            self._state = "closed"
            self._handles, self._parameters, self._optimizers = [], [], []
            self._first_leaf = None
            self._layers, self._update, self._scaler = [], Update(self._sizes), None
            self._watch.model = self._target = None
            self._watch.reducer = OutputNumbers()
        if kind is None and not self._rows:
            self._warn_empty("The record is empty")

    @property
    def record(self) -> GradientRecord:
        """What has been recorded, as a frozen record; inside the block, the steps closed so far.

        Raises:
            RuntimeError: If the block was never entered.
        """
        if self._state == "new":
            raise RuntimeError("Nothing is recorded yet: use `with record(model) as recorder:`.")
        if self._built is None or len(self._built) != len(self._rows) or self._state == "open":
            self._built = assemble(
                self._rows,
                self._parameter_names,
                self._parameter_counts,
                self._types,
                self._weighted,
                self._later,
            )
        return self._built

    def latest(self) -> dict[str, float]:
        """The newest row as a flat dict of floats, for any logger.

        Keys: `grad_rms/<layer>` and `output_rms/<layer>`, with an optimizer
        `update_ratio/<parameter>`, and `loss`, `lr`, `total_grad_norm` and `step`. Names are made
        of letters, digits and `_ . - /`: `fc#2` is `fc.2`, `(model)` is `model`. What has no value
        is left out. It costs as much as one row, however many there are.

        Returns:
            The dict; empty before the first step is closed.

        >>> model = nn.Linear(2, 1)
        >>> with record(model) as recorder:
        ...     model(torch.ones(4, 2)).sum().backward()
        ...     recorder.step(loss=3.0)
        >>> recorder.latest()["grad_rms/model"], recorder.latest()["loss"]
        (1.0, 3.0)
        """
        if not self._rows:
            return {}
        names = self._parameter_names
        return newest(self._rows[-1], names, self._parameter_counts)

    def start(self) -> "Recorder":
        """Put the hooks on, as the with statement does; `close` takes them off.

        Raises:
            RuntimeError: If this recorder was used before.
        """
        return self.__enter__()

    def close(self) -> None:
        """Close an open step and take the hooks off. A second call does nothing."""
        if self._state == "open":
            self.__exit__(None, None, None)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Inside this block a backward pass leaves no trace in the record; outputs do."""
        row = self._watch.row
        before = row.paused if row else False
        try:
            if row:
                row.paused = True
            yield
        finally:
            if row:
                row.paused = before

    def step(self, loss: Tensor | float | None = None) -> None:
        """Close this step's row.

        With `optimizer=` the optimizer's step has closed it; then this only adds the loss.

        Args:
            loss: The step's loss, a scalar tensor or a number; it is not kept as a tensor with
                a graph.

        Raises:
            RuntimeError: If called outside the with block.
            ValueError: If `loss` has more than one element.
            TypeError: If `loss` is not a number.
        """
        if self._state != "open":
            raise RuntimeError("recorder.step() belongs inside the `with record(...)` block.")
        value = _loss_value(loss)
        if self._closed_by == "optimizer":
            self._closed_by = None
        else:
            self._close_step()
            self._closed_by = "user"
        if value is not None and self._rows and self._rows[-1].step == self._index - 1:
            self._rows[-1].loss = value

    def _new_backward_pass(self, row: OpenStep) -> int:
        """Note that a backward pass began, and say what kind it is."""
        if not self._accumulates():
            return MEASURED
        if self._scaler is not None:
            row.scale = _scale_now(self._scaler)

        def when_done() -> None:
            if not row.closed:
                self._measure_gradients(row, scaled=True)

        queue_callback(when_done)
        return ACCUMULATED

    def _new_forward_pass(self) -> None:
        """Note that the model was called; closes a step that the optimizer skipped."""
        if self._closed_by == "user":
            self._closed_by = None
        row = self._watch.row
        if row is None:
            return
        row.forward_passes += 1
        if not self._optimizers or self._before is not None or not row.accumulated:
            return
        trainable = [p for p in self._parameters if p.requires_grad]
        if torch.is_grad_enabled() and trainable and all(p.grad is None for p in trainable):
            self._close_step()
            if self._watch.row is not None:
                self._watch.row.forward_passes = 1

    # A step's life

    def _open_row(self) -> None:
        if self._index % self._every == 0:
            self._watch.row = OpenStep(
                self._index,
                self._new_backward_pass,
                self._warned,
                self._later,
            )
            if not self._taps:
                for name, module in self._layers:
                    tap = ForwardTap(self._watch, name, module)
                    self._taps.append(module.register_forward_hook(tap))
        else:
            self._watch.row = None
            self._remove_taps()

    def _remove_taps(self) -> None:
        for handle in self._taps:
            handle.remove()
        self._taps = []

    def _close_step(self) -> None:
        if self._watch.row is not None:
            self._close_row(self._watch.row)
        self._index += 1
        self._open_row()

    def _close_row(self, row: OpenStep) -> None:
        if not row.outputs:
            self._warn_empty(f"No layer ran in step {row.step}")
        if row.parameter_rms is None:
            row.parameter_rms = self._sizes.measure(self._parameters)
        if row.parameter_grad_rms is None:
            row.parameter_grad_rms = self._measure_gradients(row, scaled=False)
        keys, outputs = row.close()
        numbers = [*row.parameter_rms, *row.parameter_grad_rms]
        waits = any(isinstance(number, Tensor) for number in numbers)
        if self._rows and self._rows[-1].keys == keys:
            keys = self._rows[-1].keys  # names are kept once
        parameters = Packed(numbers, waits)
        self._rows.append(
            ClosedStep(
                row.step, keys, outputs, parameters, row.has_grad, row.scale, row.grad_scale_applies
            )
        )

    def _warn_empty(self, what: str) -> None:
        reasons = sorted(self._watch.skipped) or [
            "the model was not called, or its layers were called by a function that "
            "torch.compile had compiled before the block"
        ]
        message = (
            f"{what}: {'; '.join(reasons)}. Use model.train(), or record(..., evaluation=True), "
            "and hand over the model that is called, not compiled."
        )
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, RuntimeWarning, stacklevel=4)

    # Parameters, gradients, updates

    def _accumulates(self) -> bool:
        """Whether the current backward pass adds to the `.grad` of a parameter."""
        try:
            if self._first_leaf is not None and will_execute(self._first_leaf):
                return True
            trainable = [p for p in self._parameters if p.requires_grad and readable(p)]
            for parameter in trainable:
                node = torch.autograd.graph.get_gradient_edge(parameter).node
                if will_execute(node):
                    self._first_leaf = node  # asked first in the next pass
                    return True
        except RuntimeError:  # autograd.grad was asked for the gradient of this leaf
            return False
        return not trainable

    def _measure_gradients(self, row: OpenStep, scaled: bool) -> list:
        """Measure `.grad` of all parameters, and without an optimizer the parameters."""
        row.grad_scale_applies = scaled
        grads = [p.grad for p in self._parameters]
        row.has_grad = tuple(grad is not None for grad in grads)
        if self._optimizers:  # the parameters are measured just before its step
            row.parameter_grad_rms = self._sizes.measure(grads)
        else:
            both = self._sizes.measure(grads, self._parameters)
            row.parameter_grad_rms, row.parameter_rms = both[: len(grads)], both[len(grads) :]
        return row.parameter_grad_rms

    def _before_update(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        if self._before is not None:
            return
        waiting = self._row_that_waits()
        row = self._watch.row
        if row is None and waiting is None:
            return
        if row is not None and waiting is None and row.parameter_grad_rms is None:
            if any(p.grad is not None for p in self._parameters):
                self._measure_gradients(row, scaled=False)
        self._before = self._update.before(self._parameters)
        if row is not None and waiting is None:
            row.parameter_rms = self._before

    def _after_update(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        waiting = self._row_that_waits()
        update = None
        if self._before is not None:
            numbers = [*self._before, *self._update.after(self._parameters)]
            update = Packed(numbers, any(isinstance(number, Tensor) for number in numbers))
            self._before = None
        rate = float(optimizer.param_groups[0].get("lr", math.nan))
        if waiting is not None:
            waiting.update, waiting.lr = update, rate
            self._closed_by = None
            return
        if self._closed_by == "user":
            self._closed_by = None
            return
        recorded = self._watch.row is not None
        self._close_step()
        if recorded:
            self._rows[-1].update, self._rows[-1].lr = update, rate
        self._closed_by = "optimizer"

    def _row_that_waits(self) -> ClosedStep | None:
        """The last row, if the user closed it before the optimizer stepped."""
        if self._closed_by != "user" or not self._rows:
            return None
        last = self._rows[-1]
        return last if last.step == self._index - 1 and last.update is None else None

    def _run_eagerly(self) -> None:
        stance = getattr(torch.compiler, "set_stance", None)
        if stance is None:
            raise RuntimeError(
                f"torch {torch.__version__} cannot switch compilation off for a while: hand the "
                "model over as it was before torch.compile."
            )
        self._exit.enter_context(stance("force_eager"))
        warnings.warn(
            "The model is compiled, and compiled code passes hooks by: inside this block it runs "
            "eagerly, slower and with eager rounding. Afterwards it is compiled as before.",
            RuntimeWarning,
            stacklevel=3,
        )


def _check_model(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model={model!r} is a {type(model).__name__}: record() needs an nn.Module, such as "
            "the network itself."
        )
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"model holds a scripted module ({name or 'the model itself'}), whose inside "
                "takes no hooks: hand over the model as it was before torch.jit."
            )


def _optimizers(given: Any, parameters: list) -> list[torch.optim.Optimizer]:
    if given is None:
        return []
    try:
        optimizers = [given] if isinstance(given, torch.optim.Optimizer) else list(given)
    except TypeError:
        optimizers = [given]
    for optimizer in optimizers:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"optimizer={optimizer!r} must be a torch.optim.Optimizer, for example "
                "torch.optim.SGD(model.parameters(), lr=0.1)."
            )
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if parameters and not any(id(p) in own for p in parameters):
            raise ValueError(
                f"optimizer={type(optimizer).__name__} holds none of the model's parameters: "
                "build it from model.parameters() of the model that is recorded."
            )
    return optimizers


def _loss_value(loss: Tensor | float | None) -> Tensor | float | None:
    if loss is None:
        return None
    if isinstance(loss, Tensor):
        if loss.numel() != 1:
            raise ValueError(
                f"loss has the shape {tuple(loss.shape)}: a step has one loss, for example "
                "loss.mean()."
            )
        value = loss.detach()
        return float(value) if value.device.type == "cpu" else value.clone()
    try:
        return float(loss)
    except (TypeError, ValueError) as error:
        raise TypeError(f"loss={loss!r} must be a scalar tensor or a number.") from error


def _scale_now(scaler: torch.amp.GradScaler) -> Tensor | float:
    scale = getattr(scaler, "_scale", None)
    if isinstance(scale, Tensor) and scale.device.type != "cpu":
        return scale.detach().clone()
    return float(scaler.get_scale())
