"""What a rule is, and what it is asked on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..measured_pass import MeasuredPass
from ..report import Finding

EVERYTHING = ("everything",)
"""What a rule silences after which nothing else can be said."""


@dataclass
class Case:
    """One network on one batch, while the rules are asked about it.

    Attributes:
        measured_pass: What was measured: model, batch, loss, optimizer, output, gradients, record
            and graph.
        findings: What the rules before this one have found.
        notes: What is worth saying beside the verdict.
        undecided: What the evidence does not decide, and what to measure next.
        silenced: Names of the rules that are not asked any more.
    """

    measured_pass: MeasuredPass
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    silenced: set[str] = field(default_factory=set)

    @property
    def well_so_far(self) -> bool:
        """Whether nothing was found but parameters that no gradient or no optimizer reaches."""
        apart = {"not_connected", "not_registered", "not_optimized"}
        return {finding.kind for finding in self.findings} <= apart

    def ask(self, rule: "Rule") -> None:
        """Ask one rule, unless another has silenced it."""
        if self.silenced & {rule.name, *EVERYTHING}:
            return
        answer = rule.look(self)
        if answer:
            self.findings += [answer] if isinstance(answer, Finding) else answer
            self.silenced |= set(rule.silences)


@dataclass(frozen=True)
class Rule:
    """One thing to look for.

    Attributes:
        look: A function of the `Case` (of the `Run` for a whole run) that returns a finding, or
            None; a list where one network can have several. What it cannot decide it adds to
            `case.undecided`.
        silences: Names of later rules that a finding of this one explains, or `EVERYTHING`.
    """

    look: Callable[[Any], Finding | list[Finding] | None]
    silences: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.look.__name__


def rule(*, silences: tuple[str, ...] = ()) -> Callable[[Callable], Rule]:
    """Make a rule of a function.

    Args:
        silences: See `Rule`.
    """
    return lambda look: Rule(look, silences)
