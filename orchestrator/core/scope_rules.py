"""What edited code may import, name and spell: the lists of the static check, and the questions asked of them."""

from __future__ import annotations

import ast
import builtins
import re

ALLOWED_IMPORTS = (
    "math", "itertools", "functools", "collections", "typing", "dataclasses", "contextlib", "copy",
    "torch", "numpy", "torch_geometric", "torchdiffeq",
    "models", "trainers.losses", "trainers.optim", "trainers.rollout", "trainers.errors",
)  # fmt: skip
"""Modules, with what is below them, that an edit may import and use."""
DENIED_IMPORTS = (
    "torch.utils.cpp_extension", "torch.utils.collect_env", "torch.utils.benchmark", "torch.utils.tensorboard",
    "torch.utils.model_zoo", "torch.utils.show_pickle", "torch.utils.bundled_inputs", "torch.utils.model_dump",
    "torch.utils.hipify", "torch.utils.bottleneck", "torch.utils.viz", "torch.utils.file_baton",
    "torch.hub", "torch.multiprocessing", "torch.distributed", "torch.package", "torch.jit", "torch.serialization",
    "torch.library", "torch.ops", "torch.classes", "torch.onnx", "torch.export", "torch.fx", "torch.testing",
    "torch.profiler", "torch.compiler", "torch.monitor",
    "numpy.ctypeslib", "numpy.f2py", "numpy.lib.npyio", "numpy.lib.format", "numpy.lib.utils", "numpy.testing",
    "numpy.distutils", "numpy.core", "numpy.rec", "numpy.char",
    "torch_geometric.datasets", "torch_geometric.io", "torch_geometric.graphgym", "torch_geometric.data",
    "typing.get_type_hints", "typing.ForwardRef", "dataclasses.make_dataclass", "typing.io", "typing.re",
)  # fmt: skip
"""Exceptions below the allowed modules: they run, load or write what the check cannot see."""
PROJECT = ("models", "trainers")
"""Packages of the project: a name of a part of them that is not allowed may stay where it is used."""

FORBIDDEN_NAMES = frozenset({
    "__import__", "eval", "exec", "compile", "open", "input", "breakpoint", "globals", "locals", "vars", "getattr",
    "setattr", "delattr", "memoryview", "exit", "quit", "help", "copyright", "credits", "license", "SystemExit",
    "KeyboardInterrupt", "GeneratorExit", "BaseException", "BaseExceptionGroup", "ExceptionGroup",
})  # fmt: skip
"""Builtins without a use in a training or a model."""
FORBIDDEN_ATTRIBUTES = {
    name: rule
    for rule, names in {
        "training reads and writes no files (the run's own `record`, `checkpoint` and `save_estimate` do)": (
            "save savez savez_compressed savetxt load loads loadtxt genfromtxt fromfile from_file tofile memmap dump "
            "dumps open_memmap DataSource fromregex open write_text write_bytes read_text read_bytes unlink mkdir rmdir"
        ),
        "it loads, compiles or starts code that the check cannot see": (
            "hub ops classes jit library package compile multiprocessing distributed serialization cpp_extension onnx "
            "ctypeslib f2py load_library load_inline get_type_hints make_dataclass ForwardRef system popen"
        ),
        "modules are reached by an import alone": (
            "os sys builtins importlib ctypes subprocess socket shutil pathlib inspect pickle marshal io threading "
            "copyreg tempfile glob linecache runpy environ getenv putenv npyio"
        ),
        "frames, code objects and class trees are out of reach": (
            "gi_frame gi_code cr_frame cr_code ag_frame ag_code tb_frame tb_next f_back f_globals f_locals f_builtins "
            "f_code co_code mro"
        ),
        "a format string can reach attributes unseen; write an f-string": "format format_map",
    }.items()
    for name in names.split()
}
"""Attribute -> the rule that it breaks, whatever it is an attribute of."""
ALLOWED_DUNDERS = frozenset({"__init__", "__name__", "__len__"})
"""Attributes with two underscores that may be used."""
DEFINABLE_DUNDERS = frozenset({"__init__", "__len__", "__iter__", "__next__", "__getitem__", "__call__"})
"""Methods with two underscores that new classes may define."""
TRUTH_NAMES = frozenset({
    "W_true", "true_W", "W_gt", "gt_W", "types", "true_types", "type_list", "connectivity_true", "true_connectivity",
    "lin_edge_true", "lin_phi_true", "true_weights",
})  # fmt: skip
"""Names of the truth, beside every name with `truth` in it."""
OUT_OF_REACH = (
    "truth",
    "w_true",
    "result.json",
    "analysis.log",
    "estimate.npz",
    "checkpoint.pt",
    "train.json",
    "/proc",
)
"""Parts of strings that name what training does not touch; lower case."""
STORABLE = frozenset({"data", "grad", "requires_grad"})
"""Attributes of a parameter's tensors that may be set."""
MUTATORS = frozenset({
    "append", "extend", "insert", "update", "pop", "popitem", "clear", "setdefault", "remove", "add", "discard",
    "sort", "reverse",
})  # fmt: skip
"""Methods that change a list, dict or set of the module."""
BUILTINS = frozenset(dir(builtins))

