"""The command line `innocalls`: each command is a thin layer over what Python callers use."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run `innocalls`, as the installed script does."""
    try:
        from innocalls_async.cli.app import app  # noqa: PLC0415 - an extra
    except ImportError as error:
        if error.name is None or error.name.startswith("innocalls_async"):
            raise
        sys.exit(
            f"innocalls: {error.name} is not installed; "
            'run: python -m pip install "innocalls-async[cli]"'
        )
    except KeyboardInterrupt:  # while still importing
        sys.exit(130)
    app()
