"""JupyterLab in a real browser: the server, the browser, and a notebook opened in both.

Run with `make test-browser`. It needs Chromium or Chrome: `COURSE_CHROMIUM` names its
executable, otherwise chromium, chromium-browser, google-chrome and chrome are looked up on the
path, and then the one that `playwright install chromium` brings. Where there is none, the tests
fail and say so; they never skip. Stored notebooks are not changed: the server works on a copy.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from nbformat import v4
from playwright.sync_api import Browser, Locator, Page, Playwright, sync_playwright

ROOT = Path(__file__).parents[2]
DEMO = Path(__file__).with_name("demo_explorer.py")
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
TOKEN = "only-for-this-test-server"
WIDGET = "application/vnd.jupyter.widget-view+json"
AT_ONCE = 2  # notebooks that run at the same time: one per core that the course asks for
BATCH = 4  # notebooks that are open at the same time, half a gigabyte each
CHROMIUM_ARGUMENTS = """--no-sandbox --disable-gpu --disable-quic --no-first-run
    --disable-background-networking --disable-component-update --disable-sync""".split()


# ---------------------------------------------------------------- server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: its address and the folder it shows."""

    address: str
    folder: Path


@contextlib.contextmanager
def jupyter_lab(home: Path) -> Iterator[Lab]:
    """A JupyterLab of its own: every folder it reads or writes lies in `home`."""
    folder = home / "notebooks"
    shutil.copytree(
        ROOT / "notebooks",
        folder,
        ignore=shutil.ignore_patterns(".ipynb_checkpoints"),
        dirs_exist_ok=True,
    )
    (folder / "demo.ipynb").write_text(json.dumps(demo_notebook()), encoding="utf-8")
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    no_news = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(no_news))
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "IPYTHON", "COURSE_"))
    }
    environment = kept | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "COURSE_PROGRESS": str(home / "progress.json"),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    port = free_port()
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1"),
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder}",
        f"--IdentityProvider.token={TOKEN}",
        "--LabApp.expose_app_in_browser=True",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    log = home / "server.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            command, env=environment, stdout=file, stderr=subprocess.STDOUT, cwd=home
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_up(address, server, log)
        yield Lab(address, folder)
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_until_up(address: str, server: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab stopped with {server.returncode}:\n{log.read_text()}")
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=5).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab was not up within {seconds} s:\n{log.read_text()}")


