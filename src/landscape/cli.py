"""The command ``landscape``.

Nothing is imported at the top but the standard library, so that ``landscape --help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

#: What a shell reports for a program ended by Ctrl-C.
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 1 for an error, 2 for bad usage, 130 for Ctrl-C."""
    options, unknown = _parser().parse_known_args(arguments)
    from landscape.errors import LandscapeError, nearest

    if unknown:
        name = unknown[0].partition("=")[0]
        hint = nearest(name, options.known) if name.startswith("-") else ""
        options.refuse(f"unrecognized arguments: {' '.join(unknown)}{hint and '.' + hint}")

    try:
        code: int | None = options.action(options)
        sys.stdout.flush()
        return code or 0
    except LandscapeError as error:
        if options.traceback:
            raise
        print(f"landscape: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        # The outermost run that was open has had the last word.
        notes = getattr(interrupt, "__notes__", [])
        told = f" What was recorded can be read; {notes[-1]}" if notes else ""
        print(f"\nInterrupted.{told}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe went away: not an error of ours. Keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="landscape", description="Explore the loss landscapes of neural networks."
    )
    from landscape import __version__

    parser.add_argument("--version", action="version", version=f"landscape {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, action: Any, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(action=action)
        return sub

    def with_store(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--store", help="directory of runs (LANDSCAPE_STORE, or ./runs)")

    sub = command("demo", _demo, "Run the main job on the digits and write its report.")
    with_store(sub)
    sub.add_argument("--seed", type=int, default=0)

    sub = command("run", _run, "Run a recipe: a TOML or JSON file, or the name of a study.")
    sub.add_argument("recipe", metavar="FILE-or-NAME")
    sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                     help="change a field, as walker.lr=0.05, or an argument of a study, as steps=50")  # fmt: skip
    sub.add_argument("--pause-at", action="append", type=int, default=[], metavar="STEP",
                     help="stop there and ask for new hyper-parameters")  # fmt: skip
    sub.add_argument("--trust", action="store_true", help="import classes that the file names by module")
    sub.add_argument("--no-report", action="store_true", help="do not write report.html")
    sub.add_argument("--dry-run", action="store_true", help="check the recipe and print it; run nothing")
    with_store(sub)

    sub = command("probe", _probe, "Measure the weights of a run, or checkpoints under a recipe's landscape.")
    sub.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT",
                     help="files of weights, in order; a run; or files of a run's weights")  # fmt: skip
    sub.add_argument("--probe", action="append", required=True, metavar="NAME[:field=value,...]",
                     help="what is measured; may be repeated. `landscape plugins` lists the probes. One word stands "
                     "as it is, kind=fisher, other text in quotation marks that the shell leaves")  # fmt: skip
    sub.add_argument("--experiment", metavar="FILE-or-RUN",
                     help="whose model, data and loss make the landscape; not needed for a run's own")  # fmt: skip
    sub.add_argument("--split", metavar="NAME",
                     help="the data on which the probes see the loss, as test; columns then begin with it")  # fmt: skip
    sub.add_argument("--restrict", action="append", metavar="PATTERN", help="only these parameters vary")
    sub.add_argument("--csv", metavar="FILE", help="write the table there")
    sub.add_argument("--trust", action="store_true", help="import classes that the file names by module")
    with_store(sub)

    for name, action, help in (
        ("resume", _resume, "Go on with a run that stopped."),
        ("replicate", _replicate, "Run again what a run's own files say, into a new run."),
        ("show", _show, "Show what a run is and what it found."),
        ("report", _report, "Write a run's report.html and print its path."),
    ):
        sub = command(name, action, help)
        sub.add_argument("run", metavar="RUN", help="its directory, or its name or the beginning of it")
        sub.add_argument("--trust", action="store_true", help="import classes that its configuration names")
        with_store(sub)

    sub = command("list", _list, "List the runs of a store.")
    with_store(sub)

    sub = command("plugins", _plugins, "List the installed components, and what is wrong with any.")
    sub.add_argument("--json", action="store_true", help="as JSON")

    command("doctor", _doctor, "Check the installation.")

    sub = command("critical-points", _critical_points, "Find all critical points of a deep linear network.")
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument("--widths", nargs="+", type=int, metavar="D", help="input, hidden ..., output widths")
    what.add_argument("--config", metavar="FILE",
                      help="config.json of the program behind arXiv:2301.12651, read as it is")  # fmt: skip
    network = sub.add_argument_group("the network (without --config)")
    network.add_argument("--examples", type=int, metavar="M", help="examples in a sample (1)")
    network.add_argument("--convolution", nargs=2, type=int, metavar=("WIDTH", "STRIDE"),
                         help="the first layer is a convolution with one filter")  # fmt: skip
    for name, default in (
        ("regularisation", "uniform(0, 1)"),
        ("inputs", "normal(0, 1)"),
        ("targets", "normal(0, 1)"),
    ):
        network.add_argument(f"--{name}", metavar="LAW",
                             help=f"how {name if name != 'regularisation' else 'the lambda'} are drawn: uniform(a, b), "
                             f"normal(mean, std), constant(c) or values(...) ({default})")  # fmt: skip
    network.add_argument("--once", nargs="+", metavar="GROUP",
                         help="what all samples share: regularisation, inputs, targets")  # fmt: skip
    sub.add_argument("--samples", type=int, metavar="N", help="random samples (100, or what --config says)")
    sub.add_argument("--seed", type=int, help="of samples and solver (0, or what --config says)")
    sub.add_argument("--solver", default="Monodromy", metavar="NAME", help="what finds them (Monodromy)")
    sub.add_argument("--time-limit", type=float, metavar="SECONDS",
                     help="for solving a generic member (Monodromy), or a sample (others)")  # fmt: skip
    sub.add_argument(
        "--certify", action="store_true", help="prove that every solution exists and differs from the others"
    )
    sub.add_argument("--against", metavar="NAME",
                     help="let this solver solve the same samples, and compare; nothing is recorded")  # fmt: skip
    sub.add_argument("--json", action="store_true", help="a list with one object per sample")
    sub.add_argument("--latex", metavar="FILE", help="write the table of bounds and counts there")
    with_store(sub)
    sub.epilog = (
        "All samples of one network are solved together on one core, which is why there is no number of processes. "
        "Networks are shared out over cores and machines as members of a sweep: landscape.Sweep(...).run(backend=...)."
    )
    for sub in commands.choices.values():
        sub.set_defaults(refuse=sub.error, known=list(sub._option_string_actions))
    return parser


# ---------------------------------------------------------------------------------------------------------
# Helpers
# ---------------------------------------------------------------------------------------------------------


def _console() -> Any:
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            # Rich would end the program here, with code 1.
            raise BrokenPipeError

    return Quiet()


def _cell(value: Any) -> str:
    """Return what stands in a printed table; nothing for what is not known."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return "" if value is None else str(value)


def _print_table(frame: pd.DataFrame, title: str | None = None) -> None:
    from rich.table import Table

    rows = [[_cell(v) for v in row] for row in frame.itertuples(index=False)]
    console = _console()
    names = [str(column) for column in frame.columns]
    widths = [max(map(len, cells)) for cells in zip(names, *rows, strict=True)]
    if sum(widths) + 3 * len(widths) + 1 > console.width:
        # Too wide for the screen, or for the log that this goes to: a line per entry, none of them broken.
        if title:
            console.print(title, style="bold")
        edge = max(map(len, names))
        for row in rows:
            for name, cell in zip(names, row, strict=True):
                if cell:
                    console.print(f"{name:>{edge}}  {cell}", highlight=False, soft_wrap=True, markup=False)
            console.print()
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for name, kind in zip(names, frame.dtypes, strict=True):
        table.add_column(name, justify="right" if kind.kind in "if" else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _said(change: str) -> tuple[str, Any]:
    """Return the name and the value of ``--set NAME=VALUE``; what is no TOML is a string."""
    import tomllib

    from landscape.errors import ConfigurationError

    name, equals, text = change.partition("=")
    if not equals:
        raise ConfigurationError(f"--set {change}: expected PATH=VALUE, as in walker.lr=0.05.")
    try:
        return name.strip(), tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), text


def _recipe(name: str, changes: Sequence[str], trust: bool) -> Any:
    """Return the recipe in a file, or the study of that name, with what ``--set`` changes."""
    import landscape as ls
    from landscape import plugins
    from landscape.composition.named import study_called
    from landscape.composition.paths import replaced, structured_at
    from landscape.errors import ConfigurationError

    said = [_said(change) for change in changes]
    if name.endswith((".toml", ".json")):
        value = ls.load(name, trust=trust)
    elif os.path.exists(name):
        raise ConfigurationError(f"{name}: a recipe file ends in .toml or .json.")
    else:
        value, said = study_called(name, plugins.get("studies", name), said, trust=trust)
    for path, tree in said:
        value = replaced(value, path, structured_at(value, path, tree, trust=trust))
    return value


def _open(options: argparse.Namespace) -> Any:
    from pathlib import Path

    import landscape as ls

    place = options.run
    if options.store and not Path(place).is_dir():
        place = str(Path(options.store) / place)
    return ls.open(place, trust=options.trust)


# ---------------------------------------------------------------------------------------------------------
# Commands
# ---------------------------------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> None:
    from landscape import plugins

    run = plugins.get("studies", "demo")(seed=options.seed).run(store=options.store)
    print(run.report())


def _run(options: argparse.Namespace) -> int:
    import landscape as ls
    from landscape.errors import ConfigurationError

    recipe = _recipe(options.recipe, options.set, options.trust)
    if options.dry_run:
        print(ls.dumps(recipe, "toml"), end="")
        return 0
    arguments: dict[str, Any] = {"store": options.store}
    if options.pause_at:
        if not isinstance(recipe, ls.Experiment):
            raise ConfigurationError("--pause-at is for a single experiment; this recipe is something else.")
        arguments["pause_at"] = options.pause_at
    run = recipe.run(**arguments)
    _print_tables_of_plugins(run)
    print(run.path if options.no_report else run.report())
    return 1 if run.status == "failed" else 0


def _print_tables_of_plugins(run: Any) -> None:
    """Print the tables that plugins made of a run when it ended."""
    said = run.provenance.get("from_plugins", {}).values()
    names = [name for facts in said for name in facts.get("tables", ())]
    tables = run.tables if names else {}
    for name in names:
        # As wide as it is: a line per row, whatever the screen, can be searched and cut.
        text = tables[name].to_string(index=False, float_format="{:.4g}".format, na_rep="-")
        print(f"{name[:1].upper()}{name[1:]}\n{text}\n")


def _parse_probe(text: str, trust: bool) -> Any:
    """``HessianSpectrum:k=5,bottom=2`` -> the probe."""
    import attrs

    from landscape import plugins
    from landscape.composition.every import Every
    from landscape.composition.trees import structure
    from landscape.errors import ConfigurationError

    name, colon, fields = text.partition(":")
    while colon and "=" not in fields.partition(":")[0] and ":" in fields:  # distribution:Name:fields
        head, colon, fields = fields.partition(":")
        name = f"{name}:{head}"
    if colon and "=" not in fields:
        name, fields = text, ""
    tree: dict[str, Any] = {"component": name} | _fields_said(text, fields)
    registered = ":" not in name or name.partition(":")[0] in {
        entry.source for entry in plugins.entries("probes")
    }
    known = {field.name for field in attrs.fields(plugins.get("probes", name))} if registered else None
    for option in ("split", "restrict"):
        if option in tree and known is not None and option not in known:
            raise ConfigurationError(
                f"--probe {text}: {name} has no field {option!r}; --{option} {tree[option]} is for all probes of a "
                "command."
            )
    return structure({"probe": tree}, Every, path="--probe", trust=trust).probe


def _fields_said(text: str, fields: str) -> dict[str, Any]:
    """Return the fields of ``--probe NAME:field=value,...``; a bare word that TOML does not know is a text."""
    import re
    import tomllib

    from landscape.errors import ConfigurationError

    # Quoted texts are passed over; what else begins with a letter, and is a value, is a word.
    quotation = r"""("(?:\\.|[^"\\])*"|'[^']*')"""
    end = r"\s*(?:,|$)"
    word = rf"(?<==)(\s*)(?!(?:true|false|inf|nan){end})([A-Za-z_][\w.*/-]*)(?={end})"
    quoted = re.sub(f"{quotation}|{word}", lambda found: found[1] or f'{found[2]}"{found[3]}"', fields)
    try:
        said: dict[str, Any] = tomllib.loads("table = {" + quoted + "}")["table"]
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"--probe {text}: {fields!r} is not understood; write NAME:field=value,field=value, and text that is more "
            'than a word in quotation marks: field="some text".'
        ) from error
    return said


