"""Models by name against a loopback Hub: what is fetched, verified, refused and read offline."""

import dataclasses
import errno
import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from fakehub import FakeHub, Faults
from safetensors.numpy import save_file

from zeroseg_jax.teacher import aliases, hub, model_names
from zeroseg_jax.teacher.hub_errors import HubError

ROOT = Path(__file__).parent.parent.parent
# Of nobody: made for this test, and refused by every client.
SELF_SIGNED = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgj53AUc4Pc/AITMDw
wMTwOuBCR9/wUgG7BivdE3+42smhRANCAASDySq9SMiuJ0igy3MmeiDNZQexkuqq
mW6SrbHdAaFlCevHUyv1rld0iop3AYc3O+JfEelv6eUtihwXFPUtbAIm
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBfjCCASWgAwIBAgIUZOUt0XY+S1eSnitt4VSfZg4BgZUwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTI2MTEyNzE5MTAyMloYDzIxMjYxMTAz
MTkxMDIyWjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASDySq9SMiuJ0igy3MmeiDNZQexkuqqmW6SrbHdAaFlCevHUyv1rld0
iop3AYc3O+JfEelv6eUtihwXFPUtbAImo1MwUTAdBgNVHQ4EFgQUs37YgwAGF0yn
WJpizVKDwheiTiQwHwYDVR0jBBgwFoAUs37YgwAGF0ynWJpizVKDwheiTiQwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiBUhI59plJJYNhy6gDodSxS
DOIy3u2Sk0W9Us4pNRmxjAIgBmWVD6MVuHVtu8nqQiGnFLdsZvXH7GYPparRyMTt
CX0=
-----END CERTIFICATE-----
"""


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "published"
    root.mkdir()
    (root / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (root / "pytorch_model.bin").write_bytes(b"never fetched")
    (root / "modeling.py").write_text("raise SystemExit('remote code ran')")
    save_file({"a": np.arange(4096, dtype=np.float32)}, root / "model.safetensors")
    return root


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Return a function that starts a hub of repositories; the cache is a fresh folder."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    hubs = []

    def run(repositories, **faults):
        server = FakeHub(repositories, Faults(**{k: set(v) for k, v in faults.items()}))
        hubs.append(server)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        return server

    yield run
    for server in hubs:
        server.__exit__()


def test_fetches_weights_and_texts_and_nothing_else(folder, start):
    lines = []
    server = start({"o/n": folder})
    found = model_names.resolve("hf:o/n", log=lines.append)
    assert sorted(p.name for p in found.directory.iterdir()) == ["config.json", "model.safetensors"]
    assert found.pinned == f"hf:o/n@{server.commit('o/n')}"
    (line,) = lines
    assert line.startswith("0 MB from") and "o/n" in line and "cache" in line


def test_a_cached_name_makes_no_request(folder, start):
    server = start({"o/n": folder})
    found = model_names.resolve("hf:o/n", log=lambda _: None)
    before = len(server.requests)
    for name in ("hf:o/n", "hf://o/n", found.pinned, "https://huggingface.co/o/n"):
        again = model_names.resolve(name, log=pytest.fail)
        assert again.directory == found.directory and again.pinned == found.pinned
    assert len(server.requests) == before


def test_a_file_that_left_the_cache_is_fetched_again(folder, start):
    server = start({"o/n": folder})
    found = model_names.resolve("hf:o/n", log=lambda _: None)
    weights = found.directory / "model.safetensors"
    weights.resolve().unlink()
    weights.unlink(missing_ok=True)
    before = len(server.requests)
    model_names.resolve(found.pinned, log=lambda _: None)
    assert weights.is_file() and len(server.requests) > before


def test_one_wrong_byte_is_found_and_the_file_deleted(folder, start):
    server = start({"o/n": folder}, flipped=["model.safetensors"])
    with pytest.raises(HubError, match="model.safetensors arrived damaged .* was deleted"):
        model_names.resolve("hf:o/n", log=lambda _: None)
    server.faults.flipped.clear()
    found = model_names.resolve("hf:o/n", log=lambda _: None)
    assert (found.directory / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    "fault, words",
    [("pages", "is a web page and not the weights"), ("pointers", "is a Git LFS pointer")],
)
def test_a_page_or_a_pointer_in_place_of_weights_is_named(folder, start, fault, words):
    start({"o/n": folder}, **{fault: ["model.safetensors"]})
    with pytest.raises(HubError, match=words):
        model_names.resolve("hf:o/n", log=lambda _: None)


def test_a_cut_transfer_is_resumed(folder, start):
    start({"o/n": folder}, cut_once=["model.safetensors"])
    found = model_names.resolve("hf:o/n", log=lambda _: None)
    assert (found.directory / "model.safetensors").stat().st_size == (
        folder / "model.safetensors"
    ).stat().st_size


def test_a_transfer_that_stays_short_is_one_sentence(folder, start):
    start({"o/n": folder}, short=["model.safetensors"])
    with pytest.raises(HubError, match="the transfer was cut"):
        model_names.resolve("hf:o/n", log=lambda _: None)


def test_a_mirror_without_commits_serves_a_pinned_name(folder, start):
    server = start({"o/n": folder}, no_commit=["o/n"])
    name = f"hf:o/n@{server.commit('o/n')}"
    found = model_names.resolve(name, log=lambda _: None)
    assert (found.directory / "model.safetensors").is_file() and found.pinned == name
    assert model_names.resolve(name, log=pytest.fail).directory == found.directory


@pytest.mark.parametrize(
    "name, faults, words",
    [
        ("hf:o/absent", {}, "does not exist on .* or is private"),
        ("hf:o/n@v9", {}, "has no revision 'v9'"),
        ("hf:o/n", {"gated": ["o/n"]}, "is gated; accept its terms"),
        ("hf:o/n", {"down": ["o/n"]}, "answers with HTTP 503; connect once"),
        ("hf:o/n", {"busy": ["o/n"]}, "takes no more requests for now .HTTP 429.; wait"),
        ("hf:o/n", {"denied": ["o/n"]}, "refused access .HTTP 401.; log in .* check HF_TOKEN"),
        ("hf:o/n", {"sign_in": ["o/n"]}, "such as a sign-in page; sign in to the network"),
        (f"hf:o/n@{'0' * 40}", {"sign_in": ["o/n"]}, "such as a sign-in page"),
        ("hf:o--n/x", {}, "no name of a repository"),
        ("hf:o/n@../../x", {}, "not of the form hf:owner/name"),
        ("hf:o/n/../../x", {}, "not of the form hf:owner/name"),
        ("hf:o", {}, "not of the form hf:owner/name"),
        ("clip-b17", {}, "did you mean clip-b16"),
        ("nowhere/at/all", {}, "is no folder and no known name"),
    ],
)
def test_a_name_that_cannot_be_had_is_one_sentence(folder, start, name, faults, words):
    start({"o/n": folder}, **faults)
    with pytest.raises(HubError, match=words) as caught:
        model_names.resolve(name, log=lambda _: None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["hf:o/absent", "hf:o/n@v9", "hf:o", "clip-b17", "hf:o/n"])
def test_the_sentence_names_the_setting_that_holds_the_name(folder, start, monkeypatch, name):
    start({"o/n": folder}, down=["o/n"])
    with pytest.raises(HubError) as caught:
        model_names.resolve(name, log=lambda _: None, field="teacher.affinity")
    # A flag that the command does not have would lead nowhere.
    assert str(caught.value).startswith("teacher.affinity: ") and "--model" not in str(caught.value)


def test_damage_names_the_setting_too(folder, start):
    start({"o/n": folder}, flipped=["model.safetensors"])
    with pytest.raises(HubError, match="^teacher.directory: o/n: model.safetensors arrived"):
        model_names.resolve("hf:o/n", log=lambda _: None, field="teacher.directory")


def test_names_are_pinned_without_a_request_where_a_commit_is_known(folder, start, monkeypatch):
    server = start({"o/n": folder})
    commit = server.commit("o/n")
    entry = aliases.Alias("o/n", commit, 1, "MIT")
    monkeypatch.setitem(aliases.ALIASES, "ours", entry)
    assert model_names.pin("ours") == model_names.pin(f"hf://o/n@{commit}") == f"hf:o/n@{commit}"
    for name in ("", "playground", str(folder)):
        assert model_names.pin(name) == name
    assert not server.requests
    assert model_names.pin("hf:o/n") == f"hf:o/n@{commit}" and server.requests
    with pytest.raises(HubError, match="teacher.affinity: 'clip-b17'"):
        model_names.pin("clip-b17", field="teacher.affinity")


def test_a_repository_of_pickles_is_refused(folder, start):
    (folder / "model.safetensors").unlink()
    start({"o/n": folder})
    with pytest.raises(HubError, match="no safetensors .* convert_teacher"):
        model_names.resolve("hf:o/n", log=lambda _: None)


def test_an_unreachable_hub_names_what_ships(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="cannot be reached.*--model=playground.*drawn shapes"):
        model_names.resolve("clip-b16", log=lambda _: None)


def test_a_certificate_or_a_proxy_that_fails_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.pem").write_text(SELF_SIGNED)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self):
            self.send_error(407)

        def log_message(self, *_):
            pass

    def ask(endpoint, proxy=""):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        huggingface_hub.close_session()  # it keeps the proxies of its first request
        with pytest.raises(HubError) as caught:
            model_names.resolve("hf:o/n", log=lambda _: None)
        return str(caught.value)

    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) for _ in range(3)]
    signed, plain, proxy = servers
    signed.socket = context.wrap_socket(signed.socket, server_side=True)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        found = ask(f"https://127.0.0.1:{signed.server_port}")
        assert "the certificate of 127.0.0.1" in found and "SSL_CERT_FILE" in found
        assert "no encrypted connection" in ask(f"https://127.0.0.1:{plain.server_port}")
        refused = ask("https://hub.invalid", f"http://127.0.0.1:{proxy.server_port}")
        assert "the proxy refused the connection to hub.invalid; check HTTPS_PROXY" in refused
        absent = ask("https://hub.invalid", "http://127.0.0.1:9")
        assert "hub.invalid cannot be reached through the proxy of HTTPS_PROXY" in absent
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        huggingface_hub.close_session()


def test_a_full_disk_is_named_before_a_byte_is_fetched(folder, start, monkeypatch):
    server = start({"o/n": folder})
    full = shutil.disk_usage(folder)._replace(free=100)
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: full)
    with pytest.raises(HubError, match="the disk of .*cache is full; free space or set HF_HOME"):
        model_names.resolve("hf:o/n", log=pytest.fail)
    assert not any("/resolve/" in path for _, path, *_ in server.requests)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk of .* is full"), (errno.EROFS, "cannot be written; set HF_HOME")],
)
def test_a_disk_that_fails_while_fetching_is_named(folder, start, monkeypatch, number, words):
    start({"o/n": folder})

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(HubError, match=words):
        model_names.resolve("hf:o/n", log=lambda _: None)


def test_a_cache_that_cannot_be_written_is_named(folder, start, monkeypatch, tmp_path):
    start({"o/n": folder})
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("HF_HUB_CACHE", str(blocked / "cache"))
    with pytest.raises(HubError, match="cache cannot be written"):
        model_names.resolve("hf:o/n", log=lambda _: None)


def test_an_alias_is_checked_against_its_own_checksum(folder, start, monkeypatch):
    server = start({"o/n": folder})
    entry = aliases.Alias("o/n", server.commit("o/n"), 1, "MIT", sha256={
        "model.safetensors": "0" * 64})  # fmt: skip
    monkeypatch.setitem(aliases.ALIASES, "ours", entry)
    with pytest.raises(HubError, match="arrived damaged"):
        model_names.resolve("ours", log=lambda _: None)
    monkeypatch.setitem(aliases.ALIASES, "ours", dataclasses.replace(entry, sha256={}))
    assert model_names.resolve("ours", log=lambda _: None).alias.licence == "MIT"
    assert hub.is_cached(aliases.ALIASES["ours"])


def test_a_pair_brings_both_towers(folder, start, monkeypatch):
    server = start({"o/a": folder, "o/b": folder})
    for name in "ab":
        entry = aliases.Alias(f"o/{name}", server.commit(f"o/{name}"), 1, "MIT")
        monkeypatch.setitem(aliases.ALIASES, name, entry)
    found = model_names.resolve("a+b", log=lambda _: None)
    assert found.alias.repository == "o/b" and found.affinity.alias.repository == "o/a"


def test_openai_b16_leads_to_its_twin(folder, start, monkeypatch):
    alias = aliases.ALIASES["clip-b16"]
    server = start({alias.repository: folder})
    pinned = dataclasses.replace(alias, revision=server.commit(alias.repository), sha256={})
    monkeypatch.setitem(aliases.ALIASES, "clip-b16", pinned)
    lines = []
    found = model_names.resolve("hf:openai/clip-vit-base-patch16", log=lines.append)
    assert alias.repository in found.pinned and "has no safetensors" in lines[0]


def test_timm_folders_bring_openclips_two_towers_alone(folder, start):
    (folder / "open_clip_config.json").write_text("{}")
    save_file({"a": np.zeros(2048, np.float32)}, folder / "open_clip_model.safetensors")
    start({"o/n": folder})
    found = model_names.resolve("hf:o/n", log=lambda _: None)
    assert sorted(p.name for p in found.directory.iterdir()) == [
        "open_clip_config.json", "open_clip_model.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("published", "fetched"),
    [
        (["model.safetensors", "onnx/model.safetensors", "adapter_model.safetensors"],
         ["config.json", "model.safetensors"]),
        (["model.safetensors", "model-00001-of-00002.safetensors"],
         ["config.json", "model.safetensors"]),
        (["model.safetensors.index.json", "model-00001-of-00002.safetensors",
          "model-00002-of-00002.safetensors", "tokenizer.model"],
         ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
          "model.safetensors.index.json", "tokenizer.model"]),
        (["open_clip_config.json", "open_clip_model.safetensors", "model.safetensors",
          "open_clip_pytorch_model.safetensors"],
         ["open_clip_config.json", "open_clip_model.safetensors"]),
        (["open_clip_config.json", "open_clip_pytorch_model.safetensors", "vocab.json"],
         ["open_clip_config.json", "open_clip_pytorch_model.safetensors", "vocab.json"]),
        (["open_clip_config.json", "model.safetensors"],
         ["config.json", "model.safetensors", "open_clip_config.json"]),
    ],
)  # fmt: skip
def test_one_set_of_weights_is_chosen(published, fetched):
    files = dict.fromkeys(["config.json", "pytorch_model.bin", "README.md", *published])
    assert hub._choose("o/n", files, "--model") == fetched


def test_weights_without_their_config_are_named():
    files = dict.fromkeys(["adapter_model.safetensors", "config.json"])
    with pytest.raises(HubError, match="o/n has no model.safetensors with a config.json"):
        hub._choose("o/n", files, "--model")


def test_a_digest_is_kept_beside_fetched_weights(folder, start):
    start({"o/n": folder})
    found = model_names.resolve("hf:o/n", log=lambda _: None)
    assert hub.read_digest(found.directory) is None
    hub.store_digest(found.directory, "abc")
    assert hub.read_digest(found.directory) == "abc"
    hub.store_digest(folder, "abc")  # a local folder is left alone
    assert hub.read_digest(folder) is None and not list(folder.glob(".zeroseg*"))


def test_two_processes_fetch_at_once(folder, start):
    server = start({"o/n": folder})
    code = (
        "from zeroseg_jax.teacher import model_names as m; "
        "print(m.resolve('hf:o/n', log=lambda _: None).directory)"
    )
    env = {**os.environ, "HF_ENDPOINT": server.url}
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, env=env)
        for _ in range(2)
    ]
    found = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0] and found[0] == found[1]


def test_the_token_stays_with_the_hub(folder, start, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server = start({"o/n": folder}, gated=["o/n"])
    model_names.resolve("hf:o/n", log=lambda _: None)
    for _, path, _, has_token in server.requests:
        assert has_token != path.startswith("/cdn"), path


def test_aliases_are_pinned_or_say_so():
    for name, alias in aliases.ALIASES.items():
        assert alias.revision == "main" or len(alias.revision) == 40, name
        assert alias.licence and alias.megabytes, name
    assert "NC" in aliases.ALIASES["metaclip2-b16"].licence
    assert aliases.DEFAULT != "metaclip2-b16"
