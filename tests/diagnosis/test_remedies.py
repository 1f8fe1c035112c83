"""Remedies as code: they run as they stand, and heal."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from patients import Written, data, diagnose, functional, heal, images, net, the
from torch import nn

from course_utils.diagnosis import remedies


def test_running_names_become_a_comprehension_that_gives_them_back():
    names = [f"blocks.{i}.conv2" for i in range(3, 30, 3)]
    code = remedies.listed(names)
    assert "range" in code and eval(code) == names
    odd = ["a", "b2", "c.3.d"]
    assert eval(remedies.listed(odd)) == odd


@pytest.mark.parametrize("activation", ["gelu", "silu", "tanh", "leaky_relu", "elu", "selu"])
def test_the_remedy_heals_other_activations_too(activation):
    model = net(40, 256, activation=activation, init="torch_default")
    assert diagnose(heal(model, data(), "vanishing", seed=1)).healthy


@pytest.mark.parametrize("depth", [7, 11])
def test_a_sigmoid_that_makes_the_output_stays_where_the_others_are_replaced(depth):
    layers = [m for _ in range(depth) for m in (nn.Linear(64, 64), nn.Sigmoid())]
    model = nn.Sequential(nn.Sequential(*layers), nn.Linear(64, 1), nn.Sigmoid())
    batch = data()[0], (data()[1][:, None] > 4).float()
    healed = heal(model, batch, "vanishing", F.binary_cross_entropy)
    assert isinstance(healed[-1], nn.Sigmoid)
    assert not any(isinstance(m, nn.Sigmoid) for m in healed[0])
    assert diagnose(healed, batch, F.binary_cross_entropy).healthy


def test_every_head_keeps_the_sigmoid_that_makes_its_output():
    def loss(outputs, target):
        return sum(F.binary_cross_entropy(output, target) for output in outputs)

    layers = [m for _ in range(9) for m in (nn.Linear(64, 64), nn.Sigmoid())]
    heads = nn.ModuleList(
        nn.Sequential(nn.Linear(64, 8), nn.Sigmoid(), nn.Linear(8, 1), nn.Sigmoid())
        for _ in range(2)
    )
    model = Written(
        lambda self, x: [head(self.body(x)) for head in self.heads],
        body=nn.Sequential(*layers),
        heads=heads,
    )
    batch = data()[0], (data()[1][:, None] > 4).float()
    healed = heal(model, batch, "vanishing", loss)
    assert all(isinstance(head[3], nn.Sigmoid) for head in healed.heads)
    assert not any(isinstance(m, nn.Sigmoid) for m in [*healed.body, healed.heads[0][1]])
    assert diagnose(healed, batch, loss).healthy


def test_a_sigmoid_module_that_is_used_inside_and_at_the_output_is_no_module_to_replace():
    model = functional(nn.Sigmoid(), 9)
    found = the(diagnose(model, (data()[0], torch.rand(32, 64)), F.mse_loss), "vanishing")
    assert "in model.forward, between the layers: F.relu" in found.remedy
    assert "setattr" not in found.remedy


@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU])
def test_the_norm_in_front_of_a_gelu_fits_layers_of_any_width(activation):
    widths = [64, 200, 150, 150, 90, 90, 70, 50, 50, 40, 30, 30, 20, 10]
    layers = [m for n in itertools.pairwise(widths) for m in (nn.Linear(*n), activation())]
    model = nn.Sequential(*layers[:-1])
    assert diagnose(heal(model, data(), "vanishing")).healthy


def test_the_norm_in_front_of_a_gelu_takes_channels_and_pixels_of_a_convolution():
    layers = [
        m for k in range(14) for m in (nn.Conv2d(24 if k else 1, 24, 3, padding=1), nn.GELU())
    ]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))
    assert diagnose(heal(model, images(), "vanishing"), images()).healthy


def block(width=16):
    linear, norm = nn.Linear(width, width), nn.BatchNorm1d(width)
    return Written(lambda self, x: F.relu(self.norm(self.linear(x))), linear=linear, norm=norm)


def in_a_list():
    def forward(self, x):
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return self.leave(x)

    enter, leave = nn.Linear(64, 16), nn.Linear(16, 10)
    blocks = nn.ModuleList(block() for _ in range(50))
    return Written(forward, enter=enter, leave=leave, blocks=blocks)


def in_an_attribute():
    layers = [m for _ in range(50) for m in (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())]
    features, head = nn.Sequential(*layers), nn.Linear(64, 10)
    return Written(lambda self, x: self.head(self.features(x)), features=features, head=head)


def nested():
    parts = [nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU()) for _ in range(50)]
    return nn.Sequential(nn.Linear(64, 16), *parts, nn.Linear(16, 10))


@pytest.mark.parametrize("build", [in_a_list, in_an_attribute, nested])
def test_skips_are_put_around_blocks_wherever_the_model_keeps_them(build):
    torch.manual_seed(0)
    model, batch = build(), data(128)
    before = sum(p.numel() for p in model.parameters())
    healed = heal(model, batch, "exploding")
    assert sum(p.numel() for p in healed.parameters()) == before
    assert diagnose(healed, batch).healthy


def test_blocks_that_change_the_shape_get_no_skip():
    def strided(**options):
        conv, norm = nn.Conv2d(4, 4, 3, **options), nn.BatchNorm2d(4)
        return Written(lambda self, x: F.relu(self.norm(self.conv(x))), conv=conv, norm=norm)

    for options in ({"stride": 2, "padding": 1}, {"padding": 0}):
        model = nn.Sequential(*(strided(**options) for _ in range(3)))
        assert "[i] = Residual" not in remedies.add_skips(model)
    model = nn.Sequential(*(strided(padding=1) for _ in range(3)))
    assert "for i in range(0, 3):\n    model[i] = Residual(model[i])" in remedies.add_skips(model)


def test_new_weights_go_to_no_layer_that_is_frozen():
    backbone = nn.Sequential(nn.Linear(64, 24), nn.ReLU()).requires_grad_(False)
    head = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 10))
    nn.init.constant_(head[0].bias, -20.0)
    model = nn.Sequential(backbone, head)
    learned = backbone[0].weight.clone()
    healed = heal(model, data(), "dead")
    assert torch.equal(healed[0][0].weight, learned)
    assert not healed[1][0].bias.any() and diagnose(healed).healthy
