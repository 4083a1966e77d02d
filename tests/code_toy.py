"""The toy home with code that may be edited: `trainers/signal.py::data_train_signal`, plain Python, and a trial of it.

What the function returns is added to connectivity_R2 by the scorer, so that an edit can be better, worse or neutral. A
trial (`try`) goes through 2 epochs, a training through 4: an edit can pass the one and crash in the other.
"""

import os
import subprocess

from tests import toy

SIGNAL = '''"""Toy training: what its loop gains."""

import math
import os

SCALE = 1.0


def data_train_signal(config, run):
    """Train for n_epochs and return what the loop gains in connectivity_R2."""
    gain = 0.0
    rate = SCALE
    for epoch in range(config["n_epochs"]):
        # one epoch
        gain = gain + 0.0 * rate
        run.record(epoch)
    return gain


def unrelated():
    """Return something else."""
    return math.pi
'''
MODEL = '''"""Toy model."""


def first(x):
    """Return x."""
    return x


def second(x):
    """Return two x."""
    return 2 * x
'''
MAIN = toy.MAIN.replace(
    """else:
    toy_child.main(""",
    """elif command in ("try", "train"):
    from trainers.signal import data_train_signal

    class Run:
        def record(self, epoch):
            pass

    gain = data_train_signal({"n_epochs": 2 if command == "try" else 4}, Run())
    os.makedirs(os.path.join(where, "out"), exist_ok=True)
    with open(os.path.join(where, "out", "gain.txt"), "w") as file:
        file.write(repr(gain))
    options = json.loads((here / "options.json").read_text())
    toy_child.main(["train", where, *rest, *(options if command == "train" else [])])
elif command == "check":
    with open(os.path.join(where, "out", "gain.txt")) as file:
        text = file.read(64)
    try:
        float(text)
    except ValueError:
        sys.exit(f"gain.txt holds {text!r}, expected a number")
else:
    toy_child.main(""",
)
PERMISSION = """
## Code

**Files you can modify:**

| File                | Permission                                   |
| ------------------- | -------------------------------------------- |
| `trainers/signal.py` | **ONLY modify `data_train_signal` function** |
| `models/signal.py`  | Can modify if necessary                      |
"""
TABLE = """
## Strategies

| Condition | Strategy | Action |
| --------- | -------- | ------ |
| Default | **exploit** | Highest UCB node, try mutation |
| code change improved connectivity_R2 | **code-refine** | Keep the code, tune parameters around it |
| code change degraded connectivity_R2 | **code-revert** | Revert, try the next priority |
| code change had zero effect | **code-next-priority** | Try the next priority |
| plateau persists after 2+ code changes (±0.05) | **multi-code-modification** | Apply two code changes at once |
"""
INSTRUCTION = toy.INSTRUCTION + PERMISSION + TABLE


def make_home(folder, *options, patches=None, exploration=toy.EXPLORATION, config=toy.CONFIG, **given):
    """Write the toy home with code that may be edited; `patches`: file name -> text."""
    exploration = exploration.replace("sandbox: none", "sandbox: auto") + "code: on\n"
    home = toy.make_home(folder, *options, instruction=INSTRUCTION, exploration=exploration, config=config, **given)
    (home / "trainers" / "__main__.py").write_text(MAIN)
    (home / "trainers" / "signal.py").write_text(SIGNAL)
    (home / "models" / "signal.py").write_text(MODEL)
    for name, text in (patches or {}).items():
        (home / "explorations" / "toy" / "patches").mkdir(exist_ok=True)
        (home / "explorations" / "toy" / "patches" / name).write_text(text)
    return home


def patch(change, *edits, hypothesis="it helps", path="trainers/signal.py", text=SIGNAL):
    """Return a prepared patch that replaces texts of a file."""
    import difflib

    after = text
    for old, new in edits:
        assert after.count(old) == 1, old
        after = after.replace(old, new)
    lines = difflib.unified_diff(text.splitlines(True), after.splitlines(True), f"a/{path}", f"b/{path}")
    return f"Change: {change}\nHypothesis: {hypothesis}\n\n{''.join(lines)}"


STEP = "gain = gain + 0.0 * rate"
BETTER = patch("a rate that gains", (STEP, "gain = gain + 0.02 * rate"))
WORSE = patch("a rate that loses", (STEP, "gain = gain - 0.05 * rate"))
NEUTRAL = patch("a rate by its cosine", (STEP, "gain = gain + 0.0 * math.cos(rate)"))
CRASHES = patch("a table of rates", (STEP, "gain = gain + [0.1, 0.1][epoch]"))
FAILS_ITS_TRIAL = patch("an unknown name", (STEP, "gain = gain + 0.1 * unknown_name"))
OUTSIDE = patch("another scale", ("SCALE = 1.0", "SCALE = 2.0"))


def git(home, *words):
    """Return what git prints in the exploration's own repository."""
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *words], cwd=toy.out(home), capture_output=True, text=True, env=env, check=True)
    return done.stdout
