"""Prices with a name, a source and a date, read from a TOML or JSON file. The only place that knows money."""

from __future__ import annotations

import json
import reprlib
import tomllib
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from scrimp.errors import InputError

SCHEMA = "scrimp.prices/1"
LARGEST = 1e100  # a price or an amount: their product and the sum of a bill stay finite


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars per unit of each resource. 1 GiB = 2³⁰ bytes; a price of 0 bills nothing.

    Parameters
    ----------
    name, source, date : str
        What these prices are, where they were read, and when.
    cpu_hour : float
        One CPU busy for an hour.
    memory_gib_hour : float
        Peak memory held for the wall-clock time.
    wire_gib : float
        Bytes sent by collectives, headers included.
    stored_gib_month : float
        Bytes kept on disk for a month.
    machine_hour : float
        A machine rented whole, by the wall clock (then leave the first two at 0).
    kwh : float
        Electricity, for those who pay it themselves.
    stored_months : float
        How long stored bytes are kept.

    Examples
    --------
    >>> Prices(name="ours", source="contract", date="2026-01", machine_hour=0.5).machine_hour
    0.5
    """

    name: str
    source: str
    date: str
    cpu_hour: float = 0.0
    memory_gib_hour: float = 0.0
    wire_gib: float = 0.0
    stored_gib_month: float = 0.0
    machine_hour: float = 0.0
    kwh: float = 0.0
    stored_months: float = 1.0

    @classmethod
    def load(cls, path: str | Path | None = None) -> Prices:
        """Read a price file; without a path, the shipped one (example list prices).

        Parameters
        ----------
        path : str, Path or None
            A `.toml` or `.json` file of schema `scrimp.prices/1`. The shipped `cost/prices.toml` shows
            every key.

        Raises
        ------
        InputError
            The file is missing, is not TOML/JSON, or a key is missing, unknown or not a number from 0 to
            1e100.

        Examples
        --------
        >>> "example" in Prices.load().name
        True
        """
        return _shipped() if path is None else _from_document(_read(Path(path)), str(path))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dict, for JSON."""
        return asdict(self)


@cache
def _shipped() -> Prices:
    """Read them once: every fit has a bill."""
    shipped = resources.files("scrimp.cost") / "prices.toml"
    return _from_document(tomllib.loads(shipped.read_text(encoding="utf-8")), "prices.toml")


_TEXT = ("name", "source", "date")
_ASSUME = ("stored_months",)
_UNITS = tuple(f.name for f in fields(Prices) if f.name not in _TEXT + _ASSUME)


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InputError(f"cannot read the price file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # the errors of both decoders are ValueErrors
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise InputError(f"the price file {path} is not {kind}: {error}") from error


def _from_document(document: Any, where: str) -> Prices:
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{where}: schema must be {SCHEMA!r}, got {schema!r}")
    _only(document, ("schema", "usd_per", "assume", *_TEXT), where)
    values: dict[str, Any] = {key: _text(document, key, where) for key in _TEXT}
    values |= _numbers(document, "usd_per", _UNITS, where)
    values |= _numbers(document, "assume", _ASSUME, where)
    return Prices(**values)


def _only(table: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise InputError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(known)}")


def _text(document: dict[str, Any], key: str, where: str) -> str:
    value = document.get(key)
    if value is None:
        raise InputError(f"{where}: {key} is missing; a price without it cannot be judged")
    if not str(value).strip():
        raise InputError(f"{where}: {key} is empty; a price without it cannot be judged")
    return str(value)


def _numbers(document: dict[str, Any], name: str, known: tuple[str, ...], where: str) -> dict[str, float]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise InputError(f"{where}: {name} must be a table, got {table!r}")
    _only(table, known, f"{where}, {name}")
    for key, value in table.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
            wish = f"a number from 0 to {LARGEST:g}"
            raise InputError(f"{where}: {name}.{key} must be {wish}, got {reprlib.repr(value)}")
    return {key: float(value) for key, value in table.items()}
