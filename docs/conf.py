"""How the documentation is built: Sphinx, pages in Markdown, examples that run."""

import os
from pathlib import Path

# Measured examples look the same wherever the gallery is built.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib

import landscape
from landscape.plugins import KINDS, entries

matplotlib.use("agg")

project = "landscape"
author = "The landscape developers"
copyright = author  # the name is Sphinx's
version = release = landscape.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples/README.txt", "gallery/**/*.ipynb", "gallery/**/*.py"]
templates_path = ["_templates"]
# Single backticks in docstrings mean code.
default_role = "code"

html_theme = "furo"
html_title = f"landscape {release}"
html_theme_options = {"navigation_with_keys": True}
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["landscape.css"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autosummary_imported_members = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "remove_config_comments": True,
    # DataFrames are shown as tables.
    "capture_repr": ("_repr_html_", "__repr__"),
    "write_computation_times": False,
}


def list_components(page: Path) -> None:
    """Write the reference of all components that this repository brings."""
    ours = "landscape-"
    text = [
        "# Components",
        "What this repository brings, as `ls.models.MLP`, `ls.probes.HessianSpectrum` and so on. "
        "`landscape plugins` lists what is installed where you are.",
    ]
    for kind in KINDS:
        found = [entry for entry in entries(kind) if entry.distribution.startswith(ours)]
        if found:
            directive = "autofunction" if kind == "studies" else "autoclass"
            text += [f"## {kind.capitalize()}", "```{eval-rst}"]
            for entry in found:
                text.append(f".. {directive}:: {entry.value.replace(':', '.')}")
                text.append("   :members:\n   :show-inheritance:\n" if directive == "autoclass" else "")
            text.append("```")
    page.write_text("\n\n".join(text[:2]) + "\n\n" + "\n".join(text[2:]) + "\n", encoding="utf-8")


list_components(Path(__file__).parent / "reference" / "components.md")
