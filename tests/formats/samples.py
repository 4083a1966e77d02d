"""A small trainer schema, exploration and instruction for the tests of reading and compiling."""

from orchestrator.core.exploration import read_exploration
from orchestrator.core.schema import read_schema
from orchestrator.formats import yaml_edit
from orchestrator.formats.compile import compile_all
from orchestrator.formats.instruction import read_instruction


def key(kind, default, low=None, high=None, *, aliases=(), allowed=None, exclusive=False):
    return {
        "type": kind, "default": default, "minimum": low, "maximum": high, "exclusive_minimum": exclusive,
        "allowed": allowed, "unit": "dimensionless", "aliases": list(aliases), "acts_when": "always", "description": "",
    }  # fmt: skip


def metric(direction="max", aliases=(), log_key=None):
    return {
        "unit": "dimensionless", "direction": direction, "aliases": list(aliases), "version": 1,
        "log_key": log_key or "", "format": "%.4f", "description": "",
    }  # fmt: skip


SCHEMA = {
    "contract": 1,
    "systems": {
        "signal": {
            "generator_version": 1,
            "sections": {
                "simulation": {
                    "n_neurons": key("int", 100, 2, 10000),
                    "n_frames": key("int", 1000, 50, 100000),
                    "seed": key("int", 42, 0, 2**31 - 1),
                },
                "graph_model": {"hidden_dim": key("int", 64, 1, 4096)},
                "training": {
                    "seed": key("int", 42, 0, 2**31 - 1),
                    "n_epochs": key("int", 2, 1, 1000),
                    "data_augmentation_loop": key("int", 40, 1, 100000),
                    "learning_rate_W_start": key("float", 3e-3, 0.0, 1.0, aliases=["lr_W"], exclusive=True),
                    "learning_rate_start": key("float", 1e-4, 0.0, 1.0, aliases=["lr"], exclusive=True),
                    "coeff_W_L1": key("float", 0.0, 0.0, 1000.0, aliases=["L1"]),
                    "batch_size": key("int", 8, 1, 1024),
                    "training_single_type": key("bool", True),
                    "loss": key("str", "norm", allowed=["norm", "mse"]),
                },
            },
            "metrics": {
                "connectivity_R2": metric(aliases=["conn_R2"]),
                "test_R2": metric(),
                "final_loss": metric("min"),
                "training_time_min": metric("min"),
                "effective_rank_99": metric("none", ["eff_rank"], "effective rank (99% var)"),
                "slope": metric("target") | {"target": 1.0},
            },
        }
    },
}

INSTRUCTION = """\
# Small

## Goal

Recover W.

Primary metric: `connectivity_R2` (higher is better)

**Metrics from `analysis.log`:**

- `test_R2`: rollout
- `effective rank (99% var)`: extract as `eff_rank=N`

**Classification:**

- **Converged**: connectivity_R2 > 0.9
- **Partial**: connectivity_R2 0.1-0.9
- **Failed**: connectivity_R2 < 0.1

## Training parameters (the exploration space)

Mutate ONE parameter at a time.

```yaml
training:
  learning_rate_W_start: 3.0E-3 # range: 1E-4 to 1E-2
  batch_size: 8 # values: 8, 16, 32
  training_single_type: True # can try False
```

**DO NOT change `simulation:` parameters.**

## Log form

```
Config: lr_W=X, batch_size=B
Metrics: connectivity_R2=C, test_R2=A
Activity: eff_rank=R
```
"""

CONFIG = """\
simulation:
  n_neurons: 100
training:
  learning_rate_W_start: 3e-3
  batch_size: 8
claude:
  n_epochs: 2
  data_augmentation_loop: 200
  n_iter_block: 12
  ucb_c: 1.414
"""

EXPLORATION = """\
instruction: small
system: signal
profiles:
  cpu: {claude.data_augmentation_loop: 25}
"""


def schema():
    return read_schema(SCHEMA, "signal")


def read(text=INSTRUCTION):
    return read_instruction(text, "small.md")


def build(instruction=INSTRUCTION, config=CONFIG, exploration=EXPLORATION, profile="cpu"):
    """Compile the sample; any part may be replaced."""
    spec = read_exploration(yaml_edit.load(exploration, "exploration.yaml"))
    doc = yaml_edit.read(config, "config.yaml")
    return compile_all("small", read(instruction), schema(), spec, doc, profile)


def line_of(text, part):
    """Return the 1-based number of the first line that holds `part`."""
    return next(i for i, line in enumerate(text.split("\n"), 1) if part in line)
