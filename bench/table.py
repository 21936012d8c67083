"""Rows of a bench as text: one line a peer."""

from __future__ import annotations


def figure(value: float | None, width: int = 8) -> str:
    return f"{value:{width}.3g}" if value is not None else "–".rjust(width)


def print_rows(rows: list[dict]) -> None:
    for row in rows:
        limit = f"{row['of_limit']:5.0%} of the limit" if row["of_limit"] else ""
        error = f"  {row['error']}" if row.get("error") else quality(row)
        print(
            f"{row['case']:34} {row['threads']}T {figure(row['ours'])} {row['unit']:4} {figure(row['peer'])} "
            f"{row['peer_name']:30} x{figure(row['ratio'], 6)}  {limit}{error}",
            flush=True,
        )


def quality(row: dict) -> str:
    """Figures of a fit or a product, ours before the peer's."""
    names = ("first", "extra_mb", "coef_error", "r2", "log_loss", "rel_error")
    found = [(name, row.get(f"ours_{name}"), row.get(name)) for name in names]
    known = [(name, a, b) for name, a, b in found if a is not None or b is not None]
    return "  ".join(f"{name} {figure(a, 1)}/{figure(b, 1)}" for name, a, b in known)
