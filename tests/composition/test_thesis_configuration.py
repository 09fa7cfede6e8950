"""Configuration files of the program behind arXiv:2301.12651, in all forms that it had."""

from __future__ import annotations

import json

import pytest

import landscape as ls
from landscape.composition.thesis_configuration import read_thesis_configuration
from landscape.errors import ConfigurationError

# The fields of the last form, as the program's output files list them.
LAST = {
    "H": 1,
    "convolution": False,
    "di": 2,
    "dx": 3,
    "dy": 2,
    "fix_seed": False,
    "m": 1,
    "reg": True,
    "reg_dist_params": [0, 1],
    "reg_parameterized": True,
    "runcount": 100,
    "start_params_complex": True,
    "stride": 1,
    "width": 1,
    "x_dist_params": [0, 1],
    "x_parameterized": True,
    "y_dist_params": [0, 1],
    "y_parameterized": True,
}
# The forms before it: without a seed, with another name for the convolution, and the first of all.
EARLIER = {key: value for key, value in LAST.items() if key != "fix_seed"}
WITH_FIRST_LAYER = {key: value for key, value in EARLIER.items() if key != "convolution"} | {
    "first_layer_conv": True,
    "width": 2,
}
FIRST = {"di": 2, "H": 1, "m": 1, "dx": 2, "dy": 2, "a": 0, "b": 1, "reg": "y", "runcount": 2}


