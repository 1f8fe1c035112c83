"""What `cu.diagnose` costs, in bare training steps of the same network.

One thread, process time, arms interleaved round by round, the median over rounds of the ratio to
the mean bare step of the same round.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import course_utils as cu
from benchmarks import Row

STEPS = 5


class Rounded(nn.Module):
    """A network with `round` behind its tenth layer."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        for place, module in enumerate(self.body.children()):
            x = module(x)
            x = x.round() if place == 19 else x
        return x


def patients() -> Iterator[tuple[str, nn.Module, float]]:
    """Name, a 20×256 MLP, and the most bare steps that its diagnosis may cost."""

    def he() -> nn.Module:
        return cu.mlp(20, 256, inputs=256, init="he", generator=cu.seeded(0))

    def changed(change: Callable[[nn.Module], object]) -> nn.Module:
        model = he()
        with torch.no_grad():
            change(model)
        return model

    yield "healthy (He)", he(), 5.0
    default = cu.mlp(20, 256, inputs=256, init="torch_default", generator=cu.seeded(0))
    yield "vanishing (torch's default)", default, 5.0
    yield "a dead layer", changed(lambda m: m.linear10.bias.fill_(-100)), 5.5
    yield "round between layers", Rounded(he()), 6.0
    yield "a NaN in a weight", changed(lambda m: m.linear10.weight[0, 0].fill_(math.nan)), 6.0
    yield "all weights equal", changed(lambda m: [p.fill_(0.01) for p in m.parameters()]), 5.5
    yield "all weights 0", changed(lambda m: [p.zero_() for p in m.parameters()]), 9.0


def seconds(what: Callable[[], object], times: int = 1) -> float:
    """Process time of one call, averaged over so many."""
    start = time.process_time()
    for _ in range(times):
        what()
    return (time.process_time() - start) / times


def rows(quick: bool = False) -> Iterator[Row]:
    """A healthy 20×256 MLP and sick ones, batch 128: the causes of the sick are looked up too."""
    torch.set_num_threads(1)
    g = cu.seeded(0)
    x, y = torch.randn(128, 256, generator=g), torch.randint(0, 10, (128,), generator=g)
    for name, model, most in patients():
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

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
            at_most=most,
            note=spread,
        )
        yield Row("a training step (control)", statistics.median(control))
