"""What stands on the page of a run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from attrs import evolve

from landscape.plugins import RunHooks
from landscape.report import columns, counts, curves, numbers, style
from landscape.report.page import ROWS, Page, Raw, Section, Table, drawable, is_whole
from landscape.store.directory import file_name

__all__ = ["page_of", "sections_of"]

#: Tables that say what came out, shown first; the others are listed behind the figures.
_RESULTS = ("network", "summary", "members", "stages")
#: Rows of the table of last values; the rest is in the metrics.
_QUANTITIES = 40
#: Workers that have a column each in the table of last values; of more, the extremes and the median are shown.
_WORKERS = 12
#: Rows shown of a table of coordinates.
_COORDINATES = 4
#: Letters of a member's name in a legend.
_NAME = 60
#: Members of a sweep that a legend names one by one.
_NAMED = 12
#: Networks whose numbers of critical points a page lists: all with up to three units, inputs and outputs.
_NETWORKS = 40
#: Failed checks that a page lists.
_FAILED = 24
#: Column of why members ended before their last step; empty for those that did not.
_ENDED = "stopped early as"
#: Quantities of a sweep's member that stand beside what was varied.
_OUTCOMES = 8


def page_of(run: Any) -> Page:
    """Return the page of a run."""
    state = run.directory.state
    facts = {"Run": run.path.name, "Kind": run.kind.replace("-", " "), "Status": state["status"]}
    facts["Started"] = state["started"].replace("T", " ").replace("Z", " UTC")
    took = numbers.duration(state["started"], state["ended"])
    if took is not None:
        facts["Took"] = took
    if len(state["attempts"]) > 1:
        facts["Resumed"] = f"{len(state['attempts']) - 1} times" if len(state["attempts"]) > 2 else "once"
    notice = ""
    if state["status"] not in ("complete", "running"):
        reason = f" ({state['reason']})" if state["reason"] else ""
        notice = f"This run is not complete: it {_ENDS[state['status']]}{reason}."
    return Page(run.directory.name or _title(run), lead(run), sections_of(run), facts, notice)


_ENDS = {
    "stopped": "was stopped early",
    "failed": "failed",
    "interrupted": "was interrupted",
    "crashed": "ended in a crash",
}


def sections_of(run: Any) -> list[Section]:
    """Return the sections of a run's page: results, figures, tables, and how it was made."""
    if run.kind == "study":
        return _sections_of_study(run)
    return [*_findings(run), *_making(run)]


def _sections_of_study(run: Any) -> list[Section]:
    recipe = _recipe(run.configuration)
    told = {stage.get("name"): stage for stage in recipe.get("stages", ()) if isinstance(stage, Mapping)}
    sections = _findings(run)
    for name, stage in run.stages.items():
        words = told.get(name, {})
        text = "\n\n".join(filter(None, [words.get("text"), lead(stage)]))
        title = words.get("title") or stage.directory.name or name
        sections.append(Section(title, text, sections=[*_findings(stage), _settings(stage)]))
    return [*sections, *_making(run)]


def _findings(run: Any) -> list[Section]:
    metrics, tables = run.metrics, dict(run.tables)
    sections = []
    drawn = [] if _stands_still(metrics) else list(curves.figures(metrics, noises=_noises(run)))
    if run.kind == "sweep":
        joined, members = _members(run, tables.get("members"))
        drawn += curves.figures(
            joined, noun="member", called=_member_names(run, members), noises=_noises(run)
        )
        tables["members"] = members
    failed = tables.pop("failed_checks", None)
    if failed is not None:
        sections.append(_failed_checks(failed))
    results = [_table(name, tables[name]) for name in _RESULTS if name in tables]
    if len(metrics):
        results.insert(0, last_values(metrics))
    if results:
        sections.append(Section("Results", tables=results))
    figures, problems = drawable([*drawn, *RunHooks(run).figures()])
    if figures or problems:
        sections.append(Section("Figures", figures=figures, items=problems))
    further = [
        # Coordinates of snapshots are drawn above, and read by programs rather than by people.
        evolve(_table(name, frame), rows=_COORDINATES) if name.startswith("path_") else _table(name, frame)
        for name, frame in tables.items()
        if name not in _RESULTS
    ]
    if further:
        sections.append(Section("Tables", tables=further))
    noted = _warnings(metrics)
    if noted:
        sections.append(
            Section("Warnings", "What the probes said about their own numbers while measuring.", items=noted)
        )
    return sections


