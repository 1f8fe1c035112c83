"""The recorder: puts hooks on a model for the length of a with block."""

import contextlib
import math
import os
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from ..arguments import integer, one_of
from ..measuring import OutputNumbers, SmallOutputs
from ..measuring.torch_internals import (
    Node,
    after_accumulation,
    current_backward,
    is_compiled,
    queue_callback,
    uncompiled,
    will_execute,
)
from .assemble import Assembly
from .flight import Flight, Found, first_bad
from .gradient_record import GradientRecord
from .hooks import AccumulatedTap, ForwardTap, PassBegins, PassBeginsWith, PassEnds
from .latest import newest
from .open_step import (
    ACCUMULATED,
    MEASURED,
    ClosedStep,
    OpenStep,
    Packed,
    Watch,
    in_order,
)
from .parameters import Sizes, Update, readable, rms_of_all
from .structure import Structure, called_around
from .whole import local_part, settles_later

TURNS = 3
"""How often a callback at the end of a backward pass goes behind the others that wait there.

DistributedDataParallel and FSDP fill `.grad` in callbacks of their own, which may queue another.
"""


def record(
    model: nn.Module,
    layers: str | Iterable[str | nn.Module] | Callable[[str, nn.Module], bool] | None = None,
    every: int = 1,
    optimizer: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | None = None,
    *,
    scaler: torch.amp.GradScaler | None = None,
    evaluation: bool = False,
    parameters: str | re.Pattern | Iterable[str] | Callable[[str], bool] | None = None,
    keep: int | None = None,
    on_nonfinite: str | None = None,
    save: str | os.PathLike | None = None,
    gradients: str = "backward",
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

    Several optimizers that step in turn (GANs): a row closes when the last of them has stepped, and
    of each parameter it holds the gradient and the update of the last step of its own optimizer.

    Several processes: put a recorder on each. The gradient is the one after the reduction, also
    under DistributedDataParallel and `fully_shard`; of a parameter that is sharded or a DTensor the
    row holds the size of the whole, for which all processes add up one number per parameter and
    step. Where you average `.grad` yourself behind `backward()`, say `gradients="step"`. Outputs
    are those of the process: `GradientRecord.across_ranks` puts them together.

    A model that changes inside the block (layers replaced, added, frozen) is followed from its
    next forward pass on.

    A flight recorder: with `on_nonfinite="raise"` training stops at the first NaN or Inf in an
    output, the loss, a gradient or a parameter of a recorded step, by a FloatingPointError that
    names layer or parameter, pass, step and rank. With `optimizer=` it comes out of the
    optimizer's step, before the weights move, else out of `recorder.step()`; the optimizer may
    step before that. A loss is looked at where `recorder.note(loss=)` or `recorder.step(loss=)`
    gives it; on a GPU, with `optimizer=`, only the former. −Inf alone in an output may be a mask
    and passes while the loss is finite. Looking costs one wait for the device per step of the
    optimizer; without this mode there is none. Nothing is sent to other processes: one that stops
    does not wait for the others, and they meet its absence at their next reduction.

    Mixed precision: a GradScaler makes gradients overflow now and then, leaves out that step and
    lowers its factor. That stops no run: with `optimizer=` gradients are looked at only when the
    optimizer steps, and with `scaler=` only where its factor is down to 1 and cannot mend them.
    Without `optimizer=`, hand over `scaler=`. NaN or Inf in an output or in the loss stops the
    run in any case, out of `recorder.step()` or the next forward pass if the scaler keeps the
    optimizer from stepping.

    With `save=folder` the failing step is kept, for `cu.replay`: the rows (`record.npz`, see
    `GradientRecord.load`), what the model was called with first in that step, the batch with its
    targets where `recorder.note(batch=)` or `recorder.step(loss, batch)` gave it, torch's random
    state, and parameters and buffers as they were before the step; all without pickle. Each step
    copies the batch and the buffers, and the parameters too unless there is one optimizer. A
    folder that is there is left alone: the new one is `folder-2`, and so on; see
    `recorder.folder` and the message. If the folder cannot be written the error says so, and
    nothing half-written is left. Each of several processes writes `folder/rank0`, `folder/rank1`,
    …. Of a sharded parameter it holds the shard.

    What cannot be seen: operations that are no modules (`F.relu`, `h + x`). The layer before
    them is recorded, with the gradient at its own output. A fused nn.RNN, nn.LSTM or nn.GRU
    shows its output sequence as one tensor: see `record_through_time`. A validation pass is not
    recorded: neither without gradients nor in eval mode, unless `evaluation=True`.

    Args:
        model: Any nn.Module. A compiled one runs eagerly in the recorded steps, with a warning.
            Names are those without the wrappers of devices and compilers.
        layers: Which modules have rows. None: leaf modules, and recurrent and attention modules.
            "all": every module. Or names, modules, or a function of name and module.
        every: Record step 0, every, 2·every, …; in between the hooks are off.
        optimizer: The optimizer whose steps close the rows, or several: the last one closes.
            Also in the wrapper that accelerate or Fabric makes of it.
            Costs one copy of the parameters in memory.
        scaler: The torch.amp.GradScaler in use: its factor is divided out of every gradient.
            Without it the gradients are those that backward computes, with the factor in.
        evaluation: Also record forward passes in eval mode or without gradients.
        parameters: Which parameters have columns; `total_grad_norm` is that of these. None: all.
            Or a pattern with wildcards ("*.weight"), a compiled regular expression that is
            searched for in the name, a list of names and patterns, or a function of the name.
        keep: How many rows stay: the last ones, so that memory does not grow. None keeps all.
        on_nonfinite: "raise" stops at the first NaN or Inf; None only records it.
        save: Folder for the step that fails; needs `on_nonfinite="raise"`.
        gradients: Which gradients of the parameters the rows hold. "backward": those in `.grad`
            when the backward pass ends, before clipping. "step": those that the optimizer gets, so
            after clipping, and after processes have been averaged by hand; needs `optimizer=`.

    Returns:
        A `Recorder`, to be used in a with statement.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a layer or parameter is unknown, `every` or `keep` is below 1, the optimizer
            holds none of the model's parameters, `save` is given without `on_nonfinite="raise"`,
            or `gradients="step"` without an optimizer.

    >>> model = nn.Linear(2, 1)
    >>> with record(model) as recorder:
    ...     model(torch.ones(4, 2)).sum().backward()
    >>> recorder.record.grad_rms.tolist()
    [[1.0]]
    """
    return Recorder(
        model,
        layers,
        every,
        optimizer,
        scaler=scaler,
        evaluation=evaluation,
        parameters=parameters,
        keep=keep,
        on_nonfinite=on_nonfinite,
        save=save,
        gradients=gradients,
    )


class Recorder:
    """Hooks on a model, and the rows measured so far. Made by `record`; see there.

    Args:
        model: As in `record`, like all but the last.
        layers: As there.
        every: As there.
        optimizer: As there.
        scaler: As there.
        evaluation: As there.
        parameters: As there.
        keep: As there.
        on_nonfinite: As there.
        save: As there.
        gradients: As there.
        strip: Whether names leave out the prefixes of wrappers, such as `module.`.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Iterable[str | nn.Module] | Callable[[str, nn.Module], bool] | None = None,
        every: int = 1,
        optimizer: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | None = None,
        *,
        scaler: torch.amp.GradScaler | None = None,
        evaluation: bool = False,
        parameters: str | re.Pattern | Iterable[str] | Callable[[str], bool] | None = None,
        keep: int | None = None,
        on_nonfinite: str | None = None,
        save: str | os.PathLike | None = None,
        gradients: str = "backward",
        strip: bool = True,
    ) -> None:
        _check_model(model)
        if scaler is not None and not hasattr(scaler, "get_scale"):
            raise TypeError(f"scaler={scaler!r} must be a torch.amp.GradScaler or None.")
        self._watch = Watch(model, bool(evaluation))
        self._compiled = is_compiled(model)
        self._target: nn.Module | None = (target := uncompiled(model))
        self._structure = Structure(target, layers, strip, parameters)
        self._every = integer("every", every, 1, hint="1 records each step, 10 each tenth.")
        self._optimizers = _optimizers(optimizer, list(target.parameters()))
        one_of("gradients", gradients, ("backward", "step"))
        self._at_step = gradients == "step"
        if self._at_step and not self._optimizers:
            raise ValueError("gradients='step' are those of the optimizer's step: add optimizer=.")
        self._scaler = scaler
        self._first_leaf: Node | None = None
        self._parameters: list[nn.Parameter] = []
        self._owned: list[list[int]] = []
        self._updates: list[Update] = []
        self._prepare()
        self._late: tuple[dict, dict] = ({}, {})
        if keep is not None:
            keep = integer("keep", keep, 1, hint="None keeps all rows.")
        self._rows: deque[ClosedStep] = deque(maxlen=keep)
        self._flight = _flight(on_nonfinite, save, len(self._optimizers))
        self._pending: Found | None = None
        self._later: set[tuple[str, int]] = set()
        self._index = 0
        self._closed_by: str | None = None
        self._warned: set[str] = set()
        self._around: set[str] = set()
        self._handles: list = []
        self._taps: dict[int, ForwardTap] = {}
        self._hangs = False
        self._root_hooks: list = []
        self._eager = contextlib.ExitStack()
        self._called_itself = False
        self._state = "new"
        self._built: GradientRecord | None = None
        self._assembly = Assembly()

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
        if self._flight is not None:
            self._flight.prepare()
        self._state = "open"
        if self._compiled:
            self._warn_eager()
        self._watch.pass_begins = self._pass_begins
        for optimizer in self._optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._before_update))
            self._handles.append(optimizer.register_step_post_hook(self._after_update))
        for i, parameter in enumerate(self._parameters):
            if (hooks := after_accumulation(parameter)) is not None:
                tap = AccumulatedTap(i, self._keep_gradient)
                handle = tap.hung(parameter.register_post_accumulate_grad_hook(tap))
                for key in [key for key in hooks if key != handle.id]:
                    hooks[key] = hooks.pop(key)  # behind this one
                self._handles.append(handle)
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
            self._off()
            for handle in (*self._handles, *self._root_hooks):
                handle.remove()
            if kind is None:
                self._warn_around()
            self._state = "closed"
            self._handles, self._root_hooks, self._taps = [], [], {}
            self._parameters, self._optimizers, self._updates = [], [], []
            self._first_leaf = self._scaler = None
            self._structure.let_go()
            self._built, self._assembly = None, Assembly()  # without room for more
            if self._flight is not None:
                self._flight.let_go()
            self._watch.model = self._target = None
            self._watch.reducer, self._watch.small = OutputNumbers(), SmallOutputs()
            self._watch.pass_begins = lambda: None
        if kind is None and not self._rows:
            self._warn_empty("The record is empty")

    @property
    def record(self) -> GradientRecord:
        """What has been recorded, as a frozen record; inside the block, the steps closed so far.

        Reading it in each step puts together the rows that have come since, and with `keep=` the
        rows that stay. For the numbers of the newest row alone see `latest`.

        Raises:
            RuntimeError: If the block was never entered.
        """
        if self._state == "new":
            raise RuntimeError("Nothing is recorded yet: use `with record(model) as recorder:`.")
        if self._built is None or self._state == "open":
            structure = self._structure
            self._built = self._assembly.record(
                self._rows,
                structure.parameter_names,
                structure.counts(),
                structure.types,
                structure.weighted,
                self._later,
            )
        return self._built

    @property
    def folder(self) -> Path | None:
        """The folder that `save=` has left, for `cu.replay`; None where no step has failed.

        It is the one that `save=` named, or `name-2`, `name-3`, … where that was there before. In
        one of several processes it is the folder `rank0`, `rank1`, … inside.
        """
        return None if self._flight is None else self._flight.folder

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
        row, structure = self._rows[-1], self._structure
        known = len(row.has_grad)
        return newest(row, structure.parameter_names[:known], structure.counts()[:known])

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

    def note(self, *, loss: Tensor | float | None = None, batch: Any = None) -> None:
        """Tell of the step that runs now, before the optimizer's step.

        With `on_nonfinite="raise"` and `optimizer=` a failing step raises there, so what
        `recorder.step(loss, batch)` would say afterwards comes too late.

        Args:
            loss: The step's loss, as in `step`.
            batch: What the step was given, targets included: (x, y), a dict, as for
                `cu.first_nonfinite`. Kept, as a copy, where `save=` names a folder, until the
                next step begins.

        Raises:
            RuntimeError: If called outside the with block.
            ValueError: If `loss` has more than one element.
            TypeError: If `loss` is not a number.
        """
        self._check_open("note")
        value = _loss_value(loss)
        if value is not None and self._watch.row is not None:
            self._watch.row.loss = value
        if batch is not None and self._flight is not None:
            self._flight.note(self._index, batch)

    def _check_open(self, method: str) -> None:
        if self._state != "open":
            raise RuntimeError(f"recorder.{method}() belongs inside the `with record(...)` block.")

    def step(self, loss: Tensor | float | None = None, batch: Any = None) -> None:
        """Close this step's row.

        With `optimizer=` the optimizer's step has closed it; then this only adds the loss.

        Args:
            loss: The step's loss, a scalar tensor or a number; it is not kept as a tensor with
                a graph.
            batch: What the step was given, targets included, for `save=`; see `note`.

        Raises:
            RuntimeError: If called outside the with block.
            ValueError: If `loss` has more than one element.
            TypeError: If `loss` is not a number.
            FloatingPointError: With `on_nonfinite="raise"`, at the first NaN or Inf.
        """
        self._check_open("step")
        value = _loss_value(loss)
        by_optimizer = self._closed_by == "optimizer"
        if batch is not None and self._flight is not None:
            self._flight.note(self._index - by_optimizer, batch)
        if by_optimizer:
            self._closed_by = None
        else:
            if value is not None and self._watch.row is not None:
                self._watch.row.loss = value
            self._close_step()
            self._closed_by = "user"
        if value is not None and self._rows and self._rows[-1].step == self._index - 1:
            self._rows[-1].loss = value
            looks = self._flight is not None and by_optimizer and isinstance(value, float)
            if looks and not math.isfinite(value):
                raise self._error(Found("(loss)", "loss"), self._index - 1, stepped=True)

    def _new_backward_pass(self, row: OpenStep) -> int:
        """Note that a backward pass began, and say what kind it is."""
        if not self._accumulates():
            return MEASURED
        if self._index < 2 * self._every:  # the first two rows
            ran = {name for (name, _), _ in row.outputs}
            self._around |= called_around(self._structure, ran, _is_reached)
        if self._scaler is not None:
            row.scale = _scale_now(self._scaler)

        turns = TURNS if settles_later() else 0
        queue_callback(partial(self._backward_has_ended, row, turns))
        return ACCUMULATED

    def _backward_has_ended(self, row: OpenStep, turns: int) -> None:
        """Measure what `.grad` holds, after others who wait for the end of the backward pass."""
        if turns:
            queue_callback(partial(self._backward_has_ended, row, turns - 1))
            return
        if row.closed:
            return
        self._measure_gradients(row, scaled=True)
        used_up = [
            i
            for i, parameter in enumerate(self._parameters)
            if not row.has_grad[i]
            and parameter.requires_grad
            and i not in row.kept
            and after_accumulation(parameter)
        ]
        if used_up:
            names = ", ".join(self._structure.parameter_names[i] for i in used_up)
            row.warn(
                f"No gradient is left of {names} when the backward pass ends, from step "
                f"{row.step} on: a hook put on by register_post_accumulate_grad_hook inside the "
                "block has used it up. Put it on before the block."
            )
        if row.closes_after_backward:
            self._close_for_optimizer()

    def _keep_gradient(self, column: int, parameter: Tensor) -> None:
        """Measure a gradient before another hook uses it up in the middle of a backward pass."""
        row = self._watch.row
        if row is not None and not row.paused and parameter.grad is not None:
            size, rms = rms_of_all([parameter.grad, parameter])
            row.kept[column] = size, True
            row.before.setdefault(column, rms)

    def _new_forward_pass(self, args: tuple = (), kwargs: dict | None = None) -> None:
        """Note that the model's own forward pass begins."""
        self._watch.inside = True
        self._pass_begins()
        row = self._watch.row
        if row is not None and self._flight is not None and self._flight.saves and not row.outputs:
            assert self._target is not None
            if self._watch.evaluation or (self._target.training and torch.is_grad_enabled()):
                self._called_itself = True
                self._flight.begin(row.step, self._target, (args, kwargs or {}))
        if row is not None:
            row.forward_passes += 1
            row.second_pass = row.forward_passes > 1

    def _pass_begins(self) -> None:
        """Follow a model that was changed, and close a step that the optimizer skipped."""
        if self._closed_by == "user":
            self._closed_by = None
        row = self._watch.row
        if row is None:
            return
        if self._structure.changed():
            self._structure.follow()
            self._prepare()
            self._on()
            row.parameter_rms = row.parameter_grad_rms = None
        if not self._optimizers or row.before or not row.accumulated:
            return
        trainable = [p for p in self._structure.everything if p.requires_grad]
        if torch.is_grad_enabled() and trainable and all(p.grad is None for p in trainable):
            self._close_step()

    # A step's life

    def _open_row(self) -> None:
        if self._index % self._every == 0:
            self._watch.row = OpenStep(
                self._index,
                self._watch.small,
                self._new_backward_pass,
                self._warned,
                self._later,
            )
            if not self._hangs:
                self._on()
            if self._flight is not None and self._flight.saves and not self._called_itself:
                assert self._target is not None
                self._flight.begin(self._index, self._target, None)
        else:
            self._watch.row = None
            self._off()

    def _on(self) -> None:
        """Put hooks on the layers, and have a compiled model run eagerly."""
        assert self._target is not None
        if self._compiled and not self._hangs:
            self._eager.enter_context(torch.compiler.set_stance("force_eager"))
        if not self._root_hooks:
            # On the module that forwards to the rest; before hooks that swap its parameters.
            saves = self._flight is not None and self._flight.saves
            kind: Any = PassBeginsWith if saves else PassBegins
            begins, ends = kind(self._new_forward_pass), PassEnds(self._watch)
            handle = self._target.register_forward_pre_hook(begins, prepend=True, with_kwargs=saves)
            self._root_hooks = [
                begins.hung(handle),
                ends.hung(self._target.register_forward_hook(ends)),
            ]
        here = {id(module) for _, module in self._structure.layers}
        for place in set(self._taps) - here:
            self._taps.pop(place).off()
        for name, module in self._structure.layers:
            tap = self._taps.get(id(module))
            if tap is None:
                tap = self._taps[id(module)] = ForwardTap(self._watch, name, module)
            tap.name = name
            tap.on()
        self._hangs = True

    def _off(self) -> None:
        """Take the hooks off the layers; what is compiled while they are off knows of none."""
        for tap in self._taps.values():
            tap.off()
        self._hangs = False
        if self._compiled:
            for handle in self._root_hooks:
                handle.remove()
            self._root_hooks = []
        self._watch.inside = False
        self._eager.close()

    def _close_step(self, checked: bool = False, found: Found | None = None) -> None:
        """Close the row and open the next one; raise if it failed.

        Args:
            checked: Whether the flight recorder has looked at it.
            found: What it has found.
        """
        self._pending, row = None, self._watch.row
        error = None
        if row is not None:
            self._close_row(row)
            if self._flight is not None:
                found = found if checked else self._look(row)
                if found is not None:
                    error = self._error(found, row.step, stepped=bool(row.change))
        self._index += 1
        self._open_row()
        if error is not None:
            raise error

    def _close_row(self, row: OpenStep) -> None:
        if not row.outputs:
            self._warn_empty(f"No layer ran in step {row.step}")
        count = len(self._parameters)
        if len(row.before) == count:
            row.parameter_rms = in_order(row.before, count)
        else:
            if row.parameter_rms is None:
                row.parameter_rms = self._sizes.measure(self._parameters)
            for column, rms in row.before.items():
                row.parameter_rms[column] = rms
        if row.parameter_grad_rms is None:
            row.parameter_grad_rms = self._measure_gradients(row, scaled=False)
        if row.kept:
            kept = [row.kept.get(i, (0.0, has)) for i, has in enumerate(row.has_grad)]
            row.has_grad = tuple(has for _, has in kept)
            for column, (size, _) in row.kept.items():
                row.parameter_grad_rms[column] = size
        keys, outputs = row.close()
        numbers = [*row.parameter_rms, *row.parameter_grad_rms]
        waits = Tensor in set(map(type, numbers))
        if self._rows and self._rows[-1].keys == keys:
            keys = self._rows[-1].keys  # names are kept once
        parameters = Packed(numbers, waits)
        if self._around and len(self._rows) == self._rows.maxlen:
            self._around -= {name for name, _, _ in self._rows[0].keys}
        self._rows.append(
            ClosedStep(
                row.step, keys, outputs, parameters, row.has_grad, row.scale, row.grad_scale_applies
            )
        )
        self._rows[-1].lr, self._rows[-1].loss = row.lr, row.loss
        if row.change:
            self._rows[-1].update = self._packed_update(row.before, row.change)

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
            trainable = [p for p in self._structure.everything if p.requires_grad and readable(p)]
            for parameter in trainable:
                node = get_gradient_edge(parameter).node
                if will_execute(node):
                    self._first_leaf = node  # asked first in the next pass
                    return True
        except RuntimeError:  # autograd.grad was asked for the gradient of this leaf
            return False
        return not trainable or self._structure.sharded

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

    def _prepare(self) -> None:
        """Divide the columns among the optimizers, and make room to measure them."""
        self._parameters = self._structure.parameters
        self._sizes = Sizes(self._parameters)
        self._first_leaf = None
        everything = list(range(len(self._parameters)))
        self._owned = []
        for optimizer in self._optimizers[:-1]:
            own = {id(p) for group in optimizer.param_groups for p in group["params"]}
            self._owned.append([i for i in everything if id(self._parameters[i]) in own])
        others = {i for own in self._owned for i in own}
        self._owned.append([i for i in everything if i not in others])
        self._updates = [
            Update(Sizes([self._parameters[i] for i in own]) if others else self._sizes)
            for own in self._owned
        ]

    def _place_of(self, optimizer: torch.optim.Optimizer) -> tuple[list[int], Update, list]:
        """The columns of an optimizer, what measures its updates, and its parameters."""
        place = next(i for i, one in enumerate(self._optimizers) if one is optimizer)
        own = self._owned[place]
        return own, self._updates[place], [self._parameters[i] for i in own]

    def _before_update(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        waiting = self._row_that_waits()
        row = self._watch.row
        if row is None and waiting is None:
            return
        own, update, parameters = self._place_of(optimizer)
        if waiting is not None:
            self._late[0].update(zip(own, update.before(parameters), strict=True))
            pending, self._pending = self._pending, None
            if pending is not None:
                raise self._error(pending, waiting.step, stepped=False)
            return
        assert row is not None
        if current_backward() != -1:
            for i in own:
                self._keep_gradient(i, self._parameters[i])
        else:
            if row.parameter_grad_rms is None:
                if any(p.grad is not None for p in self._parameters):
                    self._measure_gradients(row, scaled=False)
            elif self._at_step:
                self._measure_gradients(row, scaled=False)
            elif self._index < 2 * self._every and settles_later():  # the first two rows
                self._warn_changed(row, own, parameters)
            if len(self._optimizers) > 1 and row.parameter_grad_rms is not None:
                for i in own:
                    row.kept[i] = row.parameter_grad_rms[i], row.has_grad[i]
        row.before.update(zip(own, update.before(parameters), strict=True))
        if self._flight is not None:
            found = self._look_before(row, optimizer, own, parameters)
            if found is not None:
                self._close_step(checked=True, found=found)

    def _look_before(
        self, row: OpenStep, optimizer: torch.optim.Optimizer, own: list[int], parameters: list
    ) -> Found | None:
        """What the flight recorder finds before an optimizer moves its parameters.

        It looks at what `.grad` held behind the backward pass, and at what it holds now.
        """
        names, counts = self._structure.parameter_names, self._structure.counts()
        sizes = {i: row.before[i] for i in own if counts[i]}
        if current_backward() != -1:  # of the gradients only one is here
            grads = {i: row.kept[i][0] for i in own if counts[i] and i in row.kept}
            row.measure_gradients()
            return first_bad(row, names, sizes, grads, row.loss)
        grads = {i: size for i, size in _gradients(row).items() if i in own and counts[i]}
        now = rms_of_all([None if p.grad is None else local_part(p.grad) for p in parameters])
        at_hand = {i: now[j] for j, i in enumerate(own) if parameters[j].grad is not None}
        at_hand = {i: size for i, size in at_hand.items() if counts[i]}
        scaled = getattr(optimizer, "found_inf", None) is not None  # its own code leaves out Inf
        if scaled:
            grads = at_hand = {}
        row.measure_gradients()
        row.match_second_calls()
        return first_bad(row, names, sizes, grads, row.loss, at_hand, scaled)

    def _look(self, row: OpenStep) -> Found | None:
        """What the flight recorder finds in a row that has been closed.

        Gradients are an optimizer's business where there is one: it may be one that a GradScaler
        keeps from stepping. So what is found in them here waits for its step.
        """
        names, counts = self._structure.parameter_names, self._structure.counts()
        sizes = {i: size for i, size in enumerate(row.parameter_rms or []) if counts[i]}
        grads = {i: size for i, size in _gradients(row).items() if counts[i]}
        found = first_bad(row, names, {} if row.change else sizes, grads, row.loss)
        waits = self._optimizers and self._scaler is None and not row.change
        if found is not None and waits and found.pass_name in ("backward", "gradient"):
            self._pending = found
            return None
        return found

    def _error(self, found: Found, step: int, stepped: bool) -> FloatingPointError:
        assert self._flight is not None and self._target is not None
        return self._flight.error(found, step, self._target, stepped, lambda: self.record)

    def _after_update(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        last = optimizer is self._optimizers[-1]
        waiting = self._row_that_waits()
        own, update, parameters = self._place_of(optimizer)
        rate = float(optimizer.param_groups[0].get("lr", math.nan))
        if waiting is not None:
            before, change = self._late
            if before:
                change.update(zip(own, update.after(parameters), strict=True))
                waiting.update = self._packed_update(before, change)
            waiting.lr = rate
            if last:
                self._closed_by, self._late = None, ({}, {})
            return
        row = self._watch.row
        if row is not None:
            row.lr = rate
            if not row.before.keys().isdisjoint(own):
                row.change.update(zip(own, update.after(parameters), strict=True))
        if not last:
            return
        if self._closed_by == "user":
            self._closed_by = None
        elif row is not None and current_backward() != -1 and row.accumulated:
            row.closes_after_backward = True
        else:
            self._close_for_optimizer()

    def _close_for_optimizer(self) -> None:
        row = self._watch.row
        self._close_step(checked=row is not None and not row.closes_after_backward)
        self._closed_by = "optimizer"

    def _packed_update(self, before: dict, change: dict) -> Packed:
        count = len(self._parameters)
        numbers = [*in_order(before, count), *in_order(change, count)]
        return Packed(numbers, Tensor in set(map(type, numbers)))

    def _row_that_waits(self) -> ClosedStep | None:
        """The last row, if the user closed it before the optimizer stepped."""
        if self._closed_by != "user" or not self._rows:
            return None
        last = self._rows[-1]
        if last.step != self._index - 1:
            return None
        return last if last.update is None or self._late[0] else None

    def _warn_eager(self) -> None:
        if not hasattr(torch.compiler, "set_stance"):
            raise RuntimeError(
                f"torch {torch.__version__} cannot switch compilation off for a while: hand the "
                "model over as it was before torch.compile."
            )
        warnings.warn(
            "The model is compiled, and compiled code passes hooks by: it runs eagerly in the "
            "recorded steps, slower and with eager rounding. In the others (every=10) and "
            "afterwards it is compiled as before.",
            RuntimeWarning,
            stacklevel=3,
        )

    def _warn_changed(self, row: OpenStep, own: list[int], parameters: list) -> None:
        """Say that the gradients were changed behind the backward pass, other than by one factor.

        Asked only where processes train together: there it may be their mean, taken by hand.
        """
        if self._structure.sharded or self._sizes.sharded or row.parameter_grad_rms is None:
            return
        now = rms_of_all([p.grad for p in parameters])
        pairs = [(float(row.parameter_grad_rms[i]), float(now[j])) for j, i in enumerate(own)]
        factors = [new / old for old, new in pairs if old > 0 and math.isfinite(new / old)]
        if factors and max(factors) - min(factors) > 1e-3 * max(factors):
            row.warn(
                "The gradients were changed between the backward pass and the optimizer's step, "
                "and not by one factor: averaged over processes by hand, or clipped one by one. "
                "The rows hold those of the backward pass; record(..., gradients='step') holds "
                "what the optimizer gets."
            )

    def _warn_around(self) -> None:
        """Say which layers trained in the recorded steps though no hook saw them run."""
        if not self._around:
            return
        ran = {key[0] for keys in {row.keys for row in self._rows} for key in keys}
        names = [name for name in self._structure.types if name in self._around - ran]
        if names:
            warnings.warn(
                f"The layers {', '.join(names)} never ran in the recorded steps as far as hooks "
                "see, yet their parameters got gradients: their forward() was called directly "
                "(call the module itself: layer(x) instead of layer.forward(x)), or a function "
                "used their weights. They have no rows.",
                RuntimeWarning,
                stacklevel=3,
            )


def _gradients(row: OpenStep) -> dict[int, Any]:
    """RMS of the gradients of a row that are there, by column."""
    pairs = enumerate(zip(row.parameter_grad_rms or (), row.has_grad, strict=False))
    sizes = {i: size for i, (size, has) in pairs if has}
    return sizes | {i: size for i, (size, has) in row.kept.items() if has}


def _is_reached(parameter: nn.Parameter) -> bool:
    """Whether the backward pass that is running has a gradient for a parameter."""
    try:
        return will_execute(get_gradient_edge(parameter).node)
    except RuntimeError:  # autograd.grad was asked for the gradient of this leaf
        return False


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


def _unwrapped(optimizer: Any) -> Any:
    """The optimizer that steps, inside the object that accelerate or Fabric hands out for it."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    return optimizer


def _optimizers(given: Any, parameters: list) -> list[torch.optim.Optimizer]:
    if given is None:
        return []
    try:
        single = isinstance(_unwrapped(given), torch.optim.Optimizer)
        optimizers = [given] if single else list(given)
    except TypeError:
        optimizers = [given]
    optimizers = [_unwrapped(optimizer) for optimizer in optimizers]
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


def _flight(
    on_nonfinite: str | None, save: str | os.PathLike | None, optimizers: int
) -> Flight | None:
    """The flight recorder that these arguments ask for."""
    one_of("on_nonfinite", on_nonfinite, (None, "raise"))
    if save is not None and not isinstance(save, str | os.PathLike):
        raise TypeError(f"save={save!r} must be the path of a folder, or None.")
    if on_nonfinite is None:
        if save is not None:
            raise ValueError(
                f"save={str(save)!r} is written when a step fails: add on_nonfinite='raise'. To "
                "keep the record of a run, call recorder.record.save(file)."
            )
        return None
    if save is not None and not Path(save).name:
        raise ValueError(f"save={str(save)!r} must name a folder that can be made.")
    return Flight(None if save is None else Path(save), before=optimizers != 1)


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