TRUTH = "training is never given the truth; learn from the data that the function is given"


def is_dunder(name: str) -> bool:
    """Return whether a name has two underscores on both sides."""
    return len(name) > 4 and name.startswith("__") and name.endswith("__")


def is_private(name: str) -> bool:
    """Return whether a name begins with an underscore and is no dunder; `_` alone is none."""
    return name.startswith("_") and name.strip("_") != "" and not is_dunder(name)


def names_truth(name: str) -> bool:
    """Return whether an identifier names the truth."""
    return name in TRUTH_NAMES or "truth" in name.lower()


def importable(module: str) -> bool:
    """Return whether a dotted name is an allowed module or below one, and neither denied nor private."""
    hidden = any(part.startswith("_") for part in module.split("."))
    return not hidden and _below(module, ALLOWED_IMPORTS) and not _below(module, DENIED_IMPORTS)


def denied(dotted: str) -> bool:
    """Return whether a dotted name is one of the exceptions below allowed modules."""
    return _below(dotted, DENIED_IMPORTS)


def of_project(dotted: str) -> bool:
    """Return whether a dotted name is one of the project's own."""
    return _below(dotted, PROJECT)


def _below(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


def imported(node: ast.Import | ast.ImportFrom) -> list[tuple[str, str]]:
    """Return (bound name, dotted origin) of each name that an import binds."""
    if isinstance(node, ast.Import):
        return [(a.asname or a.name.split(".")[0], a.name if a.asname else a.name.split(".")[0]) for a in node.names]
    return [(a.asname or a.name, f"{'.' * node.level}{node.module or ''}.{a.name}") for a in node.names]


def import_problem(node: ast.Import | ast.ImportFrom) -> str | None:
    """Return the rule that an import breaks, or None."""
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return "relative imports are refused; write the module's whole name"
        if any(alias.name == "*" for alias in node.names):
            return "star imports are refused; name what is used"
        module = node.module or ""
        full = [f"{module}.{alias.name}" for alias in node.names]
        if all(importable(f) or (importable(module) and not denied(f) and not _hidden(f)) for f in full):
            bad = next((f.rsplit(".", 1)[1] for f in full if f.rsplit(".", 1)[1] in FORBIDDEN_ATTRIBUTES), None)
            return f"`{bad}`: {FORBIDDEN_ATTRIBUTES[bad]}" if bad else None
    elif all(importable(a.name) and importable(a.name if a.asname else a.name.split(".")[0]) for a in node.names):
        return None
    return (
        f"imports are limited to {', '.join(ALLOWED_IMPORTS)} (`from package import name`), without their private, "
        "file, process and compiler parts"
    )


def _hidden(dotted: str) -> bool:
    return any(part.startswith("_") for part in dotted.split("."))


def text_of(node: ast.AST) -> str | None:
    """Return the text of a string, an f-string (`{}` for what is computed) or a sum of such, None for anything else."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bytes):
            return node.value.decode("latin-1")
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.FormattedValue):
        return text_of(node.value) if isinstance(node.value, ast.Constant) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(text if (text := text_of(part)) is not None else "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        return None if left is None and right is None else f"{'{}' if left is None else left}{right or '{}'}"
    return None


def text_problem(text: str) -> str | None:
    """Return the rule that a string breaks, or None."""
    found = next((part for part in OUT_OF_REACH if part in text.lower()), None)
    if found in ("truth", "w_true") or text in TRUTH_NAMES:
        return TRUTH
    if found:
        return f"`{found}` is out of reach: the run's files are written by the trusted code around this function"
    if re.match(r"\s*[/~]\s*[\w.~]", text):
        return "strings that begin like an absolute path are refused: training opens no files"
    if ".." in re.split(r"[/\\]", text) and ("/" in text or "\\" in text or text == ".."):
        return "strings with a `..` path part are refused: training opens no files"
    return None
