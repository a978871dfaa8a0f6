"""Wrong and odd calls over diffjax's public API: what message does a user get?

    python fuzz.py [--only WORD] [--all]

Each case is a call, and what should come of it: `error` (it cannot be meant: a clear message should say so), `fine` (it
should work; a check compares the result where there is a truth), `either` (a finite result or a clear message). One
line a case:

    clear     refused by a `raise` of the library itself, or by a foreign message that names the mistake (`says`)
    fine      worked, and the check held
    UNCLEAR   an exception from inside JAX, Flax, NumPy ..., or an AttributeError, IndexError ... of the library
    SILENT    accepted, though it cannot be meant, or the result is not finite
    WRONG     worked, and the result is not the right one
    REFUSED   should have worked, but raised

The messages of clear cases are left out without --all. The last line counts. About four minutes on two cores.
"""

from __future__ import annotations

import os

os.environ["JAX_TRACEBACK_FILTERING"] = "off"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import argparse
import contextlib
import io
import linecache
import tempfile
import traceback
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from PIL import Image

import diffjax as dj
from diffjax import (
    corrections,
    data,
    flow_maps,
    formats,
    guidance,
    losses,
    metrics,
    operators,
    parameters,
    plots,
    precondition,
    times,
    train,
)
from diffjax.losses import DSM, DropCondition, weightings
from diffjax.losses import distillation as dist
from diffjax.nn import MLP, UNet, presets
from diffjax.runs import experiment

CASES: list[tuple[str, str, Any, Any, tuple[str, ...]]] = []


def case(area: str, text: str, call: Any, want: str, check: Any = None, says: tuple[str, ...] = ()) -> None:
    CASES.append((f"{area}: {text}", want, call, check, says))


# -- a small problem

key = jax.random.key(0)
vp, ve, edm, flow, cosine, table = dj.VP(), dj.VE(), dj.EDM(), dj.Flow(), dj.Cosine(), dj.BetaTable.linear(100)
mix = dj.GaussianMixture(
    jnp.array([0.5, 0.5]), jnp.array([[-1.0, 0.0], [1.0, 0.0]]), jnp.stack([0.05 * jnp.eye(2)] * 2)
)
den = mix.denoiser(vp)
x = dj.prior_sample(key, vp, (4, 2))
ts = times.uniform(vp, 5)
DDIM = dj.DDIM()
ref = dj.sample(key, den, vp, DDIM, ts, x)
noisy_ref = dj.sample(key, den, vp, dj.DDIM(1.0), ts, x)
tmp = Path(tempfile.mkdtemp(prefix="fuzz"))


def linear(params, x, c, cond=None, **_):
    """A network for anything: one number."""
    return params["w"] * x


W = {"w": jnp.ones(())}
image = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
imden = precondition.from_v(vp, Partial(linear, W))
imts = times.uniform(vp, 4)
imref = dj.sample(key, imden, vp, DDIM, imts, image)


def close(expected, tol=1e-4):
    return lambda got: np.allclose(np.asarray(got, np.float64), np.asarray(expected, np.float64), atol=tol)


def finite(got) -> bool:
    leaves = [a for a in jax.tree.leaves(got) if isinstance(a, jax.Array | np.ndarray | np.floating)]
    leaves = [a for a in leaves if jnp.issubdtype(a.dtype, jnp.inexact)]
    return all(bool(np.isfinite(np.asarray(leaf, np.float32)).all()) for leaf in leaves)


def S(k=key, d=den, s=vp, sampler=DDIM, grid=ts, start=x, *rest, **kw):
    return lambda: dj.sample(k, d, s, sampler, grid, start, *rest, **kw)


def shape_of(f, *args):
    return lambda: jax.eval_shape(f, *args)


# -- keys

case("key", "an int", S(k=0), "error")
case("key", "None", S(k=None), "error")
case(
    "key", "old-style PRNGKey, batch of 4", S(k=jax.random.PRNGKey(0), sampler=dj.DDIM(1.0)), "either", close(noisy_ref)
)
case("key", "old-style PRNGKey, batch of 2", S(k=jax.random.PRNGKey(0), sampler=dj.DDIM(1.0), start=x[:2]), "error")
case("key", "old-style, prior_sample of 2", lambda: dj.prior_sample(jax.random.PRNGKey(0), vp, (2, 3)), "error")
case("key", "one for each example", S(k=jax.random.split(key, 4), sampler=dj.DDIM(1.0)), "fine", finite)
case("key", "three for four examples", S(k=jax.random.split(key, 3)), "error")
case("key", "a NumPy generator", S(k=np.random.default_rng(0)), "error")
case("key", "TrainState.create(0)", lambda: train.TrainState.create(0, W, train.adam(1e-3)), "error")
case(
    "key",
    "TrainState.create(old-style)",
    lambda: train.TrainState.create(jax.random.PRNGKey(0), W, train.adam(1e-3)),
    "error",
)
case("key", "log_likelihood(0, ...)", lambda: dj.log_likelihood(0, den, vp, x), "error")
case(
    "key",
    "net.init's key for measure: an int",
    lambda: dj.measure(0, operators.Mask(jnp.ones((8, 8, 1))), image),
    "error",
)

# -- x

case("x", "integers", S(start=jnp.ones((4, 2), int)), "error")
case("x", "uint8 image", lambda: dj.sample(key, imden, vp, DDIM, imts, np.zeros((4, 8, 8, 1), np.uint8)), "error")
case("x", "a nested list", S(start=np.asarray(x).tolist()), "fine", close(ref))
case("x", "NumPy float64", S(start=np.asarray(x, np.float64)), "fine", close(ref))
case("x", "float16", S(start=x.astype(jnp.float16)), "fine", close(ref, 2e-2))
case("x", "bfloat16", S(start=x.astype(jnp.bfloat16)), "fine", close(ref, 1e-1))
case("x", "complex64", S(start=x.astype(jnp.complex64)), "error")
case("x", "NaN in one example", S(start=x.at[0].set(jnp.nan)), "fine", lambda y: finite(y[1:]) and not finite(y[:1]))
case("x", "inf in one example", S(start=x.at[0].set(jnp.inf)), "fine", lambda y: finite(y[1:]))
case("x", "empty batch", S(start=x[:0]), "fine", lambda y: y.shape == (0, 2))
case("x", "batch of one", S(start=x[:1]), "fine", close(ref[:1]))
case("x", "a scalar", S(start=jnp.float32(1.0)), "error")
case(
    "x",
    "1-D [B], a network for anything",
    lambda: dj.sample(key, imden, vp, DDIM, imts, image[:, 0, 0, 0]),
    "fine",
    finite,
)
case("x", "5-D video", lambda: dj.sample(key, imden, vp, DDIM, imts, image[:, None]), "fine", close(imref[:, None]))
case("x", "not square", lambda: dj.sample(key, imden, vp, DDIM, imts, image[:, :6]), "fine", finite)
case("x", "a dict", lambda: dj.sample(key, imden, vp, DDIM, imts, {"x": image}), "error")
case("x", "shape in place of x (diffusers' habit)", S(start=(4, 2)), "error")
case("x", "None", S(start=None), "error")

# -- grids

for name, grid, want in [
    ("a list", [1.0, 0.5, 0.001], "fine"),
    ("a tuple", (1.0, 0.5, 0.001), "fine"),
    ("NumPy float64", np.linspace(1, 1e-3, 4), "fine"),
    ("integers [1, 0]", jnp.array([1, 0]), "fine"),
    ("float16", jnp.linspace(1, 0, 5).astype(jnp.float16), "fine"),
    ("a number of steps", 10, "error"),
    ("rising", ts[::-1], "error"),
    ("one point", ts[:1], "error"),
    ("no point", ts[:0], "error"),
    ("2-D", ts[None], "error"),
    ("beyond T", jnp.array([2.0, 0.0]), "error"),
    ("below 0", jnp.array([1.0, -0.1]), "error"),
    ("NaN", jnp.array([1.0, jnp.nan, 0.0]), "error"),
    ("a time twice", jnp.array([1.0, 0.5, 0.5, 0.001]), "fine"),
    ("all one time", jnp.full(4, 0.5), "fine"),
    ("climbing, without TimeTravel", jnp.array([1.0, 0.5, 0.7, 0.0]), "error"),
    ("DDPM's labels 999 ... 0 for VP", jnp.arange(999, -1, -1.0), "error"),
    ("None", None, "error"),
    ("strings", ["1.0", "0.0"], "error"),
]:
    case("ts", name, S(grid=grid), want, finite)
