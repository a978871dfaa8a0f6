"""The model object: what it samples is what the pure functions sample, and a file holds all of it or is refused."""

import json
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import diffjax as dj
from diffjax import guidance, nn, precondition
from diffjax.formats import load_params, save_params
from diffjax.model import Model, Trained
from diffjax.model_files import SHIPPED

SHAPE = (6,)


class Normed(linen.Module):
    @linen.compact
    def __call__(self, x, c_noise, cond=None, *, train=False):
        return linen.BatchNorm(use_running_average=not train)(x)


@pytest.fixture(scope="module")
def model():
    net = nn.MLP(width=8, depth=1, num_classes=3)
    key = jax.random.key(7)
    made = Model.init(key, net, dj.VP(), precondition.from_v, jnp.zeros((2, *SHAPE)))
    noise = lambda p: p + 0.1 * jax.random.normal(jax.random.fold_in(key, p.size), p.shape)  # noqa: E731
    return made.replace(params=jax.tree.map(noise, made.params))


def test_it_samples_what_the_pure_functions_sample(model, key):
    cond = {"label": jnp.array([0, 2, 1])}
    x = model.sample(key, 3, dj.DDIM(), steps=4, cond=cond, guidance_scale=2.0)
    k_prior, k_steps = jax.random.split(key)
    start, ts = dj.prior_sample(k_prior, model.sde, (3, *SHAPE)), dj.samplers.default_grid(dj.DDIM(), model.sde, 4)
    guided = guidance.cfg(model.denoise, 2.0)
    np.testing.assert_allclose(x, dj.sample(k_steps, guided, model.sde, dj.DDIM(), ts, start, cond), atol=1e-6)
    np.testing.assert_allclose(x, model.sample(key, 3, dj.DDIM(), steps=ts, cond=cond, guidance_scale=2.0), atol=1e-6)
    assert model.sample(key, 0).shape == (0, *SHAPE)
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append(name))
    try:
        for scale in (2, np.float64(2), np.float32(2)):  # one program with 2.0
            again = model.sample(key, 3, dj.DDIM(), steps=4, cond=cond, guidance_scale=scale)
            np.testing.assert_array_equal(again, x)
    finally:
        jax.monitoring.clear_event_listeners()
    assert not [name for name in compiled if "jaxpr_trace" in name or "backend_compile" in name]
    with pytest.raises(TypeError, match="a condition is None or a dict such as"):
        model.sample(key, 3, cond=jnp.ones((3, 4)), guidance_scale=2.0)


def test_example_i_is_the_same_for_every_number_and_batch_size(model, key):
    cond = {"label": jnp.arange(5) % 3}
    x = model.sample(key, 5, dj.DDIM(1.0), steps=3, cond=cond)
    np.testing.assert_allclose(x, model.sample(key, 5, dj.DDIM(1.0), steps=3, cond=cond, batch_size=2), atol=1e-5)
    two = model.sample(key, 2, dj.DDIM(1.0), steps=3, cond={"label": cond["label"][:2]})
    np.testing.assert_allclose(x[:2], two, atol=1e-5)


def test_each_example_may_have_its_own_key(model, key):
    keys = jax.random.split(key, 3)
    x = model.sample(keys, 3, dj.DDIM(1.0), steps=2)
    np.testing.assert_allclose(x[1:], model.sample(keys[1:], 2, dj.DDIM(1.0), steps=2), atol=1e-5)
    np.testing.assert_allclose(x, model.sample(keys, 3, dj.DDIM(1.0), steps=2, batch_size=2), atol=1e-5)
    for options in ({}, {"batch_size": 2}):
        with pytest.raises(ValueError, match="expected one key or 2 keys"):
            model.sample(keys, 2, **options)


