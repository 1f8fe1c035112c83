"""What is stored in notebooks/, how it is stored, and that nbval lets no failure pass."""

import ast
import functools
import importlib.util
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import course_utils as cu
from course_utils.diagnosis.report import OF_A_RUN

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if not path.name.startswith("00")]
TAG = "nbval-check-output"
DIFFERS = "differs-by-machine"  # said of a cell whose text is not compared, for a reason

spec = importlib.util.spec_from_file_location("store", ROOT / "tools" / "store_notebooks.py")
store = importlib.util.module_from_spec(spec)
spec.loader.exec_module(store)


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


@functools.cache  # no test changes what it reads
def read(path):
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def calls(source, *names):
    """Whether the code calls something whose dotted name ends in one of `names`."""
    called = [ast.unparse(n.func) for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
    return any(f".{call}".endswith(f".{name}") for call in called for name in names)


# What is stored


def test_the_first_notebook_is_there():
    assert NOTEBOOKS[0].stem == "00_start_here"


@each(NOTEBOOKS)
def test_metadata_is_normalized_and_the_same_on_every_machine(path):
    notebook = read(path)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    nbformat.validate(notebook)
    assert notebook.metadata == store.METADATA
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags", "jupyter"}, cell.source
        assert cell.metadata.get("jupyter", store.FOLDED) == store.FOLDED, cell.source
        assert "attachments" not in cell
    assert path.read_text(encoding="utf-8") == nbformat.writes(notebook).rstrip("\n") + "\n"


@each(NOTEBOOKS)
def test_cell_ids_are_unique(path):
    ids = [cell.id for cell in read(path).cells]
    assert len(ids) == len(set(ids))


@each(NOTEBOOKS)
def test_stored_outputs_come_from_one_run_from_top_to_bottom(path):
    cells = code_cells(read(path))
    # nbval does not compare a cell without a count: it would pass whatever it prints.
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@each(NOTEBOOKS)
def test_no_stored_output_is_an_error_a_warning_or_a_widget(path):
    for cell in code_cells(read(path)):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source
            assert not [key for key in output.get("data", {}) if "widget" in key], cell.source


@each(NOTEBOOKS)
def test_nothing_stored_tells_of_the_machine_that_ran_it(path):
    for cell in read(path).cells:
        for text in [cell.source, *store.texts(cell.get("outputs", []))]:
            assert not store.MACHINE.search(text), text


def claim_is_not_compared(cell):
    return calls(cell.source, "compare", "ledger") and not (TAG in tags(cell) and cell.outputs)


def print_is_not_compared(cell):
    prints = [o for o in cell.outputs if not {"image/png"} & set(o.get("data", {}))]
    return prints and not calls(cell.source, "check") and not {TAG, DIFFERS} & set(tags(cell))


def more_than_15_lines(cell):
    return len(cell.source.splitlines()) > 15


def draws_from_elsewhere(cell):
    """Only `cu.seeded` is shifted by an offset (`make seeds`)."""
    own = r"manual_seed\((?!cu\.seeded)|default_rng\(|np\.random\.|torch\.Generator\("
    draws = r"torch\.(rand|randn|randint|randperm|normal|bernoulli)"
    return re.search(own, cell.source) or any(
        isinstance(node, ast.Call)
        and re.fullmatch(draws, ast.unparse(node.func))
        and not {"generator", None} & {keyword.arg for keyword in node.keywords}
        for node in ast.walk(ast.parse(cell.source))
    )


def star_import_or_sys_path(cell):
    nodes = ast.walk(ast.parse(cell.source))  # a magic or a shell line is a SyntaxError
    imports = [alias.name for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names]
    return "*" in imports or "sys.path" in cell.source


def figure_left_open(cell):
    """It is drawn once more when the cell has ended: a third of its time."""
    drawn = any(o.output_type == "display_data" and "image/png" in o.data for o in cell.outputs)
    return drawn and "plt.show()" not in cell.source.splitlines()


FAULTS = (
    claim_is_not_compared,
    print_is_not_compared,
    more_than_15_lines,
    draws_from_elsewhere,
    star_import_or_sys_path,
    figure_left_open,
)


@each(NOTEBOOKS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_no_code_cell_has_a_fault(path, fault):
    faulty = [cell.source for cell in code_cells(read(path)) if fault(cell)]
    assert faulty == []


def test_few_cells_are_left_out_of_the_comparison():
    left_out = [
        (path.stem, cell.id)
        for path in NOTEBOOKS
        for cell in code_cells(read(path))
        if DIFFERS in tags(cell)
    ]
    assert len(left_out) <= len(NOTEBOOKS), left_out


@each(CHAPTERS)
def test_a_notebook_has_at_least_25_cells(path):
    assert len(read(path).cells) >= 25


def test_the_first_table_of_notebook_12_has_every_kind_most_urgent_first_and_its_chapters():
    cells = read(ROOT / "notebooks" / "12_gradient_clinic.ipynb").cells
    table = next(cell.source for cell in cells if "| you see | kind |" in cell.source)
    rows = re.findall(r"^\|[^|]+\| `(\w+)` \|.*\| ([\d, ]+) \|$", table, flags=re.MULTILINE)
    of_a_batch = [kind for kind in cu.diagnosis.KINDS if kind not in OF_A_RUN]
    assert [kind for kind, _ in rows] == of_a_batch
    stands = {path.stem[:2] for path in NOTEBOOKS}
    assert all(set(chapters.split(", ")) <= stands for _, chapters in rows)


@each(NOTEBOOKS)
def test_every_picture_has_prose_beside_it(path):
    notebook = read(path)
    cells = [new_code_cell(), *notebook.cells, new_code_cell()]
    for before, cell, after in zip(cells, cells[1:], cells[2:], strict=False):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            assert "markdown" in (before.cell_type, after.cell_type), cell.source


@each(NOTEBOOKS)
def test_the_title_stands_first_and_headings_do_not_skip_a_level(path):
    cells = read(path).cells
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    prose = re.sub(r"```.*?```", "", prose, flags=re.DOTALL)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", prose, flags=re.MULTILINE)]
    assert levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels))


