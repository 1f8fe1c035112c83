"""Parameters whose gradient is exactly 0, and the operation that takes it."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ...measuring import torch_internals
from ...measuring.torch_internals import saved_tensor
from .. import remedies
from ..batch import loss_of
from ..cancelled import norms_one_entry
from ..graph import LARGEST_SLOPE, activation_name, follow, inputs_of, stem, walk
from ..layer_calls import rms
from ..measured_pass import SMALLEST, MeasuredPass
from ..names import owners, some_of
from ..report import Finding
from ..taken import Taker, is_zero, takers
from .rule import Case, rule

_FEW = 8
"""Entries that can all lie in the flat part of a clamp by chance."""


_PERHAPS = ("clamp", "product", "single", "other")
"""What takes a gradient on this batch and need not on another."""


_OVER_DEPTH = ("through_time", "over_depth", "small_batch_explodes", "shattered")
"""Rules that read an exact 0 as underflow."""


@rule(silences=("constant_output", "second_derivative"))
def zero_gradient(case: Case) -> list[Finding] | None:
    """Parameters that the loss depends on and that it gives exactly 0."""
    measured_pass = case.measured_pass
    value, grads = measured_pass.loss_value, measured_pass.grads
    if value.grad_fn is None or not bool(value.isfinite()):
        return None
    if measured_pass.own_gradient and not any(
        grad is not None and is_zero(grad) for grad in grads.values()
    ):
        return None
    parameters = measured_pass.trainable
    seed = 1 / measured_pass.scale if measured_pass.own_gradient else 1.0
    own, found = takers(value, seed, list(parameters.values()))
    found = [taker for taker in found if not norms_one_entry(taker.node)]  # a rule of its own
    real = dict(zip(parameters, own, strict=True))
    weights = [n for n, p in parameters.items() if p.dim() > 1] or list(parameters)
    nothing = all(is_zero(real[name]) for name in weights)
    done = nothing and not measured_pass.own_gradient and _at_its_least(measured_pass)
    if all(is_zero(p) for p in measured_pass.parameters.values() if p.dim() > 1):
        found = [taker for taker in found if taker.why != "stuck"]  # a symmetry
    verdicts = {taker: _sick(case, taker, nothing, done) for taker in found}
    waiting: dict[Taker, list[str]] = {}
    waits_for_good = False
    in_loss = True
    groups: dict[tuple[str, str], tuple[list[str], list[Taker]]] = {}
    for name, parameter in parameters.items():
        ways = [taker for taker in found if id(parameter) in taker.parameters]
        ways.sort(key=lambda taker: not taker.whole)
        if real[name] is None or not ways or not is_zero(real[name]):
            continue
        in_loss &= not any(taker.node in measured_pass.output_nodes for taker in ways)
        sick = [verdicts[taker] for taker in ways]
        if not any(sick) and not done and ways[0].why in _PERHAPS:
            if ways[0].why == "product" and _opens_never(case, ways[0], name, parameter):
                waits_for_good = True
            else:
                waiting.setdefault(ways[0], []).append(name)
        if all(sick):
            names, nodes = groups.setdefault((ways[0].why, ways[0].operation), ([], []))
            names.append(name)
            nodes += [taker for taker in ways if taker not in nodes]
    inside = any(call.grad_in == 0 for call in measured_pass.trunk)
    lost = in_loss and _all_lost(measured_pass) and not measured_pass.cut_by_zero
    if waits_for_good or (nothing and groups) or (inside and (groups or lost)):
        case.silenced.update(_OVER_DEPTH)
    if not groups and done:
        case.notes.append(
            f"the loss is {float(value.detach()):.3g} and its gradient is exactly 0 on this "
            "batch: it is at its least here, and other outputs have a larger loss."
        )
    if not groups:
        case.notes += [_note(measured_pass, taker, names) for taker, names in waiting.items()][:3]
    return [
        _finding(measured_pass, names, nodes, len(parameters)) for names, nodes in groups.values()
    ]


def _all_lost(measured_pass: MeasuredPass) -> bool:
    """Whether some layer takes all, which would count as vanishing; not where it underflows."""
    faded = bool((measured_pass.record.output_rms[0] < 1e-30).any())
    return measured_pass.depth_slope.factor == 0 and not faded


def _note(measured_pass: MeasuredPass, taker: Taker, names: list[str]) -> str:
    """On parameters that another batch may well give a gradient."""
    what = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return (
        f"exactly 0 arrives at {what} on this batch: {taker.operation} "
        f"({measured_pass.whereabouts(taker.node)}) hands on nothing toward "
        f"{'it' if len(names) == 1 else 'them'}. If that is not meant, measure on another batch."
    )


def _sick(case: Case, taker: Taker, nothing: bool, done: bool) -> bool:
    """Whether what takes the gradient here does so for good."""
    measured_pass = case.measured_pass
    inside = taker.node in measured_pass.output_nodes
    if taker.why in ("step", "stuck"):
        return True
    if taker.why == "single":
        return nothing or not inside
    if taker.why == "clamp":
        if _said_by_saturated(measured_pass, taker):
            return False
        if nothing and not inside:
            return not done
        chance = taker.reach < _FEW and not _on_a_parameter(taker)
        return inside and not chance and not _faded(measured_pass, taker)
    if taker.why == "product":
        held = _held(measured_pass, taker) is not None
        return (nothing and not done) or _drops_all(measured_pass.model) or held
    return taker.why == "other" and nothing and not done


def _named(model: nn.Module, *, frozen: bool) -> dict[int, str]:
    """Names of what no step moves, frozen parameters or buffers, by where their numbers lie."""
    rest = [(n, p) for n, p in model.named_parameters() if not p.requires_grad]
    tensors = rest if frozen else list(model.named_buffers())
    strided = [(n, t) for n, t in tensors if t.layout is torch.strided and not t.is_meta]
    return {t.untyped_storage().data_ptr(): n for n, t in strided}


def _opens_never(case: Case, taker: Taker, name: str, parameter: Tensor) -> bool:
    """Whether a factor that is 0 on this batch may be so on all of them; then what is open."""
    buffers = _named(case.measured_pass.model, frozen=False)
    buffer = None if taker.fixed is None else buffers.get(taker.fixed)
    if buffer is not None:
        said = (
            f"the buffer {buffer} holds zeros only and multiplies all of the gradient that goes "
            f"toward {name} and what stands with it: no step moves a buffer. If it has to learn, "
            "make it a parameter; if code raises it later, measure again then."
        )
    elif is_zero(parameter):
        said = (
            f"the parameter {name} is 0, and what it is multiplied by is exactly 0 on this batch, "
            "so nothing moves it, nor what waits for it to be other than 0. Look at what it reads: "
            "if that is 0 in every batch, it never moves."
        )
    else:
        return False
    if not any(one.split()[:3] == said.split()[:3] for one in case.undecided):
        case.undecided.append(said)
    return True


def _on_a_parameter(taker: Taker) -> bool:
    """Whether the operation works on a parameter, and no input of the batch is in it."""
    below = list(walk(taker.node))
    return sum("AccumulateGrad" in node.name() for node in below) == 1 and len(below) <= 4


def _said_by_saturated(measured_pass: MeasuredPass, taker: Taker) -> bool:
    """Whether it is an activation between layers that counts as saturated."""
    between = any(node is taker.node for _, node in measured_pass.activations)
    return between and activation_name(taker.node) in LARGEST_SLOPE


def _faded(measured_pass: MeasuredPass, taker: Taker) -> bool:
    """Whether it reads 0 because the signal is below the smallest numbers: that is vanishing."""
    record = measured_pass.record
    sizes = dict(zip(record.layers, record.output_rms[0].tolist(), strict=True))
    parents = follow(taker.node, measured_pass.ends).parents
    return any(sizes.get(call.name, 1.0) < SMALLEST for call in parents)


def _drops_all(model: nn.Module) -> bool:
    return any(isinstance(m, torch_internals.Dropouts) and m.p == 1 for m in model.modules())


# ------------------------------------------------- is the loss at its least?


def _at_its_least(measured_pass: MeasuredPass) -> bool:
    """Whether other outputs have a larger loss, so that nothing is left to learn.

    Asked of the outputs in other orders, of their negatives, and of small steps to either side:
    a margin that is kept by the right answers is violated by wrong ones; one that no output can
    reach is not, and a step function stays flat.
    """
    if measured_pass.loss is None:
        return False
    generator = torch.Generator().manual_seed(0)
    size = max((rms(t.detach()) for t in measured_pass.outputs), default=0.0) or 1.0

    def shuffled(t: Tensor) -> Tensor:
        return t[torch.randperm(len(t), generator=generator).to(t.device)] if t.dim() else t

    try:
        here = float(measured_pass.loss_value.detach())
        turns: list[Callable[[Tensor], Tensor]] = [*[shuffled] * 4, torch.neg]
        others = [_elsewhere(measured_pass, turn) for turn in turns]
        if max(others) > here:
            return min(others) >= here and _rises(measured_pass, here, size, generator) >= 0
        return _rises(measured_pass, here, size, generator) > 0
    except Exception:  # a loss of strangers, on outputs it was not made for
        return False


def _rises(
    measured_pass: MeasuredPass, here: float, size: float, generator: torch.Generator
) -> int:
    """Whether the loss rises (1), falls or jumps (-1) around here, or stays as it is (0)."""
    rises = []
    for share in (1e-2, 1e-3):
        steps = []
        for _ in range(4):
            noise = torch.randn(2**16, generator=generator) * share * size
            steps += [_elsewhere(measured_pass, partial(_moved, noise=n)) for n in (noise, -noise)]
        rises.append([step - here for step in steps])
    far, near = rises
    if min(far) < 0 or sum(near) > 0.5 * sum(far) > 0:
        return -1
    return int(min(far) > 0)


def _moved(value: Tensor, noise: Tensor) -> Tensor:
    """A tensor plus noise, repeated where there is too little of it."""
    times = math.ceil(value.numel() / len(noise))
    return value + noise.repeat(times)[: value.numel()].reshape(value.shape).to(value)


def _elsewhere(measured_pass: MeasuredPass, turn: Callable[[Tensor], Tensor]) -> float:
    """The loss of changed outputs."""

    def changed(value: object) -> object:
        if isinstance(value, Tensor) and value.requires_grad:
            return turn(value.detach()).requires_grad_()
        return value

    output = torch_internals.tree_map(changed, measured_pass.output)
    return float(loss_of(output, measured_pass.batch, measured_pass.loss).detach())


# ---------------------------------------------------------------- what is said


def _finding(
    measured_pass: MeasuredPass, names: list[str], nodes: list[Taker], total: int
) -> Finding:
    taker = nodes[0]
    one = len(names) == 1
    others = dict.fromkeys(node.operation for node in nodes if node.operation != taker.operation)
    rest = f" The other ways end at {' and '.join(others)}." if others else ""
    said, remedy = _explained(measured_pass, names, taker)
    return Finding(
        kind="zero_gradient",
        layers=owners(names),
        quantity="share of the parameters whose gradient is exactly 0",
        measured=len(names) / total,
        predicted=0.0,
        cause=f"The gradient of {some_of(names)} is exactly 0 everywhere on this batch, though "
        f"{'it is' if one else 'they are'} connected to the loss: {said}{rest}",
        remedy=remedy,
        notebook=remedies.CHAPTERS[4 if taker.why in ("step", "clamp") else 2],
    )


def _held(measured_pass: MeasuredPass, taker: Taker) -> str | None:
    """Name of the frozen parameter of zeros that a product multiplies by."""
    if taker.fixed is None:
        return None
    return _named(measured_pass.model, frozen=True).get(taker.fixed)


def _explained(measured_pass: MeasuredPass, names: list[str], taker: Taker) -> tuple[str, str]:
    """What takes the gradient, with its figures, and what gives these parameters one."""
    where, name = measured_pass.whereabouts(taker.node), taker.operation
    if taker.why == "step":
        function = "torch.floor" if name == "div" else f"torch.{name}"
        place = where.replace("in forward", "in model.forward")
        return (
            f"{name} ({where}) is flat between its steps, so its slope is 0 for every input, and "
            "no other way leads around it.",
            f"# {place}: straight_through({function}, z) in place of {function}(z)\n"
            "def straight_through(function, z):  # its values forward, slope 1 backward\n"
            "    return z + (function(z) - z).detach()",
        )
    if taker.why == "clamp":
        return (
            f"{name} ({where}) is flat at all {taker.reach} values that a gradient arrives "
            f"at{_range(taker)}: its slope is 0 there.",
            _into_reach(measured_pass, names, taker),
        )
    if taker.why == "single":
        log = name == "log_softmax"
        return (
            f"{name} ({where}) runs over a single entry, one output: it gives "
            f"{'0' if log else 'the same number'} whatever the weights are."
            + " Cross-entropy of one class is always 0."
            * log,
            _two_classes(measured_pass),
        )
    if taker.why == "stuck":
        return (
            f"a product ({where}) has two factors that are both exactly zero, and each is the "
            "gradient of the other: the pair never moves. One of the two has to start from random "
            "numbers.",
            _random_first(measured_pass, names),
        )
    if taker.why == "product" and _drops_all(measured_pass.model):
        return (
            f"a dropout with p = 1 drops everything ({name} by exactly 0, {where}). p is the share "
            "that is dropped, not the share that is kept.",
            "for module in model.modules():  # p is the share that is dropped\n"
            "    if isinstance(module, nn.Dropout) and module.p == 1:\n"
            "        module.p = 0.1",
        )
    if taker.why == "product" and (held := _held(measured_pass, taker)):
        return (
            f"{name} ({where}) multiplies by {held}, which is exactly 0 and "
            "frozen: no step moves it, so nothing behind it ever learns.",
            "# let it move; an optimizer has to hold it too\n"
            f"model.get_parameter({held!r}).requires_grad_(True)",
        )
    if taker.why != "product" and name.endswith("_backward"):
        bent = name.removesuffix("_backward").replace("threshold", "relu")
        return (
            f"the slope of {bent} ({where}) does not change with its input: a second derivative "
            "of it is 0, and the loss asks for one.",
            remedies.smooth(measured_pass.model),
        )
    said = f"{name} ({where}) hands on nothing of the {taker.reach} values that arrive."
    if taker.why == "product":
        said = (
            f"{name} ({where}) has a factor that is exactly 0 at all {taker.reach} values that a "
            "gradient arrives at: a constant 0, or a difference of things that are all equal (one "
            "constant output for every input)."
        )
    return said, (
        f"# look at the input of {name}: it has to differ from 0 and from sample to sample before\n"
        "# anything can be learned from it"
    )


def _range(taker: Taker) -> str:
    """Of a clamp: its bounds, and where its input lies."""
    read = saved_tensor(taker.node, "self")
    read = None if read is None else read.detach()
    low, high = _bounds(taker)
    bounds = [f"below {low:.3g}"] if low > -math.inf else []
    bounds += [f"above {high:.3g}"] if high < math.inf else []
    said = f" (flat {' and '.join(bounds)}" if bounds else ""
    if read is not None and read.numel():
        lies = f"its input lies in {float(read.min()):.3g} … {float(read.max()):.3g}"
        said += f"; {lies}" if said else f" ({lies}"
    return f"{said})" if said else ""


def _bounds(taker: Taker) -> tuple[float, float]:
    """The part of a clamp's range that is not flat."""
    name = stem(taker.node)
    if name in ("Relu", "Threshold"):
        return torch_internals.saved(taker.node, "threshold", 0.0), math.inf
    ends = {"Hardtanh": ("min_val", "max_val")}.get(name, ("min", "max"))
    fixed = {"Hardsigmoid": (-3.0, 3.0), "Hardswish": (-3.0, math.inf)}.get(name)
    if fixed is not None:
        return fixed
    low, high = (torch_internals.saved_number(taker.node, end) for end in ends)
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def _into_reach(measured_pass: MeasuredPass, names: list[str], taker: Taker) -> str:
    """A clamp whose input has to come back into the part that is not flat."""
    low, high = _bounds(taker)
    if _on_a_parameter(taker) and stem(taker.node).startswith("Clamp"):
        bounds = [f"min={low!r}"] if low > -math.inf else []
        bounds += [f"max={high!r}"] if high < math.inf else []
        return (
            "with torch.no_grad():  # back to where the clamp is not flat\n"
            f"    model.get_parameter({names[0]!r}).clamp_({', '.join(bounds)})"
        )
    if _of_a_sum_of_exps(measured_pass, taker):
        return (
            "# in the log domain, where nothing underflows, in place of\n"
            "# log((weight * exp(a)).sum(dim).clamp_min(eps)):\n"
            "# torch.logsumexp(log_weight + a, dim)"
        )
    if taker.node not in measured_pass.output_nodes:
        return (
            f"# no sample is within reach of {taker.operation}: choose its bound within the range "
            "of the outputs, or,\n"
            "# while they are out of reach, F.softplus(z), whose slope is nowhere 0, in its place"
        )
    inside = [f"above {low:.3g}"] if low > -math.inf else []
    inside += [f"below {high:.3g}"] if high < math.inf else []
    return (
        f"# bring the input of {taker.operation} {' and '.join(inside) or 'into its range'}, by "
        "its scale, its bias or a norm before it:\n"
        f"# {taker.operation}(F.layer_norm(z, z.shape[1:]))"
    )


