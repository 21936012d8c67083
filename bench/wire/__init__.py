"""All-reduce and training over slow links: hosts are network namespaces behind links limited by tc.

`python bench/run.py wire` runs all parts; `--only "2 hosts"`, `--only torch`, `--only 256` choose some. For
each part one process a host starts, times its contestants one after another, and leaves.
"""

from wire.suite import run

__all__ = ["run"]
