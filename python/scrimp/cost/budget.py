"""A budget stops work before it overspends, not after."""

from __future__ import annotations

from dataclasses import dataclass

from scrimp.cost.billing import bill
from scrimp.cost.prices import Prices
from scrimp.errors import BudgetExceeded
from scrimp.usage import Usage


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a piece of work; None is no limit.

    Parameters
    ----------
    usd : float, optional
        Dollars, by `prices`.
    seconds : float, optional
        Wall-clock seconds.
    bytes : float, optional
        Bytes sent by collectives, headers included.
    joules : float, optional
        Energy, measured or estimated as the meter of the machine allows.
    prices : Prices, optional
        For `usd`; default the shipped example list prices.

    Examples
    --------
    >>> Budget(seconds=10).check(Usage(wall_s=9), Usage(wall_s=0.5))
    >>> Budget(seconds=10).check(Usage(wall_s=9), Usage(wall_s=2))
    Traceback (most recent call last):
    scrimp.errors.BudgetExceeded: budget of 10 seconds: spent 9, the next step needs about 2
    """

    usd: float | None = None
    seconds: float | None = None
    bytes: float | None = None
    joules: float | None = None
    prices: Prices | None = None

    def __post_init__(self) -> None:
        for name in ("usd", "seconds", "bytes", "joules"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ValueError(f"budget: {name} must be above 0, got {limit!r}")

    def check(self, spent: Usage, next_step_estimate: Usage | None = None) -> None:
        """Raise if the next step would overspend.

        Parameters
        ----------
        spent : Usage
            So far.
        next_step_estimate : Usage, optional
            What one more step is likely to need (a high quantile of past steps, with saving the state).
            Default: nothing.

        Raises
        ------
        BudgetExceeded
            Names the limit, what was spent and what the next step needs.
        """
        step = next_step_estimate or Usage()
        prices = (self.prices or Prices.load()) if self.usd is not None else None
        for name, limit, used, needed in (
            ("seconds", self.seconds, spent.wall_s, step.wall_s),
            ("bytes", self.bytes, _sent(spent), _sent(step)),
            ("joules", self.joules, spent.joules, step.joules),
            ("usd", self.usd, _usd(spent, prices), _usd(step, prices)),
        ):
            if limit is not None and used + needed > limit:
                raise BudgetExceeded(
                    f"budget of {limit:.6g} {name}: spent {used:.6g}, the next step needs about {needed:.6g}"
                )


def _sent(usage: Usage) -> int:
    return usage.wire_bytes + usage.header_bytes


def _usd(usage: Usage, prices: Prices | None) -> float:
    return 0.0 if prices is None else bill(usage, prices).total_usd
