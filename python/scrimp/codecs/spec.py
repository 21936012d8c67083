"""The text form of a codec, `name` or `name:option=value,option=value`: parsed and printed here alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scrimp import _core

_NATIVE_STEP = {8: "step8", 16: "step16"}


@dataclass(frozen=True, slots=True)
class Spec:
    """A parsed spec.

    Parameters
    ----------
    name : str
        Name in the registry, such as `int4`.
    options : tuple of (str, str or float)
        What differs from the defaults, in the canonical order.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        text = ",".join(f"{key}={value}" for key, value in self.options)
        return f"{self.name}:{text}" if text else self.name


def names() -> list[str]:
    """Return the names that a spec may begin with.

    Examples
    --------
    >>> "int4" in names()
    True
    """
    found = [name for name in _core.codec_names() if name not in _NATIVE_STEP.values()]
    return [*found, "step"]


def parse(text: str) -> tuple[Spec, _core.NativeCodec]:
    """Parse a spec and make its native codec.

    Parameters
    ----------
    text : str
        For example `"int4"`, `"int4:rounding=stochastic"`, `"step:k=0.01,bits=8"`.

    Returns
    -------
    (Spec, NativeCodec)
        The spec in canonical form, and the codec.

    Raises
    ------
    ValueError
        Unknown name, option or value; the message lists the known ones.

    Examples
    --------
    >>> str(parse("step: bits=8, k=0.50")[0])
    'step:k=0.5'
    """
    if not isinstance(text, str):
        raise TypeError(f"codec spec must be a string such as 'int4', got {type(text).__name__}")
    name, _, tail = text.strip().partition(":")
    name = name.strip()
    if name not in names():
        raise ValueError(f"unknown codec {name!r}; known: {', '.join(names())}")
    given = _options(text, tail)
    return _step(text, given) if name == "step" else _plain(text, name, given)


def _options(text: str, tail: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in tail.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key or not value:
            raise ValueError(f"codec {text!r}: options are written option=value, got {item!r}")
        if key in given:
            raise ValueError(f"codec {text!r}: option {key!r} is given twice")
        given[key] = value
    return given


def _allow(text: str, given: dict[str, str], *allowed: str) -> None:
    possible = ", ".join(allowed) or "none"
    for key in given:
        if key not in allowed:
            raise ValueError(f"codec {text!r} has no option {key!r}; possible: {possible}")


def _plain(text: str, name: str, given: dict[str, str]) -> tuple[Spec, _core.NativeCodec]:
    _allow(text, given, *(("rounding",) if name in ("int8", "int4") else ()))
    rounding = given.get("rounding", "nearest")
    if rounding not in ("nearest", "stochastic"):
        raise ValueError(f"codec {text!r}: rounding must be nearest or stochastic, got {rounding!r}")
    options = () if rounding == "nearest" else (("rounding", rounding),)
    return Spec(name, options), _core.NativeCodec(name, rounding == "stochastic")


def _step(text: str, given: dict[str, str]) -> tuple[Spec, _core.NativeCodec]:
    _allow(text, given, "k", "bits")
    if "k" not in given:
        raise ValueError(f"codec {text!r} needs its step: step:k=0.01")
    bits = given.get("bits", "8")
    if bits not in ("8", "16"):
        raise ValueError(f"codec {text!r}: bits must be 8 or 16, got {bits}")
    k = _positive(text, "k", given["k"])
    options = (("k", f"{k:.9g}"), *((("bits", bits),) if bits != "8" else ()))
    return Spec("step", options), _core.NativeCodec(_NATIVE_STEP[int(bits)], False, k)


def _positive(text: str, key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"codec {text!r}: {key} must be a positive number, got {value!r}")
    return number
