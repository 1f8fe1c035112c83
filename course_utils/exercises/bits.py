"""Exercises of notebook 11, "Count the bits"."""

import math
import warnings

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from .base import Cases, WrongAnswer, call, exercise, finite_array, parts


@exercise(
    "The four figures of a number format from its exponent and mantissa bits.",
    minutes=10,
    difficulty=1,
    hints=(
        "The smallest exponent of a normal number is 2 − 2^(e−1), the largest 2^(e−1) − 1.",
        "The largest number has only ones behind its binary point: it is the next power of two, "
        "less one gap. A subnormal number has the gap of the smallest normal ones.",
        "((2 - eps) * 2.0 ** (2 ** (e - 1) - 1), tiny, tiny * eps, eps) with eps = 2.0**-m and "
        "tiny = 2.0 ** (2 - 2 ** (e - 1)).",
    ),
    reason="Exponents run from 2 − 2^(e−1) to 2^(e−1) − 1, and a mantissa of m bits cuts each "
    "octave into 2^m gaps; below the smallest normal number its gap goes on down to 0.",
)
def format_facts(exponent, mantissa):
    """Largest number, smallest normal one, smallest subnormal one, and ε."""
    epsilon = 2.0**-mantissa
    normal = 2.0 ** (2 - 2 ** (exponent - 1))
    largest = (2 - epsilon) * 2.0 ** (2 ** (exponent - 1) - 1)
    return largest, normal, normal * epsilon, epsilon


@format_facts.cases(
    results={
        "the largest number": "All m digits behind the point are 1: (2 − 2^−m) times the largest "
        "power of two.",
        "the smallest normal number": "Its exponent is 2 − 2^(e−1).",
        "the smallest subnormal number": "It is one gap of the smallest normal numbers: 2^−m of "
        "the smallest.",
        "epsilon": "ε is the gap above 1: 2^−m.",
    }
)
def _() -> Cases:
    for (e, m), dtype in (
        ((5, 10), torch.float16),
        ((8, 7), torch.bfloat16),
        ((5, 2), torch.float8_e5m2),
        ((8, 23), torch.float32),
    ):
        facts = torch.finfo(dtype)
        expected = facts.max, facts.tiny, facts.tiny * facts.eps, facts.eps
        yield (e, m), expected, f"{e} exponent and {m} mantissa bits"
    # Oracle for formats that torch has not: every number, from its bits
    for e, m in ((3, 2), (4, 3)):
        bias = 2 ** (e - 1) - 1
        subnormal = [f * 2.0 ** (1 - bias - m) for f in range(1, 2**m)]
        normal = [
            (2**m + f) * 2.0 ** (k - bias - m) for k in range(1, 2**e - 1) for f in range(2**m)
        ]
        gap = min(x for x in normal if x > 1) - 1
        expected = max(normal), min(normal), min(subnormal), gap
        yield (e, m), expected, f"{e} exponent and {m} mantissa bits"


@format_facts.inputs
def _(rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(2, 8)), int(rng.integers(1, 12))


@exercise(
    "log Σ exp(z) for any z: large, small, −∞, and nothing but −∞.",
    minutes=10,
    difficulty=2,
    hints=(
        "Which constant may be subtracted from all z, and added to the result?",
        "With the largest entry subtracted, the largest exponential is 1: nothing overflows, and "
        "the sum is at least 1.",
        "Where the largest entry is −∞, −∞ − (−∞) would be NaN: return −∞ before.",
    ),
    reason="log Σ exp(z) = c + log Σ exp(z − c) for every finite c. With the largest entry for c "
    "no exponential exceeds 1 and one of them is 1, so neither end of the format is met.",
)
def logsumexp(z):
    """Logarithm of the sum of the exponentials of an array."""
    largest = z.max()
    if largest == -np.inf:
        return largest
    return largest + np.log(np.exp(z - largest).sum())


