"""What a diagnosis says: findings with evidence, cause and remedy."""

import html
import math
import textwrap
from dataclasses import asdict, dataclass

from ..arguments import one_of
from ..measuring import to_json
from ..recording import GradientRecord
from .first_look import FirstLook

OF_A_RUN = (
    "diverged",
    "dying",
    "spike",
    "growing_output",
    "stopped",
    "update_lost",
    "frozen_early",
)
"""Kinds that only a record of many steps can show, most urgent first."""

KINDS = (
    "non_finite",
    "not_registered",
    "not_connected",
    "zero_gradient",
    "batch_too_small_for_norm",
    "loss_mismatch",
    "double_softmax",
    "dead",
    "symmetric",
    "exploding",
    "vanishing",
    "saturated",
    "shattered",
    "constant_output",
    "unscaled",
    "not_optimized",
    "update_size",
    "unbalanced_update",
    *OF_A_RUN,
    "undecided",
    "healthy",
)
"""Every kind of finding, most urgent first; those of a whole run after those of one batch."""

_WIDTH = 100
"""Characters of a printed line, code and names that are longer excepted."""

_CODE = "font-family:var(--jp-code-font-family,monospace);background:transparent"


class DiagnosisError(AssertionError):
    """Raised by `raise_if`: the network has what it must not have."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a gradient, or "healthy".

    Attributes:
        kind: One of `KINDS`.
        layers: Names of the layers concerned, input side first.
        quantity: What `measured` and `predicted` are, in words.
        measured: The measured figure; NaN where there is none.
        predicted: What theory says for this network; NaN where it says nothing.
        cause: Why, with the numbers that decide it.
        remedy: The smallest change that helps, as code on `model`; comments where it is a choice.
        notebook: The notebook that teaches it.
        where: The layers in words, each with type and shape, many of a kind as a range.
        step: The step at which it began, where a whole run was looked at; else None.
    """

    kind: str
    layers: tuple[str, ...] = ()
    quantity: str = ""
    measured: float = math.nan
    predicted: float = math.nan
    cause: str = ""
    remedy: str = ""
    notebook: str = ""
    where: str = ""
    step: int | None = None

    def to_dict(self) -> dict:
        """Strings, lists and numbers that strict JSON can hold; NaN is None, Inf a string."""
        numbers = {"measured": to_json(self.measured), "predicted": to_json(self.predicted)}
        return asdict(self) | {"layers": list(self.layers)} | numbers

    def __str__(self) -> str:
        lines = [_wrapped(f"{self.kind.upper()}: ", self._place)]
        lines += [f"  began      {self._since}"] if self._since else []
        lines += [_wrapped("  measured   ", self.evidence)] if self.evidence else []
        lines += [_wrapped("  cause      ", self.cause)]
        if self.remedy:
            lines += ["  remedy", *(f"      {line}" for line in self.remedy.splitlines())]
        lines += [f"  read       {self.notebook}"] if self.notebook else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        code = f"<pre style='{_CODE}'>{html.escape(self.remedy)}</pre>" if self.remedy else ""
        rows = {
            "where": html.escape(self._place),
            "began": self._since,
            "measured": html.escape(self.evidence),
            "cause": html.escape(self.cause),
            "remedy": code,
            "read": html.escape(self.notebook),
        }
        return f"<p><b>{self.kind}</b></p>{_table(rows)}"

    @property
    def _place(self) -> str:
        return self.where or ", ".join(self.layers) or "the whole network"

    @property
    def _since(self) -> str:
        return "" if self.step is None else f"at step {self.step}"

    @property
    def remedy_runs(self) -> bool:
        """Whether the remedy is code that runs as it is, with no change by hand before."""
        code = [line for line in self.remedy.splitlines() if line and not line.startswith("#")]
        return bool(code) and not self.remedy.startswith("# in model")

    @property
    def evidence(self) -> str:
        """The measured figure beside the predicted one, in a line."""
        if math.isnan(self.measured):
            return ""
        text = f"{self.measured:.3g} {self.quantity}"
        return text if math.isnan(self.predicted) else f"{text}, predicted {self.predicted:.3g}"


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes:
        findings: Most urgent first; one finding of kind "healthy" where nothing is wrong.
        record: The record of the pass it rests on; None where the model could not run through.
        notes: What is worth saying beside the verdict.
        undecided: What was not decided, and what to measure next.
        first_look: The loss, number formats, parameters and layout; None where the model could not
            run through.
    """

    findings: tuple[Finding, ...]
    record: GradientRecord | None
    notes: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    first_look: FirstLook | None = None

    @property
    def kinds(self) -> set[str]:
        """Kinds of all findings."""
        return {finding.kind for finding in self.findings}

    @property
    def healthy(self) -> bool:
        """Whether nothing was found, and nothing is open."""
        return self.kinds == {"healthy"}

    def raise_if(self, *kinds: str) -> None:
        """Raise if one of these kinds was found; without a kind, if anything wrong was.

        "undecided" is nothing wrong; name it to raise then too.

        Args:
            *kinds: Names in `KINDS`.

        Raises:
            DiagnosisError: If one was found. It is an AssertionError, and its text is the finding.
            ValueError: If a kind is unknown.
        """
        for kind in kinds:
            one_of("kind", kind, KINDS)
        wanted = set(kinds) or set(KINDS) - {"undecided", "healthy"}
        found = [finding for finding in self.findings if finding.kind in wanted]
        if found:
            raise DiagnosisError("\n".join(str(finding) for finding in found))

    def to_dict(self) -> dict:
        """Findings, kinds, notes and the first look for JSON; the record has its own `to_dict`."""
        return {
            "healthy": self.healthy,
            "kinds": [kind for kind in KINDS if kind in self.kinds],
            "findings": [finding.to_dict() for finding in self.findings],
            "notes": list(self.notes),
            "undecided": list(self.undecided),
        } | (self.first_look.to_dict() if self.first_look else {})

    def __str__(self) -> str:
        rows = self.first_look.rows() if self.first_look else {}
        look = "\n".join(_wrapped(f"{title:<12} ", text) for title, text in rows.items())
        said = [_wrapped(f"{title}: ", text) for title, text in self._remarks()]
        return "\n\n".join([*([look] if look else []), *map(str, self.findings), *said])

    def __repr__(self) -> str:
        kinds = ", ".join(kind for kind in KINDS if kind in self.kinds)
        return f"Diagnosis({kinds})"

    def _repr_html_(self) -> str:
        rows = self.first_look.rows() if self.first_look else {}
        parts = [_table({title: html.escape(text) for title, text in rows.items()})] if rows else []
        parts += [finding._repr_html_() for finding in self.findings]
        parts += [f"<p>{title}: {html.escape(text)}</p>" for title, text in self._remarks()]
        return "".join(parts)

    def _remarks(self) -> list[tuple[str, str]]:
        """What stands below the findings; where nothing else was found the open questions do."""
        open_questions = () if self.kinds == {"undecided"} else self.undecided
        said = [("Note", note) for note in self.notes]
        return said + [("Not decided", question) for question in open_questions]


def _wrapped(title: str, text: str) -> str:
    """A title and lines of text that start below its end."""
    lines = textwrap.wrap(
        text,
        _WIDTH - len(title),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return title + f"\n{' ' * len(title)}".join(lines)


def _table(rows: dict[str, str]) -> str:
    """Rows of a title and text that is HTML already."""
    cells = "".join(
        f"<tr><th style='text-align:left;vertical-align:top'>{title}</th>"
        f"<td style='text-align:left'>{text}</td></tr>"
        for title, text in rows.items()
        if text
    )
    return f"<table>{cells}</table>"
