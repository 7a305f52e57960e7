"""How Sphinx builds the documentation: `sphinx-build -W -n docs OUT`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon.docstring import GoogleDocstring

import innocalls_async

project = "innocalls-async"
author = "the innocalls-async authors"
release = version = innocalls_async.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
default_role = "code"  # docstrings write `name` as Markdown does
highlight_language = "text"
myst_heading_anchors = 3

html_theme = "furo"
html_title = "innocalls-async"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False

autodoc_member_order = "bysource"
python_maximum_signature_line_length = 80
add_module_names = False
toc_object_entries_show_parents = "hide"

nitpicky = True
nitpick_ignore_regex = [
    # Other people's names. The build works without a network, so it has no inventory of theirs.
    (r"py:.*", r"(collections|contextlib|datetime|pathlib|ssl)\..*|ZoneInfo|Path"),
    (r"py:.*", r"(httpx|opentelemetry|respx|starlette)\..*|ASGIApp"),
    # Names in signatures that stand for "any" or for a few words; the text says which.
    (r"py:class", r"(.*\.)?(BodyFormat|Item|Out|ProfileName|Result|Rule|_Default)"),
]

_DEFAULTS = {
    r"(~?[\w.]*_Default \| )|( \| ~?[\w.]*_Default\b)": "",
    r"<[\w.]*_Default object>": "TokenBucket(50)",
    r"RetryPolicy\([^)]+\)": "RetryPolicy()",
    r"<function [\w.]+<lambda>>": "...",
    r"<(?:built-in )?function (\w+)>": r"\1",
    r"\bNOTHING\b": "...",
}


def setup(app: Sphinx) -> None:
    """Read docstrings as they are written here."""
    app.connect("autodoc-process-docstring", _read_docstring)
    app.connect("autodoc-process-signature", _show_signature)


def _read_docstring(
    _app: Sphinx, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
) -> None:
    # napoleon takes a property's "Whether it is over: ..." for a type, so only these go through
    # it; they are the ones with "Args:" and "Raises:".
    if what in {"class", "method", "function"}:
        lines[:] = GoogleDocstring(lines).lines()
    lines[:] = _literal_blocks(lines)


def _show_signature(
    _app: Sphinx,
    what: str,
    _name: str,
    _obj: Any,
    _options: Any,
    signature: str | None,
    result: Any,
) -> tuple[str, Any] | None:
    """None for an error, which callers catch and do not make; else with what a default stands
    for, and not how it is written."""
    if signature is None:
        return None
    if what == "exception":
        return "", result
    for pattern, shown in _DEFAULTS.items():
        signature = re.sub(pattern, shown, signature)
    return signature, result


def _literal_blocks(lines: list[str]) -> Iterator[str]:
    """An indented block under a paragraph is literal, as in Markdown."""
    paragraph = ""
    for line in lines:
        if line.startswith("    ") and paragraph and not paragraph.startswith((" ", "-", ".", ":")):
            yield from ("::", "")
        paragraph = line if line.strip() else paragraph
        yield line