@logsumexp.cases(
    "log Σ exp(z) = c + log Σ exp(z − c) for any finite c. Which c keeps all exponentials at or "
    "below 1, and one of them at 1?"
)
def _() -> Cases:
    inf = math.inf
    for entries in (
        [0.0, 1.0, -1.0],
        [2.0],
        [1000.0, 1000.0],
        [-1000.0, -1001.0, -1000.0],
        [1000.0, -1000.0],
        [-800.0] * 7 + [800.0],
        [-inf, 3.0, -inf],
        [-inf, -1000.0],
        [-inf, -inf],
    ):
        z = torch.tensor(entries, dtype=torch.float64)
        yield (z.numpy(),), torch.logsumexp(z, 0).item(), f"z = {entries}"


@logsumexp.inputs
def _(rng: np.random.Generator) -> tuple[np.ndarray]:
    return (10 ** rng.uniform(-1, 3) * rng.normal(size=rng.integers(1, 9)),)


@exercise(
    "The loss scale of every step, as torch.amp.GradScaler sets it.",
    minutes=15,
    difficulty=3,
    hints=(
        "Keep two numbers: log₂S, and how many steps in a row had no overflow.",
        "After an overflow: log₂S goes down by 1 and the run starts again at 0. Otherwise the run "
        "grows by 1; where it reaches the interval, log₂S goes up by 1 and the run starts again.",
        "Write down log₂S before you look at the step. Overflow: "
        "2.0 ** (largest + log2_scale) >= 65520.",
    ),
    reason="The scale of a step is set before the step. A step overflows where S times its largest "
    "gradient rounds to Inf, from 65520 on; then the step is skipped, S halved and the run of good "
    "steps begins anew. N good steps in a row double S and begin a new run too.",
)
def loss_scales(log2_largest, start, interval):
    """log₂S of each step, from log₂ of each step's largest gradient."""
    scales, log2_scale, run = [], start, 0
    for largest in log2_largest:
        scales.append(log2_scale)
        if 2.0 ** (largest + log2_scale) >= 65520:
            log2_scale, run = log2_scale - 1, 0
        else:
            run += 1
            if run == interval:
                log2_scale, run = log2_scale + 1, 0
    return scales


@loss_scales.cases(
    "Follow S and the run of steps without an overflow. The run begins again after an overflow "
    "and after each doubling, and each entry is the scale before its step."
)
def _() -> Cases:
    rng = np.random.default_rng(0)
    for name, largest, start, interval in (
        ("no overflow", [0.0] * 7, 3.0, 2),
        ("an overflow ends the run", [0.0, 20.0, 0.0, 0.0, 0.0, 0.0], 4.0, 3),
        ("overflow in a row", [0.0, 9.0, 9.0, 9.0, 0.0], 9.0, 3),
        ("equal gradients", [0.0] * 60, 14.0, 5),
        ("noise", list(rng.normal(0, 2, 200)), 16.0, 4),
        ("larger gradients", list(rng.normal(20, 1, 100)), 0.0, 3),
        ("interval 1", list(rng.normal(0, 1, 30)), 10.0, 1),
    ):
        expected = _grad_scaler(largest, start, interval)
        yield (largest, start, interval), expected, f"{name}, start {start:g}, interval {interval}"


@loss_scales.inputs
def _(rng: np.random.Generator) -> tuple[list[float], float, int]:
    largest = rng.normal(0, rng.uniform(0, 3), size=rng.integers(20, 60))
    return largest.tolist(), float(rng.integers(10, 18)), int(rng.integers(2, 6))


