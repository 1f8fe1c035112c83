"""Ask one batch what is wrong with the gradient of a network."""

from dataclasses import replace

import torch
from torch import nn

from .batch import Loss, check_loss, split_batch
from .first_look import first_look
from .measured_pass import TooFewValues, measure
from .names import in_words, of_model
from .report import KINDS, Diagnosis
from .rules.batch_too_small_for_norm import small_batch, small_batch_explodes, too_few_for_norm
from .rules.cancels import cancels
from .rules.constant_output import constant_output
from .rules.dead import dead_units, silent_layer
from .rules.double_softmax import double_softmax
from .rules.healthy import healthy
from .rules.loss_mismatch import loss_mismatch
from .rules.non_finite import non_finite
from .rules.norm_of_one import norm_of_one
from .rules.not_connected import loss_cut_off, not_connected
from .rules.not_optimized import not_optimized
from .rules.not_registered import not_registered
from .rules.output_activation import dead_output, saturated_output
from .rules.over_depth import over_depth
from .rules.rule import Case
from .rules.saturated import saturated
from .rules.second_derivative import second_derivative
from .rules.shattered import shattered
from .rules.symmetric import symmetric
from .rules.taken_by_norm import taken_by_norm
from .rules.through_time import through_time
from .rules.unbalanced_update import unbalanced_update
from .rules.undecided import undecided
from .rules.unscaled import unscaled
from .rules.update_size import update_size
from .rules.warm_up import warm_up
from .rules.zero_gradient import zero_gradient
from .rules.zero_start import zero_start
from .running import borrowed, runnable, to_training, tried_outside

RULES = (
    non_finite,
    not_registered,
    loss_cut_off,
    not_connected,
    loss_mismatch,
    double_softmax,
    too_few_for_norm,
    silent_layer,
    dead_output,
    saturated_output,
    norm_of_one,
    zero_gradient,
    second_derivative,
    taken_by_norm,
    dead_units,
    symmetric,
    cancels,
    through_time,
    over_depth,
    small_batch_explodes,
    shattered,
    saturated,
    unscaled,
    constant_output,
    zero_start,
    warm_up,
    not_optimized,
    update_size,
    unbalanced_update,
    undecided,
    healthy,
)
"""In the order in which they are asked; what one explains another does not report again."""


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
        A `Diagnosis`: what to look at first (the loss beside that of a model which ignores its
        input, number formats, parameters, layout), findings with evidence, cause, remedy and the
        notebook to read, notes, and what the evidence does not decide.

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
    check_loss(loss)
    model = runnable(model)
    parts = split_batch(model, batch, loss)
    with borrowed(model):
        to_training(model)
        try:
            with tried_outside(model, parts, loss):
                case = Case(measure(model, parts, loss, optimizer))
        except TooFewValues as error:
            return Diagnosis((small_batch(error.counts),), None)
        for rule in RULES:
            case.ask(rule)
        look = first_look(case.measured_pass)
        described = of_model(model, {call.name: call.module for call in case.measured_pass.calls})
        findings = [replace(f, where=in_words(f.layers, described)) for f in case.findings]
    return Diagnosis(
        findings=tuple(sorted(findings, key=lambda finding: KINDS.index(finding.kind))),
        record=case.measured_pass.record,
        notes=tuple(map(_sentence, case.notes)),
        undecided=tuple(map(_sentence, case.undecided)),
        first_look=look,
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
