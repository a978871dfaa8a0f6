"""Processes that cannot be are refused when made, and arguments that cannot be meant where they are used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax.sde import gaussian


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: dj.VP(beta_max=-5.0), ValueError),
        (lambda: dj.VP(beta_max="20"), TypeError),
        (lambda: dj.VP(beta_max=np.nan), ValueError),
        (lambda: dj.VP(T=0.0), ValueError),
        (lambda: dj.SubVP(T=-1.0), ValueError),
        (lambda: dj.VP(t_min=2.0), ValueError),
        (lambda: dj.SubVP(0.0, 0.0), ValueError),
        (lambda: dj.VP(20.0, 0.1, T=2.0), ValueError),  # beta(T) < 0
        (lambda: dj.VE(50.0, 0.01), ValueError),
        (lambda: dj.VE(0.0), ValueError),
        (lambda: dj.EDM(T=-80.0), ValueError),
        (lambda: dj.EDM(t_min=-1.0), ValueError),
        (lambda: dj.Flow(T=1.5), ValueError),
        (lambda: dj.Cosine(T=None), TypeError),
        (lambda: dj.BetaTable(jnp.linspace(1e-4, 0.02, 9)), ValueError),
        (lambda: dj.BetaTable([0.0, -0.1]), TypeError),
        (lambda: dj.BetaTable(jnp.array([0.0, -0.2, -0.1])), ValueError),
        (lambda: dj.BetaTable.from_betas("betas"), ValueError),
        (lambda: dj.BetaTable.linear(10), ValueError),
        (lambda: dj.BetaTable.cosine(-5), ValueError),
        (lambda: dj.Interpolant(1.0, 2.0), TypeError),
        (lambda: dj.Interpolant(np.cos, np.sin), TypeError),
        (lambda: dj.Interpolant(lambda t: 1 - t, lambda t: t, T=2.0), ValueError),
        (lambda: dj.prior_sample(jax.random.PRNGKey(0), dj.VP(), (2, 3)), ValueError),
        (lambda: dj.prior_sample(jax.random.key(0), dj.VP, (2, 3)), TypeError),
        (lambda: dj.prior_sample(jax.random.key(0), dj.VP(), 4), ValueError),
        (lambda: dj.prior_sample(jax.random.key(0), dj.VP(), ()), ValueError),
        (lambda: dj.prior_sample(jax.random.key(0), dj.VP(), (2.0, 3)), TypeError),
        (lambda: gaussian.perturb(dj.VP(), jnp.ones((4, 2)), jnp.zeros(3), jnp.ones((4, 2))), ValueError),
    ],
)
def test_what_cannot_be_meant_is_refused(make, error):
    with pytest.raises(error, match=r"must|grows|expected|table|made by|do not fit"):
        make()


def test_falling_betas_integers_and_stacks_are_processes(key):
    for sde in (dj.VP(20.0, 0.1), dj.VP(beta_max=20), dj.EDM(T=80), dj.VE(1, 50)):
        assert np.isfinite(dj.prior_sample(key, sde, [4, 2])).all()
    alphas = jax.vmap(lambda b: dj.VP(beta_max=b).alpha(1.0))(jnp.array([5.0, 20.0]))
    np.testing.assert_allclose(alphas, np.exp([-1.275, -5.025]), rtol=1e-6)
    assert dj.VP(beta_max=jnp.array([5.0, 20.0])).alpha(1.0).shape == (2,)


@pytest.mark.parametrize("make", [dj.VP, dj.SubVP, dj.EDM, dj.Flow, dj.Cosine, lambda: dj.BetaTable.linear(100)])
def test_limits_where_a_curve_is_zero(make, key):
    """Values and gradients at t = 0 and T, and for steps of length 0 there."""
    sde, (x0, eps) = make(), jax.random.normal(key, (2, 4, 3))
    x_0, x_T = sde.alpha(0.0) * x0, gaussian.perturb(sde, x0, sde.T, eps)
    velocity = gaussian.velocity_from_x0(sde, x_0, 0.0, x0)
    np.testing.assert_allclose(gaussian.x0_from_velocity(sde, x_0, 0.0, velocity), x0, rtol=1e-5)
    if sde.alpha(sde.T) == 0:
        for back in (gaussian.x0_from_eps(sde, x_T, sde.T, eps), gaussian.x0_from_score(sde, x_T, sde.T, -eps)):
            np.testing.assert_array_equal(back, 0)
        assert gaussian.drift(sde, jnp.zeros(3), sde.T).tolist() == [0, 0, 0]
        assert gaussian.diffusion(sde, sde.T) == gaussian.noise_to_signal(sde, sde.T) == jnp.inf
    for t in (0.0, sde.T):
        np.testing.assert_allclose(gaussian.transition(sde, t, t), (1, 0), atol=1e-6)
        x = gaussian.perturb(sde, x0, t, eps)
        np.testing.assert_allclose(gaussian.posterior_mean(sde, x, t, t, x0), x, rtol=2e-5, atol=2e-5)
        slope = jax.grad(lambda x, t=t: gaussian.x0_from_eps(sde, x, t, 0 * x).sum())(x)
        assert np.isfinite(slope).all()
    ends = float(gaussian.time_between(sde, sde.T, 0.0, 0.5))
    assert 0 < ends < sde.T


def test_the_diffusion_at_the_data_is_the_limit():
    np.testing.assert_allclose(gaussian.diffusion(dj.VP(), 0.0), np.sqrt(0.1), rtol=1e-5)
    np.testing.assert_allclose(gaussian.diffusion(dj.BetaTable.linear(100), 0.0) ** 2, -np.log1p(-1e-3), rtol=1e-4)
    assert gaussian.diffusion(dj.EDM(), 0.0) < 1e-4


@pytest.mark.parametrize("sde", [dj.VP(), dj.Flow(), dj.VE(), dj.BetaTable.linear(100)], ids=lambda s: type(s).__name__)
def test_results_have_the_dtype_of_x_and_at_least_32_bits(x64, sde):
    for dtype, t in (
        (jnp.float32, 0.5),
        (jnp.float32, np.float64(0.5)),
        (jnp.float64, np.float32(0.5)),
        (jnp.bfloat16, 1),
    ):
        x, wide = jnp.ones((2, 3), dtype), jnp.promote_types(dtype, jnp.float32)
        for fn in (gaussian.eps_from_x0, gaussian.velocity_from_x0, gaussian.x0_from_velocity, gaussian.x0_from_v):
            assert fn(sde, x, t, x).dtype == wide
    assert sde.alpha(jnp.bfloat16(0.5)).dtype != jnp.bfloat16 and sde.sigma(jnp.ones((), jnp.int32)).dtype != jnp.int32


def test_a_plain_class_is_a_process_where_nothing_is_compiled(key):
    class Plain:
        T, t_min = 1.0, 1e-3
        alpha, sigma = dj.Cosine.alpha, dj.Cosine.sigma

    assert dj.prior_sample(key, Plain(), (4, 2)).shape == (4, 2)
    assert len(dj.times.uniform(Plain(), 5)) == 6
    with pytest.raises(TypeError, match=r"decorate it with @dj.pytree"):
        dj.times.karras(Plain(), 5)
