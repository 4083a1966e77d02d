"""A user's own trainer in 50 lines of numpy: find a hidden weight vector by gradient descent on noisy data.

Reads RUN_DIR/run.yaml, writes RUN_DIR/out/progress.jsonl while it runs, and at its end RUN_DIR/plots/weights.png and,
last, RUN_DIR/analysis.log.
"""

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np
import yaml

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402 (the backend comes first)

run = Path(sys.argv[1])
order = yaml.load((run / "run.yaml").read_text(), Loader=yaml.SafeLoader)  # noqa: S506, TID251 (written by the engine)
simulation, training = order["config"]["simulation"], order["config"]["training"]

draw = np.random.default_rng(simulation["seed"])
n, features = simulation["n_samples"], simulation["n_features"]
truth = draw.standard_normal(features) * (draw.random(features) < 0.2)
x = draw.standard_normal((2 * n, features))
y = x @ truth + simulation["noise"] * draw.standard_normal(2 * n)

rng = np.random.default_rng(training["seed"])
w = rng.standard_normal(features)
with open(run / "out" / "progress.jsonl", "a") as progress:
    for step in range(1, training["n_steps"] + 1):
        batch = rng.integers(0, n, training["batch_size"])
        error = x[batch] @ w - y[batch]
        gradient = x[batch].T @ error / len(batch) + training["coeff_L2"] * w
        w -= training["learning_rate"] * gradient
        if step % 100 == 0:
            line = {"phase": 1, "epoch": 0, "step": step, "total": training["n_steps"], "loss": float(error @ error)}
            progress.write(json.dumps(line) + "\n")
            progress.flush()

heldout = 1 - np.sum((x[n:] @ w - y[n:]) ** 2) / np.sum((y[n:] - y[n:].mean()) ** 2)
weights = 1 - np.sum((w - truth) ** 2) / np.sum((truth - truth.mean()) ** 2)

figure, axes = plt.subplots(figsize=(4, 4), layout="constrained")
axes.axline((0, 0), slope=1, color="black", linestyle="--", linewidth=1, label="true")
axes.scatter(truth, w, s=12, label="learned")
axes.set(xlabel="true weight", ylabel="learned weight", title=f"weights_R2 {weights:.4f}")
axes.legend()
(run / "plots").mkdir(exist_ok=True)
figure.savefig(run / "plots" / "weights.png", dpi=100)
(run / "analysis.log").write_text(f"weights_R2: {weights:.4f}\nheldout_R2: {heldout:.4f}\n")