def test_a_file_is_read_as_it_is(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{\t\n\t" + json.dumps(LAST)[1:])
    study = ls.CriticalPointStudy.from_config(path)
    assert study.model == ls.models.DeepLinear(widths=(3, 2, 2), examples=1)
    assert study.samples == 100
    assert study.solver == ls.solvers.Monodromy()
    # A seed that is new each time, and recorded.
    assert study.seed != ls.CriticalPointStudy.from_config(path).seed
    assert ls.CriticalPointStudy.from_config(path, samples=3, seed=5) == ls.CriticalPointStudy(
        study.model, study.solver, samples=3, seed=5
    )


def test_hidden_layers_are_counted_and_equally_wide():
    read = read_thesis_configuration(EARLIER | {"H": 3, "di": 4})
    assert read.model["widths"] == (3, 4, 4, 4, 2)
    assert read.notes == ()


def test_a_convolution_is_read_under_both_names():
    read = read_thesis_configuration(WITH_FIRST_LAYER)
    assert read.model["convolution"] == (2, 1)
    assert read.model["widths"] == (3, 2, 2)
    ls.models.DeepLinear(**read.model).family()


def test_inputs_that_a_convolution_does_not_reach_are_left_out_and_said():
    read = read_thesis_configuration(LAST | {"convolution": True, "width": 2, "stride": 1, "dx": 5})
    # Two filters of two weights, one apart, reach three inputs.
    assert read.model["widths"] == (3, 2, 2)
    assert "reaches 3 of dx = 5 inputs" in read.notes[0]
    ls.models.DeepLinear(**read.model).family()


def test_the_first_form_draws_lambda_anew_and_the_data_once():
    read = read_thesis_configuration(FIRST)
    assert set(read.model["once"]) == {"inputs", "targets"}
    assert read.model["regularisation"] == "uniform(0, 1)"
    assert read.samples == 2


@pytest.mark.parametrize(
    ("flags", "once"),
    [
        ({"reg_parameterized": False}, {"regularisation"}),
        ({"x_parameterized": False}, {"inputs"}),
        ({"x_parameterized": False, "y_parameterized": False}, {"inputs", "targets"}),
    ],
)
def test_what_is_not_parameterized_is_drawn_once(flags, once):
    study = ls.CriticalPointStudy.from_config(LAST | flags, samples=4, seed=0)
    assert set(study.model.once) == once
    parameters = study.parameters()
    family = study.family()
    groups = {"regularisation": "lambda", "inputs": "x", "targets": "y"}
    for group, letter in groups.items():
        columns = [k for k, name in enumerate(family.parameter_names) if name.startswith(letter)]
        same = (parameters[:, columns] == parameters[:1, columns]).all()
        assert same == (group in once)


def test_distributions_are_the_named_ones_and_differences_are_said():
    read = read_thesis_configuration(
        LAST | {"reg_dist_params": [0.5, 2], "x_dist_params": [1, 3], "y_dist_params": [0, 0.1]}
    )
    assert read.model["regularisation"] == "uniform(0.5, 2)"
    assert read.model["inputs"] == "normal(1, 3)"
    assert read.model["targets"] == "normal(0, 0.1)"
    assert "took mean and standard deviation of Y from x_dist_params" in read.notes[0]
    with pytest.warns(UserWarning, match="Y follows y_dist_params"):
        ls.CriticalPointStudy.from_config(LAST | {"y_dist_params": [0, 2]})


def test_a_fixed_seed_is_that_of_the_program_and_its_generator_is_not():
    read = read_thesis_configuration(LAST | {"fix_seed": True})
    assert read.seed == 1234
    assert "generator is another" in read.notes[0]


def test_a_real_start_is_not_taken():
    assert (
        "start is complex all the same"
        in read_thesis_configuration(LAST | {"start_params_complex": False}).notes[0]
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"runcuont": 3}, "unknown field 'runcuont'.* Did you mean 'runcount'"),
        ({"di": [2, 3]}, r"'di' is \[2, 3\]; give a whole number"),
        ({"H": 0}, "'H' is 0; give a whole number of at least 1"),
        ({"m": True}, "'m' is True"),
        ({"dx": 2.5}, "'dx' is 2.5"),
        ({"reg": False}, "'reg' is false; without regularisation critical points are not isolated"),
        ({"reg": "perhaps"}, "'reg' is 'perhaps'; give true or false"),
        ({"x_parameterized": 1}, "'x_parameterized' is 1; give true or false"),
        ({"x_dist_params": [0]}, r"'x_dist_params' is \[0\]; give two numbers"),
        ({"y_dist_params": [0, -1]}, "'y_dist_params': .* negative standard deviation"),
        ({"reg_dist_params": [2, 1]}, "'reg_dist_params': .* low above high"),
        ({"x_dist_params": [float("nan"), 1]}, "'x_dist_params': .*"),
        (
            {"reg_parameterized": False, "x_parameterized": False, "y_parameterized": False},
            "are all false: all samples would be the same",
        ),
        ({"convolution": True, "width": 4}, "'di' = 2 filters of 'width' = 4 .* 'dx' is 3"),
        ({"convolution": True, "stride": 0}, "'stride' is 0"),
        (
            {"first_layer_conv": True},
            "'convolution' and 'first_layer_conv' are the same field and contradict",
        ),
        ({"a": 0}, "'a' and 'b' belong together"),
        ({"a": 0, "b": 2}, r"'reg_dist_params' is \[0.0, 1.0\], 'a' and 'b' are \[0.0, 2.0\]"),
    ],
)
def test_wrong_fields_are_refused_by_name(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        read_thesis_configuration(LAST | fields)


def test_what_is_missing_is_named():
    with pytest.raises(ConfigurationError, match="the field 'runcount' is missing"):
        read_thesis_configuration({key: value for key, value in LAST.items() if key != "runcount"})
    needed = {key: value for key, value in LAST.items() if key != "stride"} | {"convolution": True}
    with pytest.raises(ConfigurationError, match="with a convolution the field 'stride' is needed"):
        read_thesis_configuration(needed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", "holds no table of fields"),
        ('{"H": 1, "H": 2}', "the field 'H' stands twice"),
    ],
)
def test_files_that_are_something_else_are_refused(text, message, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_thesis_configuration(tmp_path / "config.json")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_thesis_configuration(tmp_path / "nothing.json")
