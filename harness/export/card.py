"""The model card of an exported network: the model, its accuracy, the data, and how to use the files."""

from __future__ import annotations

from harness.core.objective import number_text
from harness.core.records import SYNTHETIC
from harness.core.space import describe
from harness.data.options import plural
from harness.data.rows import IS, categories_of
from harness.training.description import Architecture, Description, Exported, Origin, TestResult

CARD_FILE = "README.md"
# Example code by format and input. A test runs each in a process without this package.
USES = {
    ("pt2", "features"): """\
import json, pandas as pd, torch
about = json.load(open("model.json"))["architecture"]
rows = torch.tensor(pd.read_csv("features_30_sec.csv")[about["columns"]].to_numpy("float32"))
probabilities = torch.export.load("model.pt2").module()(rows)
print([about["genres"][best] for best in probabilities.argmax(1)])
""",
    ("pt2", "pictures"): """\
import json, numpy as np, torch
from PIL import Image
picture = torch.tensor(np.array(Image.open("picture.png").convert("RGB")))
probabilities = torch.export.load("model.pt2").module()(picture[None])
print(json.load(open("model.json"))["architecture"]["genres"][probabilities.argmax()])
""",
    ("pt2", "both"): """\
import json, numpy as np, pandas as pd, torch
from PIL import Image
about = json.load(open("model.json"))["architecture"]
rows = torch.tensor(pd.read_csv("features_30_sec.csv")[about["columns"]].to_numpy("float32"))
picture = torch.tensor(np.array(Image.open("picture.png").convert("RGB")))  # of the track in the first row
probabilities = torch.export.load("model.pt2").module()(picture[None], rows[:1])
print(about["genres"][probabilities.argmax()])
""",
    ("onnx", "both"): """\
import json, numpy as np, onnxruntime, pandas as pd
from PIL import Image
about = json.load(open("model.json"))["architecture"]
rows = pd.read_csv("features_30_sec.csv")[about["columns"]].to_numpy("float32")
pictures = np.array(Image.open("picture.png").convert("RGB"))[None]  # of the track in the first row
inputs = {"pictures": pictures, "features": rows[:1]}
(probabilities,) = onnxruntime.InferenceSession("model.onnx").run(None, inputs)
print(about["genres"][probabilities.argmax()])
""",
    ("onnx", "features"): """\
import json, onnxruntime, pandas as pd
about = json.load(open("model.json"))["architecture"]
rows = pd.read_csv("features_30_sec.csv")[about["columns"]].to_numpy("float32")
(probabilities,) = onnxruntime.InferenceSession("model.onnx").run(None, {"features": rows})
print([about["genres"][best] for best in probabilities.argmax(1)])
""",
    ("onnx", "pictures"): """\
import json, numpy as np, onnxruntime
from PIL import Image
pictures = np.array(Image.open("picture.png").convert("RGB"))[None]
(probabilities,) = onnxruntime.InferenceSession("model.onnx").run(None, {"pictures": pictures})
print(json.load(open("model.json"))["architecture"]["genres"][probabilities.argmax()])
""",
}
WEIGHTS_USE = """\
from safetensors.torch import load_file
for name, tensor in load_file("model.safetensors").items():
    print(name, tuple(tensor.shape))
"""
_PICTURES = "uint8 RGB [n, height, width, 3], 4 to 4096 pixels a side; it is resized to {height}x{width} inside"
_FEATURES = "float32 [n, {columns}], as in the table, unscaled, in the order of the columns below"
INPUTS = {
    "features": _FEATURES,
    "pictures": _PICTURES,
    "both": f"first {_PICTURES}; then {_FEATURES}",
}


def model_card(description: Description) -> str:
    """Return the model card (Markdown) of an exported network.

    Raises ValueError if the network was not exported or not measured.
    """
    exported, origin, architecture = description.exported, description.origin, description.architecture
    if exported is None or origin is None or exported.test is None:
        raise ValueError("a model card needs an exported and measured network")
    columns = architecture.columns
    classes, items = (plural(word) for word in architecture.words)
    sections = [
        f"# {origin.study}",
        f"A classifier of {'music ' if architecture.is_music else ''}{classes}: {_what(architecture)} on "
        f"{_of(architecture)}, {len(architecture.genres)} {classes}."
        if architecture.is_classifier
        else f"A network with a loss of its own: {_what(architecture)} on {_of(architecture)}. "
        f"The search looked for {architecture.objective}.",
    ]
    if origin.synthetic:
        sections.append(f"**{SYNTHETIC}**")
    sections += [
        _figures(description, exported, exported.test, origin),
        f"The epoch and the setting were chosen on validation {items}, so a validation "
        f"{'accuracy' if architecture.is_classifier else 'loss'} is optimistic. "
        "Nothing was chosen on the test part. Other splits and other collections give other figures: name the "
        "split with them.",
        *(
            [f"{classes.capitalize()}, in the order of the probabilities: {', '.join(architecture.genres)}."]
            if architecture.is_classifier
            else []
        ),
        "## Files",
        _files(exported),
        f"Input: {_input(architecture)}{_cropped(architecture)}. Output of pt2 and ONNX: {_output(architecture)}.",
        "## Use",
        *_uses(architecture, exported),
    ]
    if columns:
        sections += ["## Columns", ", ".join(f"`{column}`" for column in columns)]
    return "\n\n".join(sections) + "\n"


def _what(architecture: Architecture) -> str:
    model, members = f"`{architecture.model}`", architecture.members
    return model if members == 1 else f"the mean of the probabilities of {members} networks {model}"


def _of(architecture: Architecture) -> str:
    columns = len(architecture.columns)
    audio, spectrogram = ("audio ", "spectrogram ") if architecture.is_music else ("", "")
    return {
        "features": f"{columns} {audio}features",
        "pictures": f"{spectrogram}pictures",
        "both": f"{spectrogram}pictures and {columns} {audio}features",
    }[architecture.representation]


