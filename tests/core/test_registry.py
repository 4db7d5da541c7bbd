"""Families: how a class joins one, what is refused in one line, what stands for code that is not here."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
import textwrap
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import yaml

import selfloop
from selfloop.arms import arms
from selfloop.core import code as code_of_programs
from selfloop.core import registry
from selfloop.core.code import import_code, learn, own_code
from selfloop.core.config import Frozen, Inside
from selfloop.core.errors import ConfigError
from selfloop.core.registry import Absent, Family, file_hash
from selfloop.experiment import Experiment
from selfloop.runner import run

BASE = """
from selfloop.core.registry import Family

SHAPES = Family("shape", "shapes_of_a_test", {"area": 0, "scaled": 1})
"""

SQUARE = """
from typing import Literal

from selfloop.core.config import Frozen
from shapes_of_a_test.base import SHAPES


@SHAPES.register
class Square(Frozen):
    name: Literal["square"] = "square"
    side: float = 1.0

    def area(self) -> float:
        return self.side**2

    def scaled(self, by):
        return Square(side=by * self.side)
"""


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Family[Any]]:
    """A family of its own, with a built-in square, that is the only one there is."""
    families: dict[str, Family[Any]] = {}
    for module in (registry, code_of_programs):
        monkeypatch.setattr(module, "FAMILIES", families)
    for name in ("IMPORTED", "TABLES"):
        monkeypatch.setattr(code_of_programs, name, {})
    monkeypatch.setattr(code_of_programs, "_LEARNT", set())
    package = tmp_path / "shapes_of_a_test"
    package.mkdir()
    for module, content in (("__init__", ""), ("base", BASE), ("square", SQUARE)):
        (package / f"{module}.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield importlib.import_module("shapes_of_a_test.base").SHAPES
    for module in set(sys.modules) - before:
        if module.split(".")[0] in ("shapes_of_a_test", "mine", "theirs", "library_of_tests"):
            del sys.modules[module]


class Methods(Frozen):
    """What a shape needs, not registered."""

    def area(self) -> float:
        return math.pi

    def scaled(self, by: float) -> Methods:
        return self


def one_line(error: pytest.ExceptionInfo[ConfigError]) -> str:
    line = str(error.value)
    assert line.isprintable(), line
    return line


# Joining


def test_a_decorator_registers_a_class(shapes: Family[Any]) -> None:
    @shapes.register
    class Disc(Methods):
        name: Literal["disc"] = "disc"
        radius: float = 1.0

    assert Disc().radius == 1  # the decorator returns the class
    assert shapes["disc"] is Disc
    assert "disc" in shapes
    assert sorted(shapes) == ["disc", "square"]
    assert len(shapes) == 2
    assert shapes.own() == {"disc": Disc}


def test_it_is_known_where_a_class_comes_from(shapes: Family[Any]) -> None:
    shapes.register(Methods)
    built_in, own = shapes.origin("square"), shapes.origin("Methods")
    assert (built_in.what, built_in.code) == ("built-in", "shapes_of_a_test.square:Square")
    assert (own.what, own.code) == ("program", f"{__name__}:Methods")
    assert own.sha256 == file_hash(__name__)
    assert own.sha256 is not None
    with pytest.raises(ConfigError, match="shape 'disc' is not known here") as error:
        shapes.origin("disc")
    one_line(error)


def test_an_object_is_used_as_it_is_and_its_class_joins(shapes: Family[Any]) -> None:
    given = Methods()
    assert shapes.parse(given) is given
    assert shapes["Methods"] is Methods
    assert shapes.parse("Methods") == given


def test_a_subclass_without_a_name_of_its_own_is_called_as_its_class(shapes: Family[Any]) -> None:
    class Large(shapes["square"]):  # type: ignore[misc]
        side: float = 9.0

    given = Large(side=8.0)
    assert shapes.parse(given) is given
    assert shapes.name_of(given) == shapes.name_of(Large) == "Large"
    assert shapes["Large"] is Large
    assert shapes.plain(given) == {"name": "Large", "side": 8.0}
    again = shapes.parse(shapes.plain(given))
    assert type(again) is Large
    assert again == given
    assert type(shapes.parse("square")) is shapes["square"] is not Large


def test_a_class_that_is_defined_again_replaces_itself(shapes: Family[Any]) -> None:
    def defined() -> Any:
        class Disc(Methods):
            name: Literal["disc"] = "disc"

        return Disc

    shapes.register(defined())
    second = shapes.register(defined())
    assert shapes["disc"] is second


def test_two_classes_that_claim_a_name_are_refused(shapes: Family[Any]) -> None:
    class Quadrat(Methods):
        name: Literal["square"] = "square"

    assert shapes["square"]
    for claim in (lambda: shapes.register(Quadrat), lambda: shapes.parse(Quadrat())):
        with pytest.raises(ConfigError, match="two shapes are called 'square': built-in") as error:
            claim()
        line = one_line(error)
        assert "shapes_of_a_test.square:Square" in line
        assert "Quadrat" in line
        assert line.endswith("give one of them another name")


class Lacking(Frozen):
    def area(self) -> float:
        return 1.0


class Deaf(Methods):
    def scaled(self) -> Methods:  # type: ignore[override]
        return self


class Loose:
    def area(self) -> float:
        return 1.0

    def scaled(self, by: float) -> Loose:
        return self


class Open(Methods, ABC):
    @abstractmethod
    def perimeter(self) -> float:
        """Return it."""


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (Lacking, "Lacking is no shape: it has no method scaled; what is one has area, scaled"),
        (Deaf, "Deaf is no shape: its scaled must take 1 argument, as in selfloop.shapes_of_a_test.base"),
        (Loose, "Loose is no shape: derive its class from selfloop.Frozen, so that its settings are recorded"),
        (Open, "Open is no shape: it does not define perimeter"),
    ],
)
def test_what_is_no_member_is_refused(shapes: Family[Any], cls: Any, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        shapes.register(cls)
    assert one_line(error) == words
    assert list(shapes) == ["square"]
    if cls is not Open:  # of which there are no objects
        with pytest.raises(ConfigError) as error:
            shapes.parse(cls())
        assert one_line(error) == words


def test_optional_arguments_beyond_those_of_the_family_are_no_matter(shapes: Family[Any]) -> None:
    class Free(Methods):
        def scaled(self, by: float = 1.0, *more: Any, quick: bool = False, **rest: Any) -> Methods:  # type: ignore[override]
            return self

    assert shapes.register(Free) is Free


# Finding


def test_a_mistyped_name_gets_the_nearest(shapes: Family[Any]) -> None:
    with pytest.raises(ConfigError) as error:
        shapes["sqare"]
    assert one_line(error) == "no shape is called 'sqare', did you mean 'square'?"
    with pytest.raises(ConfigError, match="no shape is called 'x': there are square") as error:
        shapes.parse("x")
    one_line(error)
    with pytest.raises(ConfigError) as error:
        shapes["a\nname"]
    one_line(error)


def test_settings_that_are_wrong_say_so(shapes: Family[Any]) -> None:
    with pytest.raises(Inside):
        shapes.parse({"name": "square", "side": "long"})
    with pytest.raises(ValueError, match="name is missing: there are square"):
        shapes.parse({"side": 1.0})
    with pytest.raises(ValueError, match=r"Square is a class: give an object, Square\(…\)"):
        shapes.parse(shapes["square"])
    with pytest.raises(ValueError, match="give a name, or settings with one, not 3: there are square"):
        shapes.parse(3)
    with pytest.raises(ValueError, match=r"name is \[1\], which is no text: there are square"):
        shapes.parse({"name": [1]})
    with pytest.raises(ConfigError, match="object is no shape"):
        shapes.parse(object())


def test_a_class_is_an_attribute_of_its_folder(shapes: Family[Any]) -> None:
    shapes.register(Methods)
    assert shapes.attribute("Square") is shapes["square"]
    for name in ("Methods", "Disc", "_Square"):  # another's, nobody's, private
        with pytest.raises(AttributeError):
            shapes.attribute(name)


# Installed packages


def install(folder: Path, package: str, entry: str, module: str = "theirs", content: str = "") -> None:
    """Put a package on the path as pip leaves it, with one entry point."""
    about = folder / f"{package}-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(f"[shapes_of_a_test]\n{entry}\n")
    (folder / f"{module}.py").write_text(content)


THEIRS = SQUARE.replace("@SHAPES.register\n", "").replace("Square", "Hexagon").replace('"square"', '"hexagon"')


def test_a_package_joins_when_it_is_named_and_not_before(shapes: Family[Any], tmp_path: Path) -> None:
    install(tmp_path, "hexagons", "hexagon = theirs:Hexagon", content=THEIRS)
    assert sorted(shapes) == ["hexagon", "square"]
    assert "hexagon" in shapes
    assert (shapes.origin("hexagon").what, shapes.origin("hexagon").code) == ("hexagons 1.2", "theirs:Hexagon")
    assert "theirs" not in sys.modules
    assert shapes.parse({"name": "hexagon", "side": 2.0}).area() == 4
    assert shapes.origin("hexagon").what == "hexagons 1.2"
    assert shapes.own() == {}


@pytest.mark.parametrize(
    ("entry", "content", "words"),
    [
        ("hexagon = theirs:Hexagon", "raise OSError('no\\nway')", r"cannot be imported \(OSError: no way"),
        ("hexagon = theirs:Heptagon", THEIRS, "cannot be imported"),
        ("octagon = theirs:Hexagon", THEIRS, "offers shape 'octagon', which calls itself 'hexagon'"),
        ("square = theirs:Square", THEIRS, "shape 'square' is claimed by built-in and by hexagons 1.2"),
        ("hexagon = theirs:Hexagon", "class Hexagon: pass", "Hexagon is no shape"),
    ],
)
def test_a_package_that_is_broken_gets_one_line(
    shapes: Family[Any], tmp_path: Path, entry: str, content: str, words: str
) -> None:
    install(tmp_path, "hexagons", entry, content=content)
    with pytest.raises(ConfigError, match=words) as error:
        shapes[entry.split()[0]]
    one_line(error)


def test_two_packages_that_claim_a_name_are_refused(shapes: Family[Any], tmp_path: Path) -> None:
    for package in ("hexagons", "polygons"):
        install(tmp_path, package, "hexagon = theirs:Hexagon", content=THEIRS)
    with pytest.raises(ConfigError, match=r"claimed by hexagons 1\.2 and by polygons 1\.2: uninstall all but one"):
        shapes["hexagon"]


# Members whose code is not here

GONE: dict[str, Any] = {
    "data": {"name": "gone_data", "rows": [1, 2]},
    "generator": {"name": "gone_generator", "inner": {"width": 3}},
    "mixing": {"name": "gone_mixing", "share": 0.5},
    "features": {"name": "gone_features"},
    "metrics": ["w2_held_out", "gone_metric"],
}


def settings(*gone: str) -> dict[str, Any]:
    plain = {"name": "x", "data": {"name": "two_moons", "n": 20}, "generator": {"name": "gaussian"}, "generations": 1}
    return plain | {key: GONE[key] for key in gone}


@pytest.mark.parametrize("gone", [*([key] for key in GONE), list(GONE)], ids=lambda gone: " ".join(gone))
def test_what_is_not_here_is_read_and_written_as_it_was(gone: list[str]) -> None:
    text = yaml.safe_dump(settings(*gone))
    with pytest.raises(ConfigError, match="is called 'gone_") as error:
        Experiment.parse(text)
    one_line(error)
    experiment = Experiment.parse(text, absent=True)
    plain = yaml.safe_load(experiment.yaml())
    assert {key: plain[key] for key in gone} == {key: GONE[key] for key in gone}
    again = Experiment.parse(experiment.yaml(), absent=True)
    assert again.yaml() == experiment.yaml()
    assert again == experiment
    assert again.digest() == experiment.digest()
    assert [arm.seed for arm in arms(experiment)] == [0]


def test_a_grid_over_what_is_not_here_is_read() -> None:
    plain = settings("mixing") | {"grid": {"mixing.share": [0.25, 0.75]}}
    experiment = Experiment.parse(yaml.safe_dump(plain), absent=True)
    assert [arm.plain for arm in arms(experiment)] == [{"mixing.share": 0.25}, {"mixing.share": 0.75}]


@pytest.mark.parametrize("word", ["data", "generator", "mixing", "features"])
def test_using_what_is_not_here_gets_one_line(word: str) -> None:
    member = getattr(Experiment.build(settings(word), absent=True), word)
    assert isinstance(member, Absent)
    for use in (lambda: member.load([0]), lambda: member(0, None)):
        with pytest.raises(ConfigError, match=f"{word} 'gone_{word}' is not known here: run the program") as error:
            use()
        one_line(error)


@pytest.mark.parametrize("gone", list(GONE))
def test_running_what_is_not_here_gets_one_line_and_writes_nothing(gone: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"gone_{gone.removesuffix('s')}") as error:
        list(run(Experiment.build(settings(gone), absent=True), tmp_path / "run"))
    one_line(error)
    assert not (tmp_path / "run").exists()


# A program's own


MINE = SQUARE.replace("Square", "Mine").replace('"square"', '"mine"')


def test_a_file_is_imported_once(shapes: Family[Any], tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    import_code(str(path))
    first = shapes["mine"]
    import_code(str(path))
    assert shapes["mine"] is first
    assert shapes.origin("mine").what == "program"
    assert {str(path): shapes.origin("mine").sha256} == code_of_programs.IMPORTED


def test_files_of_one_name_do_not_hide_each_other_nor_modules(shapes: Family[Any], tmp_path: Path) -> None:
    """One of a module that there is already, built in or not, and one of a library that may yet be imported."""
    files = {"one": "mine", "other": "mine", "clock": "time", "numbers": "numpy", "later": "library_of_tests"}
    (tmp_path / "library_of_tests.py").write_text("here = True")
    for name, stem in files.items():
        path = tmp_path / name / f"{stem}.py"
        path.parent.mkdir()
        path.write_text(MINE.replace("Mine", name.title()).replace('"mine"', f'"{name}"'))
        import_code(str(path))
    assert sorted(shapes) == sorted(["square", *files])
    assert len({shapes.origin(name).sha256 for name in files}) == len(files)
    assert importlib.import_module("time").monotonic()
    assert importlib.import_module("library_of_tests").here


def test_a_module_is_imported(shapes: Family[Any], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    import_code("mine")
    assert shapes["mine"].__module__ == "mine"
    assert list(code_of_programs.IMPORTED) == ["mine"]


def test_code_that_cannot_be_imported_gets_one_line_and_leaves_nothing(shapes: Family[Any], tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    for content, words in (
        ("raise RuntimeError('first\\nsecond')", "RuntimeError: first second"),
        ("x = (", "SyntaxError"),
        ("import no_such_module", "No module named 'no_such_module'"),
    ):
        path.write_text(content)
        with pytest.raises(ConfigError, match=words) as error:
            import_code(str(path))
        assert one_line(error).startswith(f"--import {path}: it cannot be imported: ")
        assert "mine" not in sys.modules
    path.write_text(
        "from selfloop.generators import GENERATORS\n\n\n@GENERATORS.register\nclass Mine:\n    name = 'x'\n"
    )
    with pytest.raises(ConfigError, match=rf"^--import {path}: Mine is no .* \(mine.py, line 4\)$"):
        import_code(str(path))
    for word, words in ((str(tmp_path / "nowhere.py"), "there is no such file"), ("no_such.module", "no such module")):
        with pytest.raises(ConfigError, match=words) as error:
            import_code(word)
        one_line(error)
    assert code_of_programs.IMPORTED == {}


def test_nothing_of_its_own_is_nothing_to_send(shapes: Family[Any]) -> None:
    assert shapes["square"]
    assert own_code() == b""
    learn(b"")


def test_what_cannot_be_sent_or_read_gets_one_line(shapes: Family[Any]) -> None:
    class Locked(Methods):
        lock: ClassVar[Any] = threading.Lock()

    shapes.register(Locked)
    with pytest.raises(ConfigError, match=r"cannot be sent to workers \(.*\): use workers=0") as error:
        own_code()
    one_line(error)
    with pytest.raises(ConfigError, match="a worker process cannot load what the program defines") as error:
        learn(b"junk")
    one_line(error)


PROGRAM = """
import sys
from pathlib import Path
from typing import Literal

