"""Command line: one function per subcommand; the only module that prints, exits and builds concrete adapters.

`python -m orchestrator <command> NAME --option`; `make <command> EXP=NAME OPTION=value` is the usual way in.
Exit codes: 0 done, 1 bug, 2 usage, 3 needs a person, 4 stopped by request, 130 interrupt.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from orchestrator import errors

if TYPE_CHECKING:
    from orchestrator.engine.confirm import Confirmation
    from orchestrator.engine.context import Adapters, Setup
    from orchestrator.engine.explorer import Explorer
    from orchestrator.ports import Scientist

SOURCE_ROOT = Path(__file__).resolve().parent.parent
"""Checkout that holds `explorations/`, `instructions/`, `models/` and `trainers/`."""


_DISK = {
    errno.ENOSPC: ("the disk is full", "Free some space and run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "Free some space and run the same command again"),
    errno.EROFS: ("the file system is read-only", "Choose another folder with ROOT="),
    errno.EACCES: ("no permission to write", "Choose another folder with ROOT="),
    errno.EPERM: ("no permission to write", "Choose another folder with ROOT="),
}


def parser() -> argparse.ArgumentParser:
    """Return the whole command line."""
    top = argparse.ArgumentParser(prog="orchestrator", description="LLM-in-the-loop experiment orchestrator")
    top.add_argument(
        "--home", type=Path, default=SOURCE_ROOT, help="folder of explorations/, instructions/, models/, trainers/"
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    explore = commands.add_parser("explore", help="open an exploration or continue it")
    _common(explore)
    explore.add_argument("--iterations", type=_count, help="total number of iterations (default: one block)")
    explore.add_argument(
        "--fresh", action="store_true", help="set the old folder aside, with its date, and start again"
    )
    explore.add_argument("--code", action="store_true", help="open it with code edits on (see docs/code.md)")
    explore.add_argument("--from", dest="origin", metavar="EXP:ITER", help="start from another exploration's node")
    resume = commands.add_parser("resume", help="continue to the total asked for last")
    _common(resume)
    resume.add_argument(
        "--block", type=_count, metavar="N", help="start again from the end of block N; what came later is set aside"
    )
    for command in (explore, resume):
        command.add_argument(
            "--scientist", choices=("offline", "claude"), help="who decides (default: claude when a key is set)"
        )
        command.add_argument("--profile", help="profile of exploration.yaml (default: full with a GPU, else cpu)")
        command.add_argument("--slots", type=_count, help="runs in flight (default: exploration.yaml)")
        command.add_argument("--mode", choices=("batch", "refill"), help="how slots are filled (default: refill)")
        command.add_argument("--launcher", choices=("local",), help="where runs start (default: local)")
        command.add_argument("--seed", type=int, help="draw another system: simulation, training and scientist seed")
    status = commands.add_parser("status", help="show where an exploration stands; restore its views")
    _common(status)
    report = commands.add_parser("report", help="write report.html: tree, metrics, plots of the best nodes, memory")
    _common(report)
    confirm = commands.add_parser("confirm", help="train the best again on fresh seeds and fresh draws: is it real?")
    _common(confirm)
    confirm.add_argument("--runs", type=_count, default=3, metavar="N", help="seeds, and draws, to try (default: 3)")
    confirm.set_defaults(slots=None)
    replay = commands.add_parser("replay", help="go through every turn again from recorded replies: same prompts?")
    _common(replay)
    talk = commands.add_parser(
        "conversation", help="show what was said to the language model in a turn, and its replies"
    )
    _common(talk)
    talk.add_argument("--turn", type=_count, metavar="N", help="which turn (default: the last one)")
    talk.add_argument("--whole", action="store_true", help="cut nothing")
    adopt = commands.add_parser("adopt", help="print a node's code edits as a patch for the checkout; write nothing")
    _common(adopt)
    adopt.add_argument("--node", type=_count, required=True, metavar="N", help="the node whose code to take")
    demo = commands.add_parser("demo", help="a short exploration against scripted replies of a model on this machine")
    demo.add_argument("--root", type=Path, help="folder for the output (default: a new temporary folder)")
    new = commands.add_parser("new", help="make a new exploration from an existing one")
    new.add_argument("name", help="name of the new exploration")
    new.add_argument("--from", dest="origin", default="sparse_gnn", metavar="EXP", help="the one to copy")
    lint = commands.add_parser("lint", help="show what an instruction compiles to, and what stops it")
    lint.add_argument("name", nargs="?", help="exploration")
    lint.add_argument("--file", type=Path, help="an instruction file instead")
    doctor = commands.add_parser("doctor", help="look at everything an exploration needs: what is missing, what to do")
    doctor.add_argument("name", nargs="?", help="exploration (default: the machine alone)")
    doctor.add_argument("--root", type=Path, help="folder for the output (default: explorations/NAME/out)")
    return top


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", help="exploration, a folder of explorations/")
    command.add_argument("--root", type=Path, help="folder for the output (default: explorations/NAME/out)")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, found {text!r}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = parser().parse_args(argv)
    for name in [n for n in os.environ if n.startswith("GIT_")]:
        del os.environ[name]  # a git hook's settings are about another repository
    try:
        return _COMMANDS[arguments.command](arguments)
    except errors.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # who read the output has gone; nothing of the exploration is lost
        from orchestrator.views.console import silence

        silence(sys.stdout)
        return errors.EXIT_DONE
    except OSError as error:
        told = _DISK.get(error.errno or 0)
        if told is None:
            raise
        print(f"error: {told[0]}: {error.filename or error}. {told[1]}; what is finished is kept", file=sys.stderr)
        return errors.EXIT_NEEDS_PERSON
    except KeyboardInterrupt:
        return errors.EXIT_INTERRUPT


def explore(arguments: argparse.Namespace) -> int:
    """Open an exploration or continue it."""
    from orchestrator.engine import opening, sealing
    from orchestrator.launch.local import LocalLauncher

    wishes = opening.Wishes.of(arguments)
    setup = opening.load(arguments.home, arguments.name, wishes)
    for note in opening.code_left_behind(arguments.home, wishes):
        print(note)
    if arguments.fresh:
        moved = sealing.set_aside(setup.paths, LocalLauncher())
        if moved:
            print(f"set aside: {moved}")
    last = sealing.last_session(setup.paths)
    default = max(setup.contract.n_iter_block, last.iterations if last else 0)
    return _run(setup, arguments, arguments.iterations or default)


def resume(arguments: argparse.Namespace) -> int:
    """Continue an exploration to the total that was asked for last, with as many slots unless told otherwise."""
    from orchestrator.engine import opening, sealing

    setup = opening.load(arguments.home, arguments.name, opening.Wishes.of(arguments))
    last = sealing.last_session(setup.paths)
    if last is None:
        start = f"make explore EXP={setup.name}{_root(arguments)}"
        raise errors.UserError(f"nothing to resume in {setup.paths.out}: start with `{start}`")
    arguments.slots, arguments.mode = arguments.slots or last.slots, arguments.mode or last.mode
    total = last.iterations
    if arguments.block:
        from orchestrator.core import ledger
        from orchestrator.engine.snapshots import start_again
        from orchestrator.launch.local import LocalLauncher

        aside, total = start_again(setup.paths, arguments.block, LocalLauncher())
        print(f"starting again from the end of block {arguments.block}; all that came later is kept in {aside}")
        spent = sealing.state_of(setup.paths).before
        if spent:
            print(f"{ledger.usd(spent[-1].micro_usd)} were spent on what came later: they still count in the budget")
        setup = opening.load(arguments.home, arguments.name, opening.Wishes.of(arguments))
    return _run(setup, arguments, total)


def _run(setup: Setup, arguments: argparse.Namespace, iterations: int) -> int:
    from orchestrator.core import tree
    from orchestrator.engine.explorer import Explorer
    from orchestrator.engine.opening import make_folder
    from orchestrator.formats import code_permission
    from orchestrator.launch.sandbox import hide_environment
    from orchestrator.views import console, lines

    hide_environment()
    for note in make_folder(setup):
        print(note)
    with _adapters(setup, arguments) as adapters, console.observer() as observer:
        print(code_permission.told(setup.contract, adapters.sandbox))
        explorer = Explorer(setup, adapters, observer)
        with _signals(explorer) as received:
            code = explorer.run(iterations)
    state = explorer.state
    print(*lines.other_bests(state), lines.best_line(state), sep="\n")
    done = sum(not it.proposal.filler for it in state.done)
    if code == errors.EXIT_DONE:
        print(f"{done} iterations done. Read {setup.paths.memory} and {setup.paths.analysis}")
        more = max(iterations, done) + setup.contract.n_iter_block
        print(f"go on: make explore EXP={setup.name} ITERATIONS={more}{_slots(arguments)}{_root(arguments)}")
    elif code == errors.EXIT_NEEDS_PERSON:
        print(f"when that is mended: make resume EXP={setup.name}{_root(arguments)}")
    elif code == errors.EXIT_STOPPED:
        print(f"stopped after {done} iterations; go on: make resume EXP={setup.name}{_root(arguments)}")
    best = tree.best(state)
    plots = setup.paths.run(best.id, len(state.iterations[best.id].attempts)).plots if best is not None else None
    if plots is not None and plots.is_dir():
        print(f"plots of the best node: {plots}")
    return errors.EXIT_INTERRUPT if signal.SIGINT in received and code == errors.EXIT_STOPPED else code


def confirm(arguments: argparse.Namespace) -> int:
    """Train the best node again on seeds that nothing was chosen by, and print the table."""
    from orchestrator.engine import opening, sealing
    from orchestrator.engine.confirm import Confirmation
    from orchestrator.launch.sandbox import hide_environment

    sealing.state_of(opening.paths_of(arguments.home, arguments.name, arguments.root))
    setup = opening.load(arguments.home, arguments.name, opening.Wishes(root=arguments.root))
    hide_environment()
    with _adapters(setup, arguments) as adapters:
        confirmation = Confirmation(setup, adapters, lambda text: print(text, flush=True))
        with _signals(confirmation) as received:
            code = confirmation.run(arguments.runs)
    if confirmation.rows:
        print(confirmation.paths.table.read_text(encoding="utf-8"))
        print(f"wrote {confirmation.paths.table}")
    return errors.EXIT_INTERRUPT if signal.SIGINT in received and code == errors.EXIT_STOPPED else code


def _root(arguments: argparse.Namespace) -> str:
    """Return the ROOT= that a command told to the person must repeat."""
    return f" ROOT={shlex.quote(str(arguments.root))}" if arguments.root else ""


def _slots(arguments: argparse.Namespace) -> str:
    """Return the SLOTS= and MODE= that a command told to the person must repeat."""
    given = {"SLOTS": arguments.slots, "MODE": arguments.mode}
    return "".join(f" {name}={value}" for name, value in given.items() if value)


@contextlib.contextmanager
def _adapters(setup: Setup, arguments: argparse.Namespace) -> Iterator[Adapters]:
    """Build the concrete adapters; the GPUs among them are leased until the end of the block."""
    from orchestrator.engine.context import Adapters
    from orchestrator.engine.devices import gpus
    from orchestrator.launch.leases import Leases
    from orchestrator.launch.local import LocalLauncher
    from orchestrator.launch.sandbox import best_level

    slots = arguments.slots or setup.spec.slots
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    level = best_level() if setup.spec.sandbox == "auto" else setup.spec.sandbox
    if setup.spec.command is not None:
        level = "none"  # a user's own program
    found = gpus() if setup.device == "cuda" else []
    if not found and slots > cores:
        print(f"note: {slots} slots on {cores} cores: the runs share cores, and each takes longer")
    with Leases(setup.paths.out) as leases:
        leased = leases.take(found, 1 if arguments.command == "confirm" else slots, setup.spec.share_gpus)
        yield Adapters(
            scientist=_scientist(setup, arguments),
            launcher=LocalLauncher(),
            sandbox=level,
            slots=slots,
            mode=(arguments.mode if "mode" in arguments else None) or setup.spec.mode,
            threads=max(1, cores // slots),
            gpus=tuple(leased),
            holds=leases.files,
        )


def _scientist(setup: Setup, arguments: argparse.Namespace) -> Scientist:
    """Return who decides; says so. No ANTHROPIC_* variable is left in the environment after this.

    Raises:
        UserError: Claude is asked for and no key is set, or its price is not known.
    """
    from orchestrator.engine.sealing import last_session
    from orchestrator.llm.anthropic import AnthropicModel, credentials
    from orchestrator.scientist.offline import OfflineScientist

    found = credentials(os.environ)
    wanted = getattr(arguments, "scientist", None) or setup.spec.scientist
    if arguments.command == "confirm":
        return OfflineScientist()
    if wanted is None and found is None:
        last = last_session(setup.paths) if setup.paths.journal.exists() else None
        if last is not None and last.scientist != OfflineScientist.name:
            raise errors.UserError(
                f"the last session here was driven by {last.scientist}, and no key is set: set ANTHROPIC_API_KEY, or "
                "go on without it: SCIENTIST=offline"
            )
    if wanted == "offline" or (wanted is None and found is None):
        if wanted is None:
            print("scientist: offline (no ANTHROPIC_API_KEY is set)")
        return OfflineScientist()
    if found is None:
        raise errors.UserError(
            "the scientist `claude` needs a key: set ANTHROPIC_API_KEY (and ANTHROPIC_BASE_URL for a server of your "
            "own), or run with SCIENTIST=offline"
        )
    from orchestrator.scientist.claude import ClaudeScientist

    named = {"name": found.model} if found.model else {}
    settings = setup.spec.model.model_copy(update=named)
    rates, model = settings.rates, AnthropicModel(found, features=frozenset(settings.features))
    print(f"scientist: claude ({settings.name} at {model.host}, prices of {rates.date})")
    return ClaudeScientist(model, settings, setup.spec.budget)


@contextlib.contextmanager
def _signals(running: Explorer | Confirmation) -> Iterator[list[int]]:
    """Turn SIGINT and SIGTERM into a clean stop: runs are cancelled with a checkpoint, the journal is whole."""
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            print(
                "stopping: runs in flight write a checkpoint, a reply on its way is waited for (again to stop at once)",
                file=sys.stderr,
            )
            running.stop()
        else:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def status(arguments: argparse.Namespace) -> int:
    """Show where an exploration stands; restore its views when no engine is at work."""
    from orchestrator.engine import opening
    from orchestrator.views import status as view

    paths = opening.paths_of(arguments.home, arguments.name, arguments.root)
    print(view.show(paths))
    return errors.EXIT_DONE


def lint(arguments: argparse.Namespace) -> int:
    """Show what an instruction compiles to."""
    from orchestrator.engine import opening

    if (arguments.name is None) == (arguments.file is None):
        raise errors.UserError("lint needs EXP=<exploration> or FILE=<instruction.md>, one of them")
    report = opening.lint(arguments.home, arguments.name, arguments.file)
    print(report.text)
    return errors.EXIT_DONE if report.ok else errors.EXIT_USAGE


def doctor(arguments: argparse.Namespace) -> int:
    """Look at the machine, the key and an exploration; say what is missing and what to do."""
    from orchestrator.engine import checks
    from orchestrator.engine.doctor import examine
    from orchestrator.engine.doctor_model import Service
    from orchestrator.llm.anthropic import AnthropicModel, credentials

    service, fault = None, ""
    with contextlib.ExitStack() as stack:
        try:
            found = credentials(os.environ)
            if found is not None:
                model = stack.enter_context(contextlib.closing(AnthropicModel(found, max_retries=0)))
                service = Service(model.host, model.describe, found.model)
        except errors.UserError as error:
            fault = str(error)
        seen = examine(arguments.home, SOURCE_ROOT, arguments.name, arguments.root, service, fault)
    print(checks.show(seen))
    return checks.exit_code(seen)


def report(arguments: argparse.Namespace) -> int:
    """Write report.html."""
    from orchestrator.engine import opening
    from orchestrator.views import report as view

    print(f"wrote {view.write(opening.paths_of(arguments.home, arguments.name, arguments.root))}")
    return errors.EXIT_DONE


def replay(arguments: argparse.Namespace) -> int:
    """Go through every turn again, from recorded replies and recorded runs, without a key."""
    from orchestrator.engine import opening
    from orchestrator.engine.replay import replay as again
    from orchestrator.engine.sealing import state_of
    from orchestrator.store import journal

    paths = opening.paths_of(arguments.home, arguments.name, arguments.root)
    state_of(paths)
    setup = opening.load(arguments.home, arguments.name, opening.Wishes(root=arguments.root))
    found = again(setup, journal.read(paths.journal), print)
    print(f"{found.turns} turns are the same, {found.asked} of them of the model with {found.replies} replies")
    return errors.EXIT_DONE


def conversation(arguments: argparse.Namespace) -> int:
    """Show the conversation of one turn."""
    from orchestrator.engine import opening
    from orchestrator.views import conversation as view

    paths = opening.paths_of(arguments.home, arguments.name, arguments.root)
    print(view.show(paths, arguments.turn, whole=arguments.whole), end="")
    return errors.EXIT_DONE


def adopt(arguments: argparse.Namespace) -> int:
    """Print a node's code edits as a patch; what it is goes to standard error."""
    from orchestrator.engine.adopt import adopt as patch_of

    found = patch_of(arguments.home, arguments.name, arguments.root, arguments.node)
    for note in found.notes:
        print(note, file=sys.stderr)
    sys.stdout.buffer.write(found.patch.encode(errors="surrogateescape"))
    sys.stdout.flush()
    return errors.EXIT_DONE