case(
    "ts",
    "a list, with a grid of three: the values",
    S(grid=[1.0, 0.5, 0.001]),
    "fine",
    close(dj.sample(key, den, vp, DDIM, jnp.array([1.0, 0.5, 0.001]), x)),
)
for name, call, want in [
    ("uniform(sde, 0)", lambda: times.uniform(vp, 0), "error"),
    ("uniform(sde, -3)", lambda: times.uniform(vp, -3), "error"),
    ("uniform(sde, 2.5)", lambda: times.uniform(vp, 2.5), "error"),
    ("uniform(sde, '10')", lambda: times.uniform(vp, "10"), "error"),
    ("uniform(sde, np.int64(10))", lambda: times.uniform(vp, np.int64(10)), "fine"),
    ("uniform(sde, True)", lambda: times.uniform(vp, True), "either"),
    ("uniform(10)", lambda: times.uniform(10), "error"),
    ("uniform(dj.VP, 10), the class", lambda: times.uniform(dj.VP, 10), "error"),
    ("uniform(sde, 10, t_min=2)", lambda: times.uniform(vp, 10, 2.0), "error"),
    ("uniform(sde, 10, t_min=-1)", lambda: times.uniform(vp, 10, -1.0), "error"),
    ("karras(rho=0)", lambda: times.karras(vp, 10, 0.0), "error"),
    ("karras(rho=-7)", lambda: times.karras(vp, 10, -7.0), "either"),
    ("karras on Flow, where alpha(T) = 0", lambda: times.karras(flow, 10), "either"),
    ("uniform_logsnr on Flow, where alpha(T) = 0", lambda: times.uniform_logsnr(flow, 10), "either"),
    ("uniform_logsnr on BetaTable, t_min = 0", lambda: times.uniform_logsnr(table, 10), "either"),
    ("geometric on Cosine", lambda: times.geometric(cosine, 10), "either"),
    ("geometric(VE, 1)", lambda: times.geometric(ve, 1), "either"),
    ("trailing(VP, 10)", lambda: times.trailing(vp, 10), "either"),
    ("trailing(table, 1000) of 100", lambda: times.trailing(table, 1000), "error"),
    ("leading(table, 0)", lambda: times.leading(table, 0), "error"),
    ("tail(ts, 1.5)", lambda: times.tail(ts, 1.5), "error"),
    ("tail(ts, -0.1)", lambda: times.tail(ts, -0.1), "error"),
    ("repaint(j=0)", lambda: times.repaint(ts, 0, 2), "error"),
    ("repaint(j too long)", lambda: times.repaint(ts, 10, 2), "error"),
    ("repaint(r=1.5)", lambda: times.repaint(ts, 2, 1.5), "error"),
]:
    case("times", name, call, want, finite, ("missing 1 required",))

for process in (vp, ve, edm, flow, cosine, table):
    for grid_of in (
        times.uniform,
        times.karras,
        times.uniform_logsnr,
        times.geometric,
        times.uniform_angle,
        times.quadratic,
    ):

        def ten(process=process, grid_of=grid_of):
            grid = grid_of(process, 10)
            d, start = mix.denoiser(process), dj.prior_sample(key, process, (64, 2))
            return jnp.diff(grid).min() / -process.T, dj.sample(key, d, process, dj.DPMpp2M(), grid, start)

        text = (
            f"{grid_of.__name__} on {type(process).__name__}: ten steps, none nearly the whole way, and a finite sample"
        )
        case("grid", text, ten, "either", lambda got: float(got[0]) < 0.95 and finite(got[1]))

# -- samplers

for name, sampler, want in [
    ("the class dj.DDIM", lambda: dj.DDIM, "error"),
    ("a string", lambda: "ddim", "error"),
    ("None", lambda: None, "error"),
    ("DDIM(eta=2)", lambda: dj.DDIM(2.0), "error"),
    ("DDIM(eta=-1)", lambda: dj.DDIM(-1.0), "error"),
    ("DDIM(eta=nan)", lambda: dj.DDIM(np.nan), "error"),
    ("DDIM(eta=1), an int", lambda: dj.DDIM(1), "fine"),
    ("DDIM(eta=np.float64(1))", lambda: dj.DDIM(np.float64(1)), "fine"),
    ("DDIM('1')", lambda: dj.DDIM("1"), "error"),
    ("DDIM(eta [4], one for each example)", lambda: dj.DDIM(jnp.linspace(0, 1, 4)), "either"),
    ("DDIM(eta [3] for four examples)", lambda: dj.DDIM(jnp.linspace(0, 1, 3)), "error"),
    ("Ancestral(2.0)", lambda: dj.Ancestral(2.0), "error"),
    ("Langevin alone", lambda: dj.Langevin(), "fine"),
    ("Langevin(snr=-1)", lambda: dj.PC(dj.ReverseDiffusion(), dj.Langevin(snr=-1.0)), "error"),
    ("Langevin(n_steps=0)", lambda: dj.PC(dj.ReverseDiffusion(), dj.Langevin(n_steps=0)), "either"),
    ("ULA(-0.1)", lambda: dj.ULA(-0.1), "error"),
    ("AnnealedLangevin(n_steps=-1)", lambda: dj.AnnealedLangevin(n_steps=-1), "error"),
    ("PC(predictor, None)", lambda: dj.PC(dj.ReverseDiffusion(), None), "error"),
    ("PC(dj.ReverseDiffusion, dj.Langevin), classes", lambda: dj.PC(dj.ReverseDiffusion, dj.Langevin), "error"),
    ("PC(UniPC(2), Langevin())", lambda: dj.PC(dj.UniPC(2), dj.Langevin()), "either"),
    ("Jump on a denoiser", lambda: dj.Jump(), "error"),
    ("KeepNoise(DDIM())", lambda: dj.KeepNoise(dj.DDIM()), "fine"),
    ("Churn(Heun(), -1, 5)", lambda: dj.Churn(dj.Heun(), -1.0, 5), "error"),
    ("Churn(Heun(), 10, 0)", lambda: dj.Churn(dj.Heun(), 10.0, 0), "error"),
    ("Churn(s_min > s_max)", lambda: dj.Churn(dj.Heun(), 10.0, 5, 3.0, 1.0), "either"),
    ("Renoise(3.0)", lambda: dj.Renoise(3.0), "error"),
    ("DPMpp2M(eta=2)", lambda: dj.DPMpp2M(2.0), "error"),
]:
    case("sampler", name, lambda sampler=sampler: S(sampler=sampler())(), want, finite)
for name, call in {
    "UniPC(0)": lambda: S(sampler=dj.UniPC(0))(),
    "UniPC(7)": lambda: S(sampler=dj.UniPC(7))(),
    "UniPC(2.5)": lambda: S(sampler=dj.UniPC(2.5))(),
    "DPMSolver(4)": lambda: S(sampler=dj.DPMSolver(4))(),
    "DPMSolver(0)": lambda: S(sampler=dj.DPMSolver(0))(),
    "DPMSolver('2')": lambda: S(sampler=dj.DPMSolver("2"))(),
    "LMS(0)": lambda: S(sampler=dj.LMS(0))(),
    "LMS(30), more than steps": lambda: S(sampler=dj.LMS(30))(),
    "DEIS(9)": lambda: S(sampler=dj.DEIS(9))(),
    "PNDM(-1)": lambda: S(sampler=dj.PNDM(-1))(),
    "PNDM(7)": lambda: S(sampler=dj.PNDM(7))(),
    "Jump(2.0)": lambda: dj.Jump(2.0),
    "DDIM(etta=1)": lambda: dj.DDIM(etta=1.0),
    "sample without a key (diffusers' order)": lambda: dj.sample(den, vp, DDIM, ts, x),
    "arguments of sample in another order": lambda: dj.sample(key, vp, den, DDIM, ts, x),
    "sampler and grid exchanged": lambda: dj.sample(key, den, vp, ts, DDIM, x),
}.items():
    case("sampler", name, call, "error", says=("unexpected keyword", "missing 1 required"))

# -- denoisers and networks

mlp = MLP(width=8, depth=1)
mlp_params = mlp.init(key, x, 0.0)
for name, d, want in [
    ("None", None, "error"),
    ("a string", "model", "error"),
    ("(x) -> x", lambda x: x, "error"),
    ("(x, t) -> x, without cond", lambda x, t: x, "error"),
    ("a raw network in its place", Partial(mlp.apply, mlp_params), "either"),
    ("net.apply without parameters", mlp.apply, "error"),
    ("the module itself", mlp, "error"),
    ("returns [B]", lambda x, t, cond=None: x[:, 0], "error"),
    ("returns a tuple", lambda x, t, cond=None: (x, x), "error"),
    ("returns None", lambda x, t, cond=None: None, "error"),
    ("returns a list", lambda x, t, cond=None: [x[0], x[1]], "error"),
    ("returns integers", lambda x, t, cond=None: x.astype(int), "either"),
    ("returns float16", lambda x, t, cond=None: x.astype(jnp.float16), "fine"),
    ("uses NumPy", lambda x, t, cond=None: np.sin(np.asarray(x)), "error"),
    ("branches on t", lambda x, t, cond=None: x if t > 0.5 else 0 * x, "error"),
    ("the mixture's method denoise", mix.denoise, "error"),
    ("a student, a flow map", flow_maps.average_velocity(vp, Partial(linear, W)), "error"),
]:
    case("denoiser", name, S(d=d), want, finite, says=("TracerBool", "TracerArrayConversion", "positional argument"))
case("network", "from_v(sde, module)", lambda: dj.sample(key, precondition.from_v(vp, mlp), vp, DDIM, ts, x), "error")
case(
    "network",
    "from_v(sde, net.apply), parameters forgotten",
    lambda: dj.sample(key, precondition.from_v(vp, mlp.apply), vp, DDIM, ts, x),
    "error",
)
case(
    "network",
    "from_v(network, sde), exchanged",
    lambda: precondition.from_v(Partial(mlp.apply, mlp_params), vp),
    "error",
)
case(
    "network",
    "from_v of another SDE than sample's",
    lambda: dj.sample(
        key,
        precondition.from_v(vp, Partial(linear, W)),
        edm,
        DDIM,
        times.karras(edm, 5),
        dj.prior_sample(key, edm, (4, 8, 8, 1)),
    ),
    "error",
)
case(
    "network",
    "from_eps on Flow, alpha(T) = 0",
    lambda: dj.sample(key, precondition.from_eps(flow, Partial(linear, W)), flow, DDIM, times.uniform(flow, 4), image),
    "error",
)
case(
    "network",
    "from_v on EDM, x not scaled",
    lambda: dj.sample(
        key,
        precondition.from_v(edm, Partial(linear, W)),
        edm,
        DDIM,
        times.karras(edm, 4),
        dj.prior_sample(key, edm, (4, 8, 8, 1)),
    ),
    "fine",
    finite,
)


