"""Flow maps: the papers' parameterisations, their boundaries and slopes, against the closed form of a Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import flow_maps, precondition
from diffjax.flow_maps import Duration, along, as_flow_map, average_velocity, ctm, ddim_step, guided, heun_step
from diffjax.typing import as_partial

SDES = [dj.VP(), dj.VE(), dj.EDM(), dj.Flow(), dj.Cosine()]
S2 = 0.25
GAUSS = dj.GaussianMixture(jnp.ones(1), jnp.zeros((1, 2)), S2 * jnp.eye(2)[None])
X = np.random.default_rng(3).normal(size=(4, 2)).astype(np.float32)
T, S = np.array([0.9, 0.6, 0.5, 0.2], np.float32), np.array([0.3, 0.5, 0.1, 0.05], np.float32)
run = jax.jit(lambda f, *args: f(*args))


def network(w, x, c_noise, cond=None):
    """An output that depends on everything it is told."""
    c = (
        sum(jnp.sin(dj.arrays.bcast(c, x)) for c in c_noise)
        if isinstance(c_noise, tuple)
        else jnp.sin(c_noise)[:, None]
    )
    return w * jnp.tanh(x) + 0.1 * c + (0 if cond is None else cond)


NET = Partial(network, 0.7)


def test_the_flow_of_a_gaussian():
    """Kim et al.: from t to r, x sqrt((r^2 + s2)/(t^2 + s2)); MeanFlow: u = z (1 - sqrt(V(r)/V(t)))/(t - r)."""
    x = run(GAUSS.flow_map(dj.EDM()), X, T, S)
    np.testing.assert_allclose(x, X * np.sqrt((S**2 + S2) / (T**2 + S2))[:, None], rtol=1e-6)
    # the one step from 80 to the data at .5^2 has the gain .006249877933
    np.testing.assert_allclose(run(GAUSS.flow_map(dj.EDM()), X, 80.0, 0.0), 0.006249877933 * X, rtol=2e-6)
    for s2, u in ((0.25, 0.5195164377), (4.0, -0.9365715774), (1.0, 0.0)):
        one = dj.GaussianMixture(jnp.ones(1), jnp.zeros((1, 1)), s2 * jnp.ones((1, 1, 1)))
        z = jnp.full((1, 1), 0.7)
        np.testing.assert_allclose((z - run(one.flow_map(dj.Flow()), z, 0.8, 0.2)) / 0.6, [[u]], rtol=2e-6, atol=1e-7)
        np.testing.assert_allclose(run(one.flow_map(dj.Flow()), z, 1.0, 0.0), z * np.sqrt(s2), rtol=1e-6)


def test_the_flow_of_a_skewed_gaussian_is_a_semigroup_and_follows_the_denoiser(x64, one_of):
    skew = dj.GaussianMixture(jnp.ones(1), jnp.array([[0.5, -0.3]]), jnp.array([[[0.4, 0.2], [0.2, 0.3]]]))

    @jax.jit
    def checks(sde, flow, x, t, u, s):
        parts = flow(flow(x, t, u), u, s) - flow(x, t, s)
        denoised = flow.diagonal(x, t) - skew.denoise(sde, x, t)
        slope = jax.jvp(lambda s: flow(x, t, s), (s,), (jnp.ones(4),))[1] - flow.velocity(flow(x, t, s), s)
        return parts, denoised, slope / sde.T

    for kind, sde in enumerate(SDES):
        sde = one_of(kind, tuple(SDES), T=sde.T)
        t, u, s = (sde.T * np.asarray(c, float) for c in (T, (T + S) / 2, S))
        for residual in checks(sde, as_flow_map(sde, skew.flow_map(sde)), np.asarray(X, float), t, u, s):
            np.testing.assert_allclose(residual, 0, atol=1e-9)


def test_a_flow_map_starts_at_x_whatever_the_network(one_of):
    """And a consistency function is the identity at its end."""

    @jax.jit
    def starts(sde, t, eps):
        flows = ctm(sde, NET), average_velocity(sde, NET), ddim_step(sde, lambda x, t, cond: x**2)
        f = precondition.consistency(sde, lambda x, c, cond: 1e3 * jnp.ones_like(x), eps=eps)
        return [flow(X, t, t) for flow in flows] + [f(X, eps)]

    for kind, sde in enumerate(SDES):
        for start in starts(one_of(kind, tuple(SDES), T=sde.T), sde.T * T, 0.02 * sde.T):
            np.testing.assert_allclose(start, X, rtol=2e-6, atol=1e-6)


def test_ctm_is_the_papers_formula_on_edm():
    """G = (s/t) x + (1 - s/t) g, g = c_skip x + c_out F(c_in x, ln(t)/4, ln(s)/4) (Kim et al. 2024)."""
    t, s, sd = T[:, None], S[:, None], 0.5
    F = 0.7 * np.tanh(X / np.sqrt(t**2 + sd**2)) + 0.1 * (np.sin(np.log(t) / 4) + np.sin(np.log(s) / 4))
    g = sd**2 / (t**2 + sd**2) * X + t * sd / np.sqrt(t**2 + sd**2) * F
    np.testing.assert_allclose(run(ctm(dj.EDM(), NET), X, T, S), s / t * X + (1 - s / t) * g, rtol=1e-5, atol=1e-6)
    # into 0 the map is g, and the network is told t_min
    at_end = run(ctm(dj.EDM(t_min=0.05), NET), X, T, 0 * S)
    F = F + 0.1 * (np.sin(np.log(0.05) / 4) - np.sin(np.log(s) / 4))
    g = sd**2 / (t**2 + sd**2) * X + t * sd / np.sqrt(t**2 + sd**2) * F
    np.testing.assert_allclose(at_end, g, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(run(ctm(dj.EDM(t_min=0.05), NET).to(0.0), X, T), at_end)


def test_average_velocity_and_what_the_network_is_told():
    flow, u = average_velocity(dj.Flow(), NET), lambda a, b: 0.7 * np.tanh(X) + 0.1 * (np.sin(a) + np.sin(b))[:, None]
    np.testing.assert_allclose(run(flow, X, T, S), X - (T - S)[:, None] * u(20 * T, 20 * S), rtol=1e-5, atol=1e-6)
    levels = Duration(precondition.time, 0.1)
    shortcut, d = average_velocity(dj.Flow(), NET, levels), T - S
    told = np.where(d > 0.101, d, 0)
    assert (told == 0).sum() == 1
    np.testing.assert_allclose(run(shortcut, X, T, S), X - d[:, None] * u(T, told), rtol=1e-5, atol=1e-6)


def test_the_diagonal_is_the_denoiser_that_the_network_stands_for(x64):
    sde, t, x = dj.VP(), jnp.asarray(T, float), jnp.asarray(X, float)
    at_t = lambda x, c, cond=None: network(0.7, x, (c, c))  # noqa: E731
    got, expected = jax.jit(
        lambda: (
            (ctm(sde, NET).diagonal(x, t), average_velocity(sde, NET).diagonal(x, t)),
            (
                precondition.edm(sde, at_t)(x, t),
                precondition.from_velocity(sde, at_t, precondition.scaled_by(20.0))(x, t),
            ),
        )
    )()
    np.testing.assert_allclose(got, expected, rtol=1e-8)


def test_the_velocity_of_known_maps_is_the_derivative_in_s(x64):
    """Known maps are evaluated at s = t, others are differentiated there: two ways to one number."""
    sde, t, x = dj.VP(), jnp.asarray(T, float), jnp.asarray(X, float)
    for flow in (ctm(sde, NET), average_velocity(sde, NET)):
        other = as_flow_map(sde, lambda x, t, s, cond=None, flow=flow: flow(x, t, s, cond))
        known, derived = jax.jit(lambda: [(f.velocity(x, t), f.diagonal(x, t)) for f in (flow, other)])()  # noqa: B023
        np.testing.assert_allclose(known, derived, rtol=1e-9)


def test_consistency_scalings():
    """c_skip = sd^2/((t - e)^2 + sd^2), c_out = sd (t - e)/sqrt(t^2 + sd^2): the known numbers at 80."""
    sde, seen = dj.EDM(), []

    def unit(x, c, cond):
        seen.append((x, c))
        return jnp.ones_like(x)

    f = precondition.consistency(sde, unit)
    out = f(jnp.array([[0.0], [1e5]]), jnp.full(2, 80.0))
    np.testing.assert_allclose(out[0], [0.49997773], rtol=1e-6)
    np.testing.assert_allclose(out[1] - out[0], [3.90629e-5 * 1e5], rtol=1e-5)
    np.testing.assert_allclose(seen[0][0][1], [1e5 / np.sqrt(80**2 + 0.25)], rtol=1e-6)
    np.testing.assert_allclose(seen[0][1], np.log(80) / 4, rtol=1e-6)
    # on another process: the same in x/alpha and sigma/alpha
    vp, t = dj.VP(), jnp.array([0.3])
    alpha, sigma, end = vp.alpha(t), vp.sigma(t), vp.alpha(vp.t_min)
    edm = precondition.consistency(sde, NET, eps=vp.sigma(vp.t_min) / end)
    ours = precondition.consistency(vp, NET)
    np.testing.assert_allclose(run(ours, X[:1], t), end * run(edm, X[:1] / alpha, sigma / alpha), rtol=1e-5)
    # finite where alpha = 0, if what the network is told is
    zero = run(precondition.consistency(dj.Flow(), NET, c_noise=precondition.time), X, jnp.ones(4))
    np.testing.assert_allclose(zero, 0.5 * (0.7 * np.tanh(X) + 0.1 * np.sin(1)), rtol=1e-5)


def test_solvers_as_flow_maps_are_the_samplers(key):
    """Between the ends of a grid, and for each example between its own times, off the grid, down to 0."""
    sde, ends = dj.VP(), np.where(np.arange(4) == 3, 0, S)
    ts = np.linspace(1.0, 0.0, 5, dtype=np.float32)
    for solver, sampler in ((ddim_step, dj.DDIM()), (heun_step, dj.Heun())):
        flow = jax.jit(along(sde, GAUSS.denoiser(sde), ts, solver))
        np.testing.assert_allclose(
            flow(X, np.ones(4), np.zeros(4)),
            dj.sample(key, GAUSS.denoiser(sde), sde, sampler, ts, X),
            rtol=1e-5,
            atol=1e-6,
        )
        out = flow(X, T, ends)
        for i in (0, 3):  # from node to node, and the parts at both ends
            nodes = np.concatenate([T[i : i + 1], ts[(ts < T[i]) & (ts > ends[i])], ends[i : i + 1]])
            nodes = np.append(np.full(5 - len(nodes), T[i]), nodes).astype(np.float32)  # one shape, one compilation
            exact = dj.sample(key, GAUSS.denoiser(sde), sde, sampler, nodes, X)
            np.testing.assert_allclose(out[i], exact[i], rtol=1e-4, atol=1e-5)


def test_heuns_map_is_of_second_order():
    sde, exact = dj.VP(), run(GAUSS.flow_map(dj.VP()), X, 0.8, 0.1)
    padded = lambda n: np.append(np.linspace(0.8, 0.1, n + 1), np.full(16 - n, 0.1)).astype(np.float32)  # noqa: E731
    errors = [np.abs(run(along(sde, GAUSS.denoiser(sde), padded(n)), X, 0.8, 0.1) - exact).max() for n in (8, 16)]
    assert 3.3 < errors[0] / errors[1] < 4.7


def test_guided_maps():
    flow, cond = average_velocity(dj.Flow(), NET), jnp.ones((4, 2))
    given, null = run(flow, X, T, S, cond), run(flow, X, T, S, 0 * cond)
    for scale in (0.0, 1.0, 3.0):
        out = run(guided(flow, scale, 0 * cond), X, T, S, cond)
        np.testing.assert_allclose(out, null + scale * (given - null), rtol=1e-5, atol=1e-6)
    slope = lambda cond: run(as_partial(flow.velocity), X, T, cond)  # noqa: E731
    expected = slope(0 * cond) + 3 * (slope(cond) - slope(0 * cond))
    np.testing.assert_allclose(run(as_partial(guided(flow, 3.0, 0 * cond).velocity), X, T, cond), expected, rtol=1e-4)


def test_errors():
    flow = average_velocity(dj.Flow(), NET)
    walk = along(dj.VP(), NET, np.array([1.0, 0.0]))
    for f in (flow, ctm(dj.EDM(), NET), ddim_step(dj.VP(), NET), heun_step(dj.VP(), NET), walk):
        with pytest.raises(ValueError, match=r"from t to 0 <= s <= t; got t = 0\.2, s = 0\.3"):
            f(X, 0.2, 0.3)
        with pytest.raises(ValueError, match=r"s = -0\.1"):
            f(X, 0.2, -0.1)
    with pytest.raises(ValueError, match=r"expected a flow map, such as .* \(x, t, s, cond\), got NetworkDenoiser"):
        dj.sample(jax.random.key(0), precondition.edm(dj.EDM(), NET), dj.EDM(), dj.Jump(), jnp.array([80.0, 0.0]), X)
    with pytest.raises(ValueError, match=r"lie in \[0, T = 80.0\], got 0.0 to 90.0"):
        along(dj.EDM(), NET, np.array([90.0, 0.0]))
    with pytest.raises(ValueError, match="is a flow map: sample it with"):
        dj.sample(jax.random.key(0), flow, dj.Flow(), dj.DDIM(), jnp.array([1.0, 0.0]), X)
    with pytest.raises(ValueError, match="a grid falls from noise to data"):
        along(dj.VP(), NET, np.array([0.0, 0.5, 1.0]))
    with pytest.raises(ValueError, match="must keep the shape"):
        average_velocity(dj.Flow(), lambda x, c, cond: x[:, :1])(X, 0.5, 0.1)
    with pytest.raises(ValueError, match="one Gaussian, not for 2"):
        dj.GaussianMixture(jnp.ones(2) / 2, jnp.zeros((2, 1)), jnp.ones((2, 1, 1))).flow(dj.VP(), X[:, :1], 0.5, 0.1)
    flow_maps.check_order(T, S)
    flow_maps.check_map(jax.jit(flow))
    flow_maps.check_map(max)  # a builtin, of which nothing is known
