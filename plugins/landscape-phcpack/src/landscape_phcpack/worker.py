"""Calls phcpy; run as a program of its own, by whichever Python has phcpy.

Not imported by the plugin: phcpy can crash, hang or print into the host's output, and the system's Python need
not be the one that landscape runs in. Only the standard library is used. ``worker.py REQUEST ANSWER`` reads the
request, a JSON file, and writes the answer, another one; standard output and error belong to phcpy.
"""

import inspect
import json
import os
import sys


def call(function, *arguments, **options):
    """Call `function` with those of `options` that this version of phcpy knows."""
    known = inspect.signature(function).parameters
    return function(*arguments, **{name: value for name, value in options.items() if name in known})


def set_seed(seed):
    """Set the seed of PHCpack's random numbers."""
    try:
        from phcpy.dimension import set_seed as setter  # the ctypes interface
    except ImportError:
        from phcpy.phcpy2c3 import py2c_set_seed as setter  # the C extension, as in Debian
    setter(seed)


def solve(request):
    """Run the blackbox solver."""
    from phcpy import solver

    # verbose=True, where there is such an option: silent calls of 2.4.86 skip the solving now and then.
    solutions = call(
        solver.solve,
        request["polynomials"],
        verbose=True,
        tasks=request["tasks"],
        mvfocus=int(request["polyhedral"]),
        precision=request["precision"],
    )
    return {"solutions": solutions}


def track(request):
    """Track the paths from the given start solutions, in double precision."""
    from phcpy import trackers

    name = "double_track" if hasattr(trackers, "double_track") else "standard_double_track"
    found = call(
        getattr(trackers, name),
        request["polynomials"],
        request["start"],
        request["start_solutions"],
        tasks=request["tasks"],
    )
    # The ctypes interface also returns the random number it used.
    return {"solutions": found[1] if isinstance(found, tuple) else found}


def volumes(request):
    """Compute the mixed and the stable mixed volume."""
    try:
        from phcpy.volumes import stable_mixed_volume
    except ImportError:
        from phcpy.solver import mixed_volume

        return {"volumes": mixed_volume(request["polynomials"], stable=True)}
    return {"volumes": stable_mixed_volume(request["polynomials"])}


def main(request_path, answer_path):
    """Answer one request."""
    with open(request_path, encoding="utf-8") as file:
        request = json.load(file)
    import phcpy

    if request["seed"] is not None:
        set_seed(request["seed"])
    answer = {"solve": solve, "track": track, "volumes": volumes}[request["task"]](request)
    answer["version"] = str(getattr(phcpy, "__version__", "unknown"))
    # Renamed when whole: an answer that exists is complete.
    with open(answer_path + ".partial", "w", encoding="utf-8") as file:
        json.dump(answer, file)
    os.replace(answer_path + ".partial", answer_path)


if __name__ == "__main__":
    main(*sys.argv[1:])
