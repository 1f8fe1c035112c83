"""One readable training loop. It stops at the first NaN or Inf and says where it arose."""

import html
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from .runtime import check_generator, to_device, unknown
from .runtime import device as default_device

EVALUATION_BATCH = 1024
_BAR_DELAY = 2.0  # seconds; a fit that is done sooner shows no progress bar


@dataclass(frozen=True, eq=False)
class History:
    """What happened in a training run. Plain numbers: no model, no graph.

    Attributes:
        loss: 𝓛 of the batch before each step, float64, (steps,).
        accuracy: Share of right answers in that batch; NaN where labels are not classes.
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
        """Lists and strings that JSON can hold; NaN and Inf become "nan", "inf" and "-inf"."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: [x if math.isfinite(x) else str(x) for x in value.tolist()]
            if isinstance(value, Tensor)
            else value
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
            return cls(
                **{
                    name: torch.tensor([float(x) for x in value], dtype=torch.float64)
                    if isinstance(value, list)
                    else value
                    for name, value in values.items()
                }
            )
        except (TypeError, ValueError):
            raise ValueError("values holds a list with something else than numbers.") from None

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
        rows = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._summary()
        )
        return f"<table>{rows}</table>"


def fit(
    model: nn.Module,
    data: Any,
    *,
    loss: str | Callable[[Tensor, Tensor], Tensor] = "cross_entropy",
    optimizer: str | Callable[..., torch.optim.Optimizer] | torch.optim.Optimizer = "sgd",
    lr: float | Callable[[int], float] | None = None,
    momentum: float = 0.0,
    epochs: int = 10,
    batch_size: int | None = 64,
    test: tuple[Tensor, Tensor] | None = None,
    clip: float | None = None,
    recorder: Any = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
    progress: bool = True,
) -> History:
    """Train a model: forward, loss, backward, clip, update, for each batch of each epoch.

    Training ends early at the first loss or gradient that is NaN or Inf, before it can reach the
    weights, and names the layer where it arose. If you interrupt the cell, the model stays as
    trained so far and the history holds every step taken.

    The order of the samples is drawn on the CPU from `generator`, so it is the same on every
    device. The model is moved to the device and trained in place; its training or eval mode is
    afterwards as it was before.

    Args:
        model: Any network that maps a batch x to an output; changed in place.
        data: An `ImageData`, a pair (x, y) of tensors, or an iterable of such pairs with one pair
            per batch (a `DataLoader`). x is (N, …); y is int64 (N,) for "cross_entropy".
        loss: "cross_entropy", "mse", or a function of output and y that returns a scalar tensor.
        optimizer: "sgd", "adam", "adamw" or "rmsprop"; a function of the parameters (and of lr if
            one is given) that returns a torch optimizer; or such an optimizer.
        lr: η, finite and not negative; or a schedule, a function of the step 0, 1, 2, … When None:
            0.1 for sgd, 0.001 for the other three.
        momentum: β of "sgd", from 0 up to but without 1.
        epochs: Passes through the data, at least 1.
        batch_size: B; the last batch of an epoch may be smaller. None takes all samples in
            each step, in their order. An iterable of batches has its own.
        test: Pair (x, y) to evaluate on after each epoch; an `ImageData` brings its own.
        clip: max_norm: a longer gradient is scaled down to this length.
        recorder: From `with cu.record(model) as recorder`; `step()` is called after each update.
        device: Where to train; `cu.device()` when None.
        generator: Source of the order of samples, for example `cu.seeded(0)`. Needed unless
            batch_size is None or `data` brings its own batches.
        progress: Show a bar once training takes longer than two seconds, and print why it
            stopped early.

    Returns:
        Losses, accuracies and gradient norms per step and per epoch.

    Raises:
        ValueError: If an argument is out of range, unknown, empty, or shapes do not fit.
        TypeError: If an argument is of the wrong type.

    >>> import course_utils as cu
    >>> net = cu.mlp(2, 32, generator=cu.seeded(0))
    >>> history = cu.fit(net, cu.load_digits(), epochs=3, generator=cu.seeded(1), device="cpu")
    >>> history.stopped, history.loss.shape, bool(history.test_accuracy[-1] > 0.8)
    ('finished', torch.Size([69]), True)
    """
    where = _device(device)
    parameters = _parameters(model)
    loss_function = _loss(loss)
    _check_numbers(epochs, clip, recorder)
    updater, schedule = _optimizer(optimizer, parameters, lr, momentum)
    batches, per_epoch = _batches(data, batch_size, generator, where)
    test_set = _test_set(data, test, where)
    log, was_training = _Log(per_epoch or 0), model.training
    model.to(where).train()
    bar = tqdm(
        total=None if per_epoch is None else epochs * per_epoch,
        desc="fit",
        unit="step",
        leave=False,
        delay=_BAR_DELAY,
        disable=None if progress else True,  # None: shown in notebooks and terminals, not in files
    )
    try:
        while log.stopped == "finished" and len(log.epochs) < epochs:
            for x, y in batches():
                if schedule is not None:
                    _set_lr(updater, schedule(log.steps))
                output = _forward(model, x)
                value = _scalar(loss_function(output, y), loss)
                log.begin_step(value, output, y, updater.param_groups[0]["lr"])
                if not value.isfinite():
                    log.stop("non-finite loss", *_first_nonfinite_output(model, x))
                    break
                updater.zero_grad()
                value.backward()
                norm = _grad_norm(parameters)
                log.end_step(norm)
                if not norm.isfinite():
                    log.stop("non-finite gradient", *_first_nonfinite_gradient(model))
                    break
                if clip is not None:
                    nn.utils.clip_grads_with_norm_(parameters, clip, norm)
                updater.step()
                if recorder is not None:
                    recorder.step()
                bar.update()
            else:
                log.end_epoch(*_evaluate(model, loss_function, test_set))
                bar.set_postfix_str(f"loss {log.epochs[-1][0]:.3g}", refresh=False)
    except KeyboardInterrupt:
        log.stop("interrupted", None, "The model stays as trained so far.")
    finally:
        bar.close()
        model.train(was_training)
    history = log.history()
    if progress and history.message:
        print(history.message)
    return history