def test_inversion_is_the_way_back(model, key):
    x = 0.5 * jax.random.normal(key, (2, *SHAPE))
    z = model.invert(x, steps=200)
    back = model.sample(key, 2, dj.DPMpp2M(), steps=200, start=z)
    assert jnp.abs(back - x).mean() < 0.02 < jnp.abs(z - x).mean()
    guided = dict(cond={"label": jnp.array([0, 2])}, guidance_scale=1.5, steps=200)
    other = model.invert(x, **guided)
    assert jnp.abs(other - z).mean() > 0.02
    assert jnp.abs(model.sample(key, 2, dj.DPMpp2M(), start=other, **guided) - x).mean() < 0.02


@pytest.mark.parametrize("sde", [dj.VP(), dj.Flow(), dj.EDM(), dj.Cosine()], ids=lambda s: type(s).__name__)
def test_inversion_ends_where_the_exact_flow_does(sde):
    """A Gaussian off the centre. Data stand for the state at the grid's last level: the error is of its size."""
    one = dj.GaussianMixture(jnp.ones(1), jnp.array([[0.3, -0.2]]), jnp.array([[[0.1, 0.05], [0.05, 0.2]]]))
    x = one.sample(jax.random.key(1), 6)
    exact = Model(lambda *_, **__: None, {"w": jnp.ones(1)}, sde, lambda sde, network: one.denoiser(sde), (2,))
    z = exact.invert(x, steps=400)
    np.testing.assert_allclose(z, one.flow(sde, x, 0.0, sde.T), atol=2e-4 * sde.sigma(sde.T) + 1.5e-3)
    np.testing.assert_allclose(exact.sample(jax.random.key(0), 6, steps=400, start=z), x, atol=2e-3)


def test_posterior_samples_are_those_of_the_method(model, key):
    m = dj.measure(key, dj.operators.Mask(jnp.array([1.0, 0, 1, 0, 1, 1])), 0.3 * jnp.ones((2, *SHAPE)), 0.1)
    x = model.sample_posterior(key, 2, dj.posterior.ddrm(m), steps=3)
    k_prior, k_steps = jax.random.split(key)
    start = dj.prior_sample(k_prior, model.sde, (2, *SHAPE))
    np.testing.assert_allclose(
        x, dj.posterior.ddrm(m).sample(k_steps, model.denoise, model.sde, start, steps=3), atol=1e-5
    )
    cond = {"label": jnp.array([0, 2])}
    x = model.sample_posterior(key, 2, dj.posterior.ddrm(m), steps=3, cond=cond, guidance_scale=2.0)
    guided = guidance.cfg(model.denoise, 2.0)
    np.testing.assert_allclose(
        x, dj.posterior.ddrm(m).sample(k_steps, guided, model.sde, start, cond, steps=3), atol=1e-5
    )


def test_likelihood_is_that_of_its_denoiser(model, key):
    x = jax.random.normal(key, (2, *SHAPE))
    logp = model.log_likelihood(key, x, tol=1e-2)
    np.testing.assert_allclose(logp, dj.log_likelihood(key, model.denoise, model.sde, x, tol=1e-2), rtol=1e-6)


def test_pictures_in_other_units_are_refused(key):
    made = Model(lambda p, x, c, cond, **_: x, {"w": jnp.ones(())}, dj.VP(), precondition.from_v, (8, 8, 1))
    with pytest.raises(ValueError, match=r"take x / 127\.5 - 1"):
        made.log_likelihood(key, 255 * jax.random.uniform(key, (2, 8, 8, 1)))


def test_it_is_printed_in_a_line(model):
    count = sum(p.size for p in jax.tree.leaves(model.params))
    assert str(model.denoise) == (
        "NetworkDenoiser(to_x0=_x0_of_v, sde=VP(beta_min=0.1, beta_max=20.0, T=1.0, t_min=0.001), network=MLP(width=8, "
        f"depth=1, num_classes=3).apply({{{count:,} numbers}}), c_noise=scaled_time, needs_alpha=False)"
    )


