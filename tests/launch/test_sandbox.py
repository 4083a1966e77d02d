"""Each promise of sandbox.py, with real processes, at each level that works on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from orchestrator.launch import sandbox

LEVELS = ("bwrap", "landlock")


@pytest.fixture(params=LEVELS)
def level(request):
    """A level that confines; skipped with its reason where it does not work."""
    reason = sandbox.why_not(request.param)
    if reason:
        pytest.skip(reason)
    return request.param


class Box:
    """A data folder with a truth beside it, and a way to run Python code confined."""

    def __init__(self, root, level):
        self.level = level
        self.train, self.truth, self.out = root / "data/train", root / "data/truth", root / "run/out"
        for folder in (self.train, self.truth, self.out):
            folder.mkdir(parents=True)
        (self.train / "u.txt").write_text("seen")
        (self.truth / "W.txt").write_text("secret")

    def run(self, code, *arguments, level=None, python=(sys.executable, "-P"), path=os.defpath, **changes):
        """Run Python code as a step would be; returns the finished process."""
        spec = {
            "level": level or self.level,
            "read_only": [str(self.train)],
            "writable": [str(self.out)],
            "devices": [],
        }
        argv = [*python, "-c", textwrap.dedent(code), *map(str, arguments)]
        order = {"argv": argv, "cwd": str(self.out), "sandbox": spec | changes}
        order["env"] = {"PATH": path, "HOME": str(self.out), "TMPDIR": str(self.out), "OMP_NUM_THREADS": "1"}
        enter = """if True:
            import json, os, runpy, sys
            order = json.loads(sys.argv[2])
            enter = runpy.run_path(sys.argv[1])["enter"]
            os.chdir(order["cwd"])
            argv, env = enter(order["argv"], order["cwd"], order["env"], order["sandbox"])
            os.execvpe(argv[0], argv, env)
        """
        return subprocess.run(
            [sys.executable, "-I", "-S", "-c", enter, sandbox.__file__, json.dumps(order)],
            capture_output=True, text=True, timeout=30, env={"PATH": os.environ["PATH"], "ANTHROPIC_API_KEY": "key"},
        )  # fmt: skip


@pytest.fixture
def box(tmp_path, level):
    """A box at the level."""
    return Box(tmp_path, level)


OPEN = """
    import sys
    try:
        open(sys.argv[1], sys.argv[2]).close()
        print("opened")
    except OSError as error:
        print(type(error).__name__)
"""


def test_given_files_are_in_reach(box):
    assert box.run(OPEN, box.train / "u.txt", "r").stdout == "opened\n"
    assert box.run(OPEN, box.out / "made.txt", "w").stdout == "opened\n"
    assert (box.out / "made.txt").exists()


@pytest.mark.parametrize("kind", ["truth", "shadow", "own home", "root listing"])
def test_nothing_else_can_be_read(box, kind, tmp_path):
    planted = tmp_path / "home" / ".netrc"
    planted.parent.mkdir()
    planted.write_text("password")
    if kind == "root listing":
        code = "import os, sys\ntry: print(os.listdir(sys.argv[1]))\nexcept OSError: print('refused')"
        done = box.run(code, tmp_path)
        assert done.stdout == "refused\n" or "home" not in done.stdout
        return
    path = {"truth": box.truth / "W.txt", "shadow": "/etc/shadow", "own home": planted}[kind]
    assert os.path.exists(path)
    done = box.run(OPEN, path, "r")
    assert done.stdout in ("FileNotFoundError\n", "PermissionError\n"), done.stderr


def test_a_link_out_of_the_box_leads_nowhere(box):
    (box.out / "link").symlink_to(box.truth / "W.txt")
    assert box.run(OPEN, box.out / "link", "r").stdout in ("FileNotFoundError\n", "PermissionError\n")


@pytest.mark.parametrize("where", ["read_only", "sibling", "run folder", "venv", "tmp"])
def test_nothing_else_can_be_written(box, where, tmp_path):
    folder = {"read_only": box.train, "sibling": box.truth, "run folder": box.out.parent, "venv": sys.prefix,
              "tmp": "/tmp"}[where]  # fmt: skip
    path = os.path.join(folder, f"planted-{os.getpid()}")
    box.run(OPEN, path, "w")
    assert not os.path.exists(path)


def test_read_only_files_cannot_be_changed_or_removed(box):
    code = """
        import os, sys
        for act in (lambda p: open(p, "a"), os.unlink, lambda p: os.truncate(p, 0), lambda p: os.rename(p, p + "x")):
            try:
                act(sys.argv[1])
                print("done")
            except OSError:
                print("refused")
    """
    assert box.run(code, box.train / "u.txt").stdout.split() == ["refused"] * 4
    assert (box.train / "u.txt").read_text() == "seen"


def test_no_network(box):
    if box.level == "landlock" and sandbox.landlock_abi() < 4:
        pytest.skip("Landlock restricts TCP from ABI 4 on")
    code = """
        import socket, sys
        try:
            socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=2).close()
            print("connected")
        except OSError:
            print("refused")
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert box.run(code, port, level="none").stdout == "connected\n"
        assert box.run(code, port).stdout == "refused\n"


def test_no_abstract_socket(box):
    if box.level == "landlock" and sandbox.landlock_abi() < 6:
        pytest.skip("Landlock restricts abstract sockets from ABI 6 on")
    name = f"\0toy-{os.getpid()}"
    code = """
        import socket, sys
        try:
            socket.socket(socket.AF_UNIX).connect(chr(0) + sys.argv[1])
            print("connected")
        except OSError:
            print("refused")
    """
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        assert box.run(code, name[1:]).stdout == "refused\n"