# ---------------------------------------------------------------- what the loop is made of


class _Log:
    """Collects the figures of a run."""

    def __init__(self, steps_per_epoch: int):
        self.steps_per_epoch = steps_per_epoch
        self.rows: list[list[float]] = []  # loss, accuracy, lr, gradient norm
        self.sizes: list[int] = []
        self.epochs: list[tuple[float, float, float, float]] = []
        self.first = 0  # first step of this epoch
        self.stopped, self.layer, self.message = "finished", None, ""

    @property
    def steps(self) -> int:
        return len(self.rows)

    def begin_step(self, loss: Tensor, output: Any, y: Tensor, lr: float) -> None:
        self.rows.append([loss.item(), _accuracy(output, y), float(lr), math.nan])
        self.sizes.append(len(y))

    def end_step(self, grad_norm: Tensor) -> None:
        self.rows[-1][3] = grad_norm.item()

    def end_epoch(self, test_loss: float, test_accuracy: float) -> None:
        if self.first == self.steps:
            raise ValueError(
                f"data brought no batch in epoch {len(self.epochs) + 1}: hand over something "
                "that is not empty and can be iterated again, a list or a DataLoader."
            )
        rows = torch.tensor(self.rows[self.first :], dtype=torch.float64)
        sizes = torch.tensor(self.sizes[self.first :], dtype=torch.float64)
        loss, accuracy = (sizes @ rows[:, :2] / sizes.sum()).tolist()
        self.epochs.append((loss, accuracy, test_loss, test_accuracy))
        self.steps_per_epoch = self.steps_per_epoch or self.steps
        self.first = self.steps

    def stop(self, why: str, layer: str | None, advice: str) -> None:
        at = f"at step {max(self.steps, 1)} (epoch {len(self.epochs) + 1})"
        what = {
            "interrupted": f"fit was interrupted {at}.",
            "non-finite loss": f"fit stopped {at}: the loss is {self.rows[-1][0]}."
            if self.rows
            else "",
            "non-finite gradient": f"fit stopped {at}: the gradient holds NaN or Inf.",
        }[why]
        self.stopped, self.layer, self.message = why, layer, f"{what} {advice}"

    def history(self) -> History:
        loss, accuracy, lr, norm = _columns(self.rows)
        return History(
            loss,
            accuracy,
            norm,
            lr,
            *_columns(self.epochs),
            self.steps_per_epoch,
            self.stopped,
            self.layer,
            self.message,
        )


def _columns(rows: list) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(rows, dtype=torch.float64).reshape(-1, 4).T.contiguous())


def _forward(model: nn.Module, x: Tensor) -> Any:
    try:
        return model(x)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"model cannot take a batch x of shape {tuple(x.shape)} and dtype {x.dtype}: "
            f"{str(error).strip().splitlines()[0]}. Fit one to the other: load_digits(flat=False) "
            "has images for a convolutional network, flat=True rows for an MLP. Calling model(x) "
            "yourself shows where it fails."
        ) from None