class NeedsBatchOfTimes(fnn.Module):
    @fnn.compact
    def __call__(self, x, c, cond=None, train=False):
        return fnn.Dense(x.shape[-1])(x) + fnn.Dense(x.shape[-1])(c[:, None])


class PositionalTrain(fnn.Module):
    @fnn.compact
    def __call__(self, x, c):
        return fnn.Dense(x.shape[-1])(x)


class WithBatchNorm(fnn.Module):
    @fnn.compact
    def __call__(self, x, c, cond=None, train=False):
        return fnn.BatchNorm(use_running_average=not train)(fnn.Dense(x.shape[-1])(x))


own = NeedsBatchOfTimes()
own_params = own.init(key, x, jnp.zeros(4))
case(
    "network",
    "takes c_noise [B], as typing.Network says: sampling",
    lambda: dj.sample(key, precondition.from_v(vp, Partial(own.apply, own_params)), vp, DDIM, ts, x),
    "fine",
    finite,
)
case(
    "network",
    "the same in log_likelihood",
    lambda: dj.log_likelihood(
        key, precondition.from_v(vp, Partial(own.apply, own_params)), vp, x[:2], tol=1e-2, t_min=1e-3
    ),
    "fine",
    finite,
)
short = PositionalTrain()
short_params = short.init(key, x, jnp.zeros(4))
case(
    "network",
    "no `train` argument: DSM",
    lambda: DSM(vp, times.Uniform(), short.apply, precondition.from_v)(short_params, key, x),
    "error",
    says=("argument 'train'",),
)
bn = WithBatchNorm()
bn_params = bn.init(key, x, jnp.zeros(4))
case(
    "network",
    "with BatchNorm: DSM",
    lambda: DSM(vp, times.Uniform(), bn.apply, precondition.from_v)(bn_params, key, x),
    "error",
    says=("batch_stats",),
)

xs = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
for name, net, arg, want in [
    ("small, 30 x 30", lambda: presets.small(), (2, 30, 30, 1), "error"),
    ("small, 28 x 32", lambda: presets.small(), (2, 28, 32, 1), "fine"),
    ("small, 3-D [H, W, C]", lambda: presets.small(), (28, 28, 1), "error"),
    ("small, 5-D video", lambda: presets.small(), (2, 3, 28, 28, 1), "error"),
    ("small, [B, C, H, W] of PyTorch", lambda: presets.small(), (2, 1, 28, 28), "error"),
    ("small, empty batch", lambda: presets.small(), (0, 28, 28, 1), "fine"),
    ("width=30", lambda: presets.small(width=30), (2, 28, 28, 1), "either"),
    ("width=0", lambda: presets.small(width=0), (2, 28, 28, 1), "error"),
    ("multipliers=()", lambda: presets.small(multipliers=()), (2, 28, 28, 1), "error"),
    ("multipliers as a list", lambda: presets.small(multipliers=[1, 2]), (2, 28, 28, 1), "fine"),
    ("blocks=0", lambda: presets.small(blocks=0), (2, 28, 28, 1), "either"),
    ("dropout=1.5", lambda: presets.small(dropout=1.5), (2, 28, 28, 1), "error"),
    ("patch=3 on 28", lambda: presets.small(patch=3), (2, 28, 28, 1), "error"),
    ("attention at a size that is not there", lambda: presets.small(attention=(13,)), (2, 28, 28, 1), "error"),
    ("heads=3 of 64 channels", lambda: presets.small(attention=(7,), heads=3), (2, 28, 28, 1), "error"),
    ("heads=0", lambda: presets.small(attention=(7,), heads=0), (2, 28, 28, 1), "error"),
    ("features a string", lambda: presets.small(features="fourier"), (2, 28, 28, 1), "error"),
    ("Sinusoidal(63), odd", lambda: presets.small(features=dj.nn.embed.Sinusoidal(63)), (2, 28, 28, 1), "either"),
    ("kernel of two numbers by a tuple", lambda: presets.small(kernel=(1, 2)), (2, 28, 28, 1), "either"),
    ("ncsn on 27 x 27", lambda: presets.ncsn(), (2, 27, 27, 3), "either"),
    ("MLP on images", lambda: MLP(), (2, 28, 28, 1), "either"),
]:
    case(
        "U-Net",
        name,
        shape_of(
            lambda x, net=net: net().init_with_output(key, x, jnp.zeros(len(x)))[0],
            jax.ShapeDtypeStruct(arg, jnp.float32),
        ),
        want,
        lambda y, arg=arg: y.shape == arg,
    )
case("U-Net", "small(depth=3), unknown field", lambda: presets.small(depth=3), "error", says=("unexpected keyword",))
case(
    "U-Net",
    "t [3] for a batch of 2",
    shape_of(lambda x: presets.small().init_with_output(key, x, jnp.zeros(3))[0], xs),
    "error",
)
case(
    "U-Net", "t [2, 1]", shape_of(lambda x: presets.small().init_with_output(key, x, jnp.zeros((2, 1)))[0], xs), "error"
)
case("U-Net", "t an int", shape_of(lambda x: presets.small().init_with_output(key, x, 5)[0], xs), "fine")
case(
    "U-Net",
    "uint8 images",
    shape_of(
        lambda x: presets.small().init_with_output(key, x, 0.0)[0], jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.uint8)
    ),
    "error",
)
cnet = UNet(
    features=dj.nn.embed.Sinusoidal(8), width=8, multipliers=(1,), blocks=1, attention=(), patch=2, num_classes=3
)
cparams = cnet.init(key, image, jnp.zeros(4))
capply = jax.jit(cnet.apply)
good = capply(cparams, image, jnp.full(4, 100.0), {"label": jnp.array([0, 1, 2, 0])})
for name, cond, want, check in [
    ("labels in range", {"label": jnp.array([0, 1, 2, 0])}, "fine", close(good)),
    ("labels out of range (7 of 3)", {"label": jnp.array([0, 1, 7, 0])}, "error", None),
    ("labels below 0", {"label": jnp.array([0, -1, 2, 0])}, "error", None),
    ("the null label 3", {"label": jnp.full(4, 3)}, "fine", close(capply(cparams, image, jnp.full(4, 100.0)))),
    ("labels as floats", {"label": jnp.array([0.0, 1.0, 2.0, 0.0])}, "error", None),
    ("labels one-hot [B, 3]", {"label": jax.nn.one_hot(jnp.array([0, 1, 2, 0]), 3)}, "error", None),
    ("labels [B, 1]", {"label": jnp.array([[0], [1], [2], [0]])}, "error", None),
    ("labels a list", {"label": [0, 1, 2, 0]}, "either", close(good)),
    ("labels NumPy int64", {"label": np.array([0, 1, 2, 0])}, "fine", close(good)),
    ("one label for the batch", {"label": 1}, "either", finite),
    ("three labels for four images", {"label": jnp.array([0, 1, 2])}, "error", None),
    ("the labels themselves, no dict", jnp.array([0, 1, 2, 0]), "error", None),
    ("an int, no dict", 3, "error", None),
    ("misspelt: {'labels': ...}", {"labels": jnp.array([0, 1, 2, 0])}, "error", None),
    ("{'class': ...}", {"class": jnp.array([0, 1, 2, 0])}, "error", None),
    ("an empty dict", {}, "fine", finite),
    ("a scale for a network without", {"label": jnp.array([0, 1, 2, 0]), "scale": jnp.ones(4)}, "error", None),
]:
    case("cond", name, lambda cond=cond: cnet.apply(cparams, image, jnp.full(4, 100.0), cond), want, check)
unc = cnet.clone(num_classes=0)
uparams = unc.init(key, image, jnp.zeros(4))
case(
    "cond",
    "labels for a network with num_classes = 0",
    lambda: unc.apply(uparams, image, jnp.zeros(4), {"label": jnp.array([0, 1, 2, 0])}),
    "error",
)

# -- SDEs

for name, call, want in [
    ("VP(beta_max=-5)", lambda: dj.VP(beta_max=-5.0), "error"),
    ("VP(beta_min=20, beta_max=0.1)", lambda: dj.VP(20.0, 0.1), "either"),
    ("VP(beta_max='20')", lambda: dj.VP(beta_max="20"), "error"),
    ("VP(beta_max=nan)", lambda: dj.VP(beta_max=np.nan), "error"),
    ("VP(T=0)", lambda: dj.VP(T=0.0), "error"),
    ("VP(T=-1)", lambda: dj.VP(T=-1.0), "error"),
    ("VP(t_min=2)", lambda: dj.VP(t_min=2.0), "error"),
    ("VP(beta_max=20), an int", lambda: dj.VP(beta_max=20), "fine"),
    ("VE(sigma_min=50, sigma_max=0.01)", lambda: dj.VE(50.0, 0.01), "error"),
    ("VE(sigma_min=0)", lambda: dj.VE(0.0, 50.0), "error"),
    ("EDM(T=-80)", lambda: dj.EDM(T=-80.0), "error"),
    ("SubVP(beta_max=0)", lambda: dj.SubVP(beta_max=0.0), "either"),
]:

    def walk(call=call):
        sde = call()
        d = precondition.from_x0(sde, Partial(linear, W))
        return dj.sample(key, d, sde, DDIM, times.uniform(sde, 4), dj.prior_sample(key, sde, (4, 2)))

    case("SDE", f"{name}, and a sample", walk, want, finite)
