"""Complete checkpoints of a folder, on disk and in a bucket."""

import pytest

from tests.bucket_server import MISSING, REASON, running_bucket
from zeroseg_jax.data import files, mirrors
from zeroseg_jax.training.checkpoint_folders import find_folder, list_steps


def test_steps_on_disk_have_their_name_when_complete(tmp_path):
    assert list_steps(find_folder(tmp_path / "none")) == []
    for name in ("2", "10", "12.orbax-checkpoint-tmp", "x"):
        (tmp_path / name).mkdir()
    assert sorted(list_steps(find_folder(tmp_path))) == [2, 10]


@pytest.mark.skipif(bool(MISSING), reason=REASON)
def test_steps_in_a_bucket_have_an_object_when_complete(tmp_path, monkeypatch):
    with running_bucket(tmp_path) as environment:
        for name, value in {**environment, "XDG_CACHE_HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        mirrors._open_store.cache_clear()
        folder = mirrors.localise("gs://bucket/steps/checkpoints")
        for name in ("2/_METADATA", "2/commit_success.txt", "10/_METADATA"):
            files.write_text(folder / name, "")
        place = find_folder(folder)
        assert str(place) == "gs://bucket/steps/checkpoints"
        assert list_steps(place) == [2]
