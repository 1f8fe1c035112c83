"""What an editor and a type checker see of the package."""

import re

from mypy import api

SEEN = ["record", "diagnose", "theory.gradient_factor", "fit", "mlp"]


def test_the_face_shows_real_signatures(tmp_path):
    snippet = tmp_path / "snippet.py"
    lines = ["import course_utils as cu", *(f"reveal_type(cu.{name})" for name in SEEN)]
    snippet.write_text("\n".join(lines) + "\n", encoding="utf-8")
    out, error, _ = api.run([str(snippet), "--follow-imports=silent"])
    revealed = re.findall(r'Revealed type is "(.*)"', out)
    assert len(revealed) == len(SEEN), out + error
    assert [r for r in revealed if not re.match(r"(def|Overload).*\w+: ", r)] == []
