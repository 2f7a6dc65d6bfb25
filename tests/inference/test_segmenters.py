"""A CLIP with the affinities of a second tower, "A+B", through Predictor and evaluation."""

import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax import Predictor
from zeroseg_jax.data.playground import scenes
from zeroseg_jax.evaluation.baselines import build_segmenter
from zeroseg_jax.inference import stablehlo
from zeroseg_jax.inference.batches import resize_and_lay_out
from zeroseg_jax.inference.model import load, load_readout
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.teacher.load import SHIPPED, load_teacher

CLASSES = ["star", "ring", "heart", "grass", "sky"]


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    """Return the directory of a small DINOv2 with patches of 12 px; the shipped CLIP has 8 px."""
    torch = pytest.importorskip("torch", reason="DINOv2 is written by transformers")
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    torch.manual_seed(0)
    config = Dinov2WithRegistersConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=48, patch_size=12
    )
    directory = tmp_path_factory.mktemp("dino")
    Dinov2WithRegistersModel(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def predictor(dino):
    return Predictor.from_pretrained(f"{dino}+{SHIPPED}", cache_names=False)


def test_a_pair_segments_on_the_second_towers_grid(predictor):
    model = predictor.model
    assert (model.readout, model.patch_px, model.image_px) == ("proxy", 12, 96)
    image = scenes.render(scenes.build_scene(2, 5), 120)[0][:90]
    result = predictor.segment(image, CLASSES)
    assert result.mask.shape == (90, 120) and result.mask.max() < 5
    alone = Predictor.from_pretrained(SHIPPED, readout="naclip", cache_names=False)
    assert (alone.segment(image, CLASSES).mask != result.mask).any()


def test_windows_are_read_out_from_the_same_pixels(dino, predictor):
    """The segmenter's features equal Teacher.dense of each tower's own normalisation."""
    image = scenes.render(scenes.build_scene(2, 5), 120)[0][:90]
    laid = resize_and_lay_out(image, predictor.preset, predictor.segmenter)
    window = laid.resized[None]
    assert window.shape[1] % 12 == window.shape[2] % 12 == 0 and window.shape[1] % 24
    found = np.asarray(predictor.segmenter.encode(window).features)[0]
    clip, second = load_teacher(SHIPPED), load_teacher(dino)
    pixels = ((window / 255 - np.array(clip.mean)) / np.array(clip.std)).astype(np.float32)
    features = np.asarray(clip.dense(pixels, "proxy", second))[0]
    wanted = features.reshape(-1, features.shape[-1])
    wanted = wanted / np.linalg.norm(wanted, axis=-1, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    # Both towers see one image: the second's pixels come from the first's.
    lent = second.lend_affinity(clip.mean, clip.std)
    own = (window / 255 - np.array(second.mean)) / np.array(second.std)
    np.testing.assert_allclose(
        (pixels - jnp.array(lent.mean)) / jnp.array(lent.std), own, atol=1e-5
    )


def test_evaluation_builds_a_pair_under_its_preset(dino):
    with pytest.raises(ValueError, match="proxyclip has the second tower vit and not dinov2"):
        build_segmenter(
            "dense:proxy",
            [["star"]],
            get_preset("proxyclip", "voc20", {"prompts": "playground"}),
            teacher=f"{dino}+{SHIPPED}",
        )
    preset = get_preset("proxyclip_dinov2", "voc20", {"prompts": "playground"})
    segmenter, vectors, title = build_segmenter(
        "dense:proxy", [[name] for name in CLASSES], preset, teacher=f"{dino}+{SHIPPED}"
    )
    assert segmenter.patch_px == 12 and len(vectors.class_ids) == 5
    assert title == f"dense:proxy of {dino}+{SHIPPED}"


def test_a_pair_is_exported_as_a_program(predictor, tmp_path):
    record = stablehlo.export_stablehlo(predictor.model, [["star"], ["ring"]], tmp_path)
    assert record["largest_difference"] <= 1e-4
    assert "8, 8" in record["outputs"]["features"]


def test_readouts_that_do_not_fit_the_towers(dino):
    pair = f"{dino}+{SHIPPED}"
    for call, sentence in (
        (lambda: load(pair, readout="naclip"), "naclip reads one tower; leave the affinity tower"),
        (lambda: load(SHIPPED, readout="proxy"), "proxy needs an affinity tower; name both"),
        (lambda: load_readout(dino), "no text tower; name it before a CLIP"),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()