@each(NOTEBOOKS)
def test_inline_math_stays_on_one_line(path):
    # In a quotation the next line starts with ">", which would end up inside of the formula.
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```|\$\$.*?\$\$|`[^`\n]*`", "", cell.source, flags=re.DOTALL)
            spans = re.findall(r"(?<!\\)\$[^$]*\$", text)
            assert not [span for span in spans if "\n" in span], cell.id


# What MathJax knows, as far as the course uses it or may soon: a misspelled one is shown in red.
COMMANDS = set(
    """
    Bigl Bigr Delta Gamma Lambda Longleftrightarrow Longrightarrow Omega Phi Pi Psi Sigma Theta
    alpha angle approx arccos arctan bar begin beta bigl bigr big binom boxed bullet cdot cdots chi
    cos cosh cot ddots delta det dfrac diamond dot dots ell end epsilon equiv eta exp forall frac
    gamma ge geq gg hat in infty int iota kappa lVert lambda langle lceil ldots le left leftarrow
    leq lfloor lim limits ll ln log longrightarrow lvert mapsto mathbb mathbf mathcal mathrm max
    mid min mp mu nabla ne neq ni nu odot oplus operatorname otimes overbrace overline partial perp
    phi pi pm prime prod propto psi qquad quad rVert rfloor rangle rceil rho right rightarrow rvert
    sigma sim simeq sin sinh sqrt star subset sum sup tag tan tanh tau text textbf tfrac theta
    tilde times to top underbrace underline varepsilon varphi vdots vec widehat xi zeta
    """.split()
)


@each(NOTEBOOKS)
def test_formulas_use_commands_that_are_known(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"```.*?```|`[^`\n]*`", "", cell.source, flags=re.DOTALL)
            assert set(re.findall(r"\\([A-Za-z]+)", prose)) <= COMMANDS, cell.id


@each(NOTEBOOKS)
def test_links_to_files_of_the_course_lead_somewhere(path):
    prose = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@each(CHAPTERS)
def test_a_notebook_ends_with_its_ledger_what_to_remember_and_references(path):
    notebook = read(path)
    assert any(calls(cell.source, "ledger") for cell in code_cells(notebook))
    headings = [
        line.lower()
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("#")
    ]
    assert any("remember" in heading for heading in headings)
    assert any("references" in heading for heading in headings)


def test_the_exercises_of_the_notebooks_are_those_of_the_package():
    asked = set()
    for path in NOTEBOOKS:
        for cell in code_cells(read(path)):
            asked |= set(re.findall(r"exercises\.(\w+)\.(\w+)\.check\(", cell.source))
    offered = {
        (chapter, name)
        for chapter in cu.exercises.CHAPTERS
        for name, value in vars(getattr(cu.exercises, chapter)).items()
        if isinstance(value, cu.exercises.Exercise)
    }
    assert asked == offered


# How it is stored


def test_a_widget_view_is_not_stored_but_the_picture_beside_it_is():
    both = new_output("display_data", {store.WIDGET: {}, "image/png": "x", "text/plain": "w"})
    alone = new_output("display_data", {store.WIDGET: {}, "text/plain": "w"})
    plain = new_output("display_data", {"text/plain": "w"})
    kept = store.without_widgets([both, alone, plain])
    assert [set(output.data) for output in kept] == [{"image/png", "text/plain"}, {"text/plain"}]


HERE = ("saved in /home/ada/x.png", "saved in /tmp/x.png", r"C:\Users\ada")
HERE += ("<object at 0x7f33aa11bb00>", "File '/usr/lib/python3/x.py'")
ANYWHERE = ("loss 0.1/step", "a/tmp/b", "1 / 2", "∂L/∂h", "see 5/opt/3")


@pytest.mark.parametrize("text", HERE + ANYWHERE)
def test_text_of_this_machine_is_a_complaint_and_what_looks_like_a_path_is_none(text):
    output = new_output("stream", name="stdout", text=text)
    assert bool(store.complaints(new_code_cell(), [output])) == (text in HERE)


def test_warnings_and_tagged_widgets_are_complaints():
    assert store.complaints(new_code_cell(), [new_output("stream", name="stderr", text="careful")])
    widget = [new_output("display_data", {store.WIDGET: {}, "text/plain": "w"})]
    assert store.complaints(new_code_cell(metadata={"tags": [TAG]}), widget)
    assert not store.complaints(new_code_cell(), widget)


def test_streams_of_one_name_are_stored_as_one():
    parts = [new_output("stream", name="stdout", text=text) for text in ("a\n", "b\n")]
    assert [output.text for output in store.merged(parts)] == ["a\nb\n"]


def test_storing_twice_writes_once_and_touches_nothing_but_outputs(tmp_path):
    path = tmp_path / "01_x.ipynb"
    figure = "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])"
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell("print('one')\nprint('two')", metadata={"tags": [TAG], "collapsed": True}),
        new_code_cell(figure, metadata={"jupyter": store.FOLDED | {"source_hidden": True}}),
    ]
    nbformat.write(new_notebook(cells=cells, metadata={"author": "somebody"}), path)
    assert store.store(path) == (True, [])
    first = path.read_bytes()
    assert store.store(path) == (False, [])
    assert path.read_bytes() == first
    stored = read(path)
    assert [cell.source for cell in stored.cells] == [cell.source for cell in cells]
    assert [cell.id for cell in stored.cells] == [cell.id for cell in cells]
    assert stored.cells[1].outputs[0].text == "one\ntwo\n"
    assert stored.cells[1].metadata == {"tags": [TAG]}
    assert "image/png" in stored.cells[2].outputs[0].data
    assert stored.cells[2].metadata == {"jupyter": store.FOLDED}


