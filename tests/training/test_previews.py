"""Preview images of training."""

import dataclasses

import jax
import numpy as np

from zeroseg_jax.models.zeroseg import student as students
from zeroseg_jax.models.zeroseg.masking import count_visible
from zeroseg_jax.training.previews import build_previews


def test_pictures_show_what_is_left_and_what_the_decoder_makes_of_it(configure, clip):
    config = configure()
    rng = np.random.default_rng(0)
    side, patch = config.model.image_px, config.model.encoder.patch_px
    source = [{"image": rng.integers(0, 256, (side, side, 3), dtype=np.uint8)} for _ in range(2)]
    student = students.build_student(config.model)
    params = jax.jit(lambda key: students.init_params(student, key))(jax.random.key(1))
    drawn = build_previews(config, source)(params)
    assert set(drawn) == {"segments/0", "segments/1"}
    image, left, rebuilt, segments = np.split(drawn["segments/0"], 4, axis=1)
    assert (image == source[0]["image"]).all() and (segments != image).any()
    grey = np.rint(255 * np.array(config.data.mean)).astype(int)
    blocks = (left.reshape(side // patch, patch, -1, patch, 3) == grey).all(axis=(1, 3, 4))
    patches = (side // patch) ** 2
    assert blocks.sum() == patches - count_visible(patches, config.model.mask_ratio)
    removed = blocks.repeat(patch, axis=0).repeat(patch, axis=1)
    # What was visible is shown as it is; what was removed is made up, with the truth's own scale.
    assert (rebuilt == image)[~removed].all() and (rebuilt != image)[removed].mean() > 0.9


def test_pictures_of_segments_that_test_time_makes(configure):
    config = configure()
    head = dataclasses.replace(
        config.model.head, grouping="clustered", cluster_segments=7, upsampling="guided"
    )
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, head=head))
    side = config.model.image_px
    source = [{"image": np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)}]
    student = students.build_student(config.model)
    params = jax.jit(lambda key: students.init_params(student, key))(jax.random.key(1))
    drawn = build_previews(config, source)(params)["segments/0"]
    assert drawn.shape == (side, 4 * side, 3)
