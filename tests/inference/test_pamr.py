"""PAMR against its public definition, and its effect at an edge."""

import numpy as np
import pytest

from zeroseg_jax.inference import canvas, guide_image, labelling
from zeroseg_jax.inference import pamr as refine
from zeroseg_jax.inference.label_rules import LabelRule
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.inference.scoring import Scored
from zeroseg_jax.inference.windows import Layout


def refine_by_kernels(scores, image, dilations, iterations):
    """PAMR by its public definition: kernels of 3 x 3 taps at each dilation, float64.

    Eight taps are neighbours. The local deviation takes all nine taps of every dilation, so the
    centre counts once for each of them (visinf/1-stage-wseg, LocalStDev).
    """

    def taps(array, with_centre):
        height, width = array.shape[:2]
        found = []
        for d in dilations:
            padded = np.pad(array, ((d, d), (d, d), (0, 0)), mode="edge")
            for row in range(3):
                for column in range(3):
                    if with_centre or (row, column) != (1, 1):
                        top, left = row * d, column * d
                        found.append(padded[top : top + height, left : left + width])
        return np.stack(found)

    spread = taps(image, True).std(axis=0, ddof=1)
    affinity = -np.abs(taps(image, False) - image) / (1e-8 + 0.1 * spread)
    affinity = affinity.mean(axis=-1, keepdims=True)
    weights = np.exp(affinity - affinity.max(axis=0))
    weights /= weights.sum(axis=0)
    for _ in range(iterations):
        scores = (weights * taps(scores, False)).sum(axis=0)
    return scores


@pytest.mark.parametrize("dilations", [(1,), (1, 3), (1, 2, 4, 8)])
def test_equals_the_public_definition(dilations):
    """Of an image of 7 x 9 px, padded at the bottom and at the right."""
    rng = np.random.default_rng(0)
    image, scores = rng.random((7, 9, 3)), rng.random((7, 9, 4))
    padding = ((0, 5), (0, 3), (0, 0))
    weights = refine.weigh_neighbours(
        np.pad(image, padding, mode="edge").astype(np.float32), dilations=dilations
    )
    found = refine.refine_scores(
        np.pad(scores, padding).astype(np.float32), weights, np.array([7, 9]),
        dilations=dilations, iterations=3,
    )[:7, :9]  # fmt: skip
    expected = refine_by_kernels(scores, image, dilations, 3)
    # Weights are exponentials of float32 differences over a tenth of a deviation.
    np.testing.assert_allclose(found, expected, atol=2e-5)


def label(scored, image, **changes):
    preset = get_preset("zeroseg", "playground/full", {"refine": "pamr", **changes})
    side = scored.segment_ids.shape[1]
    merged = canvas.merge(Layout(side, side, (side, side), [0], [0]), scored, 8, 2)
    guide = guide_image.build_guide(image, preset)
    return labelling.label_image(merged, image.shape[:2], LabelRule(np.arange(2)), preset, guide)


def test_blurred_scores_snap_to_the_edge_of_the_image():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 13:] = 200
    ramp = np.clip((np.arange(32) - 6) / 20, 0, 1).astype(np.float32)  # crosses 0.5 at 16, not 13
    columns = np.broadcast_to(np.arange(32), (1, 32, 32))  # a segment each
    scored = Scored(np.stack([1 - ramp, ramp], axis=-1)[None], columns)
    truth = (np.arange(32) >= 13).astype(int)
    blurred = label(scored, image, pamr_dilations="")
    sharp = label(scored, image, pamr_dilations="1;4")
    assert (blurred.labels != truth).any()
    np.testing.assert_array_equal(sharp.labels, np.broadcast_to(truth, (32, 32)))
    assert sharp.scores.shape == (32, 32) and sharp.scores.max() <= 1


def test_portrait_and_landscape_agree():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (96, 64, 3), dtype=np.uint8)
    ids = rng.integers(0, 4, (16, 16)).astype(np.uint8)
    table = rng.random((1, 4, 2)).astype(np.float32)
    upright = label(Scored(table, ids[None]), image, pamr_dilations="1;2")
    wide = label(Scored(table, ids.T[None]), image.swapaxes(0, 1), pamr_dilations="1;2")
    np.testing.assert_allclose(upright.scores, wide.scores.T, atol=1e-6)


def test_the_guide_of_a_protocol_may_be_the_models_input():
    """NACLIP refines along the resized image, enlarged again by torch's bilinear rule."""
    torch = pytest.importorskip("torch", reason="parity needs torch: pip install .[parity]")
    resized = np.random.default_rng(0).uniform(0, 255, (30, 41, 3)).astype(np.float32)
    image = np.zeros((61, 83, 3), np.uint8)
    preset = get_preset("naclip", "voc20")
    guide = guide_image.build_guide(image, preset, resized)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(resized).permute(2, 0, 1)[None], size=(61, 83), mode="bilinear"
    )[0].permute(1, 2, 0)
    np.testing.assert_allclose(guide, wanted.numpy(), atol=1e-3)
    with pytest.raises(ValueError, match="as the model gets it"):
        guide_image.build_guide(image, preset)


def test_large_images_are_refined_at_the_presets_size():
    image = np.zeros((200, 200, 3), np.uint8)
    image[:, 100:] = 255
    right = np.broadcast_to(np.arange(16) >= 8, (1, 16, 16)).astype(int)
    scored = Scored(np.eye(2, dtype=np.float32)[None], right)
    labels = label(scored, image, pamr_dilations="1;2", pamr_short_px="64").labels
    assert labels.shape == (200, 200)
    assert (labels[:, :98] == 0).all() and (labels[:, 102:] == 1).all()
