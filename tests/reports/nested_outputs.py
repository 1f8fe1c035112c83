"""Outputs in tuples, dicts and dataclasses; batches in dicts and objects; models that return their loss (A10, delivery 4)."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, mlp, seed
from torch import Tensor, nn

TWICE, FLAT = {"double_softmax"}, {"constant_output"}
Pair = namedtuple("Pair", ["logits", "hidden"])


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None


class Wrapped(nn.Module):
    """A net whose output is put into something."""

    def __init__(self, wrap, net=None, soft=True, flat=False):
        super().__init__()
        self.net = net or mlp(8, 24, 5)
        self.wrap, self.soft = wrap, soft
        if flat:  # a norm over one number gives 0 for every input
            self.net = nn.Sequential(
                nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 1), nn.LayerNorm(1), nn.Linear(1, 5)
            )

    def forward(self, x):
        o = self.net(x)
        return self.wrap(o.softmax(1) if self.soft else o)


def twice(name, wrap, unwrap, source="outside.md A10") -> Situation:
    seed(0)
    return Situation(
        f"double softmax in {name}",
        Wrapped(wrap),
        blobs(50, 8, 5),
        lambda o, y: F.cross_entropy(unwrap(o), y),
        kinds=TWICE,
        words=("softmax",),
        source=source,
    )


def twice_in_a_dict() -> Situation:
    return twice("a dict", lambda o: {"logits": o}, lambda o: o["logits"])


def twice_in_a_tuple() -> Situation:
    return twice("a tuple (o, o.argmax)", lambda o: (o, o.argmax(-1)), lambda o: o[0])


def twice_in_a_dataclass() -> Situation:
    return twice("a dataclass", lambda o: Output(o), lambda o: o.logits)


def twice_in_a_named_tuple() -> Situation:
    return twice("a named tuple", lambda o: Pair(o, o * 2), lambda o: o.logits)


def twice_in_an_ordered_dict() -> Situation:
    # the form of torchvision's segmentation models: {"out": …}
    return twice('an OrderedDict with "out"', lambda o: OrderedDict(out=o), lambda o: o["out"])


def twice_in_a_namespace() -> Situation:
    return twice(
        "an object with attributes", lambda o: SimpleNamespace(logits=o), lambda o: o.logits
    )


def flat(name, wrap, unwrap) -> Situation:
    seed(1)
    return Situation(
        f"constant output in {name}",
        Wrapped(wrap, soft=False, flat=True),
        blobs(50, 8, 5),
        lambda o, y: F.cross_entropy(unwrap(o), y),
        kinds=(FLAT, {"constant_output", "zero_gradient"}, {"zero_gradient"}),
        words=("norm",),
        source="outside.md A10",
        why="LayerNorm over one number is 0 whatever the input",
    )


def flat_bare() -> Situation:
    return flat("a bare tensor", lambda o: o, lambda o: o)


def flat_in_a_dict() -> Situation:
    return flat("a dict", lambda o: {"logits": o}, lambda o: o["logits"])


def flat_in_a_tuple() -> Situation:
    return flat("a tuple (o, o.argmax)", lambda o: (o, o.argmax(-1)), lambda o: o[0])


def flat_in_a_dataclass() -> Situation:
    return flat("a dataclass", lambda o: Output(o), lambda o: o.logits)


class ReturnsLoss(nn.Module):
    """Computes its loss in forward."""

    def __init__(self, form, soft=False):
        super().__init__()
        self.net, self.form, self.soft = mlp(8, 24, 5), form, soft

    def forward(self, x, labels=None):
        o = self.net(x)
        loss = F.cross_entropy(o.softmax(1) if self.soft else o, labels)
        return self.form(loss, o)


def twice_inside_a_model_with_its_loss() -> Situation:
    # bkitano/llama-from-scratch#5: the model returns (logits, loss), with a softmax before cross_entropy
    seed(2)
    x, y = blobs(50, 8, 5)
    return Situation(
        "(logits, loss), softmax before cross_entropy inside",
        ReturnsLoss(lambda loss, o: (o, loss), soft=True),
        {"x": x, "labels": y},
        None,
        kinds=TWICE,
        words=("softmax",),
        source="bkitano/llama-from-scratch#5",
    )


def twice_inside_a_dataclass_with_its_loss() -> Situation:
    seed(3)
    x, y = blobs(50, 8, 5)
    return Situation(
        "output.loss, softmax before cross_entropy inside",
        ReturnsLoss(lambda loss, o: Output(o, loss), soft=True),
        {"x": x, "labels": y},
        None,
        kinds=TWICE,
        words=("softmax",),
        source="outside.md A10",
    )


def flat_beside_its_loss() -> Situation:
    seed(1)
    x, y = blobs(50, 8, 5)
    model = ReturnsLoss(lambda loss, o: (loss, o))
    model.net = nn.Sequential(
        nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 1), nn.LayerNorm(1), nn.Linear(1, 5)
    )
    return Situation(
        "constant output in (loss, logits)",
        model,
        {"x": x, "labels": y},
        None,
        kinds=(FLAT, {"constant_output", "zero_gradient"}, {"zero_gradient"}),
        words=("norm",),
        source="outside.md A10",
    )


def dead_under_a_dict() -> Situation:
    seed(4)
    net = mlp(8, 24, 24, 5)
    nn.init.constant_(net[2].bias, -20.0)
    return Situation(
        "a dead layer below a dict output",
        Wrapped(lambda o: {"logits": o, "features": o * 1.0}, net, soft=False),
        blobs(50, 8, 5),
        lambda o, y: F.cross_entropy(o["logits"], y),
        kinds={"dead"},
        words=("2",),
        source="outside.md A10",
    )


def dead_under_the_loss_in_a_tuple() -> Situation:
    seed(5)
    x, y = blobs(50, 8, 5)
    model = ReturnsLoss(lambda loss, o: (loss, o))
    model.net = mlp(8, 24, 24, 5)
    nn.init.constant_(model.net[2].bias, -20.0)
    return Situation(
        "(loss, logits) over a dead layer",
        model,
        {"x": x, "labels": y},
        None,
        kinds={"dead"},
        source="outside.md A10",
    )


# ---------------------------------------------------------------- healthy forms


def healthy(name, wrap, unwrap) -> Situation:
    seed(6)
    return Situation(
        f"healthy in {name}",
        Wrapped(wrap, soft=False),
        blobs(50, 8, 5),
        lambda o, y: F.cross_entropy(unwrap(o), y),
        source="twin of outside.md A10",
    )


def healthy_in_a_dict() -> Situation:
    return healthy(
        "a dict with None and a string",
        lambda o: {"logits": o, "cache": None, "name": "net"},
        lambda o: o["logits"],
    )


def healthy_in_a_tuple() -> Situation:
    return healthy("a tuple (o, o.argmax)", lambda o: (o, o.argmax(-1)), lambda o: o[0])


def healthy_in_a_list_of_heads() -> Situation:
    return healthy("a list of outputs of one trunk", lambda o: [o, o * 0.5], lambda o: o[0] + o[1])


def healthy_with_probabilities_beside() -> Situation:
    return healthy(
        "a dict with probabilities beside the logits",
        lambda o: {"logits": o, "probabilities": o.softmax(1)},
        lambda o: o["logits"],
    )


def model_that_returns_its_loss() -> Situation:
    seed(7)
    x, y = blobs(50, 8, 5)
    return Situation(
        "(loss, logits), batch in a dict",
        ReturnsLoss(lambda loss, o: (loss, o)),
        {"x": x, "labels": y},
        None,
        source="outside.md A10",
    )


def model_with_an_output_object() -> Situation:
    seed(8)
    x, y = blobs(50, 8, 5)
    return Situation(
        "output.loss",
        ReturnsLoss(lambda loss, o: Output(o, loss)),
        {"x": x, "labels": y},
        None,
        source="outside.md A10",
    )


def model_with_a_dict_of_losses() -> Situation:
    # the form of torchvision's detectors: a dict of losses
    seed(9)

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.cls, self.box = nn.Linear(8, 24), nn.Linear(24, 5), nn.Linear(24, 4)

        def forward(self, x, targets):
            h = torch.relu(self.trunk(x))
            return {
                "loss_cls": F.cross_entropy(self.cls(h), targets["labels"]),
                "loss_box": F.l1_loss(self.box(h), targets["boxes"]),
            }

    x, y = blobs(50, 8, 5)
    return Situation(
        "a dict of losses, summed by the loss function",
        Detector(),
        ((x, {"labels": y, "boxes": torch.randn(50, 4)}),),
        lambda losses: sum(losses.values()),
        source="outside.md, delivery 4 (dict of losses)",
    )


class Graph:
    """The form of a PyG batch."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


