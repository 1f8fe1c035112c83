"""Exercises of notebook 01, "Descend a gradient"."""

import math

import numpy as np
import torch

from .base import Cases, exercise


@exercise(
    "One step of gradient descent with momentum, as torch.optim.SGD does it.",
    minutes=5,
    difficulty=1,
    hints=(
        "Section 5 has the two lines, in the order in which they are carried out.",
        "First the velocity: momentum * velocity + gradient. Then the parameters.",
        "The parameters move against the *new* velocity: theta - lr * velocity.",
    ),
    reason="A step is −η times the new velocity, which holds the whole new gradient and the "
    "share β of the old velocity.",
)
def momentum_step(theta, velocity, gradient, lr, momentum):
    """One step of gradient descent with momentum: the new parameters and the new velocity."""
    velocity = momentum * velocity + gradient
    return theta - lr * velocity, velocity


@momentum_step.cases(
    results={
        "new parameters": "Step along the new velocity, times the learning rate, downhill.",
        "new velocity": "Keep a share `momentum` of the old velocity and add the whole gradient.",
    },
)
def _() -> Cases:
    rng = np.random.default_rng(0)
    for size, lr, momentum in ((1, 0.5, 0.0), (3, 0.1, 0.9), (2, 2.0, 0.5)):
        theta, gradients = rng.normal(size=size), rng.normal(size=(4, size))
        velocity = np.zeros(size)
        for step, gradient in enumerate(gradients, start=1):
            inputs = theta, velocity, gradient, lr, momentum
            velocity = momentum * velocity + gradient
            theta = theta - lr * velocity
            given = f"step {step} of {size} parameters, lr={lr}, momentum={momentum}"
            yield inputs, (theta, velocity), given


@momentum_step.inputs
def _(rng: np.random.Generator) -> tuple:
    theta, velocity, gradient = rng.normal(size=(3, rng.integers(1, 6)))
    return theta, velocity, gradient, rng.uniform(0.05, 2), rng.uniform(0.05, 0.95)


@exercise(
    "How many steps of gradient descent, at the best learning rate, make the error "
    "10^digits times smaller?",
    minutes=10,
    difficulty=2,
    hints=(
        "What is the best rate per step for this condition number?",
        "Solve rate^t = 10^−digits for t with logarithms, and round up.",
        "t = digits · ln 10 / −ln((κ−1)/(κ+1)). At κ = 1 the logarithm fails: treat it apart.",
    ),
    reason="The error after t steps is rate^t. That is at most 10^−d from t = d·ln 10/(−ln rate)"
    " on, and t is whole.",
)
def steps_needed(condition_number, digits):
    """Steps of plain gradient descent, at its best learning rate, for `digits` decimal digits."""
    rate = (condition_number - 1) / (condition_number + 1)
    if rate == 0:
        return 1
    return math.ceil(digits * math.log(10) / -math.log(rate))


@steps_needed.cases(
    "Take the smallest whole number t with rate^t ≤ 10^−digits, where the rate is that of the best "
    "learning rate. At κ = 1 it is 0, and one step is enough.",
    rtol=0,
)
def _() -> Cases:
    cases = [(3, 1), (3, 3), (100, 1), (100, 4), (1.5, 2), (2000.0, 2), (1, 1), (1, 5)]
    cases += [(1.2, 1), (1.05, 3), (1.001, 2), (7.5, 6)]
    for kappa, digits in cases:
        rate, error, steps = (kappa - 1) / (kappa + 1), 1.0, 0
        while error > 10.0**-digits:
            error, steps = error * rate, steps + 1
        yield (kappa, digits), steps, f"condition number {kappa}, digits {digits}"


@steps_needed.inputs
def _(rng: np.random.Generator) -> tuple:
    return 1 + 10 ** rng.uniform(-2, 3), int(rng.integers(1, 8))


@exercise(
    "A learning-rate schedule: a linear warm-up, then a cosine down to zero.",
    minutes=10,
    difficulty=2,
    hints=(
        "Two cases: step < warmup_steps, and the rest.",
        "After the warm-up, how far along is the run, as a share from 0 to 1?",
        "(step − warmup_steps) / (total_steps − warmup_steps) goes into the cosine, times π.",
    ),
    reason="The rise reaches the peak in its last step, and the share of the rest that is behind"
    " you turns the cosine from 1 to −1.",
)
def warmup_cosine(step, total_steps, warmup_steps, peak_lr):
    """Learning rate of one step: a linear rise, then half a period of the cosine."""
    if step < warmup_steps:
        return peak_lr * (step + 1) / warmup_steps
    share = (step - warmup_steps) / (total_steps - warmup_steps)
    return peak_lr * (1 + math.cos(math.pi * share)) / 2


