"""Rules for every test: no key in the environment, no network but loopback, caps on threads."""

import os
import socket
import tempfile

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
for name in [n for n in os.environ if n.startswith("ANTHROPIC_")]:
    del os.environ[name]
# No adapter of a language model may be built for an address outside this machine (orchestrator.llm.keys).
os.environ["ORCHESTRATOR_MODEL_HOSTS"] = "loopback"

_connect = socket.socket.connect


def _loopback_only(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise PermissionError(f"a test tried to reach {address[0]}: only loopback is allowed")
    return _connect(self, address)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Make a connection to anything but loopback impossible."""
    monkeypatch.setattr(socket.socket, "connect", _loopback_only)


@pytest.fixture(params=["plain", "with space 'quote' \"double\"", "line\nbreak"])
def odd_path(request, tmp_path):
    """A folder whose name has spaces, quotes or a newline."""
    folder = tmp_path / request.param
    folder.mkdir()
    return folder


def pytest_configure(config):
    """Start the count of children that import torch (shared with xdist's workers through the environment)."""
    if not hasattr(config, "workerinput"):
        os.environ["TORCH_CHILDREN"] = os.path.join(tempfile.mkdtemp(prefix="torch-children-"), "count")


def pytest_sessionfinish(session, exitstatus):
    """Fail a `make test` that started too many heavy children."""
    if hasattr(session.config, "workerinput") or "not science" not in session.config.option.markexpr:
        return
    from tests import real

    print(f"\nchildren that import torch: {real.counted()}, at most {real.LIMIT}")
    if real.counted() > real.LIMIT:
        session.exitstatus = 1