from selfloop.core.code import TABLES, import_code, own_code
from selfloop.data.base import DATA
from selfloop.data.toy import TwoMoons
from selfloop.mixing import MIXINGS, Regime

@MIXINGS.register
class Half(Regime):
    name: Literal["half"] = "half"
    share: float = 0.5

    def __call__(self, t, pool):
        return pool.real.first(int(self.share * pool.n))

class Moons(TwoMoons):
    n: int = 30

DATA.parse(Moons())
TABLES.setdefault("estimator", {})["a factory"] = dict
import_code(sys.argv[1])
Path(sys.argv[2]).write_bytes(own_code())
"""

IMPORTED_FILE = """
from selfloop.mixing import MIXINGS, Augment

@MIXINGS.register
class Mine(Augment):
    name: str = "mine"
"""

WORKER = """
import sys
from pathlib import Path

from selfloop.core.code import IMPORTED, TABLES, learn
from selfloop.data.base import DATA
from selfloop.experiment import Experiment
from selfloop.mixing import MIXINGS

code = Path(sys.argv[1]).read_bytes()
assert "half" not in MIXINGS and "mine" not in MIXINGS
learn(code)
first = MIXINGS["half"]
learn(code)
assert MIXINGS["half"] is first
assert MIXINGS.parse({"name": "half", "share": 0.25}).share == 0.25
assert DATA.parse("Moons").load([0]).train.shape == (1, 30, 2)
assert TABLES["estimator"]["a factory"] is dict
assert MIXINGS["mine"].__module__ == "mine" and list(IMPORTED) == [sys.argv[2]], IMPORTED
assert {MIXINGS.origin(name).what for name in ("half", "mine")} == {"program"}
plain = {"name": "x", "data": "Moons", "generator": "gaussian", "mixing": "half", "generations": 1}
assert Experiment.build(plain).mixing == first()
print("learnt")
"""


def script(path: Path, content: str, *arguments: str | Path) -> str:
    path.write_text(textwrap.dedent(content))
    source = str(Path(selfloop.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(path), *map(str, arguments)],
        env={"PYTHONPATH": source, "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_what_a_program_defines_and_imports_is_known_to_a_fresh_process(tmp_path: Path) -> None:
    """Classes of the script itself, of a file that it imported, and what else it gave a name to."""
    imported = tmp_path / "elsewhere" / "mine.py"
    imported.parent.mkdir()
    imported.write_text(IMPORTED_FILE)
    script(tmp_path / "program.py", PROGRAM, imported, tmp_path / "code")
    assert script(tmp_path / "worker.py", WORKER, tmp_path / "code", imported) == "learnt"


def test_messages_name_nothing_that_cannot_be_run() -> None:
    from selfloop.generators.base import GENERATORS
    from selfloop.mixing.base import MIXINGS

    for family in (GENERATORS, MIXINGS):
        assert "outside" in family
        with pytest.raises(ConfigError, match="is called") as error:
            _ = family["zzzzzz"]
        assert "outside" not in str(error.value)
        with pytest.raises(ValueError, match="there are") as wrong:
            family.parse(5)
        assert "outside" not in str(wrong.value)
