"""Axes for a test of a picture; what was drawn before is closed before each test."""

import matplotlib.pyplot as plt
import pytest


@pytest.fixture
def ax():
    return plt.subplots()[1]
