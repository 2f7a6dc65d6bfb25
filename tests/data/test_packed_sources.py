"""Sources over packed files: every image once, by name, over hosts; damage is one sentence."""

import io
import itertools
import tarfile

import cloudpickle
import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.config import from_mapping
from zeroseg_jax.data.packed_sources import ArrayRecordSource, TarSource, TfdsSource
from zeroseg_jax.data.pipeline import build_train_iterator
from zeroseg_jax.data.sources import build_source
from zeroseg_jax.data.transforms import SUFFIXES, ImageError, square_crop

COUNT = 24


def encode(index):
    """Return a PNG whose every pixel tells its index."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, 8, 3), index, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path, indices, extra=True):
    with tarfile.open(path, "w") as archive:
        for index in indices:
            files = {f"{index:05d}.png": encode(index)}
            if extra:
                files |= {f"{index:05d}.txt": b"a caption", f"{index:05d}.json": b"{}"}
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path):
    write_tar(tmp_path / "a-000.tar", range(10))
    (tmp_path / "more").mkdir()
    write_tar(tmp_path / "more" / "b-001.tar", range(10, COUNT))
    return tmp_path


@pytest.fixture
def records(tmp_path):
    from array_record.python.array_record_module import ArrayRecordWriter

    for shard, indices in enumerate((range(10), range(10, COUNT))):
        writer = ArrayRecordWriter(str(tmp_path / f"{shard}.arrayrecord"), "group_size:1")
        for index in indices:
            writer.write(encode(index))
        writer.close()
    return tmp_path


def open_by_config(kind, directory, **data):
    config = from_mapping({"data": {"source": kind, "directory": str(directory), "images": 0,
                                    **data}})  # fmt: skip
    return build_source(config)


@pytest.mark.parametrize(("kind", "place"), [("tar", "shards"), ("arrayrecord", "records")])
def test_every_image_once_an_epoch_over_hosts(kind, place, request):
    source = open_by_config(kind, request.getfixturevalue(place))
    assert len(source) == COUNT
    assert [int(source[i]["image"][0, 0, 0]) for i in range(COUNT)] == list(range(COUNT))
    assert len({source[i]["name"] for i in range(COUNT)}) == COUNT

    class Squares:
        def __len__(self):
            return len(source)

        def __getitem__(self, index):
            record = source[index]
            return {"image": square_crop(record["image"], 4), "index": index}

    seen = []
    for host in range(2):
        iterator = build_train_iterator(
            Squares(), batch_per_host=3, seed=1, host_index=host, host_count=2
        )
        seen += [int(i) for batch in itertools.islice(iterator, 4) for i in batch["index"]]
    assert sorted(seen) == list(range(COUNT))
    assert len(open_by_config(kind, request.getfixturevalue(place), images=7)) == 7


def test_worker_processes_can_take_copies(shards):
    source = TarSource(str(shards), SUFFIXES, 0, 100)
    copy = cloudpickle.loads(cloudpickle.dumps(source))
    np.testing.assert_array_equal(copy[COUNT - 1]["image"], source[COUNT - 1]["image"])


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("x.jpg", b"no picture"), ("y.png", b""), ("z.png", encode(1))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    source = TarSource(str(tmp_path), SUFFIXES, 0, 47)
    for index, sentence in enumerate(
        (r"a.tar/x.jpg: not an image", r"a.tar/y.png: the file is empty", r"z.png: 8 x 6 px")
    ):
        with pytest.raises(ImageError, match=sentence):
            source[index]


def test_label_maps_and_hidden_members_are_left_out(tmp_path):
    names = ("1.jpg", "1.png", "1.seg.png", "b/2.seg.png", "b/2.webp", "x.v1.jpg", "x.v2.jpg",
             "b/._2.webp", "__MACOSX/1.jpg", "3.JPEG", "3.txt")  # fmt: skip
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            content = encode(1)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    source = TarSource(str(tmp_path), SUFFIXES, 0, 100)
    assert source.names == [
        f"a.tar/{name}" for name in ("1.jpg", "b/2.webp", "x.v1.jpg", "x.v2.jpg", "3.JPEG")
    ]
    assert source.notes == [f"{tmp_path}/a.tar: 3 label maps were left out, for example 1.png."]
    assert [source[i]["index"] for i in range(len(source))] == list(range(5))


@pytest.mark.parametrize("cut", [700, 2000])
def test_a_shard_that_is_cut_short_is_one_sentence(tmp_path, cut):
    write_tar(tmp_path / "a.tar", range(3), extra=False)
    path = tmp_path / "a.tar"
    path.write_bytes(path.read_bytes()[:-10240][:cut] if cut < 1000 else path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"data.directory: .*a.tar is (not a complete|truncated)"):
        TarSource(str(tmp_path), SUFFIXES, 0, 100)


def test_nothing_there_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="has no \\*.tar file"):
        TarSource(str(tmp_path), SUFFIXES, 0, 100)
    with pytest.raises(ValueError, match="is not a folder"):
        ArrayRecordSource(str(tmp_path / "none"), 0, 100)
    with pytest.raises(ValueError, match="data.directory: empty; .*data.source=tar"):
        open_by_config("tar", "")
    write_tar(tmp_path / "a.tar", ())
    with pytest.raises(ValueError, match="have no image"):
        TarSource(str(tmp_path), SUFFIXES, 0, 100)


def test_tfds_reads_without_tensorflow():
    tfds = pytest.importorskip("tensorflow_datasets")
    with tfds.testing.mock_data(num_examples=5):
        source = TfdsSource("cifar10:train", 3)
        assert len(source) == 3
        record = source[2]
    assert record["image"].shape == (32, 32, 3) and record["name"] == "cifar10:train[2]"


def test_tfds_that_is_not_prepared_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="data.directory: cifar10:train cannot be opened"):
        TfdsSource("cifar10:train", 0)
