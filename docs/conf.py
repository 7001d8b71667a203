"""How `make docs` builds the manual: Sphinx, Markdown by MyST, the theme furo.

The order of the pages stands in `_toc.yml`, so that the pages hold nothing but prose. The reference
of the API is made of docstrings, that of the command of its own help.
"""

import importlib
from pathlib import Path

import typer
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from typer.cli import get_docs_for_click

import headway
from headway.cli import build

logger = logging.getLogger(__name__)

DOCS = Path(__file__).parent
REPOSITORY = "https://github.com/headway-py/headway/blob/main/"

project = "headway"
author = "the authors of headway"
version = release = headway.__version__
html_title = f"headway {version}"
html_theme = "furo"
html_copy_source = False

extensions = ["myst_parser", "sphinx_external_toc", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
external_toc_path = "_toc.yml"

# A name in single backticks is a link where it is one of ours, and else just code.
default_role = "py:obj"
# One that several classes have (`result`) leads to the first of them.
suppress_warnings = ["ref.python"]
nitpicky = True
# Names of others, private ones, and the type variables of signatures have no page to link to.
nitpick_ignore_regex = [("py:.*", r"(?!headway\.).*|headway\.(.*\.)?(_.*|[PRT])")]

autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    "member-order": "bysource",
}
autodoc_preserve_defaults = True


def write_commands(app: Sphinx) -> None:
    """Write the page of the command's options, as the command itself says them."""
    command = typer.main.get_command(build())
    context = typer.Context(command, info_name="headway")
    page = get_docs_for_click(obj=command, ctx=context, name="headway")
    (DOCS / "api" / "cli.md").write_text(page, "utf-8")


def link_to_the_repository(app: Sphinx, page: str, source: list[str]) -> None:
    """Let links to files outside the manual lead where these are: to the repository."""
    out = "../" * (page.count("/") + 1)
    source[0] = source[0].replace(f"]({out}", f"]({REPOSITORY}")


def check_names(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of each public name that the reference lacks: autodoc passes by values in silence."""
    domain = env.domains.python_domain
    there = {name.rpartition(".")[2] for name in domain.objects}
    for module in domain.modules:
        for name in getattr(importlib.import_module(module), "__all__", ()):
            if name not in there:
                logger.warning("%s.%s is not in docs/api/%s.rst", module, name, module)


def setup(app: Sphinx) -> None:
    """Called by Sphinx before the build."""
    app.connect("builder-inited", write_commands)
    app.connect("source-read", link_to_the_repository)
    app.connect("env-check-consistency", check_names)
