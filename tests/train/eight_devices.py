"""Run by test_parallel.py with 8 simulated devices: trains one convolutional net in several ways and prints JSON."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import normal
from diffjax.train import TrainState, adam, ema_warmup, jit_train_steps, make_mesh, pmap_train_steps


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.silu(nn.GroupNorm(2)(nn.Conv(8, (3, 3))(x)))
        return nn.Conv(x.shape[-1], (3, 3))(h)


net, decays = Net(), (0.9, ema_warmup(0.99))
tx = adam(1e-2, warmup=5, clip=1.0)
start = TrainState.create(jax.random.key(1), net.init(jax.random.key(0), jnp.zeros((1, 6, 6, 1))), tx, decays)
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
result = {"devices": jax.device_count(), "moved": distance(alone[:-1], jax.tree.leaves((start.params, start.ema)))}
result |= {name: distance(alone, train(*way)) for name, way in ways.items()}
for name, steps in {"jit": jit_train_steps, "pmap": pmap_train_steps}.items():
    try:
        steps(loss, tx, decays)(start, data[:1, :12])
    except ValueError as error:
        result[f"uneven {name}"] = str(error)
print(json.dumps(result))