def graph_object() -> Situation:
    seed(10)

    class GCN(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Linear(8, 24), nn.Linear(24, 3)

        def forward(self, data):
            s, t = data.edge_index
            a = torch.zeros(len(data.x), len(data.x)).index_put((t, s), torch.ones(len(s)))
            a = a + torch.eye(len(data.x))
            a = a / a.sum(1, keepdim=True)
            return self.conv2(a @ torch.relu(self.conv1(a @ data.x)))

    data = Graph(
        x=torch.randn(40, 8),
        edge_index=torch.randint(0, 40, (2, 120)),
        y=torch.randint(0, 3, (40,)),
    )
    return Situation(
        "batch is an object with x, edge_index and y",
        GCN(),
        data,
        lambda o, y: F.cross_entropy(o, y),
        source="issue 13, delivery 4 (PyG)",
    )


def graph_object_loss_reads_it() -> Situation:
    situation = graph_object()
    data = situation.batch
    situation.loss = lambda o: F.cross_entropy(o, data.y)
    situation.name = "the same, the loss takes the output alone"
    return situation


def nested_inputs() -> Situation:
    seed(11)

    class TwoTowers(nn.Module):
        def __init__(self):
            super().__init__()
            self.user, self.item = nn.Linear(6, 16), nn.Linear(4, 16)

        def forward(self, features):
            return (self.user(features["user"]) * self.item(features["item"]["vector"])).sum(1)

    batch = (
        {"features": {"user": torch.randn(32, 6), "item": {"vector": torch.randn(32, 4)}}},
        torch.rand(32).round(),
    )
    return Situation(
        "nested dict of features as one argument",
        TwoTowers(),
        batch,
        F.binary_cross_entropy_with_logits,
        kinds=QUIET,
        source="issue 13, delivery 4 (nested batch)",
    )


class Lit(nn.Module):
    """The form of a LightningModule."""

    def __init__(self, soft=False):
        super().__init__()
        self.net, self.soft, self.logged = mlp(8, 24, 5), soft, []

    def forward(self, x):
        return self.net(x)

    def log(self, name, value):
        self.logged.append((name, value))

    def training_step(self, batch, batch_idx):
        x, y = batch
        o = self(x)
        return {"loss": F.cross_entropy(o.softmax(1) if self.soft else o, y), "logits": o.detach()}


def lightning_module() -> Situation:
    seed(12)
    return Situation(
        "training_step, loss=None",
        Lit(),
        blobs(50, 8, 5),
        None,
        source="issue 13, delivery 4 (LightningModule)",
    )


def lightning_module_with_two_softmaxes() -> Situation:
    seed(13)
    return Situation(
        "training_step with a double softmax",
        Lit(soft=True),
        blobs(50, 8, 5),
        None,
        kinds=TWICE,
        words=("softmax",),
        source="issue 13, delivery 4 (LightningModule)",
    )


def data_parallel() -> Situation:
    seed(14)
    return Situation(
        "nn.DataParallel around the model",
        nn.DataParallel(mlp(8, 24, 5)),
        blobs(50, 8, 5),
        F.cross_entropy,
        source="issue 13, delivery 4 (wrapper)",
    )


def data_parallel_double_softmax() -> Situation:
    seed(15)
    return Situation(
        "nn.DataParallel, softmax → cross_entropy",
        nn.DataParallel(mlp(8, 24, 5, tail=(nn.Softmax(1),))),
        blobs(50, 8, 5),
        F.cross_entropy,
        kinds=TWICE,
        words=("softmax",),
        source="issue 13, delivery 4 (wrapper)",
    )


def sequence_model_with_states() -> Situation:
    seed(16)

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(6, 16, batch_first=True), nn.Linear(16, 4)

        def forward(self, x):
            h, (hn, cn) = self.rnn(x)
            return self.out(h), (hn, cn)

    return Situation(
        "(logits, (h, c))",
        Tagger(),
        (torch.randn(32, 6, 6), torch.randint(0, 4, (32, 6))),
        lambda o, y: F.cross_entropy(o[0].flatten(0, 1), y.flatten()),
        source="outside.md A10 (states)",
    )


def deep_supervision() -> Situation:
    seed(17)

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(8 if i == 0 else 24, 24) for i in range(3)])
            self.heads = nn.ModuleList([nn.Linear(24, 5) for _ in range(3)])

        def forward(self, x):
            outs = []
            for block, head in zip(self.blocks, self.heads, strict=True):
                x = torch.relu(block(x))
                outs.append(head(x))
            return outs

    return Situation(
        "a list of outputs, a loss on each",
        Deep(),
        blobs(50, 8, 5),
        lambda o, y: sum(F.cross_entropy(h, y) for h in o),
        source="twin: deep supervision",
    )


