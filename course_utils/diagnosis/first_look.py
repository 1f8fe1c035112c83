"""What to look at first: the loss, the number formats, the parameters, norms and skips."""

import math
from collections import Counter
from dataclasses import dataclass, field

from ..measuring import to_json
from .blind_loss import blind_loss
from .measured_pass import MeasuredPass


@dataclass(frozen=True)
class FirstLook:
    """What every diagnosis starts with.

    Attributes:
        loss: On this batch.
        blind_loss: What a model that ignores its input gets; NaN for a loss that is not known.
        blind: What that is, in words.
        formats: How many parameters are held in each number format.
        parameters: Numbers in the parameters that are "trained" and "frozen", and with an
            optimizer those "not in the optimizer" though they would train.
        layout: Layers, norms and skip connections in a few words.
    """

    loss: float
    blind_loss: float = math.nan
    blind: str = ""
    formats: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    layout: str = ""

    def to_dict(self) -> dict:
        """Numbers and strings for strict JSON."""
        return {
            "loss": to_json(self.loss),
            "blind_loss": to_json(self.blind_loss),
            "formats": dict(self.formats),
            "parameters": dict(self.parameters),
            "layout": self.layout,
        }

    def rows(self) -> dict[str, str]:
        """What is said, by title."""
        loss = "not finite" if not math.isfinite(self.loss) else f"{self.loss:.4g}"
        if not math.isnan(self.blind_loss):
            loss += f"; a model that ignores its input gets {self.blind_loss:.4g} ({self.blind})"
        total = sum(self.formats.values())
        formats = ", ".join(
            name if count in (0, total) else f"{name} ({count:,} of {total:,})"
            for name, count in self.formats.items()
        )
        parameters = ", ".join(
            f"{count:,} {what}" for what, count in self.parameters.items() if count
        )
        everything = self.parameters.get("trained", 0) + self.parameters.get("frozen", 0)
        if self.parameters.get("frozen"):
            parameters += f" ({self.parameters['frozen'] / everything:.0%} frozen)"
        return {
            "loss": loss,
            "numbers": formats or "no parameters",
            "parameters": parameters or "none",
            "layout": self.layout,
        }


def first_look(measured_pass: MeasuredPass) -> FirstLook:
    """Read it from a pass."""
    known = blind_loss(measured_pass)
    value, words = known if known else (math.nan, "")
    parameters = list(measured_pass.model.parameters())
    formats: Counter[str] = Counter()
    for parameter in parameters:
        formats[str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
    computed = {str(t.dtype).removeprefix("torch.") for t in measured_pass.outputs}
    for name in sorted(computed - formats.keys()):
        formats[f"outputs in {name}"] = 0
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    counts = {"trained": trained, "frozen": sum(p.numel() for p in parameters) - trained}
    if measured_pass.held is not None:
        out = [p for p in parameters if p.requires_grad and id(p) not in measured_pass.held]
        counts["not in the optimizer"] = sum(p.numel() for p in out)
    return FirstLook(
        loss=float(measured_pass.loss_value.detach()),
        blind_loss=value,
        blind=words,
        formats=dict(formats),
        parameters=counts,
        layout=_layout(measured_pass),
    )


def _layout(measured_pass: MeasuredPass) -> str:
    """How many layers, with which norms and skips between them."""
    paths = [path for call in measured_pass.trunk if (path := measured_pass.paths.get(call))]
    ends = [path for path in measured_pass.output_paths if path.parents]
    norms = Counter(norm for path in (*paths, *ends) for norm in set(path.norms))
    skips = sum(path.skip for path in (*paths, *ends))
    count = len(measured_pass.trunk)
    said = [f"{count} layer{'s' * (count != 1)} with weights"]
    said += [f"{name} norm before {n} of them" for name, n in norms.items()] or ["no norm"]
    said.append(f"a skip connection before {skips} of them" if skips else "no skip connection")
    said += [f"{len(measured_pass.loops)} layers in a loop"] * bool(measured_pass.loops)
    return ", ".join(said)
