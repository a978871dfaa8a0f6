"""The curves against their closed forms in float64 NumPy and against published constants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax.sde import diffusion, drift, logsnr, transition

# times that float32 holds exactly, down to 1e-5
T = np.concatenate([[1e-5, 1e-4, 1e-3], np.linspace(0.01, 1, 34)]).astype(np.float32).astype(np.float64)
BETA, LOG_ALPHA = 0.1 + T * 19.9, -0.25 * T**2 * 19.9 - 0.05 * T
with np.errstate(divide="ignore"):
    CURVES = {  # the SDE; alpha, sigma, drift coefficient f, diffusion g
        "vp": (dj.VP(), np.exp(LOG_ALPHA), np.sqrt(-np.expm1(2 * LOG_ALPHA)), -BETA / 2, np.sqrt(BETA)),
        "subvp": (
            dj.SubVP(),
            np.exp(LOG_ALPHA),
            -np.expm1(2 * LOG_ALPHA),
            -BETA / 2,
            np.sqrt(BETA * -np.expm1(4 * LOG_ALPHA)),
        ),
        "ve": (dj.VE(), T**0, 0.01 * 5000**T, 0 * T, 0.01 * 5000**T * np.sqrt(2 * np.log(5000))),
        "edm": (dj.EDM(), T**0, T, 0 * T, np.sqrt(2 * T)),
        "cosine": (
            dj.Cosine(),
            np.cos(np.pi * T / 2),
            np.sin(np.pi * T / 2),
            -np.pi / 2 * np.tan(np.pi * T / 2),
            np.sqrt(np.pi * np.abs(np.tan(np.pi * T / 2))),
        ),
        "flow": (dj.Flow(), 1 - T, T, -1 / (1 - T), np.sqrt(2 * T / (1 - T))),
    }


@pytest.mark.parametrize("name", CURVES)
def test_float32_curves_drift_and_diffusion_equal_the_closed_forms(name):
    sde, alpha, sigma, f, g = CURVES[name]
    t = jnp.asarray(T, jnp.float32)
    n = len(T) - (name in ("cosine", "flow"))  # alpha(1) = 0 there: f and g are infinite
    close = dict(rtol=1e-6, atol=0)
    np.testing.assert_allclose(sde.alpha(t)[:n], alpha[:n], **close)
    np.testing.assert_allclose(sde.sigma(t), sigma, **close)
    np.testing.assert_allclose(drift(sde, jnp.ones((len(T), 1)), t)[:n, 0], f[:n], **close)
    np.testing.assert_allclose(diffusion(sde, t)[:n], g[:n], **close)


def test_vp_and_subvp_constants(x64):
    vp, subvp = dj.VP(), dj.SubVP()
    t = jnp.array([1.0, 0.5, 1e-3, 1e-5])
    np.testing.assert_allclose(-2 * jnp.log(vp.alpha(t[:2])), [10.05, 2.5375], rtol=1e-9)
    np.testing.assert_allclose(vp.alpha(t[:2]), [6.5715865e-3, 0.28118288], rtol=3e-8)
    np.testing.assert_allclose(vp.sigma(t), [0.99997841, 0.95965420, 0.010485416, 1.00049713e-3], rtol=4e-8)
    np.testing.assert_allclose(subvp.sigma(t[1:3]), [0.92093619, 1.0994396e-4], rtol=4e-8)


def test_vp_as_edm_noise_levels(x64):
    sde = dj.VP()
    np.testing.assert_allclose(sde.sigma(1e-3) / sde.alpha(1e-3), 0.010485993, rtol=5e-8)
    np.testing.assert_allclose(sde.sigma(1.0) / sde.alpha(1.0), 152.16697, rtol=5e-8)


def test_ve_constants(x64):
    sde = dj.VE()
    np.testing.assert_allclose(sde.sigma(1 / 999) / sde.sigma(0.0), 1.00856217, rtol=5e-9)
    np.testing.assert_allclose([diffusion(sde, 0.0), diffusion(sde, 1.0)], [0.0412727, 206.363674], rtol=1e-6)


def test_ddpm_linear_table(x64):
    sde = dj.BetaTable.linear(1000)
    np.testing.assert_allclose(sde.alpha(1000) ** 2, 4.035829765e-5, rtol=1e-9)
    np.testing.assert_allclose([logsnr(sde, 1), logsnr(sde, 1000)], [9.2102, -10.1177], atol=5e-5)
    _, b = transition(sde, 2, 1)  # beta tilde of the second step, which the official code also uses for the first
    np.testing.assert_allclose((b * sde.sigma(1) / sde.sigma(2)) ** 2, 5.45318766e-5, rtol=1e-8)
    np.testing.assert_allclose(sde.betas, np.linspace(1e-4, 0.02, 1000), rtol=1e-9)


@pytest.mark.parametrize(("n", "last", "beta_0"), [(1000, 2.42877e-9, 4.12842e-5), (4000, 1.51798e-10, 9.8658e-6)])
def test_cosine_table(x64, n, last, beta_0):
    sde = dj.BetaTable.cosine(n)
    np.testing.assert_allclose(sde.alpha(n) ** 2, last, rtol=1e-5)
    np.testing.assert_allclose(sde.betas[0], beta_0, rtol=1e-5)
    assert int((sde.betas > 0.999 - 1e-12).sum()) == 1
    np.testing.assert_allclose(sde.alpha(n / 2) ** 2, 0.4938436, rtol=1e-6)


def test_table_interpolates_log_abar_between_its_times(x64):
    sde = dj.BetaTable.linear(100)
    half = 0.5 * (jnp.log(sde.alpha(3)) + jnp.log(sde.alpha(4)))
    np.testing.assert_allclose(jnp.log(sde.alpha(3.5)), half, rtol=1e-9)
    assert (sde.T, sde.t_min) == (100.0, 0.0)
    assert sde.sigma(0) == 0 and sde.alpha(0) == 1


@pytest.mark.parametrize("betas", [[], [0.5, 1.0], [[0.1]], [-0.1]])
def test_bad_tables(betas):
    with pytest.raises(ValueError, match="betas must be"):
        dj.BetaTable.from_betas(betas)


def test_gradients_flow_through_a_schedule():
    def end_noise(beta_max):
        return jnp.log(dj.VP(beta_max=beta_max).alpha(1.0))

    np.testing.assert_allclose(jax.grad(end_noise)(20.0), -0.25, rtol=1e-6)
