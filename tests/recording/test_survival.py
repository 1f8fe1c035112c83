"""Every situation a recorder must survive, with torch.autograd.grad as the oracle."""

import copy
import io
import pickle
import warnings
from dataclasses import dataclass

import numpy
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import course_utils as cu

EXACT = {"rtol": 1e-5, "atol": 0.0}


def rms(value):
    value = value.detach().to(torch.complex128 if value.is_complex() else torch.float64)
    return (value.abs() ** 2).mean().sqrt()


def close(measured, expected):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(torch.as_tensor(measured), expected, **EXACT)


def net(*, seed=0, inplace=False):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(5, 8), nn.ReLU(inplace=inplace), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)
    )


def batch(seed=1, size=16):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 5, generator=generator)
    return x, torch.randint(0, 3, (size,), generator=generator)


def plain_pass(model, x, y, scale=1.0):
    """Outputs of each child applied out of place, and the gradients of the loss at them."""
    outputs = []
    for module in model:
        x = F.relu(x) if isinstance(module, nn.ReLU) else module(x)
        outputs.append(x)
    loss = scale * F.cross_entropy(x, y)
    return outputs, torch.autograd.grad(loss, outputs, allow_unused=True, retain_graph=True), loss


def clean(model):
    """No hook of any kind on any module or parameter."""
    for module in model.modules():
        for name, value in vars(module).items():
            if name.endswith("_hooks") or name.endswith("_hooks_always_called"):
                assert not value, name
    return all(not p._backward_hooks for p in model.parameters())


def test_gradients_and_outputs_are_those_of_autograd():
    model, (x, y) = net(), batch()
    outputs, grads, _ = plain_pass(model, x, y)
    with cu.record(model) as recorder:
        F.cross_entropy(model(x), y).backward()
    record = recorder.record
    assert record.layers == ("0", "1", "2", "3", "4")
    close(record.grad_rms[0], [rms(g) for g in grads])
    close(record.output_rms[0], [rms(h) for h in outputs])
    torch.testing.assert_close(
        record.output_mean[0].float(), torch.stack([h.mean() for h in outputs]).detach()
    )
    close(record.zero_fraction[0], [(h == 0).double().mean() for h in outputs])
    assert record.grad_rms.dtype == torch.float64


def test_inplace_relu_changes_neither_gradients_nor_statistics():
    model, (x, y) = net(inplace=True), batch()
    outputs, grads, _ = plain_pass(net(), x, y)
    with cu.record(model) as recorder:
        F.cross_entropy(model(x), y).backward()
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])
    close(recorder.record.output_rms[0], [rms(h) for h in outputs])


def test_output_overwritten_after_the_layer_keeps_its_own_statistics_and_gradient():
    class Overwrites(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 5)

        def forward(self, x):
            return self.layer(x).mul_(3.0).add_(1.0)

    torch.manual_seed(0)
    model, (x, _) = Overwrites(), batch()
    with cu.record(model) as recorder:
        model(x).square().mean().backward()
    h = F.linear(x, model.layer.weight, model.layer.bias)
    (grad,) = torch.autograd.grad((3 * h + 1).square().mean(), h)
    close(recorder.record.output_rms[0, 0], rms(h))
    close(recorder.record.grad_rms[0, 0], rms(grad))


