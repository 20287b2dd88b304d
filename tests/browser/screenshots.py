"""Pictures of the page for the README and for looking at. By hand, with the page already served:

python tests/browser/screenshots.py http://127.0.0.1:7860 FOLDER
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

BROWSER = os.environ.get("EXPLORER_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
SIZES = ((1280, 900), (390, 844))


def settled(page: Page) -> None:
    page.wait_for_selector("#map-plot .point", state="attached", timeout=60_000)
    page.wait_for_function("!document.body.innerText.includes('model loading')", timeout=120_000)
    page.wait_for_timeout(1500)


def visit(page: Page, folder: Path, name: str) -> None:
    settled(page)
    page.screenshot(path=folder / f"library-{name}.png", full_page=True)
    page.screenshot(path=folder / f"first-view-{name}.png")
    page.get_by_role("tab", name="Routing").click()
    page.click("#generate-button")
    page.wait_for_function("document.querySelector('#status').innerText.includes('Generated')", timeout=120_000)
    page.wait_for_timeout(1500)
    page.screenshot(path=folder / f"routing-{name}.png", full_page=True)
    page.get_by_role("tab", name="Compare").click()
    page.click("#compare-button")
    page.wait_for_function("document.querySelector('#status').innerText.includes('answers in')", timeout=120_000)
    page.wait_for_timeout(800)
    page.screenshot(path=folder / f"compare-{name}.png", full_page=True)
    page.get_by_role("tab", name="Evaluate").click()
    page.wait_for_timeout(2500)
    page.screenshot(path=folder / f"evaluate-{name}.png", full_page=True)


def main(address: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        for width, height in SIZES:
            for theme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": height})
                page.goto(f"{address}/?__theme={theme}")
                visit(page, folder, f"{width}-{theme}")
                page.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
