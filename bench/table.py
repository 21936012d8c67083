"""Rows of a bench as text: one line a peer."""

from __future__ import annotations


def figure(value: float | None, width: int = 8) -> str:
    return f"{value:{width}.3g}" if value is not None else "–".rjust(width)


def print_rows(rows: list[dict]) -> None:
    for row in rows:
        limit = f"{row['of_limit']:5.0%} of the limit" if row["of_limit"] else ""
        error = f"  {row['error']}" if row.get("error") else ""
        print(
            f"{row['case']:34} {row['threads']}T {figure(row['ours'])} {row['unit']:4} {figure(row['peer'])} "
            f"{row['peer_name']:30} x{figure(row['ratio'], 6)}  {limit}{error}",
            flush=True,
        )
