"""For every unit test: the same examples on every run, no screen, and progress of its own."""

import matplotlib
import pytest
from hypothesis import settings

matplotlib.use("Agg")
settings.register_profile("course", derandomize=True, deadline=None, database=None)
settings.load_profile("course")


@pytest.fixture(autouse=True)
def _progress_of_this_test(tmp_path_factory, monkeypatch):
    """Each test starts with nothing solved, whatever ran before it."""
    folder = tmp_path_factory.mktemp("progress")
    monkeypatch.setenv("COURSE_PROGRESS", str(folder / "progress.json"))
