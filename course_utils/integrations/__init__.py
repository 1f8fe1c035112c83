"""Callbacks with which training stacks record their gradients, in three lines.

    from course_utils.integrations import LightningRecorder
    recorder = LightningRecorder(every=10)
    trainer = lightning.Trainer(callbacks=[recorder])

A stack is imported when its callback is asked for, and only then has to be installed.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lightning import LightningRecorder as LightningRecorder
    from .transformers import TransformersRecorder as TransformersRecorder

_PLACES = {"LightningRecorder": "lightning", "TransformersRecorder": "transformers"}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> type:
    """The callback of this name, whose stack is imported now.

    Raises:
        ImportError: If its stack is not installed.
        AttributeError: If there is no such callback.
    """
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    stack = _PLACES[name]
    try:
        module = importlib.import_module(f"{__name__}.{stack}")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{name} needs {stack}, which is not installed: run `pip install {stack}`, or use "
            "cu.record around your own loop."
        ) from error
    return getattr(module, name)
