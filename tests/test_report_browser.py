"""The report's page in a real browser. Needs a Chromium: `pytest -m browser`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from test_report import Reader, make_ledger, make_rows, table_cells

from innocalls_async.campaign.report import Report, read_report
from innocalls_async.campaign.report_page import page
from innocalls_async.campaign.report_tables import headline, tables

pytestmark = pytest.mark.browser

# Shows the page in a frame of a given width, and writes down what it looks like there.
_VIEWER = """<!doctype html><iframe src="/report" style="border:0;width:{width}px;height:900px">
</iframe><pre id="found"></pre><script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const inner = frame.contentWindow, root = frame.contentDocument.documentElement;
  const box = it => it.getBoundingClientRect();
  const wide = [...root.querySelectorAll("body *")].filter(it => !it.closest(".scroll, svg")
    && box(it).right > root.clientWidth + 1).map(it => it.outerHTML.slice(0, 80));
  const small = [...root.querySelectorAll("svg text")].map(it => box(it).height);
  document.querySelector("#found").textContent = JSON.stringify({{
    wide, width: root.scrollWidth, smallest: Math.min(...small),
    fetched: inner.performance.getEntriesByType("resource").map(it => it.name),
    html: root.outerHTML,
  }});
}};
</script>"""


@contextmanager
def serving(html: str) -> Iterator[tuple[str, list[str]]]:
    """The page on a port of 127.0.0.1; its address, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            width = re.fullmatch(r"/at/(\d+)", self.path)
            content = _VIEWER.format(width=width[1]) if width else html
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def look(address: str, profile: Path) -> Any:
    """What the viewer at `address` found."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium is not None, "a Chromium is needed"
    done = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=10000",
            "--window-size=1400,1000",
            "--dump-dom",
            address,
        ],
        capture_output=True,
        check=True,
        timeout=60,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout.decode(), re.DOTALL)
    assert found is not None
    return json.loads(unescape(found[1]))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return read_report(make_ledger(tmp_path_factory.mktemp("ledger") / "RUN.db", make_rows(1200)))


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_a_browser_shows_the_page(report: Report, tmp_path: Path, width: int) -> None:
    """On a phone and on a desk it fits, has the ledger's figures, and fetches nothing."""
    with serving(page(report)) as (address, asked):
        found = look(f"{address}/at/{width}", tmp_path / "profile")
    reader = Reader(found["html"])
    assert reader.tables == {table.name: table_cells(table) for table in tables(report)}
    assert reader.figures == [value for _, value in headline(report)]
    assert reader.elements["script"] == 0
    assert found["wide"] == []
    assert found["width"] <= width
    assert found["smallest"] >= 8  # CSS pixels, of a plot's labels
    assert found["fetched"] == []
    assert set(asked) <= {f"/at/{width}", "/report", "/favicon.ico"}
