"""Fuzz the readers of files: `python tests/fuzz/fuzz_files.py [SECONDS] [SEED]`.

Damaged files of a QuantizedMatrix (their checksums made right again, or damage would not reach the code
behind them) and damaged safetensors. Whatever comes, a file is opened or refused with the errors that are
promised, and what was opened can be read to its end.
"""

from __future__ import annotations

import json
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fuzz_unpack import damage_bytes

import scrimp
from scrimp import _core
from scrimp.errors import CodecError, InputError
from scrimp.tensor_file.safetensors import SafetensorsReader

HEAD = struct.Struct("<8sII")


def matrices(folder: Path) -> list[bytes]:
    """Return small files of every width."""
    x = np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32)
    files = []
    for bits in (8, 4, 2, 1):
        for rows in (9, 1):
            scrimp.QuantizedMatrix.from_array(x[:rows], bits).save(folder / "q")
            files.append((folder / "q").read_bytes())
    return files


def damaged_matrix(data: bytes, rng: random.Random) -> bytes:
    """Damage the header's text, a number in it, or the bytes behind it, and correct the checksums."""
    _, length, _ = HEAD.unpack_from(data)
    text, rest = data[HEAD.size : HEAD.size + length], data[HEAD.size + length :]
    header = json.loads(text)
    kind = rng.randrange(4)
    if kind == 0:
        text = damage_bytes(text, rng, len(text))
    elif kind == 1:
        key = rng.choice(list(header))
        header[key] = rng.choice((0, -1, 1, 3, 4096, 2**31, 2**60, 2**64, 1e300, None, "8", [], True))
        text = json.dumps(header).encode()
    elif kind == 2:
        rest = damage_bytes(rest, rng, len(rest))
    else:
        return damage_bytes(data, rng, HEAD.size + 8)
    return HEAD.pack(data[:8], len(text), _core.crc32c(text)) + text + rest


def open_matrix(path: Path) -> None:
    scrimp.QuantizedMatrix.open(path).dequantize()


def tensors(folder: Path) -> list[bytes]:
    """Return a safetensors file with a tensor of each kind."""
    from safetensors.numpy import save

    x = np.arange(12, dtype=np.float32)
    some = {"a": x.reshape(3, 4), "b": x.astype(np.float16), "c": x.astype(np.int8), "d": x[:0]}
    return [save(some), save(some, {"format": "np"}), save({})]


def damaged_tensors(data: bytes, rng: random.Random) -> bytes:
    size = int.from_bytes(data[:8], "little")
    text, rest = data[8 : 8 + size], data[8 + size :]
    if rng.random() < 0.1:
        return damage_bytes(data, rng, len(data))
    text = damage_bytes(text, rng, len(text))
    return len(text).to_bytes(8, "little") + text + rest


def read_tensors(path: Path) -> None:
    reader = SafetensorsReader(path)
    for name, info in reader.tensors.items():
        reader.values(name) if info.is_float else reader.raw(name)


class Format(NamedTuple):
    """A kind of file: whole ones, how to damage one, how to open it and read it all."""

    name: str
    seeds: list[bytes]
    damaged: Callable[[bytes, random.Random], bytes]
    read: Callable[[Path], None]


def fuzz(files: Format, path: Path, seconds: float, seed: int) -> None:
    """Write and read damaged files for a while."""
    rng, count, accepted = random.Random(seed), 0, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(200):
            path.write_bytes(files.damaged(rng.choice(files.seeds), rng))
            count += 1
            try:
                files.read(path)
                accepted += 1
            except (CodecError, InputError):
                pass
    sys.stdout.write(f"{files.name}: {count} files, {accepted} accepted, no finding\n")


def main() -> None:
    """Spend half of the time on each kind of file."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        path = folder / "damaged"
        for files in (
            Format("matrix", matrices(folder), damaged_matrix, open_matrix),
            Format("safetensors", tensors(folder), damaged_tensors, read_tensors),
        ):
            fuzz(files, path, seconds / 2, seed)


if __name__ == "__main__":
    main()
