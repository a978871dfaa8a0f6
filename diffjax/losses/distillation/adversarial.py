"""Adversarial distillation: a student learns from a discriminator that tells its samples from data.

    (1) hinge      real max(0, 1 - D),   fake max(0, 1 + D),   student -D
    (2) softplus   real softplus(-D),    fake softplus(D),     student softplus(-D)
    (3) R1         |grad_h D(h)|^2 on data, h what D is shown                             (Mescheder et al. 2018)
    (4) loss of D        E real(D(h)) + E fake(D(h')) + r1 |grad_h D(h)|^2
    (5) loss of student  sum_i w_i term_i(sample),   `Fool` for D and those of `score_distillation`

The best D of (1) is sign(p - q), that of (2) log p/q, for p the data's density and q the student's; against the latter
the gradient of E -D is that of KL(q | p). A `Critic` is D, what it is shown, and which of the games it plays. D may
have several heads: logits are an array [B, ...] or a tree of them, of which (1) to (5) sum the means. The methods are

            student                     view               game      r1     terms, weights
    ADD     Student                     Features(F)        hinge     1e-5   Fool, 1; ScoreDistillation, 2.5
    DMD2    Student(..., simulate=True) Noised(sde, law)   softplus  None   DistributionMatching, 1; Fool, small
    DDGAN   PairStudent                 stepwise           softplus  0.01   Fool, 1

For a sampler's grid ts a `Student` draws its times from `OneOf(ts[:-1])`; a `PairStudent` is given ts.
ADD (Sauer et al. 2023) shows D the features of a frozen network, and R1 is taken in them. DMD2 (Yin et al. 2024) adds
to D's loss the `OnSamples` of its fake score, whose features D reads. DDGAN's (Xiao et al. 2022) R1, gamma/2 with gamma
= 0.02, is taken in x_s alone, there at every 15th step. CTM (Kim et al. 2024) adds `Fool` to its own losses.
Both losses find the other player in `rival`, which `train.against` sets.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import flat_mean, flat_sum, fold, normal
from diffjax.losses.distillation.students import PairStudent, Student, check_single
from diffjax.losses.draws import read
from diffjax.precondition import CNoise, scaled_time
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Key, PyTree, pytree, static


class Game(NamedTuple):
    """Losses as functions of the logits: D's on data and on samples, and the student's."""

    real: Callable
    fake: Callable
    fool: Callable


hinge = Game(lambda d: jax.nn.relu(1 - d), lambda d: jax.nn.relu(1 + d), lambda d: -d)  # Eq. 1
softplus = Game(lambda d: jax.nn.softplus(-d), jax.nn.softplus, lambda d: jax.nn.softplus(-d))  # Eq. 2


def clean(key: Key, x: Array) -> tuple[Array, Array]:
    """D sees the sample, at the noise level 0."""
    check_single(x, "clean")
    return x, jnp.zeros(len(x))


def stepwise(key: Key, pair: tuple[Array, Any]) -> tuple[Array, Any]:
    """D sees x_s, and is told (x_t, c_noise(t)): for `PairStudent`."""
    if not isinstance(pair, tuple):
        raise ValueError("stepwise takes the pairs of a `PairStudent`, not single samples")
    return pair


@pytree
class Features:
    """D sees a frozen network's features, `features(x)` [B, ...] or a tree of them, for `nn.FeatureHeads` say."""

    features: Callable

    def __call__(self, key: Key, x: Array) -> tuple[PyTree, Array]:
        return self.features(x), jnp.zeros(len(x))


@pytree
class Noised:
    """D sees x_t = alpha_t x + sigma_t eps, and is told c_noise(t)."""

    sde: SDE
    law: Callable  # (key, n) -> t [n]
    c_noise: CNoise = scaled_time

    def __call__(self, key: Key, x: Array) -> tuple[Array, Array]:
        check_single(x, "Noised")
        t = self.law(fold(key, 0), len(x))
        return gaussian.perturb(self.sde, x, t, normal(fold(key, 1), x)), self.c_noise(self.sde, t)


@pytree
class Critic:
    """A discriminator; `critic(params, h, c, cond)` gives its logits."""

    discriminator: Callable = static()  # (params, h, c, cond) -> logits [B, ...] or a tree of them
    view: Callable = clean  # (key, sample) -> (h, c), what it sees and what it is told
    game: Game = static(default=hinge)

    def __call__(self, params: PyTree, h: PyTree, c: Any, cond: Cond) -> PyTree:
        logits = self.discriminator(params, h, c, cond)
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
class Discriminate:
    """Eq. 4; `loss(params of D, key, batch) -> ([B], {"real", "fake": D's logits [B], "r1": [B]})`.

    Raises:
      ValueError: the student's parameters are not known, or the logits are not one or more for each example.
    """

    student: Student | PairStudent
    critic: Critic
    r1: Any = None  # the weight of Eq. 3; None: none
    rival: PyTree = None  # the student's parameters, given by `train.against`

    def __call__(self, params: PyTree, key: Key, batch: PyTree) -> tuple[Array, dict[str, Array]]:
        check_rival(self)
        draw, student, game = read(key, batch), self.student, self.critic.game
        h, c = self.critic.view(fold(key, 3), student.real(draw))
        real = self.critic(params, h, c, draw.cond)
        shown, told = self.critic.view(fold(key, 4), student(self.rival, draw))
        fake = self.critic(params, shown, told, draw.cond)
        value, aux = each(real, game.real) + each(fake, game.fake), {"real": each(real), "fake": each(fake)}
        if self.r1 is None:
            return value, aux
        penalty = r1(lambda h: self.critic(params, h, c, draw.cond), h)
        return value + self.r1 * penalty, aux | {"r1": penalty}


@pytree
class Generate:
    """Eq. 5; `loss(params of the student, key, batch) -> ([B], {"part0": [B], ...})`; a batch is as in `DSM`.

    Raises:
      ValueError: the rival is not known, or there are not as many weights as terms.
    """

    student: Student | PairStudent
    terms: tuple[Callable, ...]  # (rival, key, sample, cond) -> [B]
    weights: tuple[Any, ...]
    rival: PyTree = None  # the discriminator's, the fake score's parameters, given by `train.against`

    def __call__(self, params: PyTree, key: Key, batch: PyTree) -> tuple[Array, dict[str, Array]]:
        check_rival(self)
        if len(self.terms) != len(self.weights) or not self.terms:
            raise ValueError(f"a student takes one weight for each term, got {len(self.weights)} for {len(self.terms)}")
        draw = read(key, batch)
        sample = self.student(params, draw)
        parts = [term(self.rival, fold(key, 3 + i), sample, draw.cond) for i, term in enumerate(self.terms)]
        total = sum(w * part for w, part in zip(self.weights, parts, strict=True))
        return jnp.asarray(total), {f"part{i}": part for i, part in enumerate(parts)}


@pytree
class Fool:
    """The student's term of Eq. 1 or 2, `(params of D, key, sample, cond) -> [B]`."""

    critic: Critic

    def __call__(self, rival: PyTree, key: Key, sample: PyTree, cond: Cond) -> Array:
        h, c = self.critic.view(key, sample)
        return each(self.critic(rival, h, c, cond), self.critic.game.fool)


def check_rival(loss: Any) -> None:
    """Raise a ValueError if the other player is not known."""
    if loss.rival is None:
        raise ValueError(
            f"{type(loss).__name__} plays against another's parameters: train by `train.against`, or give `rival`"
        )
