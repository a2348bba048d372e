"""TOML files, flags, environment variables and model files of `harness sweep` and other commands."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bad_inputs.base import Base
from tests.bad_inputs.case import Case
from tests.bad_inputs.sets import ODD_FILES, Make

KIND = "settings"
MIB = 1 << 20
DIGITS = "9" * 5000


def cases(base: Base, seed: int) -> Iterator[Case]:
    """Yield the cases."""
    for name, content in {**_no_toml(), **_values(), **_tables()}.items():
        yield Case(KIND, f"TOML: {name}", partial(_with_file, base, content))
    for name, make in ODD_FILES.items():
        if name != "a link to /dev/null":  # an empty file is sound: the flags name the model
            yield Case(KIND, f"TOML: the file is {name}", partial(_with_odd_file, base, make))
    yield Case(KIND, "TOML: no such file", lambda here: _sweep(base, "--config", "missing.toml"))
    for flags in (*_flags(), *_search(), *_names()):
        yield _flag_case(_sweep(base, *flags), flags)
    for flags in _other_commands(base):
        yield _flag_case(list(flags), flags)
    for name, value in _variables().items():
        yield Case(KIND, f"{name}={value[:20]!r}", lambda here: _sweep(base), environment={name: value})
    for name, code in _model_files().items():
        yield Case(KIND, f"model file: {name}", partial(_with_model, base, code))


def _sweep(base: Base, *flags: str) -> list[str]:
    """A sweep that would be over soon if it began; a flag that comes later overrides one that came before."""
    small = ["--data", str(base.data), "--trials", "1", "--epochs", "1", "--jobs", "1"]
    return ["sweep", "--model", "fcnn", *small, *flags]


def _flag_case(arguments: list[str], flags: tuple[str, ...]) -> Case:
    shown = " ".join(flag if len(flag) <= 40 else f"{flag[:20]}...({len(flag)})" for flag in flags)
    return Case(KIND, shown.encode("unicode_escape").decode(), lambda here: arguments)


def _with_file(base: Base, content: bytes, here: Path) -> list[str]:
    (here / "settings.toml").write_bytes(content)
    return _sweep(base, "--config", "settings.toml")


def _with_odd_file(base: Base, make: Make, here: Path) -> list[str]:
    make(here / "settings.toml")
    return _sweep(base, "--config", "settings.toml")


def _with_model(base: Base, code: bytes, here: Path) -> list[str]:
    (here / "net.py").write_bytes(code)
    return _sweep(base, "--model", "net.py:Net")


def _no_toml() -> dict[str, bytes]:
    return {
        "a text": b"hello world\n",
        "JSON": b'{"trials": 3}',
        "YAML": b"trials: 3\n",
        "UTF-16": "trials = 3\n".encode("utf-16"),
        "Latin-1": "study = 'r\u00f6ck'\n".encode("latin-1"),
        "NUL": b"trials\x00 = 3\n",
        "a key twice": b"trials = 3\ntrials = 4\n",
        "a string that is not closed": b'study = "a\n',
        "ESC": b'study = "\x1b[2J"\n',
        "5 000 brackets": b"without = " + b"[" * 5000 + b"]" * 5000,
        "5 000 tables": b"search = " + b"{a = " * 5000 + b"1" + b"}" * 5000,
        "a table of 5 000 names": b"[" + b"a." * 5000 + b"a]\n",
        "5 000 digits": f"trials = {DIGITS}\n".encode(),
        "5 000 digits in hexadecimal": b"trials = 0x" + b"f" * 5000,
        "a number of 10 000 zeros": b"epochs = 1" + b"0" * 10_000,
        "a line of 10 MB": b"study = '" + b"a" * (10 * MIB) + b"'\n",
        "10 MB of one word": b"a" * (10 * MIB),
        "an unknown name": b"trails = 3\n",
        "an unknown name with ESC": b'"\x5cu001b[2J" = 3\n',
        "a name of 60 000 letters": b"a" * 60_000 + b" = 3\n",
        "a flag's own name": b"search_options = ['lr=1:2']\n",
    }


def _values() -> dict[str, bytes]:
    wrong = (
        *("trials = 0", "trials = -1", "trials = 1.5", "trials = '3'", "trials = true", "trials = [3]"),
        *(
            "epochs = 0",
            "epochs = 2026-11-28",
            "epochs = nan",
            "seed = -1",
            "seed = 1.0",
            "split_seed = 4294967296",
        ),
        *("jobs = -3", "jobs = 0", "jobs = 'many'", "jobs = true", "jobs = 1.5", "jobs = '\u00b2'"),
        *("keep = 'best:0'", "keep = 'best:\u00b2'", "keep = 'best'", "keep = 'worst:1'", "keep = 0", "keep = []"),
        *("timeout = nan", "timeout = inf", "timeout = 0", "timeout = -1", "attempts = 0", "precision = 'fp8'"),
        *("model = 3", "data = 3", "without = 'tempo'", "without = [3]", "study = ['a']", "storage = 3"),
        *("search = 3", "set = []", "device = 0", "sampler = 'best'", "pruner = 'all'", "without = ['nothing']"),
    )
    # The flags of the same names would override them, but the file is checked for itself.
    return {line.encode("unicode_escape").decode(): line.encode() for line in wrong}


def _tables() -> dict[str, bytes]:
    big = "1" + "0" * 400
    wrong = (
        *("lr = 3", "lr = 'a'", "lr = []", "lr = [1e-3, 1e-3]", "lr = ['a']", "lr = [true]", "lr = {}"),
        *("lr = {low = 1}", "lr = {low = 1, high = 0.1}", "lr = {low = 0, high = 1, log = true}"),
        *("lr = {low = nan, high = 1}", "lr = {low = 1e-3, high = inf}", f"lr = {{low = 1e-3, high = {big}}}"),
        *("lr = {low = 1e-3, high = 1, log = 3}", "lr = {low = 1e-3, high = 1, step = 2}", "learning = [1, 2]"),
        *("batch_size = [0]", "batch_size = [1.5]", "batch_size = {low = 2, high = 1e400}", "dropout = [1.0]"),
        *("dropout = {values = [0.1], when = 3}", "dropout = {values = [0.1], when = {nothing = 1}}"),
        *("optimizer = ['fastest']", "optimizer = {low = 1, high = 2}", "width = [1e9]", "model = ['fcnn']"),
        *("dropout = {values = [0.1], when = {dropout = 1}}", f"batch_size = [{big}]"),
    )
    fixed = ("lr = nan", "lr = -1", "dropout = 2", "nothing = 1", "optimizer = 3", "lr = [1]", f"lr = {big}")
    return {
        **{f"[search] {line[:60]}": f"[search]\n{line}\n".encode() for line in wrong},
        **{f"[set] {line[:60]}": f"[set]\n{line}\n".encode() for line in fixed},
    }


def _flags() -> Iterator[tuple[str, ...]]:
    for value in ("\u00b2", "-1", "0", "1.5", "", "many", DIGITS, "\x1b[2J", "0x2", "1e9"):
        yield "--jobs", value
    for value in ("best:\u00b2", "best:", "best:0", "best:-1", f"best:{DIGITS}", "all:1", "", "best:1:2"):
        yield "--keep", value
    for value in (
        "cuda:\u00b2",
        "cuda:-1",
        f"cuda:{DIGITS}",
        "cuda:99",
        "tpu",
        "",
        "cpu,cpu",
        "cpu,",
        "cuda:",
        "mps",
    ):
        yield "--device", value
    for value in ("0", "-1", "1.5", "x", DIGITS, ""):
        yield "--trials", value
    for value in ("nan", "inf", "-1", "0", "x", "1e999"):
        yield "--timeout", value
    yield from (("--epochs", "0"), ("--seed", "-1"), ("--split-seed", "4294967296"), ("--attempts", "0"))
    yield from (("--stack", "0"), ("--stack", "x"), ("--stack", "9999"))
    yield from (("--precision", "fp8"), ("--sampler", "best"), ("--pruner", "all"), ("--without", "nothing"))
    yield from (("--data", "missing"), ("--data", ""), ("--data", "/dev/null"), ("--data", "a\x1b[2J"))
    yield from (("--model", "vgg"), ("--model", ""), ("--model", "net.py"), ("--model", "missing.py:Net"))
    yield from (("--model", ":Net"), ("--model", "/etc/passwd:Net"), ("--model", "net.py:"), ("--nothing",))


def _search() -> Iterator[tuple[str, ...]]:
    wrong = (
        "",
        "lr",
        "=",
        "lr=",
        "=1:2",
        "lr=1",
        "lr=a:b",
        "lr=1:0.1",
        "lr=0:1:log",
        "lr=1:2:3:4",
        "lr=1:2:square",
    )
    for value in (*wrong, "lr=nan:1", "lr=1e-3:inf", "nothing=1:2", "lr=0.1,0.1", f"batch_size=2:{DIGITS}"):
        if value != "lr=1":
            yield "--search", value
    for value in (
        "",
        "lr",
        "lr=",
        "=1",
        "lr=x",
        "lr=nan",
        "dropout=2",
        "nothing=1",
        "optimizer=fastest",
        "lr=\x1b",
    ):
        yield "--set", value
    yield "--set", "dropout=0.1", "--search", "width=x"


def _names() -> Iterator[tuple[str, ...]]:
    for name in ("../x", "a/b", ".", "..", "a" * 101, "a b", "a\x1b[2J", "r\u00f6ck", "-x", "a\nb", "'; drop"):
        yield "--study", name
    for name in ("../x", "a/b", "..", "a" * 60_000, "%41"):
        yield "--experiment", name


def _other_commands(base: Base) -> Iterator[tuple[str, ...]]:
    yield from (("ui", "--port", "99999"), ("ui", "--port", "-1"), ("ui", "--port", "x"), ("ui",))
    yield from (
        ("doctor", "--dead-after", "1"),
        ("doctor", "--dead-after", "nan"),
        ("doctor", "--dead-after", "x"),
    )
    yield from (("predict", str(base.fcnn), str(base.rows), "--top", "0"), ("predict", str(base.fcnn)))
    yield from (("predict", str(base.fcnn), "missing.csv"), ("predict", str(base.fcnn), "/dev/null"))
    yield from (("predict", "missing", str(base.rows)), ("predict", "/dev/null", str(base.rows)))
    yield from (("predict", str(base.data), str(base.rows)), ("predict", str(base.fcnn), "."))
    near = ("similar", "amber.00000", "--data", str(base.data))
    yield from ((*near, "--top", "0"), (*near, "--top", "x"), (*near, "--split", "missing"), ("similar",))
    yield from ((*near, "--split-seed", "-1"), (*near, "--split-seed", DIGITS), (*near, "--split", "/dev/null"))
    odd = ("amber.99999", "", ".", "/dev/null", "missing.csv", "a" * 60_000, "\x1b[2J", "../x", str(base.fcnn))
    for asked in odd:
        yield "similar", asked, "--data", str(base.data)
    yield from (("export", "--out", "best"), ("export", "--run", "x", "--study", "y", "--out", "best"))
    yield from (("export", "--run", "../x", "--out", "best"), ("export", "--study", "x", "--out", "/dev/null"))
    yield from (("export", "--study", "x", "--out", "best", "--format", "exe"), ("worker", "--study", "x"))
    yield from (
        ("compare", "--repeats", "1"),
        ("compare", "--repeats", "12"),
        ("compare", "--jobs", "\u00b2"),
        ("compare", "--out", "/dev/null"),
    )
    yield from (("delete", "../x", "--yes"), ("delete", "x", "--yes"), ("reproduce", "../x"), ("reproduce", ""))
    yield from (
        ("reproduce", "x\x1b[2J"),
        ("nothing",),
        ("data", "check", "missing"),
        ("data", "demo", "--out", "/"),
    )
    yield from (("data", "check", "/dev/null"), ("data", "check", "."), ("status", "--storage", "x"))
    yield from (("status", "--storage", "sqlite:///"), ("status", "--storage", "sqlite:///."))
    yield from (("status", "--storage", "nothing://x/y"), ("status", "--storage", "postgresql://"))
    yield from (
        ("doctor", "--tracking-uri", "x"),
        ("doctor", "--storage", "sqlite:///a.db", "--tracking-uri", "b"),
    )


def _variables() -> dict[str, str]:
    return {
        "HARNESS_SEED": "x",
        "HARNESS_SPLIT": "missing",
        "HARNESS_SAMPLER": "best",
        "HARNESS_KEEP": "best:\u00b2",
        "HARNESS_DEVICE": "cuda:\u00b2",
        "HARNESS_STUDY": "../x",
        "HARNESS_TIMEOUT": "nan",
        "HARNESS_STORAGE": "x",
        "HARNESS_TRACKING_URI": "x\x1b[2J",
        "HARNESS_CACHE": "/dev/null",
    }


def _model_files() -> dict[str, bytes]:
    start = b"from torch import nn\nclass Net(nn.Module):\n    representation = 'features'\n"
    made = start + b"    def __init__(self, inputs, classes):\n        super().__init__()\n"
    return {
        "empty": b"",
        "not UTF-8": b"# \xff\xfe\n",
        "not Python": b"hello world\n",
        "NUL": b"a = 1\x00\n",
        "5 000 brackets": b"a = " + b"(" * 5000 + b")" * 5000,
        "it raises": b"raise ValueError('no')\n",
        "it ends the program": b"import sys\nsys.exit(3)\n",
        "it calls itself for ever": b"def f(): f()\nf()\n",
        "no such class": b"class Other: pass\n",
        "the class is a function": b"def Net(inputs, classes): pass\n",
        "no network": b"class Net:\n    representation = 'features'\n",
        "no input": b"from torch import nn\nclass Net(nn.Module): pass\n",
        "an unknown input": start.replace(b"'features'", b"'sound'"),
        "no arguments": start + b"    def __init__(self): super().__init__()\n",
        "its making fails": made + b"        raise KeyError('x')\n",
        "its making ends the program": made + b"        raise SystemExit(3)\n",
        "no forward": made,
        "a wrong shape": made + b"    def forward(self, x): return x[:, :1]\n",
        "no tensor": made + b"    def forward(self, x): return 3\n",
        "no threads": start + b"    threads = 0\n",
        "hyperparameters of another type": start + b"    hyperparameters = {'a': 3}\n",
        "a search space of another type": start + b"    search = [3]\n",
        "a hyperparameter of a name in use": made.replace(
            b"'features'\n",
            b"'features'\n    import harness\n    hyperparameters = {'lr': harness.Hyperparameter(float, 1.0)}\n",
        ),
    }
