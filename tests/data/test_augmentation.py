"""Random scale, crop and colour: images and label maps stay together, batches are reproducible."""

import colorsys
import itertools

import numpy as np
import pytest

from tests.training.test_clip_zss import TINY
from zeroseg_jax.config import ConfigError, from_mapping
from zeroseg_jax.data import augmentation
from zeroseg_jax.data.augmentation import Augmentation, build_augmentation
from zeroseg_jax.data.pipeline import build_train_iterator

SIDE, STRIDE = 64, 4
FILL = (10, 20, 30)


def draw_record(index):
    """Four quadrants with the ids 0 to 3; red is 60 times the id."""
    cells = np.zeros((SIDE // STRIDE,) * 2, np.int16)
    cells[:, SIDE // STRIDE // 2 :] += 1
    cells[SIDE // STRIDE // 2 :] += 2
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[..., 0] = 60 * cells.repeat(STRIDE, 0).repeat(STRIDE, 1)
    image[..., 1] = 100
    local = np.full((4, 3), index, np.float16)
    return {"image": image, "fused": cells, "local": local, "index": index, "name": str(index)}


class Records:
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return draw_record(index)


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.0, 1.3, 2.0, 3.7])
def test_labels_follow_the_pixels_and_padding_has_none(scale):
    augment = Augmentation((scale, scale), 1.0, False, FILL)
    for seed in range(5):
        found = augment(draw_record(0), np.random.default_rng(seed))
        image, fused = found["image"], found["fused"]
        assert image.shape == (SIDE, SIDE, 3) and image.dtype == np.uint8
        assert fused.shape == (SIDE // STRIDE,) * 2 and fused.dtype == np.int16
        edge = round(SIDE * scale)
        # The pixels around a cell's centre have its colour, away from the quadrants' borders.
        for i, j in itertools.product(range(len(fused)), repeat=2):
            y, x = (int(STRIDE * (place + 0.5)) for place in (i, j))
            around = image[y - 1 : y + 1, x - 1 : x + 1, 0]
            if fused[i, j] == augmentation.IGNORE:
                assert max(y, x) >= edge and tuple(image[y, x]) == FILL
            elif np.ptp(around) == 0 and max(y, x) + 1 < edge:
                assert around[0, 0] == 60 * fused[i, j], (i, j)
        assert (fused == augmentation.IGNORE).any() == (scale < 1)
        np.testing.assert_array_equal(found["local"], draw_record(0)["local"])


def test_crops_of_mostly_one_class_are_drawn_again():
    drawn = {}
    for share in (1.0, 0.75):
        augment = Augmentation((2.0, 2.0), share, False, FILL)
        largest = []
        for seed in range(60):
            ids = augment(draw_record(0), np.random.default_rng(seed))["fused"]
            counts = np.unique(ids, return_counts=True)[1]
            largest.append(counts.max() / counts.sum())
        drawn[share] = np.array(largest)
    assert (drawn[1.0] >= 0.75).mean() > 0.05
    assert (drawn[0.75] < 0.75).all()


def test_colours_change_within_their_limits():
    """One grey pixel: saturation and hue leave it, brightness and contrast move it."""
    grey = np.full((1, 1, 3), 100, np.uint8)
    values = set()
    for seed in range(300):
        (pixel,) = augmentation.distort(grey, np.random.default_rng(seed))[0]
        assert len(set(pixel.tolist())) == 1
        values.add(int(pixel[0]))
    assert 100 in values and 34 <= min(values) < 50 and 175 < max(values) <= 198


@pytest.mark.parametrize(("saturation", "hue"), [(0.5, 0), (1.5, 0), (1.0, 17), (1.3, -18)])
def test_saturation_and_hue_equal_the_textbook(saturation, hue):
    """Pixel by pixel in floats; Pillow rounds hue, saturation and value to bytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    found = augmentation._shift_colour(pixels, saturation, hue).reshape(-1, 3)
    for pixel, result in zip(pixels.reshape(-1, 3), found, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(pixel / 255))
        wanted = colorsys.hsv_to_rgb((h + 2 * hue / 360) % 1, min(s * saturation, 1), v)
        np.testing.assert_allclose(result, np.array(wanted) * 255, atol=8)


def take(batches, **options):
    augment = Augmentation((0.5, 2.0), 0.75, True, FILL)
    options = {"batch_per_host": 8, "seed": 3, "augment": augment, **options}
    iterator = build_train_iterator(Records(), **options)
    return list(itertools.islice(iterator, batches))


def equal(first, second):
    return all(np.array_equal(first[key], second[key]) for key in first)


def test_a_batch_is_a_function_of_the_seed_and_the_step_alone():
    whole = take(12)
    late = take(7, start_step=5)
    assert all(equal(a, b) for a, b in zip(whole[5:], late, strict=True))
    assert all(equal(a, b) for a, b in zip(take(3, workers=2), whole[:3], strict=True))
    halves = [take(12, batch_per_host=4, host_index=i, host_count=2) for i in range(2)]
    for step, batch in enumerate(whole):
        joined = {key: np.concatenate([half[step][key] for half in halves]) for key in batch}
        assert equal(batch, joined)
    # The same image is another one in the next epoch.
    epochs = [{int(i): image for batch in part for i, image in zip(batch["index"], batch["image"],
              strict=True)} for part in (whole[:5], whole[5:10])]  # fmt: skip
    assert sum(np.array_equal(epochs[0][i], epochs[1][i]) for i in range(40)) < 5
    assert not equal(whole[0], take(1, seed=4)[0])


def configure(teacher=(1,), **augment):
    groups = {**TINY["clip_zss"], "augment": augment}
    return from_mapping({**TINY, "teacher": {"grids": teacher}, "clip_zss": groups})


def test_settings_and_refusals():
    assert build_augmentation(from_mapping(TINY)) is None
    found = build_augmentation(configure(scales=(0.5, 2.0), class_share=0.75))
    assert found == Augmentation((0.5, 2.0), 0.75, False, (124, 116, 104))
    assert build_augmentation(configure(colour=True)).scales == (1.0, 1.0)
    for grids, settings, sentence in (
        ((1,), {"scales": (2.0, 0.5)}, "scales: .2.0, 0.5. falls"),
        ((1,), {"class_share": 0.75}, "class_share: 0.75 chooses among crops"),
        ((1, 2), {"scales": (0.5, 2.0)}, r"set teacher.grids=\(1,\)"),
        ((1,), {"scales": (0.0, 2.0)}, r"clip_zss.augment.scales\[0\]: 0.0 is out of range"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            configure(grids, **settings)
