"""What recording costs: whole training steps with and without, in one run.

One thread, process time, arms interleaved round by round, the median of the ratio to the bare
step of the same round. The control is a second bare arm: it shows how far from 1.00 a ratio
can be by chance.

Run it with `python benchmarks/recording_overhead.py` (or `make bench`); `--quick` takes fewer
rounds. Exit status 1 if a ceiling is passed.
"""

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import course_utils as cu

CEILINGS = {
    "MLP": {"recorder": 1.12, "recorder, update ratio": 1.20, "recorder, every=10": 1.04},
    "CNN": {"recorder": 1.10, "recorder, update ratio": 1.20, "recorder, every=10": 1.04},
}
STEPS = 10


class Block(nn.Module):
    """Two 3×3 convolutions with batch norm, and a skip that halves by striding."""

    def __init__(self, fan_in: int, width: int) -> None:
        super().__init__()
        stride = 1 if fan_in == width else 2
        self.conv1 = nn.Conv2d(fan_in, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.widen = width - fan_in

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x
        if self.widen:
            skip = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.widen))
        h = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        return self.relu2(h + skip)


def resnet20() -> tuple[nn.Module, torch.Tensor]:
    """He et al. (2016), section 4.2, n = 3: 20 layers with weights, 32×32 images, batch 64."""
    widths = [16] * 3 + [32] * 3 + [64] * 3
    blocks = [Block(a, b) for a, b in zip([16, *widths], widths, strict=False)]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*stem, *blocks, *head), torch.randn(64, 3, 32, 32)


def mlp() -> tuple[nn.Module, torch.Tensor]:
    """20 layers of 256 units with ReLU, batch 128."""
    layers = [part for _ in range(19) for part in (nn.Linear(256, 256), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(256, 10)), torch.randn(128, 256)


@contextlib.contextmanager
def nothing(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Callable]:
    yield lambda: None


@contextlib.contextmanager
def empty_hooks(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Callable]:
    """A forward hook that does nothing on every module: the least that hooks can cost."""
    handles = [m.register_forward_hook(lambda *_: None) for m in model.modules()]
    yield lambda: None
    for handle in handles:
        handle.remove()


@contextlib.contextmanager
def naive(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Callable]:
    """What tutorials do: mean, standard deviation and zeros of each tensor, `.item()` each."""
    seen = {}

    def forward(name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, output: torch.Tensor) -> None:
            value = output.detach()
            zeros = (value == 0).float().mean().item()
            seen[name] = value.mean().item(), value.std().item(), zeros
            output.register_hook(lambda grad: seen.update({name + ".grad": grad.std().item()}))

        return hook

    leaves = [(n, m) for n, m in model.named_modules() if not list(m.children())]
    handles = [m.register_forward_hook(forward(n)) for n, m in leaves]

    def after() -> None:
        for name, parameter in model.named_parameters():
            seen[name] = parameter.norm().item(), parameter.grad.norm().item()

    yield after
    for handle in handles:
        handle.remove()


def ours(**options: object) -> Callable:
    """The recorder, with options; `update=True` hands it the optimizer."""
    update = options.pop("update", False)

    @contextlib.contextmanager
    def arm(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Callable]:
        with cu.record(model, optimizer=optimizer if update else None, **options) as recorder:
            yield recorder.step
            # Steps are rows by now: read them, so that reading is part of the price.
            assert len(recorder.record.layers) > 1

    return arm


ARMS = {
    "bare": nothing,
    "bare again (control)": nothing,
    "empty hooks": empty_hooks,
    "recorder": ours(),
    "recorder, update ratio": ours(update=True),
    "recorder, every=10": ours(every=10),
    "naive hooks with .item()": naive,
}


WORKLOADS = (("MLP", mlp, 40), ("CNN", resnet20, 12))  # the last is the number of rounds


def measure(build: Callable, rounds: int) -> dict[str, list[float]]:
    """Seconds of process time per step, per arm and round."""
    torch.manual_seed(0)
    model, x = build()
    y = torch.randint(0, 10, (len(x),))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    times = {name: [] for name in ARMS}
    for i in range(rounds):
        names = list(ARMS) if i % 2 == 0 else list(reversed(ARMS))
        for name in names:
            with ARMS[name](model, optimizer) as after:
                if "every" not in name:  # a warm step; with every=10 it would be the dear one
                    step()
                    after()
                start = time.process_time()
                for _ in range(STEPS):
                    step()
                    after()
                times[name].append((time.process_time() - start) / STEPS)
    return times


def rows(quick: bool = False) -> Iterator:
    """One row per arm and workload: the median ratio to the bare step of the same round."""
    from benchmarks import Row  # not there when this file runs as a script

    torch.set_num_threads(1)
    for name, build, rounds in WORKLOADS:
        times = measure(build, max(2, rounds // 5) if quick else rounds)
        bare = times["bare"]
        yield Row(f"{name}: bare step", 1e3 * statistics.median(bare), "ms")
        for arm, seconds in times.items():
            if arm != "bare":
                ratios = [s / b for s, b in zip(seconds, bare, strict=True)]
                low, middle, high = statistics.quantiles(ratios, n=4)
                ceiling = CEILINGS[name].get(arm)
                note = f"quartiles {low:.3f} to {high:.3f}"
                yield Row(f"{name}: {arm}", middle, at_most=ceiling, note=note)


def main() -> int:
    """Measure both workloads, print a table, compare with the ceilings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds")
    parser.add_argument("--only", choices=("MLP", "CNN"), help="one workload")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failed = False
    for name, build, rounds in WORKLOADS:
        if options.only not in (None, name):
            continue
        times = measure(build, max(2, rounds // 5) if options.quick else rounds)
        bare = times["bare"]
        print(f"\n{name}: bare step {1e3 * statistics.median(bare):.1f} ms")
        print(f"{'arm':28}{'median':>8}{'quartiles':>16}{'ceiling':>9}")
        for arm, seconds in times.items():
            ratios = [s / b for s, b in zip(seconds, bare, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            ceiling = CEILINGS[name].get(arm)
            verdict = "" if ceiling is None else f"{ceiling:9.2f}"
            if ceiling is not None and middle > ceiling:
                verdict, failed = verdict + "  passed it", True
            print(f"{arm:28}{middle:8.3f}{low:8.3f}–{high:.3f}{verdict}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
