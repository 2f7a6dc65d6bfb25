"""A CLIP-ZSS student with words: its encoder and text embeddings, nothing else."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.evaluation import assign
from zeroseg_jax.models import dense_student as dense


class DenseStudentSegmenter:
    """Scores pixels by the softmax of alpha cos(R, T); text is float32 (C, E), unit rows.

    The scores of the student's grid are enlarged before the softmax, as in training.

    Source: CLIP-ZSS (arXiv 2310.02296), inference.
    """

    def __init__(self, params: Any, config: Config, text: np.ndarray):
        self.native_px = config.model.image_px
        self.patch_px = dense.patch_px(config.model, config.zss)
        student = dense.build_dense_student(config.model, config.zss)
        mean, std = (jnp.array(v, jnp.float32) for v in (config.data.mean, config.data.std))

        @jax.jit
        def score(params, text, window):
            features = dense.apply_dense(student, params, (window / 255 - mean) / std)
            logits = config.zss.alpha * assign.unit(features) @ text.T
            shape = (*window.shape[:3], len(text))
            scores = jax.nn.softmax(
                jax.image.resize(logits, shape, "bilinear", antialias=False), axis=-1
            )
            return scores, scores.argmax(axis=-1)

        # Without the synthesizer, which works in training only.
        kept = {name: part for name, part in params.items() if name != "synthesizer"}
        self.score = functools.partial(score, kept, jnp.asarray(text))
