"""mxfp4 and mxfp8 from the definitions of OCP Microscaling Formats 1.0, computed in float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

import scrimp

B = 32


class Element(NamedTuple):
    """1 sign bit, `exponent` and `mantissa` bits; the largest exponent of a value, the largest value."""

    exponent: int
    mantissa: int
    top: int
    largest: float

    def magnitudes(self) -> np.ndarray:
        """Values of the codes without their sign; codes above the largest are not numbers."""
        code = np.arange(1 << (self.exponent + self.mantissa))
        field, fraction = code >> self.mantissa, code % (1 << self.mantissa) / (1 << self.mantissa)
        bias = (1 << (self.exponent - 1)) - 1
        values = np.where(field, 2.0 ** (field - bias) * (1 + fraction), 2.0 ** (1 - bias) * fraction)
        return values[values <= self.largest]


ELEMENTS = {"mxfp4": Element(2, 1, 2, 6.0), "mxfp8": Element(4, 3, 8, 448.0)}


def exponents(absmax: np.ndarray, rule: str, element: Element) -> np.ndarray:
    """Exponents of the scales of blocks: ⌊log2 absmax⌋ − top, as the standard has it, or another rule's."""
    if rule == "rceil":
        quotient = (absmax.astype(np.float32) / np.float32(element.largest)).astype(np.float64)
        fraction, power = np.frexp(np.maximum(quotient, 2.0**-126))
        found = np.where(quotient > 0, np.where(fraction == 0.5, power - 1, power), -127)
    else:
        if rule == "even":
            fraction, power = np.frexp(absmax)
            steps = 2.0 ** (element.mantissa + 1)
            absmax = np.ldexp(np.floor(fraction * steps + 0.5) / steps, power)
        found = np.frexp(absmax)[1] - 1 - element.top
    return np.where(absmax > 0, found.clip(-127, 127 - element.top), -127)


def rounded(x: np.ndarray, element: Element) -> np.ndarray:
    """Codes of the nearest elements, ties to the even code, magnitudes clamped to the largest."""
    values = element.magnitudes()
    magnitude = np.minimum(np.abs(x), element.largest)
    above = np.searchsorted(values, magnitude).clip(1)
    low, high = magnitude - values[above - 1], values[above] - magnitude
    up = (high < low) | ((high == low) & (above % 2 == 0))
    return above - 1 + up + (np.signbit(x) << (element.exponent + element.mantissa))


def blocks_of_all_kinds() -> np.ndarray:
    """Blocks of every exponent, of ties, at powers of two, with one large value, of denormals, of zeros."""
    rng = np.random.default_rng(17)
    power = np.repeat(np.arange(-149, 128), 8)[:, None]
    normal = np.ldexp(rng.uniform(-2, 2, (power.size, B)), power)
    ties = np.ldexp(rng.integers(-32, 33, (power.size, B)) / 16, power)
    near = np.ldexp(np.where(rng.random((power.size, B)) < 0.5, 1, 1 - 2.0**-24), power)
    alone = normal * 2.0 ** -rng.integers(0, 12, normal.shape)
    x = np.concatenate([normal, ties, near, alone, np.zeros((1, B)), -np.zeros((1, B))])
    largest = float(np.finfo(np.float32).max)
    return x.clip(-largest, largest).astype(np.float32)


@pytest.mark.parametrize("rule", ["floor", "rceil", "even"])
@pytest.mark.parametrize("spec", ELEMENTS)
def test_payloads_and_values_are_those_of_the_definition(spec, rule):
    element, x = ELEMENTS[spec], blocks_of_all_kinds()
    exact = x.astype(np.float64)
    e = exponents(np.abs(exact).max(axis=1), rule, element)[:, None]
    codes = rounded(np.ldexp(exact, -e), element).astype(np.uint8)
    c = scrimp.codec(f"{spec}:scale={rule}")
    payload = c.encode(x)
    packed = codes if spec == "mxfp8" else codes[:, : B // 2] | codes[:, B // 2 :] << 4
    expected = np.hstack([(e + 127).astype(np.uint8), packed])
    np.testing.assert_array_equal(payload.reshape(len(x), -1), expected)
    sign = codes >> (element.exponent + element.mantissa)
    magnitude = element.magnitudes()[codes - (sign << (element.exponent + element.mantissa))]
    values = np.ldexp(np.where(sign, -magnitude, magnitude), e).astype(np.float32)
    assert c.decode(payload, x.size).tobytes() == values.tobytes()


@pytest.mark.parametrize("spec", ELEMENTS)
def test_a_cut_block_is_a_block_of_its_own(spec):
    x = blocks_of_all_kinds()[:300:7]
    c = scrimp.codec(spec)
    for n in (1, 2, 31):
        padded = np.pad(x[:, :n], ((0, 0), (0, B - n)))
        for row, whole in zip(x, padded, strict=True):
            part, all_of_it = c.encode(row[:n]), c.encode(whole)
            assert part[0] == all_of_it[0]
            assert c.decode(part, n).tobytes() == c.decode(all_of_it, B)[:n].tobytes()