class Shared(nn.Module):
    """One layer applied three times."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.again = nn.Linear(6, 6)

    def forward(self, x):
        h = self.first(x)
        for _ in range(3):
            h = torch.tanh(self.again(h))
        return h


def test_module_called_three_times_has_three_rows_each_with_its_own_gradient():
    torch.manual_seed(0)
    model, (x, _) = Shared(), batch()
    with cu.record(model) as recorder:
        model(x).square().sum().backward()
    z, h = [model.first(x)], model.first(x)
    h = z[0]
    for _ in range(3):
        z.append(model.again(h))
        h = torch.tanh(z[-1])
    grads = torch.autograd.grad(h.square().sum(), z)
    assert recorder.record.layers == ("first", "again", "again#2", "again#3")
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])
    close(recorder.record.output_rms[0], [rms(v) for v in z])
    assert recorder.record.trunk == (True, True, True, True)


def test_two_modules_that_share_a_weight_have_two_rows_and_one_parameter():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
    model[2].weight = model[0].weight
    x, _ = batch()
    with cu.record(model) as recorder:
        model(x).square().mean().backward()
    record = recorder.record
    a = model[0](x)
    b = model[2](torch.tanh(a))
    grads = torch.autograd.grad(b.square().mean(), [a, b, model[0].weight])
    close(record.grad_rms[0, [0, 2]], [rms(grads[0]), rms(grads[1])])
    assert record.parameters == ("0.weight", "0.bias", "2.bias")
    close(record.parameter_grad_rms[0, 0], rms(grads[2]))


def test_frozen_layer_has_outputs_and_no_gradient_and_is_named():
    model, (x, y) = net(), batch()
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    with cu.record(model) as recorder:
        F.cross_entropy(model(x), y).backward()
    record = recorder.record
    assert record.grad_rms[0, :2].isnan().all() and record.grad_rms[0, 2:].isfinite().all()
    assert record.output_rms.isfinite().all()
    assert record.without_gradient == ("0", "1")
    assert "no gradient reached 2" in repr(record) and "no gradient" in record._repr_html_()
    assert record.parameter_grad_rms[0, :2].isnan().all()
    close(record.parameter_rms[0, 0], rms(model[0].weight))
    assert record.first_nonfinite is None


def test_wholly_frozen_model_is_recorded_without_gradients():
    model, (x, _) = net().requires_grad_(False), batch()
    with cu.record(model) as recorder:
        model(x)
    assert recorder.record.grad_rms.isnan().all() and recorder.record.output_rms.isfinite().all()


@dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 4, num_layers=2)
        self.attention = nn.MultiheadAttention(4, 2)
        self.as_dict = AsDict()
        self.as_dataclass = AsDataclass()

    def forward(self, x):
        sequence, _ = self.lstm(x)
        mixed, _ = self.attention(sequence, sequence, sequence)
        return self.as_dataclass(self.as_dict(mixed)["last_hidden_state"])


class AsDict(nn.Module):
    def forward(self, x):
        return {"last_hidden_state": x.exp(), "index": torch.arange(3), "extra": [x.sin()]}


class AsDataclass(nn.Module):
    def forward(self, x):
        return Output(x.mean(0), (x.cos(), None))


def test_every_floating_tensor_in_tuples_dicts_and_dataclasses_is_named():
    torch.manual_seed(0)
    model, x = Nested(), torch.randn(7, 3, 5)
    with cu.record(model) as recorder:
        model(x).logits.square().sum().backward()
    record = recorder.record
    expected = (
        "lstm[0] lstm[1][0] lstm[1][1] attention[0] attention[1] as_dict[last_hidden_state] "
        "as_dict[extra][0] as_dataclass[logits] as_dataclass[hidden][0]"
    )
    assert record.layers == tuple(expected.split())
    sequence, (h, c) = model.lstm(x)
    mixed, _ = model.attention(sequence, sequence, sequence)
    e = mixed.exp()
    logits = e.mean(0)
    grads = torch.autograd.grad(logits.square().sum(), [sequence, mixed, e, logits])
    close(record.grad_rms[0, [0, 3, 5, 7]], [rms(g) for g in grads])
    close(record.output_rms[0, [0, 1, 2]], [rms(sequence), rms(h), rms(c)])
    assert record.grad_rms[0, [1, 2, 4, 6, 8]].isnan().all()
    assert record.trunk[:4] == (True, False, False, True)


def test_functional_activation_is_not_seen_and_the_layer_before_it_is():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 1)

        def forward(self, x):
            return self.b(F.relu(self.a(x)))

    torch.manual_seed(0)
    model, (x, _) = Functional(), batch()
    with cu.record(model) as recorder:
        model(x).square().mean().backward()
    a = model.a(x)
    b = model.b(F.relu(a))
    grads = torch.autograd.grad(b.square().mean(), [a, b])
    assert recorder.record.layers == ("a", "b")
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])
    assert "F.relu" in cu.record.__doc__


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_amp_with_grad_scaler_records_unscaled_gradients(dtype):
    model, (x, y) = net(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    with torch.autocast("cpu", dtype=dtype):
        outputs, grads, _ = plain_pass(model, x, y)
        weight_grad = torch.autograd.grad(plain_pass(model, x, y)[2], model[0].weight)[0]
    with cu.record(model, optimizer=optimizer, scaler=scaler) as recorder:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=dtype):
            loss = F.cross_entropy(model(x).float(), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        recorder.step(loss=loss)
    record = recorder.record
    tolerance = {"rtol": 4e-2 if dtype is torch.bfloat16 else 2e-2, "atol": 0}
    expected = torch.stack([rms(g) for g in grads])
    torch.testing.assert_close(record.grad_rms[0], expected, **tolerance)
    torch.testing.assert_close(record.parameter_grad_rms[0, 0], rms(weight_grad), **tolerance)
    assert record.grad_scale.tolist() == [2.0**16]
    assert len(record) == 1 and record.update_ratio.isfinite().all()
    close(record.output_rms[0], [rms(h) for h in outputs])


def test_amp_without_the_scaler_records_the_scaled_gradients_that_backward_computes():
    model, (x, y) = net(), batch()
    _, grads, _ = plain_pass(model, x, y, scale=65536.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    with cu.record(model) as recorder:
        scaler.scale(F.cross_entropy(model(x), y)).backward()
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])
    assert recorder.record.grad_scale.tolist() == [1.0]


def test_step_skipped_by_the_scaler_is_a_row_without_update():
    model, (x, y) = net(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    with cu.record(model, optimizer=optimizer, scaler=scaler) as recorder:
        for factor in (1.0, float("inf"), 1.0):
            optimizer.zero_grad()
            scaler.scale(factor * F.cross_entropy(model(x), y)).backward()
            scaler.step(optimizer)
            scaler.update()
    record = recorder.record
    assert record.steps == (0, 1, 2) and record.layers == ("0", "1", "2", "3", "4")
    assert record.update_ratio.isnan().all(1).tolist() == [False, True, False]
    assert record.first_nonfinite == ("4", "backward", 1)
    assert record.grad_scale.tolist() == [65536.0, 65536.0, 32768.0]


def test_accumulated_batches_are_calls_of_one_step_and_the_parameters_hold_the_sum():
    model, optimizer = net(), None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [batch(seed) for seed in (1, 2, 3)]
    plain = [plain_pass(model, *b) for b in batches]
    weight = sum(torch.autograd.grad(loss, model[0].weight)[0] for _, _, loss in plain)
    with cu.record(model, optimizer=optimizer) as recorder:
        for x, y in batches:
            F.cross_entropy(model(x), y).backward()
        optimizer.step()
    record = recorder.record
    assert len(record) == 1
    assert record.layers[5:10] == ("0#2", "1#2", "2#2", "3#2", "4#2")
    close(record.grad_rms[0], [rms(g) for _, grads, _ in plain for g in grads])
    close(record.parameter_grad_rms[0, 0], rms(weight))
    assert sum(record.trunk) == 3  # depth is that of one pass


def test_accumulated_batches_closed_one_by_one_are_steps_with_the_running_sum():
    model = net()
    batches = [batch(seed) for seed in (1, 2)]
    plain = [plain_pass(model, *b) for b in batches]
    weights = [torch.autograd.grad(loss, model[0].weight)[0] for _, _, loss in plain]
    with cu.record(model) as recorder:
        for x, y in batches:
            F.cross_entropy(model(x), y).backward()
            recorder.step()
    record = recorder.record
    close(record.grad_rms, torch.stack([torch.stack([rms(g) for g in p[1]]) for p in plain]))
    close(record.parameter_grad_rms[:, 0], [rms(weights[0]), rms(weights[0] + weights[1])])


def test_channels_last_gives_what_contiguous_gives():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2)
    )
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    x = torch.randn(4, 3, 9, 9)
    records = []
    for m, value in ((model, x), (last, x.to(memory_format=torch.channels_last))):
        with cu.record(m) as recorder:
            m(value).square().mean().backward()
        records.append(recorder.record)
    h = [x]
    for module in model:
        h.append(module(h[-1]))
    grads = torch.autograd.grad(h[-1].square().mean(), h[1:])
    torch.testing.assert_close(
        records[1].grad_rms[0], torch.stack([rms(g) for g in grads]), rtol=1e-4, atol=0
    )
    for name in ("output_rms", "zero_fraction", "dead_fraction", "parameter_grad_rms"):
        a, b = getattr(records[0], name), getattr(records[1], name)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("make", ["expanded", "transposed", "strided"])
def test_gradients_and_outputs_in_odd_memory_layouts_are_right(make):
    class Odd(nn.Module):
        def forward(self, x):
            if make == "transposed":
                return x.t()
            return x[:, ::2] if make == "strided" else x[:, :1].expand(-1, 7)

    model, (x, _) = nn.Sequential(nn.Linear(5, 6), Odd()), batch()
    with cu.record(model) as recorder:
        model(x).sum().backward()
    h = model[0](x)
    out = model[1](h)
    grads = torch.autograd.grad(out.sum(), [h, out])
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])
    close(recorder.record.output_rms[0], [rms(h), rms(out)])
    close(recorder.record.output_mean[0, 1], out.detach().double().mean())


class Checkpointed(nn.Module):
    """Two segments; the shared layer occurs twice in each."""

    def __init__(self, reentrant):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(5, 6)
        self.shared = nn.Linear(6, 6)
        self.own = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.head = nn.Linear(6, 1)
        self.reentrant = reentrant

    def segment(self, own, h):
        return torch.tanh(self.shared(torch.tanh(own(torch.tanh(self.shared(h))))))

    def forward(self, x):
        h = torch.tanh(self.embed(x))
        for own in self.own:
            if self.reentrant is None:
                h = self.segment(own, h)
            else:
                h = checkpoint(self.segment, own, h, use_reentrant=self.reentrant)
        return self.head(h)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_segments_have_one_row_per_call_equal_to_the_plain_model(reentrant):
    x, _ = batch()
    plain, model = Checkpointed(None), Checkpointed(reentrant)
    records = []
    for m in (plain, model):
        with cu.record(m) as recorder:
            m(x).square().mean().backward()
        records.append(recorder.record)
    assert records[0].layers == (
        "embed",
        *("shared", "own.0", "shared#2", "shared#3", "own.1", "shared#4"),
        "head",
    )
    assert records[1].layers == records[0].layers
    close(records[1].grad_rms, records[0].grad_rms)
    close(records[1].output_rms, records[0].output_rms)
    close(records[1].parameter_grad_rms, records[0].parameter_grad_rms)
    z = model.embed(x)
    (grad,) = torch.autograd.grad(
        model.head(plain.segment(model.own[1], plain.segment(model.own[0], torch.tanh(z))))
        .square()
        .mean(),
        z,
    )
    close(records[1].grad_rms[0, 0], rms(grad))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoint_sequential_has_one_row_per_layer(reentrant):
    model, (x, y) = net(), batch()
    _, grads, _ = plain_pass(model, x, y)
    x = x.clone().requires_grad_()
    with cu.record(model) as recorder:
        out = checkpoint_sequential(model, 2, x, use_reentrant=reentrant)
        F.cross_entropy(out, y).backward()
    assert recorder.record.layers == ("0", "1", "2", "3", "4")
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])


def test_reentrant_checkpoint_inside_a_checkpoint_has_one_row_per_layer():
    model, (x, y) = net(), batch()
    _, grads, _ = plain_pass(model, x, y)
    x = x.clone().requires_grad_()

    def outer(value):
        value = model[1](model[0](value))
        return checkpoint(lambda v: model[3](model[2](v)), value, use_reentrant=True)

    with cu.record(model) as recorder:
        F.cross_entropy(model[4](checkpoint(outer, x, use_reentrant=True)), y).backward()
    assert recorder.record.layers == ("0", "1", "2", "3", "4")
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])


def test_plain_checkpoint_inside_two_reentrant_ones_has_one_row_per_call_of_a_shared_layer():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 5)), batch()[0].requires_grad_()
    layer, z, h = model[0], [], x
    for _ in range(4):
        z.append(layer(h))
        h = torch.tanh(z[-1])
    grads = torch.autograd.grad(h.square().mean(), z)

    def apply(value):
        return torch.tanh(layer(value))

    def outer(value):
        return checkpoint(apply, apply(value), use_reentrant=False)

    with cu.record(model) as recorder:
        h = x
        for _ in range(2):
            h = checkpoint(outer, h, use_reentrant=True)
        h.square().mean().backward()
    assert recorder.record.layers == ("0", "0#2", "0#3", "0#4")
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])


@pytest.mark.parametrize("optimizer", [False, True])
def test_parameter_gradients_are_those_before_clipping_and_before_zero_grad(optimizer):
    model, (x, y) = net(), batch()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = F.cross_entropy(model(x), y)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    with cu.record(model, optimizer=sgd if optimizer else None) as recorder:
        F.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        sgd.step()
        sgd.zero_grad()
        recorder.step()
    close(recorder.record.parameter_grad_rms[0], [rms(g) for g in grads])


@pytest.mark.parametrize("when", ["before the first call", "after the first call", "in place"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_compiled_model_is_recorded_with_a_warning(backend, when):
    if backend == "inductor" and when != "before the first call":
        pytest.skip("inductor needs a C++ compiler; the block itself does not compile")
    torch._dynamo.reset()
    model, (x, y) = net(), batch()
    _, grads, _ = plain_pass(model, x, y)
    compiled = torch.compile(model, backend=backend)
    if when == "in place":
        model.compile(backend=backend)
        compiled = model
    if when != "before the first call":
        F.cross_entropy(compiled(x), y).backward()
        model.zero_grad()
    with pytest.warns(RuntimeWarning, match="compiled"), cu.record(compiled) as recorder:
        F.cross_entropy(compiled(x), y).backward()
    assert recorder.record.layers == ("0", "1", "2", "3", "4")
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])
    assert clean(model)
    if backend != "inductor":
        compiled(x)  # as before
    torch._dynamo.reset()


def test_compiled_function_around_the_model_never_leaves_an_empty_record_in_silence():
    torch._dynamo.reset()
    model, (x, y) = net(), batch()
    _, grads, _ = plain_pass(model, x, y)

    @torch.compile(backend="eager")
    def loss_of(value):
        return F.cross_entropy(model(value), y)

    loss_of(x).backward()  # compiled without hooks
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with cu.record(model) as recorder:
            loss_of(x).backward()
            recorder.step()
    if any("No layer ran" in str(w.message) for w in caught):
        assert recorder.record.layers == ()
    else:
        close(recorder.record.grad_rms[0], [rms(g) for g in grads])
    torch._dynamo.reset()


def test_function_compiled_inside_the_block_is_recorded_or_says_so():
    torch._dynamo.reset()
    model, (x, y) = net(), batch()
    _, grads, _ = plain_pass(model, x, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with cu.record(model) as recorder:
            torch.compile(lambda v: F.cross_entropy(model(v), y), backend="eager")(x).backward()
            recorder.step()
    if any("No layer ran" in str(w.message) for w in caught):
        assert recorder.record.layers == ()
    else:
        close(recorder.record.grad_rms[0], [rms(g) for g in grads])
    torch._dynamo.reset()


OPTIMIZERS = {
    "sgd momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd decay": lambda p: torch.optim.SGD(
        p, lr=0.1, weight_decay=0.1, nesterov=True, momentum=0.5
    ),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.3),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_ratio_is_the_exact_change_over_the_size_before(name):
    model, (x, y) = net(), batch()
    optimizer = OPTIMIZERS[name](model.parameters())
    expected = []
    with cu.record(model, optimizer=optimizer) as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            before = [p.detach().double().clone() for p in model.parameters()]
            optimizer.step()
            now = [p.detach().double() for p in model.parameters()]
            expected.append(
                [((b - a).norm() / a.norm()).item() for a, b in zip(before, now, strict=True)]
            )
    record = recorder.record
    assert record.steps == (0, 1, 2)
    close(record.update_ratio, expected)
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_step_before_or_after_the_optimizer_closes_one_row_and_keeps_loss_and_update():
    for order in ("before", "after"):
        model, (x, y) = net(), batch()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses = []
        with cu.record(model, optimizer=optimizer) as recorder:
            for _ in range(3):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                losses.append(loss.item())
                loss.backward()
                if order == "before":
                    recorder.step(loss=loss)
                optimizer.step()
                if order == "after":
                    recorder.step(loss=loss)
        record = recorder.record
        assert record.steps == (0, 1, 2) and record.layers == ("0", "1", "2", "3", "4")
        close(record.losses, torch.tensor(losses).double())
        assert record.update_ratio.isfinite().all() and (record.update_ratio > 0).all()


def test_lbfgs_closes_one_row_per_step():
    model, (x, y) = net(), batch()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    before = model[0].weight.detach().clone()
    with cu.record(model, optimizer=optimizer) as recorder:
        optimizer.step(closure)
    change = (model[0].weight.detach() - before).norm() / before.norm()
    assert len(recorder.record) == 1
    close(recorder.record.update_ratio[0, 0], change)


def test_two_optimizers_close_one_row_with_the_update_of_both():
    model, (x, y) = net(), batch()
    optimizers = [torch.optim.SGD(model[i].parameters(), lr=0.1) for i in (0, 4)]
    before = [p.detach().clone() for p in model.parameters()]
    with cu.record(model, optimizer=optimizers) as recorder:
        F.cross_entropy(model(x), y).backward()
        for optimizer in optimizers:
            optimizer.step()
    ratio = [(b - a).norm() / a.norm() for a, b in zip(before, model.parameters(), strict=True)]
    assert len(recorder.record) == 1
    close(recorder.record.update_ratio[0], torch.stack(ratio).detach())


class Everything(nn.Module):
    """Batch norm, dropout, in-place ReLU: buffers and random numbers in every step."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(5, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(inplace=True),
            nn.Dropout(0.3),
            nn.Linear(16, 3),
        )

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize("options", [{}, {"every": 2}, {"optimizer": True}, {"layers": "all"}])
def test_training_is_bit_identical_watched_or_not(options):
    ends = []
    for watched in (False, True):
        torch.manual_seed(0)
        model = Everything()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        torch.manual_seed(1)
        settings = {k: optimizer if k == "optimizer" else v for k, v in options.items()}
        recorder = cu.record(model, **settings)
        if watched:
            recorder.__enter__()
        for i in range(5):
            x, y = batch(i)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            if watched:
                recorder.step()
        if watched:
            recorder.__exit__(None, None, None)
        state = {**model.state_dict(), "random": torch.get_rng_state()}
        state |= {f"grad {n}": p.grad for n, p in model.named_parameters()}
        ends.append(state)
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    assert clean(model)


