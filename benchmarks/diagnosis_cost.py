"""What `cu.diagnose` costs, in bare training steps of the same network.

One thread, process time, arms interleaved round by round, the median over rounds of the ratio to
the mean bare step of the same round.
"""

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import cross_entropy

import course_utils as cu
from benchmarks import Row

STEPS = 5


def seconds(what: Callable[[], object], times: int = 1) -> float:
    """Process time of one call, averaged over so many."""
    start = time.process_time()
    for _ in range(times):
        what()
    return (time.process_time() - start) / times


def rows(quick: bool = False) -> Iterator[Row]:
    """A healthy and a sick 20×256 MLP, batch 128: the sick one has its cause looked up too."""
    torch.set_num_threads(1)
    g = cu.seeded(0)
    x, y = torch.randn(128, 256, generator=g), torch.randint(0, 10, (128,), generator=g)
    for name, init in (("healthy (He)", "he"), ("vanishing (torch's default)", "torch_default")):
        model = cu.mlp(20, 256, inputs=256, init=init, generator=g)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)

        def step(model=model, optimizer=optimizer) -> None:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()

        def diagnose(model=model) -> None:
            cu.diagnose(model, (x, y), loss=cross_entropy)

        step(), diagnose()
        ratios, control = [], []
        for _ in range(5 if quick else 25):
            bare = seconds(step, STEPS)
            ratios.append(seconds(diagnose) / bare)
            control.append(seconds(step, STEPS) / bare)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        yield Row(
            f"diagnose on a 20×256 MLP, {name}, in training steps",
            statistics.median(ratios),
            at_most=5.0,
            note=spread,
        )
        yield Row("a training step (control)", statistics.median(control))
