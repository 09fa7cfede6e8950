import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from landscape_homotopy.figures import (
    draw_bounds,
    draw_histograms,
    draw_index_shares,
    draw_losses_against_index,
    draw_real_counts,
    draw_zero_patterns,
    figures,
)
from landscape_homotopy.hooks import landscape_figures


class Recorded:
    """As much of a run as the figures read."""

    def __init__(self, kind, summary=None, points=None, stages=None, **tables):
        self.kind, self.tables = kind, {"summary": summary, "real_points": points} | tables
        self.stages = stages or {}


SUMMARY = pd.DataFrame({"sample": range(4), "N_C": [33] * 4, "N_R": [1, 5, 5, 9], "lost": [0, 0, 0, 2]})
POINTS = pd.DataFrame({"sample": [0, 1, 1], "loss": [1.0, 0.5, 2.0], "index": [2, 0, 2]})


def test_the_bars_are_the_counts():
    axes = draw_real_counts(SUMMARY).axes[0]
    assert {bar.get_x() + bar.get_width() / 2: bar.get_height() for bar in axes.patches} == {1: 1, 5: 2, 9: 1}
    assert axes.get_xlabel()
    assert axes.get_ylabel()


def test_every_point_is_drawn_near_its_index_at_its_loss():
    axes = draw_losses_against_index(POINTS).axes[0]
    x, y = axes.lines[0].get_data()
    assert x.round().tolist() == [2, 0, 2]
    assert y.tolist() == [1.0, 0.5, 2.0]
    assert {text.get_text() for text in axes.texts} >= {"1", "2"}


def test_captions_say_what_is_missing():
    first, second = figures(Recorded("critical-points", SUMMARY, POINTS))
    assert "In 1 of them solutions are missing" in first.caption
    assert "All 3 real critical points of 4 samples" in second.caption
    assert (first.order, second.order) == (40, 41)


def test_studies_without_losses_have_only_the_histogram():
    no_loss = POINTS.assign(loss=float("nan"), index=float("nan"))
    assert len(figures(Recorded("critical-points", SUMMARY, no_loss))) == 1
    assert len(figures(Recorded("critical-points", SUMMARY, pd.DataFrame()))) == 1


def test_runs_of_other_kinds_get_no_figures():
    assert landscape_figures(Recorded("experiment")) == []


def test_captions_claim_what_is_known():
    known = SUMMARY.assign(N_R=[1, 5, 5, 9], lost=0, certified=33, completeness="heuristic")
    (first,) = figures(Recorded("critical-points", known, pd.DataFrame()))
    assert "samples: ≥ 33." in first.caption
    assert "All counts are odd" in first.caption
    (first,) = figures(Recorded("critical-points", known.assign(completeness="proved"), pd.DataFrame()))
    assert "samples: 33." in first.caption
    (first,) = figures(Recorded("critical-points", known.assign(certified=np.nan), pd.DataFrame()))
    assert "samples: 33 found." in first.caption
    (first,) = figures(Recorded("critical-points", known.assign(N_C=[33, 31, 33, 33]), pd.DataFrame()))
    assert "samples: 31 to 33 found." in first.caption


PATTERNS = pd.DataFrame(
    {
        "pattern": ["W1 **/** W2 */*", "W1 0*/00 W2 0/*"],
        "solutions": [16, 8],
        "solutions_min": [16, 8],
        "real_mean": [0.25, 2.0],
    }
)


def test_patterns_are_drawn_weight_by_weight_with_their_counts():
    axes = draw_zero_patterns(PATTERNS).axes[0]
    filled = [to_hex(patch.get_facecolor()) == "#0072b2" for patch in axes.patches]
    assert filled == [True] * 6 + [False, True, False, False] + [False, True]
    words = {text.get_text() for text in axes.texts}
    assert words >= {"W1", "W2", "16", "8", "0.25", "2"}
    named = figures(Recorded("critical-points", SUMMARY, pd.DataFrame(), zero_patterns=PATTERNS))
    assert named[-1].name == "zero-patterns"


@pytest.mark.parametrize("pattern", ["*0*", "", "W1"])
def test_patterns_of_other_families_are_drawn_too(pattern):
    rows = pd.DataFrame({"pattern": [pattern], "solutions": [1], "real_mean": [0.0]})
    draw_zero_patterns(rows).draw_without_rendering()


NETWORKS = pd.DataFrame(
    {
        "member": ["member-0000", "member-0001"],
        "H": [1, 2],
        "d": ["2", "2, 3"],
        "dx": [2, 1],
        "dy": [2, 1],
        "m": [1, 1],
        "CBB": [6561.0, 27.0],
        "BKK_stable": [1089.0, np.nan],
        "N_C": [33, 5],
        "N_R_max": [5, 3],
        "certified": [33.0, 5.0],
        "completeness": ["heuristic", "proved"],
    }
)
REAL_COUNTS = {
    "member-0000": pd.DataFrame({"N_R": [1, 5], "samples": [1, 3], "share": [0.25, 0.75]}),
    "member-0001": pd.DataFrame({"N_R": [3], "samples": [4], "share": [1.0]}),
}
INDICES = {
    "member-0000": pd.DataFrame({"index": [0, 1], "points": [6, 2], "share": [0.75, 0.25]}),
    "member-0001": pd.DataFrame({"index": [0, 2], "points": [6, 6], "share": [0.5, 0.5]}),
}


def test_bounds_and_counts_stand_at_their_networks():
    axes = draw_bounds(NETWORKS).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2–2–2", "1–2–3–1"]
    drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert drawn["CBB"] == [6561.0, 27.0]
    offsets = {points.get_label(): points.get_offsets()[:, 1].tolist() for points in axes.collections}
    assert [33, 5] in offsets.values()
    assert [5, 3] in offsets.values()
    assert axes.get_yscale() == "log"


def test_histograms_and_shares_are_those_of_the_tables():
    panels = draw_histograms(NETWORKS, REAL_COUNTS).axes
    assert [bar.get_height() for bar in panels[0].patches] == [0.25, 0.75]
    assert panels[1].get_title(loc="left") == "1–2–3–1"
    bars = draw_index_shares(NETWORKS, INDICES).axes[0].patches
    # Index by index: heights of both networks.
    assert [bar.get_height() for bar in bars] == [0.75, 0.5, 0.25, 0.0, 0.0, 0.5]
    assert bars[5].get_y() == 0.5


def test_a_sweep_of_studies_gets_the_figures_that_join_them():
    members = {
        name: Recorded("critical-points", real_counts=REAL_COUNTS[name], hessian_indices=INDICES[name])
        for name in REAL_COUNTS
    }
    drawn = figures(Recorded("sweep", NETWORKS, stages=members))
    assert [figure.name for figure in drawn] == ["bounds-and-counts", "real-counts", "index-shares"]
    for figure in drawn:
        figure.figure.draw_without_rendering()
    assert figures(Recorded("sweep", pd.DataFrame({"member": []}))) == []
    without = {name: Recorded("critical-points") for name in REAL_COUNTS}
    many = pd.concat([NETWORKS] * 21, ignore_index=True)
    (only,) = figures(Recorded("sweep", many, stages=without))
    assert "The first 40 of 42 networks are drawn" in only.caption


def test_networks_without_widths_go_by_their_names():
    axes = draw_bounds(NETWORKS.drop(columns=["d"])).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["member-0000", "member-0001"]
    several = NETWORKS.assign(m=[1, 2], convolution=["width 2, stride 1", np.nan])
    axes = draw_bounds(several).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2–2–2 conv., m = 1", "1–2–3–1, m = 2"]
