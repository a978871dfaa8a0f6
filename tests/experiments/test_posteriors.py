"""Every posterior sampler follows its own recursion on a Gaussian prior, and guided samples follow theirs."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import guidance, metrics, times

METHODS = (
    "DPS, squared", "reconstruction guidance", "PiGDM", "PiGDM, exact covariance", "MPGD, squared", "replacement",
    "DDNM", "DDRM", "DDNM+", "DiffPIR",
)  # fmt: skip


@pytest.fixture(scope="module")
def oracle(load):
    return load("posterior_recursion")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.slow
def test_samples_follow_the_recursion(oracle, name):
    """Mean and covariance of 5000 samples, within 4.5 standard errors of the largest of 14 entries (p < 1e-4).

    And the mean exactly: at equal noise, where the prior's mean and y are 0 every sample differs by the mean.
    """
    assert set(METHODS) == set(oracle.METHODS)
    p, ts = oracle.problem(), times.uniform(oracle.SDE, 30, 0.0)
    config = dataclasses.replace(oracle.Config(), steps=30, samples=5000)
    method = oracle.METHODS[name]
    m, V = oracle.recursion(method, p, np.asarray(ts, np.float64))
    x = oracle.draw(method, p, ts, config)
    assert oracle.deviation(x, m, V) < 4.5
    centred = p._replace(prior=dataclasses.replace(p.prior, means=0 * p.prior.means), y=0 * p.y)
    np.testing.assert_allclose(x - oracle.draw(method, centred, ts, config), np.tile(m, (len(x), 1)), atol=1e-5)


@pytest.mark.slow
def test_the_recursion_agrees_with_the_posterior(oracle):
    """With the exact covariance PiGDM tends to the posterior; DDNM, made for no noise, does not."""
    p = oracle.problem()
    truth = p.prior.posterior(jnp.asarray(p.A), jnp.asarray(p.y), p.noise_std)

    def end(name, steps):
        m, V = oracle.recursion(oracle.METHODS[name], p, np.asarray(times.uniform(oracle.SDE, steps), np.float64))
        return np.linalg.norm(m - truth.means[0]), np.trace(V) / np.trace(truth.covs[0])

    mean, spread = end("PiGDM, exact covariance", 2000)
    assert mean < 1e-3 and abs(spread - 1) < 0.02
    assert end("DDNM", 2000)[1] < 0.8


@pytest.fixture(scope="module")
def mixtures(load):
    """With distances along 32 directions, the floor's as well, in place of 128: sorting is most of their cost."""
    module = load("posterior_mixtures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.metrics, "sliced_wasserstein", partial(metrics.sliced_wasserstein, n_projections=32))
        yield module


PIGDM, DPS = "PiGDM, exact covariance", "DPS, squared"


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_guided_samples_follow_their_recursion_and_not_the_tilted_density(mixtures, eta):
    """Classifier-free guidance at scale 2 and 4 on a linear Gaussian model, to 4 standard errors of 10,000 samples."""
    n, ts = 10_000, times.uniform(dj.VP(), 100)
    x, cond = dj.prior_sample(jax.random.key(0), dj.VP(), (n, 1)), {"c": jnp.ones(n)}
    for scale in (2.0, 4.0):
        guided = guidance.cfg(Partial(mixtures.linear_gaussian), scale)
        out = np.asarray(dj.sample(jax.random.key(1), guided, dj.VP(), dj.DDIM(eta), ts, x, cond))
        mean, var = mixtures.cfg_recursion(scale, np.asarray(ts, np.float64), eta)
        assert abs(out.mean() - mean) < 4 * np.sqrt(var / n)
        assert abs(out.var() - var) < 4 * var * np.sqrt(2 / n)
        assert var < 0.5 / ((1 - scale) * 0.5 / 2.75 + scale)  # less than the tilted density's variance


@pytest.mark.slow
def test_gaussian_approximations_reach_the_floor_only_where_they_are_right(mixtures):
    """A mixture on a triangle. Of x_2 = -1 two modes are left, but A x_0 given x_t stays nearly Gaussian.

    A distance of 2000 samples is the floor up to half of it (one sigma); the floor itself is a mean of 16.
    """
    config = mixtures.Config(methods=("prior", "exact", PIGDM, DPS), steps=100, samples=2000)
    seen, confused = (mixtures.distances(config, *mixtures.triangle(i)) for i in (1, 0))
    assert seen["exact"] < 2 * seen["floor"] and confused["exact"] < 2 * confused["floor"]
    assert seen[PIGDM] < 2.5 * seen["floor"] and confused[PIGDM] > 5 * confused["floor"]
    assert seen[DPS] < 0.25 * seen["prior"]


@pytest.mark.slow
def test_methods_approach_the_posterior_in_eight_dimensions(mixtures):
    config = mixtures.Config(methods=("prior", "exact", PIGDM, DPS), steps=100, samples=2000)
    row = mixtures.distances(config, *mixtures.problem(8, 4, 0))
    assert row["exact"] < 2 * row["floor"]
    assert max(row[PIGDM], row[DPS]) < 0.4 * row["prior"]
