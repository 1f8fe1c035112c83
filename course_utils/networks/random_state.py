"""The random state in which networks are built and measured."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def random_state_kept() -> Iterator[None]:
    """What is drawn inside from the global random state leaves it as it was.

    >>> before = torch.random.get_rng_state()
    >>> with random_state_kept():
    ...     layer = torch.nn.Linear(3, 3)
    >>> bool((torch.random.get_rng_state() == before).all())
    True
    """
    with torch.random.fork_rng(devices=[]):
        yield
