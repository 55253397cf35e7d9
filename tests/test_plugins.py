"""Functions from Python files: `FILE.py:function`."""

import hashlib

import pytest

from keras_arch.errors import InputError
from keras_arch.plugins import (
    find_functions,
    hash_file,
    is_function,
    load_function,
    resolve_function,
)
from keras_arch.recipes import Recipe


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my.py:f", True),
        ("a b/my.py:f_2", True),
        ("C:\\my.py:f", True),
        ("my.py", False),
        ("my.py:", False),
        ("my.py:f()", False),
        ("my.txt:f", False),
        ("cutmix", False),
        (3, False),
    ],
)
def test_the_form_of_a_function(text, expected):
    assert is_function(text) == expected


def test_a_function_is_loaded_with_the_modules_of_its_directory(tmp_path):
    (tmp_path / "factor_of_this_test.py").write_text("FACTOR = 7\n")
    (tmp_path / "my.py").write_text(
        "from factor_of_this_test import FACTOR\ndef times(x):\n    return FACTOR * x\n"
    )
    assert load_function(f"{tmp_path}/my.py:times")(6) == 42


def test_a_file_is_imported_once_until_it_changes(tmp_path):
    file = tmp_path / "my.py"
    file.write_text("ITEMS = []\ndef f(): return ITEMS\ndef g(): return ITEMS\n")
    assert load_function(f"{file}:f")() is load_function(f"{file}:g")()
    before = hash_file(f"{file}:f")
    assert before == hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_text("def f(): return 'new'\n")
    assert load_function(f"{file}:f")() == "new"
    assert hash_file(f"{file}:f") != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"my\.py must be a Python file\. Received: a path that does not exist"),
        ("def g(): pass", r"Expected a function in .*my\.py\. Received: 'f'\. Use one of g"),
        ("f = 3", r"Expected a function in .*my\.py\. Received: 'f'\."),
        ("def f(:", r"my\.py cannot be imported\. Received: SyntaxError: "),
        ("import nothing_such", r"Received: ModuleNotFoundError: No module named 'nothing_such'"),
        ("raise ValueError('one\\ntwo')", r"Received: ValueError: one\. Correct the file"),
        ("exit(1)", r"my\.py cannot be imported\. Received: SystemExit: 1"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "my.py").write_text(content)
    with pytest.raises(InputError, match=message) as refused:
        load_function(f"{tmp_path}/my.py:f")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_other_texts_and_directories_are_refused(tmp_path):
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(InputError, match=r"must be a Python file\. Received: a directory"):
        load_function(f"{tmp_path}/folder.py:f")
    with pytest.raises(InputError, match=r"Expected FILE.py:function\. Received: 'cutmix'"):
        load_function("cutmix")


def test_functions_of_a_recipe_and_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = Recipe("resnet8", "x", 1, 0.1, augment="a.py:f", callback=("b.py:g", "c.py:h"))
    assert find_functions(recipe) == ["a.py:f", "b.py:g", "c.py:h"]
    assert resolve_function("a.py:f") == f"{tmp_path / 'a.py'}:f"
    assert resolve_function("cutmix") == "cutmix"
