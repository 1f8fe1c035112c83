"""Published rules for sick gradients beside ours, on networks with a known condition.

Each published rule compares a gradient with a constant, so its verdict can flip when the loss is
multiplied by a number. The networks are drawn from fresh seeds (tests/network_zoo.py): those whose
condition is vanishing, exploding or healthy, each at three loss scales. A verdict of a rule is one
of these three words, from one backward pass. On the whole zoo, with all that can be wrong with a
network and not only its gradient over depth, it is counted who tells sick from healthy.

mean |g| < 1e-7: the vanishing-gradient rule of SageMaker Debugger, also DeepDiagnosis (exploding:
only NaN or Inf). < 1e-6 and > 1e6: TheDeepChecker. < 1e-7 and > 1e4: TorchLens. first/last < 1e-3
with first < 1e-4, and first/last > 70: AUTOTRAINER. In each the gradients are those of the
weights, as these tools read them; vanishing where the rule holds in any layer with weights. The
constants are those of the tools; the mean is over a layer's weight gradient.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks import Row
from course_utils.diagnosis.batch import loss_of, split_batch
from course_utils.diagnosis.running import run
from tests.network_zoo import FAMILIES, Draw, Patient, scaled

SCALES = (1e-6, 1.0, 1e6)
CONDITIONS = ("vanishing", "exploding", "healthy")
Rule = Callable[[list[float]], str]


def below_and_above(low: float, high: float) -> Rule:
    """Vanishing if some layer's mean |g| is below `low`, exploding if some is above `high`."""

    def rule(sizes: list[float]) -> str:
        if any(size > high or math.isnan(size) for size in sizes):
            return "exploding"
        return "vanishing" if any(size < low for size in sizes) else "healthy"

    return rule


def first_over_last(sizes: list[float]) -> str:
    """AUTOTRAINER's pair of conditions."""
    first, last = sizes[0], sizes[-1]
    ratio = first / last if last else math.nan
    if ratio > 70 or any(math.isnan(size) for size in sizes):
        return "exploding"
    return "vanishing" if ratio < 1e-3 and first < 1e-4 else "healthy"


RULES: dict[str, Rule] = {
    "mean |g| < 1e-7 (SageMaker Debugger, DeepDiagnosis)": below_and_above(1e-7, math.inf),
    "< 1e-6 or > 1e6 (TheDeepChecker)": below_and_above(1e-6, 1e6),
    "< 1e-7 or > 1e4 (TorchLens)": below_and_above(1e-7, 1e4),
    "first/last < 1e-3 and first < 1e-4, or > 70 (AUTOTRAINER)": first_over_last,
}
OURS = "slope of RMS ∂L/∂h over the depth (cu.diagnose)"


def weight_gradients(model: nn.Module, batch: object, loss: Callable) -> list[float]:
    """Mean |∂L/∂W| of every weight with two or more dimensions, input side first; or none."""
    parts = split_batch(model, batch, loss)
    model.zero_grad()
    try:
        value = loss_of(run(model, parts), parts, loss)
    except ValueError:  # a batch norm on a single value does not run
        return []
    if value.requires_grad:
        value.backward()
    grads = [p.grad for p in model.parameters() if p.dim() >= 2 and p.grad is not None]
    sizes = [float(mean_size(grad)) for grad in grads]
    model.zero_grad()
    return sizes


def mean_size(grad: Tensor) -> Tensor:
    """Mean of |g| in float64."""
    return grad.double().abs().mean()


def ours(patient: Patient, factor: float) -> tuple[bool, str]:
    """Whether the verdict is right, all kinds counted, and the verdict as text."""
    kinds = patient.diagnosed(factor).kinds
    return patient.right(kinds), ", ".join(sorted(kinds))


def patients(seed: int) -> Iterator[tuple[str, Patient]]:
    """Condition and network, one of each family."""
    for condition, families in FAMILIES.items():
        for number, family in enumerate(families):
            yield condition, family(Draw(7_919 * seed + 31 * number + len(condition)))


def rows(quick: bool = False) -> Iterator[Row]:
    """Scores over fresh seeds; ours over the whole zoo must have no verdict wrong."""
    torch.set_num_threads(1)
    seeds = range(1000, 1002 if quick else 1010)
    right = dict.fromkeys((*RULES, OURS), 0)
    told = dict.fromkeys((*RULES, OURS), 0)
    moved = dict.fromkeys((*RULES, OURS), 0)
    networks = all_networks = whole_zoo = 0
    for seed in seeds:
        for condition, patient in patients(seed):
            judged = [ours(patient, factor) for factor in SCALES]
            all_networks += 1
            whole_zoo += sum(good for good, _ in judged)
            well = patient.has == {"healthy"}
            told[OURS] += sum((verdict == "healthy") == well for _, verdict in judged)
            known = condition in CONDITIONS
            networks += known
            right[OURS] += known * sum(good for good, _ in judged)
            moved[OURS] += known * (len({verdict for _, verdict in judged}) > 1)
            sizes = [
                weight_gradients(patient.model, patient.batch, scaled(patient.loss, factor))
                for factor in SCALES
            ]
            for name, rule in RULES.items():
                verdicts = [rule(size) if size else "healthy" for size in sizes]
                told[name] += sum((verdict == "healthy") == well for verdict in verdicts)
                right[name] += known * sum(verdict == condition for verdict in verdicts)
                moved[name] += known * (len(set(verdicts)) > 1)
    total, all_verdicts = networks * len(SCALES), all_networks * len(SCALES)
    for name in RULES:
        note = f"of {total}; changed with the loss scale on {moved[name]} of {networks} networks"
        yield Row(f"right: {name}", right[name], note=note)
    yield Row(
        f"right: {OURS}",
        right[OURS],
        at_least=total,
        note=f"of {total}; changed on {moved[OURS]} of {networks}",
    )
    for name, count in told.items():
        yield Row(
            f"sick told from healthy on the whole zoo: {name}", count, note=f"of {all_verdicts}"
        )
    yield Row(
        "right: cu.diagnose on the whole zoo",
        whole_zoo,
        at_least=all_verdicts,
        note=f"of {all_verdicts} verdicts, {len(seeds)} fresh seeds",
    )
