"""Ask one batch what is wrong with the gradient of a network."""

import math

import torch
from torch import Tensor, nn

from . import depth, recurrence, remedies
from .borrow import borrowed, runnable
from .calling import Loss, checked, take_apart
from .graph import squashed_twice
from .measure import Pass, run
from .nonfinite import NonFiniteSource, first_nonfinite
from .probe import spread_over_batch
from .recurrence import Through
from .report import KINDS, Diagnosis, Finding
from .shattering import shattered
from .slope import LIMIT, Slope, fit
from .units import dead, saturated
from .updates import unbalanced

_FEWEST_FOR_NORM = 4
_MANY = 64  # values per norm beyond which a batch adds nothing to speak of


def diagnose(
    model: nn.Module,
    batch: object,
    loss: Loss = None,
    *,
    optimizer: torch.optim.Optimizer | None = None,
) -> Diagnosis:
    """Find out what is wrong with the gradient of a network, why, and what mends it.

    One forward and backward pass (two if a deep network has to be asked whether its gradients
    are shattered) in training mode. Afterwards the model is as it was: parameters, `.grad`,
    buffers with the running statistics, mode, hooks, and the random state.

    No rule compares a gradient with a constant, so a factor in front of the loss changes no
    verdict. A gradient vanishes or explodes when ∂L/∂h changes by more than 100× over the depth
    (or over time), by the least-squares slope over the layers. The cause is taken from theory:
    where no norm or skip stands between, one layer multiplies the gradient by rms φ′ ×
    ‖W‖_F/√fan_in, and the two say whose fault it is.

    Args:
        model: Any nn.Module.
        batch: (x, y) for model(x) and loss(output, y); ((a, b), y) for model(a, b); a dict whose
            keys are the arguments of the model and a target ("labels", "target", "y"); or x
            alone.
        loss: Function of output and target (or of the output alone) that returns a scalar.
            None for a model that returns its loss itself, in `.loss`, or as the only scalar of a
            tuple.
        optimizer: The optimizer in use: a copy of it makes one step on copies of the parameters,
            and its updates are compared instead of the gradients.

    Returns:
        A `Diagnosis`: findings with evidence, cause, remedy and the notebook to read.

    Raises:
        TypeError: If `model`, `batch` or `loss` is of the wrong type.
        ValueError: If the loss is no scalar.
        Exception: What the model itself raises when it runs, with a note on what was run.

    References:
        S. Schoenholz et al., "Deep Information Propagation", ICLR 2017 (factor per layer).
        G. Yang et al., "A Mean Field Theory of Batch Normalization", ICLR 2019. D. Balduzzi et
        al., "The Shattered Gradients Problem", ICML 2017.

    >>> import course_utils as cu
    >>> net = cu.mlp(30, 64, init="torch_default", generator=cu.seeded(0))
    >>> x, y = torch.randn(32, 64, generator=cu.seeded(1)), torch.arange(32) % 10
    >>> diagnose(net, (x, y), loss=nn.functional.cross_entropy).kinds
    {'vanishing'}
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={model!r} is a {type(model).__name__}: an nn.Module is expected.")
    model = runnable(model)
    checked(loss)
    parts = take_apart(model, batch, loss)
    with borrowed(model):
        if not model.training:
            model.train()
        counts, handles = _count_values(model)
        try:
            found = run(model, parts, loss)
        except ValueError:
            if not any(count < 2 for _, count in counts):
                raise
            return Diagnosis((_small_batch(counts),), None)
        finally:
            for handle in handles:
                handle.remove()
        findings, notes = _examine(found, counts, optimizer)
    order = sorted(findings, key=lambda finding: KINDS.index(finding.kind))
    return Diagnosis(tuple(order), found.record, tuple(notes))


def _examine(
    found: Pass, counts: list[tuple[str, int]], optimizer: torch.optim.Optimizer | None
) -> tuple[list[Finding], list[str]]:
    """All rules, the most urgent first; what one explains another does not report again."""
    notes: list[str] = []
    source = _nonfinite(found)
    if source is not None:
        return source, notes
    if not found.value.requires_grad or all(grad is None for grad in found.grads):
        return [_nothing_connected(found)], notes
    findings = [f for f in (_not_connected(found), _double(found)) if f]
    if counts and min(count for _, count in counts) < _FEWEST_FOR_NORM:
        findings.append(_small_batch(counts))
        notes.append(
            "with so few values per norm the gradient says nothing about depth or scale. Measure "
            "again with a batch of 16 or more."
        )
        return findings, notes
    killed, stopped = dead(found)
    findings += [killed] if killed else []
    slope = depth.over_depth(found)
    through: list[Through] = []
    if stopped:
        notes.append(
            "a silent layer stops the gradient, so the layers below it cannot be judged. Measure "
            "again when it is mended."
        )
    else:
        through, unseen = recurrence.through_recurrences(found)
        findings += [recurrence.finding(one) for one in through if one.verdict]
        notes += unseen
        if slope.verdict and not slope.close:
            findings.append(depth.explain(found, slope))
            fewest = min((count for _, count in counts), default=_MANY)
            if slope.verdict == "exploding" and fewest < _MANY:
                if (excess := depth.batch_excess(found, fewest)) > LIMIT:
                    findings.append(_small_batch(counts, excess))
        elif slope.close:
            notes.append(
                "over the depth the gradient changes by a factor of "
                f"{math.exp(slope.log_total):.3g}, and the limit of {LIMIT:.0f}× lies within two "
                f"standard errors of that.{depth.lowest(found)} Measure again with a larger batch "
                "and other seeds; if the figure stays, the profile is bent and no line fits it: "
                "see cu.plots.gradient_profile(diagnosis.record)."
            )
        broken = shattered(found) if slope.verdict != "vanishing" else None
        findings += [broken] if broken else []
    full = saturated(found)
    findings += [full] if full else []
    kinds = {finding.kind for finding in findings}
    if not kinds - {"not_connected"}:
        constant = _constant(found)
        if constant and _waits(found):
            constant = None
            notes.append(
                "the last layer starts at zero, so the output is constant and no gradient passes "
                "it before its first step. Measure again after that."
            )
        findings += [constant] if constant else []
        if not constant:
            uneven = unbalanced(found, optimizer)
            findings += [uneven] if uneven else []
    if not findings:
        findings.append(_healthy(found, slope, through))
    return findings, notes


# ---------------------------------------------------------------- NaN and Inf


def _nonfinite(found: Pass) -> list[Finding] | None:
    """Findings for a pass with NaN or Inf in it, or None."""
    bad_loss = not bool(found.value.detach().isfinite())
    if found.record.first_nonfinite is None and not bad_loss:
        return None
    where = found.record.first_nonfinite
    if not bad_loss and where.pass_name == "forward" and where.layer != "(loss)":
        if found.value.requires_grad and _gradients_finite(found):
            return None  # an Inf on purpose, such as a mask, that goes no further
    source = _trace(found)
    findings = []
    grown = _forward_growth(found)
    if source is None:
        layer, pass_name, _ = where or ("(loss)", "forward", 0)
        source = NonFiniteSource(layer, pass_name, "unknown", "NaN or Inf")
    remedy, why = _mend(source, grown)
    findings.append(
        Finding(
            "non_finite",
            (source.layer,),
            "",
            math.nan,
            math.nan,
            f"The first {source.value} arises in {source.layer}, {source.pass_name} pass, by "
            f"{source.operation}. {why}",
            remedy,
            remedies.CHAPTERS[6],
        )
    )
    if grown is not None and grown.verdict == "vanishing":  # falls toward the input: it grows
        factor = 1 / grown.factor
        activation = next(
            (m for m in found.model.modules() if isinstance(m, nn.ReLU | nn.Tanh | nn.GELU)), None
        )
        name = type(activation).__name__.lower() if activation is not None else None
        findings.append(
            Finding(
                "exploding",
                tuple(call.name for call in found.trunk),
                "factor of the RMS of the outputs per layer",
                factor,
                math.nan,
                f"The outputs grow by {factor:.3g} per layer until the number format overflows: "
                "the weights are too large.",
                remedies.initialize(name or "relu"),
                remedies.CHAPTERS[5],
            )
        )
    return findings


def _gradients_finite(found: Pass) -> bool:
    bad = found.record.grad_nan + found.record.grad_inf
    grads = [grad for grad in found.grads if grad is not None]
    return not bool(bad.any()) and all(bool(grad.isfinite().all()) for grad in grads)


def _trace(found: Pass) -> NonFiniteSource | None:
    parts = found.batch
    inputs = parts.args if not parts.kwargs else (parts.kwargs,)
    if parts.kwargs:
        batch = (inputs[0], parts.target) if parts.has_target else dict(parts.kwargs)
    elif parts.has_target:
        batch = (tuple(inputs), parts.target)
    else:
        batch = inputs[0]
    return first_nonfinite(found.model, batch, found.loss)


def _forward_growth(found: Pass) -> Slope | None:
    """Slope of the outputs' RMS, input side last, over the layers that are still finite."""
    names = {call.name for call in found.trunk}
    record = found.record
    rows = [i for i, name in enumerate(record.layers) if name in names]
    values = record.output_rms[0, rows].tolist()
    if len(values) < 3:
        return None
    return fit(values, range(len(values)), [0] * len(values), len(values) - 1)


