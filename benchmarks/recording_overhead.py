"""What recording costs: whole training steps with and without, beside other tools, in one run.

One thread, process time, arms interleaved round by round, the median of the ratio to the bare
step of the same round. The control is a second bare arm: it shows how far from 1.00 a ratio
can be by chance. `reading once` takes one sum of squares of every output, gradient, parameter
and parameter gradient and nothing else: no recorder that reads them can cost less. The published
tools are in `recording_tools.py`, with the line that installs them; one that is missing says so.
Arms that cost more than twice the step run in fewer rounds.

The last thing printed is the table of all tools over both workloads.
"""

import contextlib
import copy
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import nn

import course_utils as cu
from benchmarks import Row
from benchmarks.recording_tools import TOOLS, Work

CEILINGS = {
    "MLP": {"recorder": 1.12, "recorder, update ratio": 1.20, "recorder, every=10": 1.04},
    "CNN": {"recorder": 1.10, "recorder, update ratio": 1.20, "recorder, every=10": 1.04},
}
NARROW = 2.0
"""Every step of a network of 32 units and 60 modules, where calls cost more than bytes."""
LATEST = 200.0
"""Microseconds of `recorder.latest()` at 100 layers."""
EVERY = 10


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


def narrow() -> tuple[nn.Module, torch.Tensor]:
    """30 layers of 32 units with ReLU, 60 modules, batch 64."""
    layers = [part for _ in range(30) for part in (nn.Linear(32, 32), nn.ReLU())]
    return nn.Sequential(*layers), torch.randn(64, 32)


Arm = Callable[[Work], contextlib.AbstractContextManager[Callable[[], None]]]


@contextlib.contextmanager
def bare(work: Work) -> Iterator[Callable[[], None]]:
    yield work.step


@contextlib.contextmanager
def empty_hooks(work: Work) -> Iterator[Callable[[], None]]:
    """A forward hook that does nothing on every module: the least that hooks can cost."""
    for module in work.model.modules():
        module.register_forward_hook(lambda *_: None)
    yield work.step


@contextlib.contextmanager
def reading_once(work: Work) -> Iterator[Callable[[], None]]:
    """Σv² of each output, gradient, parameter and parameter gradient; nothing is kept."""

    def read(value: torch.Tensor) -> None:
        values = value.detach().view(-1)
        torch.dot(values, values)

    def hook(module: nn.Module, args: tuple, output: torch.Tensor) -> None:
        read(output)
        output.register_hook(read)

    for module in work.model.modules():
        if not list(module.children()):
            module.register_forward_hook(hook)
    parameters = list(work.model.parameters())

    def step() -> None:
        work.step()
        with torch.no_grad():
            torch._foreach_norm([p.grad for p in parameters] + parameters)

    yield step


def gradients_read_by(read: Callable[[list[torch.Tensor]], object]) -> Arm:
    """All gradients of the parameters handed to a function, after each step."""

    @contextlib.contextmanager
    def arm(work: Work) -> Iterator[Callable[[], None]]:
        parameters = list(work.model.parameters())

        def step() -> None:
            work.step()
            read([p.grad for p in parameters])

        yield step

    return arm


@contextlib.contextmanager
def naive(work: Work) -> Iterator[Callable[[], None]]:
    """What tutorials do: mean, standard deviation and zeros of each tensor, `.item()` each."""
    seen = {}

    def forward(name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, output: torch.Tensor) -> None:
            value = output.detach()
            zeros = (value == 0).float().mean().item()
            seen[name] = value.mean().item(), value.std().item(), zeros
            output.register_hook(lambda grad: seen.update({name + ".grad": grad.std().item()}))

        return hook

    for name, module in work.model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(forward(name))

    def step() -> None:
        work.step()
        for name, parameter in work.model.named_parameters():
            seen[name] = parameter.norm().item(), parameter.grad.norm().item()

    yield step


@contextlib.contextmanager
def detect_anomaly(work: Work) -> Iterator[Callable[[], None]]:
    with torch.autograd.detect_anomaly(check_nan=True):
        yield work.step


def ours(update: bool = False, every: int = 1) -> Arm:
    """The recorder, with the optimizer for the update ratio, or in every tenth step."""

    @contextlib.contextmanager
    def arm(work: Work) -> Iterator[Callable[[], None]]:
        optimizer = work.optimizer if update else None
        with cu.record(work.model, optimizer=optimizer, every=every) as recorder:

            def step() -> None:
                work.step()
                recorder.step()

            yield step
            assert len(recorder.record.layers) > 1  # an empty record would be free

    return arm


ARMS: dict[str, Arm] = {
    "bare": bare,
    "bare again (control)": bare,
    "empty hooks": empty_hooks,
    "norms of gradients, fused": gradients_read_by(
        lambda gradients: torch.stack(torch._foreach_norm(gradients)).tolist()
    ),
    "clip's total norm": gradients_read_by(
        lambda gradients: nn.utils.get_total_norm(gradients).item()
    ),
    "reading once": reading_once,
    "recorder": ours(),
    "recorder, update ratio": ours(update=True),
    "recorder, every=10": ours(every=EVERY),
    "naive hooks with .item()": naive,
    "detect_anomaly": detect_anomaly,
    **TOOLS,
}

WORKLOADS = (("MLP", mlp, 26, 10), ("CNN", resnet20, 9, 1))
"""Name, builder, rounds, and steps timed per round."""

