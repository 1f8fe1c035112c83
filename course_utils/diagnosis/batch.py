"""How a batch is handed to a model and its loss."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..measuring import tensors_in

TARGETS = ("labels", "label", "targets", "target", "y")
"""Keys of a dict batch that hold what the model should answer."""

Loss = Callable[..., Tensor] | None


@dataclass(frozen=True)
class Batch:
    """A batch taken apart.

    Attributes:
        args: What the model is called with.
        kwargs: What it is called with by name.
        target: What the loss gets as second argument.
        has_target: Whether there is one.
        by_step: Whether the whole batch goes to the model's `training_step`, as Lightning does it.
    """

    args: tuple
    kwargs: dict = field(default_factory=dict)
    target: object = None
    has_target: bool = False
    by_step: bool = False

    def tensors(self) -> list[Tensor]:
        """Tensors in the model's arguments, also in tuples, dicts and objects."""
        return [t for _, t in tensors_in((self.args, self.kwargs), integers=True)]


def split_batch(model: nn.Module, batch: Any, loss: Loss) -> Batch:
    """Split a batch into the model's arguments and the target of the loss.

    (x, y): model(x), loss(output, y). (a, b, …, y): model(a, b, …). If x itself is a tuple or a
    dict, model(*x) or model(**x) where forward can be called so, else model(x). Without a loss, or
    with one of the output alone, model(x, y) where forward needs both. A dict: those keys that the
    model's forward names, without the target ("labels", "target", "y", …), which goes to the
    model too where the loss takes no second argument. Another object, such as a batch of graphs:
    its attributes in the same way, or, where forward names none of them, the object itself. A
    tensor alone: model(x), loss(output). Without a loss and for a model with a `training_step`,
    the batch as it is.

    Raises:
        TypeError: If the batch is none of these.
    """
    if loss is None and callable(getattr(model, "training_step", None)):
        return Batch((batch,), by_step=True)
    if isinstance(batch, Tensor):
        return Batch((batch,))
    keys = getattr(batch, "keys", None)  # a dict, what a tokenizer returns, or a batch of graphs
    if keys is not None:
        names = keys() if callable(keys) else keys
        return _from_names(model, batch, {key: batch[key] for key in names}, loss)
    if not isinstance(batch, list | tuple) and any(tensors_in(batch, integers=True)):
        return _from_names(model, batch, dict(vars(batch)), loss)
    if not isinstance(batch, list | tuple) or not batch:
        raise TypeError(
            f"batch is a {type(batch).__name__}: expected (x, y), a dict of tensors, an object "
            "with tensors as attributes, or x alone. "
            "The first batch of a DataLoader is next(iter(loader))."
        )
    apart = loss is not None and (_takes_two(loss) or _takes(model, *batch[:-1]))
    if not apart and len(batch) > 1 and _takes(model, *batch):
        return Batch(tuple(batch))  # the model computes its loss of them all
    has_target = len(batch) > 1
    *inputs, target = batch if has_target else (*batch, None)
    if len(inputs) == 1 and isinstance(inputs[0], list | tuple):
        inputs = list(inputs[0]) if _takes(model, *inputs[0]) else inputs
    if len(inputs) == 1 and isinstance(inputs[0], dict) and _takes(model, **inputs[0]):
        return Batch((), inputs[0], target, has_target)
    return Batch(tuple(inputs), {}, target, has_target)


def _signature(model: nn.Module) -> inspect.Signature:
    """The arguments of a model, or of the one that is wrapped."""
    wrappers = nn.DataParallel | nn.parallel.DistributedDataParallel
    return inspect.signature((model.module if isinstance(model, wrappers) else model).forward)


def _takes(model: nn.Module, *args: Any, **kwargs: Any) -> bool:
    """Whether a model can be called like this."""
    try:
        _signature(model).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _from_names(model: nn.Module, batch: object, values: dict, loss: Loss) -> Batch:
    """From a dict, or from an object with its attributes as `values`."""
    apart = loss is not None and _takes_two(loss)  # else it is the model that needs the target
    target_key = next((key for key in TARGETS if key in values), None) if apart else None
    target = values.get(target_key)
    given = {key: value for key, value in values.items() if key != target_key or not apart}
    parameters = _signature(model).parameters.values()
    kinds, alike = {p.kind for p in parameters}, isinstance(batch, Mapping)
    open_ended = inspect.Parameter.VAR_KEYWORD in kinds
    if open_ended and not alike and inspect.Parameter.VAR_POSITIONAL in kinds:
        return Batch((batch,))  # it hands on whatever it gets
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    known = {key: value for key, value in given.items() if open_ended or key in named}
    if known:
        return Batch((), known, target, target_key is not None)
    # a mapping, and no object that has more to it than its values
    args = tuple(given.values()) if alike and len(given) == 1 else (given if alike else batch,)
    return Batch(args, {}, target, target_key is not None)


def check_loss(loss: Loss) -> None:
    """See that `loss` can be called at all.

    Raises:
        TypeError: If it is no function, or a class of which no object was made.
    """
    if isinstance(loss, type) and issubclass(loss, nn.Module):
        raise TypeError(
            f"loss={loss.__name__} is a class: make a function of it by nn.{loss.__name__}()."
        )
    if loss is not None and not callable(loss):
        raise TypeError(
            f"loss={loss!r} must be a function of output and target, for example F.cross_entropy."
        )


def loss_of(output: object, batch: Batch, loss: Loss) -> Tensor:
    """The loss of an output: a scalar tensor.

    Raises:
        ValueError: If there is no loss to compute, or it is no scalar.
    """
    return as_scalar(evaluate(output, batch, loss), loss)


def evaluate(output: object, batch: Batch, loss: Loss) -> object:
    """What the loss returns, or what the model returned as its loss; None if it did not."""
    if loss is not None:
        both = batch.has_target and _takes_two(loss)
        return loss(output, batch.target) if both else loss(output)
    if isinstance(output, Tensor):
        return output
    if isinstance(output, tuple | list) and not hasattr(output, "loss"):
        scalars = [t for t in output if isinstance(t, Tensor) and t.dim() == 0]
        return scalars[0] if len(scalars) == 1 else None  # (logits, loss), or (loss, logits)
    value = getattr(output, "loss", None)
    return output.get("loss") if value is None and isinstance(output, dict) else value


def as_scalar(value: object, loss: Loss) -> Tensor:
    """A loss, if it is one number.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        return value
    if loss is None:
        raise ValueError(
            "loss=None works for a model that returns its loss: as a scalar, as output.loss, as "
            "the only scalar of a tuple, or from training_step. This one does not. Hand over a "
            "function of output and target, for example loss=F.cross_entropy."
        )
    shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    raise ValueError(
        f"loss returned {shape}: expected a scalar tensor. Take the mean of one number per sample, "
        "or reduction='mean'."
    )


def _takes_two(loss: Callable) -> bool:
    try:
        inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).bind(0, 0)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def needs_target(loss: Callable) -> bool:
    """Whether a loss cannot be called with the output alone."""
    try:
        inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).bind(0)
    except TypeError:
        return True
    except ValueError:
        return False
    return False
