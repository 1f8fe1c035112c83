"""A remark on deep stacks of post-norm blocks, which need a warm-up; no finding."""

from .rule import Case, rule

_DEEP = 16  # blocks, two in a layer of a transformer
_LEFT = 0.75  # of a gradient that passes by the skips alone


@rule()
def warm_up(case: Case) -> None:
    """Many blocks LayerNorm(x + f(x)) with branches that are not small."""
    stack = case.measured_pass.post_norm
    if not case.well_so_far or len(stack.factors) < _DEEP or stack.through > _LEFT:
        return
    case.notes.append(
        f"{len(stack.factors)} blocks have their norm behind the addition, LayerNorm(x + f(x)), "
        f"which divides by √(1 + a²), a = {stack.branch:.2g}: the skips alone leave "
        f"{stack.through:.2g} of the gradient. So deep a post-norm stack needs a warm-up of the "
        "learning rate, or its first steps break it (Xiong et al., ICML 2020); with the norm in "
        "front of each branch (pre-norm) it needs none."
    )