def _probe(options: argparse.Namespace) -> int:
    from landscape.composition.measuring import MeasuringInterrupted

    _refuse_unwritable("--csv", options.csv)
    try:
        _tell_table(_measured(options), options.csv)
    except MeasuringInterrupted as interrupt:
        if len(interrupt.table):
            _tell_table(interrupt.table, options.csv)
        measured = interrupt.table["step"].nunique() if len(interrupt.table) else 0
        print(
            f"\nInterrupted; {measured} of {measured + len(interrupt.missing)} were measured. Not measured: "
            f"{', '.join(interrupt.missing)}.",
            file=sys.stderr,
        )
        return INTERRUPTED
    except KeyboardInterrupt:
        print("\nInterrupted before anything was measured.", file=sys.stderr)
        return INTERRUPTED
    return 0


def _refuse_unwritable(option: str, name: str | None) -> None:
    """Refuse, before any work, the name of a file that cannot be written."""
    from landscape.errors import ConfigurationError

    if name and not os.path.isdir(os.path.dirname(name) or "."):
        raise ConfigurationError(f"{option} {name} cannot be written: there is no such directory.")
    if name and os.path.isdir(name):
        raise ConfigurationError(f"{option} {name} is a directory; give the name of a file.")


def _tell_table(table: pd.DataFrame, csv: str | None) -> None:
    """Write what was measured to a file, or else print it."""
    from landscape.errors import ConfigurationError

    if not csv:
        _print_table(table)
        return
    try:
        table.to_csv(csv, index=False)
    except OSError as error:
        raise ConfigurationError(f"--csv {csv} cannot be written: {error.strerror}.") from error
    print(csv)


