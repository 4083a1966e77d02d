"""An explored home to read in, made once; and a copy that a test may spoil."""

import pytest

from tests import shelf


@pytest.fixture(scope="session")
def explored(tmp_path_factory):
    return shelf.explore(tmp_path_factory.mktemp("reading"))


@pytest.fixture
def home(explored, tmp_path):
    return shelf.copy(explored, tmp_path)
