"""Lightning 2 under `nandoctor record` and inside `with` blocks, in both of its packages."""

import pytest

import nandoctor
from tests import harness
from tests.frameworks import runs

pytest.importorskip("lightning")
pytest.importorskip("pytorch_lightning")


class Sick:
    """One recording of a program that fails, and its diagnosis."""

    def __init__(self, name, folder):
        self.program = runs.program(name, SICK=True)
        self.run = harness.run_recorded(self.program, folder / f"{name}.parquet")
        assert self.run.trace is not None, self.run.stderr
        self.found = harness.diagnose(self.run.trace)
        self.rows = runs.frame(self.run.trace)

    def place(self, *fields):
        return tuple(self.found["first_nonfinite"][field] for field in fields)

    def line(self):
        return self.program.splitlines()[self.found["first_nonfinite"]["line"] - 1].strip()

    def codes(self):
        return codes(self.run.trace)


def codes(trace):
    return " ".join(r.code or "" for finding in nandoctor.diagnose(trace).findings for r in finding.remedies)


@pytest.fixture(scope="module")
def automatic(tmp_path_factory):
    return Sick("lightning_automatic", tmp_path_factory.mktemp("automatic"))


@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    return Sick("lightning_manual", tmp_path_factory.mktemp("manual"))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """Both kinds of optimization, one in each package: (plain, recorded) runs."""
    folder = tmp_path_factory.mktemp("healthy")
    sources = {name: runs.program(name) for name in ("lightning_automatic", "lightning_manual")}
    return {
        name: (harness.run_plain(source), harness.run_recorded(source, folder / f"{name}.parquet"))
        for name, source in sources.items()
    }


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """One process with a `with` block, or a callback, for each of several fits."""
    folder = tmp_path_factory.mktemp("blocks")
    return folder, runs.execute("lightning_blocks", folder)


def test_the_cause_is_named_at_its_step_layer_and_line(automatic):
    assert automatic.found["verdict"] == "unsafe-op"
    assert automatic.place("step", "batch", "phase", "layer", "op") == (6, 13, "forward", "net.0", "log")
    assert automatic.line() == "return (self.weight * x).log()"


def test_accumulated_batches_belong_to_one_step(automatic):
    assert automatic.found["run"]["steps"] == 20
    assert (automatic.rows.kind == "backward").sum() == 40
    assert "gradient-accumulation-bug" not in [f["cause"] for f in automatic.found["findings"]]


def test_the_trainers_clipping_is_recognised(automatic):
    clips = automatic.rows[automatic.rows.kind == "clip"]
    assert len(clips) > 0 and set(clips.max_norm) == {0.5}


def test_validation_and_sanity_check_are_told_apart_from_training(automatic):
    drawn = automatic.rows[(automatic.rows.kind == "batch")]
    assert (drawn["mode"] == "train").sum() == 2 * 20 * 2  # two tensors, twenty batches, two epochs
    assert (drawn["mode"] == "eval").sum() == 2 * (2 + 2 * 2)  # the sanity check, and two batches an epoch
    inputs = automatic.rows[automatic.rows.kind == "input"]
    assert (inputs["mode"] == "eval").sum() == 6


def test_names_are_those_of_the_users_module(automatic, manual):
    assert runs.names(automatic.rows) >= {"net.0", "net.1", "net.3"}
    assert runs.names(manual.rows) >= {"generator.0", "generator.1", "critic.0", "critic.2"}


def test_code_lines_are_written_for_the_trainer(automatic):
    assert "return None  # in training_step" in automatic.codes()
    assert "self.parameters()" in automatic.codes()


def test_manual_optimization_of_two_optimizers_is_followed(manual):
    assert manual.found["verdict"] == "unsafe-op"
    assert manual.place("step", "batch", "phase", "layer", "op") == (19, 20, "backward", "generator.0", "sqrt")
    assert manual.line() == "length = z.pow(2).sum(1, keepdim=True).sqrt()"
    assert manual.found["run"]["steps"] == 80
    clips = manual.rows[manual.rows.kind == "clip"]
    assert set(clips.max_norm) == {1.0}


@pytest.mark.parametrize("name", ["lightning_automatic", "lightning_manual"])
def test_a_healthy_run_is_silent_and_stays_as_it_was(healthy, name):
    plain, recorded = healthy[name]
    assert recorded.compared() == plain.compared()
    found = harness.diagnose(recorded.trace)
    assert (found["verdict"], found["first_nonfinite"], found["exit"]) == ("healthy", None, 0)
    assert found["not_seen"] == []  # Lightning looks torch.compile up as it is imported: that is no compilation


def test_mixed_precision_is_recorded_as_it_is(blocks):
    rows = runs.frame(blocks[0] / "mixed.parquet")
    assert set(rows[(rows.kind == "activation") & (rows.layer == "net.0")].dtype) == {"bfloat16"}
    assert harness.diagnose(blocks[0] / "mixed.parquet")["verdict"] == "healthy"


def test_pure_half_precision_is_blamed_in_lightnings_words(blocks):
    found = harness.diagnose(blocks[0] / "half.parquet")
    assert found["verdict"] in ("fp16-underflow", "optimizer-epsilon")  # accepted equivalents of pure half with Adam
    assert "Trainer(..., precision=" in codes(blocks[0] / "half.parquet")


def test_clipping_by_value_is_recognised(blocks):
    rows = runs.frame(blocks[0] / "value.parquet")
    clips = rows[rows.kind == "clip"]
    assert set(clips.layer) == {"clip_grad_value_"} and clips.max_norm.iloc[0] == pytest.approx(0.01)


def test_a_nan_in_validation_is_no_nan_of_the_training(blocks):
    found = harness.diagnose(blocks[0] / "validation.parquet")
    first = found["first_nonfinite"]
    assert (first["mode"], first["phase"], first["row"]) == ("eval", "input", 5)
    assert found["verdict"] == "bad-input-data"


def test_the_callback_records_the_same_and_changes_nothing(blocks):
    assert blocks[1]["same"] and blocks[1]["callback"].endswith("callback.parquet")
    rows = runs.frame(blocks[0] / "callback.parquet")
    assert runs.names(rows) == {"net.0", "net.1", "net.2"}
    assert (rows.kind == "step").sum() == 24


def test_the_callback_ends_with_an_exception_of_fit(blocks):
    assert "no such label" in blocks[1]["said"]
    found = harness.diagnose(blocks[0] / "raised.parquet")
    assert found["run"]["exit_code"] == 1 and found["run"]["steps"] == 4
    crash = nandoctor.diagnose(blocks[0] / "raised.parquet").run.crash
    assert crash.type == "KeyError" and "lightning_blocks.py" in crash.file


def test_fabric_is_recorded_under_the_users_names(blocks):
    rows = runs.frame(blocks[0] / "fabric.parquet")
    assert runs.names(rows) == {"0", "1", "2"}
    assert set(rows[rows.kind == "clip"].max_norm) == {1.0}
    assert harness.diagnose(blocks[0] / "fabric.parquet")["verdict"] == "healthy"


def test_code_lines_of_manual_optimization_are_those_that_it_allows(manual):
    assert "gradient_clip_val=" not in manual.codes()
