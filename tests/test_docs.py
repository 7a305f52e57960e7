"""The documentation says what happens: its examples run, its pages build, its help is current."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from documents import read_blocks, run_document

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
# Written by docs/render_cli.py, and compared with it below.
RENDERED = DOCS / "reference" / "cli.md"


def _with_examples() -> list[Path]:
    return [path for path in DOCUMENTS if path != RENDERED and any(read_blocks(path))]


@pytest.mark.timeout(240)  # the tutorial starts a dozen processes
@pytest.mark.parametrize("path", _with_examples(), ids=lambda path: str(path.relative_to(ROOT)))
def test_each_example_does_what_is_shown(path: Path, tmp_path: Path) -> None:
    """Every block of a document can be carried out, and prints what is shown below it."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "company-ca.pem"))  # the reader's own
    run_document(path, tmp_path)


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    """Sphinx finds no broken link, no unknown name and nothing else to warn of."""
    _run(sys.executable, "-m", "sphinx", "-W", "-n", "-q", str(DOCS), str(tmp_path))


def test_the_help_pages_are_current() -> None:
    """The command line's page has the help that each command prints."""
    _run(sys.executable, str(DOCS / "render_cli.py"), "--check")


def _run(*command: str) -> None:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