@pytest.mark.slow
def test_it_crosses_jit_vmap_and_grad(model, key):
    @jax.jit
    @chex.assert_max_traces(1)
    def draw(model, key):
        return model.sample(key, 2, dj.DDIM(), steps=2)

    x = draw(model, key)
    np.testing.assert_allclose(x, model.sample(key, 2, dj.DDIM(), steps=2), atol=1e-5)
    draw(model.replace(sde=dj.VP(beta_max=10.0)), key)
    ts = dj.samplers.default_grid(dj.DDIM(), model.sde, 2)  # known values inside of a compiled function
    np.testing.assert_allclose(jax.jit(lambda key: model.sample(key, 2, dj.DDIM(), steps=ts))(key), x, atol=1e-5)
    two = jax.tree.map(lambda p: np.stack([p, 0 * p]), jax.tree.map(np.asarray, model))
    many = jax.jit(jax.vmap(lambda m: m.sample(key, 2, dj.DDIM(), steps=2)))(two)
    np.testing.assert_allclose(many[0], x, atol=1e-5)
    slope = jax.jit(jax.grad(lambda m: m.sample(key, 2, dj.DDIM(), steps=2).sum(), allow_int=True))(model)
    assert float(slope.sde.beta_max) != 0 and all(np.isfinite(g).all() for g in jax.tree.leaves(slope.params))


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_a_file_gives_back_the_model(model, key, tmp_path, dtype):
    path = dj.save(tmp_path / "mine", model, {"data": "made up"}, dtype)
    assert path.name == "mine.safetensors" and json.loads(path.with_suffix(".json").read_text()) == dj.read_card(path)
    found = dj.load(path)
    assert jax.tree.structure(found) == jax.tree.structure(model) and dj.read_card(path)["about"] == {"data": "made up"}
    x, y = (m.sample(key, 2, dj.DDIM(), steps=2) for m in (model, found))
    np.testing.assert_allclose(x, y, atol=1e-6 if dtype is None else 2e-2)
    shutil.copy(path, tmp_path / "ema.safetensors")
    assert jax.tree.structure(dj.load(tmp_path)) == jax.tree.structure(model)  # the folder of a run
    np.testing.assert_allclose(dj.load(path, like=model).sample(key, 2, dj.DDIM(), steps=2), y, atol=1e-6)


def test_a_name_is_read_back_by_that_name_and_no_file_is_replaced_that_is_no_card(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "v1.5", "fashion-vp"):
        dj.save(name, model)
        assert dj.load(name).shape == dj.load(f"{name}.safetensors").shape == SHAPE
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"config\.json, which is none"):
        dj.save("config", model)
    assert (tmp_path / "config.json").read_text() == "{}" and not (tmp_path / "config.safetensors").exists()


