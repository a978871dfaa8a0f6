"""SDEdit on Fashion-MNIST: stroke paintings to garments, faithful or realistic as t_0 says (Meng et al. 2022).

    python experiments/sdedit.py                    # 500 paintings, ten starting times; six minutes on two CPU cores
    python experiments/sdedit.py --images 100       # a minute

The paintings are made of test images by a median filter and k-means (`diffjax.data.strokes`). For each t_0 the edited
images' root mean square distance to their painting (faithfulness) and their KID to the training images (realism), in
64 classifier features; `floor` is the KID of the test images themselves. The knee is the t_0 of least KID above the
floor from which a larger t_0 gains less than a tenth of the whole gain. Then masks, from t_0 = 0.5 with K = 3: the
upper half of an image kept and its painted lower half edited; and compositing, a box of another image pasted and
edited. `seam` is the root mean square step across the box's edge.

500 paintings, two CPU cores shared with other work, jax 0.10.2, 2026-11-27; KID of the paintings 9.1 +- 1.6, floor
0.5 +- 0.8 (standard errors):

    t_0        0.05   0.1    0.2    0.3    0.4    0.5    0.6    0.7    0.8    1
    distance   0.095  0.145  0.219  0.280  0.346  0.436  0.566  0.693  0.749  0.767
    KID        7.83   7.07   5.41   3.54   1.90   0.90   0.59   1.81   0.56   0.36        knee: 0.5
    error      1.46   1.39   1.27   1.17   1.07   0.74   0.55   1.15   0.34   0.74

From 0.5 on KID is at the floor, within its errors. Seam: images 0.45, a pasted box 0.98, composites 0.46.

Your own pictures are edited by a model of them; KID is then in 112 features of EfficientNet-Lite0 (`make data`):

    python experiments/score_sde.py --data folder --data.path DIR --data.size 32 --workdir runs/model
    python experiments/sdedit.py --data folder --data.path DIR --data.size 32 --model runs/model/ema.safetensors
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import diffjax as dj
from diffjax import data, metrics, plots, times
from diffjax.data.strokes import paint
from diffjax.model_files import SHIPPED
from diffjax.runs import experiment
from diffjax.runs.own_pictures import OwnPictures
from diffjax.typing import Denoiser

WEIGHTS = SHIPPED / "fashion-vp.safetensors"
SDE, BOX = dj.VP(), slice(8, 20)  # of 28 rows, and columns: what is pasted


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures):
    images: int = 500
    """Paintings."""
    steps: int = 40
    """Steps of the sampler from each t_0."""
    t_0: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
    colours: int = 3
    repeats: int = 1
    """K of the paper."""
    model: Path | None = None
    """Weights of `score_sde.py`."""
    seed: int = 0
    workdir: Path = Path("runs/sdedit")


def main(config: Config) -> dict[str, Any]:
    experiment.start(config.workdir, config)
    images = config.load("fashion_mnist", held_out=10)
    where = config.model, WEIGHTS, "--model", "score_sde.py"
    denoise = config.model_of(*where, sde=SDE, shape=images.shape).denoise
    real = images.test_images[: config.images]
    features = metrics.lite0_features(images.shape) if config.data else metrics.fashion_features()
    guide = data.to_float(paint(real, config.colours))
    train = features(data.to_float(images.train_images[:4000]))

    def kid(name: str, x: np.ndarray) -> dict[str, float]:
        """And its standard error, by leaving out a tenth of x in turn (jackknife)."""
        own = features(np.clip(x, -1, 1))
        less = [metrics.mmd2(train, np.delete(own, np.s_[i::10], axis=0)) for i in range(10)]
        return {f"{name}, KID": metrics.mmd2(train, own), f"{name}, KID's error": 3 * float(np.std(less))}

    summary: dict[str, float] = kid("paintings", guide) | kid("floor", data.to_float(real))
    edits = {}
    for t_0 in config.t_0:
        edits[t_0] = edit(config, denoise, guide, t_0)
        summary[f"t_0 {t_0:g}, distance"] = float(np.sqrt(np.mean((edits[t_0] - guide) ** 2)))
        summary |= kid(f"t_0 {t_0:g}", edits[t_0])
        distance, realism, error = list(summary.values())[-3:]
        print(f"t_0 {t_0:<6g}distance {distance:.3f}   KID {realism:.3f} +- {error:.3f}", flush=True)
    gains = [summary[f"t_0 {t_0:g}, KID"] for t_0 in config.t_0]
    summary["knee"] = knee(config.t_0, gains)
    whole, n = data.to_float(real), images.shape[0]
    lower, inside = np.ones((2, n, n, 1), np.float32)
    lower[n // 2 :], inside[box(n), box(n)] = 0, 0
    halves = masked(config, denoise, whole[:12] * lower + guide[:12] * (1 - lower), lower)
    pasted = whole * inside + np.roll(whole, 1, axis=0) * (1 - inside)
    composites = masked(config, denoise, pasted, inside)
    summary |= {"seam, images": seam(whole), "seam, pasted": seam(pasted), "seam, composites": seam(composites)}
    last = {"upper half kept": halves, "a box pasted": pasted, "composites": composites}
    figure(config, {"image": whole, "painting": guide, **{f"t_0 = {t:g}": x for t, x in edits.items()}, **last})
    experiment.finish(config.workdir, summary)
    return summary


def edit(config: Config, denoise: Denoiser, guide: np.ndarray, t_0: float) -> np.ndarray:
    """The paintings, edited from t_0, in batches."""
    ts, sampler = jnp.linspace(t_0, SDE.t_min, config.steps + 1), dj.Ancestral()
    keys = dj.arrays.example_keys(jax.random.key(config.seed + 1), len(guide))
    chunks = []
    for i in range(0, len(guide), 100):
        part = jnp.asarray(guide[i : i + 100])
        chunks.append(dj.sdedit(keys[i : i + 100], denoise, SDE, sampler, ts, part, repeats=config.repeats))
    return np.concatenate([np.asarray(x) for x in chunks])


def masked(config: Config, denoise: Denoiser, images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Images edited from t_0 = 0.5 where the mask is 0, and kept where it is 1, in batches."""
    ts, chunks = times.tail(times.uniform(SDE, 2 * config.steps), 0.5), []
    for i in range(0, len(images), 100):
        part = jnp.asarray(images[i : i + 100])
        keep = dj.inpaint(dj.Ancestral(), part, jnp.asarray(mask))
        chunks.append(dj.sdedit(jax.random.key(config.seed + i), denoise, SDE, keep, ts, part, repeats=3))
    return np.concatenate([np.asarray(x) for x in chunks])


def box(n: int) -> slice:
    """BOX of n rows."""
    return slice(BOX.start * n // 28, BOX.stop * n // 28)


def seam(x: np.ndarray) -> float:
    """Root mean square step from the pixels inside the box to their neighbours outside."""
    inner = box(x.shape[1])
    a, b = inner.start, inner.stop
    sides = x[:, a, inner] - x[:, a - 1, inner], x[:, b - 1, inner] - x[:, b, inner]
    ends = x[:, inner, a] - x[:, inner, a - 1], x[:, inner, b - 1] - x[:, inner, b]
    return float(np.sqrt(np.mean(np.square([*sides, *ends]))))


def knee(t_0: tuple[float, ...], kids: list[float]) -> float:
    """The first t_0 that has nine tenths of the fall of KID from the first t_0 to the least."""
    least = min(kids)
    return next(t for t, k in zip(t_0, kids, strict=True) if kids[0] - k >= 0.9 * (kids[0] - least))


def figure(config: Config, rows: dict[str, np.ndarray]) -> None:
    """Rows of twelve."""
    plots.image_rows(config.workdir / "sdedit.png", {name: x[:12] for name, x in rows.items()})


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))
