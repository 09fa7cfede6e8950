import pytest

from landscape.testing import require_system


def test_what_is_installed_changes_nothing(monkeypatch):
    monkeypatch.setenv("LANDSCAPE_REQUIRE_SYSTEM", "1")
    require_system("phcpack", "/usr/bin/phc")


def test_a_missing_package_skips_by_name(monkeypatch):
    monkeypatch.delenv("LANDSCAPE_REQUIRE_SYSTEM", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs the package phcpack"):
        require_system("phcpack", None)


def test_a_missing_package_fails_where_it_must_be_there(monkeypatch):
    monkeypatch.setenv("LANDSCAPE_REQUIRE_SYSTEM", "1")
    with pytest.raises(pytest.fail.Exception, match="phcpack is not installed"):
        require_system("phcpack", None)
