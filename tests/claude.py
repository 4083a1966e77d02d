"""A toy home whose scientist is asked over real HTTP: loopback server, scripted replies, real SDK."""

from orchestrator.llm.demo import DemoScript
from orchestrator.llm.loopback import LoopbackServer
from tests import toy

KEY = "test-key-0123456789-not-a-secret"
ROWS = """
| Condition                           | Strategy             | Action         |
| ----------------------------------- | -------------------- | -------------- |
| Default                             | **exploit**          | Small step     |
| 3+ consecutive mutations of one key | **switch-dimension** | Another key    |
"""
INSTRUCTION = toy.INSTRUCTION.replace("## Log Form", f"## Choosing the next iteration\n{ROWS}\n## Log Form")
EXPLORATION = toy.EXPLORATION + "budget: {first_wait_s: 0.05, longest_wait_s: 0.1}\n"
CHANGES = (
    ("learning_rate_W_start", 6e-3), ("batch_size", 16), ("learning_rate_start", 3e-4), ("learning_rate_W_start", 9e-3),
    ("replicate", None), ("learning_rate_start", 5e-5), ("learning_rate_W_start", 2e-3), ("batch_size", 32),
    ("learning_rate_start", 7e-4), ("learning_rate_W_start", 1e-3), ("replicate", None),
)  # fmt: skip
SCRIPT = DemoScript(CHANGES, {3: ("learning_rate_W_start", 5.0)}, "learning_rate_W_start")


def home(folder, *options, block=12, exploration=EXPLORATION):
    """Write a toy home for Claude."""
    config = toy.CONFIG.replace("n_iter_block: 12", f"n_iter_block: {block}")
    return toy.make_home(folder, *options, config=config, instruction=INSTRUCTION, exploration=exploration)


def server(script=SCRIPT, **options):
    """Return a server that accepts only the key of these tests."""
    return LoopbackServer(script, keys=frozenset({KEY}), **options)


def environment(served):
    """Return what lets the program reach a server."""
    return {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": served.url}
