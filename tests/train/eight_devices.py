"""Run by test_parallel.py with 8 simulated devices: trains one convolutional net in several ways and prints JSON."""

import json
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import diffjax as dj
from diffjax import precondition, times
from diffjax.arrays import normal
from diffjax.losses import DSM, VLB, Balanced, DropCondition, InfoNCE, Sum, couplings, distillation, weightings
from diffjax.train import (
    AdversarialState,
    TrainState,
    adam,
    adversarial_steps,
    alternating_steps,
    ema_warmup,
    jit_steps,
    jit_train_steps,
    make_mesh,
    pmap_steps,
    pmap_train_steps,
)
from diffjax.typing import pytree


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.silu(nn.GroupNorm(2)(nn.Conv(8, (3, 3))(x)))
        return nn.Conv(x.shape[-1], (3, 3))(h)


net, decays = Net(), (0.9, ema_warmup(0.99))
tx = adam(1e-2, warmup=5, clip=1.0)
params = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 6, 6, 1)))
start = TrainState.create(jax.random.key(1), params, tx, decays)
data = np.random.default_rng(0).normal(size=(20, 16, 6, 6, 1)).astype(np.float32)


def loss(params, keys, batch):
    z = normal(keys, batch)
    return ((net.apply(params, batch + z) - z) ** 2).mean((1, 2, 3)), {}


def train(steps, k):
    state, losses = start, []
    for i in range(0, 20, k):
        state, metrics = steps(state, data[i : i + k])
        losses.extend(np.asarray(metrics["loss"]).tolist())
    return [np.asarray(x) for x in jax.tree.leaves((state.params, state.ema))] + [np.array(losses)]


def distance(a, b):
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


one = make_mesh(jax.devices()[:1])
alone = train(jit_train_steps(loss, tx, decays, one), 1)
ways = {
    "jit on 8": (jit_train_steps(loss, tx, decays), 1),
    "jit on 8, 5 steps a call": (jit_train_steps(loss, tx, decays), 5),
    "pmap on 8": (pmap_train_steps(loss, tx, decays), 1),
}


def learn(steps):
    """The distribution of times after 12 steps on the bound of a chain of 4 steps."""
    network = lambda params, x, c_noise, cond, *, train, rngs: params * x  # noqa: E731
    from_eps = partial(precondition.from_eps, c_noise=precondition.time_index)
    distribution = times.LossSecondMoment.create(4, 10)
    bound = VLB(dj.BetaTable.from_betas([0.1, 0.2, 0.3, 0.4]), distribution, network, from_eps, 0.0)
    run, state = (
        steps(bound, tx),
        TrainState.create(jax.random.key(1), jnp.ones(()), tx, time_distribution=distribution),
    )
    for i in range(12):
        state, _ = run(state, data[i : i + 1])
    return [np.asarray(state.time_distribution.probabilities()), np.asarray(state.time_distribution.count)]


@pytree
class Chase:
    """One number runs after the other's, times the examples."""

    def __call__(self, params, keys, batch, context):
        return (params - context.opponent - normal(keys, batch[:, 0, 0, 0])) ** 2 * jnp.abs(batch[:, 0, 0, 0]), {}


def adversarial(way, axis=None):
    """Two rounds of one step of d and one of g."""
    turn = partial(adversarial_steps, Chase(), tx, (), axis=axis)
    states = [TrainState.create(jax.random.key(i), jnp.float32(i), tx) for i in (1, 2)]
    state, metrics = way(partial(alternating_steps, turn, turn))(AdversarialState(*states), data[:4])
    return [np.asarray(state.discriminator.params), np.asarray(state.generator.params), np.asarray(metrics["loss"])]


def every_kind(steps):
    """Two steps on losses whose examples depend on their batch: the parameters and the mean of each loss."""
    network = lambda params, x, c_noise, cond=None: params * x + 0.01 * x**3  # noqa: E731
    towers = lambda params, x, c_noise, text: (params * x, text, 1.0 + params)  # noqa: E731
    flow, vp = dj.Flow(), dj.VP()
    dsm = partial(DSM, network=network, precondition=precondition.from_x0, weight=weightings.x0)
    comb = times.LowDiscrepancy(0.1)
    kinds = (
        dsm(flow, comb),
        dsm(vp, times.UniformLogSNR(vp)),
        dsm(flow, times.Uniform(), coupling=couplings.optimal_transport),
        Balanced((dsm(flow, comb), dsm(vp, times.LogitNormal())), lambda params: params),
        DropCondition(dsm(flow, times.OneOf([0.2, 0.6])), {"label": 3}, 0.3),
        distillation.MeanFlow(flow, times.Sorted(comb, 0.25), network),
        distillation.Consistency(flow, times.Neighbours(np.linspace(1, 0, 9)), network, precondition.from_x0),
        InfoNCE(flow, comb, towers),
    )
    x = data[:2, :, :2, 0, 0]
    batches = {"image": x, "text": data[2:4, :, :2, 0, 0], "label": np.tile(np.arange(16) % 5, (2, 1))}
    loss = Sum(kinds, (1.0,) * len(kinds))
    state, metrics = steps(loss, tx)(TrainState.create(jax.random.key(1), jnp.float32(0.3), tx), batches)
    return [np.asarray(state.params), np.stack([metrics[f"part{i}"] for i in range(len(kinds))])]


kinds = [every_kind(partial(jit_train_steps, mesh=one)), every_kind(jit_train_steps), every_kind(pmap_train_steps)]
runs = [adversarial(partial(jit_steps, mesh=one)), adversarial(jit_steps), adversarial(pmap_steps, "batch")]
distributions = [learn(partial(jit_train_steps, mesh=one)), learn(jit_train_steps), learn(pmap_train_steps)]
result = {"devices": jax.device_count(), "moved": distance(alone[:-1], jax.tree.leaves((start.params, start.ema)))}
result["distribution"] = max(distance(distributions[0], other) for other in distributions)
result["learned"] = distance([np.full(4, 0.25)], distributions[0][:1])
result |= {f"kinds on {way}": distance(kinds[0], kinds[i]) for i, way in ((1, "jit"), (2, "pmap"))}
result |= {"adversarial": max(distance(runs[0], run) for run in runs), "trained": abs(float(runs[0][1]) - 2)}
result |= {name: distance(alone, train(*way)) for name, way in ways.items()}
for name, steps in {"jit": jit_train_steps, "pmap": pmap_train_steps}.items():
    try:
        steps(loss, tx, decays)(start, data[:1, :12])
    except ValueError as error:
        result[f"uneven {name}"] = str(error)
print(json.dumps(result))
