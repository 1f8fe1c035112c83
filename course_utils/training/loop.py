"""One readable training loop. It stops at the first NaN or Inf and says where it arose."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..arguments import integer
from .arguments import (
    batches_of,
    check_clip,
    check_recorder,
    loss_named,
    name_of,
    set_lr,
    test_pair,
    trainable_parameters,
    updater_and_schedule,
    usable_device,
)
from .history import History
from .nonfinite import first_nonfinite_gradient, first_nonfinite_output

EVALUATION_BATCH = 1024
BAR_DELAY = 2.0  # seconds; a fit that is done sooner shows no progress bar


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
        recorder: From `with cu.record(model) as recorder`; `step(loss)` is called after each
            update, so the record holds the loss too.
        device: Where to train; `cu.default_device()` when None.
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
    where = usable_device(device)
    parameters = trainable_parameters(model)
    loss_function = loss_named(loss)
    integer("epochs", epochs, 1)
    check_clip(clip)
    check_recorder(recorder)
    updater, schedule = updater_and_schedule(optimizer, parameters, lr, momentum)
    batches, per_epoch = batches_of(data, batch_size, generator, where)
    test_set = test_pair(data, test, where)
    log, was_training = _Log(per_epoch or 0), model.training
    model.to(where).train()
    bar = tqdm(
        total=None if per_epoch is None else epochs * per_epoch,
        desc="fit",
        unit="step",
        leave=False,
        delay=BAR_DELAY,
        disable=None if progress else True,  # None: shown in notebooks and terminals, not in files
    )
    try:
        while log.stopped == "finished" and len(log.epochs) < epochs:
            for x, y in batches():
                if schedule is not None:
                    set_lr(updater, schedule(log.steps))
                output = forward(model, x)
                value = scalar(answered(loss_function, output, y), loss)
                log.begin_step(value, output, y, updater.param_groups[0]["lr"])
                if not value.isfinite():
                    log.stop("non-finite loss", *first_nonfinite_output(model, x))
                    break
                updater.zero_grad()
                value.backward()
                norm = _grad_norm(parameters)
                log.end_step(norm)
                if not norm.isfinite():
                    log.stop("non-finite gradient", *first_nonfinite_gradient(model))
                    break
                if clip is not None:
                    nn.utils.clip_grads_with_norm_(parameters, clip, norm)
                updater.step()
                if recorder is not None:
                    recorder.step(loss=value)
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
        self.stopped, self.message = "finished", ""
        self.layer: str | None = None

    @property
    def steps(self) -> int:
        return len(self.rows)

    def begin_step(self, loss: Tensor, output: Any, y: Tensor, lr: float) -> None:
        self.rows.append([loss.item(), right_answers(output, y).item(), float(lr), math.nan])
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
        ended = self.steps_per_epoch, self.stopped, self.layer, self.message
        return History(loss, accuracy, norm, lr, *_columns(self.epochs), *ended)


def _columns(rows: list) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    a, b, c, d = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4).T.contiguous()
    return a, b, c, d


def forward(model: nn.Module, x: Tensor) -> Any:
    """model(x); an error of the model passes as it is, with a note on the batch."""
    try:
        return model(x)
    except Exception as error:
        error.add_note(
            f"This error comes from {type(model).__name__}, on a batch x of shape "
            f"{tuple(x.shape)} and dtype {x.dtype}. If they do not fit: load_digits(flat=False) "
            "has images for a convolutional network, flat=True rows for an MLP. Calling model(x) "
            "yourself raises it too."
        )
        raise


def answered(loss: Callable[[Tensor, Tensor], Tensor], output: Any, y: Tensor) -> Tensor:
    """loss(output, y); an error of the loss passes as it is, with a note on the shapes."""
    try:
        return loss(output, y)
    except Exception as error:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        error.add_note(f"This error comes from the loss, of output {shape} and y {tuple(y.shape)}.")
        raise


def scalar(value: Any, loss: Any) -> Tensor:
    """The loss as a tensor without axes, or an error if it cannot be descended."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, Tensor) else repr(value)
        raise ValueError(
            f"loss={name_of(loss)} returned {got}: a scalar tensor is expected, for example a mean "
            "over the batch."
        )
    if not value.requires_grad:
        raise ValueError(
            f"loss={name_of(loss)} is cut off from the parameters of the model: compute it with "
            "torch operations, without detach, item, numpy or no_grad."
        )
    return value.reshape(())


def right_answers(output: Any, y: Tensor) -> Tensor:
    """Share of right answers; NaN where y holds no class numbers, or an output NaN or Inf."""
    if not isinstance(output, Tensor) or y.is_floating_point() or output.ndim != y.ndim + 1:
        return torch.tensor(math.nan)
    right = output.argmax(1) == y
    return torch.where(output.isfinite().all(), right.sum() / right.numel(), math.nan)


def _grad_norm(parameters: list[nn.Parameter]) -> Tensor:
    """Length of the whole gradient; again in float64 where float32 gives 0 or Inf."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if norm == 0 or not norm.isfinite():
        norm = nn.utils.get_total_norm([g.detach().cpu().double() for g in gradients])
    return norm


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
                output = forward(model, x)
                value = float(answered(loss, output, y))
                total += len(y) * torch.tensor(
                    [value, right_answers(output, y).item()], dtype=torch.float64
                )
    finally:
        model.train()
    loss_mean, accuracy = (total / len(test_set[1])).tolist()
    return loss_mean, accuracy