def distributed_data_parallel() -> Situation:
    seed(18)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(
            "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
        )
    model = nn.parallel.DistributedDataParallel(mlp(8, 24, 5))
    return Situation(
        "DistributedDataParallel, one process",
        model,
        blobs(50, 8, 5),
        F.cross_entropy,
        source="issue 13, delivery 4 (DDP)",
    )


def distributed_data_parallel_double_softmax() -> Situation:
    situation = distributed_data_parallel()
    situation.model = nn.parallel.DistributedDataParallel(mlp(8, 24, 5, tail=(nn.Softmax(1),)))
    situation.name, situation.kinds, situation.words = (
        "DistributedDataParallel, softmax → cross_entropy",
        TWICE,
        ("softmax",),
    )
    return situation


# ---------------------------------------------------------------- errors of the model's own


def wrong_shape() -> Situation:
    seed(30)
    return Situation(
        "a layer that does not fit: its own error, fails outside too",
        nn.Sequential(nn.Linear(8, 24), nn.Linear(16, 3)),
        blobs(32, 8, 3),
        F.cross_entropy,
        raises=RuntimeError,
        words=("outside|without|too|also|as well",),
        source="issue 13, delivery 4 (its own error)",
    )


def label_out_of_range() -> Situation:
    seed(31)
    x, _ = blobs(32, 8, 3)
    return Situation(
        "label 3 of 3 classes",
        mlp(8, 24, 3),
        (x, torch.full((32,), 3)),
        F.cross_entropy,
        raises=Exception,
        words=("out of bounds|out of range|target",),
        source="issue 13, delivery 4 (its own error)",
    )


def model_that_counts_its_calls() -> Situation:
    seed(32)

    class Once(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(8, 24, 3)

        def forward(self, x):
            if any(h for m in self.modules() for h in (m._forward_hooks, m._forward_pre_hooks)):
                raise RuntimeError("this model runs without hooks only")
            return self.net(x)

    return Situation(
        "a model that fails under hooks alone: the note must say so",
        Once(),
        blobs(32, 8, 3),
        F.cross_entropy,
        raises=RuntimeError,
        forbidden=("The same call outside diagnose() raises it too",),
        source="issue 13, delivery 4 (a note that tells the truth)",
    )
