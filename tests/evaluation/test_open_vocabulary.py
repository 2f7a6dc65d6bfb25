"""Open vocabulary: vocabulary files, the best class names of each segment."""

import numpy as np
import pytest

from zeroseg_jax.evaluation import open_vocabulary as vocabulary
from zeroseg_jax.inference import presets
from zeroseg_jax.inference.scoring import Encoded, Scored, pack_classes


def test_ids_of_imagenet_are_no_words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("n01440764; tench\nn02012849; crane\ncrane; hoist\n")
    assert vocabulary.read_vocabulary(str(path)) == [["tench"], ["crane"], ["crane", "hoist"]]
    for content, sentence in (
        ("tench\n\ncrane\n", "line 2: a blank line"),
        ("tench\nn02012849\n", "line 2 has an id and no word"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=sentence):
            vocabulary.read_vocabulary(str(path))


class Halves:
    """Left looks like word 900, then 3; right like word 7, then 900; of a thousand."""

    image_px, patch_px, windows_per_call, logit_scale = 16, 8, 1, 10.0

    @staticmethod
    def encode(windows):
        return Encoded(windows, None, None)

    @staticmethod
    def score(encoded, classes, preset):
        table = np.zeros((1, 2, 1000), np.float32)
        table[0, 0, [900, 3]], table[0, 1, [7, 900]] = (0.9, 0.5), (0.8, 0.4)
        right = np.broadcast_to(np.arange(16) >= 6, (1, 16, 16)).astype(int)
        return Scored(table, right)


def test_best_words_of_each_part():
    changes = {"short_side_px": "0", "window_px": "0", "stride_px": "0", "logit_scale": "0"}
    classes = pack_classes([np.ones((1, 1), np.float32)] * 1000)
    preset = presets.get_preset("sclip", "folder", changes)
    image = np.full((40, 40, 3), 200, np.uint8)
    names = [f"word {i}" for i in range(1000)]
    ids, found = vocabulary.name_segments(Halves(), image, classes, names, preset, 2)
    assert [[w["word"] for w in region["words"]] for region in found] == [
        ["word 7", "word 900"],
        ["word 900", "word 3"],
    ]
    assert found[0]["share"] == pytest.approx(0.625, abs=0.03)
    assert (ids[:, :12] == 1).all() and (ids[:, 20:] == 0).all()
    scores = [w["score"] for w in found[0]["words"]]
    e = np.exp(10 * np.array([0.8, 0.4]))
    np.testing.assert_allclose(scores, e / (e.sum() + 998), atol=2e-3)
    picture = vocabulary.draw_words(image, ids, found)
    assert picture.height > 40