def _grad_scaler(log2_largest: list[float], start: float, interval: int) -> list[float]:
    """What torch's own scaler does with one parameter whose scaled gradient is float16."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**start, growth_interval=interval)
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=0.0)
        scales = []
        for largest in log2_largest:
            scaler.scale(torch.zeros(()))
            scale = scaler.get_scale()
            scales.append(math.log2(scale))
            parameter.grad = torch.tensor([2.0**largest * scale]).half().float()
            scaler.step(optimizer)
            scaler.update()
    return scales


@exercise(
    "Round to multiples of a step, up or down by chance, so that the mean is right.",
    minutes=10,
    difficulty=2,
    hints=(
        "x/step lies between two whole numbers. With which probability must the upper one be "
        "taken, so that the mean is x/step?",
        "With the rest x/step − ⌊x/step⌋ as probability. u < rest is true that often.",
        "np.floor(x / step + u) * step rounds up exactly where u ≥ 1 − rest: as often.",
    ),
    reason="Adding a u that is uniform on [0, 1) before the floor lifts the value to the next "
    "whole number with the probability of its rest, so the mean is the value. The floor goes down "
    "for negative numbers too.",
)
def stochastic_round(x, step, u):
    """Multiples of step beside x, the upper one where x/step + u reaches it."""
    return np.floor(x / step + u) * step


@stochastic_round.judge
def _(answer: object) -> None:
    rng = np.random.default_rng(1)
    u = np.sort(rng.permutation(4000) + 0.5) / 4000  # evenly spread, so that means are exact
    pairs = ((0.3, 1.0), (-0.3, 1.0), (2.75, 0.5), (-1.1, 0.25), (3.0, 1.0), (-2.0, 0.5))
    for value, step in pairs:
        given = f"x = {value} in every entry, step {step}, and u spread evenly over [0, 1)"
        result = call(answer, np.full(4000, value), step, u)
        rounded = finite_array("the result", result, (4000,))
        steps = rounded / step
        if np.abs(steps - steps.round()).max() > 1e-4:
            raise WrongAnswer(f"{given}: not every result is a multiple of the step {step}.")
        if (np.abs(rounded - value) >= step * (1 + 1e-6)).any():
            far = rounded[np.abs(rounded - value).argmax()]
            raise WrongAnswer(
                f"{given}: one result is {far:g}, a step or more away. Only the two multiples "
                f"beside x may come out, {math.floor(value / step) * step:g} and the next one."
            )
        if abs(rounded.mean() - value) > 0.002 * step:
            raise WrongAnswer(
                f"{given}: the mean of the results is {rounded.mean():.4g}, and it should be "
                f"{value}. With which probability must the upper multiple be taken?"
            )
    one, other = (call(answer, np.full(9, 0.5), 1.0, np.full(9, u)) for u in (0.05, 0.95))
    if np.array_equal(one, other):
        raise WrongAnswer(
            "For x = 0.5 and step 1 the result with u = 0.05 is that with u = 0.95: use u, and it "
            "alone, for what is random."
        )


@exercise(
    "The sum of 2000 bfloat16 numbers to 0.8 %, with bfloat16 variables only.",
    minutes=15,
    difficulty=3,
    hints=(
        "Each addition loses what does not fit. How can you find out what was lost?",
        "Kahan: after t = s + y the lost part is (t − s) − y, computed in bfloat16 too. Subtract "
        "it from the next number.",
        "y = v - c; t = s + y; c = (t - s) - y; s = t. Begin with s = c = 0 · x[0].",
    ),
    reason="t − s is what was really added, and it is exact; minus y it is the rounding error of "
    "the sum. Taken off the next number, it is carried along until it is large enough to count.",
)
def bfloat16_sum(x):
    """Sum with the rounding error of each addition carried to the next one."""
    s = c = torch.zeros_like(x[0])
    for v in x:
        y = v - c
        t = s + y
        c = (t - s) - y
        s = t
    return s


_ADDS_INSIDE = {"sum", "nansum", "mean", "nanmean", "cumsum", "logcumsumexp", "dot", "inner", "mv"}
_ADDS_INSIDE |= {"mm", "matmul", "__matmul__", "__rmatmul__", "einsum", "linear", "norm", "trace"}
_TO_PYTHON = {"item", "tolist", "__float__", "__int__", "__index__", "numpy", "__array__"}


class _OnlyBfloat16(TorchFunctionMode):
    """Refuses what computes in another format, or sums inside of torch."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in _ADDS_INSIDE:
            raise WrongAnswer(
                f"Your code calls {name}: it adds up in float32 inside and rounds at its end. Here "
                "you are asked to do it with additions and subtractions of bfloat16 numbers."
            )
        if name in _TO_PYTHON:
            raise WrongAnswer(
                "Your code makes a Python number, a float64, of a tensor. Keep every variable a "
                "bfloat16 tensor."
            )
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            if result.dtype != torch.bfloat16:
                raise WrongAnswer(
                    f"Your code makes a {str(result.dtype).removeprefix('torch.')} tensor. Keep "
                    "every variable a bfloat16 tensor."
                )
        return result


