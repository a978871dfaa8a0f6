"""Properties of everything derived from the two curves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax.sde import gaussian

HUB = [
    (gaussian.eps_from_x0, gaussian.x0_from_eps),
    (gaussian.score_from_x0, gaussian.x0_from_score),
    (gaussian.v_from_x0, gaussian.x0_from_v),
    (gaussian.velocity_from_x0, gaussian.x0_from_velocity),
]
MAKERS = [dj.VP, dj.SubVP, dj.VE, dj.EDM, dj.Cosine, dj.Flow, dj.BetaTable.linear]


@pytest.fixture(params=MAKERS, ids=lambda make: make.__qualname__)
def sde(request, x64):
    """Each SDE in turn, in double precision."""
    return request.param()


def test_conversions_round_trip_and_agree(key, sde):
    x0, eps = jax.random.normal(key, (2, 5, 3))
    t = jnp.linspace(0.05, 0.95, 5) * sde.T

    @jax.jit
    def run(sde, x0, eps):
        x = gaussian.perturb(sde, x0, t, eps)
        again = [back(sde, x, t, there(sde, x, t, x0)) for there, back in HUB]
        g = gaussian.bcast(gaussian.diffusion(sde, t), x)
        flow = gaussian.drift(sde, x, t) - 0.5 * g**2 * gaussian.score_from_x0(sde, x, t, x0)
        return again, gaussian.eps_from_x0(sde, x, t, x0), flow, gaussian.velocity_from_x0(sde, x, t, x0)

    round_trips, noise, flow, velocity = run(sde, x0, eps)
    for again in round_trips:
        np.testing.assert_allclose(again, x0, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(noise, eps, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(velocity, flow, rtol=1e-8, atol=1e-9)  # the velocity is f x - g^2/2 score


def test_all_is_finite_at_both_ends(key, sde):
    x0, eps = jax.random.normal(key, (2, 4, 3))

    @jax.jit
    def run(sde, t):
        x = gaussian.perturb(sde, x0, t, eps)
        again = gaussian.x0_from_v(sde, x, t, gaussian.v_from_x0(sde, x, t, x0))
        noise, score = (f(sde, x, t, x0) for f in (gaussian.eps_from_x0, gaussian.score_from_x0))
        return again, (noise, score), gaussian.velocity_from_x0(sde, x, sde.T, x0)

    for t in (0.0, sde.T):
        again, others, velocity = run(sde, t)
        assert all(np.isfinite(a).all() for a in others)
        np.testing.assert_allclose(again, x0, atol=1e-4)
    assert np.isfinite(velocity).all()


def test_transitions_compose(sde):
    r, s, t = 0.2 * sde.T, 0.5 * sde.T, 0.9 * sde.T
    (a1, b1), (a2, b2), (a, b) = (gaussian.transition(sde, *p) for p in ((s, r), (t, s), (t, r)))
    np.testing.assert_allclose(a, a1 * a2, rtol=1e-12)
    np.testing.assert_allclose(b**2, b2**2 + (a2 * b1) ** 2, rtol=1e-10)
    if sde.sigma(0.0) == 0:
        np.testing.assert_allclose(gaussian.transition(sde, t, 0.0), (sde.alpha(t), sde.sigma(t)), rtol=1e-10)


def test_time_of_logsnr_inverts(sde):
    t = jnp.linspace(0.02, 0.98, 9) * sde.T
    np.testing.assert_allclose(gaussian.time_of_logsnr(sde, gaussian.logsnr(sde, t)), t, rtol=1e-9)


def test_a_level_that_a_process_does_not_reach_is_taken_to_be_at_its_end():
    sde, levels = dj.VP(), jnp.array([-jnp.inf, -30.0, 0.0])
    t, slope = jax.jvp(lambda level: gaussian.time_of_logsnr(sde, level), (levels,), (jnp.ones(3),))
    np.testing.assert_allclose(t[:2], sde.T, rtol=1e-6)
    assert slope[0] == slope[1] == 0 and slope[2] < 0
    denoise = gaussian.rescale(lambda x, t, cond=None: x * t, sde, dj.Cosine())  # alpha = 0 at the latter's T
    np.testing.assert_allclose(denoise(jnp.ones((1, 2)), 1.0), 1.0, rtol=1e-5)


def test_logsnr_rate_is_the_squared_diffusion_over_the_variance(x64):
    sde, t = dj.SubVP(), 0.37
    rate = jax.grad(lambda t: gaussian.logsnr(sde, t))(t)
    np.testing.assert_allclose(-rate, (gaussian.diffusion(sde, t) / sde.sigma(t)) ** 2, rtol=1e-12)


def test_prior(key):
    sde = dj.VE()
    x = dj.prior_sample(key, sde, (4003, 2))  # a size of its own: another test's program may have been optimised
    assert abs(float(x.std()) / 50 - 1) < 4 / np.sqrt(2 * 8006)  # 4 sigma of the standard deviation of 8006 draws
    normal = -0.5 * (np.asarray(x, np.float64) / 50) ** 2 - np.log(50 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(dj.prior_logp(sde, x), normal.sum(-1), rtol=1e-5)
    assert jnp.array_equal(dj.prior_sample(key, sde, (5, 2)), x[:5])


def test_processes_that_cannot_be_meant_are_refused(key):
    """Steps for the time T, and an SDE of one's own whose data are at T, as in papers on flow matching."""

    @dj.pytree
    class Exchanged:
        T: float = 1.0
        t_min: float = 1e-3
        alpha = staticmethod(lambda t: t)
        sigma = staticmethod(lambda t: 1 - t)

    sde = Exchanged()
    calls = (
        lambda: dj.times.uniform(sde, 5),
        lambda: dj.sample(key, lambda x, t, c: x, sde, dj.DDIM(), jnp.linspace(1.0, 1e-3, 3), jnp.zeros((2, 2))),
        jax.jit(lambda x: dj.sample(key, lambda x, t, c: x, sde, dj.DDIM(), jnp.linspace(1.0, 1e-3, 3), x)),
    )
    for call in calls:
        with pytest.raises(ValueError, match="are alpha and sigma exchanged"):
            call(jnp.zeros((2, 2))) if call is calls[2] else call()
    for make in (dj.VP, dj.SubVP):
        with pytest.raises(ValueError, match="time runs from 0 to T = 1"):
            make(T=1000)
