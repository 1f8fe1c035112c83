"""Layers and tensors that take part and that parameters() does not list."""

import torch
import torch.nn.functional as F
from reports.situation import QUIET, Situation, blobs, line, mlp, seed
from torch import nn

KIND = {"not_registered"}


class AllInAList(nn.Module):
    def __init__(self, wrap=list):
        super().__init__()
        self.layers = wrap([nn.Linear(4, 4), nn.Linear(4, 4)])

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


def every_layer_in_a_list() -> Situation:
    # pytorch/pytorch#59925: list(net.parameters()) is empty
    seed(0)
    return Situation(
        "all layers in a list",
        AllInAList(),
        line(16, 4),
        lambda o, y: F.mse_loss(o[:, :1], y),
        kinds=KIND,
        words=("layers",),
        remedy=("ModuleList",),
        forbidden=("frozen",),
        source="pytorch/pytorch#59925",
    )


def every_layer_in_a_tuple() -> Situation:
    seed(0)
    return Situation(
        "all layers in a tuple",
        AllInAList(tuple),
        line(16, 4),
        lambda o, y: F.mse_loss(o[:, :1], y),
        kinds=KIND,
        words=("layers",),
        remedy=("ModuleList",),
        forbidden=("frozen",),
        source="outside.md A5",
    )


class Mixed(nn.Module):
    def __init__(self, wrap=list, depth=3):
        super().__init__()
        self.layer = nn.Linear(4, 8)
        self.list_of_layers = wrap([nn.Linear(8, 8) for _ in range(depth)])
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.layer(x))
        for layer in self.list_of_layers:
            x = torch.relu(layer(x))
        return self.out(x)


def hidden_layers_in_a_list() -> Situation:
    # pytorch/pytorch#666: "nn.Module does not look for parameters inside lists"
    seed(1)
    return Situation(
        "hidden layers in a list",
        Mixed(),
        blobs(32, 4, 3),
        F.cross_entropy,
        kinds=KIND,
        words=("list_of_layers",),
        remedy=("ModuleList",),
        source="pytorch/pytorch#666",
    )


def hidden_layers_in_nested_lists() -> Situation:
    # pytorch/pytorch#715: self.hids holds lists of [Linear, activation]
    seed(2)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.hids = [[nn.Linear(4, 4), nn.Tanh()] for _ in range(2)]
            self.classifier = nn.Linear(4, 3)

        def forward(self, x):
            for linear, act in self.hids:
                x = act(linear(x))
            return self.classifier(x)

    return Situation(
        "lists of [linear, activation]",
        Net(),
        blobs(32, 4, 3),
        F.cross_entropy,
        kinds=KIND,
        words=("hids",),
        source="pytorch/pytorch#715",
    )


