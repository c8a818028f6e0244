"""Pages in a real browser: a screenshot, the errors of its console, and the state of its clips."""

from __future__ import annotations

import html
import re
import subprocess
from pathlib import Path

from tests.requirements import chromium

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio",
    "--no-first-run", "--disable-extensions", "--disable-background-networking", "--enable-logging=stderr", "--v=0",
)  # fmt: skip


def open_page(page: Path, *flags: str) -> tuple[str, list[str]]:
    """Open a page; return what the browser printed and the errors of the page's console."""
    command = [chromium(), *FLAGS, f"--user-data-dir={page.parent / 'profile'}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, check=True)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, [s for s in said if re.search(r"Uncaught|Refused|violates|Failed to|not allowed|[Ee]rror", s)]


def screenshot(page: Path, picture: Path, width: int, height: int, *flags: str) -> list[str]:
    """Save what the page looks like at that size; return the errors of its console."""
    _, errors = open_page(
        page, f"--screenshot={picture}", f"--window-size={width},{height}", "--virtual-time-budget=1000", *flags
    )
    return errors


def title_after(page: Path, script: str, copy: Path, width: int = 1200) -> str:
    """Return the title that `script` gave to a copy of the page in which that script alone may run besides."""
    text = page.read_text(encoding="utf-8")
    text, changed = re.subn(r"script-src &#x27;sha256-[^;]*&#x27;;", "script-src 'unsafe-inline';", text)
    assert changed == 1, "the page has no policy to open"
    text = text.replace("</body>", f"<script>{script}</script></body>")
    copy.write_text(text, encoding="utf-8")
    own = html.unescape(re.findall(r"<title>(.*?)</title>", text, re.S)[0])
    for budget in (8_000, 40_000, 200_000):  # on a busy machine virtual time can be over before a clip has played
        dom, _ = open_page(
            copy, "--dump-dom", f"--window-size={width},900", f"--virtual-time-budget={budget}", "--timeout=60000"
        )
        found = re.search(r"<title>(.*?)</title>", dom, re.S)
        assert found, dom[:500]
        title = html.unescape(found.group(1))
        if title != own:
            break
    return title
