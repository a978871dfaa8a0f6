"""Judging an image model: distances beside their floors, bits per dimension, classes, captions, styles, scenes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax import metrics, operators, pretrained
from diffjax.data import ImageData, batches, packages, to_float
from diffjax.data.scene_drawing import COLOURS, SHAPES
from diffjax.likelihoods.ode import bits_per_dim, log_likelihood
from diffjax.model import Trained
from diffjax.pretrained import face
from diffjax.printing import short
from diffjax.typing import SDE, Denoiser, Key

CLIP_FEATURES = (1, 1, 1008)  # of EfficientNet-Lite0, as the CLIP that judges captions takes them


def features_for(images: ImageData) -> Callable[[Any], np.ndarray] | None:
    """What distances are measured in: a classifier's features for Fashion-MNIST, the pixels of images up to 8 x 8.

    For RGB images they are EfficientNet-Lite0's, where it has been fetched.
    """
    if images.name == "fashion_mnist":
        return metrics.fashion_features()
    if images.shape[-1] == 3:
        try:
            return metrics.lite0_features(images.shape)
        except FileNotFoundError:
            return None
    return (lambda x: np.asarray(x).reshape(len(x), -1)) if np.prod(images.shape) <= 64 else None


def dimensions(name: str, shape: tuple[int, ...]) -> int | None:
    """The dimension of the features for samples of the set `name`; distances need more samples. None: no features."""
    if name == "fashion_mnist":
        return 64
    if shape[-1] == 3:
        return 112
    return math.prod(shape) if math.prod(shape) <= 64 else None


def judge(images: ImageData) -> Callable[[np.ndarray], dict[str, Any]] | None:
    """A function of samples x: Fréchet distance and KID from the training images, beside those of the test images.

    None where there are no features for this data set. It raises as `metrics.report`.
    """
    features = features_for(images)
    if features is None:
        return None
    train, test = (features(to_float(part)) for part in (images.train_images, images.test_images))
    return lambda x: dataclasses.asdict(metrics.report(train, features(x), test))


def distances(images: ImageData, x: np.ndarray) -> dict[str, Any]:
    """What `judge` returns for samples x, or nothing."""
    of = judge(images)
    return of(x) if of is not None else {}


def bits(key: Key, denoise: Denoiser, sde: SDE, images: ImageData, n: int, **options: Any) -> dict[str, float]:
    """Bits per dimension of n test images, dequantised, by the probability-flow ODE, and the error of their mean.

    The options are those of `likelihood.estimate`. Nothing is returned for n < 2.
    """
    n = min(n, len(images.test_images))
    if n < 2:
        return {}
    x = next(batches(images.test_images, images.test_labels, n, seed=0, dequantise=True))["image"]
    bpd = np.asarray(bits_per_dim(log_likelihood(key, denoise, sde, jnp.asarray(x), **options), x[0].size))
    return {"bits_per_dim": float(bpd.mean()), "bits_per_dim_stderr": float(bpd.std(ddof=1) / np.sqrt(n))}


def compare(originals: Array) -> Callable[[Array], dict[str, float]]:
    """A function of images [B, H, W, C] in [-1, 1]: {"psnr" in dB, "ssim", "features"}, means over the images.

    The features are those of the committed classifier at 28 x 28 x 1, else EfficientNet-Lite0's (see `metrics.image`).
    """
    fashion = originals.shape[1:] == (28, 28, 1)
    layers = metrics.fashion_layers() if fashion else metrics.lite0_layers()
    metric = {"psnr": metrics.psnr, "ssim": metrics.ssim, "features": partial(metrics.feature_distance, layers)}
    figures = jax.jit(lambda x, y: {name: fn(x, y).mean() for name, fn in metric.items()})
    return lambda x: {name: float(value) for name, value in figures(x, originals).items()}


def caption_judge(clip: Trained, shape: tuple[int, int, int], vectors: np.ndarray, choices: Any) -> Callable:
    """A function of samples x [n, H, W, 3] of `shape`: how they meet their captions, measured by a CLIP.

    Args:
      clip: an `nn.CLIP` whose tower maps EfficientNet-Lite0's features (`experiments/emoji_clip.py --preset judge`).
      vectors: MiniLM's of the captions [K, 384].
      choices: the numbers of captions among which each sample's is looked for [n, C], the wanted one first.

    Returns {"accuracy": how often the wanted caption is the nearest of its C, "cosine": that of the wanted, the mean}.

    Raises:
      FileNotFoundError: EfficientNet-Lite0 is missing.
    """
    see = metrics.lite0_features(shape, parts=3)
    words = np.asarray(clip(vectors, method="words"))

    def judge(x: np.ndarray) -> dict[str, float]:
        pictures = np.asarray(clip(see(x).reshape(len(x), *CLIP_FEATURES), method="image"))
        cosines = np.einsum("nd,ncd->nc", pictures, words[np.asarray(choices)])
        own, others = cosines[:, 0], cosines[:, 1:].max(-1, initial=-np.inf)
        return {"accuracy": float(np.mean(own > others)), "cosine": float(own.mean())}

    return judge


def one_of_ten(rng: np.random.Generator, captions: Sequence[str], n: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Tasks for `caption_judge` from the captions of a set's pictures [N]: to take a picture's out of ten.

    Returns the different captions in random order [K]; for each task the numbers of its own and of the nine that follow
    [n, 10]; and a random picture of its own caption [n], in 0..N-1. Where K < n, tasks are repeated.

    Raises:
      ValueError: there are fewer than ten different captions.
    """
    order = rng.permutation(len(captions))
    texts, first = np.unique(np.asarray(captions)[order], return_index=True)
    if len(texts) < 10:
        raise ValueError(f"one of ten captions needs ten different ones, got {len(texts)}")
    shuffled, own = rng.permutation(len(texts)), np.arange(n) % len(texts)
    texts, first = texts[shuffled], order[first[shuffled]]
    return texts.tolist(), (own[:, None] + np.arange(10)) % len(texts), first[own]


