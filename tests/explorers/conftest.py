"""The explorer of the chapter that a file of tests is named after, test_<chapter>.py."""

from importlib import import_module

import pytest

from course_utils import explorers


def chapter(request) -> str:
    return request.path.stem.removeprefix("test_")


@pytest.fixture(scope="module")
def made(request):
    return getattr(explorers, f"{chapter(request)}_explorer")()


@pytest.fixture
def explorer(made):
    """The explorer, every slider where it starts."""
    for (name, values), start in zip(made._packed.values.items(), made._packed.start, strict=True):
        setattr(made, name, values[start])
    return made


@pytest.fixture(scope="module")
def measured(request):
    """What the module of the chapter measures for its explorer."""
    return import_module(f"course_utils.explorers.{chapter(request)}").measure()
