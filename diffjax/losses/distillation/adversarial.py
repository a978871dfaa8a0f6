"""Adversarial distillation: a student is the generator, against a discriminator of its samples and data.

    (1) hinge            real max(0, 1 - D),   fake max(0, 1 + D),   generator -D
    (2) non-saturating   real softplus(-D),    fake softplus(D),     generator softplus(-D)
    (3) R1               |grad_h D(h)|^2 on data, h the input of D                        (Mescheder et al. 2018)
    (4) discriminator loss   E real(D(h)) + E fake(D(h')) + r1 |grad_h D(h)|^2
    (5) generator loss       sum_i w_i term_i(sample),   `AdversarialTerm` for D and those of `score_distillation`

The best D of (1) is sign(p - q), that of (2) log p/q, for p the data's density and q the student's; against the latter
the gradient of E -D is that of KL(q | p). A `Discriminator` is D, its input, and (1) or (2). D may have
several heads: logits are an array [B, ...] or a tree of them, of which (1) to (5) sum the means. The methods are

            student                     inputs          loss            r1    terms, weights
    ADD     Student                     Features(F)     hinge           1e-5  AdversarialTerm, 1; ScoreDistillation, 2.5
    DMD2    Student(..., simulate=True) Noised(sde, p)  non_saturating  None  DistributionMatching, 1; AdversarialTerm
    DDGAN   PairStudent                 stepwise        non_saturating  0.01  AdversarialTerm, 1

For a sampler's grid ts a `Student` draws its times from `OneOf(ts[:-1])`; a `PairStudent` is given ts. ADD (Sauer et
al. 2023) gives D the features of a frozen network, and R1 is taken in them. DMD2 (Yin et al. 2024) adds to D's loss the
`OnSamples` of its fake score, whose features D reads. DDGAN's (Xiao et al. 2022) R1, gamma/2 with gamma = 0.02, is
taken in x_s alone, there at every 15th step. CTM (Kim et al. 2024) adds the adversarial term to its own losses. Both
losses find the other network's parameters in `Context.opponent`, which `train.adversarial_steps` sets.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import flat_mean, flat_sum, fold, normal
from diffjax.checks import check_number
from diffjax.conditions import cond_keys
from diffjax.losses.distillation.students import check_single
from diffjax.losses.draws import Draw, read, times
from diffjax.losses.networks import bind, check_functions
from diffjax.precondition import CNoise, scaled_time
from diffjax.sde import gaussian
from diffjax.times.distributions import check_distribution
from diffjax.typing import NO_CONTEXT, SDE, Cond, Context, Key, PyTree, pytree, static


class Generator(Protocol):
    """What the discriminator's samples come from: `Student`, `PairStudent` or, of an autoencoder, `Autoencoded`."""

    @property
    def network(self) -> Any: ...

    def __call__(self, params: PyTree, draw: Draw) -> Any: ...

    def real(self, draw: Draw) -> Any: ...


class AdversarialLoss(NamedTuple):
    """Losses as functions of the logits: D's on data and on samples, and the generator's."""

    real: Callable
    fake: Callable
    generator: Callable


hinge = AdversarialLoss(lambda d: jax.nn.relu(1 - d), lambda d: jax.nn.relu(1 + d), lambda d: -d)  # Eq. 1
non_saturating = AdversarialLoss(lambda d: jax.nn.softplus(-d), jax.nn.softplus, lambda d: jax.nn.softplus(-d))  # Eq. 2


def clean(key: Key, x: Array, context: Context = NO_CONTEXT) -> tuple[Array, Array]:
    """The sample itself, at the noise level 0."""
    check_single(x, "clean")
    return x, jnp.zeros(len(x))


def stepwise(key: Key, pair: tuple[Array, Any], context: Context = NO_CONTEXT) -> tuple[Array, Any]:
    """x_s, conditioned on (x_t, c_noise(t)): for `PairStudent`."""
    if not isinstance(pair, tuple):
        raise ValueError("stepwise takes the pairs of a `PairStudent`, not single samples")
    return pair


@pytree
class Features:
    """A frozen network's features, `features(x)` [B, ...] or a tree of them, for `nn.FeatureHeads` say."""

    features: Callable

    def __post_init__(self):
        check_functions(self, features="(x) -> features")

    def __call__(self, key: Key, x: Array, context: Context = NO_CONTEXT) -> tuple[PyTree, Array]:
        return self.features(x), jnp.zeros(len(x))


@pytree
class Noised:
    """x_t = alpha_t x + sigma_t eps, conditioned on c_noise(t)."""

    sde: SDE
    time_distribution: Callable  # (key, n) -> t [n]
    c_noise: CNoise = scaled_time

    def __post_init__(self):
        check_distribution(self.time_distribution, self.sde)
        check_functions(self, c_noise="(sde, t) -> c_noise")

    def __call__(self, key: Key, x: Array, context: Context = NO_CONTEXT) -> tuple[Array, Array]:
        check_single(x, "Noised")
        t = times(self.time_distribution, self.sde, Draw(x, x, None, fold(key, 0), {}, context), 1)
        return gaussian.perturb(self.sde, x, t, normal(fold(key, 1), x)), self.c_noise(self.sde, t)


