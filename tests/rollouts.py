"""A toy home whose blocks run over the values of time_step, with a recurrent and a neural-ODE mode."""

import copy

from tests import toy

SCHEMA = copy.deepcopy(toy.SCHEMA)
_system = SCHEMA["systems"]["signal"]
_system["sections"]["training"] |= {
    "time_step": toy.key("int", 1, 1, 64),
    "recurrent_training": toy.key("bool", False),
    "neural_ODE_training": toy.key("bool", False),
}
_system["metrics"]["effective_rank_99"] = toy.metric("effective_rank_99", ["eff_rank"]) | {"direction": "none"}
_system["exclusive"] = [["training.recurrent_training", "training.neural_ODE_training"]]

LIST = """**Block-level Parameters (change at block boundaries ONLY):**

```yaml
training:
  time_step: 1 # Choose from: 1, 4, 16
  recurrent_training: True # explicit Euler rollout
  neural_ODE_training: False # continuous ODE solver (alternative)
```

"""
INSTRUCTION = (
    toy.INSTRUCTION.replace("**DO NOT change `simulation:`", LIST + "**DO NOT change `simulation:`")
    .replace("Config: seed=S, lr_W=X", "Config: time_step=T, seed=S, lr_W=X")
    .replace("Mutation: [param]", "Activity: eff_rank=R\nMutation: [param]")
)
CONFIG = toy.CONFIG.replace("  batch_size: 8\n", "  batch_size: 8\n  time_step: 1\n  recurrent_training: true\n")
EXPLORATION = toy.EXPLORATION + "compare: time_step\n"


def config(length=3):
    """Return config.yaml with blocks of a length."""
    return CONFIG.replace("n_iter_block: 12", f"n_iter_block: {length}")


def make(folder, length=3, **parts):
    """Write the home."""
    given = {"config": config(length), "instruction": INSTRUCTION, "exploration": EXPLORATION, "schema": SCHEMA}
    return toy.make_home(folder, **(given | parts))
