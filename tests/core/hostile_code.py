"""Edits that must be refused, and edits that must pass: (what it is, how the text changes, a word of the refusal).

`inside` puts statements into the training function, `method` into the model's `connectivity`, `swap` replaces a text.
"""

# ruff: noqa: E501 (one case a line)
import textwrap

SIGNAL, MODEL = "trainers/signal.py", "models/signal.py"
ANCHOR = "    delta = data.xnorm / DELTA_PARTS\n"
METHOD = "        return self.W * self.mask\n"


def swap(old, new):
    def edit(text):
        assert text.count(old) == 1, (text.count(old), old)
        return text.replace(old, new)

    return edit


def inside(code):
    return swap(ANCHOR, ANCHOR + textwrap.indent(textwrap.dedent(code).strip("\n") + "\n", "    "))


def method(code):
    return swap(METHOD, textwrap.indent(textwrap.dedent(code).strip("\n") + "\n", "        ") + METHOD)


def end(code):
    return lambda text: text + code


def top(code):
    return swap("import torch\n", "import torch\n" + code)


HEAD = "    config: Any, data: SignalData, inputs: SignalInputs, run: Run\n) -> SignalPropagation:\n"
DEF = "def data_train_signal(  # noqa: C901 (one loop that can be read and edited alone)\n"
FORMAT = "attributes unseen"

OUTSIDE = [
    ("edit of another function", swap("return threads if", "return 2 * threads if"), "outside of function"),
    ("edit of a constant", swap("DELTA_PARTS = 150", "DELTA_PARTS = 15"), "outside of function"),
    ("a comment elsewhere", swap("import math\n", "import math  # hm\n"), "byte for byte"),
    ("blanks elsewhere", swap("\n\ndef useful_threads", "\nX = 1\n\ndef useful_threads"), "outside of function"),
    ("module code after an early end", swap("    return model\n", "    return model\n\n\nos.system('x')\n"), "outside"),
    ("an import at the top", top("import subprocess\n"), "outside of function"),
    ("missing text at the end", lambda t: t[: t.rindex("    run.finish(")], "byte for byte"),
    ("parameter added", swap("run: Run\n) ->", "run: Run, extra: int = 1\n) ->"), "signature"),
    ("parameter renamed", swap("inputs: SignalInputs, run: Run\n", "inputs: SignalInputs, runs: Run\n"), "signature"),
    ("annotation changed", swap("config: Any, data: SignalData", "config: Any, data: Any"), "signature"),
    ("return annotation changed", swap("run: Run\n) -> SignalPropagation", "run: Run\n) -> Any"), "signature"),
    ("default with a call", swap("run: Run\n) ->", "run: Run = print('module code')\n) ->"), "signature"),
    ("default from a file", swap("run: Run\n) ->", "run: Run = open('x').read()\n) ->"), "signature"),
    ("decorator added", swap(DEF, "@torch.no_grad()\n" + DEF), "signature"),
    ("decorator that runs", swap(DEF, "@print\n" + DEF), "signature"),
    ("async", swap(DEF, "async " + DEF), "signature"),
    ("renamed", swap("def data_train_signal(", "def data_train_signals("), "deleted or renamed"),
    ("deleted", lambda t: t[: t.index(DEF)] + t[t.index("def useful_threads") :], "deleted or renamed"),
    ("made a method", lambda t: t.replace(DEF, "class X:\n  pass\n" + DEF.replace("def ", "def x")), "renamed"),
    (
        "defined twice",
        end("\n\ndef data_train_signal(config, data, inputs, run):\n    return 1\n"),
        "second definition",
    ),
    ("rebound below", end("\n\ndata_train_signal = print\n"), "outside of function"),
    ("hidden in an if", swap(DEF, "if True:\n  pass\n" + DEF), "outside of function"),
]

