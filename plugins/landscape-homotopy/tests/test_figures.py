import pandas as pd

from landscape_homotopy.figures import draw_losses_against_index, draw_real_counts, figures
from landscape_homotopy.hooks import landscape_figures


class Recorded:
    """As much of a run as the figures read."""

    def __init__(self, kind, summary=None, points=None):
        self.kind, self.tables = kind, {"summary": summary, "real_points": points}


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
