"""Zero-shot accuracy of the shipped CLIP."""

import json

from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.teacher.playground.zero_shot import measure_accuracy
from zeroseg_jax.teacher.tokenizer import load_tokenizer


def test_the_shipped_clip_has_its_recorded_accuracy():
    """A little under what its record says, so that a broken loader or prompt shows."""
    clip = load_teacher("playground")
    encode = load_tokenizer(clip.directory, clip.config)
    params = {"vision": clip.vision_params, "text": clip.text_params}
    scores = measure_accuracy(params, clip.config, encode, count=480)
    record = json.loads((clip.directory / "pretrain.json").read_text())["zero_shot"]
    for question, recorded in record.items():
        assert scores[question] > recorded - 0.05
