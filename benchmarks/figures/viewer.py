"""The figure of the viewer in docs/localization.md: a folder of `mmssl localize` opened in headless Chromium.

    python benchmarks/figures/viewer.py maps/ --clip 1 --time 1.5

Writes docs/figures/viewer.png 900 pixels wide with a palette of 256 colours, which keeps it below 150 KB.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

FIGURE = Path(__file__).parents[2] / "docs" / "figures" / "viewer.png"
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


def main() -> None:
    """Open the page, save what it looks like."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what mmssl localize wrote")
    parser.add_argument("--clip", type=int, default=0)
    parser.add_argument("--time", type=float, default=1.5)
    parser.add_argument("--size", type=int, nargs=2, default=(1120, 1300), metavar=("WIDTH", "HEIGHT"))
    given = parser.parse_args()
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for name in names if (path := shutil.which(name))), None)
    if browser is None:
        raise SystemExit("no Chromium here; install it (Debian package chromium)")
    page = (given.folder / "index.html").resolve().as_uri()
    with tempfile.TemporaryDirectory() as scratch:
        shot = Path(scratch) / "page.png"
        size = f"--window-size={given.size[0]},{given.size[1]}"
        profile, wait = f"--user-data-dir={scratch}/profile", "--virtual-time-budget=5000"
        command = [browser, *FLAGS, profile, wait, size, f"--screenshot={shot}"]
        subprocess.run(
            [*command, f"{page}#clip={given.clip}&t={given.time}"], check=True, capture_output=True, timeout=120
        )
        picture = Image.open(shot).convert("RGB")
        small = picture.resize((900, round(picture.height * 900 / picture.width)), Image.Resampling.LANCZOS)
        # the widest cover of colours: the few hot pixels keep theirs
        few = small.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
        few.save(FIGURE, optimize=True)
    print(f"{FIGURE}: {FIGURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