def _scalar(value: Any, loss: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, Tensor) else repr(value)
        raise ValueError(
            f"loss={_name(loss)} returned {got}: a scalar tensor is expected, for example a mean "
            "over the batch."
        )
    if not value.requires_grad:
        raise ValueError(
            f"loss={_name(loss)} is cut off from the parameters of the model: compute it with "
            "torch operations, without detach, item, numpy or no_grad."
        )
    return value.reshape(())


def _cross_entropy(output: Tensor, y: Tensor) -> Tensor:
    _check_output(output, "cross_entropy")
    if y.is_floating_point():
        _check_same_shape(output, y, "cross_entropy")
        return F.cross_entropy(output, y)
    if output.ndim < 2 or y.shape != (output.shape[0], *output.shape[2:]):
        raise ValueError(
            f"loss='cross_entropy' got an output of shape {tuple(output.shape)} and y of shape "
            f"{tuple(y.shape)}: (B, K) and (B,) are expected, y holding class numbers 0 to K−1."
        )
    if int(y.min()) < 0 or int(y.max()) >= output.shape[1]:
        raise ValueError(
            f"y holds labels from {int(y.min())} to {int(y.max())}, but the output has "
            f"{output.shape[1]} classes: 0 to {output.shape[1] - 1} are expected. Give the model "
            "more outputs, or renumber the labels."
        )
    return F.cross_entropy(output, y)


def _mse(output: Tensor, y: Tensor) -> Tensor:
    _check_output(output, "mse")
    _check_same_shape(output, y, "mse")
    return F.mse_loss(output, y)


_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": _cross_entropy,
    "mse": _mse,
}
_OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], float]] = {  # with its usual lr
    "sgd": (torch.optim.SGD, 0.1),
    "adam": (torch.optim.Adam, 1e-3),
    "adamw": (torch.optim.AdamW, 1e-3),
    "rmsprop": (torch.optim.RMSprop, 1e-3),
}


def _check_output(output: Any, loss: str) -> None:
    if not isinstance(output, Tensor):
        raise ValueError(
            f"model returned a {type(output).__name__}, loss={loss!r} needs a tensor: hand over a "
            "loss function of your own that picks the right part."
        )


def _check_same_shape(output: Tensor, y: Tensor, loss: str) -> None:
    if output.shape != y.shape or not y.is_floating_point():
        raise ValueError(
            f"loss={loss!r} got an output of shape {tuple(output.shape)} and y of shape "
            f"{tuple(y.shape)}, dtype {y.dtype}: the same shape and floating point are expected. "
            "Use y.reshape(...) and y.float()."
        )


def _accuracy(output: Any, y: Tensor) -> float:
    """Share of right answers; NaN where y holds no class numbers."""
    if not isinstance(output, Tensor) or y.is_floating_point() or output.ndim != y.ndim + 1:
        return math.nan
    return (output.argmax(1) == y).double().mean().item()


def _grad_norm(parameters: list[Tensor]) -> Tensor:
    """Length of the whole gradient; again in float64 where float32 gives 0 or Inf."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if norm == 0 or not norm.isfinite():
        norm = nn.utils.get_total_norm([g.detach().cpu().double() for g in gradients])
    return norm


def _first_nonfinite_output(model: nn.Module, x: Tensor) -> tuple[str, str]:
    """Layer whose output holds the first NaN or Inf in a second forward pass, and advice."""
    found: list[str] = []
    names = {module: name or "the model" for name, module in model.named_modules()}

    def look(module: nn.Module, _inputs: Any, output: Any) -> None:
        if not found and not all(t.isfinite().all() for t in _tensors(output)):
            found.append(names[module])

    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    hooks = [module.register_forward_hook(look) for module in model.modules()]
    devices = [x.device] if x.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            if x.is_floating_point() and not x.isfinite().all():
                return "input", "The batch x itself holds NaN or Inf: clean the data."
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)
    if not found:
        return "loss", "All layers are finite, the loss is not: look at the loss function and y."
    layer = dict(model.named_modules()).get(found[0], model)
    weights = [p for p in layer.parameters(recurse=False) if not p.isfinite().all()]
    cause = ", whose weights were blown up by the step before" if weights else ""
    return (
        found[0],
        f"The first NaN or Inf is in the output of {found[0]}{cause}. Try a smaller lr, clip=1.0, "
        "or smaller first weights.",
    )


def _first_nonfinite_gradient(model: nn.Module) -> tuple[str, str]:
    """Layer nearest to the loss whose weights have a gradient with NaN or Inf, and advice."""
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            layer = name.rpartition(".")[0] or "the model"
            return (
                layer,
                f"On the way back it arose first in {layer}; the weights are as they were before "
                "this step. Try smaller first weights, or look for a division or a root of 0.",
            )
    return "the model", "No single gradient holds one: their squares overflow float64."


def _tensors(value: Any) -> Iterator[Tensor]:
    """Floating tensors in a nest of tuples, lists and dicts."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _evaluate(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    test_set: tuple[Tensor, Tensor] | None,
) -> tuple[float, float]:
    """Loss and accuracy on the test set, in eval mode; NaN without one."""
    if test_set is None:
        return math.nan, math.nan
    total = torch.zeros(2, dtype=torch.float64)
    model.eval()
    try:
        with torch.no_grad():
            for x, y in zip(*(part.split(EVALUATION_BATCH) for part in test_set), strict=True):
                output = _forward(model, x)
                value = float(loss(output, y))
                total += len(y) * torch.tensor([value, _accuracy(output, y)], dtype=torch.float64)
    finally:
        model.train()
    return tuple((total / len(test_set[1])).tolist())


