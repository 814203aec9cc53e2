"""
A DataFrame with categories, gaps and errors
============================================

Sales of houses as they are typed into a form: numbers, categories, an ordered category, a yes or
no, one of many quarters, and one cell in eight left empty. The frame goes into the autoencoder as
it is. It is mapped to two codes, its gaps are filled, and cells that do not fit into their rows are
found.

The sales are made up, of three causes for each house, so that it is known what could be found.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from skae import AutoencoderTransformer

torch.set_num_threads(1)
rng = np.random.default_rng(0)

# %%
# The sales
# ---------
# Three causes are behind each house and not in the frame: how far out it is, how rich its
# neighbours are, and how old it is. A column is a function of them, and noise. The price per square
# metre is not in the frame either.

N_SALES, N_QUARTERS = 2000, 60
outside, rich, age = causes = rng.standard_normal((3, N_SALES))


def drawn(scores):
    """Return a drawn category and the likeliest one."""
    scores = np.column_stack(np.broadcast_arrays(*scores))
    return (scores + rng.gumbel(size=scores.shape)).argmax(axis=1), scores.argmax(axis=1)


def of(labels, codes, ordered=False):
    return pd.Categorical.from_codes(codes, labels, ordered=ordered)


built = 1965 - 25 * age - 4 * np.square(outside)
area = 105 + 25 * outside + 25 * rich - 6 * age
plot = 120 + 180 * np.maximum(outside + 0.4 * rich + 0.5, 0) ** 1.5
energy = 150 + 45 * age + 12 * np.square(age) - 15 * rich
centre = 3 + 2.5 * np.exp(0.6 * outside)
centres = rng.standard_normal((2, N_QUARTERS))
distances = [(outside - x) ** 2 + (rich - y) ** 2 for x, y in centres.T]
kinds = ["flat", "terraced", "semi-detached", "detached"]
kind, best_kind = drawn([-5 * outside - 1, 0.5, 3 * outside - 1, 5 * outside + 2 * rich - 4])
heatings = ["district", "gas", "oil", "heat pump"]
heating, best_heating = drawn(
    [-4 * outside - 1, 1.0, 3 * age + 2 * outside - 2, -4 * age - 2 + rich]
)
conditions = ["poor", "fair", "good", "renovated"]
condition, best_condition = drawn(
    [3 * age - 3 * rich - 2, age - rich + 0.5, rich - age + 0.5, 3 * rich - 1.0 * age - 3]
)
garage, best_garage = drawn([0.0, 3 * outside + 2 * rich])
quarter, best_quarter = drawn([-12 * distance for distance in distances])
quarters = [f"quarter {i + 1}" for i in range(N_QUARTERS)]


def noisy(values, deviation):
    return values + deviation * rng.standard_normal(N_SALES)


truth = pd.DataFrame(
    {
        "area": noisy(area, 10).round(1),
        "plot": noisy(plot, 40).round(),
        "built": pd.array(noisy(built, 8).round().astype(int), dtype="Int64"),
        "energy": noisy(energy, 15).round(),
        "to centre": noisy(centre, 0.5).round(1),
        "kind": of(kinds, kind),
        "heating": of(heatings, heating),
        "condition": of(conditions, condition, ordered=True),
        "garage": pd.array(garage == 1, dtype="boolean"),
        "quarter": np.array(quarters, dtype=object)[quarter],
    },
    index=[f"sale {i + 1}" for i in range(N_SALES)],
)
numbers = list(truth.columns[:5])
# What would be filled in by somebody who knows the causes and the formulas above.
known = truth.assign(
    area=area,
    plot=plot,
    built=pd.array(built.round().astype(int), dtype="Int64"),
    energy=energy,
    **{"to centre": centre},
    kind=of(kinds, best_kind),
    heating=of(heatings, best_heating),
    condition=of(conditions, best_condition, ordered=True),
    garage=pd.array(best_garage == 1, dtype="boolean"),
    quarter=np.array(quarters, dtype=object)[best_quarter],
)
price = 3000 * np.exp(0.35 * rich - 0.4 * outside - 0.1 * age)

# %%
# Gaps, and errors
# ----------------
# One cell in eight is empty. Fifteen sales have a slip of the pen, a number times or by ten, and
# fifteen a cell that was copied from the wrong sale, one that is as different as can be: it is
# ordinary in its column, and odd in its row.

typed = truth.copy()
odd = pd.DataFrame(False, index=truth.index, columns=truth.columns)
slips, copies = rng.choice(N_SALES, 30, replace=False).reshape(2, 15)
for row, factor in zip(slips, rng.choice([0.1, 10.0], 15), strict=True):
    column = str(rng.choice(["area", "plot", "energy", "to centre"]))
    typed.loc[truth.index[row], column] *= factor
    odd.loc[truth.index[row], column] = True
for row in copies:
    column = str(rng.choice(["area", "plot", "built", "energy", "kind"]))
    other = np.abs(causes - causes[:, [row]]).sum(axis=0).argmax()
    typed.loc[truth.index[row], column] = truth[column].iloc[other]
    odd.loc[truth.index[row], column] = True
odd &= typed.astype(str) != truth.astype(str)  # a copy may happen to be right
empty = (rng.random(truth.shape) < 1 / 8) & ~odd
frame = typed.mask(empty)
print(frame.head(4).to_string(), "\n")

# %%
# Two codes
# ---------
# There is nothing to prepare: columns of numbers are standardised, others one-hot or, where there
# are many categories, given learned vectors, and gaps are left out of what training is to make
# small. Codes have no gaps.

mapper = AutoencoderTransformer(2, random_state=0).set_output(transform="pandas")
codes = mapper.fit_transform(frame)
print("Share of the variance or entropy that two codes keep, by column")
print(mapper.score_features(frame).sort_values().round(2).to_string(), "\n")


def explained(values, of_codes):
    """Return the R² of a mean over the twenty nearest sales."""
    squares = ((of_codes[:, np.newaxis] - of_codes) ** 2).sum(axis=2)
    nearest = squares.argsort(axis=1)[:, 1:21]
    return 1 - np.square(values - values[nearest].mean(axis=1)).mean() / values.var()


pca = AutoencoderTransformer(2, max_iter=0, random_state=0)  # factor analysis of mixed data
print("How much of the price per square metre, which is not in the frame, neighbours tell (R²)")
for name, some in (("autoencoder", codes.to_numpy()), ("its start", pca.fit_transform(frame))):
    print(f"  {name:12s} {explained(np.log(price), some):.2f}")

# %%
# Filled gaps
# -----------
# For filling, train with ``corruption="masking"``: further cells are hidden, and have to be found
# from the others of their row. Errors of numbers are in standard deviations of their column.

model = AutoencoderTransformer(6, corruption="masking", corruption_level=0.3, random_state=0)
model.fit(frame)
filled = model.impute(frame)
assert list(filled.dtypes) == list(frame.dtypes)
assert not filled.isna().any(axis=None)
simple = frame.copy()
for column in frame:
    value = frame[column].mean() if column in numbers else frame[column].mode()[0]
    value = round(value) if column == "built" else value
    simple[column] = frame[column].fillna(value)

rivals = {"mean or mode": simple, "autoencoder": filled, "causes known": known}
print("\nFilled cells beside the truth: root mean square error, or share that is right")
print(" " * 12 + "".join(f"{name:>14s}" for name in rivals))
for column in frame:
    holes = empty[column]
    line = []
    for rival in rivals.values():
        there, here = truth[column][holes], rival[column][holes]
        if column in numbers:
            error = (here.astype(float) - there.astype(float)) / truth[column].std()
            line.append(np.sqrt(np.square(error).mean()))
        else:
            line.append((here.astype(str) == there.astype(str)).mean())
    print(f"{column:12s}" + "".join(f"{value:14.2f}" for value in line))

# %%
# Odd cells
# ---------
# ``reconstruction_errors`` has the error of each cell as a share of what is usual in its column, so
# that cells of numbers and of categories can be compared. Beside it is what is often done: how many
# standard deviations a number is from the mean of its column.

errors = model.reconstruction_errors(frame)
deviations = frame[numbers].astype(float)
deviations = ((deviations - deviations.mean()) / deviations.std()).abs()
deviations = deviations.reindex(columns=frame.columns)


def found(scores, n_cells=20):
    """Return how many of the cells with the highest scores are odd ones, of either kind."""
    worst = np.argsort(-np.nan_to_num(scores.to_numpy(float)), axis=None)[:n_cells]
    rows, columns = np.unravel_index(worst, scores.shape)
    hits = odd.to_numpy()[rows, columns]
    return hits.sum(), (hits & np.isin(rows, slips)).sum(), (hits & np.isin(rows, copies)).sum()


# A copied cell is found by what the rest of its row says. Of a slip by ten the mean of the column
# says enough, and it draws the code towards itself, so that its error is less: look at both.

print("\nOdd cells among the 20 with the highest score:   all  slips  copies")
for name, scores in (("reconstruction error", errors), ("deviation from the mean", deviations)):
    counts = "".join(f"{count:7d}" for count in found(scores))
    print(f"  {name:42s}{counts}")

# %%
# The picture
# -----------

figure, (left, right) = plt.subplots(
    1, 2, figsize=(9, 4.6), width_ratios=[1, 1.3], layout="constrained"
)
points = left.scatter(
    *codes.to_numpy().T, c=price, s=7, norm=LogNorm(*np.quantile(price, (0.01, 0.99)))
)
middle = codes.quantile([0.002, 0.998]).to_numpy()
left.set(xlim=middle[:, 0], ylim=middle[:, 1], xlabel="first code", ylabel="second code")
left.set_title("2000 sales")
bar = figure.colorbar(points, ax=left, location="left", label="price per m², not in the frame")
ticks = [1500, 3000, 6000]
bar.set_ticks(ticks, labels=ticks)
bar.minorticks_off()
worst = errors.max(axis=1).nlargest(16).index
cells = errors.loc[worst].fillna(0).clip(lower=0.1)
image = right.imshow(cells, cmap="Oranges", norm=LogNorm(0.1, 100), aspect="auto")
for row, column in np.argwhere(empty.loc[worst].to_numpy()):
    right.text(column, row, "–", ha="center", va="center", color="0.4")
for row, column in np.argwhere(odd.loc[worst].to_numpy()):
    right.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, linewidth=1.8))
right.set_xticks(range(frame.shape[1]), frame.columns, rotation=60, ha="right")
right.set_yticks(range(len(worst)), worst, fontsize=8)
right.set_title("the oddest of them (framed: put in)")
figure.colorbar(image, ax=right, label="error, 1 is that of the mean or the shares")
plt.show()
