"""NCSNv2's techniques: the published figures for CIFAR-10, the equations themselves, distances against brute force."""

import tracemalloc

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.spatial.distance import pdist
from scipy.stats import norm

from diffjax.samplers import annealing

GAMMA_232 = 5000 ** (1 / 231)  # 232 levels from 50 to 0.01


def test_published_levels_of_cifar10():
    np.testing.assert_allclose(GAMMA_232, 1.0375591, rtol=1e-7)
    for n, value in ((200, 0.38344), (232, 0.56697), (300, 0.79440)):
        np.testing.assert_allclose(annealing.overlap(5000 ** (1 / (n - 1)), 3072), value, atol=5e-6)


def test_the_equation_of_technique_2_is_solved():
    for dim in (5, 6, 784, 3072, 10**7):
        shift = np.sqrt(2 * dim)
        f = lambda g, s=shift: norm.cdf(s * (g - 1) + 3 * g) - norm.cdf(s * (g - 1) - 3 * g) - 0.5  # noqa: E731
        np.testing.assert_allclose(annealing.level_ratio(dim), brentq(f, 1, 30, xtol=1e-14), rtol=1e-10)
    gamma, n = annealing.level_ratio(3072), annealing.n_levels(3072, 50, 0.01)
    np.testing.assert_allclose(gamma, 1.0397964, rtol=1e-7)
    assert n == 220  # not the published 232
    assert 5000 ** (1 / (n - 1)) <= gamma < 5000 ** (1 / (n - 2))


def test_published_step_of_cifar10():
    np.testing.assert_allclose(annealing.variance_ratio(6.2e-6, 5, GAMMA_232, 0.01), 1.0554746, rtol=1e-7)
    eps = annealing.step_size(5, GAMMA_232, 0.01)
    np.testing.assert_allclose(eps, 6.1840e-6, rtol=1e-5)
    assert f"{eps:.1e}" == "6.2e-06"


def test_variance_ratio_is_that_of_the_recursion():
    eps, n, gamma, sigma = 0.003, 7, 1.3, 0.2
    var = (gamma * sigma) ** 2
    for _ in range(n):  # x <- x - eps x / sigma^2 + sqrt(2 eps) z
        var = (1 - eps / sigma**2) ** 2 * var + 2 * eps
    np.testing.assert_allclose(annealing.variance_ratio(eps, n, gamma, sigma), var / sigma**2, rtol=1e-12)


@pytest.mark.parametrize(("n", "gamma"), [(1, 1.001), (5, GAMMA_232), (100, 1.3), (1, 3.0), (5, 30.0)])
def test_the_step_is_the_least_ratio_and_none_gives_one(n, gamma):
    eps = annealing.step_size(n, gamma, 2.0)
    ratio = lambda u: annealing.variance_ratio(4 * u, n, gamma, 2.0)  # noqa: E731
    least = minimize_scalar(ratio, bounds=(1e-9, 1.0), method="bounded", options={"xatol": 1e-10})
    np.testing.assert_allclose(eps / 4, least.x, rtol=1e-5)  # a minimum's place is known to the root of rounding
    everywhere = [ratio(u) for u in np.linspace(1e-6, 1.999, 20001)]
    assert 1 < ratio(eps / 4) <= min(everywhere) * (1 + 1e-12)


def brute(x):
    return pdist(x.reshape(len(x), -1).astype(np.float64)).max()


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_streaming_distance_equals_brute_force(block):
    rng = np.random.default_rng(0)
    gaussian = rng.normal(size=(200, 4, 3)).astype(np.float32) + 100  # far from the origin
    sphere = rng.normal(size=(150, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)  # where hardly a point can be ruled out
    pixels = rng.integers(0, 256, (90, 8, 8, 3), dtype=np.uint8)
    for data in (gaussian, sphere, pixels):
        np.testing.assert_allclose(annealing.max_pairwise_distance(data, block), brute(data), rtol=1e-14)
        ragged = lambda data=data: iter([data[:10], data[10:10], data[10:45], data[45:]])  # noqa: E731
        np.testing.assert_allclose(annealing.max_pairwise_distance(ragged, block), brute(data), rtol=1e-14)


def test_repeated_examples_and_a_pair():
    assert annealing.max_pairwise_distance(np.ones((5, 2))) == 0
    assert annealing.max_pairwise_distance(np.array([[0.0, 0.0], [3.0, 4.0]])) == 5


def test_a_huge_set_of_which_two_blocks_are_held_at_a_time(tmp_path):
    """A file of 40 blocks with the farthest pair in blocks 3 and 31, read as a memmap and by a function."""
    n, dim, block = 20000, 64, 500
    file = np.lib.format.open_memmap(tmp_path / "data.npy", "w+", np.float32, (n, dim))
    rng = np.random.default_rng(1)
    for i in range(0, n, block):
        file[i : i + block] = rng.normal(size=(block, dim))
    file[3 * block + 17, 0], file[31 * block + 400, 0] = 40, -35
    expected = np.linalg.norm(file[3 * block + 17].astype(float) - file[31 * block + 400])
    file.flush()
    data, rows = np.load(tmp_path / "data.npy", mmap_mode="r"), []

    def blocks():
        for i in range(0, n, block):
            rows.append(block)
            yield np.array(data[i : i + block])

    np.testing.assert_allclose(annealing.max_pairwise_distance(data, block), expected, rtol=1e-14)
    np.testing.assert_allclose(annealing.max_pairwise_distance(blocks, block), expected, rtol=1e-14)
    assert sum(rows) == 5 * n  # two candidates were left of 20000, hence no quadratic cost


def test_memory_does_not_grow_with_the_data(tmp_path):
    """The peak over 20 blocks on a sphere, where all are candidates, is that of a few blocks in float64."""
    n, dim, block = 800, 500, 40
    rows = np.random.default_rng(2).normal(size=(n, dim)).astype(np.float32)
    np.save(tmp_path / "data.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
    data = np.load(tmp_path / "data.npy", mmap_mode="r")
    tracemalloc.start()
    annealing.max_pairwise_distance(data, block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * block * dim * 8 + 16 * n, peak / (block * dim * 8)  # two blocks, and temporaries


def test_bad_arguments():
    for data in (np.zeros((1, 3)), lambda: iter([np.zeros((1, 3))])):
        with pytest.raises(ValueError, match="at least two examples, got 1"):
            annealing.max_pairwise_distance(data)
    once = iter([np.zeros((3, 2))])
    with pytest.raises(ValueError, match="blocks anew at each call"):
        annealing.max_pairwise_distance(lambda: once)
    with pytest.raises(TypeError, match="an array"):
        annealing.max_pairwise_distance(once)
    with pytest.raises(ValueError, match="example 3 holds NaN"):
        annealing.max_pairwise_distance(np.array([[0.0], [1.0], [2.0], [np.nan]]), 2)
    with pytest.raises(ValueError, match="at least 1 example"):
        annealing.max_pairwise_distance(np.zeros((3, 2)), 0)
    with pytest.raises(ValueError, match="from 5 dimensions on"):
        annealing.level_ratio(4)
    with pytest.raises(ValueError, match=r"between 0 and 0\.99"):
        annealing.level_ratio(100, 1.0)
    with pytest.raises(ValueError, match="0 < sigma_min < sigma_max"):
        annealing.n_levels(3072, 0.01, 50)
    with pytest.raises(ValueError, match="n_steps >= 1"):
        annealing.step_size(0, 1.1, 0.01)