# ---------------------------------------------------------------- arguments


def _device(asked: torch.device | str | None) -> torch.device:
    if asked is None:
        return default_device()
    try:
        where = torch.device(asked)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"device={asked!r} cannot be used ({reason}): choose 'cpu', or None for the best there "
            "is."
        ) from None
    return where


def _parameters(model: Any) -> list[Tensor]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={model!r} must be a torch.nn.Module, for example cu.mlp(...).")
    parameters = list(model.parameters())
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in parameters):
        raise ValueError("model has layers without a shape yet: run it on one batch first.")
    trainable = [p for p in parameters if p.requires_grad]
    if not trainable:
        raise ValueError(
            "model has no parameter that requires a gradient: nothing can be trained. Call "
            "model.requires_grad_() to thaw it."
        )
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(
                f"model holds NaN or Inf in {name} before the first step: build it anew, or call "
                "cu.initialize(model, generator=...)."
            )
    return trainable


def _loss(loss: Any) -> Callable[[Tensor, Tensor], Tensor]:
    if isinstance(loss, str):
        if loss not in _LOSSES:
            raise ValueError(
                unknown("loss", loss, _LOSSES) + " A function of output and y will do too."
            )
        return _LOSSES[loss]
    if not callable(loss):
        raise TypeError(
            f"loss={loss!r} must be a name ({', '.join(_LOSSES)}) or a function of output and y."
        )
    return loss


def _check_numbers(epochs: Any, clip: Any, recorder: Any) -> None:
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs={epochs!r} must be an integer, at least 1.")
    if clip is not None and (not _is_number(clip) or not 0 < clip < math.inf):
        raise ValueError(
            f"clip={clip!r} must be a positive length, for example 1.0, or None for no clipping."
        )
    if recorder is not None and not callable(getattr(recorder, "step", None)):
        raise TypeError(
            f"recorder={recorder!r} must have a step(): use `with cu.record(model) as recorder`."
        )


def _optimizer(
    optimizer: Any, parameters: list[Tensor], lr: Any, momentum: Any
) -> tuple[torch.optim.Optimizer, Callable[[int], float] | None]:
    """The optimizer, and the schedule of its learning rate if there is one."""
    if not _is_number(momentum) or not 0 <= momentum < 1:
        raise ValueError(f"momentum={momentum!r} must be at least 0 and below 1, for example 0.9.")
    if momentum and optimizer != "sgd":
        raise ValueError(
            f"momentum={momentum} belongs to optimizer='sgd': set it in your optimizer instead."
        )
    schedule = lr if callable(lr) else None
    if schedule is None and lr is not None:
        _check_lr(lr)
    if isinstance(optimizer, str):
        if optimizer not in _OPTIMIZERS:
            raise ValueError(
                unknown("optimizer", optimizer, _OPTIMIZERS)
                + " A function of the parameters that returns a torch optimizer will do too."
            )
        kind, usual = _OPTIMIZERS[optimizer]
        options = {"momentum": momentum} if optimizer == "sgd" else {}
        return kind(parameters, lr=usual if lr is None or schedule else lr, **options), schedule
    if isinstance(optimizer, torch.optim.Optimizer):
        if lr is not None and schedule is None:
            raise ValueError(f"lr={lr} is set in your optimizer already: leave it out here.")
        made = optimizer
    elif callable(optimizer):
        made = optimizer(parameters) if lr is None or schedule else optimizer(parameters, lr=lr)
    else:
        made = optimizer
    if not isinstance(made, torch.optim.Optimizer) or isinstance(made, torch.optim.LBFGS):
        raise TypeError(
            f"optimizer={_name(optimizer)} must be a name ({', '.join(_OPTIMIZERS)}), a torch "
            "optimizer that steps without a closure, or a function of the parameters that returns "
            "one."
        )
    ours = {id(p) for p in parameters}
    if not any(id(p) in ours for group in made.param_groups for p in group["params"]):
        raise ValueError(
            "optimizer updates none of the parameters of this model: make it from "
            "model.parameters()."
        )
    return made, schedule


