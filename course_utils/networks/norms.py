"""Norm layers by name, for features (B, C) and for images (B, C, height, width)."""

from torch import nn

NORMS = (None, "batch", "layer", "group")
SMALLEST_GROUP = 8
"""Features in one group of a group norm, at least."""


def norm_layer(norm: str, features: int, *, image: bool = False) -> nn.Module:
    """A fresh norm layer: scale 1, shift 0, on the CPU.

    - "batch": each feature over the batch (and the pixels); Ioffe & Szegedy, ICML 2015.
    - "layer": each example over its features (and the pixels); Ba, Kiros & Hinton, 2016.
    - "group": each example over groups of features (and the pixels): as many equal groups as
      there are with at least 8 features in each, so 16 channels have 2 groups and 64 have 8, and
      fewer than 16 have one, which is layer norm; Wu & He, ECCV 2018.

    Args:
        norm: "batch", "layer" or "group".
        features: C, features or channels.
        image: Whether pixels follow the channels.

    Returns:
        A module that keeps the shape of its input.

    >>> norm_layer("group", 64).num_groups
    8
    """
    if norm == "batch":
        return (nn.BatchNorm2d if image else nn.BatchNorm1d)(features, device="cpu")
    if norm == "group":
        return nn.GroupNorm(_groups(features), features, device="cpu")
    return (
        nn.GroupNorm(1, features, device="cpu") if image else nn.LayerNorm(features, device="cpu")
    )


def _groups(features: int) -> int:
    """The most equal groups of at least `SMALLEST_GROUP` features."""
    most = max(1, features // SMALLEST_GROUP)
    return next(groups for groups in range(most, 0, -1) if features % groups == 0)
