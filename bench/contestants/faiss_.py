"""Faiss scalar quantizers (rows of 128 values, trained once, outside the timing)."""

import faiss

from contestants.data import normal


def version() -> str:
    return faiss.__version__


def quantizer(kind: int, name: str, decode: bool):
    def factory(n: int, threads: int) -> dict:
        faiss.omp_set_num_threads(threads)
        x = normal(n).reshape(-1, 128)
        sq = faiss.ScalarQuantizer(128, kind)
        sq.train(x[:2048])
        codes = sq.compute_codes(x)

        def run() -> None:
            sq.decode(codes) if decode else sq.compute_codes(x)

        return {name: run}

    return factory


BITS8, BITS4 = faiss.ScalarQuantizer.QT_8bit, faiss.ScalarQuantizer.QT_4bit
CASES = {
    "codecs.int8_encode": quantizer(BITS8, "faiss SQ8", decode=False),
    "codecs.int8_decode": quantizer(BITS8, "faiss SQ8", decode=True),
    "codecs.int4_encode": quantizer(BITS4, "faiss SQ4", decode=False),
    "codecs.int4_decode": quantizer(BITS4, "faiss SQ4", decode=True),
}
