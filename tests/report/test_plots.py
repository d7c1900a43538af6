"""The pictures: every trace gives one, nothing non-finite is dropped, the first bad step is at its place."""

import inspect
import io
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.image import imread

from nandoctor.cli import run as command_line
from nandoctor.report.plots import PLOTS, NothingToDraw, draw, render, style
from nandoctor.report.plots.curves import MOST_POINTS, thin
from nandoctor.report.plots.marks import MOST_MARKS
from nandoctor.report.plots.style import INF_COLOUR, NAN_COLOUR
from nandoctor.report.plots.wording import LONGEST_NAME, layer_name, plain
from tests.report.traces import run, subject, tensor_rows, trace_of, values

SICK = {"bad_at": 41, "clip": True, "scaler": True, "epochs": 3}
LINES = ("grad-norm", "loss", "weights", "updates")
MAPS = ("activations", "provenance")


@pytest.fixture
def coarse(monkeypatch):
    """Few pixels, for tests of what is drawn and not of how sharp: the same code runs in a tenth of the time."""
    monkeypatch.setitem(style.RC, "savefig.dpi", 30)


def found(figure, gid):
    """The artists that carry this name."""
    return figure.findobj(lambda artist: artist.get_gid() == gid)


def words(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def colours(figure):
    image = found(figure, "cells")[0].get_array()
    return {tuple(np.round(colour, 3)) for colour in np.asarray(image).reshape(-1, 4)}


def bad_rgba(colour):
    return tuple(np.round(to_rgba(colour), 3))


@pytest.mark.parametrize("what", PLOTS)
@pytest.mark.parametrize("sick", [{}, SICK], ids=["healthy", "sick"])
def test_every_picture_is_written_in_every_format(what, sick):
    figure = draw(what, run(steps=50, **sick))
    png, svg, pdf = (render(figure, name) for name in ("png", "svg", "pdf"))
    assert imread(io.BytesIO(png)).std() > 0.02  # not a blank page
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF")


@pytest.mark.parametrize("what", PLOTS)
def test_the_same_trace_gives_the_same_file(what, coarse):
    trace = run(steps=12, bad_at=9)
    first, second = draw(what, trace), draw(what, trace)
    for name in ("png", "svg", "pdf"):
        assert render(first, name) == render(second, name)


@pytest.mark.parametrize("what", PLOTS)
def test_the_caption_is_the_docstring(what):
    caption = found(draw(what, run()), "caption")[0].get_text()
    assert " ".join(caption.split()) == " ".join(inspect.getdoc(PLOTS[what]).split())
    assert " ".join(caption.split()) in " ".join(Path("docs/plots.md").read_text().split())


@pytest.mark.parametrize("what", PLOTS)
def test_the_first_bad_step_is_marked_where_it_is(what):
    figure = draw(what, run(**SICK))
    lines = found(figure, "first-bad")
    edge = 0.5 if what in MAPS else 0  # over cells the line runs along the left side of the step
    assert lines and all(line.get_xdata()[0] == 41 - edge for line in lines)
    assert any("first bad: step 41" in text for text in words(figure))
    assert "layer conv2, op log, train.py:57" in found(figure, "verdict")[0].get_text()


@pytest.mark.parametrize("what", PLOTS)
def test_a_healthy_run_has_no_such_mark(what):
    figure = draw(what, run())
    assert not found(figure, "first-bad") and not found(figure, "nan") and not found(figure, "inf")
    if what in MAPS:
        assert colours(figure).isdisjoint({bad_rgba(NAN_COLOUR), bad_rgba(INF_COLOUR)})


@pytest.mark.parametrize("what", LINES)
def test_nan_of_lines_stand_at_the_top_edge(what):
    figure = draw(what, run(**SICK))
    marks = np.concatenate([line.get_xdata() for line in found(figure, "nan")])
    assert marks.min() == 41 and marks.max() == 59
    assert "NaN" in words(figure)


@pytest.mark.parametrize("kind, colour", [("nan", NAN_COLOUR), ("inf", INF_COLOUR)])
@pytest.mark.parametrize("what", MAPS)
def test_bad_cells_have_the_colour_of_their_kind(what, kind, colour):
    assert bad_rgba(colour) in colours(draw(what, run(bad_at=41, kind=kind)))


def test_every_kind_of_bad_loss_has_its_own_mark():
    numbers = np.array([2.0, np.nan, np.inf, 1.0, -np.inf, 0.5])
    figure = draw("loss", trace_of({"loss": [values("loss", numbers)]}))
    places = {gid: found(figure, gid)[0].get_xdata().tolist() for gid in ("nan", "inf", "minus-inf")}
    assert places == {"nan": [1], "inf": [2], "minus-inf": [4]}
    assert {found(figure, gid)[0].get_markerfacecolor() for gid in ("inf", "minus-inf")} == {INF_COLOUR}
    assert found(figure, "nan")[0].get_markerfacecolor() == NAN_COLOUR


def test_a_value_between_two_bad_ones_is_seen():
    numbers = np.full(200, np.nan)
    numbers[100] = 1.0
    (line,) = found(draw("loss", trace_of({"loss": [values("loss", numbers)]})), "curve")
    assert line.get_marker() == "o" and list(line.get_markevery()) == [100]


def test_clipping_shows_the_norm_before_it_and_the_limit():
    figure = draw("grad-norm", run(**SICK))
    assert {"as the optimizer used it", "before clipping", "max_norm"} <= set(words(figure))
    assert len(found(figure, "curve")) == 3


def test_clipping_gradients_that_still_carry_the_scale_is_marked():
    clip = values("clip", np.full(9, 6e4), second=np.ones(9), flags=4)
    figure = draw("grad-norm", trace_of({"clip": [clip]}))
    assert found(figure, "clipped-while-scaled")[0].get_xdata().tolist() == list(range(9))
    assert "clipped while still scaled" in words(figure)


@pytest.mark.parametrize("what", ["grad-norm", "loss"])
def test_skipped_steps_are_marked(what):
    figure = draw(what, run(**SICK))
    assert found(figure, "skipped")[0].get_xdata().tolist() == [15, 27, 39, 51]
    assert "step skipped by the GradScaler" in words(figure)


@pytest.mark.parametrize("what", ["loss", "activations"])
def test_few_epochs_are_ticks_and_many_are_none(what):
    assert [round(line.get_xdata()[0]) for line in found(draw(what, run(epochs=3)), "epoch")] == [20, 40]
    assert not found(draw(what, run(epochs=60)), "epoch")


@pytest.mark.parametrize("what", PLOTS)
@pytest.mark.parametrize("layers, steps", [(1, 1), (3, 1), (300, 60)])
def test_any_number_of_layers_is_readable(what, layers, steps):
    bad = {"bad_at": 41, "born": 150} if layers == 300 else {}
    figure = draw(what, run(layers, steps=steps, **bad))
    render(figure, "png")
    assert figure.get_size_inches()[1] < 14
    for axes in figure.axes:
        labels = [label.get_window_extent() for label in axes.get_yticklabels() if label.get_text()]
        middles = sorted((box.y0 + box.y1) / 2 for box in labels)
        assert all(b - a >= 0.6 * labels[0].height for a, b in zip(middles, middles[1:], strict=False))
    if layers == 300 and what in (*MAPS, "weights", "updates"):
        names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert "blocks.150.attention.out_proj" in names and len(names) < 70


def test_thousands_of_layers_share_rows_and_the_bad_one_is_not_lost():
    figure = draw("activations", run(3000, steps=3, bad_at=2, born=2999))
    cells = np.asarray(found(figure, "cells")[0].get_array())
    assert cells.shape[0] <= 320 and figure.get_size_inches()[1] < 11
    assert (np.round(cells[-1, 2], 3) == np.round(to_rgba(NAN_COLOUR), 3)).all()


def test_a_million_steps_keep_their_extremes_and_their_only_nan():
    numbers = 1 + 0.1 * np.random.default_rng(0).random(1_000_000)
    numbers[300_000], numbers[600_000], numbers[700_001] = 50.0, -3.0, np.nan
    figure = draw("loss", trace_of({"loss": [values("loss", numbers)]}))
    (line,) = found(figure, "curve")
    heights = found(figure, "extremes")[0].get_paths()[0].vertices[:, 1]
    assert len(line.get_xdata()) <= MOST_POINTS
    assert heights.max() == 50 and heights.min() == -3
    assert found(figure, "nan")[0].get_xdata().tolist() == [700_001]
    assert found(figure, "first-bad")[0].get_xdata()[0] == 700_001


def test_thinning_leaves_a_gap_where_all_is_bad():
    x, y = np.arange(12_000.0), np.ones(12_000)
    y[6000:8000] = np.nan
    places, low, middle, high = thin(x, y)
    inside = (places > 6020) & (places < 7980)
    assert np.isnan(middle[inside]).all() and np.isfinite(middle[~inside & (places < 5900)]).all()
    assert (low[np.isfinite(low)] == 1).all() and (high[np.isfinite(high)] == 1).all()


def test_many_bad_marks_are_thinned_from_the_first():
    marks = found(draw("loss", trace_of({"loss": [values("loss", np.full(50_000, np.nan))]})), "nan")[0]
    assert len(marks.get_xdata()) <= MOST_MARKS and marks.get_xdata()[0] == 0


@pytest.mark.parametrize(
    "numbers, scale",
    [
        ([2.3, 2.0, 1.5], "linear"),
        ([2.3, 1e-3, 1e-6], "log"),
        ([-0.5, 0.3, 0.1], "linear"),
        ([-1.0, -2.0, -1e9], "symlog"),
        ([1e300, 1e300, 1e300], "log"),
        ([1.0, -1e300, 1e300, 3.0], "symlog"),
        ([1.7e308, -1.7e308], "symlog"),
        ([-1e300, -1e300], "symlog"),
        ([-1e101], "symlog"),
        ([-1.7e308], "symlog"),
        ([5e-324, 1e-300, 1.0], "log"),
        ([0.0, 0.0], "linear"),
        ([np.nan, np.nan], "linear"),
        ([-np.inf, np.inf], "linear"),
    ],
)
def test_the_axis_fits_the_range(numbers, scale):
    figure = draw("loss", trace_of({"loss": [values("loss", np.array(numbers))]}))
    with np.errstate(all="ignore"):
        assert imread(io.BytesIO(render(figure, "png"))).std() > 0.02
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    finite = np.array(numbers)[np.isfinite(numbers)]
    assert axes.get_yscale() == scale and np.isfinite([low, high]).all() and low < high
    assert ((finite >= low) & (finite <= high)).all()


def test_zero_on_a_log_axis_is_a_mark():
    figure = draw("loss", trace_of({"loss": [values("loss", np.array([1e4, 1.0, 0.0]))]}))
    assert found(figure, "zero")[0].get_xdata().tolist() == [2]


@pytest.mark.parametrize("what", PLOTS)
def test_an_empty_trace_says_what_it_lacks(what):
    with pytest.raises(NothingToDraw, match="It holds no"):
        draw(what, trace_of({}))


HOSTILE = [
    "$x^2$",
    "$\\frac{",
    "\x1b[31mred\n\t\0",
    "a" * 5000,
    "_hidden",
    "日本語.层",
    "\u202eevil",
    "\udcff",
    "<b>&amp;-->",
]


@pytest.mark.parametrize("what", PLOTS)
def test_hostile_names_are_drawn_as_they_are(what, coarse):
    for layers in (HOSTILE, HOSTILE[:5]):
        figure = draw(what, run(layers, steps=12, bad_at=9, born=2))
        for name in ("png", "svg", "pdf"):
            assert render(figure, name)
        for text in words(figure):
            assert text.replace("\n", "").isprintable() and "a" * 200 not in text
    if what == "activations":
        names = [label.get_text() for label in draw(what, run(HOSTILE)).axes[0].get_yticklabels()]
        assert names[0] == "$x^2$ · Conv2d" and names[2].startswith("\\x1b[31mred\\n\\t\\x00")


def test_a_hostile_incident_is_drawn(coarse):
    place = {"file": "$a$\x1b]0;x\x07.py", "line": 10**30, "text": "\n" * 9}
    for step in (-5, 2**52, "soon", None, float("nan")):
        note = {
            "note": "incident",
            "step": step,
            "phase": "backward",
            "layer": "\0$",
            "op": ["x"],
            "place": place,
        }
        healthy = run(steps=12)
        trace = trace_of({}, [*healthy.notes, note])
        trace = type(trace)(trace.path, trace.notes, healthy.load)
        for what in PLOTS:
            assert render(draw(what, trace), "png")


def test_names_lose_their_middle():
    assert layer_name("encoder." + "x" * 60 + ".out_proj").startswith("encoder.x")
    assert layer_name("encoder." + "x" * 60 + ".out_proj").endswith("x.out_proj")
    assert len(layer_name("x" * 90)) == LONGEST_NAME
    assert layer_name("") == "(root)"
    assert plain("a\x07b") == "a\\x07b"


@pytest.mark.parametrize(
    "phase, layer, panel, row",
    [
        ("forward", "conv2", 0, "conv2"),
        ("loss", None, 0, "(loss)"),
        ("input", None, 0, "(input)"),
        ("backward", "fc", 1, "fc"),
        ("backward", None, 1, "(loss)"),
        ("optimizer", "conv1", 3, "conv1"),
        ("forward", "", 0, "(root)"),  # a function called by the root module has no row of its own
    ],
)
def test_the_birthplace_is_framed(phase, layer, panel, row):
    note = {"note": "incident", "step": 41, "phase": phase, "layer": layer, "op": "sqrt"}
    note["place"] = {"file": "train.py", "line": 9, "text": "y = x.sqrt()"}
    healthy = run(bad_at=41, incident=False)
    figure = draw("provenance", type(healthy)(healthy.path, (*healthy.notes, note), healthy.load))
    (frame,) = found(figure, "birth")
    names = {int(place): label.get_text().split(" · ")[0] for place, label in
             zip(figure.axes[0].get_yticks(), figure.axes[0].get_yticklabels(), strict=True)}  # fmt: skip
    assert frame.axes is figure.axes[panel]
    assert frame.get_x() == 40.5 and names[round(frame.get_y() + 0.5)] == row
    assert "op sqrt\ntrain.py:9" in found(figure, "birth-label")[0].get_text()


def with_incident(trace, **fields):
    note = {"note": "incident", "alarm": "loss", "step": 41, "phase": "forward", "mode": "train", **fields}
    return type(trace)(trace.path, (*trace.notes, note), trace.load)


@pytest.mark.parametrize("layers, born", [(3, 1), (3000, 1500)])
def test_activations_frame_the_birth_and_not_a_value_above_it_that_was_squashed(layers, born):
    trace = run(layers, bad_at=41, born=born - 1, incident=False, steps=44)  # bad one layer above it, too
    name = f"blocks.{born}.attention.out_proj"
    figure = draw("activations", with_incident(trace, layer=name))
    (frame,) = found(figure, "birth")
    axes = figure.axes[0]
    rows = {label.get_text().split(" ")[0]: place for place, label in
            zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}  # fmt: skip
    assert frame.get_x() == 40.5 and frame.get_y() + frame.get_height() / 2 == rows[name]
    pixels = frame.get_height() / len(found(figure, "cells")[0].get_array()) * 150
    assert pixels * (figure.get_size_inches()[1] - 3) > 10  # it can be seen among thousands


@pytest.mark.parametrize("fields", [{"phase": "backward", "layer": "conv2"}, {"layer": None}, {"layer": "other"}])
def test_activations_frame_nothing_that_no_layers_output_bore(fields):
    figure = draw("activations", with_incident(run(bad_at=41, incident=False), **fields))
    assert not found(figure, "birth") and found(figure, "first-bad")
    assert not found(draw("activations", run(bad_at=41, incident=False)), "birth")  # no incident at all


def test_an_unknown_birthplace_is_not_framed():
    healthy = run(bad_at=41, incident=False)
    note = {"note": "incident", "step": 41, "phase": "weights", "layer": None}
    figure = draw("provenance", type(healthy)(healthy.path, (*healthy.notes, note), healthy.load))
    assert not found(figure, "birth") and found(figure, "first-bad")


def test_groups_with_the_same_rate_share_a_line():
    rates = [values("learning_rate", np.linspace(0.1, 0.2, 9) * (1 + (n == 7)), n) for n in range(8)]
    notes = [subject(n, f"0.{n}", "optimizer") for n in range(8)]
    figure = draw("lr", trace_of({"learning_rate": rates}, notes))
    assert {"optimizer 0, group 0 and 6 more", "optimizer 0, group 7"} <= set(words(figure))


def test_several_losses_within_a_step_are_spread_over_it():
    losses = values("loss", np.arange(8.0), steps=np.repeat([0, 1], 4))
    (line,) = found(draw("loss", trace_of({"loss": [losses]})), "curve")
    assert line.get_xdata().tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]


