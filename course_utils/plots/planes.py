"""What lies over the plane of two parameters: values on a grid, and the points of a path."""

import numpy as np
from numpy.typing import ArrayLike


def plane(w: ArrayLike, b: ArrayLike, z: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two axes, (m,) and (n,), and finite values over them, (n, m)."""
    w, b, z = (np.asarray(values, dtype=np.float64) for values in (w, b, z))
    if w.ndim != 1 or b.ndim != 1 or z.shape != (b.size, w.size):
        raise ValueError(
            f"the values have the shape {z.shape}; {(b.size, w.size)} is expected, one row per "
            "value of the second parameter and one column per value of the first."
        )
    if not np.isfinite(z).all():
        raise ValueError("the values hold NaN or Inf: choose another region of the plane.")
    return w, b, z


def path_points(name: str, points: ArrayLike) -> np.ndarray:
    """The points of a path, (steps + 1, 2)."""
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(
            f"paths[{name!r}] has the shape {points.shape}; (steps + 1, 2) is expected, one point "
            "per row."
        )
    return points
