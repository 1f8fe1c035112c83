"""For every test: the learner's progress is left alone, and notebooks cannot fail in silence.

nbval lets two failures pass: an unknown magic, of which the kernel tells only in its reply, and a
kernel that dies, for which it waits until the cell's time is up. Both are mended here.
"""

import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from queue import Empty

import pytest
from nbval import plugin as nbval

# Callbacks are looked at where the stack that they are for is installed.
collect_ignore = [
    f"course_utils/integrations/{stack}.py"
    for stack in ("lightning", "transformers")
    if importlib.util.find_spec(stack) is None
]

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; kernels inherit it


class WatchedKernel(nbval.RunningKernel):
    """A kernel that keeps its last reply, and whose death is noticed within a second."""

    reply = None

    def await_reply(self, msg_id, timeout=None):
        """Wait for the reply to a request.

        Raises:
            Empty: After `timeout` seconds.
            RuntimeError: If the kernel dies.
        """
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            try:
                message = self.get_message("shell", timeout=1)
            except Empty:
                if not self.is_alive():
                    raise RuntimeError("The kernel died while it ran this cell.") from None
                if time.monotonic() > end:
                    raise
                continue
            if message["parent_header"].get("msg_id") == msg_id:
                self.reply = message["content"]
                return


nbval.RunningKernel = WatchedKernel
# Coverage is that of the unit tests: the kernels of notebooks are left alone.
nbval.setup_coverage = nbval.teardown_coverage = lambda *arguments: None


def pytest_runtest_setup(item):
    """Let no test draw into the figure of another."""
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Fail a cell whose reply is an error, though no traceback was shown."""
    result = yield
    if isinstance(item, nbval.IPyNbCell) and not item.options["check_exception"]:
        reply = item.parent.kernel.reply
        if reply["status"] != "ok":
            item.raise_cell_error(f"{reply.get('ename')}: {reply.get('evalue')}")
    return result


def pytest_configure(config):
    """Keep progress in a folder of this run, and the seeds where they are."""
    config.progress_folder = tempfile.TemporaryDirectory(prefix="course-test-")
    os.environ.pop("COURSE_SEED_OFFSET", None)  # stored outputs are those of no offset
    os.environ.pop("COURSE_CLAIMS", None)
    os.environ["COURSE_PROGRESS"] = str(Path(config.progress_folder.name) / "progress.json")


def pytest_unconfigure(config):
    """Remove that folder."""
    config.progress_folder.cleanup()
