"""What `cu.diagnose_run` says of whole runs with a known fate, over fresh seeds.

The runs are those of tests/run_zoo.py: small networks trained on small data, healthy ones and ones
made sick on purpose, 60 of each for a seed. A verdict is right if it holds every kind that it must
hold and none that is not true of the run, and if what began has begun at the step at which it was
done. Beside it a rule as loggers have it: alarm if the gradient norm is above a constant.
"""

from collections.abc import Iterator

import torch

from benchmarks import Row
from tests.run_zoo import FAMILIES, Trained, members, run_of

RUNS = 60
CONSTANT = 100.0


def runs(seed: int, fate: str) -> Iterator[Trained]:
    """The runs of one fate."""
    for number in range(len(FAMILIES[fate])):
        for member in members(fate, number, RUNS):
            yield run_of(seed, fate, number, member)


def loud(run: Trained, factor: float) -> bool:
    """Whether a total gradient norm is above the constant, or not finite."""
    norms = run.record.total_grad_norm * factor
    return bool((~(norms <= CONSTANT)).any())


def rows(quick: bool = False) -> Iterator[Row]:
    """Right verdicts on the sick and the healthy, over fresh seeds; none may be wrong."""
    torch.set_num_threads(1)
    seeds = range(7000, 7001 if quick else 7010)
    for fate in FAMILIES:
        right = total = moved = by_norm = norm_moved = 0
        for seed in seeds:
            for run in runs(seed, fate):
                total += 1
                found = run.diagnosed()
                right += run.right(found)
                moved += any(run.diagnosed(f).kinds != found.kinds for f in (1e-6, 1e6))
                by_norm += loud(run, 1.0) == (fate == "sick")
                norm_moved += len({loud(run, f) for f in (1e-6, 1.0, 1e6)}) > 1
        yield Row(
            f"right on {fate} runs: cu.diagnose_run",
            right,
            at_least=total,
            note=f"of {total} runs, {len(seeds)} fresh seeds",
        )
        yield Row(f"changed with the loss scale, {fate}", moved, at_most=0, note=f"of {total}")
        yield Row(
            f"right on {fate} runs: gradient norm above {CONSTANT:g}",
            by_norm,
            note=f"of {total}; changed with the loss scale on {norm_moved}",
        )
