"""A batch norm that takes mean and variance of too few values."""

from .. import remedies
from ..factors import batch_excess
from ..report import Finding
from ..slope import LIMIT
from .rule import EVERYTHING, Case, rule

FEWEST = 4
"""Values per channel below which the gradient says nothing about depth or scale."""

_MANY = 64  # values per norm beyond which a batch adds nothing to speak of


@rule(silences=EVERYTHING)
def too_few_for_norm(case: Case) -> Finding | None:
    """So few values per channel that the norm decides the gradient alone."""
    counts = case.measured_pass.norm_counts
    if min((count for _, count in counts), default=_MANY) >= FEWEST:
        return None
    case.undecided.append(
        "with so few values per norm the gradient says nothing about depth or scale. Measure "
        "again with a batch of 16 or more."
    )
    return small_batch(counts)


@rule()
def small_batch_explodes(case: Case) -> Finding | None:
    """A gradient that explodes by more than 100× through the size of the batch alone."""
    counts, slope = case.measured_pass.norm_counts, case.measured_pass.depth_slope
    fewest = min((count for _, count in counts), default=_MANY)
    if slope.close or slope.verdict != "exploding" or fewest >= _MANY:
        return None
    excess = batch_excess(case.measured_pass, fewest)
    return small_batch(counts, excess) if excess > LIMIT else None


def small_batch(counts: list[tuple[str, int]], excess: float = 1.0) -> Finding:
    """The finding.

    Args:
        counts: Name of each batch norm and how many values per channel it sees.
        excess: What the size of the batch alone multiplies the gradient by.
    """
    fewest = min(count for _, count in counts)
    what = {
        1: "the norm has no variance to divide by, and torch refuses to train on it",
        2: "every normalized value is ±1 whatever the input, and the gradient is 0",
        3: "the mean square of the gradient, (B−2)/(B−3) per layer, is infinite",
    }.get(fewest, f"over the depth that alone multiplies the gradient by {excess:.3g}")
    return Finding(
        kind="batch_too_small_for_norm",
        layers=tuple(dict.fromkeys(name for name, count in counts if count == fewest)),
        quantity="values per channel in a batch norm",
        measured=float(fewest),
        cause=f"A batch norm takes mean and variance of {fewest} value{'s' * (fewest > 1)} per "
        f"channel: {what}.",
        remedy="# a batch of 16 or more, or a norm that does not look at the batch:\n"
        + remedies.replace_modules(
            "nn.modules.batchnorm._BatchNorm", "nn.GroupNorm(1, child.num_features)"
        ),
        notebook=remedies.CHAPTERS[7],
    )
