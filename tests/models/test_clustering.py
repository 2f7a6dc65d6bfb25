"""The project's own grouping and read-out: clusters of patches, class tokens of regions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax import teacher
from zeroseg_jax.config import ConfigError, from_mapping
from zeroseg_jax.models.zeroseg import student as students
from zeroseg_jax.models.zeroseg.grouping import cluster_patches

SETTINGS = {"level": 0.7, "temperature": 0.05, "iterations": 5}


def blobs(*directions, each=6, noise=0.05):
    rng = np.random.default_rng(0)
    rows = np.repeat(np.eye(8, dtype=np.float32)[list(directions)], each, axis=0)
    return rows + noise * rng.normal(size=rows.shape).astype(np.float32)


def test_every_blob_is_a_segment_and_the_rest_stays_empty():
    features = np.stack([blobs(0, 1, 2), blobs(3, 3, 5)])
    assignment = np.asarray(cluster_patches(features, 5, **SETTINGS))
    np.testing.assert_allclose(assignment.sum(axis=1), 1, rtol=1e-5)
    for image, groups in ((0, [range(6), range(6, 12), range(12, 18)]), (1, [range(12)])):
        winners = assignment[image].argmax(axis=0)
        for group in groups:
            assert len(set(winners[list(group)])) == 1
    assert [(a.sum(axis=1) > 0).sum() for a in assignment] == [3, 2]


def test_more_blobs_than_segments_still_covers_every_patch():
    assignment = cluster_patches(blobs(0, 1, 2, 3)[None], 2, **SETTINGS)
    np.testing.assert_allclose(assignment.sum(axis=1), 1, rtol=1e-5)


def test_scale_of_features_and_order_of_patches_change_nothing():
    features = blobs(0, 1, 4)[None]
    order = np.random.default_rng(1).permutation(18)
    one = np.asarray(cluster_patches(features, 4, **SETTINGS))
    two = np.asarray(cluster_patches(7 * features[:, order], 4, **SETTINGS))
    np.testing.assert_allclose(one[..., order], two, atol=1e-4)


def playground(**head):
    model = {
        "image_px": 48,
        "embed_dim": 128,
        "mask_ratio": 0.25,
        "encoder": {"width": 128, "depth": 4, "heads": 2, "patch_px": 8, "init": "teacher",
                    "activation": "quick_gelu", "norm_eps": 1e-5, "pre_norm": True,
                    "positions": "learned"},
        "decoder": {"width": 16, "depth": 1, "heads": 2},
        "head": {"width": 16, "heads": 2, "z_hidden": 16, **head},
    }  # fmt: skip
    return from_mapping({"model": model}).model


@pytest.mark.parametrize("grouping", ["learned", "clustered"])
def test_one_region_of_everything_reads_out_what_the_teacher_says(grouping):
    clip = teacher.load("playground")
    model = playground(region_readout=True, grouping=grouping, all_levels=True)
    student = students.build_student(model)
    params = students.init_params(student, jax.random.key(0))
    params = students.init_from_teacher(params, clip.vision_params, model)
    pixels = np.random.default_rng(0).normal(size=(2, 48, 48, 3)).astype(np.float32)

    def read(module, images, assignment):
        _, inputs = module.encoder(images)
        return module.region_projection(module.encoder.read_regions(inputs, assignment))

    everything = np.zeros((2, 3, 36), np.float32)
    everything[:, 0] = 1
    everything[:, 1, :18] = everything[:, 2, 18:] = 1
    regions = student.apply({"params": params}, pixels, everything, method=read)
    wanted = clip.encode_images(pixels)
    np.testing.assert_allclose(regions[:, 0], wanted, atol=2e-4)  # features are about 2
    assert np.abs(regions[:, 1] - wanted).max() > 0.1


def test_clustered_student_segments_and_trains():
    model = playground(region_readout=True, grouping="clustered", all_levels=True)
    student = students.build_student(model)
    params = students.init_params(student, jax.random.key(0))
    params = students.set_feature_mean(params, jnp.ones(128))
    assert params["head"]["feature_mean"][0] == params["region_projection"]["bias"][0] == 1
    images = np.random.default_rng(0).normal(size=(2, 48, 48, 3)).astype(np.float32)
    outputs = students.apply_train(student, params, images, key=jax.random.key(1))
    seen = 1 - np.asarray(outputs.mask)
    np.testing.assert_allclose(outputs.assignment.sum(axis=1), seen, atol=1e-5)
    assert (np.asarray(outputs.patch_features)[seen == 0] == 0).all()
    assert np.isfinite(outputs.segments).all()
    maps = students.apply_segment(student, params, images).maps
    np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-5)


def test_patch_term_needs_clustered_grouping():
    with pytest.raises(ConfigError, match="loss.patch: needs model.head.grouping='clustered'"):
        from_mapping({"loss": {"patch": 1.0}})
    config = from_mapping({"loss": {"patch": 1.0}, "model": {"head": {"grouping": "clustered"}}})
    assert dataclasses.asdict(config)["loss"]["patch"] == 1.0
