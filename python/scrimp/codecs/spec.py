"""The text form of a codec, `name` or `name:option=value,option=value`: parsed and printed here alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from scrimp import _core

Choices = dict[str, str | tuple[str, ...]]  # option -> its values, the default first, or the kind of number
_NUMBERS = {"positive": (math.inf, "a positive number"), "share": (1.0, "a number above 0, up to 1")}
_NATIVE_NAMES = {"k": "step", "block": "variant", "bits": "variant"}


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
    return _core.codec_names()


def codec_choices(name: str) -> Choices:
    """Return the options of a codec: their values with the default first, or the kind of number.

    Examples
    --------
    >>> codec_choices("mxfp4")
    {'scale': ('floor', 'rceil', 'even')}
    """
    return _core.codec_choices(name)


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
    choices = _core.codec_choices(name)
    chosen = _choose(text, choices, _options(text, tail))
    native = _core.NativeCodec(name, **{_NATIVE_NAMES.get(key, key): chosen[key] for key in chosen})
    return Spec(name, tuple((key, _shown(value)) for key, value in chosen.items())), native


def _shown(value: str | int | float) -> str:
    return str(np.float32(value)) if isinstance(value, float) else str(value)


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


def _choose(text: str, choices: Choices, given: dict[str, str]) -> dict[str, Any]:
    """Check the given options; return those that are not defaults, in the order of the registry."""
    for key in given:
        if key not in choices:
            possible = ", ".join(choices) or "none"
            raise ValueError(f"codec {text!r} has no option {key!r}; possible: {possible}")
    chosen: dict[str, Any] = {}
    for key, possible_values in choices.items():
        if isinstance(possible_values, str):
            if key in given:
                chosen[key] = _number(text, key, given[key], possible_values)
            elif possible_values == "positive":
                raise ValueError(f"codec {text!r} needs {key}: {text}:{key}=0.01")
        elif key in given and given[key] != possible_values[0]:
            chosen[key] = _one_of(text, key, given[key], possible_values)
    return chosen


def _one_of(text: str, key: str, value: str, possible: tuple[str, ...]) -> str | int:
    if value not in possible:
        raise ValueError(f"codec {text!r}: {key} must be one of {', '.join(possible)}, got {value!r}")
    return int(value) if value.isdigit() else value


def _number(text: str, key: str, value: str, kind: str) -> float:
    largest, wanted = _NUMBERS[kind]
    try:
        with np.errstate(over="ignore"):
            number = float(np.float32(float(value)))
    except (ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and 0 < number <= largest):
        raise ValueError(f"codec {text!r}: {key} must be {wanted}, got {value!r}")
    return number
