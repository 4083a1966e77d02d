"""A home with everything that a training must not reach, and a step ordered as the engine orders it."""

import hashlib
import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from orchestrator.engine import opening, orders
from orchestrator.engine.context import Adapters
from orchestrator.launch.local import LocalLauncher
from orchestrator.ports import LaunchSpec, Limits
from tests import toy

PROBE = Path(__file__).with_name("hostile_probe.py")
SECRET = "secret-0451"
ORDER = {
    "contract": 1, "exploration": "toy", "iteration": 2, "attempt": 1, "system": "signal", "profile": "cpu",
    "device": "cpu", "threads": 1, "identity": "same", "config": {"simulation": {"n_neurons": 10}},
}  # fmt: skip
SCORE = """import sys
from pathlib import Path
from trainers.errors import RefusedError
from trainers.scoring import estimates
out = Path(sys.argv[2]) / "out"
try:
    estimates.read_json(out / "train.json")
    estimates.read_estimate(out / "estimate.npz", {"W": (2, 2)})
except RefusedError as error:
    print(f"score: {error}", flush=True)
    sys.exit(13)
"""
"""A scorer in a tenth of a second that reads as the real one does."""


class World:
    """A toy home as the engine leaves it in mid-exploration, with a run folder that is to be launched."""

    def __init__(self, folder, level):
        self.setup = opening.load(toy.make_home(folder), "toy", opening.Wishes(profile="cpu"))
        self.paths, self.folder, self.level = self.setup.paths, folder, level
        self.run, self.data = self.paths.run(2, 1), self.paths.regime("f" * 64)
        out = self.paths.out
        self.code = self.paths.code / "tree" / "train" / "trainers"
        self.base = self.paths.code / "first" / "base" / "trainers"
        self.train_file, self.truth = self.data.train / "u.npy", self.data.truth / "W.npy"
        self.other_run, self.git = self.paths.run(1, 1).out / "estimate.npz", out / ".git" / "HEAD"
        self.secret = folder / "person" / ".netrc"
        for path in (self.train_file, self.data.inputs / "grid_u.npy", self.truth, self.data.preflight,
                     self.data.root.parent / "SPEC.yaml", self.other_run, self.paths.journal, self.git,
                     self.paths.prompt(1), self.secret, self.base / "scoring" / "score.py"):  # fmt: skip
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{SECRET} {path.name}\n")
        self.run.out.mkdir(parents=True)
        told = ORDER | {"data": {"train": str(self.data.train), "inputs": str(self.data.inputs)}}
        self.run.run_yaml.write_text(orders.seal(told))
        self.write_code("")
        real = toy.REPOSITORY / "trainers"
        shutil.copy(real / "errors.py", self.base / "errors.py")
        shutil.copy(real / "scoring" / "estimates.py", self.base / "scoring" / "estimates.py")
        (self.base / "__main__.py").write_text(SCORE)
        for folder in (self.base, self.base / "scoring"):
            (folder / "__init__.py").write_text("")

    def write_code(self, text):
        """Make the node's code."""
        self.code.mkdir(parents=True, exist_ok=True)
        (self.code / "__init__.py").write_text("")
        (self.code / "__main__.py").write_text(text)

    def targets(self, engine, **more):
        """Return what the probe is told: where everything is."""
        names = ("truth", "other_run", "git", "secret", "train_file")
        return {name: str(getattr(self, name)) for name in names} | {
            "preflight": str(self.data.preflight), "spec": str(self.data.root.parent / "SPEC.yaml"),
            "journal": str(self.paths.journal), "prompt": str(self.paths.prompt(1)), "launch": str(self.run.launch),
            "base_code": str(self.base / "scoring" / "score.py"),
            "checkout": str(self.setup.source_root / "trainers" / "__main__.py"),
            "shadow": "/etc/shadow", "train": str(self.data.train), "inputs": str(self.data.inputs),
            "inputs_file": str(self.data.inputs / "grid_u.npy"), "run": str(self.run.root),
            "run_yaml": str(self.run.run_yaml), "code": str(self.code), "code_file": str(self.code / "__main__.py"),
            "interpreter_file": os.path.join(sysconfig.get_path("purelib"), "pip", "__init__.py"),
            "planted": f"planted-{os.getpid()}-{self.level}", "engine": engine, "key": "sk-hostile",
            "env": list(self.steps()[0].env),
        } | more  # fmt: skip

    def steps(self, level=None):
        """Return train and score as engine/orders.py orders them."""
        adapters = Adapters(
            scientist=None, launcher=LocalLauncher(), sandbox=level or self.level, python=sys.executable
        )
        return orders._steps(self.setup, adapters, ("tree", "first"), self.run, self.data, "")

    def launch(self, code=None, *, score=False, **limits):
        """Run the node's code to its end and return exit.json's record."""
        if code is not None:
            self.write_code(code)
        defaults = {"wall_s": 20, "silence_s": 10, "output_bytes": 100_000, "folder_bytes": 5_000_000, "grace_s": 0.2}
        launcher = LocalLauncher()
        spec = LaunchSpec(steps=self.steps()[: 1 + score], limits=Limits(**(defaults | limits)))
        launcher.submit(self.run.root, spec)
        toy.wait_for(lambda: launcher.state(self.run.root) != "running", 30)
        return launcher.exit_record(self.run.root)

    def fingerprint(self):
        """Return content, mode and time of every file but those of the run under way."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and not path.is_symlink() and self.run.root not in path.parents:
                status = path.stat()
                sha = hashlib.sha256(path.read_bytes()).hexdigest()
                found[str(path)] = (sha, status.st_mode, status.st_mtime_ns, status.st_nlink, os.listxattr(path))
        order = self.run.run_yaml
        return found | {str(order): (order.read_bytes(), order.stat().st_mode)}

    def probe(self, targets):
        """Run the probe; return what it says."""
        shutil.copy(PROBE, self.code / "__main__.py")
        (self.code / "targets.json").write_text(json.dumps(targets))
        before = self.fingerprint()
        record = self.launch()
        said = self.run.stdout.read_text()
        assert record is not None and record.returncode == 0, said
        return json.loads((self.run.out / "probe.json").read_text()), before, self.fingerprint()