FEW, DEAR, EXTREME = 3, 2.0, 50.0
"""Rounds of an arm that costs more than `DEAR` bare steps; beyond `EXTREME`, see below."""


def seconds_per_step(arm: Arm, work: Work, steps: int, limit: float) -> float:
    """Process time of a step inside an arm, after one step to warm up.

    If that one alone takes longer than `limit`, it is the measurement.
    """
    with arm(work) as step:
        first = timed(step, 1)
        return first if first > limit else timed(step, steps)


def timed(step: Callable[[], None], count: int) -> float:
    """Process time per step."""
    start = time.process_time()
    for _ in range(count):
        step()
    return (time.process_time() - start) / count


def measure(build: Callable, rounds: int, steps: int) -> tuple[dict, dict]:
    """Ratios to the bare step of the same round, per arm, and why an arm has none."""
    torch.manual_seed(0)
    model, x = build()
    y = torch.randint(0, 10, (len(x),))

    def work() -> Work:
        twin = copy.deepcopy(model)
        return Work(twin, torch.optim.SGD(twin.parameters(), lr=1e-3, momentum=0.9), x, y)

    seconds: dict[str, list[float]] = {name: [] for name in ARMS}
    ratios: dict[str, list[float]] = {name: [] for name in ARMS}
    failed: dict[str, str] = {}
    for i in range(rounds):
        names = list(ARMS)[1:] if i % 2 == 0 else list(ARMS)[:0:-1]
        seconds["bare"].append(seconds_per_step(bare, work(), steps, float("inf")))
        limit = EXTREME * statistics.median(seconds["bare"])
        for name in names:
            dear = ratios[name] and statistics.median(ratios[name]) > DEAR
            if name in failed or (dear and len(ratios[name]) >= FEW):
                continue
            with quiet():
                try:
                    if "every" in name:  # the step that is recorded, and nine that are not
                        taken = recorded_now_and_then(ARMS[name], work())
                    else:
                        taken = seconds_per_step(ARMS[name], work(), steps, limit)
                except ImportError as error:
                    failed[name] = f"not installed ({error})"
                except Exception as error:
                    failed[name] = f"{type(error).__name__}: {str(error).strip()}".split("\n")[0]
                else:
                    ratios[name].append(taken / seconds["bare"][-1])
    ratios["bare"] = seconds["bare"]
    return ratios, failed


def recorded_now_and_then(arm: Arm, work: Work) -> float:
    """Process time per step over one cycle of a recorder that records every tenth step."""
    work.step()  # makes the optimizer's buffers
    with arm(work) as step:
        return timed(step, EVERY)


def narrow_rows(rounds: int) -> Iterator[Row]:
    """The recorder beside a control on many small modules."""
    torch.manual_seed(0)
    model, x = narrow()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    work = Work(model, optimizer, x, torch.randint(0, 10, (len(x),)))
    work.step()
    arms = {
        "bare again (control)": bare,
        "recorder": ours(),
        "recorder, every=10": ours(every=EVERY),
    }
    ratios: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        usual = timed(work.step, EVERY)
        for name, arm in arms.items():
            with arm(work) as step:
                ratios[name].append(timed(step, EVERY) / usual)
    for name, found in ratios.items():
        ceiling = NARROW if name == "recorder" else None
        yield Row(f"narrow: {name}", statistics.median(found), at_most=ceiling)


def latest_row(rounds: int) -> Row:
    """What the newest row costs as flat floats, for 100 layers."""
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(100)])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    work = Work(model, optimizer, torch.randn(4, 8), torch.randint(0, 8, (4,)))
    with cu.record(model, optimizer=optimizer) as recorder:
        for _ in range(3):
            work.step()
        recorder.latest()
        taken = [timed(recorder.latest, 20) for _ in range(rounds)]
    return Row("latest() at 100 layers", 1e6 * statistics.median(taken), "µs", at_most=LATEST)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what tools print and warn out of the table."""
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def rows(quick: bool = False) -> Iterator[Row]:
    """One row per arm and workload, then the table of both."""
    torch.set_num_threads(1)
    table: dict[str, list[str]] = {name: [] for name in ARMS if name != "bare"}
    notes: dict[str, str] = {}
    for workload, build, rounds, steps in WORKLOADS:
        ratios, failed = measure(build, max(2, rounds // 5) if quick else rounds, steps)
        yield Row(f"{workload}: bare step", 1e3 * statistics.median(ratios["bare"]), "ms")
        for name in table:
            if name in failed:
                table[name].append("–")
                notes.setdefault(name, failed[name])
                continue
            middle = statistics.median(ratios[name])
            table[name].append(f"{middle:.2f}")
            note = f"{len(ratios[name])} rounds"
            if len(ratios[name]) > FEW:
                low, _, high = statistics.quantiles(ratios[name], n=4)
                note = f"quartiles {low:.3f} to {high:.3f}"
            ceiling = CEILINGS.get(workload, {}).get(name)
            yield Row(f"{workload}: {name}", middle, at_most=ceiling, note=note)
    yield from narrow_rows(5 if quick else 30)
    yield latest_row(5 if quick else 30)
    names = [name for name, *_ in WORKLOADS]
    print(f"\n  {'tool':36}" + "".join(f"{name:>8}" for name in names))
    for name, cells in table.items():
        line = f"  {name:36}" + "".join(f"{cell:>8}" for cell in cells)
        print(f"{line}  {notes.get(name, '')[:90]}".rstrip())
    sys.stdout.flush()
