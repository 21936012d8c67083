"""How far codecs are from their input: rotations, searched scales, stochastic rounding."""

import numpy as np
import pytest

import scrimp

N = 1 << 18
RNG = np.random.default_rng(3)


def mixed() -> np.ndarray:
    return RNG.standard_normal(N) * np.repeat(10.0 ** RNG.uniform(-3, 0, N // 4096), 4096)


DISTRIBUTIONS = {
    "gaussian": RNG.standard_normal(N),
    "laplace": RNG.laplace(size=N),
    "student-t3": RNG.standard_t(3, N),
    "spiky": RNG.standard_normal(N) * np.where(RNG.random(N) < 1e-3, 100, 1),
    "mixed": mixed(),
}


def nmse(spec: str, x: np.ndarray) -> float:
    c = scrimp.codec(spec)
    x = x.astype(np.float32).astype(np.float64)
    return float(np.sum((c.decode(c.encode(x), x.size) - x) ** 2) / np.sum(x**2))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(
    ("spec", "ceiling", "bits"),
    [("rot4", 0.010, 4.06), ("rot3", 0.036, 3.06), ("rot2", 0.135, 2.06), ("rot1", 0.37, 1.06)],
)
def test_rotated_codecs_have_one_error_for_any_distribution(spec, ceiling, bits, distribution):
    assert scrimp.codec(spec).bits <= bits
    assert nmse(spec, DISTRIBUTIONS[distribution]) <= ceiling


@pytest.mark.parametrize("spec", ["rot4", "rot3", "rot2", "rot1", "rot4:block=256", "rot1:scale=unbiased"])
@pytest.mark.parametrize("value", [0.1, -3.5e-20, 1e38, 1e-45])
def test_equal_values_are_exact(spec, value):
    c = scrimp.codec(spec)
    x = np.full(3000, value, np.float32)
    assert np.array_equal(c.decode(c.encode(x), 3000), x)


def test_unbiased_scales_average_to_the_input():
    c, x = scrimp.codec("rot1:scale=unbiased"), DISTRIBUTIONS["laplace"][:1024].astype(np.float32)
    runs = 2000
    total = sum(c.decode(c.encode(x, seed=seed), 1024).astype(np.float64) for seed in range(runs))
    assert np.sum((total / runs - x) ** 2) / np.sum(x**2) < 2 * 0.571 / runs
    projected = scrimp.codec("rot1")
    assert np.dot(projected.decode(projected.encode(x), 1024), x) < 0.75 * np.dot(x, x)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_searched_scales_are_never_worse_than_absmax(bits):
    for x in DISTRIBUTIONS.values():
        rows = x[: N // 8].reshape(-1, 128).astype(np.float32)
        errors = []
        for spec in (f"int{bits}:scale=mse", f"int{bits}"):
            c = scrimp.codec(spec)
            decoded = c.decode(c.encode(rows), rows.size).reshape(rows.shape)
            errors.append(np.sum((decoded - rows) ** 2, axis=1))
        assert (errors[0] <= errors[1] * (1 + 1e-5)).all()
    x = DISTRIBUTIONS["gaussian"]
    gain = nmse(f"int{bits}", x) / nmse(f"int{bits}:scale=mse", x)
    assert gain > (1.15 if bits <= 4 else 0.999999)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_stochastic_rounding_is_unbiased_to_a_ten_thousandth_of_a_step(bits):
    levels = 2 ** (bits - 1) - 1
    c = scrimp.codec(f"int{bits}:rounding=stochastic")
    x = np.linspace(-1, 1, 1 << 21, dtype=np.float32)
    x[::128] = 1  # every block has the same scale
    payload, y = np.empty(c.nbytes(x.size), np.uint8), np.empty_like(x)
    runs = 80  # 1.7e8 roundings: the mean of fair ones would have a standard deviation of 3e-5
    bias = 0.0
    for seed in range(runs):
        c.decode(c.encode(x, payload, seed=seed), x.size, y)
        bias += (np.sum(y, dtype=np.float64) - np.sum(x, dtype=np.float64)) / x.size * levels
    assert abs(bias / runs) < 1e-4