def test_a_notebook_that_fails_is_left_as_it_was(tmp_path):
    path = tmp_path / "01_x.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("%no_such_magic")]), path)
    before = path.read_bytes()
    changed, wrong = store.store(path)
    assert not changed and wrong
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


# How it is run by nbval


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Outcome of each cell of small notebooks under this project's conftest and options."""
    folder = tmp_path_factory.mktemp("nbval")
    shutil.copy(ROOT / "conftest.py", folder)

    def write(name, *sources, tagged=False, text=None):
        cells = [new_code_cell(source, execution_count=1) for source in sources]
        for cell in cells:
            cell.metadata = {"tags": [TAG]} if tagged else {}
            if text is not None:
                cell.outputs = [new_output("stream", name="stdout", text=text)]
        nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")

    write("magic", "%no_such_magic", "print(1)")
    write("dead", "import os\nos._exit(1)", "print(1)")
    write("raising", "1 / 0")
    write("same", "print(1)", tagged=True, text="1\n")
    write("other", "print(1)", tagged=True, text="2\n")
    write("untagged", "print(1)", text="2\n")
    home = "import os\nprint('course-test-' in os.environ['COURSE_PROGRESS'])"
    write("progress", home, tagged=True, text="True\n")
    report = folder / "report.xml"
    options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), f"--junitxml={report}"]
    options += ["-p", "no:cacheprovider", "--nbval-cell-timeout=60", "-q", str(folder)]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        capture_output=True,
        timeout=300,
        cwd=folder,
        check=False,
    )
    found = {}
    for case in ET.parse(report).iter("testcase"):
        problem = next((c for c in case if c.tag in ("failure", "error")), None)
        said = "" if problem is None else f"{problem.get('message')} {problem.text}"
        name = case.get("classname").replace(".ipynb", "").split(".")[-1]
        found[name, case.get("name")] = said
    return found


@pytest.mark.parametrize(
    ("notebook", "cell", "said"),
    [
        ("magic", 0, "no_such_magic"),  # fails its cell and no other
        ("magic", 1, ""),
        ("dead", 0, "The kernel died"),  # with nbval alone after 60 seconds, with another message
        ("dead", 1, "."),
        ("raising", 0, "ZeroDivisionError"),
        ("same", 0, ""),
        ("other", 0, "."),
        ("untagged", 0, ""),  # not compared
        ("progress", 0, ""),  # that of the learner is left alone
    ],
)
def test_what_goes_wrong_fails_its_cell_and_no_other(outcomes, notebook, cell, said):
    assert re.search(said or "^$", outcomes[notebook, f"Cell {cell}"])
