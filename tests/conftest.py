"""Rules for every test: no key in the environment, no network but loopback, caps on threads."""

import os
import socket
import tempfile

import pytest
from hypothesis import HealthCheck, settings

from orchestrator.llm.anthropic import credentials

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")  # how long an example takes says nothing on a machine with other work
LIVE = "live"
"""The one marker whose test may reach the real service: `pytest -m live`, with a key in the environment."""
KEYS = pytest.StashKey[dict]()

_connect = socket.socket.connect


def _loopback_only(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise PermissionError(f"a test tried to reach {address[0]}: only loopback is allowed")
    return _connect(self, address)


@pytest.fixture(autouse=True)
def no_network(request, monkeypatch):
    """Make a connection to anything but loopback impossible."""
    if request.config.option.markexpr != LIVE:
        monkeypatch.setattr(socket.socket, "connect", _loopback_only)


@pytest.fixture
def live_key(request):
    """The credentials of the environment under `pytest -m live`; skips without them."""
    found = credentials(request.config.stash.get(KEYS, {}))
    return found or pytest.skip("needs `pytest -m live` and ANTHROPIC_API_KEY")


@pytest.fixture(params=["plain", "with space 'quote' \"double\"", "line\nbreak"])
def odd_path(request, tmp_path):
    """A folder whose name has spaces, quotes or a newline."""
    folder = tmp_path / request.param
    folder.mkdir()
    return folder


MATRICES = ("e2e/test_kills", "e2e/test_slot_kills", "e2e/test_block_kills", "e2e/test_claude_kills",
            "e2e/test_claude_resume", "e2e/test_code_kills", "e2e/test_hostile_http", "e2e/test_bad_input",
            "scientist/test_hostile", "trainers/test_keys",
            "trainers/test_forged", "trainers/test_homeostasis_keys", "trainers/test_stoichiometry_keys")  # fmt: skip
"""Modules of many cases of one kind: `make test` runs one in `EVERY`, `make test-science` the others."""
EVERY = 8


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark most cases of the long matrices as slow."""
    for name in MATRICES:
        cases = [item for item in items if item.nodeid.startswith(f"tests/{name}.py")]
        for number, item in enumerate(cases):
            if number % EVERY:
                item.add_marker("slow")


def pytest_configure(config):
    """Take every key out of the environment before a test module is read; start the count of heavy children.

    The count is shared with xdist's workers through the environment.
    """
    live, worker = config.option.markexpr == LIVE, hasattr(config, "workerinput")
    found = {n: v for n, v in os.environ.items() if n.startswith("ANTHROPIC_")}
    if live:
        config.stash[KEYS] = dict(found)
    if worker or not live:  # the live test's workers inherit them once
        for name in found:
            del os.environ[name]
    if not live:  # no adapter may be built for an address outside this machine (orchestrator.llm.keys)
        os.environ["ORCHESTRATOR_MODEL_HOSTS"] = "loopback"
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