def test_validation_passes_inside_the_block_are_not_recorded():
    model, (x, y) = net(), batch()
    with cu.record(model) as recorder:
        for _ in range(2):
            F.cross_entropy(model(x), y).backward()
            with torch.no_grad():
                model(x)
            with torch.inference_mode():
                model(x)
            model.eval()
            model(x)
            model.train()
            recorder.step()
    assert recorder.record.layers == ("0", "1", "2", "3", "4")
    assert recorder.record.grad_rms.isfinite().all()


def test_evaluation_true_records_passes_without_gradients():
    model, (x, _) = net().eval(), batch()
    with cu.record(model, evaluation=True) as recorder, torch.no_grad():
        model(x)
    close(recorder.record.output_rms[0, -1], rms(model(x)))
    assert recorder.record.grad_rms.isnan().all()


@pytest.mark.parametrize("mode", ["eval", "no_grad", "not called"])
def test_empty_record_is_never_silent(mode):
    model, (x, _) = net(), batch()
    with pytest.warns(RuntimeWarning, match="empty") as caught, cu.record(model) as recorder:
        if mode == "eval":
            model.eval()(x)
        elif mode == "no_grad":
            with torch.no_grad():
                model(x)
    expected = {"eval": "eval mode", "no_grad": "gradients were disabled"}.get(mode, "not called")
    assert expected in str(caught[0].message)
    assert len(recorder.record) == 0