@warmup_cosine.cases(
    "The first step already has a learning rate above 0. The cosine begins after the warm-up, at "
    "the peak, and would reach 0 at t = T.",
)
def _() -> Cases:
    for total, warmup, peak in ((10, 0, 1.0), (10, 4, 0.5), (7, 1, 2.0), (100, 10, 0.1)):
        rising = [peak * (t + 1) / warmup for t in range(warmup)]
        angles = np.arange(total - warmup) * np.pi / (total - warmup)
        for t, expected in enumerate([*rising, *(peak * np.cos(angles / 2) ** 2)]):
            given = f"step {t} of {total}, {warmup} of them warm-up, peak {peak}"
            yield (t, total, warmup, peak), float(expected), given


@warmup_cosine.inputs
def _(rng: np.random.Generator) -> tuple:
    total = int(rng.integers(5, 60))
    warmup = int(rng.integers(0, total // 2))
    step = rng.integers(0, warmup) if warmup and rng.random() < 0.4 else rng.integers(warmup, total)
    return int(step), total, warmup, rng.uniform(0.05, 5)


@exercise(
    "The largest eigenvalue of a positive definite matrix, from products with it alone.",
    minutes=10,
    difficulty=2,
    hints=(
        "Section 8 does it: power iteration.",
        "Repeat: v divided by its norm, then v = product(v).",
        "After some hundred products, a unit vector times the matrix has the length λ_max.",
    ),
    reason="In each product the part along the largest eigenvalue gains on all others by at "
    "least 1/0.9, and 0.9^500 is 10^−23.",
)
def sharpness(product, v):
    """Largest eigenvalue of a positive definite matrix that is known by its products only."""
    for _ in range(500):
        v = v / np.linalg.norm(v)
        v = product(v)
    return np.linalg.norm(v)


@sharpness.cases(
    "Multiply a few hundred times. Scale the vector to length 1 before each product: it neither "
    "overflows nor vanishes, and its length after the product is the answer."
)
def _() -> Cases:
    rng = np.random.default_rng(0)
    for size, scale in ((1, 3.0), (2, 1.0), (20, 0.01), (20, 100.0), (50, 1e30)):
        rotation = np.linalg.qr(rng.normal(size=(size, size)))[0]
        spectrum = np.append(np.linspace(0.05, 0.9, size - 1), 1.0) * scale
        matrix = rotation @ np.diag(spectrum) @ rotation.T
        given = f"a {size}×{size} matrix with eigenvalues up to {scale:g}"
        yield (lambda u, matrix=matrix: matrix @ u, rng.normal(size=size)), scale, given


@sharpness.inputs
def _(rng: np.random.Generator) -> tuple:
    size = rng.integers(2, 51)
    rotation = np.linalg.qr(rng.normal(size=(size, size)))[0]
    spectrum = np.append(rng.uniform(0.01, 0.9, size - 1), 1.0) * 10 ** rng.uniform(-2, 30)
    matrix = rotation * spectrum @ rotation.T
    return lambda u: matrix @ u, rng.normal(size=size)


@exercise(
    "The largest stable learning rate of a chain of scalars at a minimum with unequal weights.",
    minutes=15,
    difficulty=3,
    hints=(
        "Follow section 6 with a target y. Which term of the Hessian is zero at a minimum?",
        "v_l = ∂ŷ/∂w_l is the product of all weights but w_l, so ŷ/w_l.",
        "λ_max = Σ (ŷ/w_l)², and the limit is 2/λ_max. For y = 1 the means of 1/w_l² cannot be "
        "below 1, because the product of the w_l is 1.",
    ),
    reason="At a minimum the Hessian is vvᵀ with v_l = ŷ/w_l, and its one eigenvalue above 0 is "
    "‖v‖².",
)
def chain_limit(weights):
    """Largest stable learning rate at a minimum of the chain."""
    slope = np.prod(weights) / weights
    return 2 / np.sum(slope**2)


@chain_limit.cases(
    "At a minimum the Hessian is vvᵀ with v_l = ∂ŷ/∂w_l, the product of the other weights. Its "
    "only eigenvalue above 0 is ‖v‖².",
)
def _() -> Cases:
    for weights in (
        [1.0] * 4,
        [2.0],
        [2.0, 0.5],
        [2.0, 3.0],
        [-1.5, 0.5, 4.0],
        [0.2, 5.0, 1.0],
        [0.37, -1.21],
        [0.83, 1.17, -0.45, 1.6],
    ):
        w = torch.tensor(weights, dtype=torch.float64)
        target = w.prod()
        hessian = torch.autograd.functional.hessian(lambda w, y=target: (y - w.prod()) ** 2 / 2, w)
        expected = 2 / torch.linalg.eigvalsh(hessian)[-1].item()
        given = f"the weights {weights}, which fit the target {target.item():g}"
        yield (np.array(weights),), expected, given


@chain_limit.inputs
def _(rng: np.random.Generator) -> tuple:
    size = rng.integers(1, 8)
    return (rng.choice([-1.0, 1.0], size) * rng.uniform(0.3, 2, size),)
