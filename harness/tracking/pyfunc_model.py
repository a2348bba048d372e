"""The code of a registered model. MLflow copies this file, so it imports nothing of the harness.

Input: a table with one row for each track, with the feature columns of the CSV by name, with one column `picture`
of PNG or JPEG bytes, or with both. Output: a table with the likeliest genre in the column `genre` (`genre_` if one
of the genres is called so), and a column of probabilities for each genre.
"""

import io
import json
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class GenreModel(PythonModel):
    """The network of a pt2 file, with the column and genre names from the same file."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the pt2 file."""
        extra = {"metadata.json": ""}
        self.network = torch.export.load(context.artifacts["network"], extra_files=extra).module()
        self.about: dict[str, Any] = json.loads(extra["metadata.json"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return the likeliest genre and the probability of every genre for each row."""
        with torch.inference_mode():
            rows = self._probabilities(model_input)
        table = pd.DataFrame(rows.numpy().astype("float64"), columns=self.about["genres"], index=model_input.index)
        likeliest = [self.about["genres"][best] for best in rows.argmax(1).tolist()]
        table.insert(0, "genre_" if "genre" in table else "genre", likeliest)
        return table

    def _probabilities(self, table: pd.DataFrame) -> torch.Tensor:
        representation = self.about["representation"]
        if representation == "features":
            return self.network(self._features(table))  # type: ignore[no-any-return]
        # One by one, because the sizes of pictures may differ.
        pictures = map(_decode, table["picture"])
        if representation == "pictures":
            return torch.cat([self.network(picture) for picture in pictures])
        rows = self._features(table)
        return torch.cat([self.network(each, rows[n : n + 1]) for n, each in enumerate(pictures)])

    def _features(self, table: pd.DataFrame) -> torch.Tensor:
        found = [self._column(table, name).to_numpy(dtype="float32") for name in self.about["columns"]]
        values = np.stack(found, axis=1)
        fills = self.about.get("impute", False)
        if (np.isinf(values) if fills else ~np.isfinite(values)).any():
            raise ValueError("a feature is not finite" if fills else "a feature is missing or not finite")
        return torch.from_numpy(values)

    def _column(self, table: pd.DataFrame, name: str) -> "pd.Series[Any]":
        """Return a column; `NAME=VALUE` is made of the column NAME."""
        if name in table:
            return table[name]
        base, _, value = name.partition("=")
        return table[base].astype(str).str.strip() == value


def _decode(content: bytes) -> torch.Tensor:
    from PIL import Image  # not installed where a model of features is served

    with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))[None])


set_model(GenreModel())