TEXT = [
    ("carriage returns", lambda t: t.replace("\n", "\r\n"), "carriage return"),
    ("one carriage return", inside("x = 1\r"), "carriage return"),
    ("null byte", inside("x = 1\0"), "NUL"),
    ("null byte in a string", inside("x = '\0'"), "NUL"),
    ("no newline at the end", lambda t: t.rstrip("\n"), "newline at its end"),
    ("form feed", inside("x = 1\f"), "form feed"),
    ("bidi", inside("x = 1  # \u202e"), "U+202E"),
    ("zero width", inside("x = 'a\u200bb'"), "U+200B"),
    ("byte order mark", lambda t: "\ufeff" + t, "U+FEFF"),
    ("line separator", inside("x = 1  # a\u2028b"), "U+2028"),
    ("lone surrogate", inside("x = '\ud800'"), "U+D800"),
    ("encoding cookie", lambda t: "# -*- coding: utf-7 -*-\n" + t, "encoding declaration"),
    ("encoding cookie, second line", lambda t: "#\n# vim: set fileencoding=cp437 :\n" + t, "encoding declaration"),
    ("look-alike of a name", inside("mod\u0435l = 1"), "ASCII"),
    ("look-alike that Python makes a builtin", inside("\uff45val('1')"), "ASCII"),
    ("look-alike inside an f-string", inside("x = f\"{\uff45val('1')}\""), "refused"),
    ("one megabyte", inside("x = '" + "a" * 1_000_000 + "'"), "too large"),
    ("one megabyte of lines", inside("x = 1\n" * 150_000), "too large"),
    ("300 lines", inside("x = 1\n" * 300), "too large"),
    ("a long line", inside("x = '" + "a" * 20_000 + "'"), "too large"),
    ("many blank lines", lambda t: t.replace("\n", "\n\n"), "too large"),
    ("syntax error", inside("x = = 1"), "no valid Python"),
    ("return at top", end("\nreturn 1\n"), "no valid Python"),
    ("nonlocal at top", end("\nnonlocal x\n"), "no valid Python"),
    ("deep brackets", inside("x = " + "(" * 4000 + "1" + ")" * 4000), "nested"),
    ("deep minus", inside("x = " + "-" * 8000 + "1"), "nested"),
    ("a deep use", inside("run" + ".a" * 280 + " = 1"), "refused"),
    ("deep sum", inside("x = 1" + "+1" * 7000), "nested"),
    ("deep attributes", inside("x = a" + ".b" * 7000), "nested"),
    ("deep sum in an f-string", inside("x = f'{1" + "+1" * 7000 + "}'"), "nested"),
]