def test_exception_inside_the_block_leaves_the_model_as_it_was():
    model, (x, y) = net(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ZeroDivisionError), cu.record(model, optimizer=optimizer) as recorder:
        F.cross_entropy(model(x), y).backward()
        recorder.step()
        model(x)
        raise ZeroDivisionError
    assert clean(model) and model.training
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks
    assert len(recorder.record) == 1


def test_exception_in_the_forward_pass_leaves_no_hook():
    model = net()
    with pytest.raises(RuntimeError), cu.record(model):
        model(torch.zeros(2, 7))
    assert clean(model)


def test_leaf_tensor_that_passes_through_a_module_keeps_no_hook():
    model, x = nn.Sequential(nn.Identity(), nn.Linear(5, 1)), torch.zeros(4, 5, requires_grad=True)
    with cu.record(model) as recorder:
        model(x).sum().backward()
    assert not x._backward_hooks
    close(recorder.record.grad_rms[0, 0], rms(x.grad))


def test_gradient_penalty_records_the_gradient_of_the_loss_not_of_the_inner_pass():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    x = batch()[0].requires_grad_()

    def loss_of(h):
        out = model[2](torch.tanh(h))
        (inner,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        return out.mean() + 10 * (inner.norm(dim=1) - 1).square().mean()

    with cu.record(model) as recorder:
        out = model(x)
        (inner,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        (out.mean() + 10 * (inner.norm(dim=1) - 1).square().mean()).backward()
    h = model[0](x)
    (grad,) = torch.autograd.grad(loss_of(h), h)
    close(recorder.record.grad_rms[0, 0], rms(grad))
    assert recorder.record.layers == ("0", "1", "2")


def test_create_graph_and_a_second_differentiation_keep_the_first_gradient():
    model, (x, y) = net(), batch()
    _, grads, _ = plain_pass(model, x, y)
    with cu.record(model) as recorder:
        loss = F.cross_entropy(model(x), y)
        first = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
        torch.autograd.grad(sum(g.square().sum() for g in first), list(model.parameters()))
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of the reference cycle
        with cu.record(model) as recorder:
            F.cross_entropy(model(x), y).backward(create_graph=True)
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])
    assert not recorder.record.grad_rms.requires_grad
    model.zero_grad()


