"""The `scrimp` command: one small file a command, all of them thin shells around the package.

Results go to stdout, progress to stderr and only on a terminal, `--json FILE` writes the result with its
schema. Exit codes: 0 done, 1 failed, 2 usage, 3 stopped by the budget, 4 bad input, 130 interrupted.
"""

from scrimp.cli.app import app, main

__all__ = ["app", "main"]
