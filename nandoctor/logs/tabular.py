"""training_history.csv, Lightning's metrics.csv, and other tables with a header: read by pandas."""

import math
import re

from nandoctor.logs.columns import role_of
from nandoctor.logs.errors import unreadable_log
from nandoctor.logs.table import Log, Record, from_records

NAME = re.compile(r"^$|^[^\W\d][\w ./@%()#-]{0,80}$(?<![ =]\d)")  # of a column; the first may have none (an index)
LIGHTNING = {"epoch", "step"}  # CSVLogger writes both, and one of them for each row


def read(text: str, path: str) -> Log:
    import io

    import pandas as pd

    try:
        frame = pd.read_csv(
            io.StringIO(text), sep=separator(text.partition("\n")[0]), on_bad_lines="skip", skipinitialspace=True,
            dtype=str, keep_default_na=False, encoding_errors="replace",
        )  # fmt: skip
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise unreadable_log(path, f"pandas cannot read it as a table: {str(error)[:120]}") from None
    wanted = [str(name) for name in frame.columns if role_of(str(name)) is not None]
    columns = {name: [number(cell) for cell in frame[name]] for name in wanted}
    records: list[Record] = []
    for place in range(len(frame)):
        cells = {name: columns[name][place] for name in wanted}
        records.append({name: value for name, value in cells.items() if value is not None})
    lightning = LIGHTNING <= set(wanted) and any(record.keys() < set(wanted) for record in records)
    return from_records(records, path, "Lightning's metrics.csv" if lightning else "a history in CSV")


def number(cell: object) -> float | None:
    """An empty cell is no number; "nan" is one."""
    text = str(cell).strip().strip("\"'").removeprefix("tensor(").rstrip(")")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) or text else None


def separator(header: str) -> str:
    return max(",;\t", key=header.count)


def is_table(text: str, suffix: str) -> bool:
    """A first line of names of which one is a loss, and a second one with as many cells."""
    lines = [line for line in text[:20_000].splitlines() if line.strip()][:2]
    if not lines:
        return False
    by = separator(lines[0])
    names = [name.strip().strip("\"'") for name in lines[0].split(by)]
    named = any(role_of(name) in ("train", "validation", "rival", "norm") for name in names)
    no_numbers = all(NAME.match(name) for name in names)
    alike = len(lines) == 1 or lines[1].count(by) == lines[0].count(by)
    return named and no_numbers and alike and (len(names) > 1 or suffix in (".csv", ".tsv"))
