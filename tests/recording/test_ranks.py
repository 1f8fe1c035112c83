"""Two processes that train together: each record against `.grad`, or a twin in one piece."""

import json
import math
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import course_utils as cu

TOGETHER = """
import json, pathlib, sys, warnings
import torch, torch.distributed as dist, torch.nn.functional as F
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
import course_utils as cu

warnings.filterwarnings("error", module="course_utils")
warnings.filterwarnings("error", message=".*(layers|gradient|pass|step).*", category=RuntimeWarning)
rank, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
said = {}

def net(*sizes):
    torch.manual_seed(0)
    pairs = zip(sizes, sizes[1:])
    return nn.Sequential(*(m for a, b in pairs for m in (nn.Linear(a, b), nn.Tanh())))[:-1]

def rms(value):
    return float(value.detach().double().square().mean().sqrt())

torch.manual_seed(5)
xs, ys = torch.randn(2, 9, 6), torch.randint(0, 3, (2, 9))
x, y = xs[rank], ys[rank]

def error(measured, expected):
    if not isinstance(expected, torch.Tensor):
        expected = torch.tensor(expected, dtype=torch.float64)
    gap = (measured - expected).abs() / expected.abs().clamp_min(1e-12)
    return float(gap.max())

MODES = {
    "one bucket": {},
    "many buckets": {"bucket_cap_mb": 1e-4},
    "bucket view": {"gradient_as_bucket_view": True},
    "static graph": {"static_graph": True},
}
for name, mode in MODES.items():
    for given in (False, True):
        ddp = nn.parallel.DistributedDataParallel(net(6, 8, 7, 3), **mode)
        sgd = torch.optim.SGD(ddp.parameters(), lr=0.1)
        held, alone = [], []
        with cu.record(ddp, optimizer=sgd if given else None) as recorder:
            for step in range(3):
                sgd.zero_grad()
                with ddp.no_sync():
                    if step == 2 and name != "static graph":  # accumulation
                        F.cross_entropy(ddp(-x), y).backward()
                F.cross_entropy(ddp(x), y).backward()
                held.append([rms(p.grad) for p in ddp.parameters()])
                nn.utils.clip_grad_norm_(ddp.parameters(), 1e-3)
                sgd.step()
                recorder.step()
        own = recorder.record
        said[f"ddp, {name}, {given}"] = error(own.parameter_grad_rms, held)
        said["ddp names"] = [own.layers, own.parameters]

mesh = init_device_mesh("cpu", (2,))
for given in (False, True):
    whole, model = net(6, 5, 7, 3), net(6, 5, 7, 3)  # 5 and 7 rows: uneven shards
    for layer in (model[0], model[2], model):
        fully_shard(layer, mesh=mesh)
    steps = torch.optim.AdamW(model.parameters(), lr=0.1)
    twin_steps = torch.optim.AdamW(whole.parameters(), lr=0.1)
    with cu.record(model, optimizer=steps if given else None) as recorder:
        for _ in range(3):
            steps.zero_grad()
            F.cross_entropy(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            steps.step()
            recorder.step()
    with cu.record(whole, optimizer=twin_steps) as twin:
        for _ in range(3):
            twin_steps.zero_grad()
            F.cross_entropy(whole(xs.flatten(0, 1)), ys.flatten()).backward()
            nn.utils.clip_grad_norm_(whole.parameters(), 0.1)
            twin_steps.step()
    own, one = recorder.record, twin.record
    quantities = ["parameter_grad_rms"] + ["parameter_rms", "update_ratio"] * given
    for name in quantities:
        said[f"fsdp, {name}, {given}"] = error(getattr(own, name), getattr(one, name))
    both = own.across_ranks()
    for name in (*quantities, "output_rms", "output_count"):
        said[f"fsdp across, {name}, {given}"] = error(getattr(both, name), getattr(one, name))
    # each rank has the mean over its half, so twice the gradient of the mean over all
    said[f"fsdp across, grad, {given}"] = error(both.grad_rms / 2, one.grad_rms)
    said["fsdp names"] = [own.layers, own.parameters]

for local in (False, True):
    whole, model = net(6, 8, 3), net(6, 8, 3)
    up, down = ColwiseParallel(use_local_output=local), RowwiseParallel(use_local_output=local)
    model = nn.Sequential(model[0], model[1], model[2])
    parallelize_module(model, mesh, {"0": up, "2": down})
    recorders = []
    for each in (model, whole):
        sgd = torch.optim.SGD(each.parameters(), lr=0.1)
        with cu.record(each, optimizer=sgd) as recorder:
            output = each(xs[0])
            output = output.to_local() if hasattr(output, "to_local") else output
            output.square().mean().backward()
            sgd.step()
        recorders.append(recorder.record)
    own, one = recorders
    for name in ("parameter_grad_rms", "parameter_rms", "update_ratio"):
        said[f"tensor parallel, {name}, {local}"] = error(getattr(own, name), getattr(one, name))
    both = own.across_ranks()
    for name in ("output_rms", "grad_rms"):
        said[f"tensor parallel across, {name}, {local}"] = error(
            getattr(both, name), getattr(one, name)
        )

class Breaks(nn.Module):
    def forward(self, x):
        return x * (float("nan") if rank == 1 and bad else 1.0)

def forward(*shape):
    return torch.arange(torch.Size(shape).numel()).reshape(shape) / 7.0 - 1.0

for bad in (False, True):
    ddp = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(4, 4), Breaks(), nn.ReLU()))
    size = 3 if rank else 5  # uneven batches
    with cu.record(ddp) as recorder:
        loss = ddp(forward(8, 4)[:5] if rank == 0 else forward(8, 4)[5:]).square().mean()
        loss.backward()
        recorder.step(loss=loss)
    own, both = recorder.record, recorder.record.across_ranks()
    lists = [None, None]
    dist.all_gather_object(lists, (own, both))
    said[f"same everywhere, {bad}"] = bool(lists[0][1] == lists[1][1])
    said[f"as the pure function, {bad}"] = bool(both == cu.recording.combine([l[0] for l in lists]))
    said[f"json, {bad}"] = bool(cu.GradientRecord.from_dict(both.to_dict()) == both)
    first = both.first_nonfinite
    said[f"first, {bad}"] = None if first is None else [*first, first.rank]
    said[f"own rank, {bad}"] = own.first_nonfinite and own.first_nonfinite.rank
    said[f"sees, {bad}"] = None if own.first_nonfinite is None else own.first_nonfinite[1]
    if not bad:
        full = torch.nn.functional.linear(forward(8, 4), ddp.module[0].weight, ddp.module[0].bias)
        said["rms over ranks"] = rms(full) / float(both.output_rms[0, 0])
        said["mean over ranks"] = float(full.mean()) / float(both.output_mean[0, 0])
        said["zeros over ranks"] = float((full.relu() == 0).double().mean()) - float(
            both.zero_fraction[0, 2]
        )
        said["largest"] = max(rms(full[:5]), rms(full[5:])) / float(both.output_rms_largest[0, 0])
for given in ("backward", "step"):
    model = net(6, 8, 3)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    rows = {"backward": [], "step": []}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with cu.record(model, optimizer=sgd, gradients=given) as recorder:
            for _ in range(3):
                sgd.zero_grad()
                F.cross_entropy(model(x), y).backward()
                rows["backward"].append([rms(p.grad) for p in model.parameters()])
                for p in model.parameters():
                    dist.all_reduce(p.grad)
                    p.grad /= 2
                rows["step"].append([rms(p.grad) for p in model.parameters()])
                sgd.step()
    said[f"by hand, {given}"] = error(recorder.record.parameter_grad_rms, rows[given])
    said[f"by hand, warned, {given}"] = sum("gradients='step'" in str(w.message) for w in told)

dist.barrier()
dist.destroy_process_group()
print(json.dumps(said))
"""