def test_two_backward_passes_through_one_graph_are_said_aloud():
    model, (x, y) = net(), batch()
    with cu.record(model) as recorder:
        loss = F.cross_entropy(model(x), y)
        loss.backward(retain_graph=True)
        with pytest.warns(RuntimeWarning, match="Two backward passes"):
            (3 * loss).backward()
    _, grads, _ = plain_pass(model, x, y, scale=3.0)
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])


def test_backward_after_the_step_was_closed_is_said_aloud():
    model, (x, y) = net(), batch()
    with cu.record(model) as recorder:
        loss = F.cross_entropy(model(x), y)
        recorder.step()
        with pytest.warns(RuntimeWarning, match="closed before"):
            loss.backward(retain_graph=True)
            F.cross_entropy(model(x), y).backward()
    assert recorder.record.grad_rms[0].isnan().all()


def test_functional_call_records_outputs_and_gradients():
    model, (x, y) = net(), batch()
    other = {name: (2 * p).detach().requires_grad_() for name, p in model.named_parameters()}
    with cu.record(model) as recorder:
        loss = F.cross_entropy(torch.func.functional_call(model, other, (x,)), y)
        torch.autograd.grad(loss, list(other.values()))
    double = copy.deepcopy(model)
    double.load_state_dict({name: p.detach() for name, p in other.items()})
    _, grads, _ = plain_pass(double, x, y)
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])
    assert recorder.record.parameter_grad_rms.isnan().all()


