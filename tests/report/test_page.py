"""Pages: whole, safe, and needing nothing but themselves."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from attrs import evolve

from landscape.errors import RunError
from landscape.interfaces import Figure
from landscape.plugins import PluginWarning
from landscape.report import Page, Raw, Section, Table, render, sections_of, style, write, write_study
from landscape.report.content import _member_names, last_values, phrase
from landscape.report.numbers import number

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Reads a page, and checks that every tag is closed by its own."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words, self.ids = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def read(path):
    return Reader(path.read_text(encoding="utf-8"))


def figure(name="a-figure", order=50, title="A figure", caption="What it shows."):
    canvas, axes = style.figure()
    axes[0, 0].plot([0, 1], [0, 1])
    return Figure(name, title, caption, canvas, order=order)


def test_the_page_of_a_run_has_everything(make_run, rows, path_table):
    run = make_run(rows(), {"path_PCA": path_table, "summary": pd.DataFrame({"N_C": [33.0, np.nan]})})
    page = read(write(run))
    headings = re.findall(r"<h2>(.*?)</h2>", (run.path / "report.html").read_text())
    assert headings == [
        "Contents",
        "Results",
        "Figures",
        "Tables",
        "Warnings",
        "Configuration",
        "References",
        "Provenance",
    ]
    for words in (
        "Four workers on the digits",
        "EASGD(SGD) walked the loss landscape of MLP on Digits for 2000 steps, from seed 1.",
        "23 quantities were measured at 41 steps between 0 and 2000, on 4 workers and the centre.",
        "at step 2000",
        "eigenvalue 5 did not converge in 40 products. (step 300; workers 0 and 1)",
        "HessianSpectrum k=10, tolerance=1e-06 every=100",
        "0123456789abcdef",
        "Zhang, Choromanska, LeCun",
        "500 rows, of which 496 are left out here. All rows as CSV .",
        "33 –",
    ):
        assert words in page.text, words
    assert len(page.all("img")) == 5


def test_a_page_names_components_that_stand_in_lists_and_tables_of_others():
    members = [
        {"walker": {"component": "SGD", "lr": 0.1}, "count": 5},
        {"walker": {"component": "GD"}, "count": 1},
    ]
    walker = {"component": "EASGD", "base": {"component": "Group", "members": members}, "workers": 6}
    assert phrase(walker) == "EASGD(Group(SGD, GD))"


def test_the_page_needs_nothing_but_itself(make_run, rows):
    page = read(write(make_run(rows(("0",), every=1000, spectra=False))))
    names = {name for name, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for image in page.all("img"):
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
        assert len(image["alt"]) > 20
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert "url(" not in attributes.get("style", "")
    css = re.search(r"<style>(.*?)</style>", write(make_run()).read_text(), re.S)[1]
    assert "url(" not in css
    assert "@import" not in css
    assert "prefers-color-scheme: dark" in css
    assert "@media print" in css


def test_every_link_inside_the_page_leads_somewhere(make_run, rows):
    run = make_run(rows(("0",), every=1000, spectra=False), {"a b": pd.DataFrame({"x": range(30)})})
    page = read(write(run))
    assert len(page.ids) == len(set(page.ids))
    for link in page.all("a"):
        target = link["href"]
        if target.startswith("#"):
            assert target[1:] in page.ids
        elif not target.startswith("https://"):
            assert (run.path / target).is_file(), target


def test_figures_are_saved_as_png_and_svg_and_repeat_to_the_byte(make_run, rows):
    run = make_run(rows(("0",), every=1000, spectra=False))
    first = {path.name: path.read_bytes() for path in (write(run).parent / "figures").iterdir()}
    second = {path.name: path.read_bytes() for path in (write(run).parent / "figures").iterdir()}
    assert first == second
    assert first.keys() == {"training.png", "training.svg", "path.png", "path.svg"}


def test_words_of_strangers_are_only_words(make_run):
    evil = "<script>alert(1)</script>"
    configuration = {"experiment": {"name": evil, evil: [evil], "walker": {"component": evil, "x": evil}}}
    table = pd.DataFrame({evil: [evil]})
    provenance = {"references": [evil, 'x" onclick="y https://a.b/"onclick="z'], "command": [evil]}
    rows = [{"step": step, "worker": evil, "warnings": evil, "loss": 1.0 / (1 + step)} for step in range(2)]
    run = make_run(rows, {"summary": table}, configuration=configuration, provenance=provenance)
    page = read(write(run))
    assert not page.all("script")
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert evil in page.text


def test_addresses_become_links():
    text = (
        "See https://example.org/a/b?c=d&e, doi:10.1000/xyz.12; arXiv:2301.12651v2 and arXiv:math/0309136. "
        "Not arXiv: alone, nor http: alone."
    )
    page = Reader(render(Page("t", text, ())))
    assert [link["href"] for link in page.all("a")] == [
        "https://example.org/a/b?c=d&e",
        "https://doi.org/10.1000/xyz.12",
        "https://arxiv.org/abs/2301.12651v2",
        "https://arxiv.org/abs/math/0309136",
    ]


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        ("stopped", "the loss is small", "it was stopped early (the loss is small)."),
        ("failed", "ValueError: x", "it failed (ValueError: x)."),
        ("interrupted", None, "it was interrupted."),
    ],
)
def test_a_run_that_did_not_finish_says_so_first(make_run, status, reason, words):
    page = read(write(make_run(status=status, reason=reason)))
    assert f"This run is not complete: {words}" in page.text


def test_a_crashed_run_has_a_page(make_run):
    run = make_run()
    run.directory.reopen()  # and its process is gone, as soon as nobody holds the object
    page = read(write(run))
    assert "it ended in a crash" in page.text


def test_an_empty_run_has_a_page(make_run):
    page = read(write(make_run(configuration={}, provenance={}, kind="recorder")))
    assert "A run of kind recorder." in page.text


def test_a_figure_that_cannot_be_drawn_costs_only_itself(make_run, hooks, monkeypatch):
    bad, good = figure("bad"), figure("good")
    bad.figure.axes[0].set_title("$\\undefined$")
    monkeypatch.setattr(hooks, "figures_of_plugins", (bad, good))
    with pytest.warns(PluginWarning, match="The figure 'bad' could not be drawn: ValueError"):
        path = write(make_run())
    page = read(path)
    assert len(page.all("img")) == 1
    assert "The figure 'bad' could not be drawn" in page.text
    assert (path.parent / "figures" / "good.svg").is_file()
    assert not (path.parent / "figures" / "bad.svg").exists()


def test_figures_stand_in_their_order_and_are_numbered(make_run, hooks, monkeypatch):
    monkeypatch.setattr(
        hooks,
        "figures_of_plugins",
        (figure("c", 40, "Third"), figure("a", 5, "First"), figure("b", 20, "Second")),
    )
    page = read(write(make_run()))
    assert re.findall(r"Figure (\d)\. (\w+)\.", page.text) == [
        ("1", "First"),
        ("2", "Second"),
        ("3", "Third"),
    ]


def test_long_tables_show_their_beginning_and_their_end():
    frame = pd.DataFrame({"i": range(100)})
    page = Reader(render(Page("t", "", [Section("s", tables=[Table("T.", frame, rows=8)])])))
    assert "T. 100 rows, of which 92 are left out here. i 0 1 2 3 4 5 ⋮ 98 99" in page.text
    whole = Reader(render(Page("t", "", [Section("s", tables=[Table("T.", frame.head(8), rows=8)])])))
    assert "⋮" not in whole.text


def test_cells_say_what_they_hold():
    frame = pd.DataFrame(
        {
            "f": [0.5, np.nan, 1e-9],
            "count": [1.0, np.nan, 3.0],
            "i": pd.array([1, None, 12345], dtype="Int64"),
            "z": [1 + 2j, -1j, 0j],
            "o": [None, "text", True],
        }
    )
    page = Reader(render(Page("t", "", [Section("s", tables=[Table("T.", frame)])])))
    cells = re.findall(
        r"<td.*?>(.*?)</td>", render(Page("t", "", [Section("s", tables=[Table("T.", frame)])]))
    )
    thin = "\N{NARROW NO-BREAK SPACE}"
    assert cells == [
        *("0.5000", "1", "1", "1.000 + 2.000i", "–"),
        *("–", "–", "–", "0 − 1.000i", "text"),
        *("1.000×10⁻⁹", "3", f"12{thin}345", "0 + 0i", "yes"),
    ]
    right = [attributes.get("class") for attributes in page.all("th")]
    assert right == ["number", "number", "number", "number", None]


def test_sections_of_one_title_have_anchors_of_their_own():
    inner = Section("Same", sections=[Section("Same", raw=[Raw("raw", "<b>")])])
    page = Reader(render(Page("t", "", [inner, inner, Section("Ünïcödé !")])))
    assert len(page.ids) == len(set(page.ids)) == 5


def test_the_page_of_a_study_tells_its_stages_one_by_one(make_run, rows):
    stage = make_run(rows(("0",), every=1000, spectra=False))
    other = make_run(rows(("0",), every=1000, spectra=False))
    configuration = {
        "study": {
            "name": "Two of them",
            "text": "What both have in common.",
            "stages": [
                {"name": "one", "title": "The first", "text": "Why the first."},
                {"name": "two", "title": None, "text": ""},
            ],
        }
    }
    tables = {"stages": pd.DataFrame({"stage": ["one", "two"], "status": ["complete"] * 2})}
    run = make_run((), tables, "study", configuration, stages={"one": stage, "two": other})
    path = write(run)
    page = read(path)
    titles = re.findall(r"<h[23]>(.*?)</h[23]>", path.read_text())
    assert titles == [
        *("Contents", "Results", "The first", "Results", "Figures", "Configuration"),
        *("Four workers on the digits", "Results", "Figures", "Configuration"),
        *("References", "Provenance"),
    ]
    assert "What both have in common." in page.text
    assert "Why the first. EASGD(SGD) walked" in page.text
    # The stages' figures have the same names, and do not overwrite each other.
    names = sorted(image.name for image in (path.parent / "figures").glob("*.svg"))
    assert names[-2:] == ["training-2.svg", "training.svg"]
    assert len(page.all("img")) == len(names) == 4
    assert len(set(page.ids)) == len(page.ids)


def test_the_page_of_a_sweep_compares_its_members(make_run, rows):
    members = {
        f"member-{index:04d}": make_run(rows(("0", "centre"), every=1000, seed=index, spectra=False))
        for index in range(2)
    }
    table = pd.DataFrame(
        {
            "member": [*members, "member-0002"],
            "walker.lr": [0.1, 0.2, 0.3],
            "status": "complete",
            "run": "/a/b",
        }
    )
    configuration = {"sweep": {"base": {}, "vary": {"walker.lr": [0.1, 0.2, 0.3]}}}
    path = write(make_run((), {"members": table}, "sweep", configuration, stages=members))
    page = read(path)
    last = members["member-0001"].metrics.query("worker == 'centre'")["loss"].iloc[-1]
    assert "A sweep of walker.lr over 3 values." in page.text
    assert f"member-0001 0.2000 complete {number(last)}" in page.text
    assert "member-0002 0.3000 complete –" in page.text
    assert "/a/b" not in re.sub("<details>.*?</details>", "", path.read_text(), flags=re.S)
    assert [image["alt"].split(".")[0] for image in page.all("img")] == [
        "Loss and score",
        "Gradient, weights and distance",
    ]


def test_members_are_called_by_all_that_varies_and_say_why_they_stopped(make_run, rows):
    ends = [{"status": "stopped", "reason": "loss reached 1"}, {}]
    members = {
        f"member-{index:04d}": make_run(rows(("0",), every=1000, seed=index, spectra=False), **end)
        for index, end in enumerate(ends)
    }
    vary = {"start.experiment.seed": [3, 4], "seed": [5, 6]}
    table = pd.DataFrame({"member": list(members), **vary, "status": "complete"})
    run = make_run((), {"members": table}, "sweep", {"sweep": {"base": {}, "vary": vary}}, stages=members)
    assert _member_names(run, table) == {
        "0": "seed = 5, experiment seed = 3",
        "1": "seed = 6, experiment seed = 4",
    }
    page = read(write(run))
    assert "member-0000 3 5 complete loss reached 1" in page.text
    assert "member-0001 4 6 complete –" in page.text


def test_a_sweep_whose_members_are_not_there_has_a_page(make_run):
    configuration = {"sweep": {"base": {}, "vary": {"seed": [1]}}}
    assert "A sweep of seed over 1 value." in read(write(make_run((), {}, "sweep", configuration))).text


def test_pages_can_be_joined_by_hand(make_run, rows, tmp_path):
    run = make_run(rows(("0",), every=1000, spectra=False))
    section = Section("A stage", "Some\n\nwords.", figures=[figure()], sections=sections_of(run))
    path = write_study(tmp_path / "new" / "study.html", "A study", [section], lead="Lead.")
    page = read(path)
    assert path == tmp_path / "new" / "study.html"
    assert (tmp_path / "new" / "figures" / "a-figure.svg").is_file()
    assert "A study Lead. Contents A stage" in page.text
    assert page.text.count("Some words.") == 1


def test_a_page_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"Cannot write .*file"):
        write_study(tmp_path / "file" / "page.html", "t", [])
    assert evolve(Section("a"), text="b").text == "b"


def test_last_values_are_of_the_last_step_each_quantity_was_measured_at(make_run):
    rows = [
        {"step": 0, "worker": "0", "loss": 1.0, "trace": 5.0, "trace_error": 0.5, "count": 3},
        {"step": 1, "worker": "0", "loss": 0.5},
        {"step": 1, "worker": "centre", "loss": 0.25},
    ]
    page = read(write(make_run(rows)))
    assert "quantity step centre worker 0 Loss (training) 1 0.2500 0.5000" in page.text
    assert "Trace 0 – 5.00 ± 0.50" in page.text
    assert "Count 0 – 3" in page.text


def test_of_very_many_workers_the_extremes_and_the_median_are_shown(make_run):
    rows = [{"step": step, "worker": str(k), "loss": 2.0 + k - step} for step in (0, 1) for k in range(30)]
    rows.append({"step": 1, "worker": "centre", "loss": 0.125})
    page = read(write(make_run(rows)))
    assert "over 30 workers" in page.text
    assert (
        "quantity centre lowest median highest workers Loss (training) 0.1250 1.000 15.50 30.00 30"
        in page.text
    )


def test_what_never_changes_has_no_curves(make_run):
    rows = [{"step": step, "worker": str(k), "loss": float(k)} for step in (0, 1) for k in range(3)]
    assert "Loss and score" not in read(write(make_run(rows))).text
    rows.append({"step": 2, "worker": "0", "loss": 5.0})
    assert (
        "Loss and score" in read(write(make_run(rows))).text or "Figure 1" in read(write(make_run(rows))).text
    )


def test_the_table_of_last_values_leaves_out_costs_and_high_numbers_first():
    names = [f"hessian_eigenvalue_{i}" for i in range(1, 45)]
    names += ["hessian_products", "share_low", "share", "share_high", "gradient_noise_scale"]
    record = {"step": [0], "worker": ["0"]} | {name: [1.5] for name in names}
    shown = last_values(pd.DataFrame(record)).frame["quantity"].tolist()
    assert len(shown) == 40
    assert shown[-2:] == ["Share", "Gradient noise scale (examples)"]
    assert shown[37] == "Hessian eigenvalue λ₃₈"


def test_headings_are_the_symbols_of_the_latex_and_names_in_words():
    names = {
        "N_C_torus": "N<sub>ℂ*</sub>",
        "N_R_max": "max N<sub>ℝ</sub>",
        "covariance_along_hessian_1": "Gradient noise along the Hessian&#39;s eigenvector v₁",
        "standard_error": "standard error",
        "a<b": "a&lt;b",
    }
    table = Table("Numbers.", pd.DataFrame({name: [1] for name in names}))
    html = render(Page("A page", "", [Section("Results", tables=[table])]))
    assert re.findall('<th scope="col" class="number">(.*?)</th>', html) == list(names.values())