def _measured(options: argparse.Namespace) -> pd.DataFrame:
    import landscape as ls
    from landscape.errors import ConfigurationError

    probes = [_parse_probe(text, options.trust) for text in options.probe]
    if options.split is not None:
        probes = [ls.Every(None, probe, split=options.split) for probe in probes]
    source = options.experiment
    if source is None:
        run, steps = _recorded(options)
        return run.measure(probes, steps=steps, restrict=options.restrict)  # type: ignore[no-any-return]
    if source.endswith((".toml", ".json")):
        experiment = ls.load(source, trust=options.trust)
        if not isinstance(experiment, ls.Experiment):
            raise ConfigurationError(
                f"--experiment {source}: holds a {type(experiment).__name__}, not one experiment."
            )
        splits = experiment.landscapes()
    else:
        options.run = source
        run = _open(options)
        if run.kind != "experiment":
            raise ConfigurationError(
                f"--experiment {source}: is a run of kind {run.kind!r}, which does not say what one model, data and "
                "loss are; give the TOML or JSON file of an experiment, or the run of one."
            )
        splits = dict(run.splits())
    landscape = splits["train"]
    if options.restrict:
        landscape = landscape.restrict(options.restrict)
    table = ls.measure(landscape, probes, at=options.checkpoints, splits=splits, seed=0)
    return table.drop(columns=["worker"])