def test_no_key_in_any_environment(box):
    code = """
        import os, sys
        found = "ANTHROPIC_API_KEY" in os.environ
        for pid in (os.getppid(), int(sys.argv[1])):
            try:
                found = found or b"ANTHROPIC" in open(f"/proc/{pid}/environ", "rb").read()
            except OSError:
                pass
        print(found, sorted(os.environ))
    """
    env = {**os.environ, "ANTHROPIC_API_KEY": "key"}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=env) as engine:
        done = box.run(code, engine.pid)
        assert engine.stdin is not None
        engine.stdin.write(b"\n")
    assert done.stdout.startswith("False"), done.stdout + done.stderr
    assert set(json.loads(done.stdout[6:].replace("'", '"'))) <= {
        "PATH", "HOME", "TMPDIR", "OMP_NUM_THREADS", "PWD", "LC_CTYPE"
    }  # fmt: skip


def test_no_signal_to_others(box):
    if box.level == "landlock" and sandbox.landlock_abi() < 6:
        pytest.skip("Landlock restricts signals from ABI 6 on")
    code = """
        import os, sys
        try:
            os.kill(int(sys.argv[1]), 9)
            print("killed")
        except OSError:
            print("refused")
    """
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert box.run(code, other.pid).stdout == "refused\n"
        assert other.poll() is None
        other.send_signal(signal.SIGKILL)


def test_numpy_works_inside(box):
    code = """
        import numpy, tempfile
        numpy.savez("estimate.npz", W=numpy.eye(3))
        print(numpy.load("estimate.npz")["W"].sum(), tempfile.gettempdir())
    """
    done = box.run(code)
    assert done.stdout == f"3.0 {box.out}\n", done.stderr
    assert (box.out / "estimate.npz").exists()


def test_a_program_found_by_path(box):
    """`python` alone is looked up in the step's PATH, and its environment comes into reach."""
    done = box.run(
        "import numpy; print(numpy.eye(2).sum())", python=("python", "-P"), path=os.path.dirname(sys.executable)
    )
    assert done.stdout == "2.0\n", done.stderr


def test_it_cannot_be_left_again(box):
    """A program inside cannot widen its rights: no capability, no new mount."""
    code = """
        import ctypes, sys
        libc = ctypes.CDLL(None, use_errno=True)
        print(libc.mount(b"none", sys.argv[1].encode(), b"tmpfs", 0, None), libc.umount2(b"/tmp", 2))
        print(libc.mount(None, sys.argv[2].encode(), None, 32 | 4096, None))
    """
    assert box.run(code, box.out, box.train).stdout.split() == ["-1", "-1", "-1"]


def test_a_file_can_be_read_only(box, tmp_path):
    (tmp_path / "run" / "run.yaml").write_text("contract: 1")
    (tmp_path / "run" / "launch.json").write_text("{}")
    given = {"read_only": [str(tmp_path / "run" / "run.yaml")]}
    assert box.run(OPEN, tmp_path / "run" / "run.yaml", "r", **given).stdout == "opened\n"
    assert box.run(OPEN, tmp_path / "run" / "launch.json", "r", **given).stdout != "opened\n"


def test_a_missing_path_is_an_error(box, tmp_path):
    done = box.run("print('ran')", read_only=[str(tmp_path / "missing")])
    assert done.returncode != 0
    assert "missing" in done.stderr
    assert done.stdout == ""


def test_device_files(box):
    code = "print(len(open('/dev/urandom', 'rb').read(4)), open('/dev/null', 'w').write('x'))"
    assert box.run(code, devices=["/dev/null"]).stdout == "4 1\n"


def test_read_only_inside_writable(tmp_path, level):
    box = Box(tmp_path, level)
    (box.out / "inputs").mkdir()
    done = box.run(OPEN, box.out / "inputs" / "x", "w", read_only=[str(box.out / "inputs")])
    assert not (box.out / "inputs" / "x").exists()
    if level == "landlock":
        assert "cannot make" in done.stderr
    else:
        assert done.stdout == "OSError\n"


def test_unknown_level_is_refused():
    with pytest.raises(sandbox.SandboxError, match="expected bwrap, landlock or none"):
        sandbox.enter(["true"], "/", {}, {"level": "jail", "read_only": [], "writable": []})


def test_best_level_works():
    assert sandbox.why_not(sandbox.best_level()) is None


def test_interpreter_paths(tmp_path):
    """The environment and its base count; a home folder with a link in bin/ does not."""
    found = sandbox.interpreter_paths(sys.executable)
    assert os.path.realpath(sys.prefix) in found or sys.prefix.startswith("/usr")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    assert str(tmp_path) not in sandbox.interpreter_paths(str(tmp_path / "bin" / "python"))


def test_an_environment_that_is_a_link_starts(box, tmp_path):
    link = tmp_path / "linked-env"
    link.symlink_to(sys.prefix, target_is_directory=True)
    program = link / os.path.relpath(sys.executable, sys.prefix)
    done = box.run("import numpy; print('started')", python=(str(program), "-P"))
    assert done.stdout == "started\n", done.stderr


def test_hide_environment():
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux has the setting")
    code = """if True:
        import ctypes, runpy, sys
        runpy.run_path(sys.argv[1])["hide_environment"]()
        print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
    """
    done = subprocess.run([sys.executable, "-I", "-c", code, sandbox.__file__], capture_output=True, text=True)
    assert done.stdout == "0\n"
