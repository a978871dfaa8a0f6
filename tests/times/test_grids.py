"""Grids against published nodes and official codes, and where an end has no noise level."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import times

# each grid in one program; operation by operation it is a hundred of them
karras = jax.jit(times.karras, static_argnums=1, static_argnames="to_zero")
geometric, uniform_logsnr, uniform_angle = (
    jax.jit(grid, static_argnums=1) for grid in (times.geometric, times.uniform_logsnr, times.uniform_angle)
)
EDM_18 = """80 57.585985 40.785574 28.374585 19.352453 12.910082 8.4009353 5.3151945 3.2568215 1.9233398 1.0881706
.58534812 .29644228 .13951647 .05994731 .02293452 .00752802 .002"""


def test_karras_grid_of_edm(x64):
    ts = times.karras(dj.EDM(), 18)
    np.testing.assert_allclose(ts[:-1], np.array(EDM_18.split(), float), rtol=2e-6)
    np.testing.assert_allclose(ts.sum(), 260.106857, rtol=4e-9)
    assert ts[-1] == 0 and ts.shape == (19,)
    assert times.karras(dj.EDM(), 1).tolist() == [80.0, 0.0]


def test_karras_levels_on_another_sde_are_those_of_its_sigma_over_alpha(x64):
    sde = dj.VP()
    ts = karras(sde, 6, to_zero=False)
    level = (sde.sigma(ts) / sde.alpha(ts)) ** (1 / 7)
    np.testing.assert_allclose(jnp.diff(level), jnp.full(6, (level[-1] - level[0]) / 6), rtol=1e-8)
    assert (ts[0], ts[-1]) == (1.0, 1e-3)


@pytest.mark.parametrize("sde", [dj.EDM(T=50.0, t_min=0.01), dj.VP(), dj.SubVP()], ids=lambda sde: type(sde).__name__)
def test_geometric_levels_then_0(x64, sde):
    ts = geometric(sde, 232)
    assert ts.shape == (233,) and (ts[0], ts[-2], ts[-1]) == (sde.T, sde.t_min, 0)
    levels = np.asarray(sde.sigma(ts) / sde.alpha(ts))[:-1]
    np.testing.assert_allclose(levels[:-1] / levels[1:], (levels[0] / levels[-1]) ** (1 / 231), rtol=1e-8)
    if isinstance(sde, dj.EDM):  # NCSNv2's 232 levels for CIFAR-10
        np.testing.assert_allclose(levels[0] / levels[1], 1.0375591, rtol=1e-7)
    assert geometric(sde, 1).tolist() == [sde.T, 0]
    assert geometric(dj.Flow(), 3, t_max=0.9, t_min=0.1)[0] == 0.9


def test_simple_grids():
    sde = dj.VP()
    np.testing.assert_allclose(times.uniform(sde, 4, 0.0), [1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(times.quadratic(sde, 4, 0.0), [1, 0.5625, 0.25, 0.0625, 0], atol=1e-7)
    assert float(times.uniform(sde, 3)[-1]) == pytest.approx(sde.t_min)
    ts = uniform_logsnr(dj.Flow(), 5, t_max=0.9, t_min=0.1)
    np.testing.assert_allclose(np.diff(np.log((1 - ts) / ts)), np.full(5, np.log(81) / 5), rtol=1e-5)


@pytest.mark.parametrize("sde", [dj.VP(), dj.Cosine(), dj.Flow()], ids=lambda sde: type(sde).__name__)
def test_equal_angles(x64, sde):
    ts = uniform_angle(sde, 8)
    assert (ts[0], ts[-1], len(ts)) == (sde.T, 0, 9)
    angles = np.arctan2(sde.sigma(ts), sde.alpha(ts))
    np.testing.assert_allclose(np.diff(angles), np.full(8, -angles[0] / 8), rtol=1e-7)
    assert uniform_angle(sde, 1).tolist() == [sde.T, 0]
    if isinstance(sde, dj.Cosine):
        np.testing.assert_allclose(ts, times.uniform(sde, 8, 0.0), atol=1e-9)


@pytest.mark.parametrize(("n", "j", "r"), [(250, 10, 10), (20, 1, 3), (20, 3, 2), (7, 6, 4), (5, 2, 1)])
def test_repaint_nodes_are_those_of_the_papers_schedule(n, j, r):
    """Its bookkeeping: at every j-th of the labels n - 1, ..., 0 and -1 (clean) there are r - 1 jumps to be spent."""
    jumps, label, labels = dict.fromkeys(range(0, n - j, j), r - 1), n - 1, [n - 1]
    while label >= 0:
        label -= 1
        labels.append(label)
        if jumps.get(label, 0) > 0:
            jumps[label] -= 1
            labels += range(label + 1, label + j + 1)
            label += j
    grid = times.uniform(dj.VP(), n)
    ts = times.repaint(grid, j, r)
    np.testing.assert_array_equal(ts, grid[n - 1 - np.array(labels)])
    down = int((jnp.diff(ts) < 0).sum())
    assert down == n + (r - 1) * j * len(jumps) and (n != 250 or down == 2410)


def test_repaint_in_a_window_under_jit_and_its_errors():
    grid = times.uniform(dj.VP(), 10, 0.0)
    ts = times.repaint(grid, 2, 3, window=(0.45, 0.75))
    up = np.asarray(ts[1:])[np.diff(ts) > 0]
    np.testing.assert_allclose(up, [0.6, 0.7, 0.6, 0.7, 0.4, 0.5, 0.4, 0.5], atol=1e-6)
    np.testing.assert_array_equal(jax.jit(lambda ts: times.repaint(ts, 2, 3))(grid), times.repaint(grid, 2, 3))
    with pytest.raises(ValueError, match="jump length j must be at least 1, got 0"):
        times.repaint(grid, 0, 3)
    with pytest.raises(ValueError, match="number of times r must be at least 1, got 0"):
        times.repaint(grid, 2, 0)
    with pytest.raises(ValueError, match="a grid of 10 steps is too short for jumps of 10"):
        times.repaint(grid)


def test_integer_grids_of_a_table():
    sde = dj.BetaTable.linear(1000)
    assert times.trailing(sde, 4).tolist() == [1000, 750, 500, 250, 0]
    assert times.trailing(sde, 1000).tolist() == list(range(1000, -1, -1))
    assert times.leading(sde, 10).tolist() == [*range(901, 0, -100), 0]  # labels 900, 800, ..., 0
    quadratic = times.leading_quadratic(sde, 10)
    assert quadratic.tolist() == [800 + 1, *[int((k / 9) ** 2 * 800 + 1e-6) + 1 for k in range(8, -1, -1)], 0]


@pytest.mark.parametrize("grid", [times.uniform, times.quadratic, times.karras, times.uniform_logsnr, times.geometric])
def test_no_steps(grid):
    with pytest.raises(ValueError, match="number of steps n must be at least 1"):
        grid(dj.VP(), 0)
    with pytest.raises(ValueError, match="1 to 100 steps"):
        times.trailing(dj.BetaTable.linear(100), 101)


@pytest.mark.parametrize("T", [100, 1000])
def test_integer_grids_are_the_official_codes_at_every_n(T, monkeypatch):
    """DDIM's `seq`, its quadratic one, diffusers' "leading" and "trailing", in their own NumPy; labels are t - 1."""
    table = dj.BetaTable.linear(T)
    # as NumPy arrays: four thousand transfers take longer than all else
    monkeypatch.setattr(times.grids, "_to_zero", lambda labels: np.append(labels, 0.0))
    for n in range(1, T + 1):
        stride = T // n
        official = {
            times.strided: range(0, T, stride),
            times.leading: (np.arange(0, n) * stride).round(),
            times.leading_quadratic: [int(s) for s in np.linspace(0, np.sqrt(T * 0.8), n) ** 2],
            times.trailing: (np.round(np.arange(T, 0, -T / n)) - 1)[:n][::-1],
        }
        for grid, labels in official.items():
            np.testing.assert_array_equal(
                np.asarray(grid(table, n)), [*(np.array(labels) + 1)[::-1], 0], str((grid, n))
            )
    assert times.leading(table, 10, offset=1)[-2] == 2
    with pytest.raises(ValueError, match="offset must be from 0 to 0"):
        times.leading(table, T, offset=1)


PROCESSES = [
    dj.VP(),
    dj.SubVP(),
    dj.VE(),
    dj.EDM(),
    dj.Flow(),
    dj.Cosine(),
    dj.BetaTable.cosine(100),
    dj.Learned.create(),
]
PROCESSES.append(dj.Interpolant(lambda t: jnp.cos(0.5 * jnp.pi * t), lambda t: jnp.sin(0.5 * jnp.pi * t)))
BY_LEVEL = (times.karras, times.uniform_logsnr, times.geometric, times.uniform_angle)


@pytest.mark.parametrize(
    "sde",
    [
        pytest.param(sde, marks=[] if type(sde) in (dj.VP, dj.Flow, dj.BetaTable) else pytest.mark.slow)
        for sde in PROCESSES
    ],
    ids=lambda sde: type(sde).__name__,
)
def test_grids_by_noise_level_fall_on_every_process(sde):
    """The ends are exact, no two times coincide, and no step of ten goes nearly all the way."""
    for grid in BY_LEVEL:
        to_zero = grid is not times.uniform_logsnr
        for n in (1, 10) if grid in (times.karras, times.uniform_angle) else (10,):  # the others are made like Karras'
            ts = np.asarray(grid(sde, n))
            assert ts[0] == np.float32(sde.T) and ts[-1] == (0 if to_zero else np.float32(sde.t_min))
            assert len(ts) == n + 1 and np.all(np.diff(ts) < 0)
            assert n < 10 or np.diff(ts).min() > -0.95 * sde.T
    ts = times.karras(sde, 5, t_max=0.5 * sde.T, t_min=0.1 * sde.T)
    np.testing.assert_allclose(np.asarray(ts)[[0, -2, -1]], [0.5 * sde.T, 0.1 * sde.T, 0], rtol=1e-6)


@pytest.mark.parametrize(
    "sde",
    [dj.Flow(), *(pytest.param(sde, marks=pytest.mark.slow) for sde in (dj.Cosine(), dj.BetaTable.linear(1000)))],
    ids=lambda sde: type(sde).__name__,
)
def test_ten_steps_by_noise_level_are_as_good_as_equal_ones(sde):
    """DPM++ 2M on N(0.7, 0.3^2), where it is affine: the exact distance W2 of its result, by two starts."""

    def distance(ts):
        x = dj.sample(jax.random.key(0), data.denoiser(sde), sde, dj.DPMpp2M(), ts, starts)[:, 0]
        return np.hypot(x[0] - 0.7, np.abs(x[1] - x[0]) - 0.3)

    data = dj.GaussianMixture(jnp.ones(1), jnp.full((1, 1), 0.7), jnp.full((1, 1, 1), 0.09))
    starts = jnp.array([[0.0], [1.0]]) * sde.sigma(sde.T)
    equal = distance(times.uniform(sde, 10))
    for grid in BY_LEVEL:
        assert distance(grid(sde, 10)) < equal + 0.05, grid


def test_grids_may_be_lists_and_bad_arguments_are_named():
    ts = [1.0, 0.6, 0.3, 0.0]
    np.testing.assert_allclose(times.tail(ts, 0.67), [0.6, 0.3, 0.0])
    np.testing.assert_array_equal(times.repaint(tuple(ts), 1, 2), times.repaint(jnp.array(ts), 1, 2))
    vp = dj.VP()
    for error, call in [
        (TypeError, lambda: times.uniform(vp, 2.5)),
        (TypeError, lambda: times.karras(vp, "10")),
        (TypeError, lambda: times.uniform(dj.VP, 10)),
        (TypeError, lambda: times.uniform_logsnr(10, 10)),
        (ValueError, lambda: times.uniform(vp, 10, 2.0)),
        (ValueError, lambda: times.quadratic(vp, 10, -1.0)),
        (ValueError, lambda: times.geometric(vp, 10, t_max=1.5)),
        (ValueError, lambda: times.karras(vp, 10, t_max=0.1, t_min=0.2)),
        (ValueError, lambda: times.karras(vp, 10, rho=0.0)),
        (ValueError, lambda: times.trailing(vp, 10)),
        (ValueError, lambda: times.tail(ts, 1.5)),
        (TypeError, lambda: times.repaint(ts, 1, 1.5)),
        (ValueError, lambda: times.uniform_logsnr(vp, 10**5, t_min=0.9999)),
    ]:
        with pytest.raises(error, match=r"number|must|expected|grid|lie in|steps"):
            call()
