"""Axes for a test of a picture; what was drawn before is closed before each test."""

import matplotlib.pyplot as plt
import pytest


@pytest.fixture
def ax():
    return plt.subplots()[1]


@pytest.fixture
def ax3():
    return plt.subplots(subplot_kw={"projection": "3d"})[1]