for name, call, want in [
    ("BetaTable(betas), the constructor", lambda: dj.BetaTable(jnp.linspace(1e-4, 0.02, 100)), "error"),
    ("BetaTable(list of betas)", lambda: dj.BetaTable([1e-4, 1e-3, 1e-2]), "error"),
    ("BetaTable.from_betas(list)", lambda: dj.BetaTable.from_betas([1e-4, 1e-3, 1e-2]), "fine"),
    ("from_betas of 1.5", lambda: dj.BetaTable.from_betas([0.1, 1.5]), "error"),
    ("from_betas of 0", lambda: dj.BetaTable.from_betas([0.0, 0.1]), "error"),
    ("from_betas([])", lambda: dj.BetaTable.from_betas([]), "error"),
    ("from_betas NaN", lambda: dj.BetaTable.from_betas([0.1, np.nan]), "error"),
    ("linear(0)", lambda: dj.BetaTable.linear(0), "error"),
    ("linear(10): betas beyond 1", lambda: dj.BetaTable.linear(10), "error"),
    ("cosine(-5)", lambda: dj.BetaTable.cosine(-5), "error"),
    ("linear(1000.0)", lambda: dj.BetaTable.linear(1000.0), "error"),
    ("Interpolant with time reversed", lambda: dj.Interpolant(lambda t: t, lambda t: 1 - t), "error"),
    ("Interpolant negative", lambda: dj.Interpolant(lambda t: 1 - 2 * t, lambda t: t), "error"),
    ("Interpolant of constants", lambda: dj.Interpolant(lambda t: 1.0, lambda t: t), "fine"),
    ("Interpolant of numbers", lambda: dj.Interpolant(1.0, 2.0), "error"),
    (
        "Interpolant of NumPy functions, and a sample",
        lambda: dj.sample(key, imden, dj.Interpolant(lambda t: np.cos(t), lambda t: np.sin(t)), DDIM, ts, image),
        "error",
    ),
    ("Interpolant(1 - t, t, T=2)", lambda: dj.Interpolant(lambda t: 1 - t, lambda t: t, T=2.0), "error"),
]:
    case("SDE", name, call, want)


class PlainVP:
    T, t_min = 1.0, 1e-3

    def alpha(self, t):
        return jnp.cos(0.5 * jnp.pi * jnp.asarray(t))

    def sigma(self, t):
        return jnp.sin(0.5 * jnp.pi * jnp.asarray(t))


class NoTmin:
    T = 1.0
    alpha = PlainVP.alpha
    sigma = PlainVP.sigma


class PlainSampler:
    def init(self, x):
        return dj.samplers.drive.State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        return state


case("own", "an SDE of a plain class: prior_sample", lambda: dj.prior_sample(key, PlainVP(), (4, 2)), "fine", finite)
case(
    "own",
    "an SDE of a plain class: sample",
    lambda: dj.sample(key, lambda x, t, cond=None: 0 * x, PlainVP(), DDIM, ts, x),
    "either",
)
case("own", "an SDE without t_min: uniform", lambda: times.uniform(NoTmin(), 5), "error")
case("own", "a sampler of a plain class", lambda: dj.sample(key, den, vp, PlainSampler(), ts, x), "either")
case(
    "sde", "the class dj.VP: sample", lambda: dj.sample(key, lambda x, t, cond=None: 0 * x, dj.VP, DDIM, ts, x), "error"
)
case("sde", "the class dj.VP: prior_sample", lambda: dj.prior_sample(key, dj.VP, (4, 2)), "error")
case("sde", "prior_sample(shape=4)", lambda: dj.prior_sample(key, vp, 4), "error")
case("sde", "prior_sample(shape as a list)", lambda: dj.prior_sample(key, vp, [4, 2]), "either", finite)
case("sde", "prior_sample(shape=())", lambda: dj.prior_sample(key, vp, ()), "error")
case("sde", "perturb with t [3] for four examples", lambda: dj.gaussian.perturb(vp, x, jnp.zeros(3), x), "error")
case(
    "sde",
    "perturb with t [B, 1]",
    lambda: dj.gaussian.perturb(vp, image, jnp.full((4, 1), 0.5), image),
    "either",
    close(dj.gaussian.perturb(vp, image, 0.5, image)),
)

# -- time distributions and losses


def dsm(
    sde=vp,
    distribution=times.Uniform(),
    net=linear,
    pre=precondition.from_v,
    weight=weightings.simple,
    params=W,
    k=key,
    batch=x,
    **kw,
):
    return lambda: DSM(sde, distribution, net, pre, weight, **kw)(params, k, batch)[0]


def covers(sde, distribution):
    """The distribution's times, which should reach beyond the half of the process's."""

    def call():
        return DSM(sde, distribution, linear, precondition.from_x0)(W, key, jnp.zeros((256, 2)))[1]["t"]

    return call, lambda t: float(t.max()) > 0.5 * float(sde.T)


for name, sde, distribution in [
    ("EDM, Uniform(): T = 80", edm, times.Uniform()),
    ("BetaTable of 100, Uniform()", table, times.Uniform()),
    ("VP(T=2), LowDiscrepancy()", dj.VP(T=2.0), times.LowDiscrepancy()),
    ("EDM, LogitNormal()", edm, times.LogitNormal()),
    ("EDM, ImportanceSampled(edm)", edm, times.UniformLogSNR(edm)),
    ("EDM, LogNormal(edm)", edm, times.LogNormal(edm, 1.0, 3.0)),
]:
    call, check = covers(sde, distribution)
    case("distribution", f"DSM({name}) draws from the noisy half of the times", call, "either", check)
for name, distribution, want in [
    ("Uniform(t_max=5) for VP", lambda: times.Uniform(1e-5, 5.0), "error"),
    ("Uniform(1, 0), reversed", lambda: times.Uniform(1.0, 1e-5), "either"),
    ("Uniform(-1, 1)", lambda: times.Uniform(-1.0, 1.0), "error"),
    ("Fixed(3.0) for VP", lambda: times.Fixed(3.0), "error"),
    ("Integers(1000) for VP", lambda: times.Integers(1000), "error"),
    ("OneOf([])", lambda: times.OneOf(jnp.zeros(0)), "error"),
    ("OneOf(list)", lambda: times.OneOf([0.1, 0.5]), "fine"),
    ("the class Uniform", times.Uniform, "error"),
    ("None", None, "error"),
    ("a distribution of pairs", lambda: times.Sorted(times.Uniform()), "error"),
    ("LossSecondMoment for VP", lambda: times.LossSecondMoment.create(10), "error"),
]:
    case(
        "distribution",
        f"DSM with {name}",
        lambda d=distribution: dsm(distribution=d if d is None or isinstance(d, type) else d())(),
        want,
        finite,
    )
case("distribution", "LossSecondMoment.create(0)", lambda: times.LossSecondMoment.create(0), "error")
for name, call, want in [
    ("the batch a list", dsm(batch=np.asarray(x).tolist()), "either"),
    ("the batch float64", dsm(batch=np.asarray(x, np.float64)), "fine"),
    ("the batch uint8 0..255", dsm(batch=np.full((4, 2), 200, np.uint8)), "error"),
    ("the batch integers", dsm(batch=jnp.ones((4, 2), int)), "error"),
    ("a dict without 'image'", dsm(batch={"x": x}), "error"),
    ("a tuple (image, label)", dsm(batch=(x, jnp.zeros(4, int))), "error"),
    ("an empty batch", dsm(batch=x[:0]), "either"),
    ("noise of another shape", dsm(batch={"image": x, "noise": x[:2]}), "error"),
    (
        "three conditions for four images",
        dsm(batch={"image": image, "cond": {"label": jnp.zeros(3, int)}}, net=cnet.apply, params=cparams),
        "error",
    ),
    ("params None", dsm(params=None), "error"),
    ("params of another network", dsm(net=cnet.apply, params=W, batch=image), "error"),
    ("the module for net.apply", dsm(net=mlp, params=mlp_params), "error"),
    ("precondition a string", dsm(pre="v"), "error"),
    ("weight a number", dsm(weight=1.0), "error"),
    ("weight of another shape", dsm(weight=lambda sde, t: jnp.ones(3)), "error"),
    ("weightings.edm on VP", dsm(weight=weightings.edm), "either"),
    ("weightings.v on EDM", dsm(sde=edm, distribution=times.LogNormal(edm), weight=weightings.v), "fine"),
    ("key an int", dsm(k=0), "error"),
    ("the network keeps no shape", dsm(net=lambda p, x, c, cond=None, **_: x[:, :1]), "error"),
]:
    case("DSM", name, call, want, finite)


def labelled():
    """Does the loss of a conditional network depend on the labels that data.batches yields?"""
    loss = DSM(vp, times.Uniform(), cnet.apply, precondition.from_v)
    p = jax.tree.map(lambda a: a + 0.1, cparams)
    return [loss(p, key, {"image": image, "label": jnp.full(4, k)})[0] for k in (0, 1)]


