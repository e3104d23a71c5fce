"""Examples and labels in CSV, XLSX and NPZ files."""

from pathlib import Path

import numpy as np
import pandas as pd


def write_tables(folder: Path, rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """CSV, XLSX and NPZ of four columns, labels in words; returns what they hold, in the order of the files.

    Many rows are all in the NPZ file: a workbook of them takes long to write.
    """
    rng = np.random.default_rng(7)
    x = rng.normal([5, -3, 1e6, 0], [1, 2, 0.01, 1e-4], (rows, 4)).round(6)
    x[:, 3] = 2.0  # a constant column does not divide by zero
    words = np.where(x[:, 0] + x[:, 1] > 2, "yes", "no")
    third, names = rows // 3, list("abcd")
    for name in ("X", "Y"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"label": words}).to_csv(folder / "Y" / "labels.csv", index=False)
    if rows > 1000:
        np.savez(folder / "X" / "all.npz", x=x)
        return x, words
    pd.DataFrame(x[:third], columns=names).to_csv(folder / "X" / "1.csv", index=False)
    pd.DataFrame(x[third : 2 * third], columns=names).to_excel(folder / "X" / "2.xlsx", index=False)
    np.savez(folder / "X" / "3.npz", x=x[2 * third :])
    return x, words
