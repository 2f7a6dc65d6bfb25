"""fit_teacher: width and initial weights of a student, before anything is encoded or trained."""

import pytest

from tests.training.tiny import TINY
from zeroseg_jax.config import from_mapping
from zeroseg_jax.training.methods import fit_teacher


def configure(objective="zeroseg", **fields):
    model = {**TINY["model"], **fields.pop("model", {})}
    data = {"images": 24}
    return from_mapping({**TINY, "objective": objective, "model": model, "data": data, **fields})


@pytest.mark.parametrize("objective", ["zeroseg", "clip_zss"])
def test_a_width_of_zero_is_the_teachers(clip, objective):
    config = configure(objective, model={"embed_dim": 0})
    fitted = fit_teacher(config, clip)
    assert fitted.model.embed_dim == clip.embed_dim == 128
    assert fitted == configure(objective) == fit_teacher(fitted, clip)


def test_what_train_would_refuse_is_refused_before_encoding(clip):
    with pytest.raises(ValueError, match="model.embed_dim: 512 does not match the teacher playgr"):
        fit_teacher(configure(model={"embed_dim": 512}), clip)
    started = {**TINY["model"]["encoder"], "init": "teacher", "pre_norm": True}
    for objective in ("zeroseg", "clip_zss"):
        with pytest.raises(ValueError, match="model.encoder.width: 16 differs from 128"):
            fit_teacher(configure(objective, model={"encoder": started}), clip)
    student = {"student": {"encoder_weights": "nowhere"}}
    with pytest.raises(ValueError, match="nowhere"):
        fit_teacher(configure("clip_zss", clip_zss=student), clip)
