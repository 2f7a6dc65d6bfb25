"""Measurements of images by hand, their sums, notes and files."""

import numpy as np
import pytest

from zeroseg_jax.evaluation.measure import Measurements, measure_image


class Benchmark:
    name, class_names, has_background, seed = "two", ("background", "star"), True, 3


def item(name, label):
    label = np.array(label, np.int32)
    return {"image": np.zeros((*label.shape, 3), np.uint8), "label": label, "name": name}


def measure(benchmark, *items_and_labels):
    measured = Measurements(benchmark)
    for one, labels in items_and_labels:
        labels = np.array(labels, np.int32)
        measured.add(measure_image(benchmark, one, labels, labels))
    return measured


def test_summary_by_hand():
    measured = measure(
        Benchmark(),
        (item("a", [[0, 0], [1, 1]]), [[0, 1], [1, 1]]),
        (item("b", [[-1, 1], [1, 1]]), [[0, 1], [1, 1]]),
    )
    result = measured.summarise([1])
    # Background: 1 of 2; star: 5 of 6.
    assert result["per_class_iou"] == {"background": 50.0, "star": 83.33}
    assert result["miou"] == 66.67 and result["pixel_accuracy"] == pytest.approx(600 / 7, abs=0.01)
    assert result["split"]["unseen"] == 83.33 and result["split"]["unseen_classes"] == ["star"]
    assert result["confusion_pairs"] == [
        {"truth": "background", "prediction": "star", "pixels": 1, "share_of_truth": 50.0}
    ]
    assert result["affected"]["ignored_pixels"] == 1
    assert result["affected"]["images_with_ignored_pixels"] == 1
    assert result["diagnostics"]["segments_used_per_image"] == 2
    assert sum(result["diagnostics"]["wrong_pixels"].values()) == pytest.approx(100 / 7, abs=0.01)
    assert result["scene_seed"] == 3 and result["notes"] == []


def test_absent_classes_count_zero_where_the_benchmark_says_so():
    class ImageNetS(Benchmark):
        absent_as_zero, official_images = True, (5,)

    result = measure(ImageNetS(), (item("a", [[0, 0]]), [[0, 0]])).summarise([])
    assert result["miou"] == 50 and result["mean_over"] == "all classes, absent ones as 0"
    assert result["notes"] == ["a score on 1 of 5 images is not comparable to others"]


def test_best_median_and_worst_without_repetition():
    rows = [(item(str(i), [[0] * 12]), [[1] * i + [0] * (12 - i)]) for i in range(12)]
    measured = measure(Benchmark(), *rows, (item("void", [[-1] * 12]), [[0] * 12]))
    assert [index for _, index in measured.choose_images()] == [0, 1, 2, 5, 6, 7, 11, 10, 9]
    assert measured.choose_images()[0][0] == "best: 0, mIoU 100.0"
    assert measured.notes == ["void: every pixel is ignored (1 such images)"]
    few = measure(Benchmark(), *rows[:2])
    assert [index for _, index in few.choose_images()] == [0, 1]


def test_counts_file_holds_every_confusion(tmp_path):
    measured = measure(Benchmark(), (item("a", [[0, 1]]), [[1, 1]]), (item("void", [[-1]]), [[0]]))
    measured.write_counts(tmp_path / "counts.npz")
    with np.load(tmp_path / "counts.npz") as file:
        content = {name: file[name].tolist() for name in file.files}
    assert content == {
        "images": ["a", "void"], "classes": ["background", "star"], "lengths": [2, 0],
        "cells": [1, 3], "counts": [1, 1],
    }  # fmt: skip