case(
    "DSM",
    "a batch of data.batches {'image', 'label'} and a network with classes: labels count",
    labelled,
    "either",
    lambda ls: not np.allclose(*ls),
)
drop = partial(DropCondition, DSM(vp, times.Uniform(), cnet.apply, precondition.from_v))
lab = {"image": image, "label": jnp.zeros(4, int)}
case("DropCondition", "no condition", lambda: drop({"label": 3})(cparams, key, image), "error")
case("DropCondition", "null of another structure", lambda: drop(3)(cparams, key, lab), "error")
case("DropCondition", "p = 2", lambda: drop({"label": 3}, 2.0)(cparams, key, lab), "error")
case("DropCondition", "p = -1", lambda: drop({"label": 3}, -1.0)(cparams, key, lab), "error")
case("DropCondition", "null label out of range", lambda: drop({"label": 99}, 1.0)(cparams, key, lab), "error")
case(
    "loss",
    "SelfDistillation with a teacher of another SDE",
    lambda: dist.SelfDistillation(
        vp,
        times.Sorted(times.Uniform()),
        dist.lagrangian,
        linear,
        flow_maps.average_velocity,
        teacher=mix.denoiser(edm),
    )(W, key, x),
    "error",
)
case(
    "loss",
    "SelfDistillation with a distribution of single times",
    lambda: dist.SelfDistillation(vp, times.Uniform(), dist.lagrangian, linear, flow_maps.average_velocity)(W, key, x),
    "error",
)
case(
    "loss",
    "Sum of two with one weight",
    lambda: losses.Sum((DSM(vp, times.Uniform(), linear, precondition.from_v),) * 2, (1.0,))(W, key, x),
    "error",
)

# -- guidance

cd = precondition.from_v(vp, Partial(cnet.apply, cparams))
c4 = {"label": jnp.array([0, 1, 2, 0])}


def G(guide, cond=c4):
    return lambda: dj.sample(key, guide(), vp, DDIM, imts, image, cond)


one = dj.sample(key, cd, vp, DDIM, imts, image, c4)
case("cfg", "scale 1 is the conditional model", G(lambda: guidance.cfg(cd, 1.0)), "fine", close(one))
case("cfg", "scale an int", G(lambda: guidance.cfg(cd, 1)), "fine", close(one))
case("cfg", "scale [4]", G(lambda: guidance.cfg(cd, jnp.ones(4))), "fine", close(one))
case("cfg", "scale a list of four", G(lambda: guidance.cfg(cd, [1.0, 1.0, 1.0, 1.0])), "either", close(one))
case("cfg", "scale [3] for four examples", G(lambda: guidance.cfg(cd, jnp.ones(3))), "error")
case("cfg", "scale [1]", G(lambda: guidance.cfg(cd, jnp.ones(1))), "either", close(one))
case("cfg", "scale [4, 1]", G(lambda: guidance.cfg(cd, jnp.ones((4, 1)))), "either", close(one))
case("cfg", "scale a string", G(lambda: guidance.cfg(cd, "7.5")), "error")
case("cfg", "scale NaN", G(lambda: guidance.cfg(cd, np.nan)), "error")
case("cfg", "no condition at all: nothing to guide by", G(lambda: guidance.cfg(cd, 4.0), None), "error")
case(
    "cfg",
    "an unconditional network: nothing to guide by",
    lambda: dj.sample(key, guidance.cfg(imden, 4.0), vp, DDIM, imts, image, c4),
    "error",
)
case("cfg", "rescale = 5", G(lambda: guidance.cfg(cd, 4.0, rescale=5.0)), "error")
case("cfg", "batched with null=None", G(lambda: guidance.cfg(cd, 4.0, batched=True)), "error")
case(
    "cfg",
    "batched, right",
    G(lambda: guidance.cfg(cd, 1.0, {"label": jnp.full(4, 3)}, batched=True)),
    "fine",
    close(one),
)
case(
    "cfg",
    "of the network, before preconditioning",
    G(lambda: precondition.from_v(vp, guidance.cfg(Partial(cnet.apply, cparams), 1.0))),
    "either",
    close(one),
)
case("cfg", "cfg_of_scale without a scale", G(lambda: guidance.cfg_of_scale(cd)), "error")
case("cfg", "compose of 2 and 1", G(lambda: guidance.compose(cd, [c4, c4], [1.0])), "error")
case("cfg", "compose of none", G(lambda: guidance.compose(cd, [], [])), "error")
case(
    "classifier",
    "log_prob returns [B, classes]",
    G(lambda: guidance.classifier(imden, vp, lambda x, t, cond: jnp.zeros((len(x), 10)), 1.0)),
    "error",
)
case(
    "classifier",
    "log_prob returns a scalar",
    G(lambda: guidance.classifier(imden, vp, lambda x, t, cond: jnp.sum(x), 1.0)),
    "either",
    finite,
)
case(
    "classifier",
    "log_prob takes (x, t) only",
    G(lambda: guidance.classifier(imden, vp, lambda x, t: jnp.sum(x, (1, 2, 3)), 1.0)),
    "error",
)
case(
    "classifier",
    "label_log_prob without labels",
    G(lambda: guidance.classifier(imden, vp, guidance.label_log_prob(lambda x, t: jnp.zeros((len(x), 10))), 1.0), None),
    "error",
)
case(
    "classifier",
    "label_log_prob, label 99 of 10",
    G(
        lambda: guidance.classifier(
            imden, vp, guidance.label_log_prob(lambda x, t: x.reshape(len(x), -1)[:, :10]), 1.0
        ),
        {"label": jnp.full(4, 99)},
    ),
    "error",
)
case(
    "guidance",
    "interval reversed",
    lambda: dj.sample(key, guidance.interval(cd, cd, 0.8, 0.2), vp, DDIM, imts, image, c4),
    "error",
)
case("guidance", "corrected with no correction", G(lambda: guidance.corrected(cd)), "either", close(one))
case("guidance", "corrected with a string", G(lambda: guidance.corrected(cd, "clip")), "error")

# -- operators and constraints

H = (8, 8, 1)
pool = operators.average_pool(H, 4)
y = pool(image)
m = dj.Measurement(pool, y, 0.05)
mask = jnp.ones(H).at[2:6].set(0.0)
inp = dj.sample(key, imden, vp, dj.inpaint(dj.Ancestral(), image, mask), imts, image)
for name, call, want, check in [
    ("mask of floats 0.5", lambda: dj.inpaint(DDIM, image, 0.5 * mask), "error", None),
    ("mask 0..255", lambda: dj.inpaint(DDIM, image, 255 * mask), "error", None),
    (
        "mask bool",
        lambda: dj.sample(key, imden, vp, dj.inpaint(dj.Ancestral(), image, mask > 0), imts, image),
        "fine",
        close(inp),
    ),
    (
        "mask int",
        lambda: dj.sample(key, imden, vp, dj.inpaint(dj.Ancestral(), image, mask.astype(int)), imts, image),
        "fine",
        close(inp),
    ),
    ("mask NaN", lambda: dj.inpaint(DDIM, image, mask * jnp.nan), "error", None),
    (
        "mask a list",
        lambda: dj.sample(key, imden, vp, dj.inpaint(dj.Ancestral(), image, np.asarray(mask).tolist()), imts, image),
        "either",
        close(inp),
    ),
    (
        "mask [H, W], without a channel",
        lambda: dj.sample(key, imden, vp, dj.inpaint(dj.Ancestral(), image, mask[..., 0]), imts, image),
        "error",
        None,
    ),
    (
        "mask [B, H, W]",
        lambda: dj.sample(
            key, imden, vp, dj.inpaint(dj.Ancestral(), image, jnp.stack([mask[..., 0]] * 4)), imts, image
        ),
        "error",
        None,
    ),
    (
        "mask of another size",
        lambda: dj.sample(key, imden, vp, dj.inpaint(dj.Ancestral(), image, jnp.ones((7, 7, 1))), imts, image),
        "error",
        None,
    ),
    (
        "image uint8 0..255",
        lambda: dj.sample(
            key, imden, vp, dj.inpaint(dj.Ancestral(), np.full((4, 8, 8, 1), 200, np.uint8), mask), imts, image
        ),
        "error",
        None,
    ),
    (
        "image [H, W, C]",
        lambda: dj.sample(key, imden, vp, dj.inpaint(dj.Ancestral(), image[0], mask), imts, image),
        "either",
        finite,
    ),
    (
        "two images for four samples",
        lambda: dj.sample(key, imden, vp, dj.inpaint(dj.Ancestral(), image[:2], mask), imts, image),
        "error",
        None,
    ),
    (
        "the sampler's class",
        lambda: dj.sample(key, imden, vp, dj.inpaint(dj.Ancestral, image, mask), imts, image),
        "error",
        None,
    ),
    ("colorize with RGB", lambda: dj.colorize(DDIM, jnp.zeros((4, 8, 8, 3))), "error", None),
    (
        "colorize a grey model",
        lambda: dj.sample(key, imden, vp, dj.colorize(dj.Ancestral(), image), imts, image),
        "error",
        None,
    ),
    (
        "TimeTravel on a falling grid",
        lambda: dj.sample(key, imden, vp, dj.TimeTravel(dj.inpaint(dj.Ancestral(), image, mask)), imts, image),
        "fine",
        finite,
    ),
    (
        "inpaint outside TimeTravel",
        lambda: dj.sample(
            key, imden, vp, dj.inpaint(dj.TimeTravel(dj.Ancestral()), image, mask), times.repaint(imts, 1, 2), image
        ),
        "error",
        None,
    ),
]:
    case("inpaint", name, call, want, check)