def _mend(source: NonFiniteSource, grown: Slope | None) -> tuple[str, str]:
    operation = source.operation
    inside = {"(model)": "model.forward", "(loss)": "the loss"}.get(source.layer, source.layer)
    if source.layer in ("(input)", "(target)"):
        return "# find out how it came into the data; until then: torch.nan_to_num(batch)", (
            "The batch itself holds it; the network is not to blame."
        )
    if operation.startswith("parameter"):
        return "# start again from the last good checkpoint, with norm clipping", (
            "The weights already held it: an earlier step was too long, or its gradient not finite."
        )
    if grown is not None and grown.verdict == "vanishing":
        return remedies.kaiming("relu"), "It is an overflow after growth from layer to layer."
    if operation in ("log", "log2", "log10", "xlogy"):
        return (f"# in {inside}: torch.log(z.clamp_min(1e-12)); for log(softmax) F.log_softmax"), (
            "log of 0 is −Inf and of a negative number NaN."
        )
    if "sqrt" in operation or operation in ("pow", "linalg_vector_norm", "norm"):
        return f"# in {inside}: torch.sqrt(z + 1e-12)", "The slope of √x at 0 is infinite."
    if operation == "exp":
        return "# subtract the largest exponent first: torch.logsumexp, F.softmax, F.log_softmax", (
            "exp of more than 88 overflows float32."
        )
    if "div" in operation or operation == "reciprocal":
        return f"# in {inside}: z / (y + 1e-12)", "It divides by 0."
    return "# run the step under `with torch.autograd.detect_anomaly():`, which shows the line", ""


