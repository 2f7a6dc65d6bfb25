"""Open vocabulary: vocabulary files, the best class names of each segment, a folder of images."""

import json

import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.evaluation import open_vocabulary
from zeroseg_jax.inference import presets
from zeroseg_jax.inference.scoring import Encoded, Scored, pack_classes

NAMES = [f"name {i}" for i in range(1000)]


def test_ids_of_imagenet_are_dropped(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("n01440764; tench\nn02012849; crane\ncrane; hoist\n")
    read = open_vocabulary.read_vocabulary
    assert read(str(path)) == [["tench"], ["crane"], ["crane", "hoist"]]
    for content, sentence in (
        ("tench\n\ncrane\n", "line 2: a blank line"),
        ("tench\nn02012849\n", "line 2 has an id and no class name"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=sentence):
            read(str(path))


class Halves:
    """Segmenter: the left scores names 900, then 3; the right 7, then 900; of a thousand."""

    image_px, patch_px, windows_per_call, logit_scale = 16, 8, 1, 10.0
    seen_names = frozenset()

    def encode(self, windows):
        right = np.broadcast_to(np.arange(16) >= 6, (1, 16, 16)).astype(np.uint8)
        return Encoded(np.zeros((1, 2, 1), np.float32), None, right)

    def score(self, encoded, classes, preset):
        table = np.zeros((1, 2, 1000), np.float32)
        table[0, 0, [900, 3]], table[0, 1, [7, 900]] = (0.9, 0.5), (0.8, 0.4)
        return Scored(table, encoded.segment_ids)


CLASSES = pack_classes([np.ones((1, 1), np.float32)] * 1000)
CHANGES = {"short_side_px": "0", "window_px": "0", "stride_px": "0", "logit_scale": "10"}
PRESET = presets.get_preset("sclip", "folder", CHANGES)


def test_best_names_of_each_segment():
    image = np.full((40, 40, 3), 200, np.uint8)
    ids, found = open_vocabulary.name_segments(Halves(), image, CLASSES, NAMES, PRESET, 2)
    assert [[w["word"] for w in region["words"]] for region in found] == [
        ["name 7", "name 900"],
        ["name 900", "name 3"],
    ]
    assert found[0]["share"] == pytest.approx(0.625, abs=0.03)
    assert (ids[:, :12] == 1).all() and (ids[:, 20:] == 0).all()
    scores = [w["score"] for w in found[0]["words"]]
    e = np.exp(10 * np.array([0.8, 0.4]))
    np.testing.assert_allclose(scores, e / (e.sum() + 998), atol=2e-3)
    assert open_vocabulary.draw_names(image, ids, found).height > 40


@pytest.mark.parametrize("others", [0, 1])
def test_a_folder_with_an_unreadable_image(tmp_path, others):
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(folder / "deep" / "a.png")
    (folder / "b.png").write_bytes(b"no image")
    (folder / "c.txt").write_text("no image either")
    paths = open_vocabulary.list_images(folder)
    assert [path.name for path in paths] == ["b.png", "a.png"]
    assert open_vocabulary.list_images(folder, 1) == paths[:1]
    models = {f"model {i}": (Halves(), CLASSES) for i in range(1 + others)}
    lines = []
    errors = open_vocabulary.name_images(
        folder, paths, models, NAMES, PRESET, tmp_path / "out", top=1, log=lines.append
    )
    assert len(errors) == 1 and "b.png" in errors[0]
    assert lines == ["deep/a.png: name 7, name 900"]
    record = json.loads((tmp_path / "out" / "words.json").read_text())
    assert record["models"] == list(models) and record["words"] == 1000
    assert [len(image["models"]) for image in record["images"]] == [1 + others]
    assert (tmp_path / "out" / "a" / "deep" / "a.png.png").is_file()
    assert (tmp_path / "out" / "vote.html").is_file() == bool(others)
    with pytest.raises(ValueError, match="no images"):
        open_vocabulary.list_images(tmp_path / "out" / "missing")
