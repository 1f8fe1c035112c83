"""Data sets: digits (embedded), MNIST (fetched once, verified), spirals, the adding problem."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageData:
    """Labeled images, split into a training and a test set.

    Attributes:
        train_x: Training images, float32; (N, pixels) if flat, else (N, channels, height, width).
        train_y: Their labels, int64, (N,).
        test_x: Test images, shaped likewise.
        test_y: Their labels.
        classes: Names of the classes; label k is classes[k].
        name: "digits" or "mnist".
        shape: (channels, height, width) of one image.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: tuple[str, ...]
    name: str
    shape: tuple[int, int, int]

    def __repr__(self) -> str:
        return (
            f"ImageData({self.name}: {len(self.train_x)} training and {len(self.test_x)} test "
            f"images of {self.shape[1]}×{self.shape[2]}, {len(self.classes)} classes)"
        )


DIGITS_TEST_PER_CLASS = 36


def load_digits(*, flat: bool = True, normalize: bool = False, n: int | None = None) -> ImageData:
    """1797 handwritten digits of 8×8 pixels, embedded in scikit-learn: no network needed.

    The split is fixed: 36 images of each class (360 in all) are the test set, the other 1437
    are the training set. Training images are ordered 0, 1, …, 9, 0, 1, …, so the first n are
    balanced too. Pixels are scaled from 0…16 to [0, 1].

    Args:
        flat: Images as rows of 64 pixels; else as (1, 8, 8).
        normalize: Subtract the mean and divide by the standard deviation of all training pixels.
        n: Keep the first n training images only, 10 to 1437; all of them when None.

    Returns:
        The images and labels.

    Raises:
        ValueError: If `n` is out of range.

    References:
        E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
        Learning Repository, 1998.

    >>> load_digits()
    ImageData(digits: 1437 training and 360 test images of 8×8, 10 classes)
    """
    from sklearn.datasets import load_digits as embedded

    pixels, labels = embedded(return_X_y=True)
    random = np.random.RandomState(0)  # NumPy keeps this stream the same in all versions
    members = [random.permutation(np.flatnonzero(labels == k)) for k in range(10)]
    test = np.concatenate([rows[:DIGITS_TEST_PER_CLASS] for rows in members])
    train = _interleave([rows[DIGITS_TEST_PER_CLASS:] for rows in members])
    images = torch.from_numpy(pixels).float().div(16).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(labels).long()
    return _image_data(
        (images[train], labels[train], images[test], labels[test]), "digits", flat, normalize, n
    )


def _interleave(members: list[np.ndarray]) -> np.ndarray:
    """One of each class in turn, as long as the class lasts."""
    rounds = range(max(len(rows) for rows in members))
    return np.array([rows[i] for i in rounds for rows in members if i < len(rows)])


def _image_data(
    split: tuple[Tensor, Tensor, Tensor, Tensor],
    name: str,
    flat: bool,
    normalize: bool,
    n: int | None,
) -> ImageData:
    """Scale, cut and reshape a split of images (N, 1, height, width)."""
    train_x, train_y, test_x, test_y = split
    if n is not None and (isinstance(n, bool) or not isinstance(n, int)):
        raise ValueError(f"n={n!r} must be an integer, or None for all training images.")
    if n is not None and not 10 <= n <= len(train_x):
        raise ValueError(
            f"n={n} is out of range: {name} has {len(train_x)} training images, and at least 10 "
            "are needed to have one of each class. Choose n in between, or None for all."
        )
    if normalize:
        mean, std = train_x.mean(), train_x.std()
        train_x, test_x = (train_x - mean) / std, (test_x - mean) / std
    shape = tuple(train_x.shape[1:])
    train_x, train_y = train_x[:n], train_y[:n]
    if flat:
        train_x, test_x = train_x.flatten(1), test_x.flatten(1)
    classes = tuple(str(k) for k in range(10))
    return ImageData(train_x.clone(), train_y.clone(), test_x.clone(), test_y, classes, name, shape)
