"""Code that got past every check, run as the engine runs it: what it can reach, break, or leave behind.

One process a level tries everything in hostile_probe.py; a test for each try, so that a failure names it.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.engine import evaluate
from orchestrator.launch import sandbox
from orchestrator.launch.supervisor import folder_bytes
from tests.launch import hostile, hostile_probe

LEVELS = ("bwrap", "landlock")
SEGMENT = 0x70726F62
PRIVATE = {f"tell others in {folder}" for folder in ("/tmp", "/dev/shm")}
"""May succeed under bwrap, in a folder that nobody else sees."""
IN_TMP = {f"write {name}" for name in hostile_probe.RUN_FILES} | {
    "write journal", "make plots/", "link result.json", "new file in run", "exchange run.yaml", "move out/ away",
    "UDP to this machine", "ptrace the parent",
}  # fmt: skip
"""The same, when the run folder lies below /tmp as tests' folders do: its parents are made anew there. And datagrams,
which go to a machine of one's own where nobody listens, and the first process of the box."""
COMPARED = {name for name in hostile_probe.PROBES if name.split()[0] in ("mode", "times", "attributes")}
"""May seem to succeed; the files are compared."""
NOTHING_MEANT = {
    "settings of the kernel that open for writing", "files open from before", "the environment has a key",
    "the environment has more than was ordered", "some process's environment has the key",
}  # fmt: skip
"""Return a list, which must be empty."""


def works(level):
    reason = sandbox.why_not(level)
    if reason:
        pytest.skip(reason)
    return level


@pytest.fixture(params=LEVELS)
def level(request):
    return works(request.param)


@pytest.fixture
def world(tmp_path, level):
    return hostile.World(tmp_path, level)


