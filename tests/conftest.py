"""For every unit test: the same examples on every run, and figures that need no screen."""

import matplotlib
from hypothesis import settings

matplotlib.use("Agg")
settings.register_profile("course", derandomize=True, deadline=None, database=None)
settings.load_profile("course")
