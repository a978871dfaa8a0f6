"""Students of guidance: at first the unguided model in one step; how their scale is given and refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import nn, precondition
from diffjax.runs import guided_students
from diffjax.runs.guided_students import COSINE
from diffjax.sde import gaussian

NET = nn.ConditionalUNet(
    in_channels=1, out_channels=1, channels=(4,), layers=1, attention=(False,), heads=1, groups=2, context_width=3
)
BATCH = {"image": np.zeros((2, 2, 2, 1), np.float32), "context": np.ones((2, 1, 3), np.float32)}
CONTEXT = {"context": jnp.array([[[1.0, 2.0, 0.5]], [[-1.0, 0.0, 3.0]]])}


def noisy(params, seed=0):
    """Networks begin with zeros in places."""
    key = jax.random.key(seed)
    return jax.tree.map(lambda p: p + 0.3 * jax.random.normal(jax.random.fold_in(key, p.size), p.shape), params)


@pytest.fixture(scope="module")
def model():
    made = dj.Model.init(jax.random.key(0), NET, dj.VP(), precondition.from_v, BATCH, null={"context": 0.0})
    return made.replace(params=noisy(made.params))


class NoTraining:
    """In the place of a `StudentRun`; `test_latent_experiments.py` trains."""

    def batches(self, start):
        return iter([BATCH])

    def fit(self, name, method, params):
        return params


@pytest.fixture(scope="module")
def untrained(model):
    return guided_students.distil(model, (1, 6), NoTraining(), (0.9,))


def test_it_begins_as_the_unguided_model(model, untrained, key):
    """At the same noise level, at every scale; VP and Cosine have one alpha and sigma there."""
    x, t = jax.random.normal(key, (2, 2, 2, 1)), jnp.array([0.3, 0.9])
    own = gaussian.time_of_logsnr(model.sde, gaussian.logsnr(COSINE, t))
    of = jax.jit(lambda denoise, *args: denoise(*args))
    expected, at_null = (of(model.denoise, x, own, {"context": c * CONTEXT["context"]}) for c in (1, 0))
    assert np.abs(expected - at_null).max() > 1e-3
    for scale in (1.0, 5.5):
        found = of(untrained.denoise, x, t, CONTEXT | {"scale": jnp.full(2, scale)})
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_its_scale_is_an_entry_of_the_condition(untrained, key, tmp_path):
    kept = dj.load(dj.save(tmp_path / "student", untrained.replace(params=noisy(untrained.params, 1))))
    assert kept.scales == (1.0, 6.0)
    found = [kept.sample(key, 2, steps=2, cond=CONTEXT, guidance_scale=scale) for scale in (3.0, 6, [3.0, 6.0])]
    ts = dj.times.uniform_angle(COSINE, 2)
    plain = kept.sample(key, 2, steps=ts, cond=CONTEXT | {"scale": jnp.full(2, 3.0)})
    np.testing.assert_allclose(found[0], plain, atol=1e-6)
    np.testing.assert_allclose(found[2], jnp.stack([found[0][0], found[1][1]]), atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_scales_that_it_has_not_learnt(model, untrained, key):
    for scale, error, says in (
        (7.0, ValueError, r"in \[1, 6\], got 7.*this student has learnt"),
        (0.0, ValueError, r"in \[1, 6\]"),
        (np.nan, ValueError, "a finite number"),
        ("3", TypeError, "must be a number"),
        ((2.0, 2.0, 2.0), ValueError, r"one for each of 2 examples, got \(3,\)"),
        (lambda t: 2.0, TypeError, "one scale for all times"),
    ):
        with pytest.raises(error, match=says):
            untrained.sample(key, 2, cond=CONTEXT, guidance_scale=scale)
    with pytest.raises(ValueError, match="takes its scale once"):
        untrained.sample(key, 2, cond=CONTEXT | {"scale": jnp.ones(2)}, guidance_scale=2.0)
    with pytest.raises(ValueError, match='cond must have a "scale"'):
        untrained.sample(key, 2, cond=CONTEXT)
    with pytest.raises(ValueError, match="a student of guidance itself"):
        guided_students.with_scale(untrained, BATCH)
    unlike = model.replace(prediction=precondition.from_x0)
    with pytest.raises(ValueError, match="a model that predicts v"):
        guided_students.distil(unlike, (1, 6), NoTraining(), (0.9,))