def test_the_losses_of_optimizers_that_take_turns_are_lines_of_their_own():
    turns = [values("gradient_norm", np.ones(4), n, steps=np.arange(n, 8, 2)) for n in range(2)]
    notes = [
        *(subject(n, str(n), "optimizer") for n in range(2)),
        {"note": "optimizer", "id": 1, "name": "Adam"},
    ]
    trace = trace_of({"loss": [values("loss", np.arange(8.0), 9)], "gradient_norm": turns}, notes)
    lines = found(draw("loss", trace), "curve")
    assert [line.get_xdata().tolist() for line in lines] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert "before a step of Adam 1" in words(draw("loss", trace))


def test_all_lines_share_the_steps_of_the_run():
    rates = values("learning_rate", np.full(5, 0.1))
    figure = draw("lr", trace_of({"learning_rate": [rates], "step": [values("step", np.ones(30))]}))
    assert figure.axes[0].get_xlim()[1] >= 29


def test_weights_that_were_measured_twice_in_a_step_count_once():
    twice = tensor_rows("weight", np.array([[3.0, 5.0]]), 0, np.array([0, 0]))
    figure = draw("weights", trace_of({"weight": [twice]}, [subject(0, "fc.weight", "parameter")]))
    assert found(figure, "curve")[0].get_ydata().tolist() == [5.0]


