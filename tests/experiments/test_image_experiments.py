"""DDPM, EDM and flow matching end to end, at a size of seconds; the papers' presets."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import train


@pytest.fixture
def tiny(pixelwise):
    def tiny(config, workdir, channels=1, **changes):
        loop = train.LoopConfig(steps=2, log_every=1, checkpoint_every=2, sample_every=0)
        fields = dict(loop=loop, sampling_steps=2, samples=0, likelihoods=0, data="digits", batch_size=4)
        return dataclasses.replace(config, net=pixelwise(channels), workdir=workdir, **fields, **changes)

    return tiny


def draws(folder):
    """What a run leaves is a model that samples by itself."""
    x = dj.load(folder).sample(jax.random.key(0), 2)
    assert x.shape == (2, 8, 8, 1) and jnp.isfinite(x).all()


@pytest.mark.slow
def test_ddpm_learns_its_variance_and_bounds_the_likelihood(load, tiny, tmp_path):
    ddpm = load("ddpm")
    summary = ddpm.main(tiny(ddpm.cpu_hybrid(), tmp_path, 2, steps_of_chain=30, bound=3))
    draws(tmp_path)
    total, prior, decoder = (summary[name] for name in ("elbo_bits", "elbo_prior", "elbo_decoder"))
    np.testing.assert_allclose(np.load(tmp_path / "elbo_steps.npy").sum() + prior + decoder, total, rtol=1e-4)


@pytest.mark.slow
def test_edm_with_churn(load, tiny, tmp_path):
    edm = load("edm")
    assert edm.main(tiny(edm.cpu(), tmp_path, s_churn=2.0))["steps"] == 2
    assert (tmp_path / "samples.png").is_file()
    draws(tmp_path)


@pytest.mark.slow
def test_flow_matching_and_its_reflow(load, tiny, tmp_path):
    flow = load("flow_matching")
    first = flow.main(tiny(flow.cpu_ot(), tmp_path / "first"))
    second = flow.main(tiny(flow.cpu_reflow(), tmp_path / "second", teacher=tmp_path / "first", pairs=5))
    draws(tmp_path / "second")
    # pairs of a flow that is 0 everywhere, which an untrained network is, are straight: there is nothing to learn
    assert second["loss"] < 1e-3 < 0.5 < first["loss"] and second["straightness"] < 1e-6


def test_presets_are_the_papers(load):
    ddpm, edm, flow = load("ddpm"), load("edm"), load("flow_matching")
    ho = ddpm.PRESETS["cifar10"]()
    assert (ho.loop.steps, ho.batch_size, ho.optim.lr, ho.optim.ema, ho.steps_of_chain) == (
        800_000,
        128,
        2e-4,
        (0.9999,),
        1000,
    )
    improved = ddpm.PRESETS["cifar10-hybrid"]()
    assert (improved.steps_of_chain, improved.learned, improved.betas) == (4000, True, dj.BetaTable.cosine)
    karras = edm.PRESETS["cifar10"]()
    assert (karras.batch_size, karras.optim.lr, karras.sampling_steps, karras.p_mean) == (512, 1e-3, 18, -1.2)
    assert set(flow.PRESETS) == {"cpu", "cpu-ot", "cpu-reflow", "cifar10"}
