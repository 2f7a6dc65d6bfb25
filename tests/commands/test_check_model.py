"""Names that `zeroseg check-model` refuses; tests/test_photographs.py has its checks."""

import pytest

from zeroseg_jax.commands import check_model


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [([], "give one name"), (["a", "b"], "give one name"), (["playground"], "ships with the")],
)
def test_one_public_name_is_needed(arguments, sentence):
    with pytest.raises(ValueError, match=f"^check-model: .*{sentence}"):
        check_model.main(arguments)


def test_an_unknown_name_is_not_a_flag(zeroseg):
    done = zeroseg("check-model", "clip-b17")
    assert done.returncode == 2
    assert "check-model: 'clip-b17'" in done.stderr and "did you mean clip-b16" in done.stderr