for name, call, want, check in [
    ("average_pool by 3 of 8", lambda: operators.average_pool(H, 3), "error", None),
    ("average_pool by 0", lambda: operators.average_pool(H, 0), "error", None),
    ("average_pool(8, 4)", lambda: operators.average_pool(8, 4), "error", None),
    ("average_pool of [B, H, W, C]", lambda: operators.average_pool((4, 8, 8, 1), 4)(image), "error", None),
    ("average_pool on a larger image", lambda: pool(jnp.zeros((4, 16, 16, 1))), "error", None),
    ("bicubic by 2.5", lambda: operators.bicubic(H, 2.5), "error", None),
    ("gaussian_blur(sigma=0)", lambda: operators.gaussian_blur(H, 0.0), "error", None),
    ("gaussian_blur(sigma=-1)", lambda: operators.gaussian_blur(H, -1.0), "error", None),
    (
        "circular_blur, kernel larger than the image",
        lambda: operators.circular_blur(H, np.ones((9, 9)) / 81),
        "error",
        None,
    ),
    ("circular_blur, kernel 1-D", lambda: operators.circular_blur(H, np.ones(3) / 3), "error", None),
    ("compressed_sensing(ratio=2)", lambda: operators.compressed_sensing(key, H, 2.0), "error", None),
    ("compressed_sensing(ratio=0)", lambda: operators.compressed_sensing(key, H, 0.0), "error", None),
    ("matrix of a vector", lambda: operators.matrix(jnp.ones(3), (3,)), "error", None),
    ("measure with noise -1", lambda: dj.measure(key, pool, image, -1.0), "error", None),
    ("Measurement with noise NaN", lambda: dj.Measurement(pool, y, np.nan), "error", None),
    (
        "Measurement of an image as y: DDRM",
        lambda: dj.sample(key, imden, vp, dj.DDRM(dj.Measurement(pool, image, 0.1)), imts, image),
        "error",
        None,
    ),
    (
        "one y for four samples: DDRM",
        lambda: dj.sample(key, imden, vp, dj.DDRM(dj.Measurement(pool, y[:1], 0.1)), imts, image),
        "error",
        None,
    ),
    (
        "y without a batch: DPS",
        lambda: dj.sample(
            key, imden, vp, dj.DPS(dj.Ancestral(), operators.Misfit(dj.Measurement(pool, y[0], 0.1)), 0.3), imts, image
        ),
        "error",
        None,
    ),
    (
        "DDRM with a plain function",
        lambda: dj.DDRM(dj.Measurement(lambda x: x[:, ::2], image[:, ::2], 0.1)),
        "error",
        None,
    ),
    ("DDRM of an operator, not a measurement", lambda: dj.DDRM(pool), "error", None),
    (
        "DPS of a measurement, not a loss",
        lambda: dj.sample(key, imden, vp, dj.DPS(dj.Ancestral(), m, 0.3), imts, image),
        "error",
        None,
    ),
    (
        "DPS with a loss that returns a scalar",
        lambda: dj.sample(
            key, imden, vp, dj.DPS(dj.Ancestral(), lambda x0, cond=None: jnp.sum(x0**2), 0.3), imts, image
        ),
        "error",
        None,
    ),
    (
        "DPS with a loss of x_0 alone",
        lambda: dj.sample(
            key, imden, vp, dj.DPS(dj.Ancestral(), lambda x0: jnp.sum(x0**2, (1, 2, 3)), 0.3), imts, image
        ),
        "error",
        None,
    ),
    (
        "DPS zeta a string",
        lambda: dj.sample(key, imden, vp, dj.DPS(dj.Ancestral(), operators.Misfit(m), "0.3"), imts, image),
        "error",
        None,
    ),
    (
        "DPS zeta [3] for four",
        lambda: dj.sample(key, imden, vp, dj.DPS(dj.Ancestral(), operators.Misfit(m), jnp.ones(3)), imts, image),
        "error",
        None,
    ),
    (
        "DPS zeta below 0",
        lambda: dj.sample(key, imden, vp, dj.DPS(dj.Ancestral(), operators.Misfit(m), -0.3), imts, image),
        "error",
        None,
    ),
    (
        "DPS around Jump",
        lambda: dj.sample(key, imden, vp, dj.DPS(dj.Jump(), operators.Misfit(m), 0.3), imts, image),
        "error",
        None,
    ),
    (
        "PiGDM without noise",
        lambda: dj.sample(key, guidance.pigdm(imden, vp, dj.Measurement(pool, y, 0.0)), vp, DDIM, imts, image),
        "either",
        finite,
    ),
    (
        "DDRM without noise",
        lambda: dj.sample(key, imden, vp, dj.DDRM(dj.Measurement(pool, y, 0.0)), imts, image),
        "fine",
        finite,
    ),
    ("DDRM eta=2", lambda: dj.sample(key, imden, vp, dj.DDRM(m, 2.0), imts, image), "error", None),
    ("Gradient with a step below 0", lambda: corrections.Gradient(operators.Misfit(m), -1.0), "either", None),
    (
        "Clip(1, -1), reversed",
        lambda: dj.sample(key, guidance.corrected(imden, corrections.Clip(1.0, -1.0)), vp, DDIM, imts, image),
        "error",
        None,
    ),
    (
        "DynamicThreshold(percentile 2)",
        lambda: dj.sample(key, guidance.corrected(imden, corrections.DynamicThreshold(2.0)), vp, DDIM, imts, image),
        "error",
        None,
    ),
    ("HDR(0)", lambda: operators.HDR(0.0)(image), "either", finite),
    (
        "relative_residual without noise",
        lambda: operators.relative_residual(dj.Measurement(pool, y), image),
        "error",
        None,
    ),
]:
    case("operator", name, call, want, check)
for name, call, want, check in [
    ("from T by the whole grid", lambda: dj.sdedit(key, imden, vp, DDIM, imts, image), "fine", finite),
    ("strength 0", lambda: dj.sdedit(key, imden, vp, DDIM, times.tail(imts, 0.0), image), "fine", close(image)),
    (
        "guide uint8",
        lambda: dj.sdedit(key, imden, vp, DDIM, times.tail(imts, 0.5), np.zeros((4, 8, 8, 1), np.uint8)),
        "error",
        None,
    ),
    ("repeats=0", lambda: dj.sdedit(key, imden, vp, DDIM, imts, image, repeats=0), "error", None),
    ("repeats=1.5", lambda: dj.sdedit(key, imden, vp, DDIM, imts, image, repeats=1.5), "error", None),
    ("a strength in place of the grid", lambda: dj.sdedit(key, imden, vp, DDIM, 0.5, image), "error", None),
]:
    case("sdedit", name, call, want, check)

# -- likelihood and bounds

for name, call, want in [
    ("integers", lambda: dj.log_likelihood(key, den, vp, jnp.ones((4, 2), int)), "error"),
    ("x [B]", lambda: dj.log_likelihood(key, imden, vp, image[:, 0, 0, 0]), "error"),
    ("x NaN", lambda: dj.log_likelihood(key, den, vp, x * jnp.nan, tol=1e-2), "error"),
    ("t_min = 0", lambda: dj.log_likelihood(key, den, vp, x, t_min=0.0, tol=1e-2), "either"),
    ("t_min = 5", lambda: dj.log_likelihood(key, den, vp, x, t_min=5.0), "error"),
    ("t_min = T", lambda: dj.log_likelihood(key, den, vp, x, t_min=1.0, tol=1e-2), "either"),
    ("tol = 0", lambda: dj.log_likelihood(key, den, vp, x, tol=0.0), "error"),
    ("tol = -1", lambda: dj.log_likelihood(key, den, vp, x, tol=-1.0), "error"),
    ("Rademacher(0)", lambda: dj.log_likelihood(key, den, vp, x, probes=dj.likelihoods.probes.Rademacher(0)), "error"),
    ("probes = 5", lambda: dj.log_likelihood(key, den, vp, x, probes=5), "error"),
    ("rtol (of sample_ode)", lambda: dj.log_likelihood(key, den, vp, x, rtol=1e-2), "error"),
    ("empty batch", lambda: dj.log_likelihood(key, den, vp, x[:0], tol=1e-2), "either"),
    (
        "a denoiser that returns NaN",
        lambda: dj.log_likelihood(key, lambda x, t, cond=None: x * jnp.nan, vp, x, tol=1e-2),
        "error",
    ),
    ("sample_ode with x uint8", lambda: dj.sample_ode(imden, vp, np.zeros((4, 8, 8, 1), np.uint8)), "error"),
    ("sample_ode t_start = 3", lambda: dj.sample_ode(den, vp, x, t_start=3.0), "error"),
    ("sample_ode rtol = -1", lambda: dj.sample_ode(den, vp, x, rtol=-1.0, atol=-1.0), "error"),
    ("bits_per_dim of 0 dimensions", lambda: dj.bits_per_dim(jnp.ones(4), 0), "error"),
    ("elbo on one step", lambda: dj.elbo(key, den, vp, times.uniform(vp, 1, 0.0), x), "error"),
    ("elbo on a grid that ends above 0", lambda: dj.elbo(key, den, vp, ts, x), "error"),
    (
        "elbo of images in 0..255",
        lambda: (
            dj.elbo(key, imden, vp, times.uniform(vp, 4, 0.0), 100 + 50 * image).total
            if hasattr(dj.ELBO, "total")
            else dj.elbo(key, imden, vp, times.uniform(vp, 4, 0.0), 100 + 50 * image)
        ),
        "error",
    ),
    ("encode with a stochastic sampler", lambda: dj.invert(den, vp, dj.DDIM(1.0), ts, x), "error"),
    ("encode with EulerMaruyama", lambda: dj.invert(den, vp, dj.EulerMaruyama(), ts, x), "error"),
    ("encode on a grid to 0", lambda: dj.invert(den, vp, DDIM, jnp.array([1.0, 0.5, 0.0]), x), "error"),
]:
    case("likelihood", name, call, want, finite, ("unexpected keyword",))

