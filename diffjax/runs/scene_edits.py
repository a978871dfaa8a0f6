"""Scenes and their twins, of another colour or shape, as tasks for an editor, and what a judge sees of its results."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from diffjax.data import scenes
from diffjax.data.scene_drawing import SHAPES
from diffjax.data.scene_sampling import EDITS
from diffjax.runs.judges import SceneJudge
from diffjax.runs.scene_figures import AFTERWARDS


def recoloured(n: int, size: int, split: str = "test") -> scenes.Scenes:
    """n scenes that no training has seen, whose twins have another colour or another shape of one object."""
    drawn = scenes.make(AFTERWARDS + np.arange(4 * n), size, split)
    kinds = [EDITS.index("colour"), EDITS.index("shape")]
    return rows_of(drawn, np.flatnonzero(np.isin(drawn.edits, kinds))[:n])


def rows_of(drawn: Any, rows: np.ndarray) -> Any:
    """Some of the scenes, with their twins."""
    fields = vars(drawn).items()
    return type(drawn)(**{k: rows_of(v, rows) if isinstance(v, scenes.Pictures) else v[rows] for k, v in fields})


def only(drawn: Any, which: np.ndarray) -> Any:
    """Some objects of scenes, bool [N, 3]: what a judge reads of pictures, with the others absent."""
    return dataclasses.replace(
        drawn, **{name: np.where(which, getattr(drawn, name), -1) for name in ("classes", "colours")}
    )


def changed(drawn: scenes.Scenes) -> np.ndarray:
    """The slot of the changed object, bool [N, 3]."""
    return np.arange(3) == drawn.edited[:, None]


def edit_figures(judge: SceneJudge, x: np.ndarray, drawn: scenes.Scenes) -> dict[str, float]:
    """How often the changed object's new ("edit") and old pair ("old") is seen, and how many of the others."""
    slot = changed(drawn)
    parts = {"edit": only(drawn.twins, slot), "old": only(drawn, slot), "others": only(drawn, ~slot)}
    return {name: judge(x, part)["binding"] for name, part in parts.items()}


def changed_pairs(drawn: scenes.Scenes) -> tuple[np.ndarray, np.ndarray]:
    """The changed object's old and new class in the maps of `scene_reader`, [N] each."""
    rows = np.arange(len(drawn.edited)), drawn.edited
    old, new = (1 + len(SHAPES) * part.colours[rows] + part.classes[rows] for part in (drawn, drawn.twins))
    return old, new
