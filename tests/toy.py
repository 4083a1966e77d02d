"""A whole home (explorations, instructions, models, trainers) around the toy child: real engine, real processes, real
git, real files; a run takes about 0.2 s."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

MAIN = '''"""Toy trainers: prepare writes a preflight, train and score are the toy child."""

import json
import os
import sys
from pathlib import Path

import yaml
from trainers import toy_child

here = Path(__file__).parent
command, where, *rest = sys.argv[1:]
if command == "prepare":
    target = Path(rest[0])
    temporary = target.with_name(target.name + ".tmp")
    for name in ("train", "inputs", "truth"):
        (temporary / name).mkdir(parents=True)
    (temporary / "truth" / "W.txt").write_text("the truth")
    found = json.loads((here / "preflight.json").read_text())
    seed = yaml.load(Path(where).read_text(), yaml.BaseLoader)["config"]["simulation"]["seed"]
    found |= found.pop("by_seed", {}).get(seed, {})
    (temporary / "preflight.json").write_text(json.dumps(found))
    os.rename(temporary, target)
else:
    toy_child.main([command, where, *rest, *json.loads((here / "options.json").read_text())])
'''

PREFLIGHT = {
    "contract": 1, "system": "signal", "regime": "toy", "generator_version": 1, "fingerprint": "f", "ok": True,
    "reason": None, "guard": {"ok": True, "relative_error": 0.0, "sentence": "the toy data are what they are"},
    "oracle": {"connectivity_R2": 1.0}, "null": {"connectivity_R2": 0.001}, "ceiling": {"connectivity_R2": 0.99},
    "baselines": {}, "activity": {}, "warnings": [],
}  # fmt: skip


def key(kind, default, low=None, high=None, aliases=()):
    """Return one key of a schema."""
    return {
        "type": kind, "default": default, "minimum": low, "maximum": high, "exclusive_minimum": False, "allowed": None,
        "unit": "dimensionless", "aliases": list(aliases), "acts_when": "always", "description": "toy",
    }  # fmt: skip


def metric(name, aliases=(), form="%.4f"):
    """Return one metric of a schema."""
    return {
        "unit": "dimensionless", "direction": "max", "aliases": list(aliases), "version": 1, "log_key": name,
        "format": form, "description": "toy",
    }  # fmt: skip


SCHEMA = {
    "contract": 1,
    "systems": {"signal": {
        "generator_version": 1,
        "sections": {
            "simulation": {"n_neurons": key("int", 10, 2), "n_frames": key("int", 100, 1), "seed": key("int", 42, 0)},
            "graph_model": {"hidden_dim": key("int", 8, 1)},
            "training": {
                "seed": key("int", 7, 0),
                "n_epochs": key("int", 2, 1),
                "data_augmentation_loop": key("int", 1, 1),
                "learning_rate_W_start": key("float", 3e-3, 0.0, 1.0, ["lr_W"]),
                "learning_rate_start": key("float", 1e-4, 0.0, 1.0, ["lr"]),
                "batch_size": key("int", 8, 1),
            },
        },
        "metrics": {
            "connectivity_R2": metric("connectivity_R2", ["conn_R2"]),
            "test_R2": metric("test_R2"),
            "training_time_min": metric("training_time_min", form="%.1f"),
        },
    }},
}  # fmt: skip

INSTRUCTION = """# Toy exploration

## Goal

Find hyperparameters that recover the matrix W: maximise connectivity_R2.

## Metrics

- `connectivity_R2`: primary metric, R2 of learned against true weights
- `test_R2`: rollout

**Classification:**

- **Converged**: connectivity_R2 > 0.9
- **Partial**: connectivity_R2 0.1-0.9
- **Failed**: connectivity_R2 < 0.1

## Training Parameters (the exploration space)

Mutate ONE parameter at a time.

```yaml
training:
  learning_rate_W_start: 3.0E-3 # range: 1E-4 to 1E-2
  learning_rate_start: 1.0E-4 # range: 1E-5 to 1E-3
  batch_size: 8 # values: 8, 16, 32
```

**DO NOT change `simulation:` parameters.**

**DO NOT change `graph_model:` parameters.**

## Log Form

```
## Iter N: [converged/partial/failed]
Node: id=N, parent=P
Mode/Strategy: [exploit/explore]
Config: seed=S, lr_W=X, lr=Y, batch_size=B
Metrics: test_R2=A, connectivity_R2=C
Mutation: [param]: [old] -> [new]
Parent rule: [one line]
Observation: [one line]
Next: parent=P
```
"""

CONFIG = """simulation:
  n_neurons: 10
  n_frames: 100
  seed: 42
graph_model:
  hidden_dim: 8
training:
  seed: 7
  learning_rate_W_start: 3.0E-3 # a comment
  learning_rate_start: 1e-4
  batch_size: 8
claude:
  n_epochs: 4
  data_augmentation_loop: 1
  n_iter_block: 12
  ucb_c: 1.414
"""

EXPLORATION = """instruction: toy
system: signal
sandbox: none
replicate_every: 4
profiles:
  cpu: {}
limits:
  wall_s: 20
  silence_s: 4
"""


def make_home(folder, *options, preflight=None, config=CONFIG, instruction=INSTRUCTION, exploration=EXPLORATION,
              schema=SCHEMA):  # fmt: skip
    """Write the toy home; `options` go to the toy child (faults, epochs)."""
    home = folder / "home"
    for name in ("models", "trainers", "trainers/prepare", "trainers/scoring", "explorations/toy", "instructions"):
        (home / name).mkdir(parents=True, exist_ok=True)
        (home / name / "__init__.py").write_text("")
    shutil.copy(Path(__file__).with_name("toy_child.py"), home / "trainers" / "toy_child.py")
    (home / "trainers" / "__main__.py").write_text(MAIN)
    (home / "trainers" / "schema.json").write_text(json.dumps(schema))
    (home / "trainers" / "preflight.json").write_text(json.dumps(PREFLIGHT | (preflight or {})))
    (home / "trainers" / "options.json").write_text(json.dumps(list(options)))
    (home / "explorations" / "toy" / "config.yaml").write_text(config)
    (home / "explorations" / "toy" / "exploration.yaml").write_text(exploration)
    (home / "instructions" / "toy.md").write_text(instruction)
    return home


def command(home, *words):
    """Return the command line of the real program on a home."""
    return [sys.executable, "-m", "orchestrator", "--home", str(home), *words]


def environment(**more):
    """Return an environment in which the program under test is this checkout."""
    base = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(REPOSITORY)}
    return base | {"CUDA_VISIBLE_DEVICES": "", "ORCHESTRATOR_MODEL_HOSTS": "loopback"} | more


def run(home, *words, timeout=50, **env):
    """Run the program to its end."""
    return subprocess.run(
        command(home, *words), capture_output=True, text=True, timeout=timeout, env=environment(**env), check=False
    )


def start(home, *words, **env):
    """Start the program and return the process."""
    return subprocess.Popen(
        command(home, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(**env)
    )


def out(home):
    """Return the output folder."""
    return home / "explorations" / "toy" / "out"


def processes_of(folder):
    """Return the processes whose command line names a folder (Linux)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state != "Z" and any(str(folder).encode() in w for w in words):
                found.append((int(entry.name), b" ".join(words).decode(errors="replace")))
    return found


def wait_for(condition, seconds=20.0):
    """Return the first true answer of `condition`; fail when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds} s in vain")
