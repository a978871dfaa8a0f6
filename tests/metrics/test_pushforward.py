import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax.data import toys
from diffjax.metrics import pushforward_kl

MIXTURE = dj.GaussianMixture(*map(jnp.asarray, toys.eight_gaussians_parameters()))
Z = jax.random.normal(jax.random.key(0), (500, 2))


@pytest.mark.slow
def test_the_divergence_of_an_invertible_map():
    """z -> 1.5 z + 0.2 is N(0.2, 2.25 I), whose density is known."""
    x = np.asarray(1.5 * Z + 0.2, np.float64)
    log_q = -((x - 0.2) ** 2).sum(1) / 4.5 - np.log(2 * np.pi * 2.25)
    expected = np.mean(log_q - np.asarray(MIXTURE.log_prob(x)))
    assert pushforward_kl(lambda z: 1.5 * z + 0.2, Z, MIXTURE.log_prob) == pytest.approx(expected, rel=1e-4)


def test_a_map_that_folds_has_a_lower_bound():
    folded = lambda z: z.at[..., 0].set(jnp.abs(z[..., 0]))  # noqa: E731  the true value is log 2 more
    plain = pushforward_kl(lambda z: z, Z, MIXTURE.log_prob)
    assert pushforward_kl(folded, Z, MIXTURE.log_prob) == pytest.approx(plain, rel=1e-4)


def test_the_distribution_itself_is_at_no_distance():
    normal = lambda x: -jnp.sum(x**2 + jnp.log(2 * jnp.pi), -1) / 2  # noqa: E731
    assert pushforward_kl(lambda z: z, Z, normal) == pytest.approx(0, abs=1e-6)
