"""Minibatch optimal transport against SciPy, against sorting on the line, and inside the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import diffjax as dj
from diffjax import times
from diffjax.losses import DSM, couplings, weightings

transport = jax.jit(couplings.optimal_transport)


def cost(x0, eps):
    x0, eps = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (x0, eps))
    return ((x0 - eps) ** 2).sum()


@pytest.mark.parametrize("shape", [(1, 2), (7, 3), (64, 2), (64, 4, 4, 1)])
def test_the_assignment_is_the_cheapest_and_a_permutation(shape):
    for seed in range(4):
        x0, eps = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)
        x0 = 1 + 0.3 * x0 if seed % 2 else x0
        paired = transport(x0, eps)
        gain = np.asarray(x0, np.float64).reshape(shape[0], -1) @ np.asarray(eps, np.float64).reshape(shape[0], -1).T
        _, best = linear_sum_assignment(gain, maximize=True)
        np.testing.assert_array_equal(paired, eps[best])  # random costs have no ties
        assert cost(x0, paired) < cost(x0, eps) or shape[0] == 1


def test_on_the_line_it_sorts():
    x0, eps = np.random.default_rng(0).normal(size=(2, 64, 2)).astype(np.float32)
    x0, eps = x0 * [3, 0], eps * [1, 0]  # the line in a plane
    np.testing.assert_array_equal(np.argsort(transport(x0, eps)[:, 0]), np.argsort(x0[:, 0]))


def test_ties_and_nan_still_give_a_permutation():
    eps = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    infinite = np.where(np.arange(7)[:, None] == 2, np.float32(np.inf), eps)
    for x0 in (np.ones_like(eps), np.full_like(eps, np.nan), np.full_like(eps, 3e38), infinite):
        paired = transport(x0, eps)
        np.testing.assert_array_equal(np.sort(paired, axis=0), np.sort(eps, axis=0))


def test_the_loss_pairs_its_own_noise_and_the_batch_s(key):
    """At t = 1 the flow's state is the noise, which a network that returns it shows."""
    seen = []

    def spy(params, x, c_noise, cond=None, *, train, rngs):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x)
        return x

    x0, noise = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
    for batch in (x0, {"image": x0, "noise": noise}):
        seen.clear()
        for coupling in (couplings.independent, couplings.optimal_transport):
            distribution = times.Uniform(1.0, 1.0)
            loss = DSM(
                dj.Flow(), distribution, spy, dj.precondition.from_velocity, weightings.velocity, coupling=coupling
            )
            values, _ = jax.jit(loss)({}, key, batch)
            jax.effects_barrier()
            np.testing.assert_allclose(values, ((seen[-1] - (seen[-1] - x0)) ** 2).mean(1), rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(seen[1], transport(x0, seen[0]))
        if isinstance(batch, dict):
            np.testing.assert_array_equal(seen[0], noise)


def test_noise_of_another_shape_is_refused(key):
    loss = DSM(dj.Flow(), times.Uniform(), lambda *args, **kwargs: args[1], dj.precondition.from_velocity)
    with pytest.raises(ValueError, match=r"noise has shape \(3, 2\), the images \(4, 2\)"):
        loss({}, key, {"image": jnp.zeros((4, 2)), "noise": jnp.zeros((3, 2))})