def _noises(run: Any) -> dict[str, str]:
    """Return which covariances of gradients the probes of a run took: one report can have several."""
    probes = {"eigenvalues_of": "GradientCovariance", "along": "CovarianceHessianAlignment"}
    return {key: columns.noises_of(run.configuration, probe) for key, probe in probes.items()}


def _making(run: Any) -> list[Section]:
    provenance = dict(run.provenance)
    references = provenance.pop("references", [])
    obstacles = provenance.pop("obstacles", [])
    # The stages of a study say for themselves how each of them was made.
    sections = [] if run.kind == "study" else [_settings(run)]
    if references:
        sections.append(Section("References", "The papers to cite for what was used.", items=references))
    text = f"This run cannot be replicated from its own files: {' '.join(obstacles)}" if obstacles else ""
    sections.append(
        Section(
            "Provenance",
            text,
            settings=_ordered(provenance, _MACHINE),
            raw=[Raw.json("provenance.json", run.provenance)]
            + ([Raw.json("config.json", run.configuration)] if run.kind == "study" else []),
        )
    )
    return sections


def _settings(run: Any) -> Section:
    recipe = {key: value for key, value in _recipe(run.configuration).items() if key not in ("name", "text")}
    raw = [Raw.json("config.json", run.configuration)]
    return Section("Configuration", settings=_ordered(recipe, _RECIPE), raw=raw)


# ---------------------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------------------