def demo(arguments: argparse.Namespace) -> int:
    """Run two blocks of the example `ridge_numpy` against a Messages API server on this machine."""
    import tempfile

    from orchestrator.llm.demo import DemoScript
    from orchestrator.llm.loopback import LoopbackServer

    root = arguments.root or Path(tempfile.mkdtemp(prefix="orchestrator-demo-"))
    print(
        "demo: the replies are scripted by a few rules (orchestrator/llm/demo.py); no model is asked, nothing is paid"
    )
    for name in [n for n in os.environ if n.startswith("ANTHROPIC_")]:
        del os.environ[name]  # the demo is the same whatever is set
    with LoopbackServer(DemoScript()) as server:
        os.environ.update(
            {"ANTHROPIC_API_KEY": "demo", "ANTHROPIC_BASE_URL": server.url, "ORCHESTRATOR_MODEL_HOSTS": "loopback"}
        )
        words = ["explore", "ridge_numpy", "--iterations", "12", "--slots", "2", "--scientist", "claude"]
        run = parser().parse_args(["--home", str(arguments.home), *words, "--root", str(root)])
        code = explore(run)
    shown = f"EXP=ridge_numpy ROOT={shlex.quote(str(root))}"
    print(f"demo: costs are those of the scripted tokens. Look: make conversation {shown} TURN=2, make report {shown}")
    return code


def new(arguments: argparse.Namespace) -> int:
    """Make a new exploration from an existing one."""
    from orchestrator.engine.creation import create

    for path in create(arguments.home, arguments.name, arguments.origin):
        print(f"wrote {path}")
    print(f"edit them, then: make lint EXP={arguments.name} and make explore EXP={arguments.name}")
    return errors.EXIT_DONE


_COMMANDS = {
    "explore": explore,
    "resume": resume,
    "status": status,
    "report": report,
    "confirm": confirm,
    "lint": lint,
    "replay": replay,
    "conversation": conversation,
    "adopt": adopt,
    "demo": demo,
    "doctor": doctor,
    "new": new,
}

if __name__ == "__main__":
    sys.exit(main())
