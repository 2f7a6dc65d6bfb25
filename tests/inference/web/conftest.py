"""One live server for the tests of the page: a real socket, the real model."""

import os

import pytest

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")

from tests.inference.web.serving import serve  # noqa: E402
from zeroseg_jax import Predictor
from zeroseg_jax.inference.web.models import Models  # noqa: E402
from zeroseg_jax.inference.web.sessions import Limits  # noqa: E402
from zeroseg_jax.teacher.load import SHIPPED  # noqa: E402


@pytest.fixture(scope="session")
def limits():
    return Limits(upload_bytes=2_000_000, pixels=4_000_000, upload_seconds=2.0, pictures=4)


@pytest.fixture(scope="session")
def predictor():
    return Predictor.from_pretrained("playground", cache_names=False)


@pytest.fixture(scope="session")
def models(predictor):
    """Two models to choose from: a student and the read-out of its CLIP, loaded when chosen."""

    def load(name):
        if name == "playground":
            return predictor
        return Predictor.from_pretrained(name, cache_names=False)

    return Models(["playground", str(SHIPPED)], load)


@pytest.fixture(scope="session")
def port(limits, models):
    os.environ["no_proxy"] = "127.0.0.1"
    with serve(models, limits=limits) as port:
        yield port
