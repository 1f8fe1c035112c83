"""Fresh axes for each test of a picture, closed behind it."""

import matplotlib.pyplot as plt
import pytest


@pytest.fixture
def ax():
    _, axes = plt.subplots()
    yield axes
    plt.close("all")


@pytest.fixture
def ax3():
    _, axes = plt.subplots(subplot_kw={"projection": "3d"})
    yield axes
    plt.close("all")