# ---------------------------------------------------------------- what is cut off


def _nothing_connected(found: Pass) -> Finding:
    trainable = [p for p in found.model.parameters() if p.requires_grad]
    cause = (
        "The loss does not depend on any parameter: somewhere the graph is cut, by detach(), "
        ".item(), .numpy(), argmax, no_grad(), or a new tensor built from values."
        if trainable
        else "Every parameter is frozen (requires_grad=False): there is nothing to train."
    )
    remedy = (
        "# compute the loss from the model's output by torch operations only"
        if trainable
        else "model.requires_grad_(True)"
    )
    return Finding(
        "not_connected",
        tuple(found.names),
        "share of parameters with a gradient",
        0.0,
        1.0,
        cause,
        remedy,
        remedies.CHAPTERS[2],
    )


def _not_connected(found: Pass) -> Finding | None:
    named = dict(found.model.named_parameters())
    empty = [
        name
        for name, grad in zip(found.names, found.grads, strict=True)
        if grad is None and named[name].requires_grad
    ]
    if not empty:
        return None
    modules = tuple(dict.fromkeys(name.rpartition(".")[0] or "(model)" for name in empty))
    ran = {layer.split("#")[0].split("[")[0] for layer in found.record.layers}
    idle = [name for name in modules if name not in ran]
    trainable = sum(parameter.requires_grad for parameter in named.values())
    said = (
        f"{', '.join(idle[:4])} did not run in this pass"
        if idle
        else f"{modules[0]} ran, and what came of it does not reach the loss"
    )
    return Finding(
        "not_connected",
        modules,
        "share of trainable parameters with a gradient",
        1 - len(empty) / trainable,
        1.0,
        f"{len(empty)} of {trainable} trainable parameters got no gradient: {said}. Either the "
        "forward pass does not use it, or a detach(), argmax or no_grad() cuts it off.",
        "# use it in forward, or say that it is not trained:\n"
        f"for name in {remedies.listed(empty)}:\n"
        "    model.get_parameter(name).requires_grad_(False)",
        remedies.CHAPTERS[2],
    )