def style_judge(styles: np.ndarray, which: np.ndarray) -> Callable[[np.ndarray], dict[str, float]]:
    """A function of samples x [n, H, W, 3]: how near they are to their styles, measured by a face network.

    The distance is that of Gram matrices of the network's first layers. They have learnt from other pictures and for
    another task than EfficientNet-Lite0's, so that a sample guided by the one need not be near by the other.

    Args:
      styles: pictures [K, H, W, 3] in [-1, 1].
      which: the number of each sample's [n].

    Returns {"judged": the mean distance, "nearest": how often, of two styles or more, a sample's own is the nearest}.

    Raises:
      FileNotFoundError: the network is missing; the message names the command that fetches it.
    """
    net = pretrained.load_face_net(packages.find(*pretrained.FACE_NET))

    def maps(x: Array) -> Sequence[Array]:
        found = face.stages(net.args[0], x)
        return [found[i] for i in (0, 3, 7)]  # behind the first convolution, and before maps are halved: twice

    see = jax.jit(operators.Gram(maps))
    wanted = np.asarray(see(jnp.asarray(styles)))

    def judge(x: np.ndarray) -> dict[str, float]:
        apart = np.linalg.norm(np.asarray(see(x))[:, None] - wanted, axis=-1)  # [n, K]
        nearest = {"nearest": float(np.mean(apart.argmin(-1) == which))} if len(styles) > 1 else {}
        return {"judged": float(apart[np.arange(len(x)), which].mean()), **nearest}

    return judge