@pytree
class Discriminator:
    """A network D with its input and its loss; `discriminator(params, h, c, cond)` gives its logits."""

    network: Callable = static()  # (params, h, c, cond) -> logits [B, ...] or a tree of them
    inputs: Callable = clean  # (key, sample, context) -> (h, c), its input and what that is conditioned on
    loss: AdversarialLoss = static(default=hinge)

    def __post_init__(self):
        check_functions(self, network="(params, h, c, cond) -> logits", inputs="(key, sample, context) -> (h, c)")
        if not isinstance(self.loss, AdversarialLoss):
            raise TypeError(f"expected an `AdversarialLoss`, such as `hinge`, got {self.loss!r}")

    def __call__(self, params: PyTree, h: PyTree, c: Any, cond: Cond) -> PyTree:
        logits = bind(self.network, params, False, {})(h, c, cond)
        n = len(jax.tree.leaves(h)[0])
        for leaf in jax.tree.leaves(logits):
            if leaf.shape[:1] != (n,):
                raise ValueError(f"a discriminator returns logits [B, ...] for B = {n} examples, got {leaf.shape}")
        return logits


def r1(D: Callable, h: PyTree) -> Array:
    """Eq. 3, [B]: of D, `h -> logits`, the sum of its heads' means."""
    slope = jax.grad(lambda h: each(D(h)).sum())(h)
    return jnp.asarray(sum(flat_sum(g**2) for g in jax.tree.leaves(slope)))


def each(logits: PyTree, f: Callable = lambda d: d) -> Array:
    """The mean of f over an example's logits, summed over the heads, [B]."""
    return jnp.asarray(sum(flat_mean(f(leaf)) for leaf in jax.tree.leaves(logits)))


@pytree
class DiscriminatorLoss:
    """Eq. 4; `loss(params of D, key, batch, context) -> ([B], {"real", "fake": D's logits [B], "r1": [B]})`.

    Raises:
      ValueError: the context has no opponent, the student's parameters, or the logits are not one or more for each
        example.
    """

    student: Generator
    discriminator: Discriminator
    r1: Any = None  # the weight of Eq. 3; None: none

    def __post_init__(self):
        if self.r1 is not None:
            check_number("r1", self.r1, 0)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        opponent, student, loss = opponent_of(self, context), self.student, self.discriminator.loss
        draw = read(key, batch, cond_keys(student.network), context)
        h, c = self.discriminator.inputs(fold(key, 3), student.real(draw), context)
        real = self.discriminator(params, h, c, draw.cond)
        generated = jax.lax.stop_gradient(student(opponent, draw))
        h_fake, c_fake = self.discriminator.inputs(fold(key, 4), generated, context)
        fake = self.discriminator(params, h_fake, c_fake, draw.cond)
        value = each(real, loss.real) + each(fake, loss.fake)
        aux = {"real": each(real), "fake": each(fake)}
        if self.r1 is None:
            return value, aux
        penalty = r1(lambda h: self.discriminator(params, h, c, draw.cond), h)
        return value + self.r1 * penalty, aux | {"r1": penalty}


@pytree
class GeneratorLoss:
    """Eq. 5; `loss(params of the student, key, batch, context) -> ([B], {"part0": [B], ...})`; a batch is as in `DSM`.

    Raises:
      ValueError: the context has no opponent, the parameters of the discriminator or of the fake score, or there are
        not as many weights as terms.
    """

    student: Generator
    terms: tuple[Callable, ...]  # (opponent, key, sample, cond, context) -> [B]
    weights: tuple[Any, ...]

    def __post_init__(self):
        if len(self.terms) != len(self.weights) or not self.terms:
            raise ValueError(f"a student takes one weight for each term, got {len(self.weights)} for {len(self.terms)}")

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        opponent = opponent_of(self, context)
        draw = read(key, batch, cond_keys(self.student.network), context)
        sample = self.student(params, draw)
        parts = [term(opponent, fold(key, 3 + i), sample, draw.cond, context) for i, term in enumerate(self.terms)]
        total = sum(w * part for w, part in zip(self.weights, parts, strict=True))
        return jnp.asarray(total), {f"part{i}": part for i, part in enumerate(parts)}


@pytree
class AdversarialTerm:
    """The generator's term of Eq. 1 or 2, `(params of D, key, sample, cond, context) -> [B]`."""

    discriminator: Discriminator

    def __call__(self, opponent: PyTree, key: Key, sample: PyTree, cond: Cond, context: Context = NO_CONTEXT) -> Array:
        h, c = self.discriminator.inputs(key, sample, context)
        return each(self.discriminator(opponent, h, c, cond), self.discriminator.loss.generator)


def opponent_of(loss: Any, context: Context) -> PyTree:
    """The other network's parameters. Raises a ValueError where the context has none."""
    if context.opponent is None:
        raise ValueError(
            f"{type(loss).__name__} needs the parameters of the other network: train by "
            "`train.adversarial_steps`, or call it with `context=Context(opponent=...)`"
        )
    return context.opponent
