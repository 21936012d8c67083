"""Which solver suits a least-squares problem, and why, in words."""

from __future__ import annotations

from typing import NamedTuple

from scrimp.matrix import LEAF_ROWS

SOLVERS = ("auto", "gram", "cg", "lbfgs", "sgd")
GRAM_COLUMNS = 1500  # above, d²·n of the Gram matrix costs more than the passes that it saves


class Choice(NamedTuple):
    """A solver and the reason for it."""

    solver: str
    reason: str


def choose_solver(
    solver: str, n: int, d: int, compress: str | tuple[str, str], shard: str, sync_every: int
) -> Choice:
    """Return what to use.

    Examples
    --------
    >>> choose_solver("auto", 10**6, 100, "raw", "rows", 1).solver
    'gram'
    >>> choose_solver("auto", 10**6, 100, "int4", "rows", 1)
    Choice(solver='lbfgs', reason="compress='int4' is for gradients")
    """
    if solver not in SOLVERS:
        raise ValueError(f"unknown solver {solver!r}; known: {', '.join(SOLVERS)}")
    if shard == "features":
        return _choose_for_columns(solver, compress, sync_every)
    wish = _gradient_wish(compress, shard, sync_every)
    if solver in ("gram", "cg") and wish:
        raise ValueError(f"solver={solver!r} sends exact sums: {wish}; use solver='lbfgs' or 'sgd'")
    if sync_every > 1 and solver == "lbfgs":
        raise ValueError("sync_every above 1 needs solver='sgd'")
    if solver != "auto":
        return Choice(solver, "as asked")
    if wish:
        return Choice("sgd" if sync_every > 1 else "lbfgs", wish)
    if n <= LEAF_ROWS:
        return Choice("gram", f"n={n} rows are one leaf: solved directly")
    if d <= GRAM_COLUMNS:
        return Choice("gram", f"d={d} columns are at most {GRAM_COLUMNS}: one Gram matrix, few passes")
    return Choice("cg", f"d={d} columns are more than {GRAM_COLUMNS}: no Gram matrix")


def _choose_for_columns(solver: str, compress: str | tuple[str, str], sync_every: int) -> Choice:
    wish = _gradient_wish(compress, "rows", sync_every)
    if solver not in ("auto", "cg") or wish:
        got = wish or f"solver={solver!r}"
        raise ValueError(f"shard='features' is conjugate gradients on exact sums, solver='cg'; got {got}")
    return Choice("cg", "shard='features': every rank has a block of the columns")


def _gradient_wish(compress: str | tuple[str, str], shard: str, sync_every: int) -> str:
    """Say what only a solver that sends gradients can do, if anything of the kind is asked for."""
    if compress not in ("raw", ("raw", "raw")):
        return f"compress={compress!r} is for gradients"
    if shard != "rows":
        return f"shard={shard!r} is for gradients"
    return f"sync_every={sync_every} is for gradients" if sync_every > 1 else ""


def choose_gradient_solver(solver: str, sync_every: int) -> Choice:
    """Return what to use for a loss that has no closed form.

    Examples
    --------
    >>> choose_gradient_solver("auto", 1).solver
    'lbfgs'
    """
    known = ("auto", "lbfgs", "sgd")
    if solver not in known:
        raise ValueError(f"unknown solver {solver!r}; known: {', '.join(known)}")
    if sync_every > 1 and solver == "lbfgs":
        raise ValueError("sync_every above 1 needs solver='sgd'")
    if solver != "auto":
        return Choice(solver, "as asked")
    return Choice("sgd", f"sync_every={sync_every}") if sync_every > 1 else Choice("lbfgs", "full batches")
