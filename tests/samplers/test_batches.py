"""Samples in batches: example i is that of one call, and what cannot be split is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj

SDE = dj.VP()


def linear(x, t, cond=None):
    shift = 0 if cond is None else jnp.asarray(cond["shift"]).reshape(-1, *[1] * (x.ndim - 1))
    return 0.2 * x + 0.1 * shift


def draw(key, shape, batch_size, sampler=dj.DDIM(1.0), cond=None, denoise=linear):
    return dj.samplers.generate(key, denoise, SDE, sampler, dj.times.uniform(SDE, 3), shape, cond, batch_size)


@pytest.mark.parametrize("batch_size", [2, 5, 99])
def test_batches_are_parts_of_one_run(key, batch_size):
    """Also from given states at T, and with a list for a condition, which is an array."""
    cond = {"shift": [0.5, -1, 2, 0, 1]}
    whole = draw(key, (5, 3), 5, cond=cond)
    np.testing.assert_allclose(draw(key, (5, 3), batch_size, cond=cond), whole, atol=1e-6)
    np.testing.assert_allclose(
        draw(key, (5, 3), batch_size, cond={"shift": jnp.array(cond["shift"])}), whole, atol=1e-6
    )
    start = dj.prior_sample(jax.random.key(3), SDE, (5, 3))
    from_start = draw((key, key), start, batch_size, dj.DDIM(), cond)
    one = dj.sample(key, linear, SDE, dj.DDIM(), dj.times.uniform(SDE, 3), start, cond)
    np.testing.assert_allclose(from_start, one, atol=1e-6)


def test_no_examples_are_no_samples(key):
    assert draw(key, (0, 3), 4).shape == draw(key, jnp.zeros((0, 3)), 4).shape == (0, 3)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_have_an_example_at_least(key, batch_size):
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        draw(key, (4, 3), batch_size)
    with pytest.raises(TypeError, match="batch_size must be an integer"):
        draw(key, (4, 3), 2.5)


@pytest.mark.parametrize(("n", "batch_size", "own"), [(6, 4, 4), (4, 2, 4), (7, 2, 2)])
def test_values_of_each_example_are_refused_and_not_recycled(key, n, batch_size, own):
    """Images to fill in, and guidance scales: as many as a batch has, or as there are examples in all."""
    fill = dj.inpaint(dj.DDIM(), jnp.ones((own, 2, 2, 1)), jnp.ones((2, 2, 1)).at[0].set(0))
    guide = dj.guidance.cfg(linear, jnp.arange(float(own)))
    for options in (dict(sampler=fill), dict(denoise=guide, cond={"shift": np.ones(n)})):
        with pytest.raises(ValueError, match=f"values of each of {own} examples, which are not split"):
            draw(key, (n, 2, 2, 1), batch_size, **options)


@pytest.mark.slow
def test_arrays_that_happen_to_be_as_long_are_no_values_of_each_example(key, four_modes):
    """Four weights of a mixture, one image for all, and four or eight examples in batches of four."""
    assert draw(key, (8, 2), 4, denoise=four_modes.denoiser(SDE)).shape == (8, 2)
    assert draw(key, (4, 2), 2, denoise=four_modes.denoiser(SDE)).shape == (4, 2)
    one = dj.measure(key, dj.operators.Mask(jnp.ones((2, 2, 1))), jnp.ones((1, 2, 2, 1)), 0.1)
    m = dj.posterior.ddrm(one)
    x = m.sample(key, linear, SDE, dj.prior_sample(key, SDE, (3, 2, 2, 1)), steps=3)
    each = dj.measure(key, dj.operators.Mask(jnp.ones((2, 2, 1))), jnp.ones((3, 2, 2, 1)), 0.1)
    each = dj.operators.Measurement(each.operator, jnp.broadcast_to(one.y, (3, 2, 2, 1)), 0.1)
    y = dj.posterior.ddrm(each).sample(key, linear, SDE, dj.prior_sample(key, SDE, (3, 2, 2, 1)), steps=3)
    np.testing.assert_array_equal(x, y)