def _recorded(options: argparse.Namespace) -> tuple[Any, list[int] | None]:
    """Return the run that is given, or that recorded the given files, and the steps of these."""
    from pathlib import Path

    from landscape.errors import ConfigurationError

    files = [Path(name) for name in options.checkpoints]
    if len(files) == 1 and not files[0].is_file():
        options.run = options.checkpoints[0]
        if files[0].name == "weights" and (files[0].parent / "config.json").is_file():
            options.run = str(files[0].parent)  # all of its weights, then
        return _open(options), None
    parents = {file.resolve().parent for file in files}
    if len(parents) != 1 or not all(file.is_file() for file in files):
        raise ConfigurationError(
            "Checkpoints need --experiment FILE-or-RUN, whose model, data and loss make the landscape; without it, "
            "give one run, or files of the weights that one run recorded."
        )
    (folder,) = parents
    options.run = str(folder.parent)
    if folder.name != "weights" or not (folder.parent / "config.json").is_file():
        raise ConfigurationError(
            f"{files[0]} is not among the weights of a run: say with --experiment FILE-or-RUN whose model, data and "
            "loss make the landscape."
        )
    run = _open(options)
    steps = {snapshot.path.resolve(): snapshot.step for snapshot in run.directory.snapshots()}
    unknown = [file for file in files if file.resolve() not in steps]
    if unknown:
        raise ConfigurationError(f"{unknown[0]} is no snapshot that {run.path} lists.")
    return run, [steps[file.resolve()] for file in files]