def _input(architecture: Architecture) -> str:
    height, width = architecture.input_size
    text = INPUTS[architecture.representation]
    made = "; a column NAME=VALUE is 1 where NAME has VALUE, else 0"
    text = text.format(columns=len(architecture.columns), height=height, width=width)
    return text + made if categories_of(architecture.columns) else text


def _example(code: str, architecture: Architecture) -> str:
    """Return example code with the table of the data in it; one-hot columns are made of their own ones."""
    if architecture.is_music:
        return code
    code = code.replace("features_30_sec.csv", "features.csv")
    whole = 'pd.read_csv("features.csv")'
    categories = sorted(categories_of(architecture.columns))
    if categories:
        made = f'pd.get_dummies({whole}, columns={categories}, prefix_sep="{IS}", dtype=float)'
        code = code.replace(
            f'{whole}[about["columns"]]', f'{made}.reindex(columns=about["columns"], fill_value=0)'
        )
    return code


def _output(architecture: Architecture) -> str:
    return (
        "probabilities, float32 [n, genres]" if architecture.is_classifier else "what the network's forward gives"
    )


def _cropped(architecture: Architecture) -> str:
    """Return how pictures are cropped; empty if they are not."""
    box = architecture.box
    if box is None:
        return ""
    return (
        f", after its frame is cut: rows {box.top} to {box.bottom - 1} and columns {box.left} to {box.right - 1} "
        f"are kept of {box.width}x{box.height} pixels, and the same share of a picture of another size"
    )


def _figures(description: Description, exported: Exported, test: TestResult, origin: Origin) -> str:
    parts, config, items = exported.parts, description.config, plural(description.architecture.words[1])
    opened = "once" if test.openings == 1 else f"{test.openings} times"
    if test.accuracy is None:
        shown = {f"{name} ({test.tracks} {items})": number_text(value) for name, value in test.figures.items()}
        shown["validation loss"] = (
            f"{number_text(description.metrics.val_loss)}, at epoch {description.metrics.epoch}"
        )
        shown |= {name: number_text(value) for name, value in description.metrics.own.items()}
        shown["test part"] = f"opened {opened} by this run"
    else:
        shown = {
            "test accuracy": f"{test.accuracy:.3f} ({test.correct} of {test.tracks} {items}), 95 % interval "
            f"{test.low:.3f} to {test.high:.3f}; opened {opened} by this run",
            "validation accuracy": _validation(description, parts["valid"]),
        }
    rows = {
        **shown,
        "split": f"{exported.split}: {parts['train']} train, {parts['valid']} validation, {parts['test']} test",
        "data": f"{_data(description.architecture, origin)}, digest `{origin.data_digest[:16]}`",
        "setting": f"{describe(config.params)}, {_seed(description)}",
        "run": f"`{exported.run_id}` of study `{origin.study}`",
        "versions": ", ".join(f"{name} {version}" for name, version in description.versions.items()),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _data(architecture: Architecture, origin: Origin) -> str:
    return (
        "synthetic"
        if origin.synthetic
        else "GTZAN layout"
        if architecture.is_music
        else "a table, pictures or both"
    )


def _seed(description: Description) -> str:
    members = description.architecture.members
    return f"trial seed {description.config.seed}" if members == 1 else f"{members} different seeds"


def _validation(description: Description, tracks: int) -> str:
    metrics, epochs = description.metrics, description.config.epochs
    if metrics.val_accuracy is None:
        return f"none: a refit, trained on train and validation part together; epoch {metrics.epoch} of {epochs}"
    items = plural(description.architecture.words[1])
    return f"{metrics.val_accuracy:.3f} ({tracks} {items}) at epoch {metrics.epoch} of {epochs}"


def _files(exported: Exported) -> str:
    lines = ["| file | test accuracy, read back | largest difference of an output |", "|---|---|---|"]
    for check in exported.formats:
        lines.append(f"| `{check.file}` | {number_text(check.accuracy)} | {check.largest_difference:.1e} |")
    return "\n".join(lines)


def _uses(architecture: Architecture, exported: Exported) -> list[str]:
    representation = architecture.representation
    formats = [check.format for check in exported.formats]
    sections = []
    for name in sorted(formats, key="safetensors".__eq__):  # first the formats that need no code of this package
        if name == "safetensors":
            text = (
                "`model.safetensors`: the weights by name, and the statistics that normalise the input. To build "
                "the network from them, call `harness.training.checkpoint.load_checkpoint` (the other formats "
                "need no code of this package):"
            )
            sections += [text, f"```python\n{WEIGHTS_USE}```"]
        else:
            use = _example(USES[name, representation], architecture)
            if not architecture.is_classifier:  # the last line of each example prints the likeliest class
                use = use.replace("probabilities", "outputs").rsplit("\n", 2)[0] + "\nprint(outputs.shape)\n"
            sections += [f"`model.{name}`:", f"```python\n{use}```"]
    if exported.registered is not None:
        table = 'pd.read_csv("features_30_sec.csv")'
        if representation == "pictures":
            table = 'pd.DataFrame({"picture": [open("picture.png", "rb").read()]})'
        elif representation == "both":
            table = 'pd.read_csv("features_30_sec.csv").head(1).assign(picture=[open("picture.png", "rb").read()])'
        sections.append("From MLflow, with the store in `MLFLOW_TRACKING_URI`:")
        sections.append(
            "```python\nimport mlflow, pandas as pd\n"
            f'model = mlflow.pyfunc.load_model("{exported.registered}")\n'
            f"print(model.predict({_example(table, architecture)}))\n```"
        )
    return sections
