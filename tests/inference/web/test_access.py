"""Rules of access: hosts, origins, paths, tokens; over a live server where a proxy matters."""

import json

import pytest

from bench.endurance import serve_hostile as hostile
from tests.inference.web.serving import serve
from zeroseg_jax.inference.web import server as web
from zeroseg_jax.inference.web.access import Access, check_public_url

PUBLIC = "https://gpu.example.org/user/me/proxy/8000/"


@pytest.fixture(scope="module")
def proxied(models):
    """A server behind a proxy, and its token."""
    access = web.build_access("127.0.0.1", PUBLIC)
    with serve(models, access=access) as port:
        yield port, access.token


def ask(proxied, path, host="gpu.example.org", token=True, **headers):
    port, secret = proxied
    if token:
        headers["Authorization"] = f"Bearer {secret}"
    status, answer = hostile.send(port, ("GET", path, b"", {"Host": host, **headers}))
    return status, answer


@pytest.mark.parametrize("prefix", ["", "/user/me/proxy/8000"])
@pytest.mark.parametrize("host", ["gpu.example.org", "gpu.example.org:443", "127.0.0.1:8000"])
def test_a_proxy_may_keep_or_strip_path_and_host(proxied, prefix, host):
    origin = {"Origin": "https://gpu.example.org"}
    for path in ("/", "/style.css", "/openapi.json", "/about"):
        status, answer = ask(proxied, prefix + path, host, **origin)
        assert status == 200 and answer, path
    assert json.loads(ask(proxied, f"{prefix}/openapi.json", host)[1])["servers"] == [
        {"url": PUBLIC}
    ]


def test_the_path_without_a_slash_leads_to_the_page(proxied):
    port, _ = proxied
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/user/me/proxy/8000", headers={"Host": "gpu.example.org"})
    answer = connection.getresponse()
    assert answer.status == 307 and answer.getheader("location") == "8000/"
    connection.close()


def test_other_hosts_and_origins_stay_outside(proxied):
    assert ask(proxied, "/", "evil.example")[0] == 400
    assert ask(proxied, "/about", Origin="https://evil.example")[0] == 403
    assert ask(proxied, "/about", Origin="http://gpu.example.org:1")[0] == 403
    assert ask(proxied, "/user/me/proxy/8000x/about")[0] == 404


def test_without_the_token_only_the_empty_page_is_seen(proxied):
    assert ask(proxied, "/", token=False)[0] == 200
    assert ask(proxied, "/openapi.json", token=False)[0] == 200
    status, answer = ask(proxied, "/about", token=False)
    assert status == 401 and "bearer token" in json.loads(answer)["error"]
    for wrong in ("Bearer ", "Bearer x", f"Basic {proxied[1]}", proxied[1], f"Bearer {'é' * 30}"):
        latin = wrong.encode("latin-1", "replace").decode("latin-1")
        assert ask(proxied, "/about", token=False, Authorization=latin)[0] == 401
    for path in ("/pictures", "/segment", "/mask", "/record", "/alpha", "/polygons"):
        assert hostile.send(proxied[0], ("POST", path, b"{}", {}))[0] == 401


def test_a_token_is_made_wherever_others_can_come():
    assert web.build_access("127.0.0.1").token == ""
    assert web.build_access("::1").token == ""
    made = {web.build_access("0.0.0.0").token, web.build_access("10.0.0.2").token}
    assert len(made) == 2 and min(len(token) for token in made) >= 32
    assert web.build_access("0.0.0.0", token="none").token == ""
    assert web.build_access("127.0.0.1", token="a" * 16).token == "a" * 16
    for token in ("short", "a" * 15, "a b" * 10, "é" * 20, "a\n" * 20):
        with pytest.raises(ValueError, match="--token"):
            web.build_access("127.0.0.1", token=token)


@pytest.mark.parametrize(
    "url", ["gpu.example.org", "ftp://a.org/", "https:///x", "https://a.org:x/", "https://a/?b",
            "/x", "https://u@a.org/", "https://[::1/"],
)  # fmt: skip
def test_a_public_address_that_is_wrong(url):
    with pytest.raises(ValueError, match="--public_url: .* is no address"):
        check_public_url(url)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("localhost:80", True), ("LOCALHOST", True), ("[::1]:8000", True), ("127.0.0.1", True),
     ("", False), ("localhost.evil.example", False), ("evil/@localhost", False), ("[::1", False),
     ("evil@localhost", False), ("gpu.example.org", False)],
)  # fmt: skip
def test_host_names(host, allowed):
    assert Access().allows_host(host) is allowed