def test_vmap_and_func_grad_are_a_clear_error_and_leave_no_hook():
    model, (x, y) = net(), batch()
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss_of(values):
        return F.cross_entropy(torch.func.functional_call(model, values, (x,)), y)

    stacked = {name: torch.stack([p, p]) for name, p in parameters.items()}
    for transformed in (
        lambda: torch.func.vmap(loss_of)(stacked),
        lambda: torch.func.grad(loss_of)(parameters),
    ):
        with pytest.raises(RuntimeError, match=r"torch\.func"), cu.record(model):
            transformed()
        assert clean(model)


def test_copies_and_pickles_carry_no_trace_during_and_after_recording():
    model, (x, y) = net(), batch()
    with cu.record(model) as recorder:
        F.cross_entropy(model(x), y).backward()
        during = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        assert b"course_utils" not in pickle.dumps(model)
        for twin in during:
            twin.zero_grad()
            F.cross_entropy(twin(x), y).backward()
        recorder.step()
    record = recorder.record
    assert len(record) == 1 and record.layers == ("0", "1", "2", "3", "4")
    for twin in during:
        assert torch.equal(twin[0].weight.grad, model[0].weight.grad)
    assert clean(copy.deepcopy(model)) and clean(pickle.loads(pickle.dumps(model)))
    buffer = io.BytesIO()
    torch.save(model, buffer)
    assert b"course_utils" not in buffer.getvalue()
    assert recorder.model is None


