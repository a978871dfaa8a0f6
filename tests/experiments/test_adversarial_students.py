"""The table of adversarial few-step models: every method is built and fits its losses; one of them at a tiny size."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax import nn, train


@pytest.fixture(scope="module")
def adversarial(load):
    """With networks of no hidden layers, which compile sooner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn, "MLP", partial(nn.MLP, depth=0))
        patch.setattr(nn, "PointDiscriminator", partial(nn.PointDiscriminator, depth=0))
        return load("adversarial")


@pytest.mark.slow
def test_every_method_fits_its_losses(adversarial):
    """Shapes alone, so that nothing is compiled: a round changes no shape and gives a loss for each step."""
    tx, key = optax.sgd(0.1), jax.random.key(0)

    def initial(method):
        student, opponent = adversarial.init(key, method)
        return train.AdversarialState(
            train.TrainState.create(key, opponent, tx), train.TrainState.create(key, student, tx, (0.9,))
        )

    for name, build in adversarial.METHODS.items():
        for n in (1, 2) if name == "DDGAN" else (2,):
            method = build(n, adversarial.MIXTURE.denoiser(adversarial.SDE))
            if method.opponent is None:  # CTM alone, which is there for comparison
                continue
            state = jax.eval_shape(lambda m=method: initial(m))
            turns = (
                partial(train.adversarial_steps, method.opponent, tx, ()),
                partial(train.adversarial_steps, method.loss, tx, (0.9,)),
            )
            batches = {"image": jnp.zeros((method.turns + 1, 4, 2))}
            end, metrics = jax.eval_shape(partial(train.alternating_steps, *turns, n_d=method.turns), state, batches)
            assert jax.tree.map(lambda x: x.shape, end) == jax.tree.map(lambda x: x.shape, state), name
            assert metrics["loss"].shape == (method.turns + 1,)
    with pytest.raises(SystemExit, match=r"unknown methods \['PD'\]; choose among GAN, ADD"):
        adversarial.main(adversarial.Config(("PD",)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ADD", "DMD2", "CTM + GAN", "DDGAN"])  # whose parts are all that the others have
def test_every_method_resumes_bit_for_bit(adversarial, halves, points, name, tmp_path):
    tx, key, ema = optax.adam(1e-2), jax.random.key(0), (0.9,)
    method = adversarial.METHODS[name](2, adversarial.MIXTURE.denoiser(adversarial.SDE))
    student, opponent = adversarial.init(key, method)
    start = train.AdversarialState(
        train.TrainState.create(key, opponent, tx), train.TrainState.create(key, student, tx, ema)
    )
    turns = (
        partial(train.adversarial_steps, method.opponent, tx, ()),
        partial(train.adversarial_steps, method.loss, tx, ema),
    )
    steps = train.jit_steps(partial(train.alternating_steps, *turns, n_d=method.turns))
    whole, seen = halves(steps, start, points(method.turns + 1, "image"), tmp_path)
    assert (whole.discriminator.step, whole.generator.step) == (4 * method.turns, 4)
    assert all(np.isfinite(metrics["loss"]).all() for metrics in seen)


@pytest.mark.slow
def test_a_small_table(adversarial, tmp_path, capsys):
    loop = train.LoopConfig(steps=2, steps_per_call=1, log_every=1, checkpoint_every=0, sample_every=0)
    config = adversarial.Config(("DMD",), batch_size=8, loop=loop, samples=64, workdir=tmp_path)
    summary = adversarial.main(config)
    assert set(summary) == {"floor", "DDIM, 1", "DDIM, 2", "DMD, 1", "DMD, 2"}
    assert np.isfinite(list(summary.values())).all()
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert sum(line.startswith("DMD ") for line in capsys.readouterr().out.splitlines()) == 1
