"""The arguments of a training run: checked, named in plain words, and made ready for use."""

import math
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import check_generator, integer, number, one_of
from ..runtime import default_device, to_device


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
OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], float]] = {  # with its usual lr
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


def usable_device(asked: torch.device | str | None) -> torch.device:
    """The device asked for, `cu.default_device()` for None, or an error if it is absent."""
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


def trainable_parameters(model: Any) -> list[nn.Parameter]:
    """The parameters that require a gradient, or an error if they cannot be trained."""
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


def loss_named(loss: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of that name, or the function itself."""
    if isinstance(loss, str):
        return _LOSSES[
            one_of("loss", loss, _LOSSES, hint="A function of output and y will do too.")
        ]
    if not callable(loss):
        raise TypeError(
            f"loss={loss!r} must be a name ({', '.join(_LOSSES)}) or a function of output and y."
        )
    return loss


def check_recorder(recorder: Any) -> None:
    """Refuse a recorder that cannot be told of a step."""
    if recorder is not None and not callable(getattr(recorder, "step", None)):
        raise TypeError(
            f"recorder={recorder!r} must have a step(): use `with cu.record(model) as recorder`."
        )


def check_clip(clip: Any) -> None:
    """Refuse a longest gradient that is no positive number, nor None for any length."""
    if clip is not None:
        number("clip", clip, above=0, hint="For example 1.0, or None for no clipping.")


def check_momentum(momentum: Any) -> None:
    """Refuse a momentum outside of [0, 1)."""
    number("momentum", momentum, least=0, below=1, hint="For example 0.9.")


def check_lr(lr: Any) -> None:
    """Refuse a learning rate that is no finite number, at least 0."""
    number("lr", lr, least=0, hint="For example 0.1.")


def batch_size_of(batch_size: Any) -> int:
    """The number of samples per batch."""
    return integer("batch_size", batch_size, 1, hint="None takes all at once, where it is allowed.")


def pure_loss(checked: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss without the checks of its arguments, which read values and so cannot be mapped."""
    if checked is _cross_entropy:
        return _mapped_cross_entropy
    return F.mse_loss if checked is _mse else checked


def _mapped_cross_entropy(output: Tensor, y: Tensor) -> Tensor:
    """F.cross_entropy of class numbers, from what vmap maps without importing torch.fx's shapes."""
    if y.is_floating_point():
        return F.cross_entropy(output, y)
    return -output.log_softmax(1).gather(1, y.unsqueeze(1)).mean()


def updater_and_schedule(
    optimizer: Any, parameters: list[nn.Parameter], lr: Any, momentum: Any
) -> tuple[torch.optim.Optimizer, Callable[[int], float] | None]:
    """The optimizer, and the schedule of its learning rate if there is one."""
    check_momentum(momentum)
    if momentum and optimizer != "sgd":
        raise ValueError(
            f"momentum={momentum} belongs to optimizer='sgd': set it in your optimizer instead."
        )
    schedule = lr if callable(lr) else None
    if schedule is None and lr is not None:
        check_lr(lr)
    if isinstance(optimizer, str):
        hint = "A function of the parameters that returns a torch optimizer will do too."
        kind, usual = OPTIMIZERS[one_of("optimizer", optimizer, OPTIMIZERS, hint=hint)]
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
            f"optimizer={name_of(optimizer)} must be a name ({', '.join(OPTIMIZERS)}), a torch "
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


def set_lr(optimizer: torch.optim.Optimizer, lr: Any) -> None:
    """Give all groups of the optimizer this learning rate."""
    check_lr(lr)
    for group in optimizer.param_groups:
        group["lr"] = float(lr)


def batches_of(
    data: Any, batch_size: Any, generator: Any, where: torch.device
) -> tuple[Callable[[], Iterator[tuple[Tensor, Tensor]]], int | None]:
    """A function that yields the batches of one epoch, and how many there are, if known."""
    pair = training_pair(data)
    if pair is not None:
        return _shuffled(*check_pair("data", pair, where), batch_size, generator)
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
            if not is_pair(batch):
                raise ValueError(
                    f"data brought a batch of type {type(batch).__name__}: pairs (x, y) of tensors "
                    "are expected."
                )
            yield _moved(batch, where)

    return epoch, len(data) if isinstance(data, Sized) else None


def training_pair(data: Any) -> tuple[Tensor, Tensor] | None:
    """The pair (x, y) of an `ImageData`, or the pair itself; None for anything else."""
    pair = (data.train_x, data.train_y) if hasattr(data, "train_x") else data
    return tuple(pair) if is_pair(pair) else None


def _shuffled(
    x: Tensor, y: Tensor, batch_size: Any, generator: Any
) -> tuple[Callable[[], Iterator[tuple[Tensor, Tensor]]], int]:
    """Batches of a pair of tensors, in an order drawn on the CPU for each epoch."""
    if batch_size is None:
        return lambda: iter([(x, y)]), 1
    size = batch_size_of(batch_size)
    check_generator(generator)

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(len(x), generator=generator).to(x.device).split(size):
            yield x[rows], y[rows]

    return epoch, math.ceil(len(x) / size)


def test_pair(data: Any, test: Any, where: torch.device) -> tuple[Tensor, Tensor] | None:
    """The test set on the device: `test`, or what an `ImageData` brings, or None."""
    if test is None and hasattr(data, "test_x"):
        test = (data.test_x, data.test_y)
    if test is None:
        return None
    if not is_pair(test):
        raise TypeError(f"test is a {type(test).__name__}: a pair (x, y) of tensors is expected.")
    return check_pair("test", test, where)


def check_pair(argument: str, pair: Any, where: torch.device) -> tuple[Tensor, Tensor]:
    """The pair (x, y) on the device, or an error if it cannot be trained on."""
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


def is_pair(value: Any) -> bool:
    """Whether this is a pair of tensors."""
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(part, Tensor) for part in value)
    )


def name_of(value: Any) -> str:
    """How a message calls a function or a name."""
    return repr(value) if isinstance(value, str) else getattr(value, "__name__", repr(value))
