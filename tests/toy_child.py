"""A trainer without science that obeys docs/contract.md: standard library only, about 50 ms a step.

    python -I -S toy_child.py train RUN_DIR [options]
    python -I -S toy_child.py score RUN_DIR [--data DATA_DIR] [options]

Options, the same for both so that a launch specification may append them to either:

    --fault NAME            one of FAULTS
    --faults "3=exit1 4-1=oom"   by iteration, or by iteration and attempt
    --epochs N              instead of training.n_epochs
    --epoch-s SECONDS       time an epoch takes, default 0 (`slow`: 0.2)
    --log-only              write nothing but analysis.log when scoring (a foreign trainer)
    --memory BYTES          the peak memory that train.json and result.json state
    --loop-min MINUTES      training_time_min for each of training.data_augmentation_loop, default 0.05 in all

Training leaves its CUDA_VISIBLE_DEVICES in out/device.txt.

The fault is looked for in --fault, --faults, the environment (TOY_FAULT) and the file RUN_DIR/toy_fault, in this order.

connectivity_R2 is a smooth function of the training section with its peak, 0.97, at learning_rate_W_start = 8e-3 and
learning_rate_start = 8e-4 (parabolas in log10), plus what out/gain.txt holds, plus noise of standard deviation 0.01
hashed from training.seed. Every other numeric training key makes a difference too, hashed and tiny, except the ones in
IDLE, which are reported as idle. With a training.time_step there is an effective_rank_99 of 12.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import signal
import struct
import sys
import time
import zipfile

FAULTS = (
    "ok",
    "exit1",  # train: exit code 1
    "import_error",  # train: a traceback, exit code 1
    "hang",  # train: silent for ever
    "slow",  # train: 0.2 s an epoch, with progress
    "nan",  # train: exit code 10
    "oom",  # train: exit code 11
    "refuse",  # train: exit code 13
    "flood",  # train: prints 100 MB
    "fill",  # train: fills out/ with files for ever
    "ignore_sigterm",  # train: silent for ever and deaf to SIGTERM
    "fork_grandchild",  # train: leaves a process behind, in a session of its own; its pid is in out/grandchild.pid
    "score_exit1",  # score: exit code 1
    "no_result",  # score: exit code 0, analysis.log but no result.json
    "nothing",  # score: exit code 0 and no file at all
    "torn_result",  # score: result.json cut in the middle
    "missing_metric",  # score: no connectivity_R2
    "negative",  # score: connectivity_R2 = -0.52
    "inf",  # score: connectivity_R2 infinite
    "nan_metric",  # score: connectivity_R2 not a number
    "na",  # score: connectivity_R2 n/a (reason)
    "tiny",  # score: connectivity_R2 = 9.8e-05
    "disagree",  # score: log and json differ
    "marked",  # score: a result that stands under a mark
)
STEPS = 10
"""Gradient steps an epoch."""
IDLE = {"toy_idle": "the toy child never reads it"}


# --- reading ----------------------------------------------------------------------------------------------------------

PAIR = re.compile(
    r"""(?:^|[{,\s])["']?([A-Za-z_][A-Za-z_0-9.]*)["']?[ \t]*:[ \t]*("[^"]*"|'[^']*'|[^\s,{}\[\]#]+)""", re.M
)


def read_pairs(text):
    """Return every `key: scalar` of a YAML text in block or flow style, the last one of a name (no nesting needed)."""
    return {key: value.strip("\"'") for key, value in PAIR.findall(text)}


def section(text, name):
    """Return the text of one section: to the closing brace in flow style, while it is indented in block style."""
    found = re.search(rf"""^([ ]*).*?["']?\b{name}["']?\s*:""", text, re.M)
    if not found:
        return ""
    rest = text[found.end() :]
    if rest.lstrip().startswith("{"):
        depth = 0
        for place, letter in enumerate(rest):
            depth += (letter == "{") - (letter == "}")
            if letter == "}" and depth == 0:
                return rest[: place + 1]
    lines = []
    for line in rest.splitlines()[1:]:
        if line.strip() and len(line) - len(line.lstrip()) <= len(found.group(1)):
            break
        lines.append(line)
    return "\n".join(lines)


def number(value, default=None):
    try:
        return float(value)
    except (TypeError, ValueError):
        return default


class Order:
    """run.yaml and the options."""

    def __init__(self, run_dir, options):
        self.run_dir = run_dir
        with open(os.path.join(run_dir, "run.yaml"), encoding="utf-8") as file:
            text = file.read()
        top = read_pairs(text)
        self.iteration, self.attempt = int(top.get("iteration", 1)), int(top.get("attempt", 1))
        self.identity, self.device = top.get("identity", ""), top.get("device", "cpu")
        self.config = {key: read_pairs(section(text, key)) for key in ("simulation", "graph_model", "training")}
        self.training = self.config["training"]
        self.seed = self.training.get("seed", "0")
        self.fault = self._fault(options)
        if self.fault not in FAULTS:
            sys.exit(f"toy_child: unknown fault {self.fault!r}: expected one of {', '.join(FAULTS)}")
        self.epochs = int(options.get("epochs") or number(self.training.get("n_epochs"), 3))
        self.memory = int(options["memory"]) if "memory" in options else None
        self.loop_min = number(options.get("loop-min"))
        self.epoch_s = float(options.get("epoch-s", 0.2 if self.fault == "slow" else 0))

    def _fault(self, options):
        if "fault" in options:
            return options["fault"]
        plan = dict(entry.split("=") for entry in options.get("faults", "").replace(",", " ").split())
        planned = plan.get(f"{self.iteration}-{self.attempt}", plan.get(str(self.iteration)))
        if planned or "TOY_FAULT" in os.environ:
            return planned or os.environ["TOY_FAULT"]
        path = os.path.join(self.run_dir, "toy_fault")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                return file.read().strip()
        return "ok"

    def out(self, *names):
        return os.path.join(self.run_dir, "out", *names)

    def keys(self):
        return [f"{name}.{key}" for name, values in self.config.items() for key in values if key not in IDLE]

    def idle(self):
        return {f"{name}.{key}": IDLE[key] for name, values in self.config.items() for key in values if key in IDLE}


# --- writing ----------------------------------------------------------------------------------------------------------


def write_atomic(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = path + ".tmp"
    with open(temporary, "wb") as file:
        file.write(content)
    os.replace(temporary, path)


def write_json(path, content):
    write_atomic(path, json.dumps(content).encode())


def npy(values, shape, kind):
    """Return an array as a .npy file: kind `f4` or `i8`."""
    header = f"{{'descr': '<{kind}', 'fortran_order': False, 'shape': {shape!r}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    body = struct.pack(f"<{len(values)}{'f' if kind == 'f4' else 'q'}", *values)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


def write_estimate(path, epoch, step):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = path + ".tmp"
    with zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr("epoch.npy", npy([epoch], (), "i8"))
        archive.writestr("step.npy", npy([step], (), "i8"))
        archive.writestr("W.npy", npy([0.0, 1.0, -1.0, 0.0], (2, 2), "f4"))
    os.replace(temporary, path)


# --- train ------------------------------------------------------------------------------------------------------------


def progress_steps(order):
    """Return the last step in progress.jsonl, 0 when there is none."""
    try:
        with open(order.out("progress.jsonl"), encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("}\n")]
    except FileNotFoundError:
        return 0
    return max((json.loads(line)["step"] for line in lines), default=0)


def start_epoch(order):
    """Return the epoch to start at: the checkpoint's next one if it is ours."""
    path = order.out("checkpoint.pt")
    try:
        with open(path, encoding="utf-8") as file:
            saved = json.load(file)
    except FileNotFoundError:
        return 0
    except ValueError:
        saved = {}
    if saved.get("identity") != order.identity:
        os.replace(path, order.out("checkpoint.foreign"))
        return 0
    return saved["epoch"]


def fail(order, code, kind, sentence):
    write_json(order.out("failure.json"), {"kind": kind, "sentence": sentence})
    print(sentence)
    sys.exit(code)


def misbehave(order):
    """Do what the fault says, in the middle of the training."""
    fault = order.fault
    if fault == "exit1":
        print("something went wrong")
        sys.exit(1)
    if fault == "import_error":
        import no_such_module_of_the_toy_child  # noqa: F401
    if fault in ("hang", "ignore_sigterm"):
        time.sleep(3600)
        time.sleep(3600)
    if fault == "flood":
        line = b"x" * 65535 + b"\n"
        for _ in range(1600):
            os.write(1, line)
    if fault == "fill":
        for count in range(10**6):
            with open(order.out(f"fill{count}.bin"), "wb") as file:
                file.write(os.urandom(2**20))
            print("filling", flush=True)
            time.sleep(0.02)
    if fault == "fork_grandchild" and os.fork() == 0:
        os.setsid()
        with open(order.out("grandchild.pid"), "w", encoding="utf-8") as file:
            file.write(str(os.getpid()))
        time.sleep(3600)
        os._exit(0)
    if fault == "nan":
        fail(order, 10, "diverged", "the loss became NaN at step 15")
    if fault == "oom":
        fail(order, 11, "out_of_memory", "CUDA out of memory: tried to allocate 2 GiB")
    if fault == "refuse":
        fail(order, 13, "refused", "unknown key training.toy")


class Stop(BaseException):
    pass


def on_sigterm(_number, _frame):
    raise Stop


def train(order):
    os.makedirs(order.out(), exist_ok=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if order.fault == "ignore_sigterm" else on_sigterm)
    begun = time.monotonic()
    first = start_epoch(order)
    repeated = max(0, progress_steps(order) - first * STEPS)
    write_json(
        order.out("toy.json"), {"started_at_step": first * STEPS, "steps_repeated": repeated, "pid": os.getpid()}
    )
    write_atomic(order.out("device.txt"), os.environ.get("CUDA_VISIBLE_DEVICES", "unset").encode())
    print(f"toy training from epoch {first} of {order.epochs}", flush=True)
    epoch = first
    try:
        with open(order.out("progress.jsonl"), "a", encoding="utf-8") as progress:
            for epoch in range(first, order.epochs):
                for step in range(epoch * STEPS + 1, epoch * STEPS + STEPS + 1):
                    loss = 3.0 * math.exp(-step / 20)
                    line = {"phase": 1, "epoch": epoch, "step": step, "total": order.epochs * STEPS, "loss": loss}
                    line |= {"terms": {"prediction": loss}, "elapsed_s": round(time.monotonic() - begun, 3)}
                    progress.write(json.dumps(line) + "\n")
                    progress.flush()
                    time.sleep(order.epoch_s / STEPS)
                    if step == STEPS * epoch + STEPS // 2 and epoch == min(first + 1, order.epochs - 1):
                        misbehave(order)
                write_json(order.out("checkpoint.pt"), {"identity": order.identity, "epoch": epoch + 1})
                last = (epoch + 1) * STEPS
                write_estimate(order.out("estimates", f"{epoch:03d}_{last:07d}.npz"), epoch, last)
    except Stop:
        write_json(order.out("checkpoint.pt"), {"identity": order.identity, "epoch": epoch})
        fail(order, 12, "stopped", "stopped by SIGTERM after a checkpoint")
    write_estimate(order.out("estimate.npz"), order.epochs - 1, order.epochs * STEPS)
    done = {"keys_read": order.keys(), "keys_idle": order.idle(), "final_loss": 3.0 * math.exp(-order.epochs / 2)}
    done |= {"training_time_s": time.monotonic() - begun, "device": order.device, "versions": {"toy": "1"}}
    write_json(order.out("train.json"), done | {"peak_memory_bytes": order.memory})


# --- score ------------------------------------------------------------------------------------------------------------


def hashed(text):
    """Return a number in [0, 1) that only depends on the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56


def noise(seed):
    """Return a standard normal number hashed from a seed."""
    return math.sqrt(-2 * math.log(1 - hashed(f"a{seed}"))) * math.cos(2 * math.pi * hashed(f"b{seed}"))


def connectivity(training, seed):
    """Return the toy's metric: see the module's docstring."""
    value = 0.97
    for key, best, weight in (("learning_rate_W_start", 8e-3, 0.6), ("learning_rate_start", 8e-4, 0.25)):
        given = number(training.get(key), best / 4)
        value -= weight * math.log10(max(given, 1e-12) / best) ** 2
    rest = sorted(key for key in training if not key.startswith("learning_rate") and key not in IDLE and key != "seed")
    value += 1e-3 * (hashed(" ".join(f"{key}={training[key]}" for key in rest)) - 0.5)
    return max(-1.0, min(0.9999, value + 0.01 * noise(seed)))


def gain(order):
    """Return what the training itself says that it gained: out/gain.txt, a number, 0 without it."""
    try:
        with open(order.out("gain.txt"), encoding="utf-8") as file:
            return max(-1.0, min(1.0, number(file.read(64), 0.0)))
    except FileNotFoundError:
        return 0.0


def metrics_of(order):
    """Return metric -> value (a float, or a string with the reason why there is none)."""
    value = min(0.9999, connectivity(order.training, order.seed) + gain(order))
    wrong = {"negative": -0.52, "inf": math.inf, "nan_metric": math.nan, "tiny": 9.8e-05, "na": "no neuron was active"}
    metrics = {
        "connectivity_R2": wrong.get(order.fault, value),
        "test_R2": value - 0.02,
        "test_pearson": math.sqrt(max(value, 0.0)),
        "cluster_accuracy": max(0.0, min(1.0, value)),
        "training_time_min": 0.05 if order.loop_min is None else order.loop_min * loops(order),
    }
    if "time_step" in order.training:
        metrics["effective_rank_99"] = 12.0
    if order.fault == "missing_metric":
        del metrics["connectivity_R2"]
    return metrics


def loops(order):
    """Return training.data_augmentation_loop."""
    return number(order.training.get("data_augmentation_loop"), 1.0)


def in_json(value):
    if isinstance(value, str):
        return {"value": None, "reason": value, "version": 1}
    if not math.isfinite(value):
        return {"value": None, "reason": str(value), "version": 1}
    return {"value": value, "reason": None, "version": 1}


def fingerprint(data):
    try:
        with open(os.path.join(data, "preflight.json"), encoding="utf-8") as file:
            return str(json.load(file).get("fingerprint", "toy"))
    except (OSError, ValueError):
        return "toy"


def score(order, options):
    if order.fault == "score_exit1":
        sys.exit("scoring went wrong")
    if order.fault == "nothing":
        return
    with open(order.out("train.json"), encoding="utf-8") as file:
        trained = json.load(file)
    with open(order.out("toy.json"), encoding="utf-8") as file:
        toy = json.load(file)
    metrics = metrics_of(order)
    shown = dict(metrics, connectivity_R2=0.123) if order.fault == "disagree" else metrics
    lines = [f"{key}: " + (f"n/a ({value})" if isinstance(value, str) else repr(value)) for key, value in shown.items()]
    log = "\n".join(["--- toy ---", f"  final_loss: {trained['final_loss']!r}", *lines]) + "\n"
    write_atomic(os.path.join(order.run_dir, "analysis.log"), log.encode())
    if order.fault == "no_result" or "log-only" in options:
        return
    result = {"contract": 1, "iteration": order.iteration, "attempt": order.attempt}
    result["metrics"] = {key: in_json(value) for key, value in metrics.items()}
    result |= {"keys_read": trained["keys_read"], "keys_idle": trained["keys_idle"]}
    result["timings"] = {"training": trained["training_time_s"], "steps_repeated": toy["steps_repeated"]}
    result |= {
        "versions": trained["versions"],
        "device": order.device,
        "data_fingerprint": fingerprint(options.get("data", "")),
    }
    result |= {"analysis_log_sha256": hashlib.sha256(log.encode()).hexdigest(), "plots": []}
    result["memory_bytes"] = trained["peak_memory_bytes"]
    if order.fault == "marked":
        result["marks"] = ["made with legacy_toy: a known defect"]
    content = json.dumps(result).encode()
    write_atomic(os.path.join(order.run_dir, "result.json"), content[:40] if order.fault == "torn_result" else content)


def main(arguments):
    if len(arguments) < 2 or arguments[0] not in ("train", "score"):
        sys.exit(__doc__)
    options, rest = {}, arguments[2:]
    while rest:
        name = rest.pop(0).removeprefix("--")
        options[name] = "" if name == "log-only" else rest.pop(0)
    order = Order(arguments[1], options)
    if arguments[0] == "train":
        train(order)
    else:
        score(order, options)


if __name__ == "__main__":
    main(sys.argv[1:])
