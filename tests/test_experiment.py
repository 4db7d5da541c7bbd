"""Experiments: what settings mean, how arms are stacked, and the one line that each mistake gets."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfloop.arms import arms, stacks
from selfloop.core.capabilities import Capability
from selfloop.core.errors import ConfigError, DataError
from selfloop.core.recipes import recipes
from selfloop.experiment import Experiment
from selfloop.mixing import Augment

PLAIN: dict[str, Any] = {
    "name": "x",
    "data": {"name": "two_moons", "n": 100},
    "generator": {"name": "otcfm"},
    "generations": 3,
    "budget": {"epochs": 5},
    "seeds": 4,
    "grid": {"mixing.lam": [0, 0.5, math.inf]},
}


def build(**more: Any) -> Experiment:
    return Experiment.build(PLAIN | more)


@pytest.mark.parametrize("name", recipes())
def test_yaml_round_trip(name: str) -> None:
    experiment = Experiment.load(name)
    assert Experiment.parse(experiment.yaml()) == experiment
    assert Experiment.parse(experiment.yaml()).digest() == experiment.digest()


def test_digests_tell_experiments_apart() -> None:
    assert build().digest() == build().digest()
    assert build().digest() != build(generations=4).digest()


def test_arms_are_all_combinations_times_the_seeds() -> None:
    found = arms(build(grid={"mixing.lam": [0, 1], "data.n": [10, 20]}, seeds=[7, 9]))
    assert [a.index for a in found] == list(range(8))
    assert [a.seed for a in found] == [7, 9] * 4
    assert [(a.experiment.mixing.lam, a.experiment.data.n) for a in found[::2]] == [(0, 10), (0, 20), (1, 10), (1, 20)]
    assert found[-1].plain == {"mixing.lam": 1.0, "data.n": 20}
    assert len({a.key for a in found}) == 8


@given(st.lists(st.sampled_from([0, 0.1, 0.5, 1, 1.5, 2, math.inf]), min_size=1, unique=True), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_every_arm_is_in_one_stack_with_arms_that_draw_as_many_samples(lams: list[float], seeds: int) -> None:
    experiment = build(grid={"mixing.lam": lams}, seeds=seeds)
    groups = stacks(arms(experiment))
    assert sorted(a.index for group in groups for a in group) == list(range(len(lams) * seeds))
    for group in groups:
        assert 1 <= len(group) <= experiment.generator.stack
        assert len({max(100, a.experiment.mixing.synthetic(100)) for a in group}) == 1
    if len(lams) * seeds > 1:
        assert len(groups) > 1


def test_override_by_keywords_says_how_it_is_written() -> None:
    with pytest.raises(ConfigError, match=r"as text, .*: override\('generations=5'\)$"):
        build().override(generations=5)


def test_override_replaces_nested_settings_and_whole_parts() -> None:
    changed = build().override("generator.width=32", "generator.optimizer.learning_rate=0.01", "budget.steps=7")
    assert changed.generator.width == 32
    assert changed.generator.optimizer.learning_rate == 0.01
    assert (changed.budget.steps, changed.budget.epochs) == (7, None)
    other = changed.override("generator.name=gaussian", "data.name=digits", "grid.mixing.lam=[1, inf]")
    assert other.generator.name == "gaussian"
    assert other.data.held_out == 360
    assert other.grid == {"mixing.lam": [1, "inf"]}
    assert math.isinf(arms(other)[-1].experiment.mixing.lam)


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        ("generator.widht=3", "no setting is called 'generator.widht', did you mean 'generator.width'?"),
        ("generatr.width=3", "no setting is called 'generatr' (in 'generatr.width'), did you mean 'generator'?"),
        ("genrations=3", "no setting is called 'genrations', did you mean 'generations'?"),
        ("generator.optimizer.beta=1", "no setting is called 'generator.optimizer.beta', did you mean 'beta2'?"),
        ("budget.epoch=3", "no setting is called 'budget.epoch', did you mean 'epochs'?"),
        ("data.name=two_mons", "data: no data is called 'two_mons', did you mean 'two_moons'?"),
        ("generations=0", "generations: must be greater than 0, not 0"),
        ("data.n=1.5", "data.n: must be a whole number, as 10, not 1.5"),
        ("generator.width=true", "generator.width: must be a whole number, as 10, not True"),
        ("retrain=hot", "retrain: must be 'warm' or 'scratch', not 'hot'"),
        ("mixing.lam=-0.1", "mixing.lam: λ must be 0 or more, or inf for the fully synthetic loop, not -0.1"),
        ("mixing.lam=.nan", "mixing.lam: λ must be 0 or more, or inf for the fully synthetic loop, not nan"),
        ("grid.mixing.lam=[]", "grid: mixing.lam needs at least one value, and each only once"),
        ("grid.mixing.lam=[1, 1]", "grid: mixing.lam needs at least one value, and each only once"),
        ("seeds=[1, 1]", "seeds: name at least one seed, and each only once"),
        ("metrics=[w2_heldout]", "metrics: no metric is called 'w2_heldout', did you mean 'w2_held_out'?"),
        (
            "name=../x",
            "name: must be at most 64 letters, digits, dots, dashes and underscores, a letter or digit first, as "
            "two-moons_1, not '../x'",
        ),
    ],
)
def test_each_mistake_gets_one_line(assignment: str, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        build().override(assignment)
    assert str(error.value) == line


@pytest.mark.parametrize("name", ["ddpm", "vae"])
def test_a_likelihood_needs_a_generator_that_has_one(name: str) -> None:
    with pytest.raises(ConfigError, match=f"metric nll needs log_prob, which generator {name} does not have"):
        build().override(f"generator.name={name}", "metrics=[nll]")
    assert build().override("metrics=[nll]").generator.name == "otcfm"


def test_parts_that_do_not_go_together_get_one_line() -> None:
    """However the experiment is made."""
    for more, line in (
        ({"budget": None}, "generator otcfm is trained by gradient steps: give a budget"),
        (
            {"generator": {"name": "edm"}},
            "generator edm makes images, and data two_moons holds vectors: choose one that makes these, as bernoulli, "
            "categorical, copula, ddpm, ensemble, exponential, flow, gaussian, kernel_density, linear_regression, "
            "logistic_regression, mixture, otcfm, poisson, random_features, vae",
        ),
        (
            {"data": {"name": "digit_images"}},
            "generator otcfm makes vectors, and data digit_images holds images: choose one that makes these, as "
            "ddpm_images, diffusers, edm, otcfm_images",
        ),
        ({"features": "classifier"}, "features classifier needs a form as images, which data two_moons does not have"),
        ({"metrics": ["mode_coverage"]}, "metric mode_coverage needs known modes, which data two_moons does not have"),
    ):
        for make in (Experiment.build, lambda plain: Experiment(**plain)):
            with pytest.raises(ConfigError) as error:
                make(PLAIN | more)
            assert str(error.value) == line
    with pytest.raises(ConfigError, match="grid: generator edm makes images, and data two_moons holds vectors"):
        build(grid={"generator.name": ["otcfm", "edm"]})


def test_a_grid_may_name_whole_members() -> None:
    """Given as names, settings or objects; infinite settings within them are JSON too."""
    grid = {"data": ["two_moons", {"name": "rings", "n": 50}], "mixing": [{"lam": 0}, Augment(lam=math.inf)]}
    experiment = build(grid=grid, seeds=1)
    found = arms(experiment)
    assert [(a.experiment.data.name, a.experiment.mixing.lam) for a in found] == [
        ("two_moons", 0),
        ("two_moons", math.inf),
        ("rings", 0),
        ("rings", math.inf),
    ]
    assert found[1].plain["mixing"] == {"name": "augment", "lam": "inf"}
    assert all(json.dumps(a.plain, allow_nan=False) for a in found)
    assert Experiment.parse(experiment.yaml()) == experiment


def test_a_trained_generator_needs_a_budget() -> None:
    with pytest.raises(ConfigError, match="give a budget"):
        build(budget=None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "is not plain YAML at line "),
        ("just words", "does not describe an experiment"),
        ("!!python/object/apply:os.system ['true']", "is not plain YAML at line 1: could not determine a constructor"),
        ("name: x", "is missing"),
        ("", "does not describe an experiment"),
    ],
)
def test_files_that_are_no_experiment(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words) as error:
        Experiment.load(tmp_path / "x.yaml")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        Experiment.load(tmp_path / "x.yaml")


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([*Experiment.model_fields, "nonsense"]), junk)
@settings(max_examples=150, deadline=None)
def test_junk_gives_an_experiment_or_one_line(key: str, value: Any) -> None:
    try:
        Experiment.build(PLAIN | {key: value})
    except (ConfigError, DataError) as error:  # a list is data in memory
        lines = str(error).splitlines()
    else:
        return
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("recipe", "name", "others"),
    [
        ("fig4-small", "data.name=eight_gaussians", ["data.scale=3", "data.n=1e2"]),
        ("fig4-small", "generator.name=mixture", ["generator.components=3", "generator.floor=1e-3"]),
        ("digits-edm-small", "features.name=torchscript", ["features.path=x.pt"]),
        ("fig4-small", "data.name=table", ["data.path=t.csv"]),
    ],
)
def test_a_member_and_its_settings_are_set_in_any_order(recipe: str, name: str, others: list[str]) -> None:
    experiment = Experiment.load(recipe)
    if recipe == "digits-edm-small":
        experiment = experiment.override("metrics=[variance_ratio]")
    found = [experiment.override(*order).model_dump() for order in ([name, *others], [*others, name])]
    assert found[0] == found[1]
    for assignment in others:
        (family, key), value = assignment.split("=")[0].split("."), assignment.split("=")[1]
        assert str(found[0][family][key]) in (value, str(float(value)) if value[0] in ".123" else "", "100")


@pytest.mark.parametrize(
    ("assignments", "line"),
    [
        (["seeds=2", "seeds=3"], "'seeds' is set twice"),
        (["lam=0.5"], "did you mean 'mixing.lam'"),
        (["budget.steps=2", "budget.epochs=3"], "both set"),
    ],
)
def test_assignments_that_mean_nothing_get_one_line(assignments: list[str], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        build(grid={}).override(*assignments)


class TestExtends:
    def test_a_key_given_twice_anywhere_in_the_chain(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("extends: b.yaml\nname: a\n")
        (tmp_path / "b.yaml").write_text("extends: fig4-small\ndata: {n: 50, n: 60}\n")
        with pytest.raises(ConfigError, match=r"b.yaml' at line 2: key 'n' is given twice"):
            Experiment.load(tmp_path / "a.yaml")

    def test_a_chain_without_end(self, tmp_path: Path) -> None:
        for i in range(1500):
            (tmp_path / f"{i}.yaml").write_text(f"extends: {i + 1}.yaml\n")
        (tmp_path / "1500.yaml").write_text("extends: fig4-small\n")
        with pytest.raises(ConfigError, match="end of more than 16"):
            Experiment.load(tmp_path / "0.yaml")
        assert Experiment.load(tmp_path / "1490.yaml") == Experiment.load("fig4-small")

    def test_a_circle(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
        (tmp_path / "b.yaml").write_text("extends: ./a.yaml\n")
        with pytest.raises(ConfigError, match="extends it in turn"):
            Experiment.load(tmp_path / "a.yaml")


def test_a_file_that_has_no_end_is_read_no_further_than_the_limit() -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("no /dev/zero")
    with pytest.raises(ConfigError, match=r"longer than|no recipe or file"):
        Experiment.load("/dev/zero")


def test_a_setting_that_the_grid_varies_is_not_set_in_vain() -> None:
    with pytest.raises(ConfigError, match=r"mixing.lam is what the grid varies: set grid.mixing.lam=\["):
        build().override("mixing.lam=3")
    assert build().override("mixing.lam=3", "grid={}").mixing.lam == 3
    assert build().override("grid.mixing.lam=[3]").grid == {"mixing.lam": [3]}


def test_a_regime_that_needs_fresh_rows_says_what_sets_them_aside() -> None:
    class Fresh(Augment):
        name: Literal["fresh_in_a_test"] = "fresh_in_a_test"
        needs: ClassVar[frozenset[Capability]] = frozenset(("fresh",))

    settings = PLAIN | {"data": {"name": "digits"}, "mixing": Fresh(), "grid": {}}
    with pytest.raises(ConfigError, match=r"needs fresh rows, which data digits does not have: set data.fresh_rows"):
        Experiment.build(settings)


BARE = {"name": "x", "generations": 1}


@pytest.mark.parametrize(
    ("given", "base"),
    [
        (
            {"grid": {"generator": ["gaussian", {"name": "mixture", "components": 2}], "data": ["rings", "two_moons"]}},
            "rings",
        ),
        ({"grid": {"generator.name": ["gaussian", "kernel_density"], "data": [{"name": "circles"}]}}, "circles"),
        ({"generator": "gaussian", "grid": {"data.name": ["pinwheel", "rings"]}}, "pinwheel"),
    ],
)
def test_the_grid_alone_may_give_data_and_generator(given: dict[str, Any], base: str) -> None:
    found = Experiment.build(BARE | given)
    assert (found.generator.model_dump()["name"], found.data.model_dump()["name"]) == ("gaussian", base)
    assert Experiment.parse(found.yaml()) == found
    assert len(arms(found)) == len(found.variants())


def test_only_the_arms_of_a_grid_need_go_together() -> None:
    base = BARE | {"data": "rings", "generator": "otcfm"}
    assert len(arms(Experiment.build(base | {"grid": {"budget": [{"steps": 1}, {"steps": 2}]}}))) == 2
    images = BARE | {"data": "digit_images", "generator": "gaussian"}
    assert len(arms(Experiment.build(images | {"grid": {"data": ["rings", "circles"]}}))) == 2
    with pytest.raises(ConfigError, match=r"^grid: generator otcfm is trained by gradient steps: give a budget"):
        Experiment.build(base | {"generator": "gaussian", "grid": {"generator": ["gaussian", "otcfm"]}})
    with pytest.raises(ConfigError, match=r"^generator otcfm is trained by gradient steps: give a budget"):
        Experiment.build(base | {"grid": {"data.n": [10, 20]}})


@pytest.mark.parametrize("whole", ["mixing", "mixing.name"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_grid_of_regimes_and_of_a_setting_that_one_lacks(whole: str, turned: bool) -> None:
    base = BARE | {"data": "rings", "generator": "gaussian"}
    grid = [(whole, ["augment", "replace"]), ("mixing.lam", [0, 1])]
    with pytest.raises(
        ConfigError, match=rf"^grid: {whole} and mixing\.lam are both varied, and {whole} = replace has no"
    ):
        Experiment.build(base | {"grid": dict(grid[::-1] if turned else grid)})
    both = [("mixing.lam", [0, 1]), (whole, ["augment"])]
    assert len(Experiment.build(base | {"grid": dict(both[::-1] if turned else both)}).variants()) == 2


class Halved:
    def fit(self, x: Any) -> None: ...


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"generator": "gaussian"}, r"data is missing: set data, or grid.data to a list, out of .*two_moons"),
        ({"data": "rings"}, r"generator is missing: set generator, or grid.generator to a list, out of .*gaussian"),
        ({"data": "rings", "generator": None}, "generator: give a name, or settings with one, not None: there are"),
        ({"data": 3, "generator": "gaussian"}, "data: give a name, or settings with one, not 3: there are"),
        ({"data": {"name": 1}, "generator": "gaussian"}, "data: name is 1, which is no text: there are"),
        ({"data": {"name": None}, "generator": "gaussian"}, "data: name is missing: there are"),
        ({"data": "rings", "generator": True}, "generator: give a name, or settings with one, not True"),
        (
            {"data": "rings", "generator": "gaussian", "mixing": None},
            "mixing: give a name, or settings with one, not None",
        ),
        ({"data": "rings", "generator": "gaussian", "features": [1]}, r"features: give a name, .* not \[1\]"),
        (
            {"data": "loop.csv", "generator": "gaussian"},
            r"data: no data is called 'loop.csv': .* \{name: table, path",
        ),
        (
            {"data": Path("loop.csv"), "generator": "gaussian"},
            r"data: PosixPath is no data: .* \{name: table, path:",
        ),
        (
            {"data": [[1.0]], "generator": "gaussian"},
            r"data: \[\[1.0\]\] is no data: give a name, .* an array, a tens",
        ),
        (
            {"data": "rings", "generator": dict},
            r"generator: dict is no generator: .* that has fit\(X\) and sample",
        ),
        ({"data": "rings", "generator": Halved}, r"generator: Halved has no method sample: a model needs fit\(X\) and"),
        ({"data": "rings", "generator": Halved()}, r"generator: Halved has no method sample: a model needs fit"),
    ],
)
def test_what_is_no_member_is_said_in_yamls_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Experiment.build(BARE | changes)


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("grid.lam=[0,1]", "no setting is called 'lam', did you mean 'mixing.lam'?"),
        ("metrics=[fid]", "did you mean 'frechet_train' or 'frechet_held_out'?"),
        ("metrics=[mmd]", "did you mean 'mmd_rbf_train' or 'mmd_rbf_held_out'?"),
        ("generator.optimizer.lr=1", "did you mean 'learning_rate'?"),
        ("metrics=[nothing_like_it]", "more, which selfloop list shows"),
    ],
)
def test_what_the_field_calls_otherwise_is_understood(setting: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(meant)):
        Experiment.load("fig4-small").override(setting)


def test_a_required_key_that_is_mistyped_is_named() -> None:
    plain = {"name": "t", "data": "two_moons", "generator": "gaussian", "generations": 2}
    for wrong, right in (("generatons", "generations"), ("generater", "generator"), ("dta", "data")):
        settings = {key: value for key, value in plain.items() if key != right} | {wrong: plain[right]}
        with pytest.raises(ConfigError, match=f"no setting is called '{wrong}', did you mean '{right}'"):
            Experiment.build(settings)
    with pytest.raises(ConfigError, match=r"no setting is called 'data\.pth', did you mean 'path'"):
        Experiment.build(plain | {"data": {"name": "table", "pth": "x.csv"}})
    with pytest.raises(ConfigError, match="generations is missing"):
        Experiment.build({key: value for key, value in plain.items() if key != "generations"})


def test_a_directory_is_no_experiment(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match="run' is a directory: give a recipe's name or a YAML file"):
        Experiment.load(str(tmp_path / "run"))
    (tmp_path / "run/experiment.yaml").touch()
    with pytest.raises(ConfigError, match="run' is a run directory: give its recipe or YAML file, and --out "):
        Experiment.load(str(tmp_path / "run"))


def test_never_changes() -> None:
    experiment = Experiment.load("fig4-small")
    with pytest.raises(ConfigError, match=r"never changes: \.override\('generations=…'\) returns another"):
        experiment.generations = 5
    assert experiment.override("generations=5").generations == 5


def test_a_setting_that_a_regime_does_not_have_is_no_typo_of_its_name() -> None:
    plain = {"name": "mine", "data": "gaussian", "generator": "gaussian", "generations": 2}
    with pytest.raises(ConfigError, match=r"^no setting is called 'mixing.lam': accumulate has none but its name$"):
        Experiment.build(plain | {"mixing": "accumulate", "grid": {"mixing.lam": [0, 1]}})
    with pytest.raises(ConfigError, match=r"^no setting is called 'mixing.lam': replace has name, n$"):
        Experiment.build(plain | {"mixing": "replace", "grid": {"mixing.lam": [0, 1]}})
