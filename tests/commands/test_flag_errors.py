"""Sentences for what absl refuses, from its own exceptions."""

import pytest
from absl import flags

from zeroseg_jax.commands.flag_errors import explain

EXAMPLE = "zeroseg test FILE --words=a"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], f"--words: missing; for example: {EXAMPLE}"),
        (["--words"], f"--words: its value is missing; for example: {EXAMPLE}"),
        (["--words=a", "--detial=2"], "--detial: no such flag; did you mean --detail?"),
        (["--words=a", "--xyz=2"], "--xyz: no such flag; known: words, detail, share, cutout, "
         "refine, models."),
        (["--words=a", "--detail=two"], "--detail: 'two' is not a whole number; give one."),
        (["--words=a", "--detail=0"], "--detail: 0 is not a positive integer."),
        (["--words=a", "--share=much"], "--share: 'much' is not a number; give one."),
        (["--words=a", "--cutout=maybe"],
         "--cutout: 'maybe' is neither true nor false; give one of the two."),
        (["--words=a", "--refine=gided"], "--refine: 'gided' is not one of guided, none."),
    ],
)  # fmt: skip
def test_errors_of_the_parser_are_one_sentence(arguments, sentence):
    own = flags.FlagValues()
    flags.DEFINE_string("words", None, "", flag_values=own, required=True)
    flags.DEFINE_integer("detail", 1, "", 1, flag_values=own)
    flags.DEFINE_float("share", 1.0, "", flag_values=own)
    flags.DEFINE_boolean("cutout", False, "", flag_values=own)
    flags.DEFINE_enum("refine", None, ["guided", "none"], "", flag_values=own)
    flags.DEFINE_list("models", [], "", flag_values=own)
    argv = ["zeroseg test", *arguments]
    with pytest.raises(flags.Error) as caught:
        own(argv)
    names = ["words", "detail", "share", "cutout", "refine", "models"]
    assert explain(caught.value, argv, names, EXAMPLE) == sentence