REACHES = [
    ("__import__", "x = __import__('os')", "builtin `__import__`"),
    ("__import__ renamed", "load_it = __import__\nload_it('os')", "builtin `__import__`"),
    ("importlib", "import importlib", "imports are limited"),
    ("importlib submodule", "from importlib import import_module", "imports are limited"),
    ("ctypes", "import ctypes", "imports are limited"),
    ("ctypes through numpy", "from numpy import ctypeslib", "imports are limited"),
    ("ctypes through torch", "x = torch._C", "private attributes"),
    ("os.environ", "x = os.environ['ANTHROPIC_API_KEY']", "(os)"),
    ("os.environ through an import", "import os as o", "imports are limited"),
    ("os.system", "os.system('ls')", "(os)"),
    ("Path", "Path('x').write_text('y')", "(pathlib.Path)"),
    ("open", "x = open('x')", "builtin `open`"),
    ("open through io", "from io import open as o", "imports are limited"),
    ("socket", "import socket", "imports are limited"),
    ("urllib", "from urllib.request import urlopen", "imports are limited"),
    ("torch.hub", "x = torch.hub.load('a/b', 'c')", "refused"),
    ("subprocess", "import subprocess", "imports are limited"),
    ("subprocess through a module", "import contextlib\ncontextlib.os.system('x')", "by an import alone"),
    ("multiprocessing", "import torch.multiprocessing as mp", "imports are limited"),
    ("distributed", "from torch import distributed", "imports are limited"),
    ("cpp_extension", "from torch.utils import cpp_extension", "imports are limited"),
    ("cpp_extension as an attribute", "torch.utils.cpp_extension.load_inline('x', 'y')", "refused"),
    ("star import", "from torch import nn as n\nfrom math import floor\nimport sys", "imports are limited"),
    ("relative import", "from .run import Run as R", "relative imports"),
    ("the scorer", "from trainers.scoring import metrics", "imports are limited"),
    ("preparation", "import trainers.prepare", "imports are limited"),
    ("the run's own module", "from trainers import run as r", "imports are limited"),
    ("checkpoints", "from trainers.checkpoints import save", "imports are limited"),
    ("private module", "from torch import _dynamo", "imports are limited"),
    ("import that hides a name", "from math import floor as estimates", "hides the existing name"),
    ("import that hides a builtin", "from math import floor as len", "hides the existing name"),
    ("import that hides a parameter", "import math as run", "hides the existing name"),
    ("os from torch", "from torch import os as o", "by an import alone"),
    ("save from torch", "from torch import save as s", "reads and writes no files"),
    ("library in the middle", "from torch.library import custom_op", "imports are limited"),
    ("get_type_hints evaluates", "from typing import get_type_hints", "imports are limited"),
    ("torch.save", "torch.save(data.u, 'x')", "reads and writes no files"),
    ("torch.load", "x = torch.load('x')", "reads and writes no files"),
    ("torch.save under a name", "t = torch\nt.save(1, 'x')", "reads and writes no files"),
    ("numpy load", "import numpy as np\nx = np.load('x')", "reads and writes no files"),
    ("numpy memmap", "import numpy\nx = numpy.memmap('x')", "reads and writes no files"),
    ("tofile", "u_all.numpy().tofile('x')", "reads and writes no files"),
    ("dump", "u_all.numpy().dump('x')", "reads and writes no files"),
    ("torch.compile", "model = torch.compile(model)", "starts code"),
    ("torch.ops", "torch.ops.load_library('x')", "outside of what an edit may use"),
    ("eval", "x = eval('1')", "builtin `eval`"),
    ("exec", "exec('x = 1')", "builtin `exec`"),
    ("compile", "compile('1', 'x', 'eval')", "builtin `compile`"),
    ("sys.exit", "import sys\nsys.exit(0)", "imports are limited"),
    ("SystemExit", "raise SystemExit(0)", "builtin `SystemExit`"),
    ("exit", "exit()", "builtin `exit`"),
    ("KeyboardInterrupt", "raise KeyboardInterrupt", "builtin `KeyboardInterrupt`"),
    ("getattr with a string", "getattr(torch, 'sa' + 've')(1, 'x')", "builtin `getattr`"),
    ("getattr of a module", "x = getattr(run, '_sums')", "builtin `getattr`"),
    ("setattr", "setattr(torch, 'x', 1)", "builtin `setattr`"),
    ("vars", "vars(run)['x'] = 1", "builtin `vars`"),
    ("globals", "globals()['estimates'] = print", "builtin `globals`"),
    ("__builtins__", "x = __builtins__", "two underscores"),
    ("class tree", "x = ().__class__.__bases__[0].__subclasses__()", "two underscores"),
    ("class tree from a function", "x = estimates.__globals__", "two underscores"),
    ("frames", "x = (i for i in ()).gi_frame.f_back", "frames"),
    ("mro", "x = int.mro()", "frames"),
    ("match on a class attribute", "match run:\n    case object(__class__=c):\n        x = c", "two underscores"),
    ("format string", 'x = "{0.__class__}".format(run)', FORMAT),
    ("format string elsewhere", 'f = "{0.__class__}"\nx = str.format(f, 1)', FORMAT),
    ("format_map", 'x = "{a.__class__}".format_map({"a": 1})', FORMAT),
    ("f-string with a call", "x = f\"{__import__('os').getcwd()}\"", "builtin `__import__`"),
    ("f-string with a class", 'x = f"{model.__class__!r:>{10}}"', "two underscores"),
    ("f-string inside its format", "x = f\"{1:{eval('2')}}\"", "builtin `eval`"),
    ("type with three arguments", "X = type('X', (), {})", "`type` may only ask"),
    ("type under a name", "t = type\nX = t('X', (), {})", "`type` may only ask"),
    ("metaclass", "class X(metaclass=abs):\n    pass", "metaclass"),
    ("global", "global estimates\nestimates = print", "`global` is refused"),
    ("global in a nested function", "def f():\n    global torch\n    torch = 1\nf()", "`global` is refused"),
    ("async inside", "async def f():\n    pass", "not async"),
    ("async comprehension", "async def f():\n    return [x async for x in y]", "not async"),
    ("a generator", "yield 1", "generator"),
    ("yield from", "x = yield from range(3)", "generator"),
    ("nested default", "def f(x=open('x')):\n    return x", "builtin `open`"),
    ("lambda default", "f = lambda x=eval('1'): x", "builtin `eval`"),
    ("nested default lends", "def f(r=run):\n    return r", "no second name"),
    ("nested decorator", "@exec\ndef f():\n    pass", "builtin `exec`"),
    ("class body", "class X:\n    y = open('x')", "builtin `open`"),
    ("class body stores", "class X:\n    torch.relu = print", "imported"),
    ("class with a hook", "class X:\n    def __reduce__(self):\n        return 1", "methods with two underscores"),
    ("class that swallows", "class X:\n    def __exit__(self, *a):\n        return True", "methods with two underscores"),
    ("comprehension", "x = [open(n) for n in 'ab']", "builtin `open`"),
    ("comprehension target", "x = [1 for torch.relu in [print]]", "imported"),
    ("self by hand", "x = (lambda self: self._C)(torch)", "private attributes"),
    ("self by name", "self = torch\nx = self._C", "private attributes"),
    ("bare except", "try:\n    x = 1\nexcept:\n    pass", "bare `except:`"),
    ("except BaseException", "try:\n    x = 1\nexcept BaseException:\n    pass", "builtin `BaseException`"),
    ("except Exception", "try:\n    x = 1\nexcept Exception:\n    pass", "swallow the stop"),
    ("suppress Exception", "from contextlib import suppress\nwith suppress(Exception):\n    x = 1", "swallow the stop"),
    ("except through a name", "e = (ValueError, Exception)\ntry:\n    x = 1\nexcept e:\n    pass", "swallow the stop"),
    ("except of our own", "try:\n    x = 1\nexcept DivergedError:\n    pass", "are not caught here"),
    ("finally that leaves", "for i in range(3):\n    try:\n        x = 1\n    finally:\n        continue", "`finally:`"),
    ("finally that returns", "try:\n    x = 1\nfinally:\n    return model", "`finally:`"),
    ("monkey-patch", "torch.save = print", "reads and writes no files"),
    ("monkey-patch of a loss", "torch.nn.functional.mse_loss = print", "imported"),
    ("monkey-patch of a function here", "estimates.x = 1", "belongs to the module"),
    ("monkey-patch of a class", "SignalPropagation.connectivity = print", "belongs to the module"),
    ("monkey-patch under a name", "S = SignalPropagation\nS.connectivity = print", "may stand for"),
    ("monkey-patch of metrics", "import trainers.losses as m\nm.edge_diff = print", "imported"),
    ("monkey-patch deleted", "del torch.relu", "imported"),
    ("monkey-patch augmented", "torch.x += 1", "imported"),
    ("monkey-patch by for", "for torch.relu in [print]:\n    pass", "imported"),
    ("monkey-patch by with", "with torch.no_grad() as torch.relu:\n    pass", "imported"),
    ("monkey-patch by unpacking", "x, (torch.relu, *y) = 1, (2, 3)", "imported"),
    ("monkey-patch by walrus", "(t := torch).relu = print", "may stand"),
    ("monkey-patch in a loop", "for t in (torch, math):\n    t.relu = print", "may stand for"),
    ("monkey-patch of a type", "type(model).forward = print", "builtin `type`"),
    ("module constant", "ESTIMATE_MOMENTS[0] = 1", "belongs to the module"),
    ("module constant by a method", "ESTIMATE_MOMENTS.append(1)", "belongs to the module"),
    ("run.record replaced", "run.record = print", "read-only"),
    ("run.record deleted", "del run.record", "read-only"),
    ("data replaced", "data.u = 0", "read-only"),
    ("data filled", "data.u[0] = 0", "read-only"),
    ("data filled in place", "data.u.zero_()", "read-only"),
    ("data filled under a name", "x = data.u\nx[0] = 0", "read-only"),
    ("config changed", "training.n_epochs = 1", "read-only"),
    ("config changed at the root", "config.training.seed = 1", "read-only"),
    ("run rebound", "run = 1", "read-only and keeps its name"),
    ("run rebound by walrus", "(run := 1)", "read-only and keeps its name"),
    ("run rebound by for", "for run in range(2):\n    pass", "read-only and keeps its name"),
    ("run rebound by with", "with torch.no_grad() as run:\n    pass", "read-only and keeps its name"),
    ("run rebound by except", "try:\n    x = 1\nexcept ValueError as run:\n    pass", "read-only and keeps its name"),
    ("run rebound by match", "match 1:\n    case run:\n        pass", "read-only and keeps its name"),
    ("run rebound by def", "def run():\n    pass", "read-only and keeps its name"),
    ("run under a name", "r = run\nr.finish([], {}, 0.0)", "no second name"),
    ("run in a list", "x = [run][0]", "no second name"),
    ("run to a lambda", "(lambda r: r.finish([], {}, 0.0))(run)", "no second name"),
    ("run.finish", "run.finish([], {}, 0.0)", "gives this function only: checkpoint, count, device"),
    ("run.out", "x = run.out", "gives this function only"),
    ("run._sums", "run._sums.clear()", "private attributes"),
    ("W_true", "x = data.W_true", "never given the truth"),
    ("W_true as a name", "W_true = 1", "never given the truth"),
    ("types", "x = data.types", "never given the truth"),
    ("types by a string", "x = u_all['types']", "never given the truth"),
    ("ground truth", "def ground_truth():\n    pass", "never given the truth"),
    ("truth as a parameter", "f = lambda truth: truth", "never given the truth"),
    ("truth folder", "x = 'regime/truth/W.npy'", "never given the truth"),
    ("result.json", "x = 'result.json'", "`result.json` is out of reach"),
    ("result.json in bytes", "x = b'out/result.json'", "`result.json` is out of reach"),
    ("analysis.log", "x = f'{run.device}/analysis.log'", "`analysis.log` is out of reach"),
    ("analysis.log in parts", "x = 'analysis' + '.log'", "`analysis.log` is out of reach"),
    ("estimate.npz", "x = 'out/estimate.npz'", "`estimate.npz` is out of reach"),
    ("parent path", "x = '../other'", "`..` path part"),
    ("parent path in the middle", "x = 'a/../../b'", "`..` path part"),
    ("parent path in an f-string", "x = f'{model}/../x'", "`..` path part"),
    ("absolute path", "x = '/etc/passwd'", "absolute path"),
    ("absolute path put together", "x = f\"{'/'!s}etc/passwd\"", "absolute path"),
    ("home", "x = '~/x'", "absolute path"),
    ("/proc", "x = 'file:///proc/self/environ'", "`/proc` is out of reach"),
    ("replaced by another import", "x = torch.utils.benchmark", "outside of what an edit may use"),
]  # fmt: skip

