"""Pictures of notebook 12, by the data on their artists."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from course_utils import plots


def test_images_stand_in_rows_with_their_names():
    rows = {"image": np.arange(8.0).reshape(2, 2, 2), "map": np.ones((2, 3, 3))}
    figure, axes = plt.subplots(2, 2, squeeze=False)
    plots.image_strip(rows, axes, titles="01")
    np.testing.assert_array_equal(axes[0, 1].images[0].get_array(), rows["image"][1])
    np.testing.assert_array_equal(axes[1, 0].images[0].get_array(), rows["map"][0])
    assert [ax.get_title() for ax in axes[0]] == ["0", "1"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["image", "map"]
    with pytest.raises(ValueError, match="zip"):
        plots.image_strip({"image": np.ones((3, 2, 2)), "map": np.ones((2, 2, 2))}, axes)
    plt.close(figure)