def _resume(options: argparse.Namespace) -> None:
    run = _open(options).resume()
    print(run.report())


def _replicate(options: argparse.Namespace) -> None:
    run = _open(options).replicate(options.store)
    print(run.path)


def _report(options: argparse.Namespace) -> None:
    print(_open(options).report())


def _show(options: argparse.Namespace) -> None:
    run = _open(options)
    console = _console()
    console.print(f"[bold]{run.id}[/bold]  {run.kind}, {run.status}", highlight=False)
    console.print(str(run.path), highlight=False, soft_wrap=True)
    for problem in run.verify():
        console.print(f"[red]{problem}[/red]", highlight=False, soft_wrap=True)
    console.print_json(json.dumps(run.configuration))
    summary = run.summary()
    if len(summary):
        from landscape.report.counts import footnote, printed

        shown = printed(summary.head(40))
        _print_table(shown, "Last metrics" if run.kind == "experiment" else "Summary")
        if note := footnote(summary):
            print(note)
        if len(summary) > 40:
            console.print(f"... and {len(summary) - 40} more rows in {run.path / 'tables'}", highlight=False)
    references = run.provenance.get("references", [])
    if references:
        console.print("[bold]Papers to cite for what was used[/bold]")
        for reference in references:
            console.print(f"  {reference}", highlight=False)


def _list(options: argparse.Namespace) -> None:
    from landscape.composition.conduct import default_store
    from landscape.errors import ConfigurationError
    from landscape.store import RunStore

    root = default_store(options.store)
    if os.path.exists(root) and not root.is_dir():
        raise ConfigurationError(f"{root} is not a directory of runs.")
    frame = RunStore(root).list()
    if len(frame):
        shown = frame[["id", "kind", "name", "status", "step", "reason"]].astype(object)
        _print_table(shown.where(shown.notna(), ""))
    else:
        print(f"No runs in {root}.")


def _plugins(options: argparse.Namespace) -> int:
    from landscape import plugins

    found: list[tuple[str, Any]] = [
        (kind, entry) for kind in plugins.KINDS for entry in plugins.entries(kind, check=True)
    ]
    found += [("hooks", plugin) for plugin in plugins.manager().plugins()]
    columns = ("name", "distribution", "version", "value", "error")
    listed = [{"kind": kind} | {name: getattr(each, name) for name in columns} for kind, each in found]
    if options.json:
        print(json.dumps(listed, indent=2))
        return 0
    import pandas as pd

    _print_table(
        pd.DataFrame(
            [
                {
                    "kind": row["kind"],
                    "name": row["name"],
                    "distribution": f"{row['distribution']} {row['version']}",
                    "state": row["error"] or "ok",
                }
                for row in listed
            ]
        )
    )
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from landscape.composition.doctor import examine

    console = _console()
    findings = examine()
    marks = {"good": "[green]ok[/green]  ", "note": "[yellow]note[/yellow]", "bad": "[red]bad[/red] "}
    for finding in findings:
        console.print(f"{marks[finding.level]} {finding.text}", highlight=False)
    return 1 if any(finding.level == "bad" for finding in findings) else 0


