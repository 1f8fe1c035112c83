"""Numbers that are too large for their format."""

import math

import torch

from ...measuring import tensors_in
from ..nonfinite import Origin
from .figures import capital, format_name, number
from .given import operands, wide
from .reason import Reason


def exponential(origin: Origin) -> Reason | None:
    """Exp beyond the largest number."""
    name, given = origin.source.operation, operands(origin)
    bases = {"exp": math.e, "expm1": math.e, "exp2": 2, "cosh": math.e, "sinh": math.e}
    if name.removeprefix("special_") not in bases or not given:
        return None
    z = given[0].detach()
    limit = math.log(torch.finfo(z.dtype).max, bases[name.removeprefix("special_")])
    limit += math.log(2) * (name in ("cosh", "sinh"))
    largest = float(z.abs().max() if name in ("cosh", "sinh") else z.max())
    why = (
        f"its argument reached {number(largest)}, and {name} overflows above {limit:.1f} in "
        f"{format_name(z)}."
    )
    readers = set(origin.readers)
    before = set(origin.readers[: origin.readers.index("log")]) if "log" in readers else set()
    bound = 20 if limit > 50 else 10
    if "ratio" in readers:
        remedy = (
            "# the quotient of exps has a function that does not overflow: F.softmax(z, dim), "
            "torch.sigmoid(z),\n# torch.tanh(z); its logarithm: F.log_softmax(z, dim)"
        )
    elif name == "cosh" and "log" in readers:
        remedy = "# log(cosh(z)) is z + F.softplus(-2 * z) - math.log(2)"
    elif before & {"sum", "mean"}:
        remedy = "# the logarithm of a sum of exps: torch.logsumexp(z, dim)"
    elif "log1p" in readers or "add" in before:
        remedy = "# log(1 + exp(z)) is F.softplus(z), log(exp(a) + exp(b)) torch.logaddexp(a, b)"
    elif "reciprocal" in readers:
        remedy = "# 1 / (1 + exp(-z)) is torch.sigmoid(z)"
    else:
        remedy = (
            "# bound the exponent (a log-variance, a log-ratio) before exp: "
            f"torch.exp(z.clamp(-{bound}, {bound})),\n# or take F.softplus(z), which grows like z"
        )
    return Reason(f"{capital(why)}", remedy, overflow=True)


def overflow(origin: Origin) -> Reason | None:
    """A finite result that is beyond the largest number of the format, by float64."""
    given, out = operands(origin), origin.out
    if origin.function is None or out is None or not given or out.is_complex():
        return None
    top = torch.finfo(out.dtype).max
    if origin.source.operation == "to":
        exact: object = given[0]
    else:
        try:
            exact = origin.function(*wide(origin.args), **wide(origin.kwargs))
        except (RuntimeError, TypeError, NotImplementedError):
            return None
    found = [t.detach().abs().double().max() for _, t in tensors_in(exact) if t.numel()]
    reached = float(torch.stack(found).max()) if found else math.nan
    if not 0.999 * top < reached < math.inf:
        return None
    numbers = [abs(float(a)) for a in origin.args if isinstance(a, int | float)]
    largest = max([float(t.detach().abs().double().max()) for t in given if t.numel()] + numbers)
    half = out.dtype == torch.float16
    return Reason(
        f"It overflows: {number(max(reached, top))} > {number(top)}, the largest number of "
        f"{format_name(out)} (its operands reach {number(largest)}).",
        "# in float32: z.float() before this operation; or bfloat16, which reaches 3.4e38:\n"
        "# torch.autocast(device_type, dtype=torch.bfloat16)"
        if half
        else "# find the layer or the input whose numbers are that large: standardize the inputs, "
        "start\n# from smaller weights, or normalize before this operation",
        overflow=True,
    )
