"""Exercises of notebook 12, "Run a gradient clinic"."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..arguments import integer, number, real
from ..diagnosis import KINDS
from .base import NotAttempted, WrongAnswer, call, exercise, expect_close, parts, valid

M = TypeVar("M", bound=nn.Module)


@exercise(
    "What slope × weights predicts for the factor of the gradient's RMS.",
    minutes=10,
    difficulty=1,
    hints=(
        "Two factors: one from the slopes alone, one from the weights alone.",
        "rms is the root of the mean of the squares, over all samples and units.",
        "√(np.sum(W**2) / W.shape[1]) is the second one: fan_in is the number of columns.",
    ),
    reason="A vector of independent entries e comes out of Wᵀ(φ′ ⊙ e) with the mean square "
    "mean(φ′²)·‖W‖_F²/fan_in, and the factor of the RMS is the root of that.",
)
def layer_factor(W, slopes):
    """The product rms φ′ × ‖W‖_F/√fan_in."""
    return np.sqrt(np.mean(slopes**2)) * np.sqrt(np.sum(W**2) / W.shape[1])


@layer_factor.judge
def _(answer: object) -> None:
    rng = np.random.default_rng(0)
    for n_out, n_in, B, scale in ((3, 3, 4, 1.0), (8, 2, 5, 0.1), (2, 8, 5, 3.0), (50, 20, 1, 1.0)):
        W = scale * rng.normal(size=(n_out, n_in)) + 0.2
        slopes = rng.uniform(0, 1, size=(B, n_out))
        # The oracle adds up, entry by entry, the mean square of Wᵀ(φ′ ⊙ e) over all unit vectors,
        # with the slopes averaged first, since equation 2 treats them as independent.
        mean_square = sum(float(s) ** 2 for row in slopes for s in row) / slopes.size
        total = sum(float(w) ** 2 for row in W for w in row) * mean_square / n_in
        result, expected = call(answer, W, slopes), math.sqrt(total)
        given = f"W of shape {W.shape} and slopes of shape {slopes.shape}"
        expect_close(result, expected, given, hint=_why_not(result, expected, W, slopes))


def _why_not(result: Any, right: float, W: np.ndarray, slopes: np.ndarray) -> str:
    """What a wrong factor looks like: which of the usual slips gives this number?"""
    n_out, n_in = W.shape
    rms = math.sqrt(np.mean(slopes**2))
    slips = [
        (right**2, "That is the square of it: a factor of the RMS is a root."),
        (right * math.sqrt(n_in / n_out), "Is it divided by fan_out? fan_in is the number of "
         "columns of W."),
        (right * slopes.mean() / rms, "You took the mean of the slopes; equation 2 has their root "
         "mean square."),
        (right * np.linalg.norm(W, 2) / np.linalg.norm(W), "You took the operator norm of W; ‖W‖_F "
         "is the root of the sum of all squared weights."),
        (rms * W.std() * math.sqrt(n_out), "np.std subtracts the mean of the weights first; ‖W‖_F "
         "does not."),
    ]  # fmt: skip
    given = real(result)
    if given is None:
        return "One number is asked for."
    for value, said in slips:
        if math.isclose(given, value, rel_tol=1e-6) and not math.isclose(value, right):
            return said
    return "Two factors: the RMS of the slopes, and ‖W‖_F/√fan_in, of the weights alone."


@exercise(
    "A verdict on a gradient by its slope over the depth, without a unit.",
    minutes=10,
    difficulty=2,
    hints=(
        "np.polyfit(layers, np.log(sizes), 1)[0] is the slope per layer.",
        "Over the depth there are L − 1 steps. Compare the total with np.log(100).",
        "Sizes that fall toward layer 1 have a positive slope over l: that is vanishing.",
    ),
    reason="A factor in front of the loss moves ln(size) of all layers by the same amount and "
    "leaves the slope of the line as it is, so no unit is left in the verdict.",
)
def verdict(sizes):
    """vanishing, exploding or healthy, by the least-squares slope of ln(size) over the layers."""
    layers = np.arange(len(sizes))
    slope = np.polyfit(layers, np.log(sizes), 1)[0]
    change = -slope * (len(sizes) - 1)  # ln(layer 1 / layer L) along the line
    if abs(change) <= np.log(100):
        return "healthy"
    return "exploding" if change > 0 else "vanishing"


@layer_factor.inputs
def _(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    n_out, n_in, samples = rng.integers(1, 9, size=3)
    W = rng.uniform(0.1, 3) * rng.normal(size=(n_out, n_in)) + rng.normal()
    return W, rng.uniform(-0.2, 1.1, size=(samples, n_out))


@verdict.judge
def _(answer: object) -> None:
    rng = np.random.default_rng(0)
    noise = np.exp(0.3 * rng.normal(size=40))
    lone = np.ones(12)
    lone[0] = 1e-4  # one small layer at the end is no slope
    forty = np.arange(39, -1, -1)  # steps that the gradient has gone back from layer 40
    twelve, three = forty[-12:], forty[-3:]
    slope = (
        "Take the slope of ln(size) over l by least squares, times L − 1 steps, and compare it "
        "with ln 100."
    )
    line = "No single layer may decide: lay a line through all of them."
    steps = "From layer L to layer 1 there are L − 1 steps."
    drawn = [_around_a_line(rng, total) for total in (52.0, 75.0, 95.0, 106.0, 140.0, 380.0)]
    for given, sizes, expected, hint in (
        ("12 layers, ×0.5 per layer", 0.5**twelve, "vanishing", slope),
        ("12 layers, ×2 per layer", 2.0**twelve, "exploding", slope),
        ("12 layers, ×0.7 per layer", 0.7**twelve, "healthy", slope),
        ("the same, times 1e-12", 1e-12 * 0.7**twelve, "healthy", slope),
        ("12 layers, ×0.5 per layer, times 1e12", 1e12 * 0.5**twelve, "vanishing", slope),
        ("40 layers, ×0.85 per layer, noisy", noise * 0.85**forty, "vanishing", slope),
        ("40 layers, ×1.05 per layer, noisy", noise * 1.05**forty, "healthy", slope),
        ("40 layers, ×1.2 per layer, noisy", noise * 1.2**forty, "exploding", slope),
        ("12 level layers but for the first, 1e-4", lone, "healthy", line),
        ("3 layers, ×0.2 per layer", 0.2**three, "healthy", steps),
        ("3 layers, ×0.05 per layer", 0.05**three, "vanishing", steps),
        *((*case, slope) for pair in drawn for case in pair),
    ):
        result = call(answer, sizes)
        if not isinstance(result, str) or result not in ("vanishing", "exploding", "healthy"):
            raise WrongAnswer(
                f"You returned {result!r}: one of the texts 'vanishing', 'exploding' and 'healthy' "
                "is asked for."
            )
        if {result, expected} == {"vanishing", "exploding"}:
            hint = (
                "On its way back the gradient runs from layer L to layer 1: which of the two is it "
                "if layer 1 gets less?"
            )
        if result != expected:
            raise WrongAnswer(f"For {given} you returned {result!r}; expected {expected!r}. {hint}")


@verdict.inputs
def _(rng: np.random.Generator) -> tuple[np.ndarray]:
    total = float(np.exp(rng.uniform(np.log(20), np.log(500))))
    return (_around_a_line(rng, total)[int(rng.integers(2))][1],)


def _around_a_line(rng: np.random.Generator, total: float) -> list[tuple[str, np.ndarray, str]]:
    """Two sets of sizes whose line changes by ×`total` from layer L to 1, and by its inverse."""
    depth = int(rng.integers(5, 41))
    layers = np.arange(depth) - (depth - 1) / 2
    noise = 0.5 * rng.normal(size=depth)
    noise -= layers * (layers @ noise) / (layers @ layers)  # which leaves the line where it is
    found = []
    for sign, ill in ((1, "exploding"), (-1, "vanishing")):
        line = -sign * math.log(total) / (depth - 1) * layers
        sizes = np.exp(line + noise + rng.normal(scale=10))
        text = f"{depth} noisy layers whose line changes by ×{total**sign:.3g} from layer L to 1"
        found.append((text, sizes, ill if total > 100 else "healthy"))
    return found


@exercise(
    "Depth, width and std of a ReLU network that explodes while its weight gradients are alike.",
    minutes=10,
    difficulty=2,
    hints=(
        "‖∂L/∂W_l‖ = ‖δ_l‖·‖h_(l−1)‖: it is level if the signal grows as fast on its way forward "
        "as the gradient does on its way back.",
        "For ReLU both factors are std·√(width/2) per layer. Which std makes it 3?",
        "Depth counts too: the factor to the power of the number of layers must exceed 10⁶. A "
        "wide network has less scatter.",
    ),
    reason="Both factors are std·√(width/2) = 3 per layer: the gradient grows on its way back as "
    "the signal does on its way forward, and their product, the weight gradient, is level.",
    value=(20, 200, 0.3),
)
def fool_the_gauge(answer: object) -> None:
    """How much ∂L/∂h grows, and how far the weight gradients spread."""
    depth, width, std = parts(answer, "depth", "width", "std")
    few = "With fewer than 5 layers there is nothing to compare."
    depth = valid(integer, "depth", depth, 5, 30, hint=few)
    width, std = valid(integer, "width", width, 2, 256), valid(number, "std", std, above=0)
    outputs, weights = _gauges(depth, width, std)
    growth = float(outputs[0] / outputs[-1])
    spread = float(max(weights) / min(weights)) if min(weights) > 0 else math.inf
    if not growth > 1e6:
        raise WrongAnswer(
            f"With depth={depth}, width={width}, std={std:g} ∂L/∂h changes by ×{growth:.3g} from "
            "the last hidden layer to the first; growth by more than ×1e6 is asked for."
        )
    if not spread <= 3:  # NaN too
        raise WrongAnswer(
            f"With depth={depth}, width={width}, std={std:g} ∂L/∂h grows by ×{growth:.3g}, but the "
            f"weight gradients differ by ×{spread:.3g}: no more than ×3 is asked for."
        )


def _gauges(depth: int, width: int, std: float) -> tuple[list[float], list[float]]:
    """RMS of ∂L/∂h_l and of ∂L/∂W_l over the square layers of a random ReLU network, float64."""
    generator = torch.Generator().manual_seed(0)

    def draw(rows: int) -> torch.Tensor:
        return torch.randn(rows, width, generator=generator, dtype=torch.float64)

    h, target = draw(64), draw(64)
    weights = [(draw(width) * std).requires_grad_() for _ in range(depth - 1)]
    states = []
    for weight in weights:
        h = torch.relu(h @ weight.T)
        states.append(h)
    found = torch.autograd.grad((h * target).sum(), [*states, *weights])
    sizes = [float(part.square().mean().sqrt()) for part in found]
    return sizes[: depth - 1], sizes[depth:]  # W_1 reads the input


_ILLNESSES = {"A": "not_connected", "B": "double_softmax", "C": "healthy", "D": "dead"}


@exercise(
    "What do the four patients have?",
    minutes=10,
    difficulty=2,
    hints=(
        "model, batch, loss = cu.exercises.clinic.patients()['A'], then cu.diagnose.",
        "diagnosis.kinds is the set of what was found; print(diagnosis) says why.",
        "A tiny loss is no illness.",
    ),
    reason="A: .detach() cuts the branch off. B: the model ends with a sigmoid and the loss takes "
    "another. C: only a small factor in front of the loss. D: biases of −30 silence a layer.",
    value=_ILLNESSES,
)
def unknown_patients(answer: object) -> None:
    """The kind that each patient has."""
    if not isinstance(answer, dict):
        raise WrongAnswer(f"A dict name → kind is expected; you gave a {type(answer).__name__}.")
    if any(value is ... for value in answer.values()):
        raise NotAttempted
    if set(answer) != set(_ILLNESSES):
        raise WrongAnswer(
            f"The names are {', '.join(_ILLNESSES)}; you gave {', '.join(map(str, answer))}."
        )
    for name, kind in answer.items():
        said = {kind} if isinstance(kind, str) else kind
        if not isinstance(said, set | frozenset | list | tuple):
            raise WrongAnswer(f"{name}: a kind is a text such as 'vanishing'; you gave {kind!r}.")
        for one in said:
            if one not in KINDS:
                raise WrongAnswer(f"{name}: {one!r} is no kind. The kinds: {', '.join(KINDS)}.")
        if set(said) != {_ILLNESSES[name]}:
            shown = ", ".join(sorted(map(repr, said)))
            raise WrongAnswer(
                f"{name}: {shown} is not what it has. Run cu.diagnose on model, batch and loss, "
                "and read the evidence."
            )


@exercise(
    "Weights and biases with which a gradient passes 30 layers of ReLU or tanh.",
    minutes=15,
    difficulty=3,
    hints=(
        "rms φ′ is √½ for ReLU whatever the scale; for tanh it is 1 at small signals.",
        "So σ_w² = 2 for ReLU and σ_w² = 1 for tanh, divided by fan_in. Biases at 0.",
        "nn.init.kaiming_normal_(layer.weight, nonlinearity='relu'), or 'linear' for tanh.",
    ),
    reason="rms φ′ × σ_w is 1 in both: √½·√2 for ReLU, and nearly 1·1 for tanh, whose signals "
    "stay small. Biases of 0 leave the signs of z, and with them the slopes, balanced.",
)
def treat_network(model):
    """Weights of variance 2/fan_in for ReLU and 1/fan_in for tanh, and no biases."""
    relu = any(isinstance(module, nn.ReLU) for module in model)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if relu else "linear")
            nn.init.zeros_(module.bias)
    return model


_CASES = (
    ("ReLU", 30, "PyTorch's default", (3 * 128) ** -0.5),
    ("ReLU", 40, "standard deviation 1", 1.0),
    ("Tanh", 30, "standard deviation 0.01", 0.01),
    ("Tanh", 40, "three times Xavier's", 3 * 128**-0.5),
)
_MOST = 12


@treat_network.judge
def _(answer: object) -> None:
    for seed, (name, depth, start, std) in enumerate(_CASES):
        model = _sick(name, depth, std, seed)
        shapes = [p.shape for p in model.parameters()]
        kinds = [type(module) for module in model]
        where = f"{depth} layers of {name}, weights: {start}"
        treated = call(answer, model)
        if not isinstance(treated, nn.Sequential):
            raise WrongAnswer(
                f"For {where} you returned a {type(treated).__name__}: return the model."
            )
        now = [p.shape for p in treated.parameters()]
        if [type(module) for module in treated] != kinds or now != shapes:
            raise WrongAnswer(f"For {where}: layers or sizes have changed. Change numbers only.")
        twins = _twins(treated)
        if twins:
            raise WrongAnswer(
                f"For {where}: {twins} have the same weights. They compute the same, get the same "
                "gradient, and stay one unit for good (notebook 05). Draw weights that differ."
            )
        change, signal = _passage(treated, seed)
        if not 0 < change < math.inf or not 1e-3 < signal < 1e3:
            raise WrongAnswer(
                f"For {where}: rms of the last hidden layer {signal:.2g}, gradient first over last "
                f"layer {change:.2g}. Nothing passes: are the weights all alike, or 0?"
            )
        if not 1 / _MOST < change < _MOST:
            raise WrongAnswer(
                f"For {where} the gradient is multiplied by {change:.2g} from the last layer to "
                f"the first; between 1/{_MOST} and {_MOST} is asked for. Which σ_w makes rms φ′ × "
                "σ_w = 1? And do the biases help?"
            )


def _twins(model: nn.Sequential) -> str:
    """The first two units of a layer with equal weights, in words; all weights 0 is not meant."""
    for index, layer in enumerate(model):
        if isinstance(layer, nn.Linear) and layer.weight.any():
            rows = torch.cat([layer.weight.detach(), layer.bias.detach()[:, None]], 1)
            _, group, size = rows.unique(dim=0, return_inverse=True, return_counts=True)
            shared = (size[group] > 1).nonzero().flatten().tolist()
            if shared:
                first, *others = [i for i in shared if group[i] == group[shared[0]]]
                return f"units {first} and {others[0]} of layer {index}"
    return ""


def _sick(name: str, depth: int, std: float, seed: int) -> nn.Sequential:
    """A network of width 128 in a sorry state, from its own generator."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        for _ in range(depth - 1):
            layers += [nn.Linear(128, 128), getattr(nn, name)()]
        model = nn.Sequential(*layers, nn.Linear(128, 10))
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight.data = std * torch.randn(layer.weight.shape, generator=generator)
            layer.bias.data = 2 * torch.randn(layer.bias.shape, generator=generator)
    return model