def _check_lr(lr: Any) -> None:
    if isinstance(lr, Tensor) and lr.numel() == 1:
        lr = lr.item()
    if not _is_number(lr) or not 0 <= lr < math.inf:
        raise ValueError(f"lr={lr!r} must be a finite number, at least 0, for example 0.1.")


def _set_lr(optimizer: torch.optim.Optimizer, lr: Any) -> None:
    _check_lr(lr)
    for group in optimizer.param_groups:
        group["lr"] = float(lr)


def _batches(
    data: Any, batch_size: Any, generator: Any, where: torch.device
) -> tuple[Callable[[], Iterator[tuple[Tensor, Tensor]]], int | None]:
    """A function that yields the batches of one epoch, and how many there are, if known."""
    pair = (data.train_x, data.train_y) if hasattr(data, "train_x") else data
    if _is_pair(pair):
        return _shuffled(*_check_pair("data", pair, where), batch_size, generator)
    if isinstance(data, torch.utils.data.Dataset):
        raise TypeError(
            f"data is a {type(data).__name__}, which yields single samples: hand over "
            "DataLoader(data, batch_size=64, shuffle=True, generator=cu.seeded(0))."
        )
    if not isinstance(data, Iterable) or isinstance(data, str | Tensor | dict):
        raise TypeError(
            f"data is a {type(data).__name__}: an ImageData, a pair (x, y) of tensors, or an "
            "iterable of such pairs is expected."
        )

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in data:
            if not _is_pair(batch):
                raise ValueError(
                    f"data brought a batch of type {type(batch).__name__}: pairs (x, y) of tensors "
                    "are expected."
                )
            yield _moved(batch, where)

    return epoch, len(data) if hasattr(data, "__len__") else None


def _shuffled(
    x: Tensor, y: Tensor, batch_size: Any, generator: Any
) -> tuple[Callable[[], Iterator[tuple[Tensor, Tensor]]], int]:
    """Batches of a pair of tensors, in an order drawn on the CPU for each epoch."""
    if batch_size is None:
        return lambda: iter([(x, y)]), 1
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(
            f"batch_size={batch_size!r} must be an integer, at least 1, or None for all at once."
        )
    check_generator(generator)

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(len(x), generator=generator).to(x.device).split(batch_size):
            yield x[rows], y[rows]

    return epoch, math.ceil(len(x) / batch_size)


def _test_set(data: Any, test: Any, where: torch.device) -> tuple[Tensor, Tensor] | None:
    if test is None and hasattr(data, "test_x"):
        test = (data.test_x, data.test_y)
    if test is None:
        return None
    if not _is_pair(test):
        raise TypeError(f"test is a {type(test).__name__}: a pair (x, y) of tensors is expected.")
    return _check_pair("test", test, where)


def _check_pair(argument: str, pair: Any, where: torch.device) -> tuple[Tensor, Tensor]:
    x, y = pair
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(
            f"{argument} has x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)}: as many "
            "answers as samples are expected, (N, …) and (N, …)."
        )
    if not len(x):
        raise ValueError(f"{argument} is empty: at least one sample is needed.")
    for name, part in (("x", x), ("y", y)):
        if part.is_floating_point() and not part.isfinite().all():
            raise ValueError(f"{name} of {argument} holds NaN or Inf: clean the data first.")
    return _moved(pair, where)


def _moved(pair: Any, where: torch.device) -> tuple[Tensor, Tensor]:
    """The pair on the device, class numbers as int64."""
    x, y = (to_device(part.detach(), where) for part in pair)
    return x, y if y.is_floating_point() else y.long()


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(part, Tensor) for part in value)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _name(value: Any) -> str:
    return repr(value) if isinstance(value, str) else getattr(value, "__name__", repr(value))
