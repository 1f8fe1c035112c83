"""Models, batches and losses as people bring them, and whose fault an error is."""

import subprocess
import sys
import types
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from patients import data, diagnose, net
from torch import nn

import course_utils as cu

RANKS = """
import sys, time, pathlib, torch, torch.distributed as dist
from torch import nn
import course_utils as cu
rank, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3), nn.Softmax(1))
model = nn.parallel.DistributedDataParallel(model)
batch = torch.randn(16, 4), torch.arange(16) % 3
if rank == 0:
    print(cu.diagnose(model, batch, loss=nn.functional.cross_entropy).kinds)
    (folder / "asked").touch()
else:
    while not (folder / "asked").exists():
        time.sleep(0.05)
nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
dist.barrier()
dist.destroy_process_group()
print("trained on")
"""


def test_a_diagnosis_on_one_rank_waits_for_nobody(tmp_path):
    command = [sys.executable, "-c", RANKS]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], stdout=-1, stderr=-1, text=True)
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=60) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert "double_softmax" in said[0][0] and all("trained on" in out for out, _ in said)


def test_a_wrapper_for_devices_is_left_as_it_was():
    model = nn.DataParallel(net(4))
    before = dict(vars(model))
    assert diagnose(model).healthy and vars(model) == before
    assert all(name.startswith("module.") for name in diagnose(model).findings[0].layers)


def penalty(x):
    """A loss that differentiates by the input, as gradient penalties do."""

    def loss(output, y):
        slope = torch.autograd.grad(output.sum(), x, create_graph=True)[0]
        return F.cross_entropy(output, y) + slope.square().mean()

    return loss


def test_a_loss_may_differentiate_by_the_input_and_is_called_once_on_the_output_itself():
    model, (x, y) = net(8), data()
    x.requires_grad_()
    seen = []

    def loss(output, y):
        seen.append(output)
        return penalty(x)(output, y)

    found = diagnose(model, (x, y), loss=loss)
    assert found.healthy and len(seen) == 1
    loss(model(x), y).backward()
    with cu.record(model) as recorder:
        penalty(x)(model(x), y).backward()
    torch.testing.assert_close(found.record.grad_rms, recorder.record.grad_rms, rtol=1e-4, atol=0.0)


def test_a_derivative_alone_leaves_the_last_bias_out_on_purpose():
    model, (x, _) = net(4, activation="tanh"), data()
    x.requires_grad_()

    def loss(output):
        slope = torch.autograd.grad(output.sum(), x, create_graph=True)[0]
        return (slope.norm(dim=1) - 1).square().mean()

    found = diagnose(model, x, loss=loss)
    assert "not_connected" not in found.kinds and any("bias" in note for note in found.notes)


def test_what_trains_the_input_of_a_frozen_model_is_no_fault():
    model, (x, y) = net(4).requires_grad_(False), data()
    found = diagnose(model, (x.requires_grad_(), y))
    assert found.healthy and any("goes to the input" in note for note in found.notes)
    assert diagnose(model).kinds == {"not_connected"}


@dataclass
class Answer:
    logits: torch.Tensor


WRAPS = {
    "tuple": (lambda o: (o, o.argmax(-1)), lambda o: o[0]),
    "dict": (lambda o: {"logits": o}, lambda o: o["logits"]),
    "dataclass": (Answer, lambda o: o.logits),
    "namespace": (lambda o: types.SimpleNamespace(logits=o), lambda o: o.logits),
    "distribution": (lambda o: torch.distributions.Normal(o, 1.0), lambda o: o.loc),
}


class Wrapped(nn.Module):
    def __init__(self, body, wrap):
        super().__init__()
        self.body, self.wrap = body, wrap

    def forward(self, x):
        return self.wrap(self.body(x))


@pytest.mark.parametrize("how", WRAPS)
@pytest.mark.parametrize("kind", ["double_softmax", "symmetric", "healthy"])
def test_an_answer_in_a_nest_gets_the_findings_of_the_bare_tensor(how, kind):
    wrap, unwrap = WRAPS[how]
    body = net(3, init="zeros", activation="tanh") if kind == "symmetric" else net(3)
    body = nn.Sequential(body, nn.Softmax(1)) if kind == "double_softmax" else body
    found = diagnose(Wrapped(body, wrap), loss=lambda o, y: F.cross_entropy(unwrap(o), y))
    assert found.kinds == diagnose(body).kinds == {kind}