def _recipe(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of the recipe; it stands alone in a configuration, under the key of its kind."""
    if len(configuration) == 1:
        (only,) = configuration.values()
        if isinstance(only, Mapping):
            return only
    return configuration


def _title(run: Any) -> str:
    recipe = _recipe(run.configuration)
    walker, dataset, model = (_component(recipe.get(key)) for key in ("walker", "dataset", "model"))
    if walker and dataset:
        return f"{walker} on {dataset}"
    if run.kind == "critical-points":
        return f"Critical points of {model or _component(recipe.get('family')) or 'a polynomial family'}"
    return f"{run.kind.replace('-', ' ').capitalize()} {run.path.name}"


def _component(value: Any) -> str:
    """Return the name of a component in a configuration, or an empty string."""
    return (
        str(value["component"]).rpartition(":")[2]
        if isinstance(value, Mapping) and "component" in value
        else ""
    )


def _components_in(values: Iterable[Any]) -> Iterator[Any]:
    """Yield the nearest components in values of a configuration, through its lists and tables."""
    for value in values:
        if _component(value):
            yield value
        elif isinstance(value, Mapping):
            yield from _components_in(value.values())
        elif isinstance(value, list | tuple):
            yield from _components_in(value)


def phrase(value: Any) -> str:
    """Return a component of a configuration with the components inside it, such as ``"EASGD(SGD)"``."""
    if not isinstance(value, Mapping):
        return str(value)
    inner = [phrase(item) for item in _components_in(value.values())]
    return _component(value) + (f"({', '.join(inner)})" if inner else "")


def lead(run: Any) -> str:
    """Return one paragraph that says what was run."""
    recipe = _recipe(run.configuration)
    if recipe.get("text"):
        return str(recipe["text"])
    metrics = run.metrics
    sentences = []
    if run.kind == "experiment" and _component(recipe.get("walker")):
        sentences.append(
            f"{phrase(recipe['walker'])} walked the loss landscape of {phrase(recipe.get('model'))} on "
            f"{phrase(recipe.get('dataset'))}"
            + (f" for {numbers.number(recipe['steps'])} steps" if "steps" in recipe else "")
            + (f", from seed {recipe['seed']}" if "seed" in recipe else "")
            + "."
        )
    elif run.kind == "critical-points":
        family = next((recipe[key] for key in ("model", "family") if key in recipe), None)
        sentences.append(
            f"{phrase(recipe.get('solver'))} looked for every critical point of {phrase(family)}"
            + (f" on {numbers.number(recipe['samples'])} samples of the data" if "samples" in recipe else "")
            + (f", from seed {recipe['seed']}" if "seed" in recipe else "")
            + "."
        )
    elif run.kind == "sweep" and isinstance(recipe.get("vary"), Mapping):
        varied = " and ".join(
            f"{path} over {len(values)} value{'s' if len(values) > 1 else ''}"
            for path, values in recipe["vary"].items()
        )
        sentences.append(f"A sweep of {varied}.")
    elif run.kind == "study":
        sentences.append(f"A study of {len(run.stages)} stages.")
    else:
        sentences.append(f"A run of kind {run.kind.replace('-', ' ')}.")
    if len(metrics):
        workers = sorted(metrics["worker"].unique(), key=style.order_of)
        numbered = [worker for worker in workers if worker.isdecimal()]
        others = [worker for worker in workers if not worker.isdecimal()]
        who = [f"{len(numbered)} worker{'s' if len(numbered) != 1 else ''}"] if numbered else []
        who += [f"the {worker}" for worker in others]
        steps = metrics["step"]
        quantities = len(curves.quantities(metrics))
        sentences.append(
            f"{quantities} quantities were measured at {steps.nunique()} steps between {steps.min()} and "
            f"{steps.max()}, on {' and '.join(who)}."
        )
    return " ".join(sentences)


# ---------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------


def _table(name: str, frame: pd.DataFrame) -> Table:
    if not isinstance(frame.index, pd.RangeIndex) or frame.index.name is not None:
        frame = frame.reset_index()
    title = name.replace("_", " ")
    return Table(
        f"{title[:1].upper()}{title[1:]}.",
        counts.printed(frame),
        counts.footnote(frame),
        file=f"tables/{file_name(name)}.csv",
        right=("N_C", "N_C_torus", "N_R"),
        # One row per network is what the page is about.
        rows=_NETWORKS if "N_R_max" in frame else ROWS,
    )


def _stands_still(metrics: pd.DataFrame) -> bool:
    """Whether nothing that was measured ever changed for any worker: curves would be flat lines."""
    names = curves.quantities(metrics)
    if not names or metrics["step"].nunique() < 2:
        return False
    return bool((metrics.groupby("worker")[names].nunique() <= 1).all(axis=None))


def _over_workers(metrics: pd.DataFrame) -> Table:
    """Return the smallest, the median and the largest of the last values of many workers, and those of the others."""
    last = metrics.sort_values("step", kind="stable").groupby("worker", sort=False).last()
    numbered = [worker for worker in last.index if worker.isdecimal()]
    others = sorted((worker for worker in last.index if not worker.isdecimal()), key=style.order_of)
    names = curves.quantities(metrics)
    rows = []
    for name in _chief(names):
        values = last.loc[numbered, name].dropna()
        row: dict[str, Any] = {"quantity": numbers.name_of(name)}
        row |= {worker: _value(last.loc[worker, name]) for worker in others}
        row |= {
            "lowest": _value(values.min()),
            "median": _value(values.median()),
            "highest": _value(values.max()),
        }
        rows.append(row | {"workers": str(len(values))})
    caption = f"The last value of every quantity, over {len(numbered)} workers."
    if len(names) > _QUANTITIES:
        caption += f" {len(names) - _QUANTITIES} further quantities stand in metrics.jsonl only."
    right = (*others, "lowest", "median", "highest", "workers")
    return Table("Last values.", pd.DataFrame(rows), caption, rows=_QUANTITIES, right=right)


def _chief(names: Sequence[str]) -> list[str]:
    """Return the quantities for which the table of last values has room, costs and ends of intervals last.

    Of more than fit, these are left out first, then numbered ones from the highest number down.
    """

    def rank(name: str) -> float:
        numbered = re.fullmatch(r".+_(\d+)", name)
        return math.inf if columns.is_minor(name) else int(numbered[1]) if numbered else 0

    kept = set(sorted(names, key=rank)[:_QUANTITIES])
    return sorted((name for name in names if name in kept), key=columns.is_minor)


def _value(value: Any) -> str:
    return "–" if math.isnan(float(value)) else numbers.number(float(value))


def last_values(metrics: pd.DataFrame) -> Table:
    """Return the last value of every quantity for every worker, with its error where one is known.

    Of very many workers the smallest, the median and the largest value.
    """
    workers = sorted(
        metrics["worker"].unique(), key=lambda worker: (worker.isdecimal(), style.order_of(worker))
    )
    if sum(worker.isdecimal() for worker in workers) > _WORKERS:
        return _over_workers(metrics)
    titles = {worker: f"worker {worker}" if worker.isdecimal() else worker for worker in workers}
    rows: list[dict[str, Any]] = []
    names = curves.quantities(metrics)
    for name in _chief(names):
        row: dict[str, Any] = {"quantity": numbers.name_of(name), "step": 0}
        counts = is_whole(metrics[name]) and f"{name}_error" not in metrics
        for worker, title in titles.items():
            known = metrics[(metrics["worker"] == worker) & metrics[name].notna()]
            row[title] = "–"
            if len(known):
                last = known.loc[known["step"].idxmax()]
                value, error = float(last[name]), float(last.get(f"{name}_error", float("nan")))
                if counts:
                    row[title] = numbers.number(int(value))
                elif math.isnan(error):
                    row[title] = numbers.number(value)
                else:
                    row[title] = numbers.with_error(value, error)
                row["step"] = max(row["step"], int(last["step"]))
        rows.append(row)
    frame = pd.DataFrame(rows)
    caption = "The last value of every quantity"
    if frame["step"].nunique() == 1:
        caption += f", at step {frame['step'].iloc[0]}"
        frame = frame.drop(columns="step")
    if any("±" in row[title] for row in rows for title in titles.values()):
        caption += ", with the error that its probe reports where it shows in these digits"
    if len(names) > _QUANTITIES:
        caption += f". {len(names) - _QUANTITIES} further quantities stand in metrics.jsonl only"
    return Table("Last values.", frame, f"{caption}.", rows=_QUANTITIES, right=tuple(titles.values()))


def _failed_checks(failed: pd.DataFrame) -> Section:
    """Return what a critical-point study must not average away."""
    items = [
        (f"{row['member']}, " if "member" in row else "")
        + f"sample {row['sample']} of seed {row['seed']}: {row['checks_failed']}."
        for row in failed.head(_FAILED).to_dict("records")
    ]
    if len(failed) > _FAILED:
        items.append(f"{len(failed) - _FAILED} more stand in tables/failed_checks.csv.")
    return Section(
        "Failed checks",
        "What is complete and correct passes these checks. Samples that do not pass are in the tables and figures as "
        "they were found: their counts are wrong, or too small.",
        items=items,
    )


def _members(run: Any, table: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the members of a sweep as if they were workers, and a table of what was varied and came out.

    A member is shown by its centre where it has one, else by its first worker.
    """
    joined, rows = [pd.DataFrame({"step": [], "worker": []})], []
    for index, (name, member) in enumerate(run.stages.items()):
        metrics = member.metrics
        row: dict[str, Any] = {"member": name}
        state = member.directory.state
        if state["status"] == "stopped":
            row[_ENDED] = state["reason"]
        if len(metrics):
            workers = sorted(metrics["worker"].unique(), key=style.order_of)
            main = "centre" if "centre" in workers else workers[0]
            own = metrics[metrics["worker"] == main]
            joined.append(own.assign(worker=str(index)))
            row |= {name: own[name].dropna().iloc[-1] for name in curves.quantities(own)[:_OUTCOMES]}
        rows.append(row)
    first = ["member", *([_ENDED] if any(_ENDED in row for row in rows) else [])]
    outcome = pd.DataFrame(rows, columns=list(dict.fromkeys([*first, *(key for row in rows for key in row)])))
    if table is not None:
        settings = table.drop(columns=[name for name in ("run",) if name in table])
        further = [name for name in outcome if name == "member" or name not in settings]
        outcome = settings.merge(outcome[further], on="member", how="left")
    return pd.concat(joined[1:] or joined, ignore_index=True), outcome


def _member_names(run: Any, members: pd.DataFrame) -> dict[str, str]:
    """Return what to call the members in legends, by their numbers: what they vary.

    Empty where a legend could not hold the names.
    """
    vary = _recipe(run.configuration).get("vary")
    if not isinstance(vary, Mapping) or not set(vary) <= set(members) or len(members) > _NAMED:
        return {}
    words = {path: _field(path, vary) for path in vary}
    names = []
    for row in members[list(vary)].to_dict("records"):
        values = [
            value
            if isinstance(value, str) and len(vary) == 1 and not value.isdecimal()
            else f"{words[path]} = {value}"
            for path, value in row.items()
        ]
        names.append(", ".join(values))
    return {str(i): name for i, name in enumerate(names)} if max(map(len, names)) <= _NAME else {}


def _field(path: str, paths: Iterable[str]) -> str:
    """Return the last word of a path, and as many before it as tell it from the other paths."""
    parts = path.split(".")
    others = [other.split(".") for other in paths if other != path]
    lengths = range(1, len(parts) + 1)
    # One path may be the end of another: then it is what it is.
    count = next((n for n in lengths if all(other[-n:] != parts[-n:] for other in others)), len(parts))
    return " ".join(parts[-count:]).replace("_", " ")


def _warnings(metrics: pd.DataFrame) -> list[str]:
    """Return every distinct warning, with where it was given."""
    if "warnings" not in metrics:
        return []
    given: dict[str, list[tuple[int, str]]] = {}
    for step, worker, texts in metrics[["step", "worker", "warnings"]].itertuples(index=False, name=None):
        if isinstance(texts, str):
            # One cell holds all warnings of its row, each behind the name of its probe.
            for text in re.split(r"; (?=\w+: )", texts):
                given.setdefault(text, []).append((step, worker))
    sentences = []
    for text, places in given.items():
        steps = sorted({step for step, _ in places})
        who = sorted({worker for _, worker in places}, key=style.order_of)
        when = f"step {steps[0]}" if len(steps) == 1 else f"{len(steps)} steps from {steps[0]} to {steps[-1]}"
        whose = who[0] if len(who) == 1 else f"{', '.join(who[:-1])} and {who[-1]}"
        whose = whose if not who[0].isdecimal() else f"worker{'s' if len(who) > 1 else ''} {whose}"
        sentences.append(f"{text} ({when}; {whose})")
    return sentences


_RECIPE = (
    *(
        "name",
        "text",
        "model",
        "family",
        "dataset",
        "loss",
        "penalty",
        "start",
        "walker",
        "solver",
        "samples",
    ),
    *("steps", "schedule", "stop", "probes", "snapshots", "projectors", "seed"),
)
_MACHINE = (
    "landscape",
    "commit",
    "command",
    "python",
    "platform",
    "processor",
    "device",
    "threads",
    "engine",
)


def _ordered(settings: Mapping[str, Any], first: Sequence[str]) -> dict[str, Any]:
    """Return settings with what people look for first in front; on disk they are sorted by name."""
    ordered = {key: settings[key] for key in (*first, *settings) if key in settings}
    if isinstance(ordered.get("command"), list | tuple):
        ordered["command"] = " ".join(map(str, ordered["command"]))
    return ordered
