"""Tests that need something that pip does not install."""

from __future__ import annotations

import os

import pytest

__all__ = ["require_system"]


def require_system(package: str, present: object) -> None:
    """Skip the running test when a package of the system is missing; fail it where the package must be there.

    Parameters
    ----------
    package
        What to install, as the system calls it; stands in the reason.
    present
        Whether it is installed: anything that is true or false.

    Notes
    -----
    With ``LANDSCAPE_REQUIRE_SYSTEM=1`` in the environment, as where the whole suite is to run, a missing package is a
    failure: a suite that skips what it was meant to test looks green.

    Examples
    --------
    >>> import shutil
    >>> from landscape.testing import require_system
    >>> def test_the_program(): # doctest: +SKIP
    ...     require_system("phcpack", shutil.which("phc"))
    """
    if present:
        return
    if os.environ.get("LANDSCAPE_REQUIRE_SYSTEM") == "1":
        pytest.fail(f"the package {package} is not installed, and LANDSCAPE_REQUIRE_SYSTEM=1", pytrace=False)
    pytest.skip(f"needs the package {package}")