WHOLE = [
    ("public function added", end("\n\ndef helper():\n    return 1\n"), "is public"),
    ("public constant added", end("\nSCALE = 1.0\n"), "is public"),
    ("public method added", swap("    def connectivity(", "    def scaled(self):\n        return 1\n\n    def connectivity("), "is public"),
    ("special method added", swap("    def connectivity(", "    def __del__(self):\n        return 1\n\n    def connectivity("), "is public"),
    ("method renamed", swap("def self_term(self, u: torch.Tensor)", "def own_term(self, u: torch.Tensor)"), "is gone"),
    ("constant deleted", swap('CONNECTIVITY = ("W", "W_L", "W_R")\n', ""), "is gone"),
    ("class deleted", lambda t: t.replace("class FixedTanh", "class _FixedTanh"), "is gone"),
    ("signature of __init__", swap("W_rank: int = 0,", "W_rank: int = 1,"), "signature"),
    ("signature of forward", swap("def forward(self, u: torch.Tensor)", "def forward(self, u: torch.Tensor, k=1)"), "signature"),
    ("decorator of a method", swap("    @torch.no_grad()\n    def curves", "    def curves"), "signature"),
    ("bases of a class", swap("class SignalPropagation(nn.Module)", "class SignalPropagation(MLP)"), "signature"),
    ("a call at module level", end("\nprint(1)\n"), "may not be added or changed"),
    ("a loop at module level", end("\nfor _ in range(3):\n    pass\n"), "may not be added or changed"),
    ("a computed constant", end("\n_X = torch.zeros(3)\n"), "may not be added or changed"),
    ("a patch at module level", end("\nnn.Linear.forward = None\n"), "may not be added or changed"),
    ("a patch in a class", swap("    def connectivity(", "    nn.Linear.forward = None\n\n    def connectivity("), "may not be added or changed"),
    ("a loop in a new class", end("\n\nclass _X:\n    for i in range(3):\n        pass\n"), "may not be added or changed"),
    ("a default that runs", end("\n\ndef _f(x=print(1)):\n    return x\n"), "run when the module is imported"),
    ("an annotation that runs", end("\n\ndef _f(x: print(1)):\n    return x\n"), "run when the module is imported"),
    ("a decorator that runs", end("\n\ndef _g(f):\n    return f\n\n\n@_g\ndef _f(x):\n    return x\n"), "decorator"),
    ("a base that runs", end("\n\nclass _X(print(1)):\n    pass\n"), "run when the module is imported"),
    ("a second definition", end("\n\nclass FixedTanh(nn.Module):\n    pass\n"), "second definition"),
    ("a second method", swap("    def connectivity(", "    def sent(self, u):\n        return u\n\n    def connectivity("), "second definition"),
    ("a private name twice", end("\n\ndef _f():\n    return 1\n\n\ndef _f():\n    return 2\n"), "second definition"),
    ("an import that hides", top("from models.utils import off_diagonal as nn\n"), "hides"),
    ("an import of a file's part", top("import pathlib\n"), "imports are limited"),
    ("a star import", top("from torch import *\n"), "star imports"),
    ("two methods", lambda t: t.replace("return self.W * self.mask", "return self.W").replace(".squeeze(-1)", ".sum(-1)", 1), "one change at a time"),
    ("a method and a constant", lambda t: t.replace("return self.W * self.mask", "return self.W").replace('"W_L", "W_R")', '"W_L")'), "(module)"),
]  # fmt: skip

