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


def gram_columns(k: int) -> int:
    """Return up to how many columns a Gram matrix pays: outputs share it, passes without one they do not.

    Examples
    --------
    >>> gram_columns(1), gram_columns(10), gram_columns(1000)
    (1500, 3000, 4500)
    """
    return GRAM_COLUMNS * min(3, 1 + k // 10)


def choose_solver(
    solver: str, n: int, d: int, compress: str | tuple[str, str], shard: str, sync_every: int, k: int = 1
) -> Choice:
    """Return what to use for n rows, d columns and k outputs.

    Examples
    --------
    >>> choose_solver("auto", 10**6, 100, "raw", "rows", 1).solver
    'gram'
    >>> choose_solver("auto", 10**6, 4000, "raw", "rows", 1, k=100).reason
    'd=4000 columns are at most 4500 for k=100 outputs: one Gram matrix, few passes'
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
    most, outputs = gram_columns(k), f" for k={k} outputs" if k >= 10 else ""
    if d <= most:
        return Choice("gram", f"d={d} columns are at most {most}{outputs}: one Gram matrix, few passes")
    return Choice("cg", f"d={d} columns are more than {most}{outputs}: no Gram matrix")


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


def choose_sparse_solver(solver: str, compress: str | tuple[str, str], shard: str, sync_every: int) -> Choice:
    """Return what to use for a logistic loss with an l1 penalty.

    Examples
    --------
    >>> choose_sparse_solver("auto", "raw", "rows", 1)
    Choice(solver='proximal', reason='coefficients of 0')
    """
    wish = _gradient_wish(compress, shard, sync_every)
    if solver not in ("auto", "proximal") or wish:
        got = wish or f"solver={solver!r}"
        raise ValueError(f"l1_ratio above 0 is proximal steps on exact sums, solver='proximal'; got {got}")
    return Choice("proximal", "coefficients of 0" if solver == "auto" else "as asked")


def choose_gradient_solver(solver: str, sync_every: int) -> Choice:
    """Return what to use for a loss that has no closed form.

    Examples
    --------
    >>> choose_gradient_solver("auto", 1).solver
    'lbfgs'
    """
    known = ("auto", "lbfgs", "sgd")
    if solver == "proximal":
        raise ValueError("solver='proximal' is for a penalty with l1_ratio above 0 and alpha above 0")
    if solver not in known:
        raise ValueError(f"unknown solver {solver!r}; known: {', '.join(known)}")
    if sync_every > 1 and solver == "lbfgs":
        raise ValueError("sync_every above 1 needs solver='sgd'")
    if solver != "auto":
        return Choice(solver, "as asked")
    return Choice("sgd", f"sync_every={sync_every}") if sync_every > 1 else Choice("lbfgs", "full batches")
