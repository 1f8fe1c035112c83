"""Operations that were asked where they have no value: log 0, √−1, 1/0."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...measuring.torch_internals import Node
from ..nonfinite import Origin
from .figures import count, is_half, least, near_one, number
from .given import made_by, operands
from .reason import Reason


def logarithm(origin: Origin) -> Reason | None:
    """Log of 0, or of a negative number."""
    name = origin.source.operation
    if name not in ("log", "log2", "log10", "log1p", "xlogy", "special_xlogy"):
        return None
    given = operands(origin)
    z = given[-1] if "xlogy" in name else given[0] if given else None
    if z is None:
        return None
    edge = -1 if name == "log1p" else 0
    low = least(z)
    if low < edge:
        said = "a number below −1 is NaN, and it was" if edge else "a negative number is NaN, and "
        said += "" if edge else "it was negative:"
        return Reason(
            f"{name} of {said} {number(low)} ({count(z < edge)}).",
            "# make it positive by construction, as F.softplus(z); an eps, or a bound from below, "
            "would only\n# hide that it is negative",
        )
    if not bool((z == edge).any()):
        return None
    why = f"{name} of {number(edge)} is −Inf ({count(z == edge)})."
    return Reason(why + on_format(z), in_log_domain(z.grad_fn, "mul" in origin.readers))


def in_log_domain(start: Node | None, times: bool = False) -> str:
    """The logarithm of what a node makes, without the number that rounds to 0.

    Args:
        start: The node; None for a constant.
        times: Whether the logarithm is multiplied by something.
    """
    ends, ways = made_by(start)
    if times and ("Div" in ways or start is None):
        return (
            "# p * log(p / q) is 0 at p = 0: F.kl_div(log_q, p), with log_q from F.log_softmax;\n"
            "# p * log(p) alone is torch.xlogy(p, p)"
        )
    if "Exp" in ends and ways & {"Sum", "Mean"}:
        return (
            "# stay in the log domain: the logarithm of a sum of exps, also with weights π\n"
            "# torch.logsumexp(exponent, dim), torch.logsumexp(log_pi + exponent, dim)"
        )
    if "Exp" in ends and ways & {"Rsub", "Sub"}:
        return "# log(1 - exp(z)) is torch.log(-torch.expm1(z)); it needs z < 0"
    if "Exp" in ends and "Add" in ways:
        return "# log(exp(a) + exp(b)) is torch.logaddexp(a, b); log(1 + exp(z)) is F.softplus(z)"
    if "Exp" in ends:
        return "# log(c * exp(a)) is a + log(c): leave exp and log out"
    if "Sigmoid" in ends:
        return (
            "# log(sigmoid(z)) is F.logsigmoid(z) and log(1 - sigmoid(z)) is F.logsigmoid(-z);\n"
            "# the whole cross-entropy is F.binary_cross_entropy_with_logits(z, y)"
        )
    if ends & {"Softmax", "SafeSoftmax"}:
        return (
            "# log(softmax(z)) is F.log_softmax(z, dim), a mean of them torch.logsumexp of it;\n"
            "# with labels: F.cross_entropy(z, y)"
        )
    if "Tanh" in ends:
        return "# log(1 - tanh(z)**2) is 2 * (math.log(2) - z - F.softplus(-2 * z))"
    if ends & {"Erf", "Erfc", "SpecialNdtr"}:
        return "# the logarithm of the normal distribution is torch.special.log_ndtr(z)"
    if ends & {"Prod", "Cumprod"}:
        return "# the logarithm of a product is the sum of the logarithms: z.log().sum(dim)"
    return "# torch.log(z + torch.finfo(z.dtype).eps), torch.log1p(z) for counts, or F.softplus(z)"


def root(origin: Origin) -> Reason | None:
    """√ of a negative number, 1/√ of 0, and powers alike."""
    name, given = origin.source.operation, operands(origin)
    if name not in ("sqrt", "rsqrt", "pow") or not given:
        return None
    z = given[0]
    if not isinstance(origin.args[0], Tensor):
        return None
    power = origin.args[1] if name == "pow" else -0.5 if name == "rsqrt" else 0.5
    fixed = float(power) if isinstance(power, int | float) else None
    low = least(z)
    if low < 0 and (fixed is None or not fixed.is_integer()):
        return Reason(
            f"{name} of a negative number is NaN, and it was negative: {number(low)} "
            f"({count(z < 0)}).",
            "# find out why it is negative: a bound from below would hide it, and pass no gradient."
            "\n# A variance as mean(z²) − mean(z)² goes below 0 by rounding: z.var(correction=0) "
            "does not",
        )
    if not bool((z == 0).any()) or (fixed is not None and fixed >= 0):
        return None
    more = f", {power})" if name == "pow" and fixed is not None else ")"
    return Reason(
        f"{name} of 0 divides by 0 ({count(z == 0)}).{on_format(z)}",
        f"# torch.{name}(z + torch.finfo(z.dtype).eps{more}",
    )


_POLES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "acos": (lambda z: z.abs() > 1, "outside −1 … 1"),
    "asin": (lambda z: z.abs() > 1, "outside −1 … 1"),
    "atanh": (lambda z: z.abs() >= 1, "not inside −1 … 1"),
    "acosh": (lambda z: z < 1, "below 1"),
    "logit": (lambda z: (z <= 0) | (z >= 1), "not between 0 and 1"),
    "erfinv": (lambda z: z.abs() >= 1, "not inside −1 … 1"),
    "lgamma": (lambda z: (z <= 0) & (z == z.round()), "0 or a negative whole number"),
    "digamma": (lambda z: (z <= 0) & (z == z.round()), "0 or a negative whole number"),
}


ANGLE = (
    "# {0}(z.clamp(-1 + eps, 1 - eps)) with eps = torch.finfo(z.dtype).eps; or the angle as\n"
    "# torch.atan2(sine, cosine), which has no such edge"
)


def pole(origin: Origin) -> Reason | None:
    """Inverse functions outside of their range."""
    name = origin.source.operation.removeprefix("special_")
    given = operands(origin)
    if name not in _POLES or not given:
        return None
    outside, words = _POLES[name]
    bad = outside(given[0])
    if not bool(bad.any()):
        return None
    first = float(given[0].detach()[bad].flatten()[0])
    remedies = {
        "acos": "# a cosine from F.cosine_similarity(a, b); or the angle as\n"
        "# torch.atan2(sine, cosine), which has no such edge",
        "logit": "# keep the logits instead of taking them back from the probability",
        "atanh": "# keep what went into tanh instead of taking it back by atanh",
    }
    if abs(abs(first) - 1) < 16 * torch.finfo(given[0].dtype).eps:  # by rounding
        remedies["acos"] = ANGLE.format(f"torch.{name}")
    remedies["asin"] = remedies["acos"]
    return Reason(
        f"{name} of a number {words}: {near_one(first)} ({count(bad)}).",
        remedies.get(name, f"# see that the argument of {name} stays within its range"),
    )


def quotient(origin: Origin) -> Reason | None:
    """A division by 0."""
    name = origin.source.operation
    if name not in ("div", "true_divide", "reciprocal", "remainder", "fmod"):
        return None
    below = origin.args[0 if name == "reciprocal" else 1]
    if not isinstance(below, Tensor):
        return _by_a_number(below)
    zeros = below.detach() == 0
    if not bool(zeros.any()):
        return None
    above = origin.args[0] if name == "div" else None
    both = isinstance(above, Tensor) and origin.source.value == "NaN"
    why = f"It divides {'0 ' if both else ''}by 0 ({count(zeros)}).{on_format(below)}"
    whole = not below.requires_grad and bool((below.detach() == below.detach().round()).all())
    ends, _ = made_by(below.grad_fn)
    if whole and bool((below >= 0).all()):
        return Reason(
            f"{why} The divisor is a count or a spread without a gradient.",
            "# a count: z / n.clamp_min(1); a spread: z / (s + torch.finfo(s.dtype).eps)",
        )
    if "LinalgVectorNorm" in ends:
        return Reason(f"{why} The divisor is a norm.", "# F.normalize(z, dim=…, eps=…)")
    if ends & {"Std", "Var", "StdMean", "VarMean"}:
        return Reason(
            f"{why} The divisor is the spread of numbers that are all equal.",
            "# z / (s + torch.finfo(s.dtype).eps)",
        )
    if least(below) < 0:
        return Reason(
            why,
            "# y takes both signs, so keep it away from 0 on its own side:\n"
            "# eps = torch.finfo(y.dtype).eps; z / torch.where(y.abs() < eps, eps, y)",
        )
    return Reason(
        why,
        "# z / (y + torch.finfo(y.dtype).eps)"
        + ("; or both in float32: z.float() / y.float()" if is_half(below) else ""),
    )


def _by_a_number(below: object) -> Reason | None:
    if below != 0:
        return None
    return Reason(
        "It divides by the number 0.",
        "# a count: z / max(n, 1); a temperature or a scale has to be above 0",
    )


def on_format(z: Tensor) -> str:
    """A remark on a number format in which an eps is nothing."""
    if not is_half(z) or z.dtype != torch.float16:
        return ""
    return " In float16 what is below 6e-8 is 0, also an eps of 1e-8."


def determinant(origin: Origin) -> Reason | None:
    """Log of the determinant of a singular matrix."""
    if "logdet" not in origin.source.operation:
        return None
    return Reason(
        "The matrix is singular: its determinant is 0, and log 0 is −Inf.",
        "# torch.logdet(a + 1e-6 * torch.eye(n)), for a covariance its Cholesky factor",
    )


def no_value(origin: Origin) -> Reason | None:
    """Any other operation that is not defined at what it was given."""
    given = [t for t in operands(origin) if t.numel()]
    if origin.function is None or not given:
        return None
    zeros = sum(int((t == 0).sum()) for t in given)
    count = sum(t.numel() for t in given)
    largest = max(float(t.detach().abs().max()) for t in given)
    return Reason(
        f"{origin.source.operation} was given finite numbers, the largest {number(largest)}, "
        f"{zeros} of {count} of them 0, and has no finite value there.",
        "# keep its argument away from that point: z + torch.finfo(z.dtype).eps",
    )
