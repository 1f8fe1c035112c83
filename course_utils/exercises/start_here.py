"""Exercise of notebook 00, "Start here": a warm-up that shows how exercises work."""

from .base import Exercise, call, expect_close


def what_arrives(factor, depth):
    """What is left of a gradient of size 1 after `depth` layers."""
    return factor**depth


def _judge_what_arrives(answer) -> None:
    for factor, depth, expected in (
        (0.5, 1, 0.5),
        (0.25, 10, 9.5367431640625e-07),
        (1.5, 20, 3325.256730079651),
        (1.0, 100, 1.0),
        (0.9, 0, 1.0),
    ):
        expect_close(
            call(answer, factor, depth),
            expected,
            f"factor={factor} and depth={depth}",
            rtol=1e-9,
            hint="Every layer multiplies what the layer above it left over.",
        )


what_arrives = Exercise(
    chapter="start_here",
    name="what_arrives",
    statement="A gradient of size 1 passes `depth` layers, and each of them multiplies it by "
    "`factor`. Return its size at the end.",
    minutes=2,
    difficulty=1,
    reference=what_arrives,
    judge=_judge_what_arrives,
    hints=(
        "After one layer it is factor. After two layers it is factor times factor.",
        "Python writes a power with two stars: factor ** depth.",
    ),
)
