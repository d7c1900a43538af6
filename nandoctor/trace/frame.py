"""A trace as a pandas DataFrame: the columns of docs/trace-format.md, in order of time."""

import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from nandoctor.errors import not_a_trace
from nandoctor.trace.columns import COLUMNS, COUNTS, REALS, WORDS
from nandoctor.trace.notes import notes_in
from nandoctor.trace.open import open_trace
from nandoctor.trace.recover import write_file
from nandoctor.trace.rows import rows_in_file, survey

if TYPE_CHECKING:
    import pandas as pd


def read_trace(path: str | Path) -> "pd.DataFrame":
    """The rows of a trace; a spool that is still written is read as far as it goes.

    Texts are categories. Numbers that not every row has are nullable: NaN is a value, pandas.NA is none.
    """
    trace = open_trace(Path(path))  # says in words what is wrong, and finishes a spool
    file = Path(trace.path)
    if file.is_file():
        return _frame(file)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "trace.parquet"
        with closing(rows_in_file(file / "rows.bin")) as source:
            write_file(copy, source, survey(source), notes_in(file))
        return _frame(copy)


def _frame(file: Path) -> "pd.DataFrame":
    import pandas as pd

    from nandoctor.trace import parquet

    try:
        parquet.OpenFile(file).check_pages()
    except parquet.Unreadable as error:
        raise not_a_trace(str(file), str(error)) from None
    nullable = [*REALS, *COUNTS, "count"]
    plain = [name for name in COLUMNS if name not in nullable]
    texts = list(WORDS)  # become categories
    whole: pd.DataFrame = pd.read_parquet(file, columns=plain, read_dictionary=texts)
    # only Arrow's own type keeps NaN and null apart: float64 has one for both, pandas' Float64 makes NaN null
    frame = whole.join(pd.read_parquet(file, columns=nullable, dtype_backend="pyarrow"))
    in_time: pd.DataFrame = frame[list(COLUMNS)].sort_values("order", kind="stable", ignore_index=True)
    return in_time