def _critical_points(options: argparse.Namespace) -> int:
    from landscape.errors import ConfigurationError, PolynomialError

    try:
        return _find_critical_points(options)
    except (ConfigurationError, PolynomialError) as error:
        # What cannot be asked for; nothing was begun.
        if options.traceback:
            raise
        print(f"landscape: {error}", file=sys.stderr)
        return 2


def _find_critical_points(options: argparse.Namespace) -> int:
    import tempfile

    from landscape.errors import ConfigurationError

    if options.latex and options.against:
        raise ConfigurationError(
            "--latex is for a study that is recorded, --against records none; leave one out."
        )
    _refuse_unwritable("--latex", options.latex)
    study = _critical_point_study(options)
    if options.against:
        return _cross_examine(study, _solver("--against", options.against, {}), options.json)
    if not options.json:
        run = study.run(store=options.store)
        # Files first: the reader of what is printed may go away.
        _write_latex(run, options.latex)
        report = run.report()
        _print_critical_points(run)
        print(report)
        return _told_of_failures(run)
    # The answer goes to standard output; nothing is kept unless a store is named.
    with tempfile.TemporaryDirectory() as scratch:
        try:
            run = study.run(store=options.store or scratch)
        except KeyboardInterrupt:
            if options.store:
                raise
            print("\nInterrupted; nothing is kept without --store.", file=sys.stderr)
            return INTERRUPTED
        _write_latex(run, options.latex)
        rows = run.summary().to_dict("records")
        print(json.dumps([{key: _number(value) for key, value in row.items()} for row in rows], indent=1))
        return _told_of_failures(run)


def _solver_class(option: str, name: str) -> Any:
    """Return the class of solvers of that name."""
    from landscape import plugins
    from landscape.errors import UnknownComponentError

    try:
        return plugins.get("solvers", name)
    except UnknownComponentError as error:
        usable = _usable_solvers()
        if set(usable) == set(plugins.names("solvers")):
            raise
        raise UnknownComponentError(f"{error} Of these {option} takes {', '.join(usable)}.") from error


def _solver(option: str, name: str, fields: dict[str, Any]) -> Any:
    """Return the solver of that name, which needs nothing that the command line cannot say."""
    from landscape.errors import ConfigurationError

    kind = _solver_class(option, name)
    if needed := _needed(kind):
        arguments = ", ".join(f"{field}=..." for field in needed)
        raise ConfigurationError(
            f"{option} {name}: it needs {' and '.join(needed)}, which the command line has no words for; in Python, "
            f"landscape.CriticalPointStudy(model, landscape.solvers.{name}({arguments})). "
            f"{option} takes {', '.join(_usable_solvers())}."
        )
    return kind(**fields)


def _needed(kind: Any) -> list[str]:
    """Return the fields of a component that have no default."""
    import attrs

    return [field.name for field in attrs.fields(kind) if field.init and field.default is attrs.NOTHING]


def _usable_solvers() -> list[str]:
    """Return the names of the solvers that can be had without an argument."""
    from landscape import plugins

    working = [entry for entry in plugins.entries("solvers", check=True) if entry.error is None]
    return [entry.name for entry in working if not _needed(plugins.get("solvers", entry.qualified_name))]