METHODS = [
    ("open in a method", "x = open('x')", "builtin `open`"),
    ("dunder of self", "self.__class__ = FixedTanh", "two underscores"),
    ("self rebound", "self = 1", "keeps its name"),
    ("module patched", "nn.Linear.forward = None", "imported"),
    ("sibling class patched", "FixedTanh.forward = None", "belongs to the module"),
    ("private of another", "self.lin_phi._parameters.clear()", "private attributes"),
    ("super's class", "super().__class__.x = 1", "refused"),
]

PASSING = [
    ("AdamW", swap("optimizer = torch.optim.Adam(groups, fused=True)", "optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)")),
    ("SGD", swap("optimizer = torch.optim.Adam(groups, fused=True)", "optimizer = torch.optim.SGD(groups, momentum=0.9, nesterov=True)")),
    ("cosine", inside("from torch.optim.lr_scheduler import CosineAnnealingLR\nf = CosineAnnealingLR")),
    ("another scheduler", lambda t: swap("    step = run.resume(", "    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=3)\n    step = run.resume(")(
        swap("            step += 1\n", "            plateau.step(loss.item())\n            step += 1\n")(t))),
    ("scheduler replaced", swap("    scheduler_W = LambdaLR(optimizer_W, lambda step: rate_factor(step / (n_epochs * Niter), *schedule))",
        "    scheduler_W = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer_W, T_max=n_epochs * Niter)")),
    ("clipping of everything", swap("            optimizer.step()\n", "            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n            optimizer.step()\n")),
    ("huber", swap('terms["prediction"] = prediction_loss(residual / unit, kind)', 'terms["prediction"] = torch.nn.functional.huber_loss(residual, torch.zeros_like(residual))')),
    ("log-cosh", swap('terms["prediction"] = prediction_loss(residual / unit, kind)', 'terms["prediction"] = (torch.logaddexp(residual, -residual) - math.log(2.0)).mean()')),
    ("regulariser", swap("            loss = sum(terms.values())\n", '            terms["symmetry"] = 1e-3 * (W - W.T).square().mean()\n            loss = sum(terms.values())\n')),
    ("sampling", swap("frames = sample_frames(len(u_all) - time_step, batch_size, sampler).to(run.device)",
        "frames = torch.randperm(len(u_all) - time_step, generator=sampler)[:batch_size].to(run.device)")),
    ("early stop", lambda t: swap("            step += 1\n", "            recent = [*recent[-99:], loss.item()]\n            if len(recent) == 100 and sum(recent) / 100 < 1e-6:\n                break\n            step += 1\n")(
        inside("recent = []")(t))),
    ("curriculum", swap("            frames = sample_frames(", "            time_step = min(time_step, epoch + 1)\n            frames = sample_frames(")),
    ("intermediate supervision", swap("                        if noise_level > 0:\n", '                        terms[f"ahead_{ahead}"] = (u_hat - u_all[frames + ahead]).square().mean()\n                        if noise_level > 0:\n')),
    ("projection of W", swap("            optimizer_W.step()\n", "            optimizer_W.step()\n            model.W.data = torch.sign(model.W) * torch.clamp(model.W.abs() - 1e-4, min=0.0)\n")),
    ("diagonal", swap("            optimizer_W.step()\n", "            optimizer_W.step()\n            with torch.no_grad():\n                model.W.fill_diagonal_(0)\n")),
    ("rates by hand", inside("for group in [{'lr': 1.0}]:\n    group['lr'] *= 0.5")),
    ("rates of the optimizer", swap("            step += 1\n", '            optimizer.param_groups[0]["lr"] *= 0.999\n            for group in optimizer_W.param_groups:\n                group["lr"] = max(1e-6, group["lr"] * 0.999)\n            model.W.grad = None\n            step += 1\n')),
    ("plain Python", inside('''
        if not isinstance(batch_size_now := max(1, len(data.u)), int):
            raise ValueError(f"expected a count, got {batch_size_now!r} of {type(batch_size_now).__name__}")
        for i, (a, b) in enumerate(zip([1], [2], strict=True)):
            math.floor(a + b + i)
    ''')),
    ("a nested function", inside("def scaled(x, factor=2.0):\n    return factor * x\nu_all = scaled(u_all, 1.0)")),
    ("a narrow except", inside("try:\n    x = torch.linalg.inv(u_all)\nexcept RuntimeError as error:\n    raise ValueError(f'no inverse: {error}') from error")),
    ("a nested module", inside("class Gate(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.w = torch.nn.Parameter(torch.ones(1))\n\n    def forward(self, x):\n        return self.w * x")),
    ("allowed imports", inside("import numpy as np\nfrom collections import deque\nfrom trainers.losses import small_entries as small\nimport torch.nn.functional as F\nfrom torch import nn")),
    ("Greek in a string and a comment", inside("name = 'Δu'  # μ and σ")),
    ("another estimate", swap("        run.checkpoint(stateful, epoch, step)\n", "        run.checkpoint(stateful, epoch, step)\n        if epoch == 1:\n            run.save_estimate(estimates(model, inputs), epoch, step)\n")),
    ("an averaged model", inside("import copy\naverage = copy.deepcopy(model)\nfor a, b in zip(average.parameters(), model.parameters(), strict=True):\n    a.data.lerp_(b.data, 0.1)")),
    ("division and dots in strings", inside("x = torch.einsum('...i,ij->...j', u_all, u_all.T)\ny = f'{1}/{2}'\nz = 'a / b... and so on'")),
    ("a diverged run", inside("if not math.isfinite(float(delta)):\n    raise FloatingPointError('delta is not finite')")),
]  # fmt: skip