def convolutions_in_a_list() -> Situation:
    # pytorch/pytorch#1053: three Conv1d in a list stay on the CPU and do not train
    seed(3)

    class TextCNN(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1d = [nn.Conv1d(8, 4, k) for k in (3, 4, 5)]
            self.embed, self.out = nn.Embedding(50, 8), nn.Linear(12, 2)

        def forward(self, i):
            e = self.embed(i).transpose(1, 2)
            return self.out(torch.cat([c(e).relu().amax(2) for c in self.conv1d], 1))

    return Situation(
        "text CNN, its convolutions in a list",
        TextCNN(),
        (torch.randint(0, 50, (16, 12)), torch.randint(0, 2, (16,))),
        F.cross_entropy,
        kinds=KIND,
        words=("conv1d",),
        source="pytorch/pytorch#1053",
    )


def raw_tensor() -> Situation:
    seed(4)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.randn(4, 4, requires_grad=True)
            self.out = nn.Linear(4, 1)

        def forward(self, x):
            return self.out(torch.tanh(x @ self.w))

    return Situation(
        "a tensor with requires_grad as weight",
        Net(),
        line(16, 4),
        F.mse_loss,
        kinds=KIND,
        words=("w",),
        remedy=("nn.Parameter",),
        source="outside.md A5",
    )


def only_a_raw_tensor() -> Situation:
    seed(5)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.randn(4, 1, requires_grad=True)

        def forward(self, x):
            return x @ self.w

    return Situation(
        "the only weight is a tensor",
        Net(),
        line(16, 4),
        F.mse_loss,
        kinds=KIND,
        words=("w",),
        remedy=("nn.Parameter",),
        forbidden=("frozen",),
        source="outside.md A5",
    )


def no_parameter_at_all() -> Situation:
    seed(6)
    x, y = line(16, 1)
    return Situation(
        "a model without any parameter",
        nn.Sequential(nn.Tanh(), nn.Flatten()),
        (x, y),
        F.mse_loss,
        kinds=(KIND, {"not_connected"}),
        words=("no parameter|no trainable parameter|without a parameter",),
        forbidden=("frozen",),
        source="outside.md A5",
    )


def scaled_parameter_is_no_parameter() -> Situation:
    seed(7)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pos = nn.Parameter(torch.randn(1, 6, 8)) * 0.02
            self.layer, self.out = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.out(torch.relu(self.layer(x + self.pos)).mean(1))

    return Situation(
        "nn.Parameter(...) * 0.02 is a plain tensor",
        Net(),
        (torch.randn(16, 6, 8), torch.randint(0, 3, (16,))),
        F.cross_entropy,
        kinds=KIND,
        words=("pos",),
        source="outside.md A5 (a leaf behind an operation)",
    )


def layers_made_in_forward() -> Situation:
    # wangyida/softpool#11: Conv2d made in forward: not in the checkpoint, never trained
    seed(8)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp, self.out = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x):
            mixing = nn.Linear(8, 8)
            return self.out(torch.relu(mixing(torch.relu(self.inp(x)))))

    return Situation(
        "a layer made inside forward",
        Net(),
        blobs(32, 4, 3),
        F.cross_entropy,
        kinds=KIND,
        words=("forward|__init__",),
        source="wangyida/softpool#11",
    )


def heads_in_a_dict() -> Situation:
    seed(9)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Linear(4, 8)
            self.heads = {"size": nn.Linear(8, 1), "color": nn.Linear(8, 3)}

        def forward(self, x):
            h = torch.relu(self.trunk(x))
            return self.heads["size"](h), self.heads["color"](h)

    x, c = blobs(32, 4, 3)
    return Situation(
        "heads in a dict",
        Net(),
        (x, (x[:, :1], c)),
        lambda o, t: F.mse_loss(o[0], t[0]) + F.cross_entropy(o[1], t[1]),
        kinds=KIND,
        words=("heads",),
        remedy=("ModuleDict",),
        source="outside.md A5",
    )


def list_inside_a_submodule() -> Situation:
    # asyml/texar-pytorch#72: MergeLayer kept its layers in a python list
    seed(10)

    class Merge(nn.Module):
        def __init__(self):
            super().__init__()
            self._layers = [nn.Linear(4, 8), nn.Linear(4, 8)]

        def forward(self, x):
            return torch.cat([layer(x) for layer in self._layers], 1)

    model = nn.Sequential(Merge(), nn.ReLU(), nn.Linear(16, 3))
    return Situation(
        "a merge layer with a list inside",
        model,
        blobs(32, 4, 3),
        F.cross_entropy,
        kinds=KIND,
        words=("_layers",),
        source="asyml/texar-pytorch#72",
    )