def _critical_point_study(options: argparse.Namespace) -> Any:
    """Return the study that the options describe."""
    import warnings

    import attrs

    import landscape as ls
    from landscape import plugins
    from landscape.errors import ConfigurationError

    kind = _solver_class("--solver", options.solver)
    fields: dict[str, Any] = {"certified": True} if options.certify else {}
    if options.time_limit is not None:
        fields["time_limit"] = options.time_limit
    known = {field.name for field in attrs.fields(kind)}
    for name, others in (("certified", "Monodromy or TotalDegree"), ("time_limit", "Monodromy")):
        if name in fields and name not in known:
            option = "--certify" if name == "certified" else "--time-limit"
            raise ConfigurationError(
                f"{option}: {options.solver} has no such option; take --solver {others}."
            )
    solver = _solver("--solver", options.solver, fields)
    network = {
        "examples": options.examples,
        "convolution": tuple(options.convolution) if options.convolution else None,
        "regularisation": options.regularisation,
        "inputs": options.inputs,
        "targets": options.targets,
        "once": tuple(options.once) if options.once else None,
    }
    given = {name: value for name, value in network.items() if value is not None}
    if options.config is None:
        model = plugins.get("models", "DeepLinear")(widths=tuple(options.widths), **given)
        samples = 100 if options.samples is None else options.samples
        return ls.CriticalPointStudy(model, solver, samples=samples, seed=options.seed or 0)
    if given:
        raise ConfigurationError(
            f"--{next(iter(given))} and --config: the file says what the network is; leave one of the two out."
        )
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        study = ls.CriticalPointStudy.from_config(
            options.config, solver, samples=options.samples, seed=options.seed
        )
    for note in notes:
        print(f"{options.config}: {note.message}", file=sys.stderr)
    return study


def _print_critical_points(run: Any) -> None:
    """Print what all samples say together, and how it is known."""
    from landscape.report.counts import footnote, printed

    network = run.tables["network"]
    _print_table(printed(network), "All samples")
    print(footnote(network))
    # As long as it is the same for all, what is known of a sample is told once.
    told = run.tables["evidence"]
    if len(told):
        print(f"How it is known{', of sample 0' if len(told) > 1 else ''}: {told['evidence'][0]}")
    for title, name in (
        ("How many critical points are real", "real_counts"),
        ("Hessian indices of the real critical points", "hessian_indices"),
    ):
        if len(run.tables[name]):
            # As a title of its own the table, which is narrow, would break it.
            print()
            _console().print(title, style="bold")
            _print_table(run.tables[name])


def _write_latex(run: Any, latex: str | None) -> None:
    """Write the table for LaTeX if asked to."""
    from landscape.errors import ConfigurationError

    if latex:
        try:
            text = (run.path / "tables" / "network.tex").read_text(encoding="utf-8")
            with open(latex, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise ConfigurationError(f"--latex {latex} cannot be written: {error.strerror}.") from error


def _told_of_failures(run: Any) -> int:
    """Say which checks failed, and return 1 where any did."""
    failed = run.tables.get("failed_checks", ())
    if len(failed):
        # What many samples fail alike is said once.
        for (seed, reason), rows in failed.groupby(["seed", "checks_failed"], sort=False):
            samples = ", ".join(map(str, rows["sample"]))
            who = f"sample {samples} of seed {seed} failed its"
            if len(rows) > 1:
                who = f"samples {samples} of seed {seed} failed their"
            print(f"landscape: {who} checks: {reason}.", file=sys.stderr)
    return 1 if len(failed) else 0


def _cross_examine(study: Any, other: Any, as_json: bool) -> int:
    """Print how two solvers agree; 1 where they do not."""
    from landscape.composition.trees import plain

    examination = study.against(other)
    tables = {
        name: table.astype(object).where(table.notna(), None)
        for name, table in (("samples", examination.samples()), ("solvers", examination.solvers()))
    }
    if as_json:
        answer: dict[str, Any] = {"agree": bool(examination), "failures": examination.failures()}
        for name, table in tables.items():
            records = table.to_dict("records")
            answer[name] = [{key: _number(value) for key, value in row.items()} for row in records]
        print(json.dumps(plain(answer), indent=1))
    else:
        _print_table(examination.printed())
        _print_table(tables["solvers"])
        for failure in examination.failures():
            print(failure)
        print(examination)
    return 0 if examination else 1


def _number(value: Any) -> Any:
    """Return a cell of a table as JSON has it; what is not known is null."""
    import math

    import numpy as np

    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain


if __name__ == "__main__":
    sys.exit(main())
