"""How Sphinx makes the documentation: `make docs`."""

import re
import sys
from pathlib import Path

from docutils import nodes

import skae

sys.path.append(str(Path(__file__).parent))  # for gallery.py

project = "skae"
author = "the skae developers"
release = version = skae.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["templates"]
default_role = "literal"

html_theme = "pydata_sphinx_theme"
html_title = "skae"
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": False, "secondary_sidebar_items": ["page-toc"]}

myst_heading_anchors = 3
numpydoc_show_class_members = False  # the template of a class has its methods

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "ignore_pattern": "quickstart",
    "within_subsection_order": "gallery.order",
    "reset_modules": ("matplotlib", "gallery.alone"),
    "reset_modules_order": "both",
    "abort_on_example_error": True,
    "doc_module": ("skae",),
    "backreferences_dir": "generated/backreferences",
    "download_all_examples": False,
    "write_computation_times": False,
    "run_stale_examples": True,  # what they show may have changed, though they have not
    "parallel": 2,  # so many examples at once
}

# Pages of scikit-learn, by what docstrings call them. Nothing is downloaded to know them.
_SKLEARN = "https://scikit-learn.org/stable/"
_SECTIONS = {
    "df_output_transform": "modules/df_output_transform.html",
    "meta-estimator": "glossary.html#term-meta-estimator",
    "metadata_routing": "metadata_routing.html",
    "sphx_glr_auto_examples_miscellaneous_plot_set_output.py": (
        "auto_examples/miscellaneous/plot_set_output.html"
    ),
}


def _in_scikit_learn(app, env, node, contnode):
    """Link what scikit-learn documents."""
    target = node["reftarget"]
    page = _SECTIONS.get(target)
    if target.startswith("sklearn."):
        page = f"modules/generated/{target}.html"
    return page and nodes.reference("", "", contnode, refuri=_SKLEARN + page, internal=False)


def _examples_as_pages(app, docname, source):
    """Let links to the scripts of examples, as a code host shows them, lead to their pages."""
    source[0] = re.sub(r"\(\.\./examples/(\w+)\.py\)", r"(auto_examples/\1.rst)", source[0])
    source[0] = source[0].replace("(../examples)", "(auto_examples/index.rst)")


def setup(app):
    app.connect("missing-reference", _in_scikit_learn)
    app.connect("source-read", _examples_as_pages)