def demo_notebook() -> dict:
    """Four cells: the demo explorer, twice shown, and what a cell below reads."""
    sources = [DEMO.read_text(encoding="utf-8"), "explorer = demo()\nexplorer", "explorer"]
    cells = [v4.new_code_cell(source, id=f"demo-{i}") for i, source in enumerate(sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


# ---------------------------------------------------------------- browser


def find_chromium(playwright: Playwright) -> str:
    """The executable, or an error that says how to get one."""
    asked = os.environ.get("COURSE_CHROMIUM")
    if asked:
        if shutil.which(asked):
            return asked
        raise RuntimeError(f"COURSE_CHROMIUM={asked!r} is no executable file: correct or unset it.")
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"):
        found = shutil.which(name)
        if found:
            return found
    bundled = playwright.chromium.executable_path
    if Path(bundled).exists():
        return bundled
    raise RuntimeError(
        "The browser tests need Chromium or Chrome and found neither. Install it (Debian and "
        "Ubuntu: `sudo apt install chromium`; anywhere: `python -m playwright install "
        "chromium`), or set COURSE_CHROMIUM to the path of its executable."
    )


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(playwright), headless=True, args=CHROMIUM_ARGUMENTS
        )
        try:
            yield browser
        finally:
            browser.close()


# ---------------------------------------------------------------- a notebook in the browser

READY = """() => {
  const panel = window.jupyterapp?.shell?.currentWidget;
  return panel?.context?.isReady && panel.sessionContext?.session?.kernel?.status === 'idle';
}"""

# What is stored in the file is cleared first, so that every count and output is one of this run.
RUN_ALL = """async () => {
  await jupyterapp.commands.execute('notebook:clear-all-cell-outputs');
  jupyterapp.commands.execute('notebook:run-all-cells');
}"""

# Every code cell has been executed and the kernel is at rest, or one of them has failed. Read from
# the cells themselves: the notebook as JSON, with its pictures, would cost more than to run it.
FINISHED = """() => {
  const panel = jupyterapp.shell.currentWidget;
  const cells = [...panel.content.model.cells].filter(
    (cell) => cell.type === 'code' && cell.sharedModel.getSource().trim());
  const failed = ({ outputs }) =>
    Array.from({ length: outputs.length }, (_, i) => outputs.get(i).type).includes('error');
  return cells.some(failed) || (cells.every((cell) => cell.executionCount !== null)
    && panel.sessionContext.session.kernel.status === 'idle');
}"""

RUN_CODE = """async (code) => {
  const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const future = kernel.requestExecute({ code, store_history: false });
  const said = [];
  future.onIOPub = ({ header, content }) => {
    if (header.msg_type === 'stream') said.push(content.text);
    if (header.msg_type === 'error') said.push(`${content.ename}: ${content.evalue}`);
  };
  await future.done;
  return said.join('');
}"""

SHOW_CELL = """async (index) => {
  const { content } = jupyterapp.shell.currentWidget;
  content.activeCellIndex = index;
  await content.scrollToItem(index, 'start');
  content.widgets[index].node.setAttribute('data-test-cell', String(index));
}"""

# From a key press to the changed picture, in milliseconds, for every press on this slider.
WATCH_KEYS = """(input) => {
  const drawing = input.closest('.cu-explorer').querySelector('.cu-panels');
  const watch = { times: [], pressed: null };
  input.addEventListener('keydown', (event) => { watch.pressed = event.timeStamp; }, true);
  new MutationObserver(() => {
    if (watch.pressed === null) return;
    watch.times.push(performance.now() - watch.pressed);
    watch.pressed = null;
  }).observe(drawing, { attributes: true, characterData: true, childList: true, subtree: true });
  input.__watch = watch;
}"""


@dataclass
class Notebook:
    """A notebook opened in JupyterLab, and everything that went wrong in its page."""

    page: Page
    address: str
    name: str = ""
    problems: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Note console errors, page errors and requests to another machine."""
        host = urlsplit(self.address).hostname

        def on_console(message) -> None:
            if message.type == "error":
                self.problems.append(f"console: {message.text}")

        def on_request(request) -> None:
            url = urlsplit(request.url)
            if url.scheme not in ("data", "blob") and url.hostname != host:
                self.problems.append(f"request to another machine: {request.url}")

        self.page.on("console", on_console)
        self.page.on("pageerror", lambda error: self.problems.append(f"page: {error}"))
        self.page.on("request", on_request)

    def open(self, name: str) -> None:
        self.name = name
        self.watch()
        self.page.goto(f"{self.address}/lab/tree/{name}?token={TOKEN}&reset")
        self.page.wait_for_function(READY, timeout=90_000, polling=100)

    def start_all(self) -> None:
        """Let the kernel begin with the cells, and return at once."""
        self.page.evaluate(RUN_ALL)

    def run_all(self, seconds: float = 120) -> None:
        """Run every cell; return when all have run or one has failed."""
        self.start_all()
        self.page.wait_for_function(FINISHED, timeout=1000 * seconds, polling=100)

    def run_code(self, code: str) -> str:
        """Run code in the notebook's kernel and return what it printed or the error."""
        return self.page.evaluate(RUN_CODE, code)

    def cells(self) -> list[dict]:
        return self.page.evaluate(
            "() => jupyterapp.shell.currentWidget.context.model.toJSON().cells"
        )

    def errors(self) -> list[str]:
        """What failed in the kernel, with the cell's number."""
        return [
            f"cell {i}: {output['ename']}: {output['evalue']}"
            for i, cell in enumerate(self.cells())
            for output in cell.get("outputs", ())
            if output["output_type"] == "error"
        ]

    def explorer_cells(self) -> list[int]:
        """Which cells show an explorer: a widget with a picture beside it."""
        return [
            i
            for i, cell in enumerate(self.cells())
            for output in cell.get("outputs", ())
            if {WIDGET, "image/png"} <= output.get("data", {}).keys()
        ]

    def explorer(self, cell: int) -> "Explorer":
        """Scroll to an explorer, as a learner would, and wait until it is drawn."""
        self.page.evaluate(SHOW_CELL, cell)
        root = self.page.locator(f'[data-test-cell="{cell}"] .cu-explorer')
        root.locator("svg[role=img] .cu-marks").first.wait_for(state="attached", timeout=20_000)
        root.scroll_into_view_if_needed()
        return Explorer(root)


@dataclass
class Explorer:
    """An explorer in the page, as a learner uses it."""

    root: Locator

    @property
    def page(self) -> Page:
        return self.root.page

    @property
    def sliders(self) -> list[Locator]:
        return self.root.locator("input[type=range]").all()

    def slider(self, name: str) -> Locator:
        return self.root.locator(f'input[name="{name}"]')

    def drawing(self) -> list[str]:
        """Every path and word that the marks draw."""
        return self.root.evaluate(
            "(root) => [...root.querySelectorAll('.cu-marks path, .cu-marks text')]"
            ".map((node) => node.getAttribute('d') ?? node.textContent)"
        )

    def press(self, slider: Locator, key: str) -> None:
        slider.focus()
        self.page.keyboard.press(key)

    def drag(self, slider: Locator, to: float) -> None:
        """Take the slider's thumb with the mouse and pull it to a share of its length."""
        box = slider.bounding_box()
        share = slider.evaluate("(s) => (s.value - s.min) / Math.max(1, s.max - s.min)")
        thumb = 16
        y = box["y"] + box["height"] / 2
        at = [box["x"] + thumb / 2 + s * (box["width"] - thumb) for s in (share, to)]
        self.page.mouse.move(at[0], y)
        self.page.mouse.down()
        self.page.mouse.move(at[1], y, steps=4)
        self.page.mouse.up()

    def put(self, slider: Locator, position: str) -> None:
        """Set a slider without key or mouse."""
        slider.evaluate(
            "(s, to) => { s.value = to; s.dispatchEvent(new Event('input')); }", position
        )
        assert slider.input_value() == position

    def latencies(self, slider: Locator, moves: int = 20) -> list[float]:
        """Milliseconds from key press to changed picture, for `moves` presses to and fro."""
        slider.evaluate(WATCH_KEYS)
        slider.focus()
        self.page.keyboard.press("Home")
        self.page.wait_for_timeout(50)
        slider.evaluate("(s) => { s.__watch.times.length = 0; s.__watch.pressed = null; }")
        last = int(slider.get_attribute("max"))
        for move in range(moves):
            key = "ArrowRight" if (move // last) % 2 == 0 else "ArrowLeft"
            self.page.keyboard.down(key)  # held down it repeats: one event per move
            slider.evaluate(
                "(s, n) => new Promise((done, fail) => { const end = performance.now() + 5000;"
                " const look = () => s.__watch.times.length >= n ? done()"
                " : performance.now() > end ? fail(new Error('the picture did not change'))"
                " : setTimeout(look, 1); look(); })",
                move + 1,
            )
            if (move + 1) % last == 0 or move + 1 == moves:
                self.page.keyboard.up(key)
        return slider.evaluate("(s) => s.__watch.times")


# ---------------------------------------------------------------- fixtures


@pytest.fixture(scope="session")
def notebook_names() -> list[str]:
    return NOTEBOOKS


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[Lab]:
    with jupyter_lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def new_notebook(browser: Browser, lab: Lab, **context) -> Notebook:
    """A page of its own, with nothing in it yet."""
    page = browser.new_page(**{"viewport": {"width": 1400, "height": 900}, **context})
    return Notebook(page, lab.address)


def close(notebook: Notebook) -> None:
    """End the kernel, then the page."""
    with contextlib.suppress(Exception):
        notebook.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    notebook.page.context.close()


@contextlib.contextmanager
def opened(browser: Browser, lab: Lab, name: str, **context) -> Iterator[Notebook]:
    """A notebook in a page of its own; its kernel ends with the page."""
    notebook = new_notebook(browser, lab, **context)
    try:
        notebook.open(name)
        yield notebook
    finally:
        close(notebook)


class Course:
    """Notebooks that are run side by side, and looked at when the machine is quiet again.

    A few are opened together and run two at a time, so that neither core waits. Only when all of
    them are done is one handed out: how fast an explorer answers is measured beside no kernel
    that computes.
    """

    def __init__(self, browser: Browser, lab: Lab, names: list[str]) -> None:
        self.browser, self.lab = browser, lab
        self.batches = [names[i : i + BATCH] for i in range(0, len(names), BATCH)]
        self.done: dict[str, Notebook] = {}
        self.failed: dict[str, Exception] = {}

    def take(self, name: str) -> Notebook:
        """A notebook that has run from top to bottom; its batch runs if it has not yet.

        Raises:
            Exception: What kept this notebook from being opened or from ending in time.
        """
        for batch in self.batches:
            if name in batch and not {*batch} & {*self.done, *self.failed}:
                self._run(batch)
        if name in self.failed:
            raise self.failed[name]
        return self.done[name]

    def _run(self, batch: list[str], seconds: float = 300) -> None:
        waiting, running = list(batch), {}
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                name = waiting.pop(0)
                notebook = new_notebook(self.browser, self.lab)
                try:
                    notebook.open(name)
                    notebook.start_all()
                    running[name] = time.monotonic() + seconds
                except Exception as error:
                    self.failed[name] = error
                self.done[name] = notebook
            for name, deadline in list(running.items()):
                page = self.done[name].page
                try:
                    if page.evaluate(FINISHED):
                        del running[name]
                    elif time.monotonic() > deadline:
                        raise TimeoutError(f"{name} had not run after {seconds} s.")
                    else:
                        page.wait_for_timeout(100)
                except Exception as error:
                    self.failed[name] = error
                    del running[name]

    def close(self, name: str) -> None:
        """End one notebook that was taken."""
        close(self.done[name])


@pytest.fixture(scope="module")
def demo(browser, lab) -> Iterator[Notebook]:
    """The demo notebook, run; afterwards its page must have stayed clean."""
    with opened(browser, lab, "demo.ipynb") as notebook:
        notebook.run_all()
        assert notebook.errors() == []
        yield notebook
        assert notebook.problems == []


@pytest.fixture
def fresh_demo(browser, lab) -> Iterator[Notebook]:
    """A demo notebook of a test's own, on a touch screen, in a page it may spoil."""
    with opened(browser, lab, "demo.ipynb", has_touch=True) as notebook:
        notebook.run_all()
        assert notebook.errors() == []
        yield notebook


@pytest.fixture(scope="session")
def course(request, browser, lab) -> Course:
    """The notebooks that the tests of this run ask for."""
    asked = {
        item.callspec.params["notebook"]
        for item in request.session.items
        if "notebook" in getattr(getattr(item, "callspec", None), "params", {})
    }
    return Course(browser, lab, [name for name in NOTEBOOKS if name in asked])


@pytest.fixture(scope="module", params=NOTEBOOKS)
def notebook(request, course) -> Iterator[Notebook]:
    """Each notebook of the course, opened and run from top to bottom."""
    try:
        yield course.take(request.param)
    finally:
        course.close(request.param)
