"""A model as one object: a network with its parameters, and all that it takes to sample from it.

    model = dj.load("fashion-vp")                # shipped with the package; or the folder of a run, or a file
    x = model.sample(key, 16)                    # [16, 28, 28, 1], black -1 and white 1, a little beyond in places
    dj.save("mine.safetensors", model, {"data": "my own pictures"})

A `Model` is a thin pytree over the pure functions of this package. `model.denoise` and `model.sde` are what they take:
`dj.sample(key, dj.guidance.cfg(model.denoise, 4.0), model.sde, dj.DDIM(), ts, x, cond)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax import Array
from jax.tree_util import Partial

from diffjax import flow_maps, guidance, nn
from diffjax.arrays import split
from diffjax.checks import check_count, check_has, check_key, check_number, check_pictures, known
from diffjax.codec import Codec
from diffjax.conditions import cond_keys
from diffjax.constraints import Padded, pad_grid
from diffjax.likelihoods.ode import log_likelihood
from diffjax.operators.measurement import of_latents
from diffjax.parameters import takes_scale
from diffjax.posterior import Posterior
from diffjax.printing import short
from diffjax.samplers import DPMpp2M, Jump, default_grid, generate, invert, sample
from diffjax.samplers.arguments import check_sampler
from diffjax.samplers.sdedit import sdedit
from diffjax.sde.gaussian import prior_sample
from diffjax.times import tail
from diffjax.typing import SDE, Cond, Key, PyTree, Sampler, pytree, static


@pytree
class Model:
    """A diffusion model, or a few-step model, with its parameters.

    Attributes:
      network: a Flax linen module, or a function `(params, x, c_noise, cond, *, train, rngs) -> F` (`typing.Network`).
      params: what the network takes first.
      sde: the process that it was trained on.
      prediction: `(sde, network) -> Denoiser` or FlowMap: what F means and how the noise level reaches the network, as
        `precondition.from_v`, or `Partial(precondition.from_eps, c_noise=precondition.time_index)`.
      shape: of one example, (H, W, C) for pictures.
        Of a latent model it is that of a latent, `codec.latent_shape`.
      null: the condition under which the network is unconditional, for `guidance_scale`; None for our own networks.
      sampler, steps: what `sample` uses where it is given nothing else.
      codec: of a latent model, what turns its latents into pictures: `sample` returns pictures then, `log_likelihood`
        and `invert` take them, and everything else, `denoise` above all, is of latents.
      scales: of a student of guidance, the least and the greatest guidance scale that it has learnt; None: any.
    """

    network: Any = static()
    params: PyTree = dataclasses.field(metadata={"parameters": True})
    sde: SDE
    prediction: Callable
    shape: tuple[int, ...] = static()
    null: Cond = None
    sampler: Sampler = DPMpp2M()
    steps: int = static(default=20)
    codec: Codec | None = None
    scales: tuple[float, float] | None = static(default=None)

    def __post_init__(self):
        if not isinstance(self.shape, tuple):
            raise TypeError(f"shape must be a tuple, that of one example, such as (28, 28, 1); got {self.shape!r}")
        if hasattr(self.network, "init") and not isinstance(self.params, Mapping):
            raise TypeError(
                f"params must be the dict that `nn.init` returned, got {short(self.params)[:200]}: of a state it is "
                "state.params, or the average state.ema[0]"
            )
        check_sampler(self.sampler)
        for side in self.shape:
            check_count("each entry of shape", side)
        check_count("steps", self.steps)
        if self.codec is not None and not isinstance(self.codec, Codec):
            raise TypeError(f"codec must be a dj.Codec, got {short(self.codec)[:200]}")
        check_has(self.sde, "an SDE, such as dj.VP(),", "alpha", "sigma", "T")
        if not callable(self.prediction):
            raise TypeError(f"prediction must be a function (sde, network) -> Denoiser, got {self.prediction!r}")
        if not callable(getattr(self.network, "apply", self.network)):
            raise TypeError(f"expected a Flax module or a function as network, got {self.network!r}")

    @classmethod
    def init(cls, key: Key, network: Any, sde: SDE, prediction: Callable, batch: PyTree, **fields: Any) -> Model:
        """A model with new parameters for examples like those of a batch, its condition included (see `nn.init`).

        Args:
          network: a Flax linen module.
          batch: x_0 [B, ...], or a dict with "image" and the fields that the network is conditioned on.

        Raises:
          TypeError: the network is no Flax module.
          ValueError: `key` is no new-style key, or the batch has no "image".
        """
        check_key(key)
        if not isinstance(network, linen.Module):
            raise TypeError(
                f"expected a Flax linen module, such as dj.nn.presets.small(), got {short(network)}: of an NNX module "
                "dj.nn.from_nnx makes a function and its parameters, and dj.Model(function, params, sde, prediction, "
                "shape) is the model of any function"
            )
        if not isinstance(batch, dict | jax.Array | np.ndarray | jax.ShapeDtypeStruct):
            raise TypeError(
                f"expected an example batch, an array or a dict, such as next(batches(0)), got {short(batch)[:200]}"
            )
        params = nn.init(network, key, batch, levels=2 if isinstance(fields.get("sampler"), Jump) else 1)
        image = batch["image"] if isinstance(batch, dict) else batch
        return cls(network, params, sde, prediction, tuple(image.shape[1:]), **fields)

    @property
    def denoise(self) -> Any:
        """`(x, t, cond) -> E[x_0 | x_t]`; of a few-step model the flow map `(x, t, s, cond) -> x_s`."""
        return self.prediction(self.sde, Partial(apply_of(self.network), self.params))

    def replace(self, **changes: Any) -> Model:
        """The model with some fields changed: `model.replace(params=state.ema[0])`.

        Raises:
          ValueError: shape and codec, of which one is changed, are of other latents.
        """
        model = dataclasses.replace(self, **changes)
        if model.codec is not None and changes.keys() & {"codec", "shape"}:
            latents = model.codec.latent_shape
            if latents != model.shape:
                raise ValueError(
                    f"the model's shape is {model.shape}, but its codec makes latents {latents} of pictures "
                    f"{model.codec.shape}: change both, model.replace(shape=..., codec=model.codec.replace(shape=...))"
                )
        return model

    def sample(
        self,
        key: Key,
        n: int,
        sampler: Sampler | None = None,
        *,
        steps: int | Array | None = None,
        cond: Cond = None,
        guidance_scale: Any = None,
        batch_size: int | None = None,
        start: Array | None = None,
    ) -> Array | np.ndarray:
        """n examples [n, *shape]; of a latent model n pictures [n, *codec.shape], without its codec n latents.

        Args:
          key: one key, of which example i is the same for every n and batch size; or one key for each example [n].
          sampler: the model's own by default.
          steps: their number, on the solver's own grid (`samplers.default_grid`), or the times themselves [N + 1].
          cond: the condition of all n examples, such as {"label": [n]}.
          guidance_scale: of classifier-free guidance, for networks that were trained with dropped conditions; a student
            of guidance takes it as the entry "scale" of its condition, a number or [n].
          batch_size: how many at a time, for a large n; the result is then a NumPy array.
          start: the state at the first time [n, *shape], as `invert` returns it, in place of the noise at T.

        Raises:
          ValueError: as `dj.sample`; or guidance lacks a condition, or a student of guidance has not learnt this scale.
        """
        check_key(key)
        check_count("n", n, 0)
        sampler = self.sampler if sampler is None else sampler
        check_sampler(sampler)
        ts = self._grid(sampler, steps)
        denoise, cond = self._guided(sampler, cond, guidance_scale, n)
        if start is None:
            self._check_prior(ts)
        shape = (n, *self.shape)
        if start is not None and np.shape(start) != shape:
            raise ValueError(f"start must have the shape {shape}, got {np.shape(start)}")
        if start is not None and known(start) and not np.isfinite(start).all():
            raise ValueError("start holds NaN or infinite values")
        if batch_size is not None:
            begin = shape if start is None else jnp.asarray(start)
            z = generate(key, denoise, self.sde, sampler, ts, begin, cond, batch_size)
            return np.asarray(self._pictures(z, batch_size))
        k_prior, k_steps = split(key)
        x = prior_sample(k_prior, self.sde, shape) if start is None else start
        return self._pictures(sample(k_steps, denoise, self.sde, sampler, ts, x, cond))

    def sample_posterior(
        self,
        key: Key,
        n: int,
        method: Posterior,
        *,
        steps: int | None = None,
        cond: Cond = None,
        guidance_scale: Any = None,
    ) -> Array:
        """n samples [n, *shape] of p(x_0 | y) by a paper's method: `dj.posterior.ddrm(measurement)` and others.

        Of a latent model they are pictures, and the measurement is of pictures: the decoder becomes a part of its
        operator (`operators.Decoded`), so that the method must not need a linear one.

        Args:
          key: one key.
          method: holds the measurement, of n examples or of one for all.
          steps: by default the paper's.
          cond, guidance_scale: as of `sample`.

        Raises:
          ValueError, TypeError: as `Posterior.sample`, and of guidance as `sample`.
          AttributeError: the method needs a linear operator, which that of a latent model is not.
        """
        check_key(key)
        check_count("n", n)
        check_has(method, "a posterior sampler, such as dj.posterior.ddrm(measurement),", "build", "sample")
        k_prior, k_steps = split(key)
        x = prior_sample(k_prior, self.sde, (n, *self.shape))
        if self.codec is not None:
            method = of_latents(method, Partial(type(self.codec).decode, self.codec))
        denoise, cond = self._guided(None, cond, guidance_scale, n)
        return self._pictures(method.sample(k_steps, denoise, self.sde, x, cond, steps=steps))

    def sdedit(
        self,
        key: Key,
        x: Array,
        strength: float,
        sampler: Sampler | None = None,
        *,
        steps: int | Array | None = None,
        cond: Cond = None,
        guidance_scale: Any = None,
    ) -> Array:
        """Image to image by SDEdit: x noised, then the last int(steps strength) steps of the grid: [B, *shape].

        A latent model noises the latent of the picture, as Stable Diffusion's image to image does; strength 0 is then
        what its codec leaves of x. One compiled program serves all strengths, which are numbers known before it runs.

        Args:
          key: one key, or one for each example [B].
          x: examples [B, *shape]; of a latent model pictures, or latents.
          strength: in [0, 1]; the larger, the less is left of x.
          sampler, steps, cond, guidance_scale: as of `sample`.

        Raises:
          ValueError, TypeError: as `sample`; x has another shape or other units; as `times.tail`.
        """
        sampler = self.sampler if sampler is None else sampler
        check_sampler(sampler)
        grid = self._grid(sampler, steps)
        x, ts = self._checked(x), tail(grid, strength)
        denoise, cond = self._guided(sampler, cond, guidance_scale, len(x))
        if known(ts) and len(ts) > 1:  # one program for all strengths
            sampler, ts = Padded(sampler), jnp.asarray(pad_grid(ts, len(grid) - 1))
        return self._pictures(sdedit(key, denoise, self.sde, sampler, ts, x, cond))

    def log_likelihood(self, key: Key, x: Array, cond: Cond = None, **options: Any) -> Array:
        """log p(x) in nats of data x [B, *shape], [B]; the options are those of `likelihoods.estimate`.

        Of a latent model it is the density of the pictures' latents, by the mode of the encoder: log p(z).

        Raises:
          ValueError, TypeError: as there; x has another shape, or as pictures lies far outside of [-1, 1]: in other
            units call `dj.log_likelihood(key, model.denoise, model.sde, x)`.
        """
        return log_likelihood(key, self.denoise, self.sde, self._checked(x), cond, **options)

    def invert(
        self,
        x: Array,
        sampler: Sampler | None = None,
        *,
        steps: int | Array = 100,
        cond: Cond = None,
        guidance_scale: Any = None,
    ) -> Array:
        """The state at T [B, *shape] whose deterministic sampling ends at x [B, *shape], up to the solver's error.

        A latent model takes pictures x in [-1, 1], or latents; cond and guidance_scale are as of `sample`.

        `model.sample(key, len(x), sampler, steps=steps, start=model.invert(x, sampler, steps=steps))` is x again.
        """
        sampler = DPMpp2M() if sampler is None else sampler
        ts = self._grid(sampler, steps)
        x = self._checked(x)
        if known(ts) and len(ts) > 2 and ts[-1] <= 0:  # at t = 0 there is no noise to be seen: start with the data's
            ts = ts[:-1]  # share of the state before it
            x = self.sde.alpha(ts[-1]).astype(x.dtype) * x
        denoise, cond = self._guided(sampler, cond, guidance_scale, len(x))
        return invert(denoise, self.sde, sampler, ts, x, cond)

    def _grid(self, sampler: Sampler, steps: int | Array | None) -> Array:
        if steps is not None and np.ndim(steps):
            return jnp.asarray(steps)
        n: Any = self.steps if steps is None else steps
        check_count("steps", n)
        return default_grid(sampler, self.sde, n)

    def _guided(self, sampler: Sampler | None, cond: Cond, scale: Any, n: int) -> tuple[Any, Cond]:
        if scale is None:
            return self.denoise, cond
        if not jax.tree.leaves(cond):
            raise ValueError('guidance_scale needs a condition, such as cond={"label": labels}')
        if "scale" in (cond_keys(self.network) or ("scale",)) and takes_scale(self.params):
            return self.denoise, self._with_scale(cond, scale, n)
        if isinstance(scale, int | np.integer | np.floating) and not isinstance(scale, bool):
            scale = float(scale)  # 3 and 3.0 are one program
        guide = flow_maps.guided if isinstance(sampler, Jump) else guidance.cfg
        return guide(self.denoise, scale, self.null), cond

    def _with_scale(self, cond: Cond, scale: Any, n: int) -> Cond:
        """The condition of a student of guidance."""
        if not isinstance(cond, dict) or "scale" in cond:
            raise ValueError('this student of guidance takes its scale once: guidance_scale, or cond={"scale": ...}')
        if callable(scale):
            raise TypeError("a student of guidance takes one scale for all times: a number, or one for each example")
        check_number("guidance_scale", scale, *(self.scales or ()), why="the scales that this student has learnt")
        scale = jnp.asarray(scale, float)
        if scale.shape not in ((), (n,)):
            raise ValueError(f"guidance_scale must be a number or one for each of {n} examples, got {scale.shape}")
        return cond | {"scale": jnp.broadcast_to(scale, (n,))}

    def _check_prior(self, ts: Array) -> None:
        """Raise a ValueError where noise of time T is not distributed as the state at the grid's first time."""
        if not (known(ts) and known(jax.tree.leaves(self.sde))):
            return
        with jax.ensure_compile_time_eval():
            levels = [np.asarray(curve(t)) for curve in (self.sde.alpha, self.sde.sigma) for t in (ts[0], self.sde.T)]
        alpha, alpha_T, sigma, sigma_T = levels
        if abs(sigma - sigma_T) > 0.05 * sigma_T or alpha * sigma_T > max(0.2 * sigma_T, 2 * alpha_T) * sigma:
            raise ValueError(
                f"the grid starts at t = {ts[0]:g}, where the state is not pure noise as at T = {self.sde.T:g}: give "
                "that state as start=..., or start the grid at T"
            )

    def _pictures(self, z: Any, batch_size: int | None = None) -> Any:
        """z itself, or of a latent model the pictures that it stands for."""
        return z if self.codec is None else _decode(self.codec, z, batch_size if len(z) else None)

    def _checked(self, x: Array) -> Array:
        x = jnp.asarray(x)
        if self.codec is not None:
            return self._latents(x, self.codec)
        if x.shape[1:] != self.shape or not x.ndim:
            what = f"x must be of shape [B, {', '.join(map(str, self.shape))}], examples with a batch axis"
            raise ValueError(f"{what}; got {x.dtype}{list(x.shape)}")
        if len(self.shape) == 3:
            check_pictures(x, "x")
        return x

    def _latents(self, x: Array, codec: Codec) -> Array:
        """The latents of pictures; latents as they are."""
        if x.shape[1:] == codec.shape:
            check_pictures(x, "x")  # the compiled encoder cannot look at values
            return _encode(codec, x)
        if x.shape[1:] != self.shape:
            raise ValueError(
                f"x must be pictures [B, {', '.join(map(str, codec.shape))}] or latents "
                f"[B, {', '.join(map(str, self.shape))}], got {x.dtype}{list(x.shape)}"
            )
        return x


@partial(jax.jit, static_argnames="batch_size")
def _decode(codec: Codec, z: Array, batch_size: int | None) -> Array:
    return codec.decode(z, batch_size=batch_size)


_encode = jax.jit(Codec.encode)


@pytree
class Trained:
    """A network that is no diffusion model (a classifier, an autoencoder), with its parameters: `(*inputs) -> outputs`.

    Attributes:
      network: a Flax linen module.
      params: its parameters.
      inputs: the shape of each of its inputs, of one example: ((28, 28, 1),).
    """

    network: Any = static()
    params: PyTree = dataclasses.field(metadata={"parameters": True})
    inputs: tuple[tuple[int, ...], ...] = static()

    __eq__, __hash__ = object.__eq__, object.__hash__  # a function, for `jax.jit`

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.network.apply(self.params, *inputs, **options)


def apply_of(network: Any) -> Callable:
    """The pure function `(params, x, c_noise, cond, ...) -> F` of a Flax module; a function is one itself."""
    return getattr(network, "apply", network)