# -- data

X = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
L = np.zeros(20, int)


def first(*args, **kw):
    return lambda: next(data.batches(*args, **kw))


pictures = tmp / "pictures"
pictures.mkdir()
(tmp / "nothing").mkdir()
(tmp / "text").mkdir()
(tmp / "text" / "notes.txt").write_text("no picture")
for i in range(20):
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 50, 3), np.uint8)).save(
        pictures / f"red_shoe-{i:02}.png"
    )
(tmp / "broken").mkdir()
for i in range(20):
    (tmp / "broken" / f"a{i}.png").write_bytes((pictures / f"red_shoe-{i:02}.png").read_bytes())
(tmp / "broken" / "a3.png").write_bytes(b"no png at all")
in_range = lambda b: -1 <= b["image"].min() and b["image"].max() <= 1  # noqa: E731
for name, call, want, check in [
    ("no labels", lambda: next(data.batches(X, batch_size=4, seed=0)), "fine", None),
    ("labels None", first(X, None, 4, 0), "fine", None),
    ("labels a list", first(X, [0] * 20, 4, 0), "fine", None),
    ("labels floats", first(X, L.astype(float), 4, 0), "error", None),
    ("labels of another length", first(X, L[:5], 4, 0), "error", None),
    (
        "float images in [0, 1]: refused, or scaled",
        first(X / 255.0, L, 4, 0),
        "either",
        lambda b: b["image"].min() < -0.5,
    ),
    ("float images in [0, 255]: refused, or scaled", first(X.astype(float), L, 4, 0), "either", in_range),
    ("float64 in [-1, 1]", first(X / 127.5 - 1, L, 4, 0), "fine", in_range),
    ("int64 0..255", first(X.astype(int), L, 4, 0), "error", None),
    ("bool", first(X > 100, L, 4, 0), "error", None),
    ("NaN", first(np.where(X > 250, np.nan, X / 255.0), L, 4, 0), "error", None),
    ("[N, H, W]", first(X[..., 0], L, 4, 0), "error", None),
    (
        "[N, C, H, W] of PyTorch: refused",
        first(X.transpose(0, 3, 1, 2).repeat(3, 1), L, 4, 0),
        "either",
        lambda b: b["image"].shape == (4, 8, 8, 3),
    ),
    ("a nested list", first(X.tolist(), L, 4, 0), "either", None),
    ("a jax array", first(jnp.asarray(X), jnp.asarray(L), 4, 0), "fine", in_range),
    ("an empty set", first(X[:0], L[:0], 1, 0), "error", None),
    ("batch_size 0", first(X, L, 0, 0), "error", None),
    ("batch_size 21 of 20", first(X, L, 21, 0), "error", None),
    ("batch_size 4.0", first(X, L, 4.0, 0), "error", None),
    ("seed -1", first(X, L, 4, -1), "error", None),
    ("seed a key", first(X, L, 4, key), "error", None),
    ("start_step -1", first(X, L, 4, 0, start_step=-1), "error", None),
    ("shard (0, 3) of 4", first(X, L, 4, 0, shard=(0, 3)), "error", None),
    ("dequantise floats", first(X / 255.0, L, 4, 0, dequantise=True), "error", None),
    ("load('mnist')", lambda: data.load("mnist"), "error", None),
    ("load('Digits')", lambda: data.load("Digits"), "error", None),
    ("load('folder') without a path", lambda: data.load("folder"), "error", None),
    ("load('digits', path=...)", lambda: data.load("digits", path=pictures), "error", None),
    ("a folder that is not there", lambda: data.load("folder", path=tmp / "absent"), "error", None),
    ("a folder that is a file", lambda: data.load("folder", path=tmp / "text" / "notes.txt"), "error", None),
    ("an empty folder", lambda: data.load("folder", path=tmp / "nothing"), "error", None),
    ("a folder without pictures", lambda: data.load("folder", path=tmp / "text"), "error", None),
    ("a folder with one broken picture", lambda: data.load("folder", path=tmp / "broken", size=16), "error", None),
    (
        "a folder, size 16",
        lambda: data.load("folder", path=pictures, size=16),
        "fine",
        lambda d: d.shape == (16, 16, 3),
    ),
    ("a folder, size 0", lambda: data.load("folder", path=pictures, size=0), "error", None),
    ("a folder, size 5000", lambda: data.load("folder", path=pictures, size=5000), "error", None),
    ("a folder, size 17.5", lambda: data.load("folder", path=pictures, size=17.5), "error", None),
    ("captions that are not there", lambda: data.load("folder", path=pictures, captions=tmp / "no.csv"), "error", None),
    ("to_uint8 of NaN", lambda: data.to_uint8(image * jnp.nan), "error", None),
    (
        "to_float of floats in [0, 1]",
        lambda: data.to_float(np.random.default_rng(0).random((4, 8, 8, 1))),
        "error",
        None,
    ),
    ("ImageData of floats", lambda: data.ImageData("mine", X / 255.0, L, X / 255.0, L, ("a",)), "error", None),
    ("ImageData of a label too large", lambda: data.ImageData("mine", X, L + 3, X, L, ("a",)), "error", None),
]:
    case("data", name, call, want, check)

# -- training

tx = train.adam(1e-3)
dsm_loss = DSM(vp, times.Uniform(), linear, precondition.from_v)


def step(batch, loss=dsm_loss, decays=(), state_decays=(), params=W):
    def call():
        state = train.TrainState.create(key, params, tx, state_decays)
        return train.jit_train_steps(loss, tx, decays)(state, batch)[1]["loss"]

    return call


def fit(batches, config=None, loss=dsm_loss, folder=None, **kw):
    def call():
        workdir = folder or tempfile.mkdtemp(dir=tmp)
        state = train.TrainState.create(key, W, tx)
        with contextlib.redirect_stderr(io.StringIO()):
            return train.fit(
                train.jit_train_steps(loss, tx), state, batches, workdir, config or train.LoopConfig(steps=2), **kw
            )[1]

    return call


def endless(start):
    while True:
        yield np.asarray(x)


used = Path(tempfile.mkdtemp(dir=tmp))
fit(endless, folder=used)()
for name, call, want, check in [
    ("a batch without the axis of steps [B, ...]", step(np.asarray(image)), "error", None),
    ("a batch [1, B, ...]", step(np.asarray(image)[None]), "fine", finite),
    ("arrays of different length", step({"image": np.asarray(image)[None], "label": np.zeros((1, 3))}), "error", None),
    (
        "NaN in the batch: the loss tells",
        step(np.asarray(image)[None] * np.nan),
        "either",
        lambda loss: not finite(loss),
    ),
    ("loss returns a scalar", step(np.asarray(image)[None], lambda p, k, b: (p["w"] * b.mean(), {})), "error", None),
    ("loss returns no aux", step(np.asarray(image)[None], lambda p, k, b: p["w"] * b.mean((1, 2, 3))), "error", None),
    (
        "loss splits its key as if it were one",
        step(
            np.asarray(image)[None],
            lambda p, k, b: (jax.random.uniform(jax.random.split(k)[0]) * p["w"] * b.mean((1, 2, 3)), {}),
        ),
        "error",
        None,
    ),
    (
        "loss does not depend on the parameters",
        step(np.asarray(image)[None], lambda p, k, b: (b.mean((1, 2, 3)), {})),
        "either",
        finite,
    ),
    ("ema decays that the state has not", step(np.asarray(image)[None], decays=(0.9,)), "error", None),
    ("ema decay 1.5", step(np.asarray(image)[None], decays=(1.5,), state_decays=(1.5,)), "error", None),
    ("ema_decays=0.99, no tuple", step(np.asarray(image)[None], decays=0.99, state_decays=0.99), "error", None),
    ("params without a leaf", step(np.asarray(image)[None], params={}), "error", None),
    ("params of integers", step(np.asarray(image)[None], params={"w": jnp.ones((), int)}), "error", None),
    ("adam(-1)", lambda: train.adam(-1.0), "error", None),
    ("adam('1e-3')", lambda: train.adam("1e-3"), "error", None),
    ("adam(clip=0)", lambda: train.adam(1e-3, clip=0.0), "error", None),
    ("adam(warmup=-1)", lambda: train.adam(1e-3, warmup=-1), "error", None),
    ("adam(accumulate=0)", lambda: train.adam(1e-3, accumulate=0), "error", None),
    ("LoopConfig(steps=0)", lambda: train.LoopConfig(steps=0), "error", None),
    ("LoopConfig(steps=2.5)", lambda: train.LoopConfig(steps=2.5), "error", None),
    ("LoopConfig(log_every=-1)", lambda: train.LoopConfig(log_every=-1), "error", None),
    ("LoopConfig(steps=10, steps_per_call=3)", lambda: train.LoopConfig(steps=10, steps_per_call=3), "error", None),
    ("fit with a list of batches", fit([np.asarray(x)] * 2), "error", None),
    ("fit with an iterator", fit(iter([np.asarray(x)] * 2)), "error", None),
    ("fit with data that end", fit(lambda start: iter([np.asarray(x)])), "error", None),
    ("fit with batches that take no start", fit(lambda: endless(0)), "error", None),
    ("fit in a folder that is in use", fit(endless, folder=used), "error", None),
    ("fit with a workdir that is a file", fit(endless, folder=tmp / "text" / "notes.txt"), "error", None),
    ("fit with NaN", fit(lambda start: iter([np.asarray(x) * np.nan] * 3)), "error", None),
    (
        "fit, on_sample returns an array",
        fit(endless, on_sample=lambda state: np.zeros((4, 4, 1), np.uint8)),
        "error",
        None,
    ),
    ("fit, on_sample returns floats", fit(endless, on_sample=lambda state: {"a": np.zeros((4, 4, 1))}), "either", None),
    (
        "Checkpoints.restore of an empty folder",
        lambda: train.Checkpoints(tmp / "nothing").restore(train.TrainState.create(key, W, tx)),
        "error",
        None,
    ),
    (
        "restore with other parameters",
        lambda: train.Checkpoints(used / "checkpoints").restore(train.TrainState.create(key, {"v": jnp.ones(2)}, tx)),
        "error",
        None,
    ),
]:
    case("train", name, call, want, check)

