"""zeroseg convert_teacher: from a state dict on disk to a directory that loads."""

import pytest
from absl import flags
from small_clips import random_tensors, same, save, to_open_clip

from zeroseg_jax.commands import convert_teacher
from zeroseg_jax.teacher.load import load_teacher

torch = pytest.importorskip("torch", reason="converting needs torch: pip install .[convert]")


@pytest.fixture
def run(monkeypatch):
    """Run the command with flags of its own, apart from absl's global ones."""
    values = flags.FlagValues()
    monkeypatch.setattr(convert_teacher, "FLAGS", values)
    for name in ("DEFINE_string", "DEFINE_enum", "DEFINE_integer", "mark_flag_as_required"):
        whole = getattr(flags, name)
        monkeypatch.setattr(
            convert_teacher.absl_flags, name,
            lambda *args, whole=whole, **more: whole(*args, flag_values=values, **more),
        )  # fmt: skip
    convert_teacher.define_flags()
    return lambda *arguments: convert_teacher.main(values(["zeroseg", *map(str, arguments)])[1:])


def test_a_state_dict_becomes_a_teacher(run, tmp_path, capsys):
    tensors = random_tensors()
    path = tmp_path / "open_clip.pt"
    torch.save({name: torch.from_numpy(v) for name, v in to_open_clip(tensors).items()}, path)
    run(path, f"--output={tmp_path / 'out'}", "--activation=quick_gelu")
    same(load_teacher(tmp_path / "out"), load_teacher(save(tmp_path / "hf", tensors)))
    printed = capsys.readouterr().out
    assert str(path) in printed and f"{len(tensors)} tensors" in printed
    with pytest.raises(ValueError, match="FILE: 2 are given"):
        run(path, path, f"--output={tmp_path / 'again'}")


def test_config_is_a_file_of_hugging_face_and_no_recipe(zeroseg, tmp_path):
    tensors = random_tensors()
    save(tmp_path / "hf", tensors)
    torch.save({k: torch.from_numpy(v) for k, v in tensors.items()}, tmp_path / "hf.bin")
    done = zeroseg(
        "convert_teacher", tmp_path / "hf.bin", "--config", tmp_path / "hf" / "config.json",
        f"--output={tmp_path / 'out'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    same(load_teacher(tmp_path / "out"), load_teacher(tmp_path / "hf"))
