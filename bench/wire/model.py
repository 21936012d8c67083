"""A cost model of an all-reduce over a network: what bytes, messages and codecs cost, and what overlaps.

    scrimp   2α + max(wire, work) + decode(n)      wire = 2 (N−1)/N · bytes(n) / β
             work = encode((N−1)/N n) + add((N−1)/N n) + encode(n/N) + σ · bytes + τ · messages
    ring     2 (N−1) α + 2 (N−1)/N · bytes(n) / β + cast(n)                      (gloo; fp16: 2 bytes, casts)
    PowerSGD passes(n) + twice the all-reduce of a thin factor

α seconds of a message's way, β bytes/s of a link, σ CPU-seconds a byte in the sockets (sent and received),
τ CPU-seconds a message.
Codec speeds are those of one core, measured in cache. On the emulated network several hosts share the cores:
`hosts_a_core` stretches what a core does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

import scrimp
from wire.network import GOODPUT

LEAST_CHUNK, LONG_CHUNK, MOST_CHUNK, CHUNKS = 1 << 16, 1 << 20, 1 << 22, 8  # as in scrimp.comm.pipelined
MESSAGE_NBYTES = 1 << 20


@dataclass(frozen=True)
class Link:
    """A host's way to the others."""

    mbit: float = 1000.0
    alpha_s: float = 1e-4
    socket_s_a_byte: float = 0.25e-9
    message_s: float = 1e-4
    hosts_a_core: float = 1.0

    def seconds(self, nbytes: float) -> float:
        return nbytes / (self.mbit * 1e6 / 8 * GOODPUT)


@dataclass(frozen=True)
class Speed:
    """Seconds a value of one core."""

    encode: float
    decode: float
    add: float


def measure(spec: str, n: int = 1 << 20) -> Speed:
    """Time a codec in cache; the best of several."""
    codec = scrimp.codec(spec)
    x = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    payload, out = codec.encode(x), np.empty_like(x)

    def best(call) -> float:
        times = []
        for _ in range(20):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return min(times) / n

    return Speed(
        best(lambda: codec.encode(x, payload, threads=1)),
        best(lambda: codec.decode(payload, n, out, threads=1)),
        best(lambda: codec.decode(payload, n, out, add=True, threads=1)),
    )


def messages(n: int, hosts: int, nbytes: int) -> int:
    """Messages that a host sends and receives for n values in nbytes."""
    most = min(max(MESSAGE_NBYTES * n // nbytes, LONG_CHUNK), MOST_CHUNK)
    chunk = min(max(n // hosts * (hosts - 1) // CHUNKS, LEAST_CHUNK), most)
    return 4 * (hosts - 1) * -(-n // hosts // chunk)


def scrimp_seconds(n: int, hosts: int, link: Link, spec: str, speed: Speed) -> float:
    """Time of one compressed all-reduce of n values."""
    share = (hosts - 1) / hosts
    nbytes = scrimp.codec(spec).nbytes(n)
    sent = 2 * share * nbytes
    work = (share * (speed.encode + speed.add) + speed.encode / hosts) * n
    work += 2 * sent * link.socket_s_a_byte + messages(n, hosts, nbytes) * link.message_s
    stretch = max(1.0, link.hosts_a_core)
    return 2 * link.alpha_s + max(link.seconds(sent), stretch * work) + stretch * n * speed.decode


def ring_seconds(n: int, hosts: int, link: Link, value_nbytes: int = 4, cast_s: float = 0.0) -> float:
    """Time of a ring all-reduce; `cast_s` a value that is converted and back."""
    moved = link.seconds(2 * (hosts - 1) / hosts * value_nbytes * n)
    return 2 * (hosts - 1) * link.alpha_s + moved + max(1.0, link.hosts_a_core) * cast_s * n


def power_seconds(n: int, hosts: int, link: Link, rank: int, pass_s: float, raw: Speed | None) -> float:
    """Time of PowerSGD on one square matrix, `pass_s` a value for its passes; over rings without `raw`."""
    n_thin = int(rank * n**0.5)
    ring = ring_seconds(n_thin, hosts, link)
    exchange = scrimp_seconds(n_thin, hosts, link, "raw", raw) if raw else ring
    return max(1.0, link.hosts_a_core) * pass_s * n + 2 * exchange


def faster(link: Link, mbit: float) -> Link:
    """Return the same at another rate."""
    return replace(link, mbit=mbit)