def test_files_that_are_refused(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no fashion-vq.*fashion-vp"):
        dj.load("fashion-vq")
    with pytest.raises(FileNotFoundError, match=r"holds no ema\.safetensors"):
        dj.load(tmp_path)
    for folder in ("a file", "a file/below"):
        (tmp_path / "a file").write_text("")
        with pytest.raises(NotADirectoryError, match=r"a folder above is a file.*mine\.safetensors"):
            dj.save(tmp_path / folder / "mine.safetensors", model)
    save_params(tmp_path / "bare.safetensors", model.params)
    with pytest.raises(ValueError, match=r"no model card.*like=model"):
        dj.load(tmp_path / "bare.safetensors")
    path = dj.save(tmp_path / "mine.safetensors", model)
    card = dj.read_card(path)

    def rewritten(change, params=model.params):
        changed = json.loads(json.dumps(card))
        change(changed)
        save_params(path, params, {"card": json.dumps(changed)})
        return path

    with pytest.raises(ValueError, match="version 99"):
        dj.load(rewritten(lambda c: c.update(version=99)))
    with pytest.raises(ValueError, match="has the shape"):  # parameters of another network than the card's
        dj.load(rewritten(lambda c: c["object"]["fields"]["network"]["fields"].update(width=16)))
    with pytest.raises(ValueError, match="holds 'params/extra'"):
        extra = {"params": {**model.params["params"], "extra": jnp.zeros(2)}}
        dj.load(rewritten(lambda c: None, extra))
    with pytest.raises(ValueError, match="does not have"):
        dj.load(rewritten(lambda c: c["object"]["fields"]["sde"].update({"class": "VQ"})))
    dj.save(path, model)
    with pytest.raises(ValueError, match="another model than `like`: they differ in sde"):
        dj.load(path, like=model.replace(sde=dj.VE()))
    save_params(path, model.params, {"card": "{bad"})
    with pytest.raises(ValueError, match="damaged model card"):
        dj.load(path)
    dj.save(path, model)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"from_v", b"from_s"))
    with pytest.raises(ValueError, match="metadata is not that which was written"):
        dj.load(path)
    flipped = bytearray(whole)
    flipped[-20] ^= 4
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match="damaged"):
        dj.load(path)
    path.write_bytes(whole[:-7])
    with pytest.raises(ValueError, match="truncated"):
        dj.load(path)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda m, k: m.sample(0, 2), ValueError, r"jax\.random\.key"),
        (lambda m, k: m.sample(k, 2.5), TypeError, "n must be an integer"),
        (lambda m, k: m.sample(k, 2, steps=0), ValueError, "steps must be at least 1"),
        (lambda m, k: m.sample(k, 2, dj.DDIM), TypeError, r"did you mean|class"),
        (lambda m, k: m.sample(k, 2, "ddim"), TypeError, "sampler"),
        (lambda m, k: m.sample_posterior(k, 2, dj.DDIM()), TypeError, "a posterior sampler"),
        (lambda m, k: m.sample(k, 2, cond={"label": jnp.array([-1, 0])}), ValueError, "labels go from 0 to 3"),
        (lambda m, k: m.sample(k, 2, cond={"label": jnp.array([4, 0])}, guidance_scale=2.0), ValueError, "labels go"),
        (lambda m, k: m.replace(steps=0), ValueError, "steps must be"),
        (lambda m, k: m.replace(shape=(-1, 2)), ValueError, "shape must be"),
        (lambda m, k: m.sample(k, 2, guidance_scale=2.0), ValueError, "needs a condition"),
        (lambda m, k: m.sample(k, 2, cond={"label": jnp.zeros(3, int)}), ValueError, "2 examples"),
        (lambda m, k: m.sample(k, 2, start=jnp.zeros((3, *SHAPE))), ValueError, "start must have the shape"),
        (lambda m, k: m.log_likelihood(k, jnp.zeros((2, 4))), ValueError, r"must be of shape \[B, 6\]"),
        (lambda m, k: m.invert(jnp.zeros((2, 4))), ValueError, r"must be of shape \[B, 6\]"),
        (lambda m, k: m.invert(jnp.zeros((2, *SHAPE)), dj.DDIM(1.0)), ValueError, "noise|stochastic|deterministic"),
        (lambda m, k: Model(m.network, m.params, dj.VP, m.prediction, SHAPE), TypeError, r"VP\(\)"),
        (lambda m, k: Model(m.network, m.params, m.sde, "v", SHAPE), TypeError, "prediction"),
        (lambda m, k: Model("unet", m.params, m.sde, m.prediction, SHAPE), TypeError, "as network"),
        (lambda m, k: m.log_likelihood(k, jnp.zeros((1, *SHAPE)), {"label": jnp.array([4])}), ValueError, "labels go"),
        (lambda m, k: m.invert(jnp.zeros((1, *SHAPE)), cond={"label": jnp.array([-1])}), ValueError, "labels go"),
        (lambda m, k: dj.save(m, "mine"), TypeError, "a path or a name as the first argument"),
        (lambda m, k: dj.save("mine", m.params), TypeError, "formats.save_params"),
        (lambda m, k: dj.save("mine", m, "my pictures"), TypeError, "about must be a dict"),
        (lambda m, k: dj.save("mine", m, {"fd": float("nan")}), TypeError, "finite numbers"),
        (lambda m, k: dj.load(None), TypeError, "a path or a name"),
        (lambda m, k: dj.load("fashion-vp", like=3), TypeError, "like must be a dj.Model"),
        (
            lambda m, k: m.sample(k, 2, steps=jnp.array([0.5, 0.1])),
            ValueError,
            "starts at t = 0.5, where the",
        ),
        (lambda m, k: m.sample(k, 2, cond={"label": None}, guidance_scale=2.0), ValueError, "needs a condition"),
        (lambda m, k: m.replace(params=(m.params,)), TypeError, r"state\.ema\[0\]"),
        (lambda m, k: m.replace(sampler="ddim"), TypeError, "a sampler"),
        (lambda m, k: Model(m.network, m.params, m.sde, m.prediction, 6), TypeError, "shape must be a tuple"),
        (lambda m, k: Model.init(k, m.network, m.sde, m.prediction, (jnp.zeros((2, 6)),)), TypeError, "example batch"),
        (lambda m, k: m.log_likelihood(k, jnp.zeros(6)), ValueError, r"of shape \[B, 6\], examples with a batch axis"),
        (lambda m, k: Model.init(k, Normed(), m.sde, m.prediction, jnp.zeros((2, 6))), ValueError, "batch_stats"),
        (lambda m, k: Model.init(k, m.network.apply, m.sde, m.prediction, jnp.zeros((2, 6))), TypeError, "from_nnx"),
    ],
)
def test_calls_that_cannot_be_meant(model, key, call, error, says):
    with pytest.raises(error, match=says):
        call(model, key)


