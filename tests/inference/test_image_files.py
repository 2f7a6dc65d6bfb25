"""Images from files, folders, globs and videos."""

import http.server
import io
import shutil
import ssl
import subprocess
import threading

import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.data.transforms import ImageError
from zeroseg_jax.inference import image_files as pictures


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    (root / "deep").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "a.png")
    Image.new("RGB", (8, 8)).save(root / "deep" / "a.jpg")
    (root / "notes.txt").write_text("no image")
    return root


def test_files_folders_and_globs(folder, tmp_path):
    names = [str(p.relative_to(folder)) for p in pictures.list_files([str(folder)])]
    assert names == ["a.png", "deep/a.jpg"]
    assert len(pictures.list_files([str(folder), str(folder / "**" / "*.jpg")])) == 2
    assert len(pictures.list_files([str(folder)], exclude=folder / "deep")) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image or video"):
        pictures.list_files([str(tmp_path / "empty")])


def test_what_is_left_out_is_said(folder):
    (folder / ".ipynb_checkpoints").mkdir()
    Image.new("RGB", (8, 8)).save(folder / ".ipynb_checkpoints" / "a-checkpoint.png")
    Image.new("RGB", (8, 8)).save(folder / "b.jfif", "JPEG")
    lines = []
    found = pictures.list_files([str(folder)], log=lines.append)
    assert [path.name for path in found] == ["a.png", "b.jfif", "a.jpg"]
    assert len(lines) == 1 and "1 hidden files were left out" in lines[0]


def test_stems_that_differ_in_case_do_not_overwrite_each_other(tmp_path):
    for name in ("a.png", "A.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    stems = [found.stem for found in pictures.read_images([tmp_path / "a.png", tmp_path / "A.png"])]
    assert stems == ["a", "A-2"]


def test_stems_leave_room_for_what_is_appended(tmp_path):
    names = [f"{'é' * 120}{end}.png" for end in ("a", "b")]  # 245 bytes
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    found = pictures.read_images([tmp_path / name for name in names])
    stems = [image.stem for image in found]
    assert stems == ["é" * 100, "é" * 100 + "-2"]


def test_frames_of_a_video(tmp_path):
    av = pytest.importorskip("av", reason="the extra 'video' is not installed")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * i, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = list(pictures.read_images([path], every_seconds=1.0))
    assert [f.stem for f in found] == ["clip_00000000ms", "clip_00001000ms", "clip_00002000ms"]
    for number, one in enumerate(found):
        assert one.image.shape == (48, 64, 3)
        assert abs(int(one.image.mean()) - 100 * number) < 6
    assert len(list(pictures.read_frames(path, every_seconds=0))) == 25
    path.write_bytes(path.read_bytes()[:200])
    (bad,) = pictures.read_images([path])
    assert isinstance(bad.image, ImageError) and "clip.mp4" in str(bad.image)


@pytest.fixture
def site(folder, tmp_path, monkeypatch):
    """Serve `folder` over https on this machine, with redirections; yield its address."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if not self.path.startswith("/to/"):
                return super().do_GET()
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            return self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *arguments: Handler(*arguments, directory=str(folder))
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    yield f"https://localhost:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_an_address_is_an_image_named_after_its_path(site):
    files = pictures.list_files([f"{site}/a.png?size=8", f"{site}/to//deep/a.jpg"])
    first, second = pictures.read_images(files)
    assert (first.source, first.stem) == (f"{site}/a.png?size=8", "a")
    assert second.stem == "a-2"  # the names of files do not collide
    assert first.image.shape == second.image.shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("nowhere.png", "the server answers 404"),
        ("notes.txt", "not an image"),
        ("to/http://localhost/a.png", "redirected to an address that is not https"),
        ("to/file:///etc/passwd", "is not allowed"),
    ],
)
def test_addresses_that_give_no_image(site, path, sentence):
    (found,) = pictures.read_images([f"{site}/{path}"])
    assert isinstance(found.image, ImageError) and sentence in str(found.image)
    assert str(found.image).startswith(f"{site}/{path}: ")


def test_addresses_that_are_refused_or_silent():
    with pytest.raises(ValueError, match="http://a.org/a.png: only https addresses are fetched"):
        pictures.list_files(["http://a.org/a.png"])
    (found,) = pictures.read_images(["https://127.0.0.1:1/a.png"])
    assert "cannot be fetched" in str(found.image)


def test_standard_input_is_an_image(monkeypatch):
    content = io.BytesIO()
    Image.new("RGB", (8, 6), (9, 8, 7)).save(content, "PNG")
    for sent, want in ((content.getvalue(), None), (b"", "is empty"), (b"text", "not an image")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(sent)))
        (found,) = pictures.read_images(pictures.list_files(["-"]))
        assert (found.source, found.stem) == ("standard input", "stdin")
        if want is None:
            assert (found.image == (9, 8, 7)).all()
        else:
            assert want in str(found.image)


def test_what_is_too_long_to_fetch_is_refused(monkeypatch, site):
    monkeypatch.setattr(pictures, "_MAX_FETCHED", 20)
    (found,) = pictures.read_images([f"{site}/a.png"])
    assert "has more than 0 MB" in str(found.image)
