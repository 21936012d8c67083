"""Fuzz `scrimp.unpack` with damaged golden packets: `python tests/fuzz/fuzz_unpack.py [SECONDS] [SEED]`.

Every input gets a right checksum, or damage would not reach the code behind it. Whatever comes, `unpack`
returns an array or raises CodecError, within memory that the packet's size explains.
"""

import random
import struct
import sys
import time
from pathlib import Path

import numpy as np

import scrimp
from scrimp import _core

GOLDEN = sorted((Path(__file__).resolve().parent.parent / "golden").glob("*.packet"))
LARGEST_GROWTH = 1024  # values that one payload byte may stand for; topk with a tiny ratio is the worst


_BYTES = (0, 1, 4, 127, 128, 255)
_LENGTHS = tuple(struct.pack("<Q", n) for n in (0, 1, 2**31, 2**32, 2**60, 2**63, 2**64 - 1))
_TIMES, _CUTS, _REPEATS = (1, 1, 1, 2, 4, 16), (1, 2, 8, 100), (1, 2, 8)


def damage_bytes(whole: bytes, rng: random.Random, first: int) -> bytes:
    """Change, cut, repeat or insert a few bytes, most of them among the first."""
    data, draw = bytearray(whole), rng.random  # a float scaled: randrange takes five times as long
    for _ in range(_TIMES[int(draw() * 6)]):
        if not data:
            break
        at = int(draw() * (min(len(data), first) if draw() < 0.8 else len(data)))
        kind = int(draw() * 5)
        if kind == 0:
            data[at] ^= 1 << int(draw() * 8)
        elif kind == 1:
            data[at] = _BYTES[int(draw() * 6)]
        elif kind == 2:
            del data[at : at + _CUTS[int(draw() * 4)]]
        elif kind == 3:
            data[at:at] = data[at : at + _REPEATS[int(draw() * 3)]]
        else:
            data[at : at + 8] = _LENGTHS[int(draw() * 7)]
    return bytes(data)


def damage(packet: bytes, rng: random.Random) -> bytes:
    """Damage a packet, most of all its header, and give it the checksum of what it is now."""
    data = bytearray(damage_bytes(packet, rng, 64))
    if len(data) < 20:
        return bytes(data)
    crc = _core.crc32c(bytes(data[12:]), _core.crc32c(bytes(data[:8])))
    data[8:12] = struct.pack("<I", crc)
    return bytes(data)


def main() -> int:
    """Run for a while; return the number of inputs."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    small = np.arange(40, dtype=np.float32) / 8
    packets = [p.read_bytes() for p in GOLDEN]
    packets += [scrimp.pack(small, spec) for spec in ("raw", "int4", "rot4", "sign")]
    packets += [scrimp.pack(np.ones((2, 0, 3), dtype), "raw") for dtype in ("f8", "i8", "?")]
    packets.append(scrimp.pack(small > 1, "raw"))
    count = accepted = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(500):
            packet = damage(rng.choice(packets), rng)
            count += 1
            try:
                accepted += 1
                if scrimp.unpack(packet).size > LARGEST_GROWTH * len(packet):
                    raise AssertionError(f"{len(packet)} bytes became a huge array: {packet.hex()}")
            except scrimp.CodecError:
                accepted -= 1
    sys.stdout.write(f"unpack: {count} packets, {accepted} accepted, no finding\n")
    return count


if __name__ == "__main__":
    main()
