"""Callbacks in the real stacks, beside a loop written out."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import course_utils as cu

STEPS = 6


def data():
    g = cu.seeded(0)
    return torch.randn(8 * STEPS, 4, generator=g), torch.randint(0, 3, (8 * STEPS,), generator=g)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def by_hand(accumulate=1):
    """The record of the same training in a loop of our own."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with cu.record(model, optimizer=optimizer) as recorder:
        for i, (x, y) in enumerate(DataLoader(TensorDataset(*data()), batch_size=8)):
            loss = F.cross_entropy(model(x), y)
            (loss / accumulate).backward()
            if (i + 1) % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
                recorder.step(loss=loss / accumulate)
    return recorder.record


@pytest.fixture
def quiet():
    """Stacks warn about what a test does on purpose: no loggers, no workers, a CPU."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning_records_what_a_loop_of_our_own_does(accumulate, tmp_path, quiet):
    lightning = pytest.importorskip("lightning", reason="needs the extra `stacks`")
    from course_utils.integrations import LightningRecorder

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net()

        def training_step(self, batch, index):
            x, y = batch
            return F.cross_entropy(self.net(x), y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callback = LightningRecorder()
    with pytest.raises(RuntimeError, match="training has not begun"):
        callback.record  # noqa: B018
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        accumulate_grad_batches=accumulate,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    module = Module()
    trainer.fit(module, DataLoader(TensorDataset(*data()), batch_size=8))
    ours, theirs = by_hand(accumulate), callback.record
    assert len(theirs) == STEPS // accumulate
    assert theirs.parameters == tuple(f"net.{name}" for name in ours.parameters)
    for name in ("parameter_rms", "parameter_grad_rms", "update_ratio", "losses", "lr"):
        np.testing.assert_allclose(
            getattr(theirs, name), getattr(ours, name), rtol=1e-5, err_msg=name
        )
    if accumulate == 1:
        np.testing.assert_allclose(theirs.grad_rms, ours.grad_rms, rtol=1e-5)
    assert not any(m._forward_hooks for m in module.modules())


def test_transformers_records_what_a_loop_of_our_own_does(tmp_path, quiet):
    transformers = pytest.importorskip("transformers", reason="needs the extra `stacks`")
    from course_utils.integrations import TransformersRecorder

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x, labels):
            logits = self.net(x)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    x, y = data()
    rows = [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)]
    model, callback = Model(), TransformersRecorder()
    arguments = transformers.TrainingArguments(
        output_dir=tmp_path,
        per_device_train_batch_size=8,
        num_train_epochs=1,
        max_grad_norm=0,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        train_sampling_strategy="sequential",
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = transformers.Trainer(
        model,
        arguments,
        train_dataset=rows,
        callbacks=[callback],
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)),
    )
    trainer.train()
    ours, theirs = by_hand(), callback.record
    assert len(theirs) == STEPS
    for name in ("parameter_rms", "parameter_grad_rms", "update_ratio", "lr"):
        np.testing.assert_allclose(
            getattr(theirs, name), getattr(ours, name), rtol=1e-5, err_msg=name
        )
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("name", "stack"),
    [("LightningRecorder", "lightning"), ("TransformersRecorder", "transformers")],
)
def test_a_stack_that_is_missing_is_named(name, stack, monkeypatch):
    from course_utils import integrations

    for module in (stack, "lightning.pytorch"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"course_utils.integrations.{stack}", raising=False)
    with pytest.raises(ImportError, match=f"pip install {stack}"):
        getattr(integrations, name)
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        integrations.Other  # noqa: B018
