"""One contestant's process: reads requests from stdin, one JSON object a line, and answers likewise.

A contestant module in bench/contestants/ defines version() (importing the module raises ImportError when the
peer is missing) and CASES: {"suite.case": factory}. factory(threads=…, **arguments of the case) returns
{variant: callable without arguments}. A callable may return a dict of figures that goes into the row;
"seconds" in it replaces the worker's own timing. One with the attribute `once` is not warmed up.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time

BATCH_SECONDS = 0.001  # short calls are repeated until a batch is at least this long
ROUND_SECONDS = 0.05  # a timing is the best batch of this long: what others do on the machine comes and goes


class Worker:
    """State of one contestant: its module and the prepared variants."""

    def __init__(self, name: str) -> None:
        self.variants: dict = {}
        self.repeats: dict[str, int] = {}
        self.missing, self.version = None, None
        try:
            self.module = importlib.import_module(f"contestants.{name}")
            self.version = self.module.version()
        except (ImportError, OSError) as error:
            self.missing = str(error)

    def hello(self, _request: dict) -> dict:
        return {"missing": self.missing, "version": self.version}

    def prepare(self, request: dict) -> dict:
        factory = self.module.CASES.get(f"{request['suite']}.{request['case']}")
        if not factory:
            return {"variants": []}
        self.variants = factory(threads=request["threads"], **request["arguments"])
        self.repeats = {
            name: 0 if hasattr(call, "once") else self._calibrate(call)
            for name, call in self.variants.items()
        }
        return {"variants": list(self.variants)}

    @staticmethod
    def _calibrate(call) -> int:
        call()
        start = time.perf_counter()
        call()
        return max(1, int(BATCH_SECONDS / max(time.perf_counter() - start, 1e-9)))

    def time(self, request: dict) -> dict:
        call, repeats = self.variants[request["variant"]], self.repeats[request["variant"]]
        if not repeats:
            return call()
        best, end = float("inf"), time.perf_counter() + ROUND_SECONDS
        while True:
            start = time.perf_counter()
            for _ in range(repeats):
                figures = call() or {}
            now = time.perf_counter()
            best = min(best, figures.get("seconds", (now - start) / repeats))
            if now >= end:
                return {**figures, "seconds": best}

    def release(self, _request: dict) -> dict:
        self.variants = {}
        gc.collect()
        return {}


def main() -> None:
    worker = Worker(sys.argv[1])
    out = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request["do"])(request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