def test_data_parallel_on_the_cpu_is_recorded():
    model, (x, y) = net(), batch()
    _, grads, _ = plain_pass(model, x, y)
    parallel = nn.DataParallel(model)
    with cu.record(parallel) as recorder:
        F.cross_entropy(parallel(x), y).backward()
    assert recorder.record.layers == tuple("01234")
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])


def test_two_recorders_and_nested_blocks_are_independent():
    model, (x, y) = net(), batch()
    _, grads, _ = plain_pass(model, x, y)
    with cu.record(model) as outer:
        with cu.record(model, layers=["2"]) as inner:
            F.cross_entropy(model(x), y).backward()
        F.cross_entropy(model(x), y).backward()
    assert inner.record.layers == ("2",)
    close(inner.record.grad_rms[0], [rms(grads[2])])
    assert outer.record.layers[:5] == ("0", "1", "2", "3", "4") and len(outer.record.layers) == 10
    close(outer.record.grad_rms[0], [rms(g) for g in (*grads, *grads)])
    assert clean(model)


class Odd(nn.Module):
    def forward(self, x):
        return {
            "scalar": x.sum(),
            "empty": x[:0],
            "integer": torch.arange(3),
            "complex": torch.complex(x, 2 * x),
            "flag": x > 0,
        }


def test_scalar_empty_integer_and_complex_outputs():
    model, (x, _) = nn.Sequential(nn.Linear(5, 4), Odd()), batch()
    with cu.record(model) as recorder:
        out = model(x)
        (out["scalar"] + out["complex"].abs().square().sum()).backward()
    record = recorder.record
    assert record.layers == ("0", "1[scalar]", "1[empty]", "1[complex]")
    h = model[0](x)
    z = torch.complex(h, 2 * h)
    (grad,) = torch.autograd.grad(z.abs().square().sum(), z)
    close(record.output_rms[0, 1], h.sum().abs().detach())
    assert record.output_rms[0, 2].isnan()
    close(record.output_rms[0, 3], rms(z))
    close(record.grad_rms[0, 1], 1.0)
    close(record.grad_rms[0, 3], rms(grad))
    assert record.first_nonfinite is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_reduced_in_at_least_float32(dtype):
    model, (x, y) = net().to(dtype), batch()
    x = x.to(dtype)
    outputs, grads, _ = plain_pass(model, x, y)
    with cu.record(model) as recorder:
        F.cross_entropy(model(x), y).backward()
    close(recorder.record.output_rms[0], [rms(h) for h in outputs])
    close(recorder.record.grad_rms[0], [rms(g) for g in grads])
    close(recorder.record.parameter_rms[0], [rms(p) for p in model.parameters()])
    close(recorder.record.parameter_grad_rms[0], [rms(p.grad) for p in model.parameters()])