class Steps(nn.Module):
    """What Lightning calls a module."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def training_step(self, batch, index):
        x, y = batch
        assert index == 0
        return {"loss": F.cross_entropy(self.body(x), y), "seen": len(x)}


def test_a_model_with_a_training_step_needs_no_loss():
    assert cu.diagnose(Steps(net(6)), data()).healthy
    sick = Steps(net(20, activation="sigmoid", init="xavier"))
    assert cu.diagnose(sick, data()).kinds == {"vanishing"}
    assert cu.first_nonfinite(sick, data()) is None


@pytest.mark.parametrize("optional", [False, True])
def test_a_model_that_needs_the_target_gets_it_also_where_the_loss_takes_the_output_alone(optional):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net(4)

        def forward(self, x, labels):
            logits = self.body(x)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    class Optional(Own):
        def forward(self, x, labels=None):
            return super().forward(x, labels)

    (x, y), model = data(), Optional() if optional else Own()
    by_name = {"x": x, "labels": y}
    assert cu.diagnose(model, by_name, loss=lambda o: o["loss"]).healthy
    assert cu.diagnose(model, by_name).healthy and cu.diagnose(model, (x, y)).healthy
    if not optional:
        assert cu.diagnose(model, (x, y), loss=lambda o: o["loss"]).healthy
    masked = net(4)
    masked.forward = lambda x, mask=None: nn.Sequential.forward(masked, x if mask is None else mask)
    assert cu.diagnose(masked, (x, y), loss=lambda o: F.cross_entropy(o, y)).healthy


class Graphs:
    """What a batch of graphs looks like: attributes, and a mapping of them."""

    def __init__(self, **values):
        self._store = values

    def __getattr__(self, name):
        if name == "_store":
            raise AttributeError(name)
        return self._store[name]

    def __getitem__(self, name):
        return self._store[name]

    def keys(self):
        return list(self._store)


class Reads(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, graph):
        return self.body(graph.x)


@pytest.mark.parametrize("kind", [Graphs, types.SimpleNamespace])
def test_a_batch_may_be_an_object_with_attributes(kind):
    x, y = data()
    batch = kind(x=x, y=y, edges=torch.zeros(2, 5, dtype=torch.long))
    assert diagnose(Reads(net(6)), batch).healthy
    assert cu.diagnose(Reads(net(6)), batch, lambda o: F.cross_entropy(o, batch.y)).healthy
    named = net(6)
    named.forward = lambda x: nn.Sequential.forward(named, x)
    assert diagnose(Reads(net(6)), batch).first_look.blind_loss > 0


class Shy(nn.Module):
    """Fails where somebody watches."""

    def __init__(self):
        super().__init__()
        self.body = net(3)

    def forward(self, x):
        if any(module._forward_hooks for module in self.modules()):
            raise RuntimeError("watched")
        return self.body(x)


def test_the_note_on_an_error_says_whether_the_model_fails_by_itself():
    for ask in (diagnose, lambda model: cu.first_nonfinite(model, data(), F.cross_entropy)):
        with pytest.raises(RuntimeError, match="watched") as caught:
            ask(Shy())
        assert "the call runs" in caught.value.__notes__[-1]
        with pytest.raises(RuntimeError, match="cannot be multiplied") as caught:
            ask(nn.Sequential(nn.Linear(64, 3), nn.Linear(4, 3)))
        assert "raises it too" in caught.value.__notes__[-1]


def test_an_error_in_the_loss_or_in_the_backward_pass_is_the_models_own():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            raise ArithmeticError("no way back")

    with pytest.raises(ArithmeticError, match="no way back") as caught:
        diagnose(net(3), loss=lambda o, y: F.cross_entropy(Broken.apply(o), y))
    assert "raises it too" in caught.value.__notes__[-1]
    with pytest.raises(IndexError) as caught:
        diagnose(net(3), (data()[0], torch.full((32,), 10)))
    assert "the loss of" in caught.value.__notes__[0]