def layers_in_a_plain_object() -> Situation:
    seed(11)

    class Encoder:
        def __init__(self):
            self.layer = nn.Linear(4, 8)

        def __call__(self, x):
            return torch.relu(self.layer(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.out = Encoder(), nn.Linear(8, 3)

        def forward(self, x):
            return self.out(self.encoder(x))

    return Situation(
        "an encoder that is no nn.Module",
        Net(),
        blobs(32, 4, 3),
        F.cross_entropy,
        kinds=KIND,
        source="outside.md A5 (a plain object)",
    )


def parameters_in_a_list() -> Situation:
    seed(12)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = [nn.Parameter(torch.randn(8, 8) / 8**0.5) for _ in range(2)]
            self.inp, self.out = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x):
            x = self.inp(x)
            for w in self.weights:
                x = torch.tanh(x @ w)
            return self.out(x)

    return Situation(
        "parameters in a list",
        Net(),
        blobs(32, 4, 3),
        F.cross_entropy,
        kinds=KIND,
        words=("weights",),
        remedy=("ParameterList",),
        source="kefirski/pytorch_Highway#1",
    )


# ---------------------------------------------------------------- healthy


def module_list() -> Situation:
    seed(20)
    return Situation(
        "nn.ModuleList",
        Mixed(nn.ModuleList),
        blobs(32, 4, 3),
        F.cross_entropy,
        source="twin of pytorch/pytorch#666",
    )


def list_beside_a_registration() -> Situation:
    seed(21)

    class Net(Mixed):
        def __init__(self):
            super().__init__()
            for i, layer in enumerate(self.list_of_layers):
                self.add_module(f"hidden{i}", layer)

    return Situation(
        "a list whose layers are registered too",
        Net(),
        blobs(32, 4, 3),
        F.cross_entropy,
        source="twin of pytorch/pytorch#715 (add_module)",
    )


def teacher_hidden_in_a_list() -> Situation:
    seed(22)

    class Student(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(4, 16, 3)
            self._teacher = [mlp(4, 16, 3)]  # kept out of the state dict on purpose

        def forward(self, x):
            with torch.no_grad():
                target = self._teacher[0](x).softmax(1)
            return F.kl_div(self.net(x).log_softmax(1), target, reduction="batchmean")

    return Situation(
        "teacher kept in a list on purpose",
        Student(),
        torch.randn(32, 4),
        None,
        source="twin: hidden teacher",
    )


def the_batch_is_a_leaf() -> Situation:
    seed(23)
    x, y = blobs(32, 4, 3)
    return Situation(
        "adversarial training: the batch requires a gradient",
        mlp(4, 16, 3),
        (x.requires_grad_(), y),
        F.cross_entropy,
        source="twin: leaves that come with the batch",
    )


def mask_as_plain_attribute() -> Situation:
    seed(24)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.mask = torch.tril(torch.ones(6, 6)) / torch.arange(1, 7)[:, None]
            self.inp, self.out = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.out(torch.relu(self.mask @ self.inp(x)))

    return Situation(
        "a constant as plain attribute",
        Net(),
        (torch.randn(16, 6, 4), torch.randint(0, 3, (16, 6))),
        lambda o, y: F.cross_entropy(o.transpose(1, 2), y),
        source="twin: constants",
    )


def hypernetwork() -> Situation:
    seed(25)

    class Hyper(nn.Module):
        def __init__(self):
            super().__init__()
            self.code, self.make = nn.Parameter(torch.randn(6)), nn.Linear(6, 12)

        def forward(self, x):
            return x @ self.make(self.code).view(4, 3)

    return Situation(
        "weights made by a network",
        Hyper(),
        blobs(32, 4, 3),
        F.cross_entropy,
        source="twin: hypernetwork",
    )


def weight_norm_parametrized() -> Situation:
    seed(26)
    model = mlp(4, 16, 3)
    torch.nn.utils.parametrizations.weight_norm(model[0])
    return Situation(
        "weight norm", model, blobs(32, 4, 3), F.cross_entropy, source="twin: parametrization"
    )


def loss_with_its_own_weights() -> Situation:
    # pytorch/vision#802: the loss is a module with weights, and the optimizer gets both
    seed(27)
    model, proxy = mlp(4, 16, 8), nn.Linear(8, 3, bias=False)

    def loss(o, y):
        return F.cross_entropy(10 * F.normalize(o, dim=1) @ F.normalize(proxy.weight, dim=1).T, y)

    optimizer = torch.optim.SGD([*model.parameters(), *proxy.parameters()], lr=0.01)
    return Situation(
        "a loss with weights that the optimizer holds",
        model,
        blobs(32, 4, 3),
        loss,
        optimizer,
        source="pytorch/vision#802",
    )


def loss_with_its_own_weights_no_optimizer() -> Situation:
    seed(27)
    situation = loss_with_its_own_weights()
    situation.optimizer, situation.kinds = None, (*QUIET, KIND)
    situation.name = "a loss with weights of its own; nobody says who trains them"
    situation.why = "weights in the loss are no fault of the model: a note at most"
    return situation
