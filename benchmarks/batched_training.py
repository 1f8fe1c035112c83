"""How much faster a sweep is when its networks are trained at once: a loop of fit over fit_many.

One thread, process time, the two arms interleaved, the median of their ratios. The gain comes from
the calls that are saved, so it is large where networks are small, and fades where the arithmetic
of one network fills the processor; the last row shows that.
"""

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

import course_utils as cu
from benchmarks import Row


def seconds(train: Callable[[list[nn.Module]], object], models: list[nn.Module]) -> float:
    """Process time of training these models."""
    start = time.process_time()
    train(models)
    return time.process_time() - start


def ratio(make: Callable[[int], nn.Module], data: object, models: int, rounds: int, **how) -> float:
    """Median over the rounds of time by a loop of fit / time by fit_many."""

    def loop(nets: list[nn.Module]) -> None:
        for net in nets:
            cu.fit(net, data, generator=cu.seeded(0), device="cpu", progress=False, **how)

    def at_once(nets: list[nn.Module]) -> None:
        cu.fit_many(nets, data, generator=cu.seeded(0), device="cpu", progress=False, **how)

    at_once([make(seed) for seed in range(2)])  # first calls load what torch loads lazily
    ratios = []
    for _ in range(rounds):
        nets = [[make(seed) for seed in range(models)] for _ in range(2)]
        ratios.append(seconds(loop, nets[0]) / seconds(at_once, nets[1]))
    return statistics.median(ratios)


def rows(quick: bool = False) -> Iterator[Row]:
    """The sweeps of the course: shallow and deep, batch norm, recurrent, wide."""
    torch.set_num_threads(1)
    rounds = 1 if quick else 5
    digits = cu.load_digits(n=640)
    plain = {"lr": 0.01, "epochs": 2}
    sweeps = {
        "48 networks of 3 × 32": (lambda s: cu.mlp(3, 32, generator=cu.seeded(s)), digits, 48, 5),
        "48 networks of 10 × 16": (lambda s: cu.mlp(10, 16, generator=cu.seeded(s)), digits, 48, 5),
        "24 networks of 10 × 16, batch norm, skip": (
            lambda s: cu.mlp(10, 16, norm="batch", skip="plain", generator=cu.seeded(s)),
            digits,
            24,
            None,
        ),
        "24 recurrent networks of 16 units, 30 steps": (
            lambda s: cu.recurrent(width=16, inputs=2, generator=cu.seeded(s)),
            cu.adding_problem(320, 30, generator=cu.seeded(0)),
            24,
            None,
        ),
        "24 networks of 10 × 100": (
            lambda s: cu.mlp(10, 100, generator=cu.seeded(s)),
            digits,
            24,
            None,
        ),
    }
    for what, (make, data, models, floor) in sweeps.items():
        how = plain if data is digits else {**plain, "loss": "mse"}
        yield Row(
            f"{what}: loop / at once",
            ratio(make, data, models, rounds, **how),
            "×",
            at_least=floor,
            note="process time, one thread",
        )
