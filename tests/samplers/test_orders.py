"""The order of convergence of every deterministic solver, on VP, VE and flow, against a tightly solved ODE."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import times

PROCESSES = (dj.VP(), dj.VE(), dj.Flow())
T_MIN = np.array([1e-3, 1e-5, 1e-3])
# where runs start: at T, or at alpha/sigma = 1 or so, where x says much of x_0
T_MAX = {"T": np.array([1.0, 1.0, 0.99]), "mid-way": np.array([0.3, 0.55, 0.5])}


# claimed orders of runs that start at T, and mid-way. The multistep methods of order > 2 begin with a first-order step,
# whose error is small at T and hides the order of UniPC(3) with its corrector (4) until 640 steps; `warm` shows it.
ORDERS = {
    dj.Euler(): (1, 1),
    dj.DDIM(): (1, 1),
    dj.DPMSolver(1): (1, 1),
    dj.Heun(): (2, 2),
    dj.DPMSolver(2): (2, 2),
    dj.DPMSolver(3): (3, 3),
    dj.DPMpp2S(): (2, 2),
    dj.DPMpp2M(): (2, 2),
    dj.DPMpp3M(): (3, 2),
    dj.DPMpp3M(warm=True): (3, 3),
    dj.UniPC(1): (2, 2),
    dj.UniPC(2): (3, 3),
    dj.UniPC(3): (4, 3),
    dj.UniPC(3, warm=True): (4, 4),
    dj.LMS(2): (2, 2),
    dj.LMS(4): (4, 2),
    dj.LMS(4, warm=True): (4, 4),
    dj.DEIS(2): (2, 2),
    dj.DEIS(3): (3, 2),
    dj.DEIS(3, warm=True): (3, 3),
    dj.PNDM(4): (2, 2),
    dj.PLMS(): (2, 2),
    dj.Heun(levels=True): (2, 2),
}
STEPS = (320, 640)


@pytest.fixture(scope="module")
def problem(one_of):
    """The mixture; and for each start and process padded grids in time and in logsnr [6, 2, n + 1], starts and ends."""
    with jax.enable_x64(True):
        means = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        mixture = dj.GaussianMixture(jnp.full(4, 0.25), means, jnp.tile(0.04 * jnp.eye(2), (4, 1, 1)))
        x = jnp.array([[0.6, 0.2], [-0.4, 0.8], [0.14, -1], [2, -0.6]])

        def one(kind, t_max, t_min):
            def grids(make):
                return jnp.stack([jnp.pad(make(n), (0, STEPS[-1] - n), mode="edge") for n in STEPS])

            sde = one_of(kind, PROCESSES)
            start = sde.sigma(t_max) * x
            end = dj.sample_ode(mixture.denoiser(sde), sde, start, t_start=t_max, t_end=t_min, rtol=1e-12, atol=1e-13)
            in_time = grids(lambda n: jnp.linspace(t_max, t_min, n + 1))
            return in_time, grids(lambda n: times.uniform_logsnr(sde, n, t_max, t_min)), start, end.x

        kinds, t_max = np.tile(np.arange(3), 2), np.concatenate(list(T_MAX.values()))
        return mixture, kinds, jax.jit(jax.vmap(one))(kinds, t_max, np.tile(T_MIN, 2))


@pytest.mark.slow
@pytest.mark.parametrize("solver", ORDERS, ids=str)
def test_order(solver, problem, x64, key, one_of):
    mixture, kinds, (in_time, in_logsnr, start, end) = problem
    ts = in_time if isinstance(solver, dj.PNDM) else in_logsnr  # a step of length 0, in the padding, changes nothing

    def run(kind, ts, start):
        sde = one_of(kind, PROCESSES)
        return jax.vmap(lambda ts: dj.sample(key, mixture.denoiser(sde), sde, solver, ts, start))(ts)

    ends = jax.jit(jax.vmap(run))(kinds, ts, start)
    errors = np.abs(ends - end[:, None]).max((2, 3)).reshape(2, 3, 2)  # [start, process, steps]
    measured = np.log2(errors[..., 0] / errors[..., 1])
    assert np.all(np.abs(measured - np.array(ORDERS[solver])[:, None]) < 0.25), (measured, errors)


@pytest.mark.slow
def test_reference_errors_of_dpm_solver(x64, key, four_modes):
    """core.md row 17: the largest error on VP for 10, 20, 40 steps, uniform in logsnr; DDIM's are in `test_exact`."""
    rows = {
        dj.DPMSolver(2): (0.0462, 9.13e-3, 2.10e-3),
        dj.DPMSolver(3): (0.0144, 1.04e-3, 4.90e-5),
        dj.DPMpp2M(): (0.0721, 0.0113, 2.51e-3),
    }
    sde, x = dj.VP(), np.array([[0.6, 0.2], [-0.4, 0.8], [0.14, -1], [2, -0.6]])
    denoise = four_modes.denoiser(sde)
    end = [[0.97553506, 0.79956877], [-0.90112258, 1.03847742], [0.75573684, -1.09511668], [1.33841899, -0.97553506]]
    fine = jax.jit(times.uniform_logsnr, static_argnums=1)(sde, 40)
    ts = np.stack([np.pad(fine[:: 40 // n], (0, 40 - n), mode="edge") for n in (10, 20, 40)])
    run = jax.jit(jax.vmap(lambda solver, ts: dj.sample(key, denoise, sde, solver, ts, x), (None, 0)))
    for solver, expected in rows.items():
        out = run(solver, ts)
        np.testing.assert_allclose(np.abs(out - np.array(end)).max((1, 2)), expected, rtol=6e-3)
