"""Crumbs of labels on photographs, from coarse score maps that are drawn over them.

Five photographs are drawn by bench.speed.full_size. Five of ImageNet are read from the folder of
$ZEROSEG_PHOTOGRAPHS, where there is one.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bench.speed.full_size import (
    PHOTOGRAPHS,
    count_crumbs,
    draw_photograph,
    draw_scores,
    label_drawing,
    label_photograph,
)
from zeroseg_jax.inference import guided

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


@pytest.mark.parametrize("number", range(PHOTOGRAPHS))
def test_drawn_photographs_have_at_most_two_crumbs(number):
    crumbs, iou = label_drawing(*draw_photograph(number))
    assert crumbs <= 2 and iou > 0.95


def test_crumbs_are_there_without_their_removal(monkeypatch):
    """So that the count could fail: the same labels, odd patches and small components kept."""
    monkeypatch.setattr(guided, "flip_odd_patches", lambda scores: scores)
    monkeypatch.setattr(guided.components, "join_small", lambda labels, least: labels)
    counts = [label_drawing(*draw_photograph(number))[0] for number in range(PHOTOGRAPHS)]
    assert sum(counts) > 2 * PHOTOGRAPHS


@pytest.mark.parametrize("name", DRAWN)
def test_photographs_have_at_most_two_crumbs(name):
    folder = os.environ.get("ZEROSEG_PHOTOGRAPHS", "")
    path = Path(folder) / f"{name}.jpg"
    if not folder or not path.is_file():
        pytest.skip(f"{path.name} is not in the folder of $ZEROSEG_PHOTOGRAPHS")
    image = Image.open(path).convert("RGB")
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).polygon(DRAWN[name], fill=255)
    twice = (2 * image.width, 2 * image.height)
    pixels = np.asarray(image.resize(twice, Image.Resampling.LANCZOS))
    scores = draw_scores(np.asarray(mask) > 127)
    labels, _ = label_photograph(scores, pixels)
    assert count_crumbs(labels) <= 2
    drawn, found = np.asarray(mask.resize(twice)) > 127, labels == 0
    assert (drawn & found).sum() > 0.6 * (drawn | found).sum()
