"""Reduce a tensor to a few float64 numbers: one fast pass, and a careful one where it fails.

A float32 dot product reads memory at full speed, but the square of 1e-25 is 0 and that of 1e20
is Inf. So the fast pass looks at its result and, where that is suspicious, the careful pass
divides by the largest magnitude and works in float64. On the CPU looking costs nothing. On a
GPU it would wait for the device, so there the reduction is done in float64 at once and the
numbers stay on the device until the record is read.
"""

import math

import torch
from torch import Tensor

from .zeros import ZeroCounts

CHUNK = 1 << 16
"""Elements that are read several times in a row, small enough to stay in the cache."""


def flat(value: Tensor) -> Tensor:
    """All elements as a 1-D tensor, in memory order where that saves a copy."""
    if value.layout is not torch.strided:
        value = value.coalesce().values() if value.layout is torch.sparse_coo else value.to_dense()
    if value.is_complex():
        value = torch.view_as_real(value.resolve_conj())
    if value.is_contiguous():
        return value.view(-1)
    order = sorted(range(value.dim()), key=value.stride, reverse=True)
    dense = value.permute(order)
    return dense.view(-1) if dense.is_contiguous() else value.reshape(-1)


def careful(values: Tensor, count: int) -> tuple[float, float, float, float]:
    """RMS, mean, number of NaN, number of Inf of a 1-D tensor, scaled and in float64.

    Args:
        values: 1-D real tensor, not empty.
        count: N in Σv²/N; differs from the length for complex and sparse tensors.

    Returns:
        Four floats. RMS is NaN with a NaN in it, else Inf with an Inf in it.
    """
    largest = float(values.abs().amax())
    if largest == 0.0:
        return 0.0, 0.0, 0.0, 0.0
    if not math.isfinite(largest):
        nan, inf = float(values.isnan().sum()), float(values.isinf().sum())
        return math.nan if nan else math.inf, float(values.double().mean()), nan, inf
    scaled = values.double() / largest
    mean_square = float(torch.dot(scaled, scaled)) / count
    return largest * math.sqrt(mean_square), largest * float(scaled.sum()) / count, 0.0, 0.0


def trusted(square_sum: float, count: int, dtype: torch.dtype) -> bool:
    """Whether a sum of squares taken in `dtype` neither overflowed nor lost digits to underflow.

    The bounds leave a relative error below 1e-6 even where denormals are flushed to zero.
    """
    if dtype is torch.float64:
        return count * 1e-300 < square_sum < 1e300
    return count * 1e-32 < square_sum < 1e37


def rms_of(value: Tensor) -> tuple[float, float, float]:
    """RMS and numbers of NaN and Inf of a CPU tensor.

    RMS = √(Σ|v|²/N) over all N elements; NaN for an empty tensor.
    """
    count = value.numel()
    if value.dtype is torch.float32 and value.is_contiguous():
        values = value.view(-1)
        square_sum = torch.dot(values, values).item()
        if count * 1e-32 < square_sum < 1e37:
            return math.sqrt(square_sum / count), 0.0, 0.0
    if count == 0:
        return math.nan, 0.0, 0.0
    values = flat(value)
    if values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    square_sum = torch.dot(values, values).item()
    if trusted(square_sum, count, values.dtype):
        return math.sqrt(square_sum / count), 0.0, 0.0
    if values.numel() == 0:
        return 0.0, 0.0, 0.0
    rms, _, nan, inf = careful(values, count)
    return rms, nan, inf


