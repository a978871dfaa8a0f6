"""The table of few-step models on images: every method is built and keeps its students' shapes; two at a tiny size."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import data, nn, precondition, train
from diffjax.data.image_data import ImageData
from diffjax.runs import judges
from diffjax.runs.student_run import evaluations

NET = nn.MLP(width=8, depth=1)  # points for images where there is nothing to see
POINTS = (2,)


@pytest.fixture(scope="module")
def few_step(load):
    return load("few_step")


@pytest.fixture(scope="module")
def parts(few_step):
    return few_step.Parts(NET, jax.jit(NET.init)(jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros(1)))


@pytest.mark.slow
def test_every_method_takes_a_step(few_step, parts, monkeypatch):
    """Shapes alone, so that nothing is compiled."""
    monkeypatch.setattr(few_step, "frozen", lambda: Partial(lambda x: [x, x**2]))
    tx, key, batch = optax.sgd(0.1), jax.random.key(0), {"image": jnp.zeros((4, 2))}
    for name, build in few_step.METHODS.items():
        method = build(parts)
        params, opponent = few_step.initial(parts, POINTS, method)
        state = jax.eval_shape(lambda p=params: train.TrainState.create(key, p, tx, (0.9,)))
        if method.opponent is None:
            step = partial(train.train_step, method.loss, tx, (0.9,))
        else:
            step = lambda state, batch, m=method, r=opponent: train.adversarial_steps(  # noqa: E731
                m.loss, tx, (0.9,), state, r, jax.tree.map(lambda x: x[None], batch)
            )
        end, _ = jax.eval_shape(step, state, batch)
        assert jax.tree.map(lambda x: x.shape, end) == jax.tree.map(lambda x: x.shape, state), name
        assert 2 < evaluations(method, NET.apply, params, opponent, batch) < 50, name
    with pytest.raises(SystemExit, match=r"unknown methods \['GAN'\]; choose among PD, CD"):
        few_step.main(few_step.Config(methods=("GAN",)))


@pytest.mark.slow
def test_students_begin_as_their_teacher(few_step, parts):
    x, t = jax.random.normal(jax.random.key(1), (3, 2)), jnp.array([0.2, 0.6, 1.0])
    for name in ("CD", "CTM"):
        method = few_step.METHODS[name](parts)
        params, _ = few_step.initial(parts, POINTS, method)
        model = method.model(few_step.COSINE, Partial(NET.apply, params))
        x0 = model(x, t) if name == "CD" else model(x, t, jnp.zeros(3))
        np.testing.assert_allclose(x0, parts.teacher(x, t), atol=1e-5)
        np.testing.assert_allclose(model(x, 0.0) if name == "CD" else model(x, t, t), x, atol=1e-5)


@pytest.mark.slow
def test_the_published_student_follows_its_teacher(few_step):
    """In two steps nearer to where the teacher's ODE ends than DDIM; measured: 0.16, 0.41."""
    student, teacher = dj.load(few_step.WEIGHTS / "fashion-ctm.safetensors"), dj.load("fashion-vp")
    key, n, net = jax.random.key(0), 8, teacher.network
    k_prior, _ = jax.random.split(key)
    x = dj.prior_sample(k_prior, few_step.COSINE, (n, *student.shape))
    slow = few_step.Parts(net, teacher.params).teacher

    def ends(sampler, ts):
        return dj.sample(key, slow, few_step.COSINE, sampler, ts, x)

    truth = ends(dj.DPMpp2M(), few_step.steps(25))
    error = jnp.sqrt(jnp.mean((student.sample(key, n, steps=few_step.LATE) - truth) ** 2))
    assert error < 0.6 * jnp.sqrt(jnp.mean((ends(dj.DDIM(), few_step.LATE) - truth) ** 2))


@pytest.fixture
def small(few_step, pixelwise, tmp_path, monkeypatch):
    """Forty made-up images, figures that cost nothing, few rows; a small teacher, and a configuration with its file."""
    x, labels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8), np.arange(40) % 10
    images = ImageData("fashion_mnist", x, labels, x, labels, tuple("0123456789"))
    monkeypatch.setattr(data, "load", lambda *_, **__: images)
    monkeypatch.setattr(judges, "judge", lambda _: lambda x: {"fd": float(np.abs(x).mean()), "kid": 0.0})
    monkeypatch.setattr(few_step, "COUNTS", (1,))
    monkeypatch.setattr(few_step, "MORE", ())
    monkeypatch.setattr(few_step, "SOLVERS", dict(list(few_step.SOLVERS.items())[:1]))
    model = dj.Model.init(jax.random.key(0), pixelwise(), dj.VP(), precondition.from_v, jnp.zeros((1, 8, 8, 1)))
    teacher = dj.save(tmp_path / "teacher.safetensors", model, dtype="float16")
    loop = train.LoopConfig(steps=6, log_every=6, checkpoint_every=6, sample_every=0)
    config = few_step.Config(teacher, methods=("PD",), teacher_steps=2, loop=loop)
    return model, dataclasses.replace(config, batch_size=4, samples=113, workdir=tmp_path / "run")


@pytest.mark.slow
def test_a_small_table(few_step, small, monkeypatch, tmp_path):
    model, config = small
    summary = few_step.main(config)
    found = ("PD, 1", "DDIM, uniform t, 1")
    assert set(summary) == {f"{name}/{figure}" for name in found for figure in ("fd", "kid")} | {"PD/evaluations"}
    assert np.isfinite(list(summary.values())).all()
    assert (tmp_path / "run/equal_noise.png").is_file()
    student = dj.load(tmp_path / "run/PD1.safetensors")
    assert student.sde == few_step.COSINE and student.sample(jax.random.key(0), 2).shape == (2, 8, 8, 1)
    rows = json.loads((tmp_path / "run/rows.json").read_text())
    monkeypatch.setattr(judges, "judge", lambda _: lambda x: pytest.fail("measured twice"))
    again = dataclasses.replace(config, loop=dataclasses.replace(config.loop, resume=True))
    few_step.main(again)
    flow = dj.save(tmp_path / "flow", model.replace(sde=dj.Flow()))
    eps = dj.save(tmp_path / "eps", model.replace(prediction=precondition.from_eps))
    for changes, says in (
        ({"samples": 200}, "holds figures of other settings"),
        ({"samples": 64}, "in 64 features need more than 64 samples, got 64"),
        ({"teacher": tmp_path / "none.safetensors"}, "there is no .*none"),
        ({"teacher": few_step.WEIGHTS / "emoji.safetensors"}, r"of shape \(32, 32, 3\), but .* \(8, 8, 1\)"),
        ({"teacher": flow}, r"made for Flow.*used under VP"),
        ({"teacher": eps}, "a model of .*from_eps.*needs from_v"),
    ):
        with pytest.raises(SystemExit, match=says):
            few_step.main(dataclasses.replace(config if "teacher" in changes else again, **changes))
    with pytest.raises(ValueError, match="3 steps cannot be halved to 1"):
        few_step.main(dataclasses.replace(config, teacher_steps=3))
    assert json.loads((tmp_path / "run/rows.json").read_text()) == rows


@pytest.mark.slow
def test_a_student_s_file_holds_its_flow_map(few_step, small, tmp_path):
    _, config = small
    few_step.main(dataclasses.replace(config, methods=("CTM",)))
    student = dj.load(tmp_path / "run/CTM.safetensors")
    assert isinstance(student.sampler, dj.Jump) and jnp.isfinite(student.sample(jax.random.key(0), 2)).all()
