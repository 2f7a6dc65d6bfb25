"""Crumbs of labels on photographs, from coarse score maps drawn by hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from zeroseg_jax.inference import guided

ROOT = Path(__file__).parent.parent.parent
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "imagenet-sample"
# Rough outlines of the first class in pixels of the photograph; the last class is the rest.
DRAWN = {
    "n02113023_Pembroke": [
        (2, 98), (55, 92), (78, 110), (70, 196), (28, 175), (12, 140), (12, 98),
    ],
    "n02099601_golden_retriever": [
        (80, 125), (150, 110), (190, 190), (205, 230), (150, 345), (70, 320), (45, 220),
    ],
    "n02056570_king_penguin": [
        (95, 75), (120, 48), (200, 90), (227, 215), (160, 222), (140, 130),
    ],
    "n04285008_sports_car": [
        (39, 110), (120, 45), (230, 45), (430, 100), (440, 185), (230, 210), (60, 180),
    ],
    "n02058221_albatross": [
        (35, 115), (130, 95), (230, 40), (330, 95), (376, 256), (140, 256), (110, 150),
    ],
}  # fmt: skip


def draw_scores(size, outline):
    """Scores on a 24-row grid of patches: blurred, with correlated noise and six odd tokens."""
    width, height = size
    scale = 24 / min(size)
    grid = (round(width * scale), round(height * scale))
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    inside = np.asarray(mask.resize(grid, Image.Resampling.BOX), np.float32) / 255
    inside = ndimage.gaussian_filter(inside, 0.6)
    rng = np.random.default_rng(3)
    scores = np.stack([inside, 1 - inside], axis=-1)
    noise = ndimage.gaussian_filter(rng.standard_normal(scores.shape), (1, 1, 0))
    scores += 0.22 * noise / noise.std()
    for _ in range(6):
        scores[rng.integers(grid[1]), rng.integers(grid[0]), rng.integers(2)] += 0.9
    return scores.astype(np.float32)


def count_crumbs(labels):
    sizes = [np.bincount(ndimage.label(labels == k)[0].ravel())[1:] for k in np.unique(labels)]
    return int((np.concatenate(sizes) < 0.002 * labels.size).sum())


def check(image, outline):
    scores = draw_scores(image.size, outline)
    twice = image.resize((2 * image.width, 2 * image.height), Image.Resampling.LANCZOS)
    pixels = np.asarray(twice)
    labels, _ = guided.label_patches(scores, pixels, np.arange(2), softmax_scale=5.0)
    assert count_crumbs(labels) <= 2
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    drawn = np.asarray(mask.resize(twice.size)) > 127
    found = labels == 0
    assert (drawn & found).sum() > 0.6 * (drawn | found).sum()


@pytest.mark.parametrize("name", DRAWN)
def test_photographs_have_at_most_two_crumbs(name):
    path = PHOTOGRAPHS / f"{name}.jpg"
    if not path.is_file():
        pytest.skip(f"../shared/data/imagenet-sample/{path.name} is not beside the repository")
    check(Image.open(path).convert("RGB"), DRAWN[name])


def test_a_textured_image_has_at_most_two_crumbs():
    rng = np.random.default_rng(0)
    outline = [(60, 40), (200, 60), (220, 170), (80, 190)]
    mask = Image.new("L", (320, 240))
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    level = np.where(np.asarray(mask)[..., None] > 0, (160, 110, 60), (90, 120, 90))
    noisy = np.clip(level + rng.normal(0, 35, level.shape), 0, 255).astype(np.uint8)
    check(Image.fromarray(noisy), outline)
