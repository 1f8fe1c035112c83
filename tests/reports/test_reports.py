"""Every situation that people reported gets an answer that they can act on.

One module here per kind; each of its functions rebuilds a situation as the person meets it. Looked
at: the kinds, the words that a person needs, what must not be said, that nothing has changed
afterwards, and, where the remedy is code, that it runs and does not harm training.
"""

import contextlib
import dataclasses
import importlib
import inspect
import io
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import course_utils as cu
from course_utils.diagnosis.batch import loss_of, split_batch
from course_utils.diagnosis.running import run

HERE = Path(__file__).parent
NOT_KINDS = ("situation", "test_reports")
FILES = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NOT_KINDS)


def situations(name: str) -> list[Callable]:
    """The functions of a module that build situations, in the order in which they stand."""
    module = importlib.import_module(f"reports.{name}")
    found = [
        function
        for _, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not inspect.signature(function).parameters
        and "Situation" in str(inspect.signature(function).return_annotation)
    ]
    return sorted(found, key=lambda function: function.__code__.co_firstlineno)


BUILDERS = [pytest.param(f, id=f"{name}.{f.__name__}") for name in FILES for f in situations(name)]


def asked(situation):
    """The diagnosis of a situation; what the model prints is its own matter."""
    with contextlib.redirect_stdout(io.StringIO()):
        return cu.diagnose(
            situation.model,
            situation.batch,
            loss=situation.loss,
            optimizer=situation.optimizer,
        )


def state(situation):
    """All that a diagnosis must leave alone."""
    model, optimizer = situation.model, situation.optimizer
    held = [p for group in optimizer.param_groups for p in group["params"]] if optimizer else []
    tensors = [*model.parameters(), *model.buffers(), *held]
    numbers = [t.detach().clone() for t in tensors if not isinstance(t, nn.UninitializedParameter)]
    others = (
        [id(t) for t in tensors],
        [(id(p.grad), p.requires_grad) for p in model.parameters()],
        [m.training for m in model.modules()],
        [
            len(value)
            for m in model.modules()
            for name, value in vars(m).items()
            if name.endswith("_hooks")
        ],
    )
    return [*numbers, torch.get_rng_state()], others


def missing(text: str, words: tuple[str, ...]) -> list[str]:
    """Words that a text does not hold; "a|b" is either."""
    low = text.lower().replace("−", "-")
    return [w for w in words if not any(v in low for v in w.lower().replace("−", "-").split("|"))]


def says(text: str, word: str) -> bool:
    """Whether a text holds a word that it must not; "nan" only in small letters."""
    flags = re.NOFLAG if word == "nan" else re.IGNORECASE
    return bool(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, flags))


def check_text(diagnosis: cu.Diagnosis) -> None:
    """What no report may be: one that contradicts itself, or that nobody can read."""
    text = str(diagnosis)
    assert not says(text.replace("torch.nan", ""), "nan"), text
    assert diagnosis.healthy <= (not diagnosis.undecided), text
    code = {line.strip() for f in diagnosis.findings for line in f.remedy.splitlines()}
    assert all(len(s) <= 100 or s.strip() in code for s in text.splitlines()), text
    causes = [finding.cause for finding in diagnosis.findings]
    assert len(set(causes)) == len(causes), text
    diagnosis.to_dict(), diagnosis._repr_html_()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", BUILDERS)
def test_a_person_gets_an_answer_to_act_on(build):
    torch.manual_seed(0)
    situation = build()
    numbers, others = state(situation)
    if situation.raises:
        with pytest.raises(situation.raises) as caught:
            asked(situation)
        text = outside = "\n".join([str(caught.value), *caught.value.__notes__])
        remedies = ""
    else:
        found = asked(situation)
        assert found.kinds in situation.accepted(), found
        check_text(found)
        text, outside = str(found), str(found)
        remedies = "\n".join(finding.remedy for finding in found.findings)
        for line in filter(str.strip, remedies.splitlines()):
            outside = outside.replace(line, "")
    assert not missing(" ".join(outside.split()), situation.words), text
    assert not missing(remedies, situation.remedy), text
    assert not [word for word in situation.forbidden if says(text, word)], text
    after, others_after = state(situation)
    assert all(
        torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(numbers, after, strict=True)
    )
    assert others == others_after


def trained(model, optimizer, situation, steps=30):
    """The loss of every step on the batch of a situation."""
    batch = split_batch(model, situation.batch, situation.loss)
    formats = {p.dtype for p in model.parameters()}
    if formats == {torch.float32}:  # where the remedy leaves 16 bits
        args = tuple(
            a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in batch.args
        )
        batch = dataclasses.replace(batch, args=args)
    torch.manual_seed(0)
    losses = []
    model.train()
    for _ in range(steps):
        if optimizer:
            optimizer.zero_grad()
        loss = loss_of(run(model, batch), batch, situation.loss)
        losses.append(float(loss.detach()))
        if loss.requires_grad and optimizer:
            loss.backward()
            optimizer.step()
    return losses


def of_parameters(model):
    """An optimizer for who brought none."""
    parameters = list(model.parameters())
    return torch.optim.Adam(parameters, lr=3e-3) if parameters else None


def mended(build, finding):
    """Model and optimizer after the remedy has been run as it is printed."""
    torch.manual_seed(0)
    situation = build()
    asked(situation)  # it has run, so lazy parts are there
    model, optimizer = situation.model, situation.optimizer
    scope = {"model": model, "optimizer": optimizer, "nn": nn, "torch": torch, "F": F}
    exec(finding.remedy, scope)
    if optimizer is None:
        return scope["model"], of_parameters(scope["model"])
    if scope["model"] is not model:
        return scope["model"], type(optimizer)(scope["model"].parameters(), **optimizer.defaults)
    return model, scope["optimizer"]


def has_code(build):
    """A situation whose first finding has a remedy that runs, with that finding."""
    torch.manual_seed(0)
    situation = build()
    if situation.raises or situation.is_healthy:
        return None
    finding = asked(situation).findings[0]
    return finding if finding.remedy_runs else None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_remedy_that_is_code_runs_and_trains_and_helps_where_losses_compare(name):
    helped, harmed, tried = [], [], 0
    for build in situations(name):
        finding = has_code(build)
        if finding is None:
            continue
        tried += 1
        after = trained(*mended(build, finding), build())
        if not math.isfinite(after[-1]) or after[-1] > after[0] + 0.05 * abs(after[0]):
            harmed.append((build.__name__, after[0], after[-1]))
        torch.manual_seed(0)
        sick = build()
        try:
            before = trained(sick.model, sick.optimizer or of_parameters(sick.model), sick)
        except (RuntimeError, ValueError):  # it cannot be trained as it is
            before = [math.inf]
        if not after[-1] > before[-1] - 0.02 * abs(before[-1]):
            helped.append(build.__name__)
    assert not harmed
    assert 2 * len(helped) >= tried - 1
