"""Types of the native module. Internal: arguments are checked, never converted."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

def isa() -> str: ...
def set_default_threads(threads: int) -> None: ...
def default_threads() -> int: ...
def codec_names() -> list[str]: ...
def codec_choices(name: str) -> dict[str, str | tuple[str, ...]]: ...
def crc32c(data: bytes | bytearray | memoryview | NDArray[np.uint8], crc: int = 0) -> int: ...

class NativeCodec:
    def __init__(
        self,
        name: str,
        rounding: str = "nearest",
        scale: str = "default",
        step: float = 0.0,
        ratio: float = 0.01,
        variant: int = 0,
    ) -> None: ...
    @property
    def block(self) -> int: ...
    @property
    def block_nbytes(self) -> int: ...
    @property
    def passes_nonfinite(self) -> bool: ...
    @property
    def contractive(self) -> bool: ...
    def bound(self, x: FloatArray) -> float: ...
    def nbytes(self, n: int) -> int: ...
    def encode(
        self,
        x: FloatArray,
        out: NDArray[np.uint8],
        seed: int,
        step: int,
        first_index: int,
        nonfinite: str,
        threads: int,
        feedback: str = "none",
        state: NDArray[np.float32] | None = None,
    ) -> None: ...
    def decode(
        self, buf: NDArray[np.uint8], n: int, out: NDArray[np.float32], add: bool, threads: int
    ) -> None: ...

def combine_chunk(
    codec: NativeCodec,
    own: NDArray[np.float32],
    parts: Sequence[NDArray[np.uint8] | None],
    mean: bool,
    out: NDArray[np.uint8],
    key: tuple[int, int, int],
    owned: NDArray[np.float32] | None = None,
    decoded: NDArray[np.float32] | None = None,
    threads: int = 0,
) -> tuple[int, bool]: ...
def low_rank_project(
    g: NDArray[np.float32],
    m: NDArray[np.float32],
    p: NDArray[np.float32],
    q: NDArray[np.float32],
    rank: int,
    m_out: NDArray[np.float32],
    p_out: NDArray[np.float32],
    threads: int = 0,
) -> None: ...
def low_rank_fold(
    m: NDArray[np.float32], p: NDArray[np.float32], rank: int, q_out: NDArray[np.float32], threads: int = 0
) -> None: ...
def low_rank_expand(
    g: NDArray[np.float32], p: NDArray[np.float32], q: NDArray[np.float32], rank: int, threads: int = 0
) -> None: ...
def orthonormalize(p: NDArray[np.float32], rank: int) -> None: ...
def engine_supported() -> bool: ...
def die_with_parent(parent: int) -> None: ...
def usable_cores() -> int: ...

_Call = tuple[bool, bool, int, str, int, bool]  # mean, write_nonfinite, tag, label, block, undo
_Outcome = tuple[Literal["finite", "nonfinite", "failed"], int, int]

class LocalGroup:
    FRAME_NBYTES: int
    @staticmethod
    def create(size: int, ring_nbytes: int = 0) -> LocalGroup: ...
    @staticmethod
    def join(fd: int, rank: int, timeout_s: float) -> LocalGroup: ...
    @property
    def size(self) -> int: ...
    @property
    def rank(self) -> int: ...
    @property
    def fd(self) -> int: ...
    def start(self, timeout_s: float, watch: bool = True) -> None: ...
    def leave(self, failed: bool) -> None: ...
    def barrier(self, label: str, tag: int = 0) -> None: ...
    def exchange(
        self,
        sends: Sequence[tuple[int, NDArray[np.uint8]]],
        recvs: Sequence[tuple[int, NDArray[np.uint8]]],
        tag: int,
        label: str,
    ) -> None: ...
    def all_reduce_encoded(
        self,
        x: NDArray[np.float32],
        codec: NativeCodec,
        call: _Call,
        key: tuple[int, int, int, int],
        feedback: str,
        state: dict[str, NDArray[np.float32]],
    ) -> _Outcome: ...
    def reduce_scatter_encoded(
        self,
        x: NDArray[np.float32],
        out: NDArray[np.float32],
        codec: NativeCodec,
        call: _Call,
        key: tuple[int, int, int, int],
        feedback: str,
        state: dict[str, NDArray[np.float32]],
    ) -> _Outcome: ...
    def all_gather_encoded(
        self,
        x: NDArray[np.float32],
        out: NDArray[np.float32],
        codec: NativeCodec,
        call: _Call,
        key: tuple[int, int, int, int],
    ) -> _Outcome: ...
    def broadcast_encoded(
        self,
        x: NDArray[np.float32],
        root: int,
        codec: NativeCodec,
        call: _Call,
        key: tuple[int, int, int, int],
    ) -> _Outcome: ...
    def all_reduce_raw(self, x: NDArray[Any], call: _Call) -> _Outcome: ...
    def reduce_scatter_raw(self, x: NDArray[Any], out: NDArray[Any], call: _Call) -> _Outcome: ...
    def all_gather_raw(self, x: NDArray[np.uint8], out: NDArray[np.uint8], call: _Call) -> None: ...
    def broadcast_raw(self, x: NDArray[np.uint8], root: int, call: _Call) -> None: ...
    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]: ...
    def arrays_nbytes(self) -> int: ...
    def end_died(self, rank: int) -> None: ...
    def ending(self) -> tuple[str, int]: ...
    def is_done(self, rank: int) -> bool: ...
    def has_failed(self, rank: int) -> bool: ...
    def pid(self, rank: int) -> int: ...

LEAF_ROWS: int
Float64s = NDArray[np.float64]

def loss_names() -> list[str]: ...
def gradient(
    x: NDArray[Any],
    bits: int,
    scale: Float64s | None,
    offset: Float64s | None,
    noise: Float64s | None,
    y: FloatArray,
    weight: FloatArray | None,
    w: Float64s,
    bias: Float64s,
    loss: str,
    parameter: float,
    precise: bool,
    threads: int,
    out: Float64s,
) -> None: ...
def slopes(
    scores: NDArray[np.float32] | Float64s,
    y: FloatArray,
    weight: FloatArray | None,
    bias: Float64s,
    loss: str,
    parameter: float,
    out: Float64s,
) -> None: ...
def product(
    x: NDArray[Any],
    bits: int,
    scale: Float64s | None,
    offset: Float64s | None,
    w: Float64s,
    bias: Float64s,
    threads: int,
    out: NDArray[np.float32],
) -> None: ...
def code_gram(
    x: NDArray[Any],
    bits: int,
    scale: Float64s,
    offset: Float64s,
    y: FloatArray | None,
    low: Float64s | None,
    inverse: Float64s | None,
    stochastic: bool,
    seed: int,
    first_row: int,
    c: NDArray[np.int64],
    sum: NDArray[np.int64],
    leaves: Float64s,
    threads: int,
) -> None: ...
def gram(
    x: NDArray[Any],
    bits: int,
    d: int,
    scale: Float64s | None,
    offset: Float64s | None,
    shift: Float64s | None,
    y: FloatArray | None,
    weight: FloatArray | None,
    out: Float64s,
    threads: int,
) -> None: ...
def matmul(
    x: NDArray[Any],
    bits: int,
    scale: Float64s | None,
    offset: Float64s | None,
    codec: NativeCodec,
    w: NDArray[np.uint8],
    bias: NDArray[np.float32],
    d: int,
    round_rows: bool,
    threads: int,
    out: NDArray[np.float32],
) -> None: ...
def descend(
    a: Float64s,
    w: Float64s,
    q: Float64s,
    l1: Float64s,
    l2: Float64s,
    tol: Float64s,
    positive: bool,
    sweeps: int,
    done: NDArray[np.int64],
    threads: int,
) -> None: ...

class Units:
    def __init__(
        self,
        mean: Float64s,
        centre: Float64s,
        penalty: Float64s,
        scale: Float64s,
        lower: Float64s | None,
        bias: bool,
        joint: bool,
    ) -> None: ...
    def weights(self, u: Float64s, w: Float64s, intercept: Float64s) -> None: ...
    def gradient(self, w: Float64s, sums: Float64s, n: float, g: Float64s) -> float: ...

def take_steps(
    units: Units,
    x: NDArray[Any],
    bits: int,
    scale: Float64s | None,
    offset: Float64s | None,
    noise: Float64s | None,
    y: FloatArray,
    weight: FloatArray | None,
    loss: str,
    parameter: float,
    precise: bool,
    threads: int,
    order: NDArray[np.int64],
    n_batches: int,
    first_batch: int,
    rates: NDArray[np.float32],
    momentum: float,
    nesterov: bool,
    n_unaveraged: int,
    u: NDArray[np.float32],
    velocity: NDArray[np.float32] | None,
    mean: Float64s | None,
    n_averaged: int,
    value: float,
) -> tuple[int, int, float]: ...
def column_ranges(
    x: FloatArray, low: Float64s, high: Float64s, integral: NDArray[np.uint8], threads: int
) -> tuple[int, int] | None: ...
def quantize_rows(
    x: FloatArray,
    bits: int,
    low: Float64s,
    inverse: Float64s,
    stochastic: bool,
    seed: int,
    first_row: int,
    weight: Float64s | None,
    codes: NDArray[Any],
    noise: Float64s,
    sum: Float64s,
    threads: int,
) -> None: ...
def dequantize_rows(
    codes: NDArray[Any],
    bits: int,
    scale: Float64s,
    offset: Float64s,
    out: NDArray[np.float32],
    threads: int,
) -> None: ...
