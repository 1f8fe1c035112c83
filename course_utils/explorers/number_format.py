"""Numbers as an explorer writes them, letter by letter as formatNumber of grid.js does it."""

import math
import re

_FORMAT = re.compile(r"\+?,?(\.\d{1,2})?[gfed%]")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_number(value: float, spec: str) -> str:
    """Write a number as the explorer shows it: a real minus, and powers of ten as powers.

    From 1e15 on, f, d and % give way to .3g: nobody counts sixteen digits.

    Args:
        value: Any number; NaN and the infinities have their own signs.
        spec: A Python number format: optional +, comma and precision, then g, f, e, d or %.

    Returns:
        The text.

    Raises:
        ValueError: If `spec` is not such a format.

    >>> format_number(-0.000012, ".2g"), format_number(3.0, "d"), format_number(float("inf"), "g")
    ('−1.2×10⁻⁵', '3', '∞')
    """
    if not isinstance(spec, str) or not _FORMAT.fullmatch(spec):
        raise ValueError(
            f"format={spec!r} is not understood: write an optional +, an optional comma, an "
            "optional precision and one of g, f, e, d, %, for example '.3g' or '.1%'."
        )
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if spec[-1] in "fd%" and abs(value) >= 1e15:
        spec = ("+" if spec[0] == "+" else "") + ".3g"
    if spec.endswith("d"):
        spec = re.sub(r"\.\d+", "", spec)[:-1] + ".0f"
    text = format(float(value), spec)
    mantissa, exponent, power = text.partition("e")
    if exponent:
        text = f"{mantissa}×10{str(int(power)).translate(_SUPERSCRIPT)}"
    return text.replace("-", "−")