class ClassJudge:
    """{"accuracy", "diversity"} of samples x [n, H, W, C] of classes `labels` [n], measured by a classifier.

    The diversity is the root mean square distance of two samples of one class in its features; of real images it is 1.

    Args:
      classifier: a `SmallClassifier` (`experiments/fashion_classifier.py`).
      images: the set that it was trained on.

    Raises:
      ValueError: the classifier is of other classes or images.
    """

    def __init__(self, classifier: Trained, images: ImageData):
        made_for = classifier.inputs, getattr(classifier.network, "n_classes", None)
        if made_for != ((images.shape,), images.n_classes):
            own = f"{images.shape}, {images.n_classes}"
            raise ValueError(f"the classifier has inputs and classes {made_for}, the images {own}")
        self.apply = jax.jit(classifier)
        x, labels = images.test_images, images.test_labels
        if images.name == "folder":  # too few are held out
            x = np.concatenate([x, images.train_images])
            labels = np.concatenate([labels, images.train_labels])
        self.spread_of_images = self.spread(np.asarray(self.apply(to_float(x[:2000]))[1]), labels[:2000])

    def spread(self, features: np.ndarray, labels: np.ndarray) -> float:
        """The root mean square distance of two images of one class, of all classes that have two."""
        several = [k for k in np.unique(labels) if np.sum(labels == k) > 1]
        return float(np.sqrt(np.mean([2 * features[labels == k].var(0, ddof=1).sum() for k in several])))

    def __call__(self, x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        logits, features = map(np.asarray, self.apply(x))
        hit = logits.argmax(-1) == labels
        return {"accuracy": float(hit.mean()), "diversity": self.spread(features, labels) / self.spread_of_images}


def normalised(y: np.ndarray) -> np.ndarray:
    """[N, D] -> [N, D], of length one."""
    return y / np.linalg.norm(y, axis=-1, keepdims=True)


def pairs(colours: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Which of the 48 pairs of colour and shape are in each scene: bool [N, 48], pair 6 colour + shape.

    `colours` and `shapes` are those of `data.scenes`, integers [N, 3], -1 where there is no object.
    """
    there = np.zeros((len(colours), len(COLOURS) * len(SHAPES)), bool)
    rows, slots = np.nonzero(np.asarray(shapes) >= 0)
    there[rows, len(SHAPES) * np.asarray(colours)[rows, slots] + np.asarray(shapes)[rows, slots]] = True
    return there


class SceneJudge:
    """{"colour", "shape", "binding", "extra"} of pictures x [N, S, S, 3] that are to show scenes.

    The classifier has a logit for each pair (`experiments/scene_judge.py`). The first three are shares of the scenes'
    objects: whose colour it sees in the picture, with any shape; whose shape, in any colour; and whose pair of both.
    "extra" is the number of pairs a picture that it sees beyond those.

    Raises:
      ValueError: the classifier is of other classes, or there is not a picture for each scene.
    """

    def __init__(self, classifier: Trained, batch_size: int = 250):
        network = getattr(classifier, "network", None)  # a function has none
        if network is not None and getattr(network, "num_classes", None) != len(COLOURS) * len(SHAPES):
            raise ValueError(
                f"a judge of scenes has a logit for each of {len(COLOURS)} x {len(SHAPES)} pairs, the network "
                f"{short(network)[:100]} has not: `scene_judge.py` makes one"
            )
        self.apply, self.batch_size = jax.jit(classifier), batch_size

    def __call__(self, x: np.ndarray, scenes: Any) -> dict[str, float]:
        """`scenes` has the fields `colours` and `classes` of what the pictures are to show, [N, 3]."""
        if len(x) != len(scenes.classes):
            raise ValueError(f"expected a picture for each of {len(scenes.classes)} scenes, got {len(x)}")
        parts = [x[i : i + self.batch_size] for i in range(0, len(x), self.batch_size)]
        logits = np.concatenate([np.asarray(self.apply(jnp.asarray(part), jnp.zeros(()))) for part in parts])
        seen = logits > 0
        grid = seen.reshape(len(x), len(COLOURS), len(SHAPES))
        rows, slots = np.nonzero(scenes.classes >= 0)
        colour, shape = scenes.colours[rows, slots], scenes.classes[rows, slots]
        return {
            "colour": float(grid[rows, colour].any(-1).mean()),
            "shape": float(grid[rows, :, shape].any(-1).mean()),
            "binding": float(grid[rows, colour, shape].mean()),
            "extra": float((seen & ~pairs(scenes.colours, scenes.classes)).sum(-1).mean()),
        }
