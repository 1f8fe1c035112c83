"""What recording costs on a GPU, and that it never waits for the device while a model trains.

Wall time, since the work is on the device: arms interleaved round by round, the device idle at
both ends. `a sync per step` reads one number of the device in every step, as `loss.item()` does;
the recorder is measured beside both. A wait inside a recorded step is an error of
`torch.cuda.set_sync_debug_mode`. On the CPU (COURSE_DEVICE=cpu) the arms run, for a dry run.
"""

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

import course_utils as cu
from benchmarks import Row


def network(device: torch.device) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """20 layers of 1024 units with ReLU, batch 1024; small on the CPU."""
    width = 1024 if device.type == "cuda" else 64
    layers = [part for _ in range(19) for part in (nn.Linear(width, width), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Linear(width, 10)).to(device)
    x = torch.randn(width, width, device=device)
    return net, x, torch.randint(0, 10, (width,), device=device)


def seconds(step: Callable[[], object], count: int, device: torch.device) -> float:
    """Wall time per step, with the device idle before and after."""
    wait(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    wait(device)
    return (time.perf_counter() - start) / count


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def waits_in(step: Callable[[], object], device: torch.device) -> int:
    """1 if a step waits for the device, else 0; on the CPU nothing can wait."""
    if device.type != "cuda":
        return 0
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        print(f"  {error}")
        return 1
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return 0


def rows(quick: bool = False) -> Iterator[Row]:
    """Ratios to the bare step, with and without an optimizer, and whether a step waits."""
    device = cu.default_device()
    torch.manual_seed(0)
    net, x, y = network(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)

    def bare() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def synced() -> None:
        bare().item()

    arms = {"bare step": bare, "a sync per step": synced}
    times: dict[str, list[float]] = {}
    count = 10 if device.type == "cuda" else 3
    for _ in range(3 if quick else 15):
        for name, step in arms.items():
            times.setdefault(name, []).append(seconds(step, count, device))
        for name, given in (("recorder", None), ("recorder, update ratio", optimizer)):
            for more, inner in (("", bare), (", a sync per step", synced)):
                with cu.record(net, optimizer=given) as recorder:

                    def recorded(inner: Callable = inner, recorder: cu.Recorder = recorder) -> None:
                        recorder.step(loss=inner())

                    recorded()
                    times.setdefault(name + more, []).append(seconds(recorded, count, device))
    usual = statistics.median(times["bare step"])
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    yield Row("bare step", 1e3 * usual, "ms", note=where)
    for name, taken in times.items():
        if name != "bare step":
            yield Row(f"ratio: {name}", statistics.median(taken) / usual)
    for name, given in (("recorder", None), ("recorder, update ratio", optimizer)):
        with cu.record(net, optimizer=given) as recorder:
            recorder.step(loss=bare())

            def step(recorder: cu.Recorder = recorder) -> None:
                recorder.step(loss=bare())

            note = "" if device.type == "cuda" else "no device to wait for"
            yield Row(f"waits in a step: {name}", waits_in(step, device), at_most=0, note=note)