@bfloat16_sum.cases(
    "A loop stalls where a number is below half the gap of the sum. Carry what each addition loses "
    "to the next one.",
    rtol=0.008,
)
def _cases_of_a_sum() -> Cases:
    generator = torch.Generator().manual_seed(0)
    for given, x in (
        ("one number", torch.tensor([3.0])),
        ("2000 numbers, all 1", torch.ones(2000)),
        ("2000 numbers, all 0.37", torch.full((2000,), 0.37)),
        ("2000 uniform numbers", torch.rand(2000, generator=generator)),
        ("2000 negative numbers", -torch.rand(2000, generator=generator)),
        ("1, then 1999 numbers of 0.003", torch.tensor([1.0] + [0.003] * 1999)),
    ):
        x = x.bfloat16()
        yield (x,), x.double().sum().item(), given


@bfloat16_sum.judge
def _(answer: object) -> None:
    call(answer, torch.ones(1).bfloat16())  # says what is not a function, or still empty

    def watched(x: torch.Tensor) -> object:
        with _OnlyBfloat16():
            return answer(x)  # type: ignore[operator]

    for (x,), expected, given in _cases_of_a_sum():
        result = call(watched, x)
        if not (isinstance(result, torch.Tensor) and result.dtype == torch.bfloat16):
            raise WrongAnswer(
                f"{given}: the result is {result!r:.60}, and not a bfloat16 tensor. Keep every "
                "variable a bfloat16 tensor."
            )
        bfloat16_sum.compare(result.double(), expected, given)


@bfloat16_sum.inputs
def _(rng: np.random.Generator) -> tuple[torch.Tensor]:
    return (torch.tensor(rng.uniform(0, 1, size=rng.integers(2, 200))).bfloat16(),)


@exercise(
    "Three finite float16 numbers whose sum is infinite in one order and finite in another.",
    minutes=5,
    difficulty=1,
    hints=(
        "float16 ends at 65504. Which sum must pass it, and which must not?",
        "a + b has to overflow, b + c must not, and a + (b + c) must not either.",
        "b and c cancel: c = −b. And a + b is above 65520.",
    ),
    value=(60000.0, 60000.0, -60000.0),
    reason="60000 + 60000 passes the end of float16 and is Inf for good; 60000 − 60000 is 0.",
)
def order_matters(answer: object) -> None:
    """Both sums in float16."""
    numbers = [
        float(finite_array(name, part, ()))
        for name, part in zip("abc", parts(answer, "a", "b", "c"), strict=True)
    ]
    with np.errstate(over="ignore", invalid="ignore"):
        a, b, c = (np.float16(value) for value in numbers)
        for name, value, given in zip("abc", (a, b, c), numbers, strict=True):
            if not np.isfinite(value):
                raise WrongAnswer(
                    f"{name} = {given:g} is {value} in float16, which ends at 65504. All three "
                    "numbers must be finite there."
                )
        left, right = (a + b) + c, a + (b + c)
    if not np.isinf(left):
        raise WrongAnswer(
            f"(a + b) + c is {left:g} in float16, and it should be infinite: a + b must pass 65504."
        )
    if not np.isfinite(right):
        raise WrongAnswer(
            f"(a + b) + c is {left:g}, as it should be, but a + (b + c) is {right:g} too. Choose c "
            "so that it takes back what b adds."
        )
