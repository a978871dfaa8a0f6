import numpy as np
import pytest

from diffjax.metrics import kid, mmd2

RNG = np.random.default_rng(0)


def test_mmd2_is_the_sum_over_distinct_pairs():
    x, y = RNG.normal(size=(5, 3)), RNG.normal(size=(4, 3)) + 1

    def k(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / 3 + 1) ** 3

    xx = np.mean([k(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(4) for j in range(4) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    np.testing.assert_allclose(mmd2(x, y), xx + yy - 2 * xy, rtol=1e-12)


def test_unbiased_for_equal_distributions_and_for_a_shift():
    # D = 1, y = x + 1: with k = (x y + 1)^3 = sum_p C(3, p) x^p y^p, MMD^2 = sum_p C(3, p) (E x^p - E y^p)^2;
    # the moments of N(0, 1) and of N(1, 1) are (0, 1, 0) and (1, 2, 4).
    expected = 3 * 1 + 3 * 1 + 1 * 16
    for shift, value in ((0.0, 0.0), (1.0, expected)):
        estimates = [mmd2(RNG.normal(size=(30, 1)), RNG.normal(size=(30, 1)) + shift) for _ in range(400)]
        assert abs(np.mean(estimates) - value) < 4 * np.std(estimates, ddof=1) / 20  # 4 sigma


def test_kid_averages_disjoint_blocks_and_states_its_error():
    a, b = RNG.normal(size=(4000, 4)), RNG.normal(size=(4100, 4)) + 0.3
    estimate = kid(a, b, block_size=200)
    value = 3 * 4 * (0.3 / 2) ** 2  # the linear part of the kernel, 3 x . y / d, alone; the others only add
    assert estimate.value > value / 4
    repeats = [kid(RNG.normal(size=(800, 4)), RNG.normal(size=(800, 4)) + 0.3, 200) for _ in range(100)]
    scatter, stated = np.std([r.value for r in repeats], ddof=1), np.mean([r.stderr for r in repeats])
    assert 0.7 < stated / scatter < 1.3  # 4 sigma: a deviation of 100 values is known to 7 %
    assert estimate == kid(a, b, block_size=200) != kid(a, b, block_size=200, seed=1)


def test_sorted_input_does_not_matter():
    a = np.sort(RNG.normal(size=(1000, 1)), axis=0)
    b = np.sort(RNG.normal(size=(1000, 1)), axis=0)[::-1]
    estimate = kid(a, b, block_size=100)
    assert abs(estimate.value) < 4 * estimate.stderr  # 4 sigma; unshuffled, the blocks would differ wildly


def test_bad_input():
    good = RNG.normal(size=(20, 3))
    nan = good.copy()
    nan[3] = np.nan
    for a, b, size, message in [
        (nan, good, 5, "1 of the 20 rows of a hold NaN"),
        (good, nan, 5, "rows of b"),
        (good, good[:, :2], 5, "different dimensions"),
        (good[:3], good, 2, "3 samples do not give two blocks of 2"),
        (good, good, 11, "20 samples do not give two blocks of 11"),
        (good, good, 1, "do not give two blocks of 1"),
        (good, good, 0, "do not give two blocks of 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            kid(a, b, block_size=size)
