"""Every guidance runs with every sampler: shapes, finite values, one trace for all scales, and off is off."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import corrections, guidance, operators, times

SDE = dj.VP()
SAMPLERS = {
    "DDIM": dj.DDIM(0.5),
    "Ancestral": dj.Ancestral(),
    "Heun": dj.Heun(),
    "PC": dj.PC(dj.ReverseDiffusion(), dj.Langevin(0.1)),
    "DPMpp2M": dj.DPMpp2M(),
    "UniPC": dj.UniPC(2),
    "Renoise": dj.Renoise(0.5),
    "Churn": dj.Churn(dj.Heun(), 2.0, 4),
    "Euler": dj.Euler(),
    "EulerMaruyama": dj.EulerMaruyama(),
    "ReverseDiffusion": dj.ReverseDiffusion(),
    "ULA": dj.ULA(0.01),
    "AnnealedLangevin": dj.AnnealedLangevin(0.1, 1.0, n_steps=3),
    "DPMSolver": dj.DPMSolver(3),
    "DPMpp2S": dj.DPMpp2S(),
    "DPMpp3M": dj.DPMpp3M(eta=1.0),
    "LMS": dj.LMS(4),
    "DEIS": dj.DEIS(3),
    "PNDM": dj.PNDM(4),
}


def network(gain, x, t, cond=None):
    shift = 0.0 if cond is None else cond["label"].reshape(-1, 1, 1, 1)
    return jnp.tanh(gain * x + 0.1 * shift) / (1 + jnp.asarray(t).reshape(-1, 1, 1, 1))


def given_its_scale(scale, x, t, cond=None):
    return guidance.cfg_of_scale(D)(x, t, {"scale": jnp.full(len(x), 1 + scale), **cond})


D = Partial(network, 0.5)
M = operators.Measurement(operators.average_pool((4, 4, 1), 2), jnp.ones((3, 2, 2, 1)), 0.2)
LOGITS = Partial(lambda w, x, t: w * x.reshape(len(x), -1)[:, :3], 1.0)
GUIDES = {
    "cfg": lambda scale: guidance.cfg(D, 1 + scale),
    "cfg_of_scale": lambda scale: Partial(given_its_scale, scale),
    "compose": lambda scale: guidance.compose(D, [{"label": jnp.ones(3)}], [scale]),
    "autoguidance": lambda scale: guidance.autoguidance(D, Partial(network, 0.2), 1 + scale),
    "classifier": lambda scale: guidance.classifier(D, SDE, guidance.label_log_prob(LOGITS), scale),
    "reconstruction": lambda scale: guidance.reconstruction(D, SDE, operators.Misfit(M, squared=True), scale),
    "pigdm": lambda scale: guidance.pigdm(D, SDE, M),
    "pigdm_exact": lambda scale: guidance.pigdm_exact(D, SDE, M),
    "corrected": lambda scale: guidance.corrected(D, corrections.Gradient(operators.Misfit(M), scale)),
    "interval": lambda scale: guidance.interval(guidance.cfg(D, 1 + scale), D, 0.3, 0.7),
}
CONSTRAINTS = {
    "Known": lambda sampler: dj.Known(sampler, M),
    "DPS": lambda sampler: dj.DPS(sampler, operators.Misfit(M), 0.1),
    "KeepEps": lambda sampler: dj.KeepEps(sampler, corrections.Gradient(operators.Misfit(M), 0.1)),
    "TimeTravel": dj.TimeTravel,
    "TimeTravel, KeepEps": lambda sampler: dj.TimeTravel(CONSTRAINTS["KeepEps"](sampler)),  # MPGD's and FreeDoM's
}
X, COND, TS = (
    jax.random.normal(jax.random.key(5), (3, 4, 4, 1)),
    {"label": jnp.array([0, 1, 2])},
    times.uniform(SDE, 4, 0.0),
)


def run(denoise, sampler, ts=TS):
    return dj.sample(jax.random.key(0), denoise, SDE, sampler, ts, X, COND)


# One sampler of each kind runs with all guides, and the others with one guide that takes a gradient and one that does
# not: to a sampler a guided denoiser is a denoiser, and to a guide any sampler is one that evaluates it somewhere.
KINDS = ("DDIM", "Heun", "PC", "DPMpp2M", "AnnealedLangevin", "DPMSolver")
FEW = ("cfg", "classifier")


def any_guide(names, i, scale, x, t, cond=None):
    """The i-th of these guides, so that one compilation of a sampler serves all."""
    branches = [lambda name=name: GUIDES[name](scale)(x, t, cond) for name in names]
    return jax.lax.switch(i, [*branches, lambda: D(x, t, cond)])


QUICK = ("DDIM", "Heun", "PC")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SAMPLERS])
def test_every_guide_with(name):
    traces, guides = [], tuple(GUIDES) if name in KINDS else FEW

    @jax.jit
    def draw(i, scale):
        traces.append(1)
        return run(Partial(functools.partial(any_guide, guides), i, scale), SAMPLERS[name])

    plain = draw(len(guides), 0.0)
    for i, guide in enumerate(guides):
        mild, strong = (np.asarray(draw(i, scale)) for scale in (0.3, 0.6))
        assert mild.shape == X.shape and np.isfinite(mild).all(), guide
        assert np.abs(mild - plain).max() > 1e-4, guide  # it does something
        assert "pigdm" in guide or np.abs(mild - strong).max() > 1e-5, guide
    assert len(traces) == 1  # guides and scales are arguments


@pytest.mark.parametrize("name", GUIDES)
def test_an_example_is_guided_as_if_it_were_alone(name):
    """And by its own scale of noise: no norm, statistic or stopping rule is the batch's."""
    t, y = jnp.array([0.2, 0.5, 0.9]), jax.random.normal(jax.random.key(7), M.y.shape)

    def guided(guide, i):
        part = dataclasses.replace(M, y=y[i])
        cond = {"label": COND["label"][i]}
        return guide(part)(X[i], t[i], cond)

    own = {
        "reconstruction": lambda m: guidance.reconstruction(D, SDE, operators.Misfit(m, squared=True), 0.3),
        "pigdm": lambda m: guidance.pigdm(D, SDE, m),
        "pigdm_exact": lambda m: guidance.pigdm_exact(D, SDE, m),
        "corrected": lambda m: guidance.corrected(D, corrections.Gradient(operators.Misfit(m), 0.3)),
        "compose": lambda m: guidance.compose(D, [{"label": jnp.ones(len(m.y))}], [0.3]),
    }
    guide = own.get(name, lambda m: GUIDES[name](0.3))
    together = jax.jit(lambda: guided(guide, slice(0, 3)))()
    every = jax.jit(lambda: [guided(guide, slice(i, i + 1)) for i in range(3)])()
    for i, alone in enumerate(every):
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["Known", *(pytest.param(n, marks=pytest.mark.slow) for n in ("DPS", "TimeTravel, KeepEps"))]
)  # the last one holds the others
def test_constraints_are_defined_for_every_sampler(name):
    ts = times.repaint(TS, 2, 3) if "TimeTravel" in name else TS
    for label, sampler in SAMPLERS.items():
        assert jax.eval_shape(lambda x, s=sampler: run(D, CONSTRAINTS[name](s), ts) + x, X).shape == X.shape, label


@pytest.mark.parametrize("name", [n if n == "Known" else pytest.param(n, marks=pytest.mark.slow) for n in CONSTRAINTS])
@pytest.mark.slow
def test_constraints_with_kinds_of_samplers(name):
    for label in ("DDIM", "Heun", "PC", "DPMpp2M"):
        ts = times.repaint(TS, 2, 3) if "TimeTravel" in name else TS
        out = run(D, CONSTRAINTS[name](SAMPLERS[label]), ts)
        assert out.shape == X.shape and jnp.isfinite(out).all(), label
        assert jnp.abs(out - PLAIN[label]()).max() > 1e-4, label


PLAIN = {label: functools.cache(lambda sampler=sampler: run(D, sampler)) for label, sampler in SAMPLERS.items()}


@pytest.mark.slow
def test_off_is_the_unguided_sampler():
    """But for rounding: each is a program of its own, whose sums and products a compiler fuses as it likes."""
    for name in ("classifier", "corrected", "reconstruction"):
        off = run(GUIDES[name](0.0), dj.Ancestral())
        np.testing.assert_allclose(off, PLAIN["Ancestral"](), rtol=0, atol=2e-7, err_msg=name)
