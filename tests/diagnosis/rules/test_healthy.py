"""Networks that are healthy, real ones and while they train."""

import pytest
import torch
import torch.nn.functional as F
from patients import Written, data, diagnose, net
from torch import nn

import course_utils as cu


@pytest.mark.parametrize("skip", ["plain", "scaled", "rezero", "skipinit"])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_residual_networks_with_a_norm_are_healthy(skip, norm):
    assert diagnose(net(40, 128, skip=skip, norm=norm), data(64)).healthy


def digits():
    sklearn = pytest.importorskip("sklearn.datasets")
    raw = sklearn.load_digits()
    x = torch.tensor(raw.images, dtype=torch.float32) / 8 - 1
    return x, torch.tensor(raw.target)


@pytest.mark.parametrize("kind", ["cnn", "mlp", "residual", "lstm", "rnn", "transformer"])
def test_a_network_that_learns_stays_healthy(kind):
    x, y = digits()
    torch.manual_seed(0)
    g = cu.seeded(0)
    if kind == "cnn":
        body = [nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 24, 3, padding=1)]
        body += [nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(384, 10)]
        model, x = nn.Sequential(*body), x[:, None]
    elif kind == "mlp":
        model, x = cu.mlp(8, 96, inputs=64, generator=g), x.flatten(1)
    elif kind == "residual":
        model, x = cu.mlp(24, 48, inputs=64, norm="batch", skip="plain", generator=g), x.flatten(1)
    elif kind == "transformer":
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        body = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        model = nn.Sequential(nn.Linear(8, 32), body, nn.Flatten(), nn.Linear(256, 10))
    else:
        model = cu.recurrent(kind, 48, inputs=8, outputs=10, generator=g)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for step in range(81):
        chosen = torch.randint(0, len(x), (64,), generator=g)
        if step in (0, 1, 3, 10, 30, 80):
            found = diagnose(model, (x[chosen], y[chosen]), optimizer=optimizer)
            assert found.healthy, (step, str(found))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[chosen]), y[chosen])
        loss.backward()
        optimizer.step()
    assert loss.item() < 1.0


class Block(nn.Module):
    """The basic block of He et al. (2016)."""

    def __init__(self, fan_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity()
        if stride != 1 or fan_in != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(fan_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x):
        h = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


def resnet18(base=16):
    blocks, fan_in = [], base
    for stage in range(4):
        for i in range(2):
            width = base * 2**stage
            blocks.append(Block(fan_in, width, 2 if stage and not i else 1))
            fan_in = width
    stem = [nn.Conv2d(3, base, 3, 1, 1, bias=False), nn.BatchNorm2d(base), nn.ReLU(inplace=True)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, 10)]
    return nn.Sequential(*stem, *blocks, *head)


@pytest.mark.parametrize("init", ["torch_default", "he"])
def test_a_resnet_18_is_healthy(init):
    model = cu.initialize(resnet18(), init, generator=cu.seeded(0))
    x = torch.randn(8, 3, 32, 32, generator=cu.seeded(1))
    assert diagnose(model, (x, data(8)[1])).healthy


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # said when norm_first is True
def test_a_transformer_is_healthy(norm_first):
    torch.manual_seed(0)
    model = nn.Transformer(32, 4, 3, 3, 64, batch_first=True, norm_first=norm_first)
    source, target = torch.randn(4, 9, 32), torch.randn(4, 7, 32)
    found = diagnose(model, ((source, target), target), loss=F.mse_loss)
    assert found.healthy


def test_an_lstm_language_model_gets_a_sensible_answer():
    torch.manual_seed(0)
    model = Written(
        lambda self, tokens: self.head(self.lstm(self.embedding(tokens))[0]),
        embedding=nn.Embedding(40, 24),
        lstm=nn.LSTM(24, 24, 2, batch_first=True, dropout=0.2),
        head=nn.Linear(24, 40),
    )
    tokens = torch.randint(0, 40, (6, 33))
    found = diagnose(
        model,
        (tokens[:, :-1], tokens[:, 1:]),
        loss=lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten()),
    )
    assert found.healthy
    assert "lstm[0]" in found.record.layers
