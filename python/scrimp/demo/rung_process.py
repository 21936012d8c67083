"""One step in a process of its own, so that its peak memory and CPU are its own.

`python -m scrimp.demo.rung_process DATASET FOLDER STEP` works on the folder and leaves `STEP.json` there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from scrimp.demo.rungs import rung_of, task_of

PREPARE = "prepare"


def main(dataset: str, folder: str, step: str, max_rows: str = "") -> None:
    """Prepare the data, or run one rung."""
    task = task_of(dataset)
    if step == PREPARE:
        result = task.prepare(Path(folder), int(max_rows) if max_rows else None)
    else:
        result = task.run(Path(folder), rung_of(task.ladder, step)).to_dict(task.metric)
    (Path(folder) / f"{step}.json").write_text(json.dumps(result, allow_nan=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
