"""The doctor on real faults: each is named with its remedy, and no server is asked anything without a key."""

import contextlib
import os
import shutil
import socket
import subprocess

import pytest

from orchestrator import cli
from orchestrator.core.exploration import Exploration
from orchestrator.engine import doctor, doctor_machine
from orchestrator.engine.checks import Check, exit_code, failed, ok, show, warning
from orchestrator.llm.loopback import LoopbackServer
from tests import gpus, shelf, toy

KEY = "sk-ant-a-key-that-nobody-may-see"


@pytest.fixture
def look(tmp_path, monkeypatch, capsys):
    """Return a function that runs the doctor on a home; it gives the exit code and the checks by their names."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("ORCHESTRATOR_LEASES", str(tmp_path / "leases"))

    def run(home, *words):
        code = cli.main(["--home", str(home), "doctor", *words])
        told = capsys.readouterr()
        assert told.err == "" and KEY not in told.out
        lines = told.out.splitlines()
        columns = {len(line) - len(line.split(maxsplit=1)[1]) for line in lines[:-2]}
        assert len(columns) == 1  # aligned
        found = {}
        for line in lines[:-2]:
            name, level, sentence = line.split(maxsplit=2)
            assert level != "failed" or ". To do: " in sentence
            found[name] = (level, sentence)
        return code, found

    return run


@pytest.fixture
def served(monkeypatch):
    """Return a function that starts a service and sets a key for it."""
    with contextlib.ExitStack() as stack:

        def start(**more):
            server = stack.enter_context(LoopbackServer([], **more))
            monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
            monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
            return server

        yield start


def failures(found):
    return {name for name, (level, _) in found.items() if level == "failed"}


def test_a_healthy_home_without_a_key(tmp_path, look, monkeypatch):
    def never(*_):
        raise AssertionError("a request without a key")

    monkeypatch.setattr(socket.socket, "connect", never)
    home = toy.make_home(tmp_path)
    code, found = look(home, "toy")
    assert code == 0 and not failures(found)
    assert found["key"] == ("ok", "no key: the offline scientist decides")
    assert found["exploration"][0] == found["instruction"][0] == found["folder"][0] == "ok"
    assert "as of 2026-" in found["price"][1] and "model" not in found and "budget" not in found
    assert not toy.out(home).exists()  # looking makes nothing
    code, found = look(home)
    assert code == 0 and "exploration" not in found and {"python", "packages", "git", "sandbox", "disk"} <= set(found)


def test_an_unknown_exploration_is_a_usage_error(tmp_path, capsys):
    assert cli.main(["--home", str(toy.make_home(tmp_path)), "doctor", "nope"]) == 2
    assert "known: toy" in capsys.readouterr().err


def test_an_opened_exploration_shows_its_size(explored, look):
    code, found = look(explored, "toy")
    assert code == 0 and found["journal"][1].startswith("3 iterations done")
    assert "mean of 3), so 12 more take" in found["disk"][1]


def test_the_program_itself(tmp_path):
    home = toy.make_home(tmp_path, exploration="instruction: toy\nsystem: signal\nslotz: 3\n")
    done = toy.run(home, "doctor", "toy")
    assert done.returncode == 3 and done.stderr == "" and "did you mean slots?" in done.stdout


# --- faults of an exploration ---

BROKEN = {
    "unknown field": ("exploration.yaml", toy.EXPLORATION + "slotz: 3\n", "exploration", "did you mean slots?"),
    "no yaml": ("exploration.yaml", "instruction: [", "exploration", "exploration.yaml"),
    "no utf-8": ("exploration.yaml", b"\xff\xfe", "exploration", "UTF-8"),
    "no instruction": ("exploration.yaml", toy.EXPLORATION.replace("toy", "gone"), "instruction", "there are: toy"),
    "no range": ("../../instructions/toy.md", "# Nothing\n", "instruction", "make lint EXP=toy"),
    "config": ("config.yaml", "simulation: 3\n", "instruction", "make lint EXP=toy"),
    "unknown key": ("config.yaml", toy.CONFIG.replace("batch_size", "batch_sice"), "instruction", "batch_sice"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_files_that_cannot_be_read(tmp_path, look, fault):
    file, content, name, told = BROKEN[fault]
    home = toy.make_home(tmp_path)
    path = home / "explorations" / "toy" / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, found = look(home, "toy")
    assert code == 3 and failures(found) == {name} and told in found[name][1]


def test_a_damaged_journal(explored, tmp_path, look):
    home = shelf.copy(explored, tmp_path)
    journal = toy.out(home) / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], b"{torn\n", *lines[4:]]))
    code, found = look(home, "toy")
    assert code == 3 and "journal" in failures(found) and "line 4" in found["journal"][1]


# --- folder and disk ---


def test_a_folder_that_cannot_be_written(tmp_path, look):
    home = toy.make_home(tmp_path)
    (tmp_path / "file").write_text("in the way")
    code, found = look(home, "toy", "--root", str(tmp_path / "file"))
    assert code == 3 and failures(found) == {"folder"} and "ROOT=" in found["folder"][1]
    code, found = look(home, "toy", "--root", str(tmp_path / "new" / "folder"))
    assert code == 0 and "made at the first start" in found["folder"][1] and not (tmp_path / "new").exists()
    code, found = look(home, "toy", "--root", "/proc/1")
    assert code == 3 and failures(found) == {"folder"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path, look):
    home = toy.make_home(tmp_path)
    (tmp_path / "closed").mkdir(mode=0o500)
    code, found = look(home, "toy", "--root", str(tmp_path / "closed"))
    assert code == 3 and failures(found) == {"folder"}


def test_a_disk_that_is_too_small(explored, tmp_path, look, monkeypatch):
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda at: usage(2**30, 2**30 - 1000, 1000))
    code, found = look(explored, "toy")
    assert code == 3 and failures(found) == {"disk"} and "free some space" in found["disk"][1]
    code, found = look(toy.make_home(tmp_path), "toy")
    assert code == 0 and found["disk"][0] == "warning" and "1000 bytes are free" in found["disk"][1]


def test_links_in_a_run_are_not_measured(explored, tmp_path):
    home = shelf.copy(explored, tmp_path)
    paths = doctor.opening.paths_of(home, "toy", None)
    before = doctor._sizes(paths)
    (toy.out(home) / "runs" / "0003-1" / "out" / "big").symlink_to("/")
    os.mkfifo(toy.out(home) / "runs" / "0003-1" / "out" / "pipe")
    assert doctor._sizes(paths) == before and len(before) == 3 and min(before) > 0


# --- the model ---


def test_a_key_that_is_accepted(tmp_path, look, served):
    server = served()
    home = toy.make_home(tmp_path, exploration=toy.EXPLORATION + "budget: {max_usd: 50}\n")
    code, found = look(home, "toy")
    assert code == 0 and not failures(found)
    assert "127.0.0.1" in found["key"][1] and found["model"][1].startswith("the key is accepted; claude-opus-5-5:")
    assert "prompts of 200000 tokens, replies of 64000" in found["model"][1] and "sees plots" in found["model"][1]
    assert found["budget"][0] == "ok" and "budget of $50" in found["budget"][1]
    assert [asked.path for asked in server.others] == ["/v1/models/claude-opus-5-5"] and not server.requests
    assert not [name for name in os.environ if name.startswith("ANTHROPIC_")]


def test_the_model_that_the_environment_names_wins(tmp_path, look, served, monkeypatch):
    server = served()
    monkeypatch.setenv("ANTHROPIC_MODEL", "claude-haiku-5-5")
    code, found = look(toy.make_home(tmp_path), "toy")
    assert code == 0 and found["price"][1].startswith("claude-haiku-5-5")
    assert [asked.path for asked in server.others] == ["/v1/models/claude-haiku-5-5"]


MODELS = {
    "a wrong key": ("", {"keys": frozenset({"another"})}, {"model"}, "model", "ANTHROPIC_API_KEY"),
    "unknown": ("", {"unknown": frozenset({"claude-opus-5-5"})}, {"model"}, "model", "model: {name"),
    "no price": ("model: {name: my-own}\n", {}, {"price"}, "price", "model: {prices:"),
    "too long": ("model: {max_tokens: 100000}\n", {}, {"model"}, "model", "max_tokens 100000 is more than a reply"),
    "effort": ("model: {effort: max}\n", {}, {"model"}, "model", "model.effort max is none of its efforts"),
    "a server without cards": ("", {"without": frozenset({"models"})}, set(), "model", "does not describe models"),
    "a small budget": ("budget: {max_usd: 0.6}\n", {}, set(), "budget", "raise budget.max_usd"),
    "no budget": ("budget: {max_usd: 0.01}\n", {}, {"budget"}, "budget", "lets no request through"),
    "no turn's budget": ("budget: {turn: {max_usd: 0.01}}\n", {}, {"budget"}, "budget", "budget.turn.max_usd 0.01"),
    "offline": ("scientist: offline\nmodel: {name: my-own}\n", {}, set(), "key", "not used"),
}


@pytest.mark.parametrize("fault", MODELS)
def test_what_the_service_or_the_settings_say(tmp_path, look, served, fault):
    more, server, failing, name, told = MODELS[fault]
    service = served(**server)
    code, found = look(toy.make_home(tmp_path, exploration=toy.EXPLORATION + more), "toy")
    assert failures(found) == failing and code == (3 if failing else 0)
    assert told in found[name][1]
    assert ("model" in found) == bool(service.others) == (fault != "offline")


def test_a_service_that_is_not_there_is_worth_a_warning(tmp_path, look, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{port}")
    code, found = look(toy.make_home(tmp_path), "toy")
    assert code == 0 and found["model"][0] == "warning"


@pytest.mark.parametrize(("name", "value"), [("ANTHROPIC_API_KEY", "two words"), ("ANTHROPIC_BASE_URL", "ftp://x")])
def test_a_key_or_an_address_that_no_request_could_use(tmp_path, look, monkeypatch, name, value):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv(name, value)
    code, found = look(toy.make_home(tmp_path), "toy")
    assert code == 3 and failures(found) == {"key"} and name in found["key"][1] and "two words" not in found["key"][1]


def test_claude_without_a_key_and_a_price_that_is_not_needed(tmp_path, look):
    home = toy.make_home(tmp_path, exploration=toy.EXPLORATION + "scientist: claude\n")
    code, found = look(home, "toy")
    assert code == 3 and failures(found) == {"key"} and "SCIENTIST=offline" in found["key"][1]
    home = toy.make_home(tmp_path, exploration=toy.EXPLORATION + "model: {name: my-own}\n")
    code, found = look(home, "toy")
    assert code == 0 and found["price"][0] == "warning" and "not needed now" in found["price"][1]


# --- the machine ---


@pytest.fixture
def machine(tmp_path, monkeypatch, look):
    """Return a function that makes this a machine whose nvidia-smi says these lines."""

    def make(*rows, visible="0,1", torch="cu130"):
        for name, value in gpus.machine(tmp_path, *rows, visible=visible).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(doctor_machine, "_local_part", lambda name: torch)

    return make


def test_gpus_are_listed_with_their_memory(tmp_path, look, machine):
    machine(*gpus.ROWS)
    code, found = look(toy.make_home(tmp_path), "toy")
    assert code == 0 and "0: 23.4 GiB of 24.0 GiB free; 1: 22.5 GiB" in found["gpu"][1]
    assert found["leases"] == ("ok", f"{tmp_path / 'leases'} can be used")


def test_gpus_that_the_code_cannot_use(tmp_path, look, machine):
    machine(*gpus.ROWS, torch="cpu")
    code, found = look(toy.make_home(tmp_path), "toy")
    assert code == 3 and failures(found) == {"gpu"} and "CPU alone" in found["gpu"][1]


def test_an_nvidia_smi_that_lists_none(tmp_path, look, machine, monkeypatch):
    machine("NVIDIA-SMI has failed")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    code, found = look(toy.make_home(tmp_path), "toy")
    assert code == 0 and found["gpu"][0] == "warning" and "mend the driver" in found["gpu"][1]
    machine(*gpus.ROWS, visible="")
    assert look(toy.make_home(tmp_path), "toy")[1]["gpu"][0] == "ok"


def test_an_exploration_whose_gpu_has_gone():
    found = doctor_machine.gpu([], "cuda")
    assert found.level == "failed" and "FRESH=1" in found.remedy


@pytest.mark.parametrize("kind", ["file", "link", "open to all"])
def test_leases_that_cannot_be_used(tmp_path, look, machine, kind):
    machine(*gpus.ROWS)
    folder = tmp_path / "leases"
    if kind == "file":
        folder.write_text("in the way")
    elif kind == "link":
        folder.symlink_to(tmp_path)
    else:
        folder.mkdir()
        folder.chmod(0o777)
    code, found = look(toy.make_home(tmp_path), "toy")
    assert code == 3 and failures(found) == {"leases"} and "ORCHESTRATOR_LEASES" in found["leases"][1]


def test_packages_are_held_against_the_tested_versions(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["PyYAML>=6", "Pydantic[email]<3"]\n')
    pins = tmp_path / "constraints.txt"
    pins.write_text(f"# pins\nPyYAML=={doctor_machine._version('pyyaml')}\n\nnot-installed-here==1.0\n")
    assert doctor_machine.packages(tmp_path).level == "ok"
    pins.write_text("pyyaml==5.0  # old\n")
    found = doctor_machine.packages(tmp_path)
    assert found.level == "warning" and "(tested 5.0)" in found.sentence and "make setup" in found.remedy
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["no_such.package>=1"]\n')
    found = doctor_machine.packages(tmp_path)
    assert found.level == "failed" and "no-such-package" in found.sentence
    for broken in ("[project", "", "[project]\ndependencies = 3\n"):
        (tmp_path / "pyproject.toml").write_text(broken)
        assert doctor_machine.packages(tmp_path).level == "warning"
    assert doctor_machine.packages(tmp_path / "gone").level == "warning"


def test_the_checkout_in_every_state(odd_path, monkeypatch):
    home = odd_path / "home"
    home.mkdir()
    assert "no checkout" in doctor_machine.git(home).sentence
    subprocess.run(["git", "init", "-q", str(home)], check=True)
    assert "no changed or new" in doctor_machine.git(home).sentence
    (home / "a\nfile").write_text("x")
    (home / "b").write_text("x")
    assert "2 changed or new" in doctor_machine.git(home).sentence
    assert "no checkout" in doctor_machine.git(odd_path / "gone").sentence


@pytest.mark.parametrize(
    ("script", "told"),
    [("", "not found"), ("echo git version 2.20.1", "2.28 or newer"), ("exit 1", "not found"),
     ("echo what", "not found")],
)  # fmt: skip
def test_a_git_that_will_not_do(tmp_path, monkeypatch, script, told):
    monkeypatch.setenv("PATH", str(tmp_path))
    if script:
        (tmp_path / "git").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "git").chmod(0o755)
    found = doctor_machine.git(tmp_path)
    assert found.level == "failed" and told in found.sentence and found.remedy


def spec(**fields):
    return Exploration(instruction="toy", system="signal", **fields)


SANDBOXES = {
    "bwrap": ({}, None, "ok", "bwrap"),
    "no program": ({}, "there is no bwrap on this machine", "warning", "apt install bubblewrap"),
    "no namespaces": ({}, "bwrap failed: No permissions", "warning", "kernel.unprivileged_userns_clone"),
    "asked for": ({"sandbox": "bwrap"}, "there is no bwrap on this machine", "failed", "sandbox: auto"),
    "none": ({"sandbox": "none"}, None, "warning", "sandbox: auto"),
    "own command": ({"command": ("python", "x.py")}, "there is no bwrap", "ok", "your own program"),
}


@pytest.mark.parametrize("case", SANDBOXES)
def test_the_sandbox_with_its_remedy(monkeypatch, case):
    fields, why, level, told = SANDBOXES[case]
    monkeypatch.setattr(doctor_machine.sandbox, "why_not", lambda wanted: why if wanted == "bwrap" else None)
    monkeypatch.setattr(doctor_machine.sandbox, "best_level", lambda: "landlock" if why else "bwrap")
    found = doctor_machine.confinement(spec(**fields))
    assert found.level == level and told in f"{found.sentence} {found.remedy}"


def test_checks_are_shown_one_a_line():
    checks = [ok("a", "well"), warning("longer", "so so", "look"), failed("b", "line one\n  line two", "mend it")]
    assert show(checks).splitlines() == [
        "a       ok       well",
        "longer  warning  so so. To do: look",
        "b       failed   line one; line two. To do: mend it",
        "",
        "1 ok, 1 warning, 1 failed",
    ]
    assert exit_code(checks) == 3 and exit_code(checks[:2]) == 0 and exit_code([]) == 0
    with pytest.raises(ValueError, match="level"):
        Check(name="a", level="fine", sentence="s")
