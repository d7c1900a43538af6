"""The file is everybody's: pandas, pyarrow, DuckDB, and the examples of docs/trace-format.md."""

import math
import re
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from nandoctor.trace.columns import COLUMNS
from nandoctor.trace.frame import read_trace
from nandoctor.trace.schema import KINDS, NORM_ONLY
from tests.builders import Run, run

PAGE = (Path(__file__).parent.parent.parent / "docs" / "trace-format.md").read_text()


@pytest.fixture
def sick(tmp_path):
    """Loss 3 2 inf nan; fc1 is NaN at step 3; the gradients of fc1 have a norm only."""
    made = Run()
    for size in (1.0, 2.0, math.inf, math.nan):
        made.row("epoch", "loader", "loader")
        made.tensor("activation", "fc1", size, module="Linear", tensor="0.hidden")
        made.row("loss", "loss", "loss", value=size, dtype="float32")
        made.row("backward", value=size)
        made.tensor("parameter_gradient", "fc1.weight", 1.0, role="parameter", flags=NORM_ONLY)
        made.row("step", value=1.0)
    return made.file(tmp_path / "run.parquet")


def test_read_trace_gives_the_rows_in_order_of_time(sick):
    rows = read_trace(sick)
    assert list(rows.columns) == list(COLUMNS)
    assert rows["order"].tolist() == list(range(24))
    assert rows["kind"].tolist()[:6] == [
        "epoch",
        "activation",
        "loss",
        "backward",
        "parameter_gradient",
        "step",
    ]
    assert rows["epoch"].tolist()[-1] == 3
    assert rows[rows.kind == "activation"][["layer", "tensor", "module", "dtype", "shape", "count"]].iloc[
        0
    ].tolist() == [
        "fc1",
        "0.hidden",
        "Linear",
        "float32",
        "32x10",
        320,
    ]


def test_nan_is_a_value_and_null_is_none(sick):
    rows = read_trace(str(sick))
    low = rows[rows.kind == "activation"]["low"]
    assert low.isna().tolist() == [False] * 4 and math.isnan(low.iloc[3])
    assert rows[rows.kind == "parameter_gradient"]["low"].isna().all()  # not measured
    assert rows[rows.kind == "parameter_gradient"]["norm"].notna().all()
    assert rows[rows.kind == "loss"]["norm"].isna().all()  # a loss has no norm
    assert rows["nan_count"].isna().all()


def test_the_same_holds_in_arrow_and_duckdb(sick):
    table = pq.read_table(sick, columns=["kind", "low", "order"])
    assert table["low"].null_count == 24 - 4
    query = "SELECT count(*), count(low), count(*) FILTER (isnan(low)) "
    query += f"FROM '{sick}' WHERE kind = 'activation'"
    assert duckdb.sql(query).fetchall() == [(4, 4, 1)]
    assert duckdb.sql(f"SELECT kind, count(*) FROM '{sick}' GROUP BY kind ORDER BY kind").fetchall() == [
        (kind, 4) for kind in ("activation", "backward", "epoch", "loss", "parameter_gradient", "step")
    ]


def test_plain_pandas_sees_plain_columns(sick):
    rows = pd.read_parquet(sick)
    assert list(rows.columns) == list(COLUMNS)
    assert rows["nonfinite"].dtype == bool and rows["step"].dtype == "int32"
    assert rows[rows.kind == "loss"].sort_values("order")["value"].tolist()[:2] == [1.0, 2.0]


def test_the_columns_are_of_the_documented_types(sick):
    described = {row[0]: row[1] for row in duckdb.sql(f"DESCRIBE SELECT * FROM '{sick}'").fetchall()}
    names = {"text": "VARCHAR", "int64": "BIGINT", "int32": "INTEGER", "double": "DOUBLE", "bool": "BOOLEAN"}
    assert described == {name: names[kind] for name, (kind, _) in table("Columns").items()}


def test_every_column_and_every_kind_with_its_numbers_is_documented():
    assert list(table("Columns")) == list(COLUMNS)
    documented = {kind: tuple(numbers.split(", ")) for kind, (numbers, _) in table("Kinds").items()}
    assert documented == {kind: tuple(name for name in numbers if name) for kind, numbers in KINDS.items()}


def test_every_note_of_the_schema_is_documented():
    schema = (Path(__file__).parent.parent.parent / "nandoctor" / "trace" / "schema.py").read_text()
    listed = re.findall(r"^# ([a-z_]+) {2,}", schema.split("# --- notes")[1], re.MULTILINE)
    assert listed == list(table("Notes"))


@pytest.mark.parametrize("place", range(3))
def test_the_python_examples_of_the_page_run(tmp_path, monkeypatch, capsys, place):
    example(tmp_path, monkeypatch)
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(code) == 3
    exec(compile(code[place], "docs/trace-format.md", "exec"), {})
    said = capsys.readouterr().out
    assert ["fc1", "value", "2.13.0"][place] in said


def test_the_duckdb_example_of_the_page_runs(tmp_path, monkeypatch):
    example(tmp_path, monkeypatch)
    (query,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    assert duckdb.sql(query).fetchall()[0][:2] == (2, "fc1")


def example(tmp_path, monkeypatch):
    run(loss="3 2 inf", activations={"fc1": "1 2 inf"}, gradient_norm="1 2 3").file(tmp_path / "run.parquet")
    monkeypatch.chdir(tmp_path)


def table(section):
    """First column -> the others, of the table below a heading of the page."""
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): tuple(cells[1:]) for cells in lines}
