"""Write golden packets: `python tests/golden/make.py [NAME …]`. It never rewrites one: bytes are forever."""

import sys
from pathlib import Path

import numpy as np

import scrimp
from scrimp.codecs import codec_choices

HERE = Path(__file__).resolve().parent


def specs_of(name: str) -> list[str]:
    """All variants of a codec that write different bytes."""
    choices = codec_choices(name)
    base = "step:k=0.125" if name == "step" else name
    join = "," if ":" in base else ":"
    found = [base]
    for key, listed in choices.items():
        others = listed[1:] if isinstance(listed, tuple) else ("0.05",) if listed == "share" else ()
        found += [f"{base}{join}{key}={value}" for value in others]
    return found


def values() -> np.ndarray:
    """Return 2,477 values, some zero, equal, denormal or heavy; the same on any machine."""
    state, draws = 1, []
    for _ in range(2477):
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        draws.append((state >> 40) - (1 << 23))
    x = np.array(draws, np.float64) / 2**21
    x[512:640] = 0
    x[640:768] = 0.75
    x[768:896] *= 2.0**-140
    x[896:1024] = np.where(np.arange(128) % 31 == 0, x[896:1024], x[896:1024] / 1024)
    return x.astype(np.float32).reshape(-1)


def main() -> None:
    for name in sys.argv[1:] or scrimp.codec_names():
        for spec in specs_of(name):
            path = HERE / (spec.replace(":", "-").replace(",", "-").replace("=", "") + ".packet")
            if not path.exists():
                path.write_bytes(scrimp.pack(values(), spec, seed=7, step=3))


if __name__ == "__main__":
    main()
