"""A trace as a pandas DataFrame: the columns of docs/trace-format.md, in order of time."""

import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from nandoctor.errors import not_a_trace
from nandoctor.trace.columns import COLUMNS, COUNTS, REALS, WORDS
from nandoctor.trace.notes import notes_in
from nandoctor.trace.open import open_trace
from nandoctor.trace.ranks import is_rank_folder, open_ranks
from nandoctor.trace.recover import write_file
from nandoctor.trace.rows import rows_in_file, survey
from nandoctor.trace.trace import Trace

if TYPE_CHECKING:
    import pandas as pd


def read_trace(path: str | Path) -> "pd.DataFrame":
    """The rows of a trace; a spool that is still written is read as far as it goes. Of a folder of ranks: all of them,
    one rank after the other, told apart by the column `rank`.

    Texts are categories. Numbers that not every row has are nullable: NaN is a value, pandas.NA is none.
    """
    if is_rank_folder(Path(path)):
        return _joined([_read(trace) for trace in open_ranks(Path(path)).traces.values()])
    return _read(open_trace(Path(path)))  # says in words what is wrong, and finishes a spool


def _read(trace: Trace) -> "pd.DataFrame":
    file = Path(trace.path)
    if file.is_file():
        return _frame(file)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "trace.parquet"
        with closing(rows_in_file(file / "rows.bin")) as source:
            write_file(copy, source, survey(source), notes_in(file))
        return _frame(copy)


def _joined(frames: "list[pd.DataFrame]") -> "pd.DataFrame":
    import pandas as pd
    from pandas.api.types import union_categoricals

    for name in WORDS:  # pandas joins categories only where they are the same
        words = union_categoricals([frame[name] for frame in frames]).categories
        for frame in frames:
            frame[name] = frame[name].cat.set_categories(words)
    return pd.concat(frames, ignore_index=True)


def _frame(file: Path) -> "pd.DataFrame":
    import pandas as pd

    from nandoctor.trace import parquet

    try:
        parquet.OpenFile(file).check_pages()
    except parquet.Unreadable as error:
        raise not_a_trace(str(file), str(error)) from None
    held = parquet.column_names(file)  # an older file lacks the latest columns
    nullable = [name for name in (*REALS, *COUNTS, "count") if name in held]
    plain = [name for name in COLUMNS if name in held and name not in nullable]
    texts = list(WORDS)  # become categories
    whole: pd.DataFrame = pd.read_parquet(file, columns=plain, read_dictionary=texts)
    # only Arrow's own type keeps NaN and null apart: float64 has one for both, pandas' Float64 makes NaN null
    frame = whole.join(pd.read_parquet(file, columns=nullable, dtype_backend="pyarrow"))
    for name in COLUMNS:
        if name not in held:
            frame[name] = 0 if name == "rank" else pd.NA
    in_time: pd.DataFrame = frame[list(COLUMNS)].sort_values("order", kind="stable", ignore_index=True)
    return in_time
