"""Formats of other programs: LabelMe's masks, output of transformers' pipelines."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.inference.segmentation import Segmentation


@pytest.fixture
def result():
    mask = np.zeros((40, 60), np.uint8)
    mask[5:15, 8:31] = 1
    mask[8, 10] = 0  # a hole
    mask[30:, 50:] = 2
    image = np.zeros((40, 60, 3), np.uint8)
    scores = np.where(mask == 1, np.float32(0.75), np.float32(0.5))
    return Segmentation(
        image, mask, scores, mask, ("background", "dog", "car", "moon"), "m", "dir/a.jpg"
    )


def test_masks_of_labelme_give_the_mask_back(result):
    content = json.loads(json.dumps(result.to_labelme()))
    assert [shape["label"] for shape in content["shapes"]] == ["dog", "car"]
    assert (content["imagePath"], content["imageHeight"], content["imageWidth"]) == (
        "dir/a.jpg", 40, 60,
    )  # fmt: skip
    for index, shape in enumerate(content["shapes"], start=1):
        assert shape["shape_type"] == "mask" and shape["group_id"] is None
        # As LabelMe reads it: the corners are pixels of the mask, both inside.
        (left, top), (right, bottom) = shape["points"]
        part = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))).astype(bool)
        assert part.shape == (bottom - top + 1, right - left + 1)
        whole = np.zeros(result.mask.shape, bool)
        whole[top : bottom + 1, left : right + 1] = part
        np.testing.assert_array_equal(whole, result.mask == index)


def test_a_pipelines_list_has_a_mask_for_each_class(result):
    dog, car = result.to_pipeline()
    assert (dog["label"], dog["score"], car["label"], car["score"]) == ("dog", 0.75, "car", 0.5)
    np.testing.assert_array_equal(np.asarray(dog["mask"]) == 255, result.mask == 1)
    assert set(np.unique(np.asarray(car["mask"]))) == {0, 255}
    assert result.to_coco() == result.to_polygons("coco")


@pytest.mark.slow
def test_a_pipeline_of_transformers_returns_the_same_kinds():
    """An untrained model of three classes, in the pipeline that users know."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 8, 8], num_attention_heads=[1, 1, 1, 1], depths=[1, 1, 1, 1],
        decoder_hidden_size=8, id2label={0: "sky", 1: "dog", 2: "car"},
    )  # fmt: skip
    pipeline = transformers.pipeline(
        "image-segmentation",
        model=transformers.SegformerForSemanticSegmentation(config),
        image_processor=transformers.SegformerImageProcessor(size={"height": 64, "width": 64}),
    )
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    theirs = pipeline(image)
    mask = np.full((40, 60), 1, np.uint8)
    scores = np.full(mask.shape, 0.5, np.float32)
    ours = Segmentation(
        np.asarray(image), mask, scores, mask, ("sky", "dog", "car"), "m"
    ).to_pipeline()
    for one, other in ((ours[0], record) for record in theirs):
        assert set(one) == set(other) == {"score", "label", "mask"}
        assert isinstance(one["label"], type(other["label"]))
        # A semantic pipeline leaves the score None; a panoptic one gives a float.
        assert isinstance(one["score"], float) and isinstance(other["score"], float | None)
        assert (one["mask"].mode, one["mask"].size) == (other["mask"].mode, other["mask"].size)
        assert set(np.unique(np.asarray(other["mask"]))) <= {0, 255}
