"""Training loops that strangers bring, in one process: what a row holds is what was there."""

import copy
import itertools
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import course_utils as cu

EXACT = {"rtol": 1e-5, "atol": 0.0}


def rms(value):
    return value.detach().double().square().mean().sqrt()


def close(measured, expected):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(torch.as_tensor(measured), expected, **EXACT)


def net(*sizes, seed=0):
    torch.manual_seed(seed)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def no_hooks(model):
    return not any(
        value
        for module in model.modules()
        for name, value in vars(module).items()
        if name.endswith(("_hooks", "_hooks_always_called"))
    )


# Several optimizers, and optimizers in wrappers


class Gan(nn.Module):
    def __init__(self):
        super().__init__()
        self.g, self.d = net(3, 8, 2, seed=1), net(2, 8, 1, seed=2)


def snapshot(part):
    return {id(p): rms(p.grad) for p in part.parameters()}


@pytest.mark.parametrize("first", ["g", "d"])
@pytest.mark.parametrize("critics", [1, 3])
def test_each_parameters_gradient_is_that_of_the_step_of_its_own_optimizer(first, critics):
    torch.manual_seed(0)
    gan, noise, real = Gan(), torch.randn(6, 3), torch.randn(6, 2)
    order = (first, "d" if first == "g" else "g")
    optimizers = {name: torch.optim.SGD(getattr(gan, name).parameters(), lr=0.3) for name in order}
    held, moved = {}, {}

    def losses(name):
        if name == "g":
            return F.softplus(-gan.d(gan.g(noise))).mean()
        return F.softplus(-gan.d(real)).mean() + F.softplus(gan.d(gan.g(noise))).mean()

    with cu.record(gan, optimizer=[optimizers[name] for name in order]) as recorder:
        for _ in range(2):
            for name in order:
                for _ in range(critics if name == order[0] else 1):
                    optimizers[name].zero_grad()
                    losses(name).backward()  # reaches the parameters of the other one too
                    held.update(snapshot(getattr(gan, name)))
                    before = [p.detach().clone() for p in getattr(gan, name).parameters()]
                    optimizers[name].step()
                    pairs = zip(getattr(gan, name).parameters(), before, strict=True)
                    moved.update({id(p): rms(p - b) / rms(b) for p, b in pairs})
    record = recorder.record
    assert record.steps == (0, 1)
    close(record.parameter_grad_rms[-1], [held[id(p)] for p in gan.parameters()])
    close(record.update_ratio[-1], [float(moved[id(p)]) for p in gan.parameters()])


def test_a_step_of_one_optimizer_alone_is_a_row_with_its_update_alone():
    gan, noise = Gan(), torch.randn(6, 3)
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.3) for part in (gan.g, gan.d)]
    with cu.record(gan, optimizer=optimizers) as recorder:
        gan.d(gan.g(noise)).mean().backward()
        optimizers[0].step()
        recorder.step(loss=1.0)
    moved = dict(
        zip(recorder.record.parameters, recorder.record.update_ratio[0].isfinite(), strict=True)
    )
    assert {name for name, yes in moved.items() if yes} == {
        n for n in recorder.record.parameters if n.startswith("g.")
    }


