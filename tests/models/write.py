"""Write the models of this folder by the version that is installed, with what they answer.

    python tests/models/write.py

Run it once per release, and keep all that earlier releases wrote: `test_persistence` loads every
file here, and compares.
"""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd

import skae
from skae import AutoencoderTransformer, _model_file
from skae.modules import ConvDecoder, ConvEncoder

FOLDER = Path(__file__).parent


def tables():
    """Return a table of numbers, and one of numbers and categories with gaps."""
    rng = np.random.RandomState(0)
    codes = rng.normal(size=(200, 2))
    numbers = np.column_stack([codes, codes[:, 0] * codes[:, 1], np.sin(2 * codes), rng.rand(200)])
    kinds = np.array(["flat", "terraced", "détaché"])[np.digitize(codes[:, 0], [-0.5, 0.5])]
    mixed = pd.DataFrame(
        {
            "area": 100 + 30 * codes[:, 0] + rng.normal(size=200),
            "built": np.rint(1970 + 20 * codes[:, 1]),
            "kind": pd.Series(kinds, dtype=object),
            "lift": pd.Series(codes[:, 1] > 0, dtype=object),
            "street": pd.Series([f"street {i % 55}" for i in range(200)], dtype=object),
        }
    )
    return numbers, mixed.mask(rng.uniform(size=mixed.shape) < 0.1)


def models():
    """Yield the name of each model, the model, and rows."""
    numbers, mixed = tables()
    small = {"hidden_layer_sizes": (6,), "max_iter": 40, "random_state": 0}
    ends = {"encoder": ConvEncoder((1, 6), (3,)), "decoder": ConvDecoder((1, 6), (3,))}
    for name, parameters, rows in (
        ("plain", {}, numbers),
        ("mixed", {"corruption": "masking", "max_iter": 10}, mixed),
        ("variational", {"penalty": "kl", "alpha": 0.01, "dropout": 0.1}, numbers),
        ("tied", {"tied_weights": True, "loss": "huber", "penalty": "l1"}, numbers),
        ("convolutions", {**ends, "max_iter": 10}, numbers),
        ("sparse-codes", {"penalty": "activity_l1", "alpha": 0.1, "n_components": 3}, numbers),
    ):
        yield name, AutoencoderTransformer(**{**small, **parameters}).fit(rows), rows[:20]


def answers(model, rows):
    """Return rows, and what a model says of them, as JSON has it."""
    table = pd.DataFrame(rows)
    return {
        "rows": table.astype(object).where(table.notna(), None).to_dict("list"),
        "codes": model.transform(rows).tolist(),
        "decoded": pd.DataFrame(model.reconstruct(rows)).to_dict("list"),
        "score_samples": model.score_samples(rows).tolist(),
        "explained_variance_": model.explained_variance_.tolist(),
        "alpha": model.alpha,
    }


if __name__ == "__main__":
    import skops.io

    prefix = f"{skae.__version__}-protocol{_model_file.PROTOCOL}"
    for name, model, rows in models():
        path = FOLDER / f"{prefix}-{name}"
        model.save_model(f"{path}.safetensors")
        if name == "mixed":
            Path(f"{path}.pickle").write_bytes(pickle.dumps(model))
            skops.io.dump(model, f"{path}.skops")
        Path(f"{path}.json").write_text(json.dumps(answers(model, rows)))