PASSING_WHOLE = [
    ("scale of W", swap("self.W = nn.Parameter(W_init_scale * torch.randn(n_neurons, n_neurons).fill_diagonal_(0.0))",
        "self.W = nn.Parameter(0.1 * W_init_scale * torch.randn(n_neurons, n_neurons).fill_diagonal_(0.0))")),
    ("a weight set", method("self.scale = 2.0")),
    ("a private helper", lambda t: end("\n\ndef _soft(x: torch.Tensor, by: float = 0.1) -> torch.Tensor:\n    x.grad = None\n    return x.sign() * (x.abs() - by).clamp(min=0.0)\n")(
        swap("return self.W * self.mask", "return _soft(self.W * self.mask)")(t))),
    ("a private method and constant", lambda t: swap("    def connectivity(", "    @torch.no_grad()\n    def _norm(self) -> torch.Tensor:\n        return self.W.norm()\n\n    def connectivity(")(
        swap("from models.mlp import MLP\n", "from models.mlp import MLP\n\n_GAIN: float = 2.0\n")(swap("return self.W * self.mask", "return _GAIN * self.W * self.mask / self._norm()")(t)))),
    ("an import", lambda t: top("import torch.nn.functional as F\n")(swap("return self.W * self.mask", "return F.hardtanh(self.W) * self.mask")(t))),
    ("a private class", lambda t: end("\n\nclass _Sine(nn.Module):\n    FACTOR = 30.0\n\n    def __init__(self) -> None:\n        super().__init__()\n        self._w = 1.0\n\n    def forward(self, x: torch.Tensor) -> torch.Tensor:\n        return torch.sin(self._w * self.FACTOR * x)\n")(
        swap("self.lin_edge = FixedTanh()", "self.lin_edge = _Sine()")(t))),
    ("a parameter rebound", swap("return self.lin_edge(self.features(u)).squeeze(-1)", "u = u.clamp(-5.0, 5.0)\n        return self.lin_edge(self.features(u)).squeeze(-1)")),
    ("a constant", swap('("W", "W_L", "W_R")', '("W", "W_R", "W_L")')),
    ("an import taken away", lambda t: t.replace("import math\n", "").replace("math.sqrt(W_rank)", "W_rank**0.5")),
]  # fmt: skip
