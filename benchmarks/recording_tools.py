"""Published tools that watch training, each as a few lines around a step, by its documented API.

They are no dependencies of the course: an arm whose package is missing says so and is left out.
These install beside torch 2.13 on Python 3.11 (in an environment of their own):

    pip install lightning wandb tensorboard delve torchlens backpack-for-pytorch \\
        transformers cockpit-for-pytorch "setuptools<81"

`setuptools<81` is for cockpit, which imports pkg_resources. A torchvision that is not built for
the torch at hand breaks the import of lightning: uninstall it. MosaicML Composer does not install
beside torch 2.13 (its build fails), so its OptimizerMonitor has no arm here.

Whatever a tool writes goes to a temporary folder.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


@dataclass
class Work:
    """A model with a batch, and the training step that all arms share.

    Attributes:
        model: In training mode.
        optimizer: Over its parameters.
        x: Inputs.
        y: Class numbers.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    x: Tensor
    y: Tensor

    def step(self) -> None:
        """One bare training step."""
        self.optimizer.zero_grad()
        cross_entropy(self.model(self.x), self.y).backward()
        self.optimizer.step()


@contextlib.contextmanager
def lightning_grad_norm(work: Work) -> Iterator[Callable[[], None]]:
    """Lightning: the norm of each parameter's gradient, for `self.log_dict`."""
    from lightning.pytorch.utilities import grad_norm

    def step() -> None:
        work.step()
        grad_norm(work.model, norm_type=2)

    yield step


@contextlib.contextmanager
def debug_underflow_overflow(work: Work) -> Iterator[Callable[[], None]]:
    """Hugging Face: least and largest magnitude of every input, weight and output."""
    from transformers.debug_utils import DebugUnderflowOverflow

    DebugUnderflowOverflow(work.model)
    yield work.step


@contextlib.contextmanager
def delve(work: Work) -> Iterator[Callable[[], None]]:
    """delve: the covariance of every layer's output, and its saturation at the end."""
    from delve import SaturationTracker

    with tempfile.TemporaryDirectory() as folder:
        tracker = SaturationTracker(
            os.path.join(folder, "run"), save_to="csv", modules=work.model, device="cpu"
        )
        yield work.step
        with contextlib.redirect_stdout(io.StringIO()):
            tracker.add_saturations()
        tracker.close()


@contextlib.contextmanager
def wandb_watch(work: Work) -> Iterator[Callable[[], None]]:
    """Weights & Biases: histograms of parameters and gradients, offline."""
    import wandb

    with tempfile.TemporaryDirectory() as folder:
        settings = wandb.Settings(silent=True, console="off")
        run = wandb.init(mode="offline", dir=folder, settings=settings)
        run.watch(work.model, log="all", log_freq=1)

        def step() -> None:
            work.step()
            run.log({})

        try:
            yield step
        finally:
            run.unwatch(work.model)
            run.finish()


@contextlib.contextmanager
def tensorboard(work: Work) -> Iterator[Callable[[], None]]:
    """TensorBoard: histograms of parameters and gradients."""
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory() as folder, SummaryWriter(folder) as writer:
        count = 0

        def step() -> None:
            nonlocal count
            work.step()
            for name, parameter in work.model.named_parameters():
                writer.add_histogram(name, parameter, count)
                writer.add_histogram(f"{name}.grad", parameter.grad, count)
            count += 1

        yield step


@contextlib.contextmanager
def torchlens(work: Work) -> Iterator[Callable[[], None]]:
    """TorchLens: a trace of the forward pass with all activations, beside the step."""
    import torchlens as lens

    capture = lens.options.CaptureOptions(unwrap_when_done=True)

    def step() -> None:
        work.step()
        lens.trace(work.model, work.x, capture=capture)

    yield step


@contextlib.contextmanager
def backpack_batch_grad(work: Work) -> Iterator[Callable[[], None]]:
    """BackPACK: the gradient of every parameter for every sample."""
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    model, loss_function = extend(work.model), extend(nn.CrossEntropyLoss())

    def step() -> None:
        work.optimizer.zero_grad()
        loss = loss_function(model(work.x), work.y)
        with backpack(BatchGrad()):
            loss.backward()
        work.optimizer.step()

    yield step


def cockpit(level: str) -> Callable[[Work], contextlib.AbstractContextManager]:
    """Cockpit: its quantities of one level, "economy", "business" or "full"."""

    @contextlib.contextmanager
    def arm(work: Work) -> Iterator[Callable[[], None]]:
        from backpack import extend
        from cockpit import Cockpit
        from cockpit.utils.configuration import configuration

        model, loss_function = extend(work.model), extend(nn.CrossEntropyLoss())
        each = extend(nn.CrossEntropyLoss(reduction="none"))
        watcher = Cockpit(model.parameters(), quantities=configuration(level))
        count = 0

        def step() -> None:
            nonlocal count
            work.optimizer.zero_grad()
            output = model(work.x)
            loss, losses = loss_function(output, work.y), each(output, work.y)
            info = {
                "batch_size": len(work.x),
                "individual_losses": losses,
                "loss": loss,
                "optimizer": work.optimizer,
            }
            with watcher(count, info=info):
                loss.backward(create_graph=watcher.create_graph(count))
            work.optimizer.step()
            count += 1

        yield step

    return arm


TOOLS = {
    "Lightning grad_norm": lightning_grad_norm,
    "HF DebugUnderflowOverflow": debug_underflow_overflow,
    "delve": delve,
    'wandb.watch(log="all", log_freq=1)': wandb_watch,
    "TensorBoard histograms": tensorboard,
    "TorchLens": torchlens,
    "BackPACK BatchGrad": backpack_batch_grad,
    "cockpit economy": cockpit("economy"),
    "cockpit full": cockpit("full"),
}
"""The arms, from cheap to dear. A missing package raises ImportError on entry."""
