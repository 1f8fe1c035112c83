"""What changes in a gradient when many devices compute it (notebook 14)."""

import math

from ..arguments import integer, number
from .number_formats import gaussian_rounding_error

_BATCH = "Batch norm needs a few samples on each device."


def shard_norm_error(batch_size: int, shards: int) -> float:
    """How far batch norm per shard is from batch norm over all: √(3(1 − 1/K)/(2B)).

    The root mean square difference of the normalized values, whose size is 1: the shard's mean is
    off by 1/B (variance), its standard deviation by 1/(2B).

    Args:
        batch_size: B, samples in each shard, at least 2.
        shards: K, at least 1.

    Returns:
        The difference, in standard deviations.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If one is not an integer.

    >>> round(shard_norm_error(32, 8), 3), round(shard_norm_error(16, 4), 3)
    (0.203, 0.265)
    """
    batch = integer("batch_size", batch_size, 2, hint=_BATCH)
    return math.sqrt(1.5 * (1 - 1 / integer("shards", shards, 1)) / batch)


def rounded_sum_error(count: int, mantissa: int = 7) -> float:
    """Root mean square error of a sum of Gaussian values in a format, over the sum's own size.

    √(Σ_k E[ulp²(√k z)]/12/K) with k = 2 … K: each addition rounds a running sum of size √k.

    Args:
        count: K, how many values are added one by one, at least 1.
        mantissa: m, mantissa bits: 7 for bfloat16.

    Returns:
        The error, relative to √K.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If one is not an integer.

    >>> round(rounded_sum_error(16), 4), round(rounded_sum_error(128), 4)
    (0.0048, 0.0133)
    """
    count = integer("count", count, 1)
    errors = (gaussian_rounding_error(mantissa, k**0.5) ** 2 * k for k in range(2, count + 1))
    return math.sqrt(math.fsum(errors) / count)


def stale_stable_lr(curvature: float, delay: int) -> float:
    """Largest stable learning rate of descent with gradients that are τ steps old.

    2 sin(π/(4τ + 2))/λ: the root of r^{τ+1} = r^τ − ηλ that leaves the unit circle first.

    Args:
        curvature: λ, positive.
        delay: τ, at least 0.

    Returns:
        The rate; 2/λ without delay.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If `delay` is not an integer.

    >>> [round(stale_stable_lr(1.0, t), 3) for t in (0, 1, 4, 10)]
    [2.0, 1.0, 0.347, 0.149]
    """
    angle = math.pi / (4 * integer("delay", delay, 0) + 2)
    return 2 * math.sin(angle) / number("curvature", curvature, above=0)


def pipeline_bubble(stages: int, micro_batches: int) -> float:
    """Share of the time in which a pipeline's devices wait: (p − 1)/(m + p − 1).

    Args:
        stages: p, at least 1.
        micro_batches: m per step, at least 1.

    Returns:
        A share between 0 and 1.

    Raises:
        ValueError: If an argument is below 1.
        TypeError: If one is not an integer.

    References:
        Y. Huang et al., "GPipe: Efficient Training of Giant Neural Networks using Pipeline
        Parallelism", NeurIPS 2019.

    >>> pipeline_bubble(4, 1), pipeline_bubble(1, 8)
    (0.75, 0.0)
    """
    stages, micro = integer("stages", stages, 1), integer("micro_batches", micro_batches, 1)
    return (stages - 1) / (micro + stages - 1)


def checkpoint_states(layers: int, segments: int) -> int:
    """Layer outputs kept at once by checkpointing: one per segment, and those of one segment.

    k + (the longest segment), of ⌊L/k⌋ layers each and the rest in the last, as
    `torch.utils.checkpoint.checkpoint_sequential` cuts them: least, about 2√L, at k = √L.

    Args:
        layers: L, at least 1.
        segments: k, from 1 to `layers`.

    Returns:
        A number of states.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If one is not an integer.

    References:
        T. Chen, B. Xu, C. Zhang and C. Guestrin, "Training Deep Nets with Sublinear Memory Cost",
        arXiv:1604.06174, 2016.

    >>> checkpoint_states(64, 8)
    16
    """
    _, segments, last = _cut(layers, segments)
    return segments + last


def checkpoint_evaluations(layers: int, segments: int) -> int:
    """Layer evaluations of a checkpointed forward and backward pass: 2L − (the last segment).

    Every segment but the last, whose states are still there, is run a second time.

    Args:
        layers: L, at least 1.
        segments: k, from 1 to `layers`.

    Returns:
        A number of evaluations; L where nothing is run twice.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If one is not an integer.

    References:
        As in `checkpoint_states`.

    >>> checkpoint_evaluations(64, 8)
    120
    """
    layers, _, last = _cut(layers, segments)
    return 2 * layers - last


def _cut(layers: int, segments: int) -> tuple[int, int, int]:
    """L, k, and the layers of the last segment."""
    layers = integer("layers", layers, 1)
    segments = integer("segments", segments, 1, layers)
    return layers, segments, layers - (segments - 1) * (layers // segments)