def _double(found: Pass) -> Finding | None:
    twice = squashed_twice(found.value.grad_fn)
    if twice is None or not isinstance(found.output, Tensor):
        return None
    node, kind = twice
    meta = node._input_metadata[0]
    classes = tuple(meta.shape)[-1] if kind == "softmax" else 2
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(tuple(meta.shape), generator=generator).to(meta.device, meta.dtype)
    v = v - v.mean(-1, keepdim=True) if kind == "softmax" else v
    passed = node(v)
    passed = passed[0] if isinstance(passed, tuple) else passed
    measured = float(passed.detach().double().norm() / v.double().norm())
    predicted = 1 / classes if kind == "softmax" else 0.25
    floor = (
        -math.log(math.e / (math.e + classes - 1)) if kind == "softmax" else math.log1p(1 / math.e)
    )
    return Finding(
        "double_softmax",
        (_last_name(found.model, kind),),
        f"factor by which the extra {kind} multiplies the gradient",
        measured,
        predicted,
        f"The output has gone through a {kind}, and the loss applies one again. At uniform outputs "
        f"that shrinks the gradient by {1 / predicted:.3g}, where the network is sure by much "
        f"more, and the loss cannot fall below {floor:.3g}.",
        remedies.remove(found.model, kind),
        remedies.CHAPTERS[2],
    )


def _last_name(model: nn.Module, kind: str) -> str:
    wanted = (nn.Softmax, nn.Softmax2d) if kind == "softmax" else (nn.Sigmoid,)
    names = [name for name, module in model.named_modules() if isinstance(module, wanted)]
    return names[-1] if names else "(model)"


# ---------------------------------------------------------------- small batches, constant outputs


