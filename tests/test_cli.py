"""Command lines: what a script prints on stderr."""

import warnings

from keras_arch import cli
from keras_arch.errors import DataWarning


def test_a_warning_about_data_is_one_line(capsys):
    def main():
        for _ in range(2):
            warnings.warn("3 files are left out:\n  a.txt", DataWarning, stacklevel=2)

    cli.run(main)
    assert capsys.readouterr().err.splitlines() == ["warning: 3 files are left out: a.txt"] * 2
