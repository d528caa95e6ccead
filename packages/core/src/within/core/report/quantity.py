"""Numbers as people read them: a value and its unit in, a short string out."""

from __future__ import annotations

import math

MEBIBYTE = 2**20
MINUS = "\N{MINUS SIGN}"
NO_VALUE = "\N{EN DASH}"


def quantity(value: float | None, unit: str, places: int | None = None) -> str:
    """Returns `value` with its unit, scaled to a readable size.

    Arguments:
        value: in `unit`; None prints as a dash.
        unit: "B" or "bytes" prints in KiB, MiB or GiB; "MAC", "parameters" and "FLOP" in thousands, millions or
            billions; "s" and "ms" in whichever of the two fits; any other unit is printed as it is.
        places: decimal places, for units that are not scaled.
    """
    if value is None:
        return NO_VALUE
    if not math.isfinite(value):
        return f"{value} {unit}".strip()
    if unit in ("B", "bytes"):
        return _bytes(value)
    if unit in ("s", "ms"):
        return _time(value * 1000 if unit == "s" else value)
    if unit in ("MAC", "MACs", "FLOP", "FLOPs"):
        return _scaled(value, unit)
    if unit in ("parameters", "params"):
        return _scaled(value, "")
    number = f"{value:,.{places}f}" if places is not None else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return _minus(f"{number} {unit}".strip())


def relative(ratio: float | None) -> str:
    """Returns the change that a ratio of after over before means, as in "-50.1 %"."""
    if ratio is None or not math.isfinite(ratio):
        return NO_VALUE
    change = 100 * (ratio - 1)
    return _minus(f"{change:+.1f} %") if abs(change) >= 0.05 else "0 %"


def error(value: float | None) -> str:
    """Returns a relative error as a signed percentage; "exact" when it is zero."""
    if value is None:
        return NO_VALUE
    if value == 0:
        return "exact"
    return _minus(f"{100 * value:+.2f} %") if abs(value) >= 5e-5 else _minus(f"{value:+.0e}")


def difference(before: float | None, after: float | None, unit: str, places: int) -> str:
    """Returns after - before with its sign and unit; a dash unless both are finite."""
    if before is None or after is None or not (math.isfinite(before) and math.isfinite(after)):
        return NO_VALUE
    return _minus(f"{after - before:+.{places}f} {unit}".strip())


def _bytes(value: float) -> str:
    for size, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(value) >= size:
            return _minus(f"{value / size:,.2f} {name}")
    return _minus(f"{value:,.0f} B")


def _time(milliseconds: float) -> str:
    if abs(milliseconds) >= 1000:
        return _minus(f"{milliseconds / 1000:,.2f} s")
    return _minus(f"{milliseconds:.3g} ms" if abs(milliseconds) < 100 else f"{milliseconds:.1f} ms")


def _scaled(value: float, unit: str) -> str:
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return _minus(f"{value / size:,.3f} {prefix}{unit}")
    return _minus(f"{value:,.0f} {unit}".strip())


def _minus(text: str) -> str:
    """Returns `text` with a typographic minus, so that columns of signed numbers line up."""
    return text.replace("-", MINUS, 1) if text.startswith("-") else text