def _count_values(model: nn.Module) -> tuple[list[tuple[str, int]], list]:
    """Values per channel that each batch norm sees in training mode, while the model runs."""
    counts: list[tuple[str, int]] = []

    def watch(name: str, norm: nn.Module) -> object:
        def hook(module: nn.Module, args: tuple) -> None:
            x = args[0]
            uses_batch = module.training or module.running_mean is None
            if uses_batch and isinstance(x, Tensor) and x.dim() >= 2:
                counts.append((name, x.numel() // x.shape[1]))

        norm.momentum = 1.0
        return norm.register_forward_pre_hook(hook)

    kind = nn.modules.batchnorm._BatchNorm
    return counts, [watch(n, m) for n, m in model.named_modules() if isinstance(m, kind)]


def _small_batch(counts: list[tuple[str, int]], excess: float = 1.0) -> Finding:
    fewest = min(count for _, count in counts)
    names = tuple(dict.fromkeys(name for name, count in counts if count == fewest))
    what = {
        1: "the norm has no variance to divide by, and torch refuses to train on it",
        2: "every normalized value is ±1 whatever the input, and the gradient is 0",
        3: "the mean square of the gradient, (B−2)/(B−3) per layer, is infinite",
    }.get(fewest, f"over the depth that alone multiplies the gradient by {excess:.3g}")
    return Finding(
        "batch_too_small_for_norm",
        names,
        "values per channel in a batch norm",
        float(fewest),
        math.nan,
        f"A batch norm takes mean and variance of {fewest} value{'s' * (fewest > 1)} per channel: "
        f"{what}.",
        "# a batch of 16 or more, or a norm that does not look at the batch:\n"
        "for parent in list(model.modules()):\n"
        "    for name, child in list(parent.named_children()):\n"
        "        if isinstance(child, nn.modules.batchnorm._BatchNorm):\n"
        "            setattr(parent, name, nn.GroupNorm(1, child.num_features))",
        remedies.CHAPTERS[7],
    )


def _constant(found: Pass) -> Finding | None:
    """Outputs that are the same for every input, to the rounding of the number format."""
    output = found.output
    inputs = [t for t in found.batch.tensors() if t.dim() and t.is_floating_point()]
    if not isinstance(output, Tensor) or output.dim() < 2 or len(output) < 2 or not inputs:
        return None
    if not spread_over_batch(inputs[0]) > 0 or not output.is_floating_point():
        return None
    spread = spread_over_batch(output)
    zero = bool((output == 0).all())
    limit = 8 * torch.finfo(output.dtype).eps
    if not (zero or spread <= limit):
        return None
    weights = [p for p in found.model.parameters() if p.dim() >= 2]
    alike = [p for p in weights if bool((p.detach() == p.detach().flatten()[0]).all())]
    cause = (
        f"{len(alike)} weight matrices hold one number everywhere: all units of a layer compute "
        "the same, and stay equal while they train."
        if alike
        else "Nothing of the input reaches the output: a layer on the way gives the same answer to "
        "everything."
    )
    return Finding(
        "constant_output",
        ("(model)",),
        "spread of the output over the batch, as a share of its RMS",
        0.0 if zero else spread,
        math.nan,
        cause,
        remedies.kaiming("relu"),
        remedies.CHAPTERS[5],
    )


def _waits(found: Pass) -> bool:
    """Whether only the last layer's weights are zero, as is done on purpose."""
    weights = [call.module.weight for call in found.trunk if hasattr(call.module, "weight")]
    zero = [bool((weight == 0).all()) for weight in weights]
    return len(zero) > 1 and zero[-1] and not any(zero[:-1])


def _healthy(found: Pass, slope: Slope, through: list[Through]) -> Finding:
    layers = tuple(call.name for call in found.trunk) + tuple(one.name for one in through)
    layers = tuple(dict.fromkeys(layers))
    measured = [one for one in through if one.slope.factor > 0]
    over_time = " ".join(map(recurrence.in_order, measured))
    if not math.isnan(slope.factor):
        within = "not surely by more than" if slope.verdict else "within"
        said = (
            f"Over {slope.span} layers the gradient changes by a factor of "
            f"{math.exp(slope.log_total):.3g}, {within} {LIMIT:.0f}×; no NaN, no dead or saturated "
            f"layer, everything connected. {over_time}"
        )
        return Finding(
            "healthy",
            layers,
            "factor of ∂L/∂h per layer",
            slope.factor,
            1.0,
            said.strip(),
            "",
            "",
        )
    if measured:
        worst = max(measured, key=lambda one: abs(one.slope.log_total))
        said = f"{over_time} No NaN, no dead or saturated layer, everything connected."
        return Finding(
            "healthy",
            layers,
            "factor of ∂L/∂h_t per time step",
            worst.slope.factor,
            worst.predicted,
            said,
            "",
            "",
        )
    return Finding(
        "healthy",
        layers,
        "",
        math.nan,
        math.nan,
        "Nothing was found. Too few layers have a gradient of their own for a slope.",
        "",
        "",
    )