def _of_a_sum_of_exps(measured_pass: MeasuredPass, taker: Taker) -> bool:
    """Whether a log of this clamp is taken, and exponentials are what it clamps."""
    assert measured_pass.loss_value.grad_fn is not None
    logs = any(
        stem(node).startswith("Log") and taker.node in inputs_of(node)
        for node in walk(measured_pass.loss_value.grad_fn)
    )
    near = follow(taker.node, measured_pass.ends).nodes
    return logs and any(stem(node).startswith("Exp") for node in near)


def _two_classes(measured_pass: MeasuredPass) -> str:
    """A softmax over one output."""
    here = [n for n, m in measured_pass.model.named_modules() if isinstance(m, nn.Softmax)]
    if len(here) == 1:
        parent, _, key = here[0].rpartition(".")
        return (
            "# one output in 0…1, for which nn.BCELoss learns faster than a squared error\n"
            f"model.get_submodule({parent!r}).register_module({key!r}, nn.Sigmoid())"
        )
    return (
        "# two classes: one output with F.binary_cross_entropy_with_logits, or two outputs with\n"
        "# F.cross_entropy; one class only: leave its term out of the loss"
    )


def _random_first(measured_pass: MeasuredPass, names: list[str]) -> str:
    """Random numbers for the first of the matrices that hold nothing but 0."""
    named = measured_pass.parameters
    zero = [n for n in names if named[n].dim() > 1 and not bool(named[n].any())]
    if not zero:
        return "# start one of the two from random numbers"
    return (
        "# the other stays zero, so that the output does not change at the start\n"
        f"nn.init.kaiming_uniform_(model.get_parameter({zero[0]!r}), a=5 ** 0.5)"
    )
