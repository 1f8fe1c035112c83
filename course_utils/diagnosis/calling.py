"""How a batch is handed to a model and its loss, and whose error it is when that fails."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
    """

    args: tuple
    kwargs: dict
    target: object
    has_target: bool

    def tensors(self) -> list[Tensor]:
        """Tensors among the model's arguments."""
        return [v for v in (*self.args, *self.kwargs.values()) if isinstance(v, Tensor)]


def take_apart(model: nn.Module, batch: object, loss: Loss) -> Batch:
    """Split a batch into the model's arguments and the target of the loss.

    (x, y): model(x), loss(output, y). (a, b, …, y): model(a, b, …). If x itself is a tuple or a
    dict, model(*x) or model(**x). A dict: those keys that the model's forward names, without the
    target ("labels", "target", "y", …); without a loss everything goes to the model, which then
    computes its own. A tensor alone: model(x), loss(output).

    Raises:
        TypeError: If the batch is none of these.
    """
    if isinstance(batch, Tensor):
        return Batch((batch,), {}, None, False)
    if isinstance(batch, dict) or hasattr(batch, "keys"):
        return _from_dict(model, dict(batch), loss)
    if isinstance(batch, list | tuple) and len(batch) >= 1:
        *inputs, target = batch if len(batch) > 1 else (*batch, None)
        if len(inputs) == 1 and isinstance(inputs[0], list | tuple):
            inputs = list(inputs[0])
        if len(inputs) == 1 and isinstance(inputs[0], dict):
            return Batch((), inputs[0], target, len(batch) > 1)
        return Batch(tuple(inputs), {}, target, len(batch) > 1)
    raise TypeError(
        f"batch is a {type(batch).__name__}: expected (x, y), a dict of tensors, or x alone. The "
        "first batch of a DataLoader is next(iter(loader))."
    )


def _from_dict(model: nn.Module, batch: dict, loss: Loss) -> Batch:
    target_key = next((key for key in TARGETS if key in batch), None) if loss else None
    target = batch.get(target_key)
    given = {key: value for key, value in batch.items() if key != target_key or not loss}
    parameters = inspect.signature(model.forward).parameters.values()
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    known = {key: value for key, value in given.items() if open_ended or key in named}
    if known:
        return Batch((), known, target, target_key is not None)
    if len(given) == 1:
        return Batch(tuple(given.values()), {}, target, target_key is not None)
    return Batch((given,), {}, target, target_key is not None)


def checked(loss: Loss) -> None:
    """Whether `loss` can be called at all.

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
            "loss=None works for a model that returns its loss: as a scalar, as output.loss or as "
            "the only scalar of a tuple. This one does not. Hand over a function of output and "
            "target, for example loss=F.cross_entropy."
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


@contextlib.contextmanager
def explained(what: str, model: nn.Module, batch: Batch) -> Iterator[None]:
    """Let an error of the model pass as it is, with a note on what was being done."""
    try:
        yield
    except Exception as error:
        shapes = ", ".join(f"{tuple(t.shape)} {t.dtype} on {t.device}" for t in batch.tensors())
        error.add_note(
            f"This error comes from {what} {type(model).__name__}, which diagnose() ran with "
            f"{shapes or 'no tensor'}. The same call outside diagnose() raises it too: make one "
            "training step run first."
        )
        raise


def gradients(
    value: Tensor, parameters: list[nn.Parameter], seed: Tensor | None = None
) -> list[Tensor | None]:
    """Gradient of `value` at each parameter, None where none arrives; the graph stays.

    `seed` is ∂𝓛/∂value, for a single number 1 unless told. Handing it over makes torch import sympy
    on the first call, half a second.

    Without touching `.grad` and the hooks on its accumulation, except for reentrant checkpoints,
    which torch only runs by `backward()`: there `.grad` is filled and emptied again.
    """
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    if not wanted:
        return [None] * len(parameters)
    seed = None if seed is None else seed.to(value)
    try:
        found = torch.autograd.grad(value, wanted, seed, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if "heckpoint" not in str(error):
            raise
        before = [parameter.grad for parameter in wanted]
        try:
            for parameter in wanted:
                parameter.grad = None
            value.backward(seed, retain_graph=True)
            found = [parameter.grad for parameter in wanted]
        finally:
            for parameter, grad in zip(wanted, before, strict=True):
                parameter.grad = grad
    by_id = {id(parameter): grad for parameter, grad in zip(wanted, found, strict=True)}
    return [by_id.get(id(parameter)) for parameter in parameters]