DIES = """
import sys, time
if sys.argv[1] == "1":
    sys.exit("rank 1 dies")
time.sleep(300)
"""


def run(script, folder, seconds):
    """What both ranks print. A rank that dies takes the other one along."""
    command = [sys.executable, "-c", script]
    ranks = []
    for rank in range(2):
        out, err = (open(folder / f"{name}{rank}", "w+") for name in ("out", "err"))
        ranks.append(subprocess.Popen([*command, str(rank), str(folder)], stdout=out, stderr=err))
        out.close(), err.close()
    try:
        deadline = time.monotonic() + seconds
        while any(rank.poll() is None for rank in ranks) and time.monotonic() < deadline:
            if any(rank.poll() for rank in ranks):
                break
            time.sleep(0.1)
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    said = "\n".join((folder / f"err{rank}").read_text()[-3000:] for rank in range(2))
    assert [rank.returncode for rank in ranks] == [0, 0], said
    return [json.loads((folder / f"out{rank}").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    return run(TOGETHER, tmp_path_factory.mktemp("ranks"), 90)


def errors(said, start):
    found = {k: v for rank in said for k, v in rank.items() if k.startswith(start)}
    assert len(found) > 1
    return found


def test_gradients_averaged_by_hand_are_recorded_where_they_are_asked_for(said):
    for mine in said:
        assert mine["by hand, backward"] < 1e-6 and mine["by hand, step"] < 1e-6
        assert mine["by hand, warned, backward"] == 1 and mine["by hand, warned, step"] == 0


def test_under_ddp_the_gradient_is_the_one_after_the_reduction(said):
    assert all(error < 1e-5 for error in errors(said, "ddp, ").values()), said


@pytest.mark.parametrize("kind", ["fsdp, ", "fsdp across, ", "tensor parallel"])
def test_of_sharded_parameters_the_norm_is_that_of_the_whole(said, kind):
    assert all(error < 1e-4 for error in errors(said, kind).values()), errors(said, kind)


def test_names_are_those_of_one_process_on_each_rank(said):
    layers = ["0", "1", "2", "3", "4"]
    parameters = [f"{i}.{name}" for i in (0, 2, 4) for name in ("weight", "bias")]
    for rank in said:
        assert rank["ddp names"] == rank["fsdp names"] == [layers, parameters]


def test_every_rank_gets_the_same_combined_record_with_the_rank_of_the_first_nan(said):
    for rank in said:
        for bad in (False, True):
            assert rank[f"same everywhere, {bad}"] and rank[f"as the pure function, {bad}"]
            assert rank[f"json, {bad}"] and rank[f"own rank, {bad}"] is None
        assert rank["first, False"] is None and rank["first, True"] == ["1", "forward", 0, 1]
    assert [rank["sees, True"] for rank in said] == ["backward", "forward"]


def test_rms_and_shares_over_ranks_are_those_of_the_whole_batch(said):
    for rank in said:
        for name in ("rms over ranks", "mean over ranks", "largest"):
            assert math.isclose(rank[name], 1.0, rel_tol=1e-5)
        assert rank["zeros over ranks"] == pytest.approx(0.0, abs=1e-12)


def test_a_rank_that_dies_fails_at_once(tmp_path):
    began = time.monotonic()
    with pytest.raises(AssertionError, match="rank 1 dies"):
        run(DIES, tmp_path, 60)
    assert time.monotonic() - began < 20


def part(x, *, dead=False, step=0, layers=None, breaks=None):
    """The record of a process that holds these rows of the batch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2), nn.Sigmoid())
    with torch.no_grad():
        if breaks == "forward":
            model[2].bias[0] = math.inf
    with cu.record(model, layers=layers) as recorder:
        output = model(x)
        loss = output.square().sum()
        (loss * (math.nan if breaks == "backward" else 1.0)).backward()
        recorder.step(loss=loss)
    return recorder.record


@pytest.mark.parametrize("sizes", [(4, 4), (1, 7), (3, 5, 2), (1, 1, 1, 9)])
def test_the_combined_record_is_that_of_the_whole_batch(sizes):
    x = torch.randn(sum(sizes), 4, generator=torch.Generator().manual_seed(len(sizes)))
    whole, parts = part(x), [part(piece) for piece in x.split(sizes)]
    both = cu.recording.combine(parts)
    assert both.ranks == len(sizes) and both.layers == whole.layers and both.steps == whole.steps
    for name in ("output_rms", "output_mean", "zero_fraction", "saturated_fraction", "grad_rms"):
        torch.testing.assert_close(
            getattr(both, name), getattr(whole, name), rtol=1e-5, atol=1e-9, equal_nan=True
        )
    assert torch.equal(both.output_count, whole.output_count)
    largest = torch.stack([record.grad_rms for record in parts]).amax(0)
    assert torch.equal(both.grad_rms_largest, largest)
    assert (both.dead_fraction[0, 1] >= whole.dead_fraction[0, 1]).item()
    torch.testing.assert_close(both.losses * len(sizes), whole.losses, rtol=1e-5, atol=0.0)
    assert cu.recording.combine([both]) is both and parts[0].across_ranks() is parts[0]


def test_the_first_nan_of_several_is_the_earliest_in_time():
    x = torch.randn(5, 4)
    fine, late, early = part(x), part(x, breaks="backward"), part(x, breaks="forward")
    assert fine.first_nonfinite is None and late.first_nonfinite == ("3", "backward", 0)
    for order, rank in (([fine, late, early], 2), ([early, late], 0), ([early, early], 0)):
        first = cu.recording.combine(order).first_nonfinite
        assert first == ("2", "forward", 0) and first.rank == rank
    both = cu.recording.combine([fine, early])
    assert both.output_inf[0, 2] == early.output_inf[0, 2] and both.output_rms[0, 2] == math.inf
    assert math.isnan(cu.recording.combine([fine, late]).grad_rms_largest[0, 3])
    assert "rank 1" in repr(both)


def test_layers_that_only_some_processes_have_are_kept(tmp_path):
    x = torch.randn(5, 4)
    first, second = part(x, layers=["0", "1"]), part(x, layers=["1", "2"])
    both = cu.recording.combine([first, second])
    assert both.layers == ("0", "1", "2")
    assert torch.equal(both.output_rms[:, 0], first.output_rms[:, 0])
    assert torch.equal(both.output_rms[:, 2], second.output_rms[:, 1])
    sick = cu.recording.combine([first, part(x, breaks="forward")])
    sick.save(tmp_path / "record")
    again = cu.GradientRecord.load(tmp_path / "record")
    assert again == sick and again.first_nonfinite.rank == 1 and again.ranks == 2
    assert (sick + sick).first_nonfinite.rank == 1 and sick[-1].ranks == 2


@pytest.mark.parametrize(
    ("records", "error", "message"),
    [([], ValueError, "at least one"), ([1], TypeError, "holds 1, a int")],
)
def test_what_is_no_list_of_records_is_refused(records, error, message):
    with pytest.raises(error, match=message):
        cu.recording.combine(records)