# -- weights, metrics, pictures

good_file = tmp / "good.safetensors"
formats.save_params(good_file, {"params": {"w": np.ones(3)}})
(tmp / "cut.safetensors").write_bytes(good_file.read_bytes()[:-4])
(tmp / "text.safetensors").write_text("no weights")
feats = np.random.default_rng(0).normal(size=(50, 3))
for name, call, want, check in [
    ("load_params of nothing", lambda: formats.load_params(tmp / "absent.safetensors"), "error", None),
    ("load_params of a folder", lambda: formats.load_params(tmp), "error", None),
    ("load_params of half a file", lambda: formats.load_params(tmp / "cut.safetensors"), "error", None),
    ("load_params of a text", lambda: formats.load_params(tmp / "text.safetensors"), "error", None),
    (
        "load_params like another network",
        lambda: formats.load_params(good_file, like={"params": {"v": np.ones(3)}}),
        "error",
        None,
    ),
    (
        "load_params like another shape",
        lambda: formats.load_params(good_file, like={"params": {"w": np.ones(4)}}),
        "error",
        None,
    ),
    ("save_params of a list", lambda: formats.save_params(tmp / "a", [np.ones(3)]), "error", None),
    ("save_params with a '/'", lambda: formats.save_params(tmp / "a", {"a/b": np.ones(3)}), "error", None),
    ("save_params of strings", lambda: formats.save_params(tmp / "a", {"a": "b"}), "error", None),
    (
        "save_params beyond float16",
        lambda: formats.save_params(tmp / "a", {"a": np.full(3, 1e6)}, dtype="float16"),
        "error",
        None,
    ),
    ("save_params of nothing", lambda: formats.save_params(tmp / "a", {}), "error", None),
    ("graft of another network", lambda: parameters.graft({"a": jnp.ones(3)}, {"b": jnp.ones(3)}), "error", None),
    (
        "sliced_wasserstein of other dimensions",
        lambda: metrics.sliced_wasserstein(key, jnp.ones((10, 2)), jnp.ones((10, 3))),
        "error",
        None,
    ),
    (
        "sliced_wasserstein of other numbers",
        lambda: metrics.sliced_wasserstein(key, jnp.ones((10, 2)), jnp.ones((7, 2))),
        "either",
        finite,
    ),
    (
        "sliced_wasserstein of NaN",
        lambda: metrics.sliced_wasserstein(key, jnp.ones((10, 2)) * jnp.nan, jnp.ones((10, 2))),
        "error",
        None,
    ),
    ("report of too few samples", lambda: metrics.report(feats, feats[:2], feats), "error", None),
    ("report of other features", lambda: metrics.report(feats, feats[:, :2], feats), "error", None),
    ("report of NaN", lambda: metrics.report(feats, feats * np.nan, feats), "error", None),
    (
        "fashion_features of 32 x 32",
        lambda: metrics.fashion_features()(np.zeros((4, 32, 32, 1), np.float32)),
        "error",
        None,
    ),
    (
        "fashion_features of uint8",
        lambda: metrics.fashion_features()(np.zeros((4, 28, 28, 1), np.uint8)),
        "error",
        None,
    ),
    ("psnr of other shapes", lambda: metrics.psnr(image, image[:2]), "error", None),
    ("ssim of 8 x 8", lambda: metrics.ssim(image, image), "either", None),
    ("image_grid of NaN", lambda: plots.image_grid(image * jnp.nan), "error", None),
    ("image_grid of [B, H, W]", lambda: plots.image_grid(image[..., 0]), "error", None),
    ("image_grid of one [H, W, C]", lambda: plots.image_grid(image[0]), "error", None),
    (
        "image_grid of uint8: not made dark or white",
        lambda: plots.image_grid(np.full((4, 8, 8, 1), 100, np.uint8)),
        "either",
        lambda g: 90 <= np.median(np.asarray(g)) <= 110,
    ),
    ("image_grid, rows=3 of 4", lambda: plots.image_grid(image, rows=3), "either", None),
    ("image_grid of none", lambda: plots.image_grid(image[:0]), "error", None),
    ("image_grid of two channels", lambda: plots.image_grid(jnp.zeros((4, 8, 8, 2))), "error", None),
    ("eight_gaussians(key, -1)", lambda: data.eight_gaussians(key, -1), "error", None),
    (
        "GaussianMixture with weights of sum 2",
        lambda: dj.GaussianMixture(jnp.ones(2), jnp.zeros((2, 2)), jnp.stack([jnp.eye(2)] * 2)),
        "error",
        None,
    ),
    (
        "GaussianMixture with variances [K]",
        lambda: dj.GaussianMixture(jnp.ones(2) / 2, jnp.zeros((2, 2)), jnp.ones(2)).sample(key, 4),
        "error",
        None,
    ),
    (
        "GaussianMixture of lists",
        lambda: dj.GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [[[0.1, 0.0], [0.0, 0.1]]] * 2).sample(
            key, 4
        ),
        "either",
        finite,
    ),
    (
        "dj.train after `import diffjax as dj` alone",
        lambda: __import__("subprocess").run(
            [__import__("sys").executable, "-c", "import diffjax as dj; dj.train; dj.data; dj.metrics"],
            check=True,
            capture_output=True,
        ),
        "fine",
        None,
    ),
]:
    case("other", name, call, want, check)

# -- the command line, in this process


def cli(*argv):
    import dataclasses

    @dataclasses.dataclass(frozen=True)
    class Config:
        sde: dj.VP | dj.VE = dj.VP()
        loop: train.LoopConfig = train.LoopConfig()
        workdir: Path = Path("runs/x")

    def call():
        out = io.StringIO()
        try:
            with contextlib.redirect_stderr(out), contextlib.redirect_stdout(out):
                return experiment.configure({"cpu": Config, "long": Config}, "doc", argv)
        except SystemExit as stop:
            raise SystemExit(f"{stop.code} {out.getvalue()}") from None

    return call


for argv, want, says in [
    (["--preset", "cpuu"], "error", ("choose one of",)),
    (["--preset"], "error", ("choose one of",)),
    (["--preset=long"], "fine", ()),
    (["--prest", "long"], "error", ("--preset",)),
    (["--sde.beta-maxx", "5"], "error", ("Perhaps you meant",)),
    (["--loop.steps", "abc"], "error", ("invalid literal",)),
    (["--loop.steps", "1.5"], "error", ("invalid literal",)),
    (["--loop.steps", "0"], "error", ("at least 1",)),
    (["--sde.beta-max", "20"], "fine", ()),
    (["--sde.beta-max", "nan"], "error", ("must be a finite number",)),
    (["--sde.beta_max", "5"], "fine", ()),
    (["--sde", "VE"], "error", ("Unrecognized",)),
    (["--workdir"], "error", ("--workdir",)),
    (["stray"], "error", ("Unrecognized",)),
]:
    case("CLI", " ".join(argv), cli(*argv), want, says=says)


def verdict(want: str, call: Any, check: Any, says: tuple[str, ...]) -> tuple[str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            got = call()
            got = jax.block_until_ready(got) if not isinstance(got, str) else got
    except (Exception, SystemExit) as error:
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        frames = traceback.extract_tb(error.__traceback__)
        last = frames[-1]
        line = linecache.getline(last.filename, last.lineno).strip()
        inside = f"{os.sep}diffjax{os.sep}" in last.filename
        clear = (inside and line.startswith("raise")) or any(word in message for word in says)
        if want == "fine":
            return "REFUSED", message
        return ("clear" if clear else "UNCLEAR"), message
    if want == "error":
        return "SILENT", "accepted" + ("" if finite(got) else ", the result is not finite")
    if check is not None:
        try:
            good = bool(check(got))
        except Exception as error:
            return "WRONG", f"the check failed: {type(error).__name__}: {error}"
        if not good:
            return ("WRONG" if want == "fine" else "SILENT"), "accepted" + (
                "" if finite(got) else ", the result is not finite"
            )
    elif want == "either" and not finite(got):
        return "SILENT", "the result is not finite"
    return "fine", ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name holds this word")
    parser.add_argument("--all", action="store_true", help="the messages of clear cases too")
    args = parser.parse_args()
    counts: Counter = Counter()
    for name, want, call, check, says in CASES:
        if args.only not in name:
            continue
        result, message = verdict(want, call, check, says)
        counts[result] += 1
        if result in ("clear", "fine") and not args.all:
            message = ""
        print(f"{result:<8} {name}  [{want}]{'  ' + message[:230] if message else ''}", flush=True)
    print(f"summary: {sum(counts.values())} cases: " + ", ".join(f"{n} {k}" for k, n in counts.most_common()))


if __name__ == "__main__":
    main()
