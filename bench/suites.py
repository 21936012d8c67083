"""What is measured: the cases of each suite and who takes part. A suite is one entry of SUITES."""

from __future__ import annotations

from dataclasses import dataclass, field

MB = 1 << 20


@dataclass(frozen=True)
class Case:
    """One measurement: `arguments` go to the factories of the contestants.

    `nbytes` is what GB/s counts (the fp32 side of a codec); `limit` names the variant of the contestant
    `limits` that the case is held against.
    """

    suite: str
    case: str
    unit: str
    threads: int
    arguments: dict = field(hash=False)
    nbytes: int = 0
    limit: str | None = None

    @property
    def label(self) -> str:
        details = " ".join(f"{key}={value}" for key, value in self.arguments.items() if key != "n")
        size = f"{self.nbytes // MB} MB" if self.unit == "GB/s" else ""
        return " ".join(part for part in (self.case, size, details) if part)

    def request(self) -> dict:
        return {"suite": self.suite, "case": self.case, "threads": self.threads, "arguments": self.arguments}


@dataclass(frozen=True)
class Suite:
    """Cases and the contestants that may have them."""

    cases: list[Case]
    contestants: list[str]


# Codec cases and the limit that each is held against (bench/limits.c).
CODEC_CASES = {
    "int8_encode": "read",
    "int8_encode_stochastic": "read",
    "int8_decode": "memset",
    "int8_decode_add": "copy",
    "int4_encode": "read",
    "int4_encode_stochastic": "read",
    "int4_encode_mse": "read",
    "int4_decode": "memset",
    "int4_decode_add": "copy",
    "nf4_encode": "read",
    "nf4_decode": "memset",
    "e4m3_encode": "read",
    "e4m3_decode": "memset",
    "mxfp4_encode": "read",
    "mxfp4_decode": "memset",
    "q8_0_encode": "read",
    "q8_0_decode": "memset",
    "q4_0_encode": "read",
    "q4_0_decode": "memset",
    "bf16_encode": "read",
    "f16_encode": "read",
    "sign_encode": "read",
    "sign_decode": "memset",
    "rot4_encode": "read",
    "rot4_decode": "memset",
}


def codec_cases() -> list[Case]:
    return [
        Case("codecs", name, "GB/s", threads, {"n": megabytes * MB // 4}, megabytes * MB, f"limit: {limit}")
        for megabytes in (1, 256)
        for threads in (1, 2)
        for name, limit in CODEC_CASES.items()
    ]


def collective_cases() -> list[Case]:
    return [
        Case(
            "collectives", "all_reduce", "GB/s", 1, {"n": megabytes * MB // 4, "ranks": ranks}, megabytes * MB
        )
        for ranks in (2, 4)
        for megabytes in (1, 16, 256)
    ]


SUITES = {
    "collectives": Suite(collective_cases(), ["collectives_"]),
    "codecs": Suite(
        codec_cases(),
        [
            "scrimp_",
            "limits",
            "numpy_",
            "torch_",
            "bitsandbytes_",
            "faiss_",
            "torchao_",
            "gguf_",
            "ggml_",
            "ml_dtypes_",
        ],
    ),
}