def test_an_update_is_compared_with_the_weights_before_it():
    trace = run(["fc"], steps=8, bad_at=7, born=0)
    weight = trace.rows("weight")["norm"]
    ratio = found(draw("updates", trace), "curve")[0].get_ydata()
    assert np.allclose(ratio[1:7], trace.rows("update")["norm"][1:7] / weight[:6])


def nandoctor(*arguments, **environment):
    command = [sys.executable, "-m", "nandoctor", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=environment.pop("cwd", None),
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A real run whose loss becomes NaN at step 3."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "train.py").write_text(
        "import torch\n"
        "torch.manual_seed(0)\n"
        "net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))\n"
        "optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "for step in range(5):\n"
        "    optimizer.zero_grad()\n"
        "    loss = net(torch.randn(16, 4)).square().mean()\n"
        "    if step == 3:\n"
        "        loss = loss + torch.log(loss - loss - 1)\n"
        "    loss.backward()\n"
        "    optimizer.step()\n"
    )
    done = nandoctor("record", "--", sys.executable, "train.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def plot(capfd, monkeypatch):
    """The command line in this process: what it prints is what a process of its own would print."""
    monkeypatch.setenv("MPLBACKEND", "agg")

    def call(*arguments, cwd=None):
        if cwd is not None:
            monkeypatch.chdir(cwd)
        capfd.readouterr()
        code = command_line(["plot", *map(str, arguments)])
        return (code, *capfd.readouterr())

    return call


@pytest.mark.parametrize("what", PLOTS)
def test_the_command_draws_the_newest_trace_and_prints_only_the_path(recorded, plot, what):
    assert plot(what, cwd=recorded) == (0, f"{what}.png\n", "")
    assert imread(recorded / f"{what}.png").std() > 0.02


def test_the_ending_chooses_the_format(recorded, plot, tmp_path):
    for ending, begin in ((".PNG", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        target = tmp_path / f"a{ending}"
        for _ in range(2):  # a picture of ours may be replaced
            assert plot("loss", recorded / "run.parquet", "-o", target) == (0, f"{target}\n", "")
        assert target.read_bytes().startswith(begin)


def test_the_command_needs_neither_home_nor_screen(recorded, tmp_path):
    settings = {"HOME": "/proc/none", "XDG_CONFIG_HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none",
                "MPLCONFIGDIR": "/proc/none", "MPLBACKEND": "nonsense", "DISPLAY": ""}  # fmt: skip
    done = nandoctor("plot", "loss", recorded / "run.parquet", "-o", tmp_path / "a.png", **settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / 'a.png'}\n", "")


def test_mistakes_are_told_in_words(recorded, plot, tmp_path):
    foreign = tmp_path / "mine.png"
    foreign.write_bytes(b"a picture of my own")
    trace = recorded / "run.parquet"
    for arguments, told in (
        (("los", trace), "NO SUCH PICTURE"),
        (("loss", trace, "-o", tmp_path / "a.jpg"), "UNKNOWN PICTURE FORMAT"),
        (("loss", trace, "-o", tmp_path / "a"), "UNKNOWN PICTURE FORMAT"),
        (("loss", trace, "-o", tmp_path / "none" / "a.png"), "CANNOT WRITE THE PICTURE"),
        (("loss", trace, "-o", foreign), "WILL NOT OVERWRITE"),
        (("loss", tmp_path / "none.parquet"), "NO TRACE THERE"),
    ):
        code, out, error = plot(*arguments)
        assert code == 2 and error.startswith(f"-- {told} -") and "Traceback" not in error
        assert out == ""
    assert foreign.read_bytes() == b"a picture of my own"
    assert nandoctor("plot", "los", trace).returncode == 2  # and the exit code reaches the shell


def test_an_empty_folder_is_told_in_the_same_words_by_plot_and_diagnose(plot, tmp_path, capfd):
    code, _, error = plot("loss", cwd=tmp_path)
    assert command_line(["diagnose"]) == code == 2
    assert capfd.readouterr().err == error and str(tmp_path) in " ".join(error.split())


def test_the_help_names_every_picture():
    from nandoctor.cli.plot import WHAT_HELP

    assert set(WHAT_HELP.replace(" or ", ", ").split(", ")) == set(PLOTS)
