"""The report in a real browser: headless Chromium, without network and without scripts."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hbseg.anatomy import BONES
from hbseg.report.build import as_jpeg, render
from hbseg.report.contents import Contents, Epoch, ReportedHand, Stage
from hbseg.report.sections import SECTIONS
from tests.efficiency import measured_at

Browse = Callable[..., str]

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
]
DARK = "--blink-settings=preferredColorScheme=0"
PICTURE = (120, 30, 160)
LIGHT_PAGE, DARK_PAGE = (246, 247, 249), (16, 20, 24)


def contents() -> Contents:
    jpeg, (height, width) = as_jpeg(np.full((600, 600, 3), PICTURE, dtype=np.uint8), 10**6)
    epochs = tuple(
        Epoch(n, 1 / n, 1 - math.exp(-n), dict.fromkeys(BONES, 1 - math.exp(-n)))
        for n in range(1, 6)
    )
    return Contents(
        run="wrist-<&>-손목",
        stages=(Stage(1, epochs, "kind: TrainSpec"), Stage(2, epochs)),
        validation={(f"{hand}.png", bone): 0.9 for hand in range(5) for bone in BONES},
        hands=(ReportedHand("image1.png", jpeg, width, height),),
        num_test_images=2,
        efficiency=measured_at(10),
    )


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Opens a page with more flags and returns stdout and stderr of the browser."""
    browser = shutil.which("chromium")
    assert browser, "no chromium: apt-get install -y chromium (make does it)"

    def run(page: bytes, *flags: str) -> str:
        file = tmp_path / "report.html"
        file.write_bytes(page)
        profile = tmp_path / f"profile-{len(list(tmp_path.iterdir()))}"
        command = [browser, *FLAGS, f"--user-data-dir={profile}", *flags, file.as_uri()]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.communicate(timeout=120)[0].decode(errors="replace")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    return run


def test_a_browser_shows_all_parts_in_both_schemes_and_complains_of_nothing(
    browse: Browse, tmp_path: Path
) -> None:
    page = render(contents())
    text = browse(page, "--dump-dom")
    assert "CONSOLE" not in text
    assert "<h1>wrist-&lt;&amp;&gt;-손목</h1>" in text
    for key, title in SECTIONS.items():
        assert f'<h2 id="{key}-name">{title}</h2>' in text
    assert len(re.findall(r'<svg class="chart"', text)) == 5
    assert text.count('<td><span class="bar') == 3 * len(BONES)
    light = screenshot(browse, page, tmp_path)
    dark = screenshot(browse, page, tmp_path, DARK)
    assert tuple(light[3, 3].tolist()) == LIGHT_PAGE
    assert tuple(dark[3, 3].tolist()) == DARK_PAGE
    for shot in (light, dark):
        assert share(shot, PICTURE) > 0.01


def test_what_the_page_must_not_load_is_refused_and_told(browse: Browse) -> None:
    page = render(contents()).replace(b"</main>", b'<img src="/etc/x.png"></main>')
    assert "Content Security Policy" in browse(page, "--dump-dom")


def screenshot(browse: Browse, page: bytes, folder: Path, *flags: str) -> NDArray[np.uint8]:
    """Returns the page as RGB."""
    place = folder / "shot.png"
    place.unlink(missing_ok=True)
    told = browse(page, f"--screenshot={place}", "--window-size=1100,5200", *flags)
    assert place.exists(), told
    shot = cv2.imread(str(place))
    assert shot is not None
    return shot[..., ::-1].astype(np.uint8)


def share(shot: NDArray[np.uint8], colour: tuple[int, int, int]) -> float:
    """Returns the share of pixels that have a colour."""
    return float((np.abs(shot.astype(int) - colour).max(axis=2) < 8).mean())
