"""The BLAS of NumPy and SciPy, with one thread: the order of sums depends on the number of threads."""

from __future__ import annotations

from functools import cache
from typing import Any


def one_thread() -> Any:
    """Return a context with one BLAS thread."""
    return _blas().limit(limits=1, user_api="blas")


@cache
def _blas() -> Any:
    """Find the libraries once: looking for them takes 9 ms."""
    import scipy.linalg  # noqa: F401  its BLAS is a library of its own, which the limit must find loaded
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()