def _passage(model: nn.Sequential, seed: int) -> tuple[float, float]:
    """Gradient at the input of layer 2 over that at the last layer, and rms of its input."""
    generator = torch.Generator().manual_seed(100 + seed)
    h = torch.randn(64, 128, generator=generator, dtype=torch.float64)
    inputs: list[torch.Tensor] = []
    for module in model:
        if isinstance(module, nn.Linear):
            inputs.append(h if inputs else h.requires_grad_())
            weight, bias = module.weight.detach().double(), module.bias.detach().double()
            h = h @ weight.T + bias
        else:
            h = module(h)
    delta = torch.randn(h.shape, generator=generator, dtype=torch.float64)
    first, last = torch.autograd.grad((h * delta).sum(), [inputs[1], inputs[-1]])
    size = float(last.norm())
    signal = float(inputs[-1].detach().square().mean().sqrt())
    return float(first.norm()) / size if size else 0.0, signal


class _Forked(nn.Module):
    """A network with a second branch that no gradient reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        self.branch = nn.Linear(20, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x) + self.branch(x).detach())


@torch.random.fork_rng(devices=[])  # torch.nn draws weights that are replaced at once
def patients() -> dict[str, tuple[nn.Module, tuple[torch.Tensor, torch.Tensor], Callable]]:
    """Four patients of exercise 14.4: name → (model, batch, loss), the same at every call."""
    generator = torch.Generator().manual_seed(12)

    def drawn(model: M) -> M:
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                fan_in = layer.in_features
                weight = torch.randn(layer.weight.shape, generator=generator) * (2 / fan_in) ** 0.5
                layer.weight.data, layer.bias.data = weight, torch.zeros_like(layer.bias)
        return model

    x = torch.randn(32, 20, generator=generator)
    y = torch.arange(32) % 5
    silent = drawn(_dense(6, nn.ReLU))
    nn.init.constant_(silent.get_parameter("4.bias"), -30.0)
    certain = drawn(nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid()))
    tiny = drawn(_dense(12, nn.ReLU))
    return {
        "A": (drawn(_Forked()), (x, y), F.cross_entropy),
        "B": (certain, (x, (y > 2).float()[:, None]), F.binary_cross_entropy_with_logits),
        "C": (tiny, (x, y), _small_loss),
        "D": (silent, (x, y), F.cross_entropy),
    }


def _small_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The cross-entropy with a small weight, as one task of many may have."""
    return 1e-9 * F.cross_entropy(output, target)


