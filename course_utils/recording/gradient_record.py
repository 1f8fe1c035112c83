"""The record: plain, frozen float64 tensors, steps × layers."""

import difflib
import html
import importlib
import json
import math
import os
import re
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..arguments import one_of
from ..measuring import from_json, to_json
from .slope import Factor, fit_factor

PER_LAYER = (
    "output_rms",
    "output_mean",
    "zero_fraction",
    "saturated_fraction",
    "dead_fraction",
    "output_nan",
    "output_inf",
    "grad_rms",
    "grad_nan",
    "grad_inf",
    "output_count",
    "output_rms_largest",
    "grad_rms_largest",
)
PER_PARAMETER = (
    "parameter_rms",
    "parameter_grad_rms",
    "update_ratio",
    "parameter_grad_rms_largest",
)
PER_STEP = ("total_grad_norm", "lr", "losses", "grad_scale")
COUNTED = ("output_nan", "output_inf", "grad_nan", "grad_inf", "output_count")
"""Numbers of entries: 0, and not NaN, where nothing ran."""

TRAVELS_BACK = ("grad_rms",)
SHOWN = 24
COLUMNS = ("output_rms", "output_mean", "zero_fraction", "grad_rms")
TITLES = ("RMS of output", "mean of output", "zeros", "RMS of ∂L/∂output")


class _Place(NamedTuple):
    layer: str
    pass_name: str
    step: int


class NonFinite(_Place):
    """Where the first NaN or Inf appeared: a tuple of layer, pass and step, that knows its rank.

    Attributes:
        layer: Name of the layer, of the parameter, or "(loss)".
        pass_name: "forward", "backward" or "update".
        step: Index of the step.
        rank: Process in which it appeared, in a record of several; None in one process.

    >>> NonFinite("0", "forward", 3, rank=1) == ("0", "forward", 3)
    True
    """

    rank: int | None = None

    def __new__(cls, layer: str, pass_name: str, step: int, rank: int | None = None) -> "NonFinite":
        """Make the tuple of the first three, with the rank as an attribute."""
        place = super().__new__(cls, layer, pass_name, step)
        place.rank = rank
        return place

    def __eq__(self, other: object) -> bool:
        same_rank = not isinstance(other, NonFinite) or self.rank == other.rank
        return same_rank and tuple.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__

    def __repr__(self) -> str:
        rank = "" if self.rank is None else f", rank={self.rank}"
        return f"{super().__repr__()[:-1]}{rank})"


