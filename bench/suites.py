"""What is measured: the cases of each suite and who takes part. A suite is one entry of SUITES."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

MB = 1 << 20


@dataclass(frozen=True)
class Case:
    """One measurement: `arguments` go to the factories of the contestants.

    `nbytes` is what GB/s counts (the fp32 side of a codec); `limit` names the variant of the contestant
    `limits` that the case is held against. `first`: the first call is a figure of its own.
    """

    suite: str
    case: str
    unit: str
    threads: int
    arguments: dict = field(hash=False)
    nbytes: int = 0
    limit: str | None = None
    first: bool = False

    @property
    def label(self) -> str:
        if "data" in self.arguments:
            n, d, k = (self.arguments.get(key, 1) for key in "ndk")
            return f"{self.case} {n:.0e}x{d}".replace("e+0", "e") + (f"x{k}" if k > 1 else "")
        if "ranks" in self.arguments:
            size = f"{self.nbytes // MB}MB" if self.nbytes >= MB else f"{self.nbytes // 1024}KB"
            return f"{self.case} {size} ranks={self.arguments['ranks']}"
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

    def with_rows(self, most: int) -> Suite:
        """Return the suite with matrices of at most so many rows, to try it."""
        few = [
            replace(case, arguments=case.arguments | {"n": min(case.arguments["n"], most)})
            if case.arguments.get("data") == "normal"
            else case
            for case in self.cases
        ]
        return Suite(few, self.contestants)


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
    "rot2_encode": "read",
    "rot1_encode": "read",
    "topk_encode": "read",
}
# What is measured in memory as well, where codecs are bound by it: the others would only take minutes more.
IN_MEMORY = [
    *(f"int8_{what}" for what in ("encode", "encode_stochastic", "decode", "decode_add")),
    *(f"int4_{what}" for what in ("encode", "encode_stochastic", "decode", "decode_add")),
    "e4m3_encode",
    "bf16_encode",
    "q8_0_encode",
    "sign_encode",
]


def codec_cases() -> list[Case]:
    return [
        Case("codecs", name, "GB/s", threads, {"n": megabytes * MB // 4}, megabytes * MB, f"limit: {limit}")
        for megabytes in (1, 256)
        for threads in (1, 2)
        for name, limit in CODEC_CASES.items()
        if megabytes == 1 or name in IN_MEMORY
    ]


def collective_cases() -> list[Case]:
    """All-reduces in place: fp32 arrays from 4 KB to 256 MB on two ranks, some of them on four."""
    sizes = [(2, kilobytes) for kilobytes in (4, 64, 1024, 16 * 1024, 256 * 1024)]
    return [
        Case("collectives", "all_reduce", "ms", 1, {"n": kilobytes * 256, "ranks": ranks}, kilobytes * 1024)
        for ranks, kilobytes in [*sizes, (4, 1024), (4, 16 * 1024)]
    ]


LONG = {"data": "normal", "n": 1_000_000, "d": 256, "k": 1}
WIDE = {"data": "normal", "n": 200_000, "d": 1000, "k": 10}
FLIGHTS = {"data": "flights", "n": 261_876, "d": 137, "k": 1}
LINEAR_PEERS = ["linear_numpy", "linear_torch"]


def linear_case(suite: str, case: str, arguments: dict, **more) -> Case:
    return Case(suite, case, "ms", 2, arguments, **more)


# A layer of 4,096 × 4,096 for 1, 8 and 64 rows; the demo's model for many.
PRODUCTS = [{"rows": rows, "d": 4096, "k": 4096} for rows in (1, 8, 64)]
PRODUCTS.append({"rows": 100_000, "d": 512, "k": 1})
PREDICT_PEERS = ["predict_numpy", "predict_torch", "predict_torchao", "predict_onnx", "predict_ggml"]


def predict_cases() -> list[Case]:
    return [
        Case("predict", codec, "ms", threads, sizes)
        for threads in (1, 2)
        for codec in ("int8", "int4")
        for sizes in PRODUCTS
    ]


SUITES = {
    "predict": Suite(predict_cases(), ["predict_scrimp", *PREDICT_PEERS]),
    "gradient": Suite(
        [linear_case("gradient", "gradient", data, limit="limit: read") for data in (LONG, WIDE)],
        ["linear_scrimp", "linear_limits", *LINEAR_PEERS, "linear_numba"],
    ),
    "gram": Suite(
        [
            linear_case("gram", "gram", LONG),
            linear_case("gram", "gram", WIDE),
            linear_case("gram", "gram_float64", LONG | {"n": 200_000}),
        ],
        ["linear_scrimp", *LINEAR_PEERS],
    ),
    "fit": Suite(
        [
            linear_case("fit", "ridge", LONG, first=True),
            linear_case("fit", "ridge", WIDE, first=True),
            linear_case("fit", "flights", FLIGHTS, first=True),
            linear_case("fit", "logistic", LONG, first=True),
        ],
        ["linear_scrimp", *LINEAR_PEERS, "linear_sklearn", "linear_sklearnex"],
    ),
    "sgd": Suite(
        [
            linear_case("sgd", case, {"data": "normal", "n": n, "d": d, "k": 1})
            for case in ("squared", "logistic")
            for n, d in ((20_000, 50), (200_000, 100), (1_000_000, 20))
        ],
        ["linear_scrimp", "linear_sklearn"],
    ),
    "collectives": Suite(
        collective_cases(), ["collectives_", "collectives_torch", "collectives_mpich", "collectives_openmpi"]
    ),
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