def _dense(depth: int, activation: type[nn.Module], width: int = 32) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(20, width), activation()]
    for _ in range(depth - 2):
        layers += [nn.Linear(width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 5))


@exercise(
    "The names of the parameters that should train and that the optimizer does not hold.",
    minutes=10,
    difficulty=2,
    hints=(
        "optimizer.param_groups is a list of dicts; the tensors stand under the key 'params'.",
        "A parameter is held if the optimizer has this very tensor, not an equal one: compare "
        "id(parameter), or use `is`.",
        "[name for name, p in model.named_parameters() if p.requires_grad and id(p) not in held]",
    ),
    reason="A step moves the tensors that stand in param_groups and no others; a tensor with equal "
    "numbers is another tensor, so identity decides.",
)
def left_behind(model, optimizer):
    """Trainable, and in no group: compared by identity, for an equal tensor is another one."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in held]


@left_behind.judge
def _(answer: object) -> None:
    for given, model, optimizer, expected, hint in _held():
        before = [p.requires_grad for p in model.parameters()]
        result = call(answer, model, optimizer)
        if not isinstance(result, list | tuple) or not all(isinstance(n, str) for n in result):
            raise WrongAnswer(
                f"You returned {_brief(result)}: a list of names such as '0.weight' is asked for."
            )
        if [p.requires_grad for p in model.parameters()] != before:
            raise WrongAnswer("You have frozen or unfrozen parameters: look, and change nothing.")
        if list(result) != expected:
            raise WrongAnswer(
                f"For {given} you returned {_brief(list(result))}; expected {_brief(expected)}. "
                f"{hint}"
            )


@left_behind.inputs
def _(rng: np.random.Generator) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = _named(int(rng.integers(1000)))
    names = [name for name, _ in model.named_parameters()]
    taken = list(rng.permutation(names)[: rng.integers(1, len(names) + 1)])
    cut = int(rng.integers(0, len(taken)))
    groups = [
        {"params": [model.get_parameter(name) for name in group]}
        for group in (taken[:cut], taken[cut:])
        if group
    ]
    for parameter in model.parameters():
        parameter.requires_grad_(bool(rng.random() < 0.7))
    return model, torch.optim.SGD(groups, lr=0.1)


def _brief(result: object) -> str:
    """What was returned, on a line or two."""
    text = repr(result)
    return text if len(text) <= 200 else text[:200] + " …"


def _held() -> Iterator[tuple[str, nn.Module, torch.optim.Optimizer, list[str], str]]:
    """Models, each with an optimizer, the names that it does not hold, and a hint."""
    sgd = torch.optim.SGD
    whole = _named(0)
    yield "an optimizer of all parameters", whole, sgd(whole.parameters(), lr=0.1), [], "All held."
    late = _named(1)
    early = sgd(late.parameters(), lr=0.1)
    late[2] = copy.deepcopy(late[2])  # equal numbers, another tensor
    yield (
        "a head that was replaced by its copy after the optimizer was made",
        late,
        early,
        ["2.weight", "2.bias"],
        "Equal numbers are not the same tensor: a step moves the old head.",
    )
    groups = _named(2)
    parts = [{"params": groups[i].parameters(), "lr": 0.1 / (1 + i)} for i in (0, 4)]
    yield (
        "an optimizer with two groups, layers 0 and 4",
        groups,
        sgd(parts, lr=0.1),
        ["2.weight", "2.bias"],
        "optimizer.param_groups may hold several groups; all of them count.",
    )
    frozen = _named(3)
    frozen[0].requires_grad_(False)
    yield (
        "a frozen layer 0, and an optimizer of the weight of layer 4",
        frozen,
        sgd([frozen.get_parameter("4.weight")], lr=0.1),
        ["2.weight", "2.bias", "4.bias"],
        "What is frozen should not train, so nobody misses it; biases count too.",
    )
    other = _named(4)
    yield (
        "the optimizer of another network of the same shapes and numbers",
        other,
        sgd(_named(4).parameters(), lr=0.1),
        [name for name, _ in other.named_parameters()],
        "It holds as many tensors as the model has, but not one of them is the model's.",
    )
    unfrozen = _named(5)
    unfrozen[0].requires_grad_(False)
    made = sgd([p for p in unfrozen.parameters() if p.requires_grad], lr=0.1)
    unfrozen[0].requires_grad_(True)
    yield (
        "layer 0, unfrozen after the optimizer was made",
        unfrozen,
        made,
        ["0.weight", "0.bias"],
        "A layer that was frozen when the optimizer was made is not in it.",
    )


def _named(seed: int) -> nn.Sequential:
    """Three layers, 0, 2 and 4, of one shape: shapes tell nothing apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)]
    return nn.Sequential(*layers)
