"""Many networks of one architecture trained at once: seeds × settings in one batched step."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from tqdm.auto import tqdm

from ..arguments import check_generator, integer, one_of
from .arguments import (
    OPTIMIZERS,
    batch_size_of,
    check_clip,
    check_lr,
    check_momentum,
    check_pair,
    loss_named,
    pure_loss,
    test_pair,
    trainable_parameters,
    training_pair,
    usable_device,
)
from .history import Histories
from .loop import BAR_DELAY, EVALUATION_BATCH, answered, forward, right_answers, scalar
from .nonfinite import first_nonfinite_gradient, first_nonfinite_output
from .stacked import faster, fit_stack
from .unrolled import mappable

_KINDS = ("sgd", "adam")
_ADAM = (0.9, 0.999)  # β₁, β₂ of torch.optim.Adam


def fit_many(
    models: Sequence[nn.Module] | nn.Module,
    data: Any,
    *,
    loss: str | Callable[[Tensor, Tensor], Tensor] = "cross_entropy",
    optimizer: str = "sgd",
    lr: float | Sequence[float] | Callable[[int], float | Sequence[float]] | None = None,
    momentum: float | Sequence[float] = 0.0,
    epochs: int = 10,
    steps: int | None = None,
    batch_size: int | None = 64,
    test: tuple[Tensor, Tensor] | None = None,
    clip: float | Sequence[float | None] | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    progress: bool = True,
) -> Histories:
    """Train many networks of the same architecture at once, as a loop of `fit` would, but faster.

    The weights of all models are stacked, one forward and one backward pass serve them all
    (`torch.func.vmap`), and each model takes its own step: θ_i ← θ_i − η_i g_i, with its own
    η_i, β_i and clipping. So a sweep over seeds and settings costs about as many calls as one
    network. A model whose loss or gradient becomes NaN or Inf is taken out before that step
    reaches its weights; the others go on as if nothing had happened. Weights and running
    statistics are written back into the models, which may be called, recorded or trained on.

    Many deep, narrow networks are trained fastest in one stack, as `cu.networks.stack_mlps` makes
    it: then each layer of all is one batched product. A stack takes `steps` of SGD on the
    cross-entropy where it lies, with batches drawn with replacement, is left in training mode,
    and goes on with NaN where a network diverges. Of it `loss`, `accuracy` and `lr` are written
    down.

    Args:
        models: Networks that differ in their numbers only: weights, buffers. Changed in place.
            Or a stack of M: x of shape (B, …) to outputs (M, B, K), network by network.
        data: An `ImageData` or a pair (x, y) of tensors, the same for all models.
        loss: "cross_entropy", "mse", or a function of output and y that returns a scalar tensor
            and can be mapped by `torch.func.vmap`.
        optimizer: "sgd" or "adam".
        lr: η, one for all or one per model; or a schedule, a function of the step 0, 1, 2, … that
            returns either. When None: 0.1 for sgd, 0.001 for adam.
        momentum: β of "sgd", one for all or one per model.
        epochs: Passes through the data, at least 1.
        steps: For a stack, in place of epochs: the number of steps, at least 1.
        batch_size: B; the last batch of an epoch may be smaller. None takes all samples in each
            step, in their order.
        test: Pair (x, y) to evaluate on after each epoch; an `ImageData` brings its own.
        clip: max_norm, one for all or one per model (None: not clipped).
        device: Where to train; `cu.default_device()` when None.
        generator: Source of the order of samples, for example `cu.seeded(0)`: all models see the
            same batches. Or one generator per model, each with an order of its own. Needed unless
            batch_size is None.
        progress: Show a bar once training takes longer than two seconds.

    Returns:
        Losses, accuracies and gradient norms, models × steps and models × epochs, and which
        models diverged. `histories[i]` is the `History` of one.

    Raises:
        ValueError: If an argument is out of range, unknown or empty, if the models differ in more
            than their numbers, or if the model cannot be mapped by vmap.
        TypeError: If an argument is of the wrong type.

    >>> import course_utils as cu
    >>> nets = [cu.mlp(2, 16, generator=cu.seeded(seed)) for seed in range(5)]
    >>> histories = cu.fit_many(
    ...     nets, cu.load_digits(), lr=[0.1, 0.2, 0.3, 0.4, 1e30], epochs=3, generator=cu.seeded(0)
    ... )
    >>> histories.loss.shape, histories.diverged.tolist()
    (torch.Size([5, 69]), [False, False, False, False, True])
    >>> bool((histories.test_accuracy[1:4, -1] > 0.7).all())
    True
    """
    if isinstance(models, nn.Module) and not isinstance(models, nn.ModuleList):
        if steps is None:
            raise TypeError(
                "models is a single network: hand over a list of them, or use cu.fit. A stack of "
                "cu.networks.stack_mlps is trained with steps=."
            )
        asked = {"optimizer": optimizer != "sgd", "loss": loss != "cross_entropy"}
        asked |= {"clip": clip is not None, "test": test is not None, "epochs": epochs != 10}
        for argument in (name for name, given in asked.items() if given):
            raise ValueError(f"{argument} is not for a stack: SGD on the cross-entropy, by steps.")
        return fit_stack(models, data, steps, lr, momentum, batch_size, generator)
    if steps is not None:
        raise ValueError(f"steps={steps!r} is for a stack of networks: a list is given epochs.")
    where = usable_device(device)
    models = _same_architecture(models)
    count = len(models)
    loss_function = loss_named(loss)
    integer("epochs", epochs, 1)
    one_of("optimizer", optimizer, _KINDS, hint="Others: train one by one with cu.fit.")
    rate = _Rate(lr, OPTIMIZERS[optimizer][1], count)
    beta = _per_model("momentum", momentum, count, check_momentum)
    if optimizer != "sgd" and beta.any():
        raise ValueError(f"momentum={momentum!r} belongs to optimizer='sgd': leave it out.")
    longest = _per_model("clip", clip, count, check_clip)
    pair = training_pair(data)
    if pair is None:
        raise TypeError(
            f"data is a {type(data).__name__}: an ImageData or a pair (x, y) of tensors is "
            "expected. Batches of your own can be trained on one by one with cu.fit."
        )
    x, y = check_pair("data", pair, where)
    order = _Order(len(x), batch_size, generator, count)
    test_set = test_pair(data, test, where)
    modes = [model.training for model in models]
    for model in models:
        model.to(where)
    try:
        _try_out(models[0], loss_function, loss, x, y)
        run = _Run(models, pure_loss(loss_function), optimizer, beta, longest)
        bar = tqdm(
            total=epochs * order.per_epoch,
            desc=f"fit {count} models",
            unit="step",
            leave=False,
            delay=BAR_DELAY,
            disable=None if progress else True,
        )
        try:
            for _ in range(epochs):
                order.draw(run.active)
                for start in range(order.per_epoch):
                    run.step(*order.batch(start, run.active, x, y), rate)
                    if not run.active:
                        break
                    bar.update()
                if not run.active:
                    break
                run.end_epoch(test_set)
        except KeyboardInterrupt:
            run.interrupt()
        finally:
            bar.close()
            run.write_back(run.active)
    finally:
        for model, mode in zip(models, modes, strict=True):
            model.train(mode)
    return run.histories(order.per_epoch)


class _Run:
    """The stacked models that still train, and the figures of all."""

    def __init__(
        self,
        models: list[nn.Module],
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: str,
        momentum: Tensor,
        clip: Tensor,
    ):
        first = models[0]
        trained = [name for name, p in first.named_parameters() if p.requires_grad]
        self.models, self.loss, self.skeleton = models, loss, mappable(first)
        self.active = list(range(len(models)))  # which model stands in which row
        self.shapes = {name: first.get_parameter(name).shape for name in trained}
        self.flat = torch.stack(
            [
                torch.cat([model.get_parameter(name).detach().flatten() for name in trained])
                for model in models
            ]
        )
        tensors = [_tensors_of(model) for model in models]
        self.rest = {
            name: torch.stack([own[name].detach() for own in tensors])
            for name in tensors[0]
            if name not in self.shapes
        }
        self.momentum = momentum.to(self.flat)[:, None]
        self.clip = clip[:, None]
        self.adam = optimizer == "adam"
        self.taken = 0
        kept = 2 if self.adam else int(momentum.any())
        self.state = [torch.zeros_like(self.flat) for _ in range(kept)]
        self.steps: list[Tensor] = []  # each (4, models): loss, accuracy, gradient norm, lr
        self.sizes: list[int] = []
        self.epochs: list[Tensor] = []  # each (4, models)
        self.epoch_start = 0
        self.ended: list[tuple[str, str | None, str]] = [("finished", None, "") for _ in models]
        self._make_leaves()

    def _make_leaves(self) -> None:
        """Views into the flat matrix that autograd differentiates with respect to."""
        self.leaves = {
            name: part.detach().requires_grad_() for name, part in self._parts(self.flat).items()
        }
        self.gradient = torch.zeros_like(self.flat)
        self.into = self._parts(self.gradient)

    def _parts(self, flat: Tensor) -> dict[str, Tensor]:
        """Each parameter's view into a matrix models × numbers, or into one row of it."""
        parts = flat.split([shape.numel() for shape in self.shapes.values()], dim=-1)
        return {
            name: part.unflatten(-1, shape)
            for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)
        }

    def _losses(self, x: Tensor, y: Tensor, own: int | None) -> tuple[Tensor, Tensor]:
        """Loss and share of right answers, one per active model.

        Args:
            x: A batch for all of them (own=None), or one each, stacked (own=0).
            y: Its answers.
            own: Axis of the models in x and y.
        """

        def one(trained: dict, rest: dict, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            output = functional_call(self.skeleton, (trained, rest), (x,))
            return self.loss(output, y).reshape(()), right_answers(output, y)

        try:
            return vmap(one, in_dims=(0, 0, own, own), randomness="different")(
                self.leaves, self.rest, x, y
            )
        except RuntimeError as error:
            raise ValueError(
                "models cannot be trained at once: torch.func.vmap says "
                f"{str(error).strip().splitlines()[0]!r}. A forward pass that looks at values "
                "(item, if x > 0) cannot be mapped. Train them one by one with cu.fit."
            ) from error

    def step(self, x: Tensor, y: Tensor, own: int | None, rate: "_Rate") -> None:
        """One step of every active model on its batch."""
        lr = rate.at(self.taken)
        self.skeleton.train()
        losses, right = self._losses(x, y, own)
        parts = torch.autograd.grad(losses.sum(), [*self.leaves.values()], allow_unused=True)
        for into, part in zip(self.into.values(), parts, strict=True):
            into.zero_() if part is None else into.copy_(part)
        gradient = self.gradient
        norm = torch.linalg.vector_norm(gradient, dim=1)
        figures = _on_cpu(torch.stack([losses.detach(), right.to(losses), norm]))
        for row in (~figures[2].isfinite() | (figures[2] == 0)).nonzero()[:, 0].tolist():
            figures[2, row] = torch.linalg.vector_norm(_on_cpu(gradient[row]))
        bad_loss = ~figures[0].isfinite()
        figures[2, bad_loss] = math.nan
        row = torch.full((4, len(self.models)), math.nan, dtype=torch.float64)
        row[:3, self.active] = figures
        row[3, self.active] = lr[self.active]
        self.steps.append(row)
        self.sizes.append(y.shape[1] if own == 0 else len(y))
        bad = ~figures[2].isfinite()
        if bad.any():
            for i in bad.nonzero()[:, 0].tolist():
                batch = x if own is None else x[i]
                self._end(i, float(figures[0, i]), gradient[i], batch, bool(bad_loss[i]))
            gradient, figures = gradient[~bad.to(gradient.device)], figures[:, ~bad]
            self._keep(~bad)  # makes a new self.gradient, for the next step
        if self.active:
            self._update(gradient, figures[2, :, None], lr[self.active].to(self.flat)[:, None])
        self.taken += 1

    def _update(self, gradient: Tensor, norm: Tensor, lr: Tensor) -> None:
        """Clip, then move the weights; the same arithmetic as torch.optim's."""
        if self.clip.isfinite().any():
            gradient *= (self.clip / (norm + 1e-6)).clamp(max=1.0).to(gradient)
        if not self.adam:
            for velocity in self.state:  # none where all momentums are 0
                gradient = faster(velocity, gradient, self.momentum)
            self.flat.addcmul_(gradient, lr, value=-1)
            return
        mean, square = self.state
        mean.lerp_(gradient, 1 - _ADAM[0])
        square.mul_(_ADAM[1]).addcmul_(gradient, gradient, value=1 - _ADAM[1])
        first, second = (1 - beta ** (self.taken + 1) for beta in _ADAM)
        self.flat -= lr / first * mean / (square.sqrt() / math.sqrt(second) + 1e-8)

    def _keep(self, mask: Tensor) -> None:
        """Go on with these rows only."""
        self.active = [model for model, on in zip(self.active, mask.tolist(), strict=True) if on]
        self.clip, mask = self.clip[mask], mask.to(self.flat.device)
        self.flat, self.momentum = self.flat[mask], self.momentum[mask]
        self.state = [value[mask] for value in self.state]
        self.rest = {name: value[mask] for name, value in self.rest.items()}
        self._make_leaves()

    def _end(self, row: int, loss: float, gradient: Tensor, x: Tensor, in_loss: bool) -> None:
        """Write the model of this row back as it was before the step, and say what happened."""
        index = self.active[row]
        model = self.models[index]
        self.write_back([index])
        at = f"Model {index} stopped at step {len(self.steps)} (epoch {len(self.epochs) + 1}): "
        if in_loss:
            layer, advice = first_nonfinite_output(model.train(), x)
            self.ended[index] = ("non-finite loss", layer, f"{at}the loss is {loss}. {advice}")
            return
        before = [parameter.grad for parameter in model.parameters()]
        try:
            for name, part in self._parts(gradient).items():
                model.get_parameter(name).grad = part
            layer, advice = first_nonfinite_gradient(model)
        finally:
            for parameter, old in zip(model.parameters(), before, strict=True):
                parameter.grad = old
        message = f"{at}the gradient holds NaN or Inf. {advice}"
        self.ended[index] = ("non-finite gradient", layer, message)

    def end_epoch(self, test_set: tuple[Tensor, Tensor] | None) -> None:
        """Means over the samples of this epoch, and the test set."""
        rows = torch.stack(self.steps[self.epoch_start :])
        sizes = torch.tensor(self.sizes[self.epoch_start :], dtype=torch.float64)
        means = torch.full((4, len(self.models)), math.nan, dtype=torch.float64)
        means[:2] = torch.einsum("s,sfm->fm", sizes / sizes.sum(), rows[:, :2])
        if test_set is not None:
            means[2:, self.active] = self._evaluate(*test_set)
        out = [i for i in range(len(self.models)) if i not in self.active]
        means[:, out] = math.nan
        self.epochs.append(means)
        self.epoch_start = len(self.steps)

    def _evaluate(self, x: Tensor, y: Tensor) -> Tensor:
        """Loss and accuracy on the test set, (2, active models), in eval mode."""
        total = torch.zeros(2, len(self.active), dtype=torch.float64)
        self.skeleton.eval()
        with torch.no_grad():
            for part, answers in zip(
                x.split(EVALUATION_BATCH), y.split(EVALUATION_BATCH), strict=True
            ):
                losses, right = self._losses(part, answers, None)
                total += len(answers) * _on_cpu(torch.stack([losses, right.to(losses)]))
        return total / len(y)

    def interrupt(self) -> None:
        """Note that the learner stopped all that still trained."""
        at = f"fit_many was interrupted at step {max(len(self.steps), 1)}."
        for index in self.active:
            self.ended[index] = ("interrupted", None, f"{at} The models stay as trained so far.")

    @torch.no_grad()
    def write_back(self, indices: Sequence[int]) -> None:
        """Copy weights and buffers from their rows into the models."""
        for index in indices:
            row, targets = self.active.index(index), _tensors_of(self.models[index])
            for name, value in (*self.leaves.items(), *self.rest.items()):
                targets[name].copy_(value[row])

    def histories(self, per_epoch: int) -> Histories:
        """Everything measured, models first."""
        loss, accuracy, norm, lr = _models_first(self.steps, len(self.models))
        epochs = _models_first(self.epochs, len(self.models))
        stopped, layer, message = zip(*self.ended, strict=True)
        return Histories(loss, accuracy, norm, lr, *epochs, per_epoch, stopped, layer, message)


class _Rate:
    """η of each model at a step."""

    def __init__(self, lr: Any, usual: float, count: int):
        self.count, self.schedule = count, lr if callable(lr) else None
        if self.schedule is None:
            self.fixed = _per_model("lr", usual if lr is None else lr, count, check_lr)

    def at(self, step: int) -> Tensor:
        """(models,), float64, on the CPU."""
        if self.schedule is None:
            return self.fixed
        return _per_model("lr", self.schedule(step), self.count, check_lr)


class _Order:
    """Which samples each model sees at which step; drawn on the CPU."""

    def __init__(self, samples: int, batch_size: Any, generator: Any, count: int):
        self.samples, self.whole = samples, batch_size is None
        self.size = samples if self.whole else batch_size_of(batch_size)
        self.per_epoch = math.ceil(samples / self.size)
        self.own = isinstance(generator, Sequence)
        self.generators = list(generator) if self.own else [generator]
        if self.own and len(self.generators) != count:
            raise ValueError(
                f"generator holds {len(self.generators)} generators for {count} models: hand over "
                "one per model, or a single one for the same batches."
            )
        if not self.whole:
            for one in self.generators:
                check_generator(one)

    def draw(self, active: list[int]) -> None:
        """A new order of the samples, for an epoch."""
        if self.whole:
            return
        if self.own:
            self.rows: Any = {
                i: torch.randperm(self.samples, generator=self.generators[i]) for i in active
            }
        else:
            self.rows = torch.randperm(self.samples, generator=self.generators[0])

    def batch(
        self, step: int, active: list[int], x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor, int | None]:
        """x, y and the axis of the models in them, None where all see the same."""
        if self.whole:
            return x, y, None
        part = slice(step * self.size, (step + 1) * self.size)
        if self.own:
            rows = torch.stack([self.rows[i][part] for i in active]).to(x.device)
            return x[rows], y[rows], 0
        rows = self.rows[part].to(x.device)
        return x[rows], y[rows], None


def _same_architecture(models: Any) -> list[nn.Module]:
    """The models as a list, or an error if one could not stand in for another."""
    if not isinstance(models, Sequence | nn.ModuleList):
        raise TypeError(f"models={models!r} must be a list of networks.")
    models = list(models)
    if not models:
        raise ValueError("models is empty: hand over at least one network.")
    for model in models:
        trainable_parameters(model)
    if len({id(model) for model in models}) < len(models):
        raise ValueError("models holds the same network twice: copy it with copy.deepcopy first.")
    first = _blueprint(models[0])
    for index, model in enumerate(models[1:], start=1):
        plan = _blueprint(model)
        for key in (*first, *plan) if plan != first else ():
            ours, other = first.get(key, "absent"), plan.get(key, "absent")
            if ours != other:
                raise ValueError(
                    f"models[0] and models[{index}] differ in {key}: {ours} and {other}. Networks "
                    "trained together may differ in the values of weights and buffers only; "
                    "call fit_many once per architecture, or make a number that differs a buffer."
                )
    dtypes = {p.dtype for p in models[0].parameters() if p.requires_grad}
    if len(dtypes) > 1:
        raise ValueError(f"models mix {dtypes}: train them one by one with cu.fit.")
    return models


def _blueprint(model: nn.Module) -> dict[str, Any]:
    """Everything about a network but its numbers: kinds of modules, settings, shapes."""
    plan: dict[str, Any] = {}
    for name, module in model.named_modules():
        where = name or "the model"
        plan[f"the kind of {where}"] = f"{type(module).__name__}({module.extra_repr()})"
        for key, value in vars(module).items():
            if key != "training" and isinstance(value, bool | int | float | str | tuple | None):
                plan[f"{key} of {where}"] = value
    for name, tensor in _tensors_of(model).items():
        plan[f"the shape of {name}"] = (tuple(tensor.shape), tensor.dtype)
        plan[f"requires_grad of {name}"] = tensor.requires_grad
    return plan


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _try_out(
    model: nn.Module, checked: Callable[[Tensor, Tensor], Tensor], loss: Any, x: Tensor, y: Tensor
) -> None:
    """One model on a few samples, among them those of the extreme labels: do the shapes fit?"""
    labels = y.reshape(len(y), -1)
    rows = torch.stack([labels.amin(1).argmin(), labels.amax(1).argmax()])
    mode = model.training
    scalar(answered(checked, forward(model.eval(), x[rows]), y[rows]), loss)
    model.train(mode)


def _per_model(argument: str, value: Any, count: int, check: Callable[[Any], None]) -> Tensor:
    """One checked number per model, float64, on the CPU; None becomes Inf (no limit)."""
    several = isinstance(value, Sequence) and not isinstance(value, str)
    if hasattr(value, "tolist"):
        value = value.tolist()
        several = isinstance(value, list)
    values = list(value) if several else [value] * count
    if len(values) != count:
        raise ValueError(
            f"{argument} holds {len(values)} values for {count} models: hand over one number for "
            "all, or one per model."
        )
    for one in values:
        check(one)
    return torch.tensor([math.inf if v is None else float(v) for v in values], dtype=torch.float64)


def _models_first(rows: list[Tensor], count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four tables models × rows, from rows of (4, models)."""
    table = torch.stack(rows) if rows else torch.empty(0, 4, count, dtype=torch.float64)
    a, b, c, d = table.permute(1, 2, 0).contiguous()
    return a, b, c, d


def _on_cpu(value: Tensor) -> Tensor:
    return value.detach().cpu().double()