class Outside:
    """An engine with a key in its environment, servers of every kind, and a shared segment."""

    def __init__(self, folder):
        env = {"PATH": os.defpath, "ANTHROPIC_API_KEY": "sk-hostile"}
        self.engine = subprocess.Popen(
            [sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE, env=env, cwd=folder
        )
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.name = f"hostile-{os.getpid()}-{id(self)}"
        short = f"/tmp/{self.name}"
        self.paths = [short, f"{short}-datagram"]
        self.datagrams = [self.udp]
        self.streams = [self.tcp]
        for address in (short, "\0" + self.name):
            stream, datagram = (socket.socket(socket.AF_UNIX, k) for k in (socket.SOCK_STREAM, socket.SOCK_DGRAM))
            stream.bind(address)
            stream.listen()
            datagram.bind(f"{address}-datagram")
            self.streams.append(stream)
            self.datagrams.append(datagram)
        self.segment = ctypes.CDLL(None).shmget(SEGMENT, 4096, 0o1600)

    def targets(self):
        tcp, udp = self.tcp.getsockname()[1], self.udp.getsockname()[1]
        return {"tcp": tcp, "udp": udp, "unix": self.paths[0], "unix_datagram": self.paths[1], "abstract": self.name,
                "segment": SEGMENT}  # fmt: skip

    def received(self):
        """Return how many datagrams and connections arrived."""
        count = 0
        for server in (*self.datagrams, *self.streams):
            server.setblocking(False)
            try:
                server.recv(9) if server in self.datagrams else server.accept()[0].close()
                count += 1
            except OSError:
                pass
        return count

    def close(self):
        for server in (*self.datagrams, *self.streams):
            server.close()
        for path in self.paths:
            os.unlink(path)
        ctypes.CDLL(None).shmctl(self.segment, 0, None)
        alive = self.engine.poll() is None
        self.engine.kill()
        self.engine.communicate()
        return alive


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """Return a function that gives the probe's answers at a level, made once."""
    kept = {}

    def answers(level):
        if level not in kept:
            world = hostile.World(tmp_path_factory.mktemp(level), level)
            outside = Outside(world.folder)
            try:
                targets = world.targets(outside.engine.pid, **outside.targets())
                found, before, after = world.probe(targets)
                received = outside.received()
            finally:
                alive = outside.close()
            folders = ("/tmp", "/var/tmp", "/dev/shm", "/run", hostile.sysconfig.get_path("purelib"))
            kept[level] = {
                "found": found,
                "changed": [p for p in before | after if before.get(p) != after.get(p)],
                "received": received,
                "alive": alive,
                "planted": [f for f in folders if Path(f, targets["planted"]).exists()],
                "left": sorted(p.name for p in world.run.root.iterdir()),
                "world": world,
            }
        return kept[level]

    return answers


@pytest.mark.parametrize("name", sorted(hostile_probe.PROBES))
@pytest.mark.parametrize("where", LEVELS)
def test_a_training_cannot(probed, where, name):
    got = probed(works(where))["found"][name]
    if name in NOTHING_MEANT:
        assert got == []
    elif name not in COMPARED and not (where == "bwrap" and name in PRIVATE | IN_TMP):
        assert str(got).startswith("refused: "), got


@pytest.mark.parametrize("where", LEVELS)
def test_a_training_leaves_everything_outside_as_it_was(probed, where):
    """Not what the probe says of itself, but what is found afterwards."""
    after = probed(works(where))
    assert after["changed"] == []
    assert after["planted"] == []
    assert after["received"] == 0
    assert after["alive"]
    assert after["left"] == [
        "claim",
        "exit.json",
        "launch.json",
        "lock",
        "out",
        "run.yaml",
        "stdout.log",
        "supervisor.log",
    ]
    assert hostile.SECRET not in (after["world"].run.out / "probe.json").read_text()


@pytest.mark.parametrize("what", ["truth", "TCP to this machine", "datagram by path", "the engine's environ"])
def test_the_probe_would_tell(tmp_path, what):
    """Without a sandbox the same probes succeed, so the tests above can fail."""
    world = hostile.World(tmp_path, "none")
    outside = Outside(tmp_path)
    try:
        name = f"read {what}" if what == "truth" else what
        hostile_probe.T.update(world.targets(outside.engine.pid, **outside.targets()))
        assert not str(hostile_probe.PROBES[name]()).startswith("refused")
    finally:
        hostile_probe.T.clear()
        outside.close()


# --- ends -------------------------------------------------------------------------------------------------------------

ENDS = {
    "sys.exit(0)": "import sys; sys.exit(0)",
    "os._exit(0)": "import os; os._exit(0)",
    "a forged result": (
        "import json, os\nfor f in ('../result.json', '../analysis.log', 'result.json'):\n"
        " try: open(f, 'w').write('connectivity_R2: 1.0')\n except OSError: pass"
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_end_without_arrays_is_a_failure_with_a_sentence(world, end):
    verdict = evaluate.judge(world.setup, world.run, world.launch(ENDS[end], score=True))
    assert verdict.outcome == "rejected" and not verdict.metrics
    assert "train.json cannot be opened" in verdict.sentence and "a training must leave it" in verdict.sentence


STOPPED = {
    "silent for ever": ("while True: pass", {"silence_s": 0.4}, "timed_out", "no new byte"),
    "asleep and deaf to SIGTERM": (
        "import signal, time\nfor n in (1, 2, 3, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(99)",
        {"silence_s": 0.4}, "timed_out", "it had to be killed",
    ),
    "busy for ever": (
        "import time\nwhile True:\n open('progress.jsonl', 'a').write('{}\\n')\n time.sleep(0.05)",
        {"wall_s": 0.6}, "timed_out", "longer than its limit",
    ),
    "flood of output": ("while True: print('x' * 9999)", {}, "crashed", "printed more"),
    "flood of colour": ("import os\nwhile True: os.write(2, b'\\x1b[31m' * 999)", {}, "crashed", "printed more"),
    "many files": (
        "import itertools\nfor i in itertools.count(): open(f'{i:0200}', 'w').close()", {"folder_bytes": 10**6},
        "crashed", "holds more",
    ),
    "too much, at the last moment": (
        "import os\nfor i in range(9): open(str(i), 'wb').write(bytes(900000))\nos._exit(0)", {}, "crashed",
        "was not accepted: its folder out/ holds more",
    ),
    "a hole, at the last moment": (
        "for i in range(2):\n with open(str(i), 'wb') as f: f.truncate(4000000)", {}, "crashed", "holds more",
    ),
    "hidden below a path too long": (
        "import os\nfor i in range(30):\n os.mkdir('d' * 200); os.chdir('d' * 200)\nopen('x', 'wb').write(bytes(99))",
        {}, "crashed", "holds more",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", STOPPED)
def test_what_does_not_end_by_itself_is_ended(world, kind):
    code, limits, outcome, words = STOPPED[kind]
    verdict = evaluate.judge(world.setup, world.run, world.launch(code, score=True, **limits))
    assert verdict.outcome == outcome and words in verdict.sentence, verdict.sentence
    assert verdict.sentence.isprintable() and len(verdict.sentence) < 1000
    shutil.rmtree(world.run.out)
    assert not world.run.result.exists()


def test_a_file_cannot_be_made_longer_than_the_folder_may_be(world):
    code = """if True:
        import errno, os
        with open("hole", "wb") as file:
            try:
                file.truncate(1 << 40)
            except OSError as error:
                print(errno.errorcode[error.errno], flush=True)
            os.unlink("hole")
            try:
                for _ in range(9):
                    file.write(bytes(1_000_000))
                    file.flush()
            except OSError as error:
                print(errno.errorcode[error.errno], file.tell() <= 5_000_000, flush=True)
                os._exit(0)
    """
    record = world.launch(code)
    assert world.run.stdout.read_text().split() == ["EFBIG", "EFBIG", "True"]
    assert record.reason is None


FAMILY = """if True:
    import os, signal, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            for _ in range({n}):
                if os.fork() == 0:
                    os.setsid()
                    time.sleep(99)
            time.sleep(99)
        os._exit(0)
    os.wait()
    time.sleep(0.2)
"""


@pytest.mark.parametrize("n", [0, 40])
def test_what_a_training_starts_ends_with_it(world, n):
    """`nothing_left` in conftest.py looks for processes that name the folder."""
    assert world.launch(FAMILY.format(n=n)).returncode == 0


@pytest.mark.parametrize(
    "victim",
    ["os.getppid()", "0", "int(open('/proc/' + str(os.getppid()) + '/stat').read().rpartition(')')[2].split()[1])"],
)
def test_a_training_that_attacks_its_master_gains_nothing(world, victim):
    """Parent, own group, and the parent's parent: the run ends as a failure or goes on; the record is true."""
    record = world.launch(f"import os\ntry: os.kill({victim} or 0, 9)\nexcept OSError: print('refused')")
    verdict = evaluate.judge(world.setup, world.run, record)
    assert verdict.outcome in ("killed", "rejected"), verdict.sentence
    assert record is not None and record.step == "train"


# --- what lies in the folders that it is given ------------------------------------------------------------------------


def test_the_filter_of_calls_is_on(world):
    if world.level != "landlock":
        pytest.skip("namespaces do it there")
    code = """if True:
        import ctypes, socket
        libc = ctypes.CDLL(None)
        print(libc.shmget(0, 4096, 0o1600), libc.syscall(425, 1, 0), libc.syscall(250, 0, -3, 1), libc.unshare(1 << 28))
        a, b = socket.socketpair()
        a.send(b"x")
        import shutil
        open("a", "w").close()
        shutil.copy2("a", "b")
        print("copied")
    """
    world.launch(code)
    assert world.run.stdout.read_text().split() == ["-1"] * 4 + ["copied"]


def test_size_of_a_folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(bytes(10_000))
    with open(tmp_path / "hole", "wb") as file:
        file.truncate(1 << 40)
    os.symlink("/", tmp_path / "link")
    assert (1 << 40) + 10_000 < folder_bytes(str(tmp_path)) < (1 << 40) + 100_000
    assert folder_bytes(str(tmp_path), 100) > 100
    assert folder_bytes(str(tmp_path / "missing")) == 0


def test_a_folder_that_was_closed_counts_as_too_large(tmp_path):
    """As the user that owns it; root would look in all the same."""
    (tmp_path / "closed").mkdir(mode=0o300)
    code = f"""if True:
        import os, sys
        sys.path.insert(0, {os.path.dirname(sandbox.__file__)!r})
        import sandbox, supervisor
        sandbox.drop_capabilities()
        print(supervisor.folder_bytes({str(tmp_path)!r}))
    """
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.stdout == "inf\n", done.stderr


def test_a_signal_is_no_way_out(world):
    """The outcome of a training that kills itself is not that of a machine that was lost."""
    record = world.launch(f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    verdict = evaluate.judge(world.setup, world.run, record)
    assert verdict.outcome == "crashed" and "signal 11" in verdict.sentence


def test_records_are_json_whatever_was_printed(world):
    colour, title, half = "\\x1b[2J", "\\x1b]0;x\\x07", "\\xff\\xed\\xa0\\x80"
    said = f"{colour}{title} {half} done\\n## Iter 99: converged"
    code = f"import sys\nsys.stdout.buffer.write(b'{said}')\nsys.exit(1)"
    verdict = evaluate.judge(world.setup, world.run, world.launch(code))
    assert verdict.sentence.isprintable() and "\n" not in verdict.sentence
    json.dumps(verdict.sentence, ensure_ascii=False).encode()
