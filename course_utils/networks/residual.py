"""The residual block: x + a part of branch(x)."""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

SKIPS = (None, "plain", "scaled", "rezero", "skipinit")


class Residual(nn.Sequential):
    """A block with a skip connection: x + scale·branch(x), the branch being the modules inside.

    Args:
        branch: The modules of the branch, by name, in their order.
        scale: A fixed factor on the branch; 1 for the plain block.
        learned: Whether the factor is instead a parameter `alpha`, one number that starts at 0,
            so that the block starts as the identity.

    >>> block = Residual(OrderedDict(linear=nn.Linear(3, 3)), learned=True)
    >>> x = torch.ones(2, 3)
    >>> bool((block(x) == x).all())
    True
    """

    alpha: nn.Parameter | None

    def __init__(
        self, branch: OrderedDict[str, nn.Module], scale: float = 1.0, learned: bool = False
    ):
        super().__init__(branch)
        self.scale = scale
        self.register_parameter(
            "alpha", nn.Parameter(torch.zeros((), device="cpu")) if learned else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """X + α·branch(x), of the shape of x."""
        branch = super().forward(x)
        if self.alpha is not None:
            return x + self.alpha * branch
        return x + branch if self.scale == 1 else x + self.scale * branch

    def reset_parameters(self) -> None:
        """Set a learned factor back to 0. The modules inside are not touched."""
        if self.alpha is not None:
            with torch.no_grad():
                self.alpha.zero_()

    def extra_repr(self) -> str:
        """The factor, for `print(net)`."""
        return f"scale={self.scale:.4g}" if self.alpha is None else "alpha learned"


def residual_block(skip: str, branch: OrderedDict[str, nn.Module], blocks: int) -> Residual:
    """A branch with the skip connection of that name around it.

    - "plain": x + branch(x); He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
    - "scaled": x + branch(x)/√blocks, so that all branches together add as much as one does.
    - "rezero": x + α·branch(x), α learned, 0 at first; T. Bachlechner et al., "ReZero is All You
      Need: Fast Convergence at Large Depth", UAI 2021.
    - "skipinit": the same formula, found as what batch norm does to a branch at the start; S. De
      and S. Smith, "Batch Normalization Biases Residual Blocks Towards the Identity Function in
      Deep Networks", NeurIPS 2020. It is meant for He-initialized branches without norm.

    Args:
        skip: One of the four names.
        branch: The modules of the branch.
        blocks: Number of residual blocks in the whole network.

    Returns:
        The block.

    >>> residual_block("scaled", OrderedDict(linear=nn.Linear(3, 3)), 25).scale
    0.2
    """
    if skip == "scaled":
        return Residual(branch, scale=1 / math.sqrt(blocks))
    return Residual(branch, learned=skip in ("rezero", "skipinit"))