SIZES = [1e-44, 1e-38, 1e-30, 1e-25, 1e-22, 1e-20, 1e-18, 1e-10, 1e15, 1e18, 1e20, 1e37]


@pytest.mark.parametrize("size", SIZES)
def test_tiny_and_huge_float32_values_keep_their_size(size):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Identity())
    x = (size * torch.randn(256, 256)).requires_grad_()
    weight = size * torch.randn(256, 256)
    with cu.record(model) as recorder:
        (model(x) * weight).sum().backward()
    record = recorder.record
    close(record.output_rms[0, 1], rms(x))
    close(record.grad_rms[0], [rms(weight), rms(weight)])
    assert (record.grad_rms > 0).all() and record.grad_rms.isfinite().all()


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e160, 1e300])
def test_tiny_and_huge_float64_values_keep_their_size(size):
    def draw(seed):
        return size * torch.randn(64, 64, dtype=torch.float64, generator=cu.seeded(seed))

    model, x = nn.Identity(), draw(0).requires_grad_()
    weight = draw(1)
    with cu.record(model) as recorder:
        torch.autograd.grad(model(x), x, weight)
    assert torch.equal(x, draw(0)) and torch.equal(weight, draw(1))  # measured, not changed
    for measured, value in ((recorder.record.output_rms, x), (recorder.record.grad_rms, weight)):
        numbers = value.detach().numpy().astype(numpy.longdouble)
        expected = float(numpy.sqrt(numpy.mean(numbers**2)))
        close(measured[0, 0], expected)


@pytest.mark.parametrize("size", [1e-25, 1e20])
def test_tiny_and_huge_parameters_and_updates_keep_their_size(size):
    torch.manual_seed(0)
    model = nn.Linear(64, 64, bias=False)
    with torch.no_grad():
        model.weight.copy_(size * torch.randn(64, 64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    weight = size * torch.randn(64, 64)
    before = model.weight.detach().double().clone()
    with cu.record(model, optimizer=optimizer) as recorder:
        (model(torch.zeros(1, 64)).sum() + (model.weight * weight).sum()).backward()
        optimizer.step()
    record = recorder.record
    close(record.parameter_rms[0, 0], rms(before))
    close(record.parameter_grad_rms[0, 0], rms(weight))
    change = model.weight.detach().double() - before
    close(record.update_ratio[0, 0], change.norm() / before.norm())


def test_first_nonfinite_names_layer_pass_and_step():
    class Breaks(nn.Module):
        def __init__(self, step, backward):
            super().__init__()
            self.step, self.backward, self.calls = step, backward, 0

        def forward(self, x):
            self.calls += 1
            if self.calls != self.step + 1:
                return x
            return torch.sqrt(x - x.detach()) if self.backward else x / 0.0

    for backward in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 4), Breaks(1, backward), nn.Linear(4, 1))
        x, _ = batch()
        with cu.record(model) as recorder:
            for _ in range(3):
                model(x).square().mean().backward()
                recorder.step()
        record = recorder.record
        if backward:
            assert record.first_nonfinite == ("0", "backward", 1)
            assert record.grad_nan[1, 0] + record.grad_inf[1, 0] == 64
        else:
            assert record.first_nonfinite == ("1", "forward", 1)
            assert record.output_inf[1, 1] == 64 and record.output_rms[1, 1] == float("inf")


def test_loss_that_is_not_finite_is_named_when_the_outputs_are():
    model, (x, _) = nn.Linear(5, 1), batch()
    with cu.record(model) as recorder:
        loss = (model(x).mean() * 0).log()
        loss.backward()
        recorder.step(loss=loss)
    assert recorder.record.first_nonfinite == ("(loss)", "forward", 0)


def test_memory_does_not_grow_beyond_the_record():
    import tracemalloc

    model, (x, y) = net(), batch()

    def train(steps):
        for _ in range(steps):
            F.cross_entropy(model(x), y).backward()
            recorder.step()

    with cu.record(model) as recorder:
        train(20)
        tracemalloc.start()
        train(100)
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    numbers = 100 * (5 * 11 + 2 * 6)
    assert grown < 3 * 8 * numbers