@dataclass(frozen=True, eq=False, repr=False)
class GradientRecord:
    """Statistics of outputs, gradients and parameters per step and layer, input side first.

    All tensors are float64 on the CPU and hold no graph. NaN says that there is nothing to
    measure: a frozen layer has no gradient, a Linear layer does not saturate. A layer that ran
    and whose RMS is exactly 0 has 0, never NaN.

    Attributes:
        layers: Names as in `named_modules()`, without the prefixes of wrappers (`module.` of
            DistributedDataParallel, `_orig_mod.` of torch.compile), in the order of the forward
            pass, and of `named_modules()` where no step ran both. The second call
            of a module in one step is `name#2`; a tensor inside a tuple or dict is `name[0]`,
            `name[logits]`. The watched module itself is `(model)`.
        layer_types: Class name of each layer.
        trunk: Which layers `factor_per_layer()` and `total_factor()` use unless told otherwise:
            those with a weight of two or more dimensions, first forward pass of a step, first
            tensor.
        steps: Index of each recorded step, counted from 0.
        output_rms: (steps, layers) √(mean |h|²) of the output h.
        output_mean: (steps, layers) mean of h; NaN for complex outputs.
        zero_fraction: (steps, layers) share of entries of h that are exactly 0.
        saturated_fraction: (steps, layers) share of entries where the slope of a saturating
            activation module is below 5 % of its largest; NaN for other layers.
        dead_fraction: (steps, layers) share of units of a ReLU module that are 0 for the whole
            batch; a unit is an index of all dimensions but the first. NaN for other layers.
        output_nan: (steps, layers) number of NaN in h.
        output_inf: (steps, layers) number of Inf in h.
        grad_rms: (steps, layers) √(mean |∂L/∂h|²); NaN where no gradient arrived.
        grad_nan: (steps, layers) number of NaN in ∂L/∂h.
        grad_inf: (steps, layers) number of Inf in ∂L/∂h.
        output_count: (steps, layers) number of entries of h; 0 where the layer did not run.
        output_rms_largest: (steps, layers) the largest `output_rms` of all processes that the
            record combines (see `across_ranks`); `output_rms` itself in one process.
        grad_rms_largest: (steps, layers) the same of `grad_rms`.
        parameters: Names as in `named_parameters()`, without prefixes of wrappers.
        parameter_rms: (steps, parameters) √(mean θ²) before the update.
        parameter_grad_rms: (steps, parameters) √(mean (∂L/∂θ)²) of what `.grad` held at the end
            of the backward pass, so before clipping, summed over accumulated batches, and after
            the reduction over processes. With several optimizers: when the one that owns the
            parameter last stepped. Of a sharded parameter it is that of the whole.
        update_ratio: (steps, parameters) ‖θ_after − θ_before‖/‖θ_before‖ of the optimizer step;
            Inf if θ_before is 0, NaN without an optimizer or without a step of it.
        parameter_grad_rms_largest: (steps, parameters) the largest `parameter_grad_rms` of all
            processes that the record combines; `parameter_grad_rms` itself in one process.
        total_grad_norm: (steps,) norm of all that `.grad` held, √(Σ ‖∂L/∂θ‖²), before clipping.
        lr: (steps,) learning rate of the optimizer's first group; NaN without an optimizer.
        losses: (steps,) the loss where it was given, else NaN.
        grad_scale: (steps,) the factor of a GradScaler that was divided out, else 1.
        first_nonfinite: None, or (layer, pass, step) of the first NaN or Inf, with its `.rank`.
        ranks: Number of processes that the record combines: see `across_ranks`.
    """

    layers: tuple[str, ...]
    layer_types: tuple[str, ...]
    trunk: tuple[bool, ...]
    steps: tuple[int, ...]
    output_rms: Tensor
    output_mean: Tensor
    zero_fraction: Tensor
    saturated_fraction: Tensor
    dead_fraction: Tensor
    output_nan: Tensor
    output_inf: Tensor
    grad_rms: Tensor
    grad_nan: Tensor
    grad_inf: Tensor
    output_count: Tensor
    output_rms_largest: Tensor
    grad_rms_largest: Tensor
    parameters: tuple[str, ...]
    parameter_rms: Tensor
    parameter_grad_rms: Tensor
    update_ratio: Tensor
    parameter_grad_rms_largest: Tensor
    total_grad_norm: Tensor
    lr: Tensor
    losses: Tensor
    grad_scale: Tensor
    first_nonfinite: NonFinite | None
    ranks: int = 1

    @property
    def depths(self) -> tuple[int, ...]:
        """Position of each layer in the forward pass: 1 on the input side."""
        return tuple(range(1, len(self.layers) + 1))

    @property
    def without_gradient(self) -> tuple[str, ...]:
        """Layers that no gradient reached in any recorded step: frozen, detached or unused."""
        empty = self.grad_rms.isnan().all(0) & (self.grad_nan == 0).all(0)
        return tuple(n for n, e in zip(self.layers, empty.tolist(), strict=True) if e)

    def __len__(self) -> int:
        return len(self.steps)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GradientRecord):
            return NotImplemented
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, Tensor):
                if mine.shape != theirs.shape:
                    return False
                if not torch.equal(mine.isnan(), theirs.isnan()):
                    return False
                if not torch.equal(mine.nan_to_num(), theirs.nan_to_num()):
                    return False
            elif mine != theirs:
                return False
        return True

    __hash__ = None  # type: ignore[assignment]  # says that a record has none

    def __getitem__(self, key: slice | int | str) -> "GradientRecord":
        """Some steps, `record[2:4]` or `record[-1]`, or one layer, `record["fc1"]`, with its calls.

        Rows are counted as `len(record)` does; `steps` keeps their own numbers.

        Raises:
            KeyError: If no layer has this name.
            IndexError: If the record has no such row.
            TypeError: If the key is none of these.
        """
        if isinstance(key, str):
            return self._of_layer(key)
        if not isinstance(key, slice | int) or isinstance(key, bool):
            raise TypeError(f"record[{key!r}]: expected a row, a slice of rows or a layer's name.")
        if isinstance(key, int):
            if not -len(self) <= key < len(self):
                raise IndexError(f"record[{key}]: the record has {len(self)} rows.")
            key = slice(key % len(self), key % len(self) + 1)
        steps = self.steps[key]
        kept = {n: getattr(self, n)[key] for n in (*PER_LAYER, *PER_PARAMETER, *PER_STEP)}
        first = self.first_nonfinite
        first = first if first is not None and first.step in steps else None
        return replace(self, steps=steps, first_nonfinite=first, **kept)

    def _of_layer(self, name: str) -> "GradientRecord":
        one = [i for i, layer in enumerate(self.layers) if layer == name]
        own = one or [i for i, n in enumerate(self.layers) if re.split(r"[#\[]", n)[0] == name]
        if not own:
            near = difflib.get_close_matches(name, self.layers, 3)
            said = f"did you mean {' or '.join(map(repr, near))}?" if near else "see record.layers."
            raise KeyError(f"record[{name!r}]: no layer has this name; {said}")
        inside = [i for i, n in enumerate(self.parameters) if n.rpartition(".")[0] == name]
        first = self.first_nonfinite
        names = {self.layers[i] for i in own} | {self.parameters[i] for i in inside}
        return replace(
            self,
            layers=tuple(self.layers[i] for i in own),
            layer_types=tuple(self.layer_types[i] for i in own),
            trunk=tuple(self.trunk[i] for i in own),
            parameters=tuple(self.parameters[i] for i in inside),
            first_nonfinite=first if first is not None and first.layer in names else None,
            **{n: getattr(self, n)[:, own] for n in PER_LAYER},
            **{n: getattr(self, n)[:, inside] for n in PER_PARAMETER},
        )

    def __add__(self, other: "GradientRecord") -> "GradientRecord":
        """One record after the other, its steps counted on, as after a training that was resumed.

        Layers and parameters that only one of them has hold NaN in the rows of the other.
        """
        if not isinstance(other, GradientRecord):
            return NotImplemented
        ahead = self.steps[-1] + 1 if self.steps else 0
        late = other.first_nonfinite
        late = None if late is None else NonFinite(late[0], late[1], late[2] + ahead, late.rank)
        layers = (*self.layers, *(n for n in other.layers if n not in self.layers))
        names = (*self.parameters, *(n for n in other.parameters if n not in self.parameters))
        types = dict(zip(other.layers, other.layer_types, strict=True))
        types |= dict(zip(self.layers, self.layer_types, strict=True))
        trunk = dict(zip(other.layers, other.trunk, strict=True))
        trunk |= dict(zip(self.layers, self.trunk, strict=True))
        tensors: dict[str, Any] = {n: _below(self, other, n, "layers", layers) for n in PER_LAYER}
        tensors |= {n: _below(self, other, n, "parameters", names) for n in PER_PARAMETER}
        for name in COUNTED:
            tensors[name].nan_to_num_(0.0)
        tensors |= {n: torch.cat([getattr(self, n), getattr(other, n)]) for n in PER_STEP}
        return GradientRecord(
            layers=layers,
            layer_types=tuple(types[name] for name in layers),
            trunk=tuple(trunk[name] for name in layers),
            steps=(*self.steps, *(step + ahead for step in other.steps)),
            parameters=names,
            first_nonfinite=self.first_nonfinite or late,
            ranks=max(self.ranks, other.ranks),
            **tensors,
        )

    def save(self, file: str | PathLike) -> None:
        """Write the record into one file: NumPy arrays and JSON, compressed, no pickle.

        It is written beside its place and moved there when it is whole, so that an interrupted
        write leaves what was there before.

        Args:
            file: Where to; ".npz" is not added.

        Raises:
            OSError: If it cannot be written.
        """
        tensors = (*PER_LAYER, *PER_PARAMETER, *PER_STEP)
        words = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in tensors}
        if self.first_nonfinite is not None:
            words["first_nonfinite"] = [*self.first_nonfinite, self.first_nonfinite.rank]
        arrays = {name: getattr(self, name).numpy() for name in tensors}
        place = Path(file)
        with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as beside:
            try:
                np.savez_compressed(beside, words=np.array(json.dumps(words)), **arrays)
                beside.close()
                os.replace(beside.name, place)
            except BaseException:
                beside.close()
                os.unlink(beside.name)
                raise

    @classmethod
    def load(cls, file: str | PathLike) -> "GradientRecord":
        """The record that `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds no record.
        """
        names = [field.name for field in fields(cls)]
        try:
            with np.load(file, allow_pickle=False) as stored:
                words = json.loads(str(stored["words"]))
                tensors: dict[str, Any] = {
                    name: torch.from_numpy(stored[name]) for name in names if name in stored
                }
        except (KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"file={str(file)!r} holds no record: {error}") from error
        if set(words) | set(tensors) != set(names):
            raise ValueError(f"file={str(file)!r} holds a record of another version.")
        first = words.pop("first_nonfinite")
        values = tensors | {n: tuple(v) if isinstance(v, list) else v for n, v in words.items()}
        return cls(first_nonfinite=None if first is None else NonFinite(*first), **values)

    def columns(self, layers: Sequence[str | int] | None = None) -> list[int]:
        """Column numbers of some layers.

        Args:
            layers: Names or column numbers; None for the trunk, or for all layers if the trunk
                has fewer than two.

        Returns:
            Column numbers into the (steps, layers) tensors.

        Raises:
            ValueError: If a name or number is not in the record.
        """
        if layers is None:
            trunk = [i for i, inside in enumerate(self.trunk) if inside]
            return trunk if len(trunk) > 1 else list(range(len(self.layers)))
        if isinstance(layers, str | int):
            layers = [layers]
        found = []
        for item in layers:
            if isinstance(item, str):
                found.append(self.layers.index(one_of("layers", item, self.layers)))
            elif -len(self.layers) <= item < len(self.layers):
                found.append(item % len(self.layers))
            else:
                raise ValueError(f"layers={item!r}: the record has {len(self.layers)} layers.")
        return found

    def _profile(self, quantity: str, step: int | None) -> Tensor:
        values = getattr(self, one_of("quantity", quantity, PER_LAYER))
        if not len(self):
            raise ValueError(
                "The record has no steps: run a forward and backward pass inside the block."
            )
        if step is None:
            return values.log().nanmean(0).exp()
        if not -len(self) <= step < len(self):
            raise ValueError(f"step={step}: the record has {len(self)} rows, 0 to {len(self) - 1}.")
        return values[step]

    def factor_per_layer(
        self,
        quantity: str = "grad_rms",
        *,
        step: int | None = -1,
        layers: Sequence[str | int] | None = None,
    ) -> Factor:
        """Factor per layer, by least squares of log RMS over depth.

        Read in the direction of travel: a gradient goes from the last layer to the first, an
        output from the first to the last. Below 1 it vanishes, above 1 it explodes. For the
        gradient, log RMS_l = a − l log f, so over n layers it is multiplied by f^(n−1).

        Args:
            quantity: "grad_rms" or "output_rms".
            step: Row of the record, −1 for the last; None for the geometric mean over steps.
            layers: Names or column numbers; the trunk when None.

        Returns:
            The factor, a float with `.standard_error` and `.layers`. 0 if an RMS is exactly 0
            somewhere, NaN if one is infinite or fewer than two layers are left.

        Raises:
            ValueError: If a name, the step or the quantity is unknown, or the record is empty.
        """
        columns = self.columns(layers)
        profile = self._profile(quantity, step)[columns]
        names = [self.layers[i] for i in columns]
        return fit_factor(profile, names, quantity in TRAVELS_BACK)

    def total_factor(
        self,
        quantity: str = "grad_rms",
        *,
        step: int | None = -1,
        layers: Sequence[str | int] | None = None,
    ) -> float:
        """What a signal is multiplied by over the whole depth.

        For the gradient RMS of the first layer over RMS of the last, for outputs last over
        first: below 1 it vanishes.

        Args:
            quantity: "grad_rms" or "output_rms".
            step: Row of the record, −1 for the last; None for the geometric mean over steps.
            layers: Names or column numbers; the trunk when None.

        Returns:
            The ratio, dimensionless; NaN if fewer than two layers have a value.
        """
        profile = self._profile(quantity, step)[self.columns(layers)]
        profile = profile[~profile.isnan()]
        if len(profile) < 2:
            return math.nan
        first, last = float(profile[0]), float(profile[-1])
        start, end = (last, first) if quantity in TRAVELS_BACK else (first, last)
        if start == 0:
            return math.nan if end == 0 else math.inf
        return end / start

    def to_dict(self) -> dict:
        """The record as lists, strings and numbers that strict JSON can hold.

        NaN becomes None, Inf becomes "inf" or "-inf". `from_dict` turns them back, bit for bit.
        """
        result = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                numbers = [to_json(number) for number in value.flatten().tolist()]
                value = {"shape": list(value.shape), "values": numbers}
            elif isinstance(value, NonFinite):
                value = [*value, value.rank]
            elif isinstance(value, tuple):
                value = list(value)
            result[field.name] = value
        return result

    @classmethod
    def from_dict(cls, data: dict) -> "GradientRecord":
        """The record that `to_dict` was made from.

        Args:
            data: What `to_dict` returned, possibly after a trip through JSON.

        Returns:
            An equal record.

        Raises:
            ValueError: If a field is missing or unknown, or a tensor has the wrong size.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(data, dict) or set(data) != set(names):
            given = sorted(data) if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"data={given} is not a record: expected a dict with {names}.")
        values: dict[str, Any] = {}
        for name in names:
            value = data[name]
            if isinstance(value, dict):
                try:
                    numbers = [from_json(item) for item in value["values"]]
                    tensor = torch.tensor(numbers, dtype=torch.float64).reshape(value["shape"])
                except (KeyError, TypeError, RuntimeError) as error:
                    raise ValueError(f"data[{name!r}] does not hold a tensor: {error}") from error
                values[name] = tensor
            elif name == "first_nonfinite":
                values[name] = None if value is None else NonFinite(*value)
            else:
                values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    def across_ranks(self, group: Any = None) -> "GradientRecord":
        """The records of all processes of torch.distributed as one, the same on each.

        Call it on every process of the group: it waits for all of them. Nothing is sent while the
        model trains; this is the one moment. Each process receives the records of all: for
        every step 8 bytes × (12 per layer + 3 per parameter) × number of processes, 0.4 MB per
        100 steps, 50 layers and process. Where that is too much, record fewer steps (`every=`) or
        layers (`layers=`). How the records are put together: see `cu.recording.combine`.

        Args:
            group: A process group; None for all processes.

        Returns:
            The combined record; this record itself in one process.

        >>> from torch import nn
        >>> from course_utils import record
        >>> with record(nn.Linear(2, 1)) as recorder:
        ...     recorder.model(torch.ones(4, 2)).sum().backward()
        >>> recorder.record.across_ranks().ranks
        1
        """
        from .across_ranks import gather

        return gather(self, group)

    def to_frame(self, of: str = "layers") -> "object":
        """The record as a tidy pandas DataFrame, one row per step and layer or parameter.

        Args:
            of: "layers" or "parameters".

        Returns:
            A DataFrame with the columns step, layer, type and depth (or step and parameter), loss
            and lr, and one per quantity.

        Raises:
            ImportError: If pandas is not installed.
            ValueError: If `of` is neither word.
        """
        one_of("of", of, ("layers", "parameters"))
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError(
                "to_frame() needs pandas, which is not installed: run `pip install pandas`, or "
                "use to_dict()."
            ) from error
        own = of == "parameters"
        names = self.parameters if own else self.layers
        quantities: Sequence[str] = PER_PARAMETER if own else PER_LAYER
        count = len(self.steps)
        columns: dict[str, list] = {
            "step": [step for step in self.steps for _ in names],
            of[:-1]: list(names) * count,
        }
        if not own:
            columns["type"] = list(self.layer_types) * count
            columns["depth"] = list(self.depths) * count
        for per_step, name in (("loss", "losses"), ("lr", "lr")):
            columns[per_step] = getattr(self, name).repeat_interleave(len(names)).tolist()
        for quantity in quantities:
            columns[quantity] = getattr(self, quantity).reshape(-1).tolist()
        return pandas.DataFrame(columns)

    def __repr__(self) -> str:
        return f"GradientRecord({self._summary()})"

    def __str__(self) -> str:
        """A table of the last row, for a terminal."""
        if not len(self) or not self.layers:
            return repr(self)
        rows = [("layer", "type", *TITLES), *self._table()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [f"{self._summary()}. Last recorded step, {self.steps[-1]}:"]
        for name, kind, *numbers in rows:
            cells = [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), kind.ljust(widths[1]), *cells]).rstrip())
        return "\n".join(lines)

    def _table(self) -> list[tuple[str, ...]]:
        """Name, type and figures of each layer in the last row; of many the first and last ones."""
        count = len(self.layers)
        shown: list[int | None] = list(range(count))
        if count > SHOWN:
            shown = [*range(SHOWN // 2), None, *range(count - SHOWN // 2, count)]
        rows: list[tuple[str, ...]] = []
        for i in shown:
            if i is None:
                rows.append((f"… {count - SHOWN} more …", *[""] * (1 + len(TITLES))))
                continue
            cells = []
            for name in COLUMNS:
                value = float(getattr(self, name)[-1, i])
                text = f"{value:.3g}"
                if name == "zero_fraction" and not math.isnan(value):
                    text = f"{value:.0%}"
                if name == "grad_rms" and math.isnan(value) and not self.grad_nan[-1, i] > 0:
                    text = "no gradient"
                cells.append(text)
            rows.append((self.layers[i], self.layer_types[i], *cells))
        return rows

    def _summary(self) -> str:
        text = f"{len(self.steps)} steps, {len(self.layers)} layers, "
        text += f"{len(self.parameters)} parameters"
        if self.first_nonfinite is not None:
            layer, pass_name, step = self.first_nonfinite
            text += f"; first NaN or Inf: {layer}, {pass_name}, step {step}"
            rank = self.first_nonfinite.rank
            text += "" if rank is None else f", rank {rank}"
        if self.layers and len(self) and self.without_gradient:
            text += f"; no gradient reached {len(self.without_gradient)} of the layers"
        return text

    def _repr_html_(self) -> str:
        if not len(self) or not self.layers:
            return f"<p>GradientRecord: {html.escape(self._summary())}</p>"
        lines = []
        for cells in self._table():
            wide = cells[0].startswith("… ") and not cells[1]
            inside = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            lines.append(
                f"<tr><td colspan='6'>{cells[0]}</td></tr>" if wide else f"<tr>{inside}</tr>"
            )
        head = "".join(f"<th>{title}</th>" for title in ("layer", "type", *TITLES))
        return (
            f"<p>{html.escape(self._summary())}. Last recorded step, {self.steps[-1]}:</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        )


def _below(
    first: GradientRecord, second: GradientRecord, quantity: str, of: str, names: Sequence[str]
) -> Tensor:
    """A quantity of both, one below the other, with the columns `names`."""
    places, parts = {name: i for i, name in enumerate(names)}, []
    for record in (first, second):
        values, own = getattr(record, quantity), getattr(record, of)
        part = torch.full((len(record), len(names)), math.nan, dtype=torch.float64)
        part[:, [places[name] for name in own]] = values
        parts.append(part)
    return torch.cat(parts)