class Prepared(torch.optim.Optimizer):
    """Like accelerate's: an Optimizer by class, whose own machinery was never set up."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    def step(self, closure=None):
        self.optimizer.step(closure)


@pytest.mark.parametrize("wraps", [1, 2])
def test_an_optimizer_in_a_wrapper_is_unwrapped(wraps):
    model, x = net(3, 4, 1), torch.randn(5, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(wraps):
        optimizer = Prepared(optimizer)
    before = [p.detach().clone() for p in model.parameters()]
    with cu.record(model, optimizer=optimizer) as recorder:
        model(x).square().mean().backward()
        optimizer.step()
    change = [rms(p - b) / rms(b) for p, b in zip(model.parameters(), before, strict=True)]
    close(recorder.record.update_ratio[0], change)


@pytest.mark.parametrize("given", [False, True])
def test_optimizers_that_step_inside_the_backward_pass_are_measured(given):
    model, x = net(3, 6, 5, 1), torch.randn(7, 3)
    twin = copy.deepcopy(model)
    optimizers = {p: torch.optim.SGD([p], lr=0.2) for p in model.parameters()}

    def step(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    expected, updates = [], []
    with cu.record(model, optimizer=[*optimizers.values()] if given else None) as recorder:
        for _ in range(3):
            model(x).square().mean().backward()
            if not given:
                recorder.step()
            twin.zero_grad()
            twin(x).square().mean().backward()
            expected.append([rms(p.grad) for p in twin.parameters()])
            updates.append([0.2 * rms(p.grad) / rms(p) for p in twin.parameters()])
            with torch.no_grad():
                for p in twin.parameters():
                    p -= 0.2 * p.grad
    record = recorder.record
    assert len(record) == 3 and not record.grad_rms.isnan().any()
    close(record.parameter_grad_rms, expected)
    if given:
        torch.testing.assert_close(
            record.update_ratio, torch.tensor(updates).double(), rtol=1e-4, atol=0
        )
    assert all(len(p._post_accumulate_grad_hooks) == 1 for p in model.parameters())


def test_a_hook_that_uses_gradients_up_is_named_where_it_came_too_late():
    model, x = net(3, 4, 1), torch.randn(5, 3)
    with pytest.warns(RuntimeWarning, match="2.weight.*from step 0"), cu.record(model) as recorder:
        hook = lambda p: setattr(p, "grad", None)  # noqa: E731
        model[2].weight.register_post_accumulate_grad_hook(hook)
        model(x).mean().backward()
    assert recorder.record.parameter_grad_rms[0].isnan().tolist() == [False, False, True, False]


# Passes where the forward of the whole model is not called


class Module(nn.Module):
    """Called through training_step, or part by part; its forward is a mistake."""

    def __init__(self, depth=4):
        super().__init__()
        self.encoder = net(*[5] * depth)
        self.head = nn.Linear(5, 2)

    def training_step(self, x):
        return self.head(self.encoder(x)).square().mean()


def one_pass(make, call, x):
    model = make()
    with cu.record(model) as recorder:
        call(model, x).backward()
    return recorder.record


@pytest.mark.parametrize("backward", ["each", "both"])
@pytest.mark.parametrize("passes", [2, 3])
def test_later_passes_do_not_join_the_trunk_where_the_root_is_never_called(backward, passes):
    x = torch.randn(6, 5)
    torch.manual_seed(3)
    alone = one_pass(Module, Module.training_step, x)
    model = Module()
    model.load_state_dict(Module().state_dict())
    with cu.record(model) as recorder:
        if backward == "each":
            for _ in range(passes):
                model.training_step(x).backward()
        else:
            sum(model.training_step(x) for _ in range(passes)).backward()
    record = recorder.record
    assert len(record.layers) == passes * len(alone.layers)
    assert [n for n, t in zip(record.layers, record.trunk, strict=True) if t] == [
        n for n, t in zip(alone.layers, alone.trunk, strict=True) if t
    ]
    torch.manual_seed(3)
    again = one_pass(Module, Module.training_step, x)
    assert again.factor_per_layer() == alone.factor_per_layer()


def test_two_views_through_one_encoder_are_two_passes_and_a_loop_is_depth():
    model, x = Module(), torch.randn(6, 5)
    with cu.record(model) as recorder:
        a, b = model.encoder(x), model.encoder(-2 * x)
        model.head(a * b).sum().backward()
    record = recorder.record
    later = {n for n, t in zip(record.layers, record.trunk, strict=True) if not t}
    assert {"encoder.0#2", "encoder.2#2"} <= later and not {"encoder.0", "head"} & later
    model = nn.Module()
    model.cell = nn.Linear(5, 5)
    with cu.record(model) as recorder:
        h = x
        for _ in range(4):
            h = torch.tanh(model.cell(h))
        h.sum().backward()
    assert recorder.record.trunk == (True,) * 4


def test_accumulation_with_an_optimizer_where_the_root_is_never_called_is_one_row():
    model, x = Module(), torch.randn(6, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with cu.record(model, optimizer=optimizer) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            for part in (x, 2 * x, 3 * x):
                (model.training_step(part) / 3).backward()
            held = [rms(p.grad) for p in model.parameters()]
            optimizer.step()
    record = recorder.record
    assert len(record) == 2 and sum(record.trunk) == 4
    close(record.parameter_grad_rms[1], held)


def test_the_root_called_twice_and_its_parts_besides():
    model, x = net(5, 5, 5), torch.randn(6, 5)
    with cu.record(model) as recorder:
        (model(x).sum() + model(2 * x).sum() + model[0](3 * x).sum()).backward()
    record = recorder.record
    trunk = [n for n, t in zip(record.layers, record.trunk, strict=True) if t]
    assert trunk == ["0", "2"] and "0#3" in record.layers


# Models that change inside the block


def train(model, x, recorder):
    model.zero_grad()
    model(x).square().mean().backward()
    recorder.step()


def oracle(model, x):
    """RMS of the gradient of each parameter, on a copy."""
    twin = copy.deepcopy(model)
    twin.zero_grad()
    twin(x).square().mean().backward()
    return {name: float(rms(p.grad)) for name, p in twin.named_parameters() if p.requires_grad}


CHANGES = {
    "set": lambda m: m.__setitem__(2, nn.Linear(5, 5)),
    "direct": lambda m: m._modules.__setitem__("2", nn.Linear(5, 5)),
    "other kind": lambda m: m.__setitem__(1, nn.ReLU()),
    "append": lambda m: m.append(nn.Linear(5, 3)),
    "insert": lambda m: m.insert(1, nn.Linear(5, 5)),
    "delete": lambda m: m.__delitem__(slice(0, 2)),
    "parameter": lambda m: setattr(m[2], "weight", nn.Parameter(torch.eye(5) / 3)),
    "freeze": lambda m: m[2].requires_grad_(False),
    "unfreeze": lambda m: m[4].requires_grad_(True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_changes_inside_the_block_is_followed(change):
    model, x = net(5, 5, 5, 5), torch.randn(6, 5)
    model[4].requires_grad_(change != "unfreeze")
    with cu.record(model) as recorder:
        train(model, x, recorder)
        CHANGES[change](model)
        expected = oracle(model, x)
        train(model, x, recorder)
    record = recorder.record
    measured = dict(zip(record.parameters, record.parameter_grad_rms[1].tolist(), strict=True))
    measured = {name: value for name, value in measured.items() if value == value}
    assert measured == pytest.approx(expected, rel=1e-5)
    ran = {n for n, v in zip(record.layers, record.output_rms[1], strict=True) if v == v}
    assert ran == {name for name, _ in model.named_children()}
    hidden = []
    for layer in model:
        x = layer(x)
        hidden.append(float(rms(x)))
    columns = [record.layers.index(name) for name, _ in model.named_children()]
    assert record.output_rms[1, columns].tolist() == pytest.approx(hidden, rel=1e-5)
    assert no_hooks(model)


@pytest.mark.parametrize("every", [1, 2])
def test_a_replaced_parameter_that_the_optimizer_lacks_has_a_gradient_and_no_update(every):
    model, x = net(5, 5, 5, 5), torch.randn(6, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with cu.record(model, optimizer=optimizer, every=every) as recorder:
        for step in range(4):
            if step == 1:
                model[2] = nn.Linear(5, 5)
            if step == 3:
                model.append(nn.Linear(5, 5))
                optimizer.add_param_group({"params": model[5].parameters()})
            model.zero_grad()
            model(x).square().mean().backward()
            held = {name: float(rms(p.grad)) for name, p in model.named_parameters()}
            optimizer.step()
            if step == 2:
                seen = recorder.latest()
                assert seen["update_ratio/2.weight"] == 0.0 < seen["update_ratio/0.weight"]
                total = sum(p.grad.square().sum() for p in model.parameters()).sqrt()
                assert seen["total_grad_norm"] == pytest.approx(float(total), rel=1e-5)
    record = recorder.record
    assert record.steps == tuple(range(0, 4, every))
    if every == 1:
        columns = dict(zip(record.parameters, record.parameter_grad_rms[3].tolist(), strict=True))
        assert columns == pytest.approx(held, rel=1e-5)
        moved = dict(zip(record.parameters, (record.update_ratio[3] > 0).tolist(), strict=True))
        assert moved["5.weight"] and not moved["2.weight"]
        assert record.parameter_grad_rms[0, record.parameters.index("5.weight")].isnan()


def test_a_copy_made_inside_the_block_carries_no_hook_and_the_model_keeps_its_own():
    model, x = net(5, 5, 5), torch.randn(6, 5)
    own = model[0].register_forward_hook(lambda *_: None)
    with cu.record(model) as recorder:
        train(model, x, recorder)
        average = torch.optim.swa_utils.AveragedModel(model)
        twin = copy.deepcopy({"ema": model})["ema"]
        assert list(twin[0]._forward_hooks) == [own.id] and not twin[2]._forward_hooks
        twin[0]._forward_hooks.clear()
        average.module[0]._forward_hooks.clear()
        assert no_hooks(twin) and no_hooks(average.module)
        train(model, x, recorder)
    assert len(recorder.record) == 2 and not recorder.record.grad_rms.isnan().any()
    own.remove()
    assert no_hooks(model)


def test_layers_that_run_only_in_some_steps_stand_in_the_order_of_the_model():
    class Drops(nn.Module):
        def __init__(self):
            super().__init__()
            self.l = nn.ModuleList(nn.Linear(3, 3) for _ in range(5))

        def forward(self, x, keep):
            for i in keep:
                x = self.l[i](x)
            return x

    model = Drops()
    for plan in ([(0, 2), (0, 1, 3)], [(4,), (2,), (0, 1)], [(1, 3), (0, 3, 4), (2, 4)]):
        with cu.record(model) as recorder:
            for keep in plan:
                model(torch.ones(2, 3), keep).sum().backward()
                recorder.step()
        ran = sorted({i for keep in plan for i in keep})
        assert recorder.record.layers == tuple(f"l.{i}" for i in ran)
    with cu.record(model) as recorder:  # an order that one step says beats that of the model
        for keep in ((3, 1), (2,)):
            model(torch.ones(2, 3), keep).sum().backward()
            recorder.step()
    assert recorder.record.layers == ("l.2", "l.3", "l.1")


# What hooks see badly


def test_ragged_batches_are_measured_over_their_rows():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    rows = [torch.randn(n, 3) for n in (2, 5, 1)]
    ragged = torch.nested.nested_tensor(rows, layout=torch.jagged)
    with cu.record(model) as recorder:
        model(ragged).values().square().sum().backward()
    measured = recorder.record
    assert no_hooks(model)
    model.zero_grad()
    with cu.record(model) as recorder:
        model(torch.cat(rows)).square().sum().backward()
    for name in ("output_rms", "grad_rms", "zero_fraction", "dead_fraction", "output_count"):
        torch.testing.assert_close(
            getattr(measured, name), getattr(recorder.record, name), equal_nan=True
        )


def test_a_layer_whose_forward_is_called_directly_is_named_and_an_unused_one_is_not():
    class Direct(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.unused = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
            self.attention = nn.MultiheadAttention(3, 1)
            self.scales = nn.ParameterList([torch.ones(3)])

        def forward(self, x):
            x = self.attention(x, x, x)[0]
            return self.b.forward(self.a(x)) * self.scales[0]

    model = Direct()
    with pytest.warns(RuntimeWarning, match="layers b never ran.*forward") as caught:
        with cu.record(model) as recorder:
            for _ in range(2):
                model(torch.ones(2, 3)).sum().backward()
                recorder.step()
    assert len(caught) == 1 and "b" not in recorder.record.layers


class Opaque(torch.Tensor):
    """A parameter that no operation can read, as quantized weights may be."""

    @staticmethod
    def __new__(cls, values):
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype)

    def __init__(self, values):
        self.values_inside = values

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return Opaque(args[0].values_inside)
        raise NotImplementedError(function)


def test_a_parameter_that_cannot_be_read_is_named_once_and_the_rest_is_measured():
    class Quantized(nn.Module):
        def __init__(self):
            super().__init__()
            self.packed = nn.Parameter(Opaque(torch.eye(3)), requires_grad=False)

        def forward(self, x):
            return x @ self.packed.values_inside

    model = nn.Sequential(nn.Linear(3, 3), Quantized(), nn.Linear(3, 1))
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    with pytest.warns(RuntimeWarning, match="1.packed.*Opaque") as caught:
        with cu.record(model, optimizer=optimizer) as recorder:
            for _ in range(2):
                optimizer.zero_grad()
                model(torch.ones(2, 3)).sum().backward()
                grads = [rms(p.grad) for p in trainable]
                optimizer.step()
    record = recorder.record
    assert len(caught) == 1
    column = record.parameters.index("1.packed")
    assert record.parameter_rms[:, column].isnan().all()
    others = [i for i in range(5) if i != column]
    close(record.parameter_grad_rms[1, others], grads)
    assert not record.update_ratio[:, others].isnan().any() and record.layers == ("0", "1", "2")


# Compiled models, and wrappers


@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_model_runs_eagerly_in_recorded_steps_only(in_place):
    torch._dynamo.reset()
    ran, now = [], [0]

    def backend(graph, inputs):
        def run(*args):
            ran.append(now[0])
            return graph(*args)

        return run

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = net(5, 5, 5)

        def forward(self, x):
            return self.layers(x)

    model, x = Net(), torch.randn(6, 5)
    if in_place:
        model.compile(backend=backend)
        compiled = model
    else:
        compiled = torch.compile(model, backend=backend)
    with pytest.warns(RuntimeWarning, match="compiled"), cu.record(compiled, every=3) as recorder:
        for step in range(7):
            now[0] = step
            compiled.zero_grad()
            compiled(x).square().mean().backward()
            held = [rms(p.grad) for p in model.parameters()]
            recorder.step()
    assert ran == [1, 2, 4, 5]
    record = recorder.record
    assert record.steps == (0, 3, 6) and record.layers == ("layers.0", "layers.1", "layers.2")
    assert not record.grad_rms.isnan().any()
    close(record.parameter_grad_rms[-1], held)
    now[0] = 9
    compiled(x)
    assert ran[-1] == 9 and no_hooks(model)
    torch._dynamo.reset()


class Holder(nn.Module):
    def __init__(self, name, inner):
        super().__init__()
        self.add_module(name, inner)

    def forward(self, x):
        return next(self.children())(x)


def test_names_are_those_of_the_model_without_its_wrappers():
    x = torch.randn(4, 5)
    wraps = {
        "module": nn.DataParallel,
        "fsdp": lambda m: Holder("_fsdp_wrapped_module", m),
        "fabric": lambda m: Holder("_forward_module", Holder("_orig_mod", m)),
    }
    plain = one_pass(lambda: net(5, 5, 2), lambda m, x: m(x).mean(), x)
    for wrap in wraps.values():
        model = wrap(net(5, 5, 2))
        with cu.record(model) as recorder:
            model(x).mean().backward()
        assert recorder.record == plain
    inner = nn.Sequential(nn.Linear(5, 5), Holder("_forward_module", nn.Linear(5, 2)))
    assert one_pass(lambda: inner, lambda m, x: m(x).mean(), x).layers == ("0", "1")
    own = Holder("module", nn.Linear(5, 2))  # a name of the user's, not a wrapper's
    assert one_pass(lambda: own, lambda m, x: m(x).mean(), x).layers == ("module",)
    for name in ("2", "module.2"):
        with cu.record(nn.DataParallel(net(5, 5, 2)), layers=[name]) as recorder:
            recorder.model(x)
        assert recorder.record.layers == ("2",)
    with cu.record(nn.DataParallel(net(5, 5, 2)), layers="all") as recorder:
        recorder.model(x)
    assert set(recorder.record.layers) == {"(model)", "0", "1", "2"}


def test_nothing_is_said_about_what_is_usual():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
        )
        with cu.record(encoder):
            encoder(torch.randn(2, 3, 8)).sum().backward()
        tied = nn.ModuleDict({"in": nn.Embedding(5, 4), "out": nn.Linear(4, 5, bias=False)})
        tied["out"].weight = tied["in"].weight
        with cu.record(tied):
            F.linear(tied["in"](torch.arange(3)), tied["out"].weight).sum().backward()


@pytest.mark.parametrize("optimizers", [1, 2])
def test_gradients_of_the_step_are_those_that_the_optimizer_gets(optimizers):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    parts = [net] if optimizers == 1 else [net[0], net[2]]
    steps = [torch.optim.SGD(part.parameters(), lr=0.1) for part in parts]
    held = {"backward": [], "step": []}
    for given, rows in held.items():
        with cu.record(net, optimizer=steps, gradients=given) as recorder:
            for _ in range(2):
                net.zero_grad()
                net(torch.ones(2, 4)).square().sum().backward()
                sizes = [p.grad.double().square().mean().sqrt().item() for p in net.parameters()]
                nn.utils.clip_grad_value_(net.parameters(), 1e-2)
                now = [p.grad.double().square().mean().sqrt().item() for p in net.parameters()]
                rows.append(sizes if given == "backward" else now)
                for optimizer in steps:
                    optimizer.step()
        measured = recorder.record.parameter_grad_rms
        torch.testing.assert_close(
            measured, torch.tensor(rows, dtype=torch.float64), rtol=1e-6, atol=0
        )
    with pytest.raises(ValueError, match="add optimizer="):
        cu.record(net, gradients="step")
    with pytest.raises(ValueError, match="gradients"):
        cu.record(net, optimizer=steps, gradients="later")