def rms_on_device(value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """RMS and numbers of NaN and Inf as 0-d tensors that stay where the tensor is."""
    count = value.numel()
    values = flat(value)
    if values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    nan, inf = values.isnan().sum(), values.isinf().sum()
    if count == 0 or values.numel() == 0:
        return nan + (math.nan if count == 0 else 0.0), nan, inf
    if values.dtype is torch.float64 or values.device.type == "mps":
        largest = values.abs().amax()
        scale = torch.where((largest > 0) & largest.isfinite(), largest, torch.ones_like(largest))
        norm = torch.linalg.vector_norm(values / scale) * scale
    else:
        norm = torch.linalg.vector_norm(values, dtype=torch.float64)
    return norm / math.sqrt(count), nan, inf


class OutputNumbers:
    """Reduces outputs of layers; owns the scratch buffers that this needs.

    The largest of them has one byte per entry of the largest output.
    """

    def __init__(self) -> None:
        self._scratch: dict[torch.dtype, Tensor] = {}
        self._zeros = ZeroCounts()

    def scratch(self, dtype: torch.dtype) -> Tensor:
        """A CPU buffer of `CHUNK` elements, made once."""
        if dtype not in self._scratch:
            self._scratch[dtype] = torch.empty(CHUNK, dtype=dtype, device="cpu")
        return self._scratch[dtype]

    def on_cpu(self, value: Tensor, saturation: tuple[float, float] | None, dead: bool) -> list:
        """RMS, mean, share of zeros, of saturated, of dead units, number of NaN, of Inf.

        Args:
            value: Output of a layer, with gradients disabled or detached.
            saturation: (center, distance): an entry at least that far from it is saturated.
            dead: Whether to measure the share of units (all dimensions but the first) that
                are exactly 0 for the whole batch.

        Returns:
            Seven floats, NaN where there is nothing to measure.
        """
        if value.dtype is torch.float32 and value.is_contiguous() and value.numel():
            count, values = value.numel(), value.view(-1)
            square_sum = torch.dot(values, values).item()
            if count * 1e-32 < square_sum < 1e37:
                mean = torch.sum(values).item() / count
                dead = dead and value.dim() > 1
                zeros, gone = self._zeros.shares(values, value.shape[0] if dead else 1, dead)
                far = (
                    math.nan if saturation is None else self._saturated(values, saturation) / count
                )
                return [math.sqrt(square_sum / count), mean, zeros, far, gone, 0.0, 0.0]
        return self._any(value, saturation, dead)

    def _saturated(self, values: Tensor, saturation: tuple[float, float]) -> float:
        """How many entries lie at least a distance away from the center, by Σ sign."""
        center, distance = saturation
        far = 0.0
        for part in values.split(CHUNK):
            signs = self.scratch(values.dtype)[: part.numel()]
            torch.sub(part, center, out=signs).abs_().sub_(distance).sign_()
            far += torch.sum(signs).item()
        return 0.5 * (values.numel() + far)

    def _any(self, value: Tensor, saturation: tuple[float, float] | None, dead: bool) -> list:
        count, complex_values = value.numel(), value.is_complex()
        if count == 0:
            return [math.nan] * 5 + [0.0, 0.0]
        values = flat(value)
        if values.dtype not in (torch.float32, torch.float64):
            values = values.float()
        if values.numel() == 0:
            return [0.0, 0.0, 1.0, math.nan, math.nan, 0.0, 0.0]
        scratch = self.scratch(values.dtype)
        parts = (values,) if values.numel() <= CHUNK else values.split(CHUNK)
        square_sum = total = nonzero = 0.0
        for part in parts:
            square_sum += torch.dot(part, part).item()
            total += torch.sum(part).item()
            signs = torch.sign(part, out=scratch[: part.numel()])
            nonzero += torch.dot(signs, signs).item()
        numbers = [math.nan] * 5 + [0.0, 0.0]
        if trusted(square_sum, count, values.dtype):
            numbers[0], numbers[1] = math.sqrt(square_sum / count), total / count
        else:
            numbers[0], numbers[1], numbers[5], numbers[6] = careful(values, count)
            nonzero = float((values != 0).sum())
        if complex_values:
            numbers[1] = math.nan
            nonzero = float((value != 0).sum())
        numbers[2] = 1.0 - nonzero / count
        if saturation is not None:
            lost = numbers[5] or numbers[6]
            numbers[3] = math.nan if lost else self._saturated(values, saturation) / count
        if dead and value.dim() > 1:
            largest = torch.amax(value, 0)
            numbers[4] = 1.0 - torch.count_nonzero(largest).item() / largest.numel()
        return numbers

    def on_device(self, value: Tensor, saturation: tuple[float, float] | None, dead: bool) -> list:
        """The same seven numbers, as 0-d tensors or floats, without waiting for the device."""
        rms, nan, inf = rms_on_device(value)
        numbers: list = [rms, math.nan, math.nan, math.nan, math.nan, nan, inf]
        if value.numel() == 0:
            return numbers
        if value.layout is not torch.strided:
            value = value.to_dense()
        numbers[2] = (value == 0).sum() / value.numel()
        if value.is_complex():
            return numbers
        wide = torch.float32 if value.device.type == "mps" else torch.float64
        numbers[1] = value.mean(dtype=wide)
        if saturation is not None:
            center, distance = saturation
            numbers[3] = ((value - center).abs() >= distance).sum() / value.numel()
        if dead and value.dim() > 1:
            largest = torch.amax(value, 0)
            numbers[4] = (largest == 0).sum() / largest.numel()
        return numbers