def test_the_networks_of_others_need_a_model_to_be_read(model, key, tmp_path):
    def network(params, x, c_noise, cond=None, **_):
        return params["w"] * x

    foreign = model.replace(network=network, params={"w": jnp.ones(())})
    assert foreign.sample(key, 2, dj.DDIM(), steps=2).shape == (2, *SHAPE)
    with pytest.warns(UserWarning, match=r"Model\.network.*like=model"):
        path = dj.save(tmp_path / "foreign", foreign, {"loss": np.float32(0.5), "grid": jnp.arange(2)})
    with pytest.raises(ValueError, match="they differ in sde"):  # the rest is in the card
        dj.load(path, like=foreign.replace(sde=dj.VE()))
    with pytest.raises(ValueError, match=r"does not describe its model.*like=model"):
        dj.load(path)
    assert dj.load(path, like=foreign).params["w"] == 1 and dj.read_card(path)["about"] == {"loss": 0.5, "grid": [0, 1]}
    needs = foreign.replace(network=lambda params, x, c, cond, **_: x + cond["label"][:, None])
    with pytest.raises(TypeError, match=r"cannot be evaluated without a condition.*replace\(null="):
        needs.sample(key, 2, cond={"label": jnp.zeros(2, int)}, guidance_scale=2.0)
    assert needs.replace(null={"label": 3}).sample(key, 2, cond={"label": jnp.zeros(2, int)}, guidance_scale=2.0).size


FOLDERS = (SHIPPED, SHIPPED.parents[1] / "experiments" / "weights")
ALL_WEIGHTS = [path for folder in FOLDERS for path in sorted(folder.glob("*.safetensors"))]


@pytest.mark.parametrize("path", ALL_WEIGHTS, ids=lambda p: p.stem)
def test_all_committed_weights_load_by_their_card(path):
    model, card = dj.load(path), dj.read_card(path)
    assert isinstance(model, Model | Trained | dj.Codec) and path.stat().st_size < 4 * 2**20
    assert {"data", "licence of the data", "command", "date"} <= card["about"].keys()
    assert json.loads(path.with_suffix(".json").read_text()) == card
    assert all(np.isfinite(p).all() for p in jax.tree.leaves(load_params(path)))
