"""A Griffe extension: what mkdocstrings reads of keras_arch, beyond its source text."""

import re

import griffe

import keras_arch
from keras_arch.architectures.registry import ARCHITECTURES
from keras_arch.cli import quiet

log = griffe.get_logger("griffe_keras_arch")
SECTION = re.compile(r"^(Examples?|Reference|Note):\n((?: {4,}.*(?:\n|\Z)|\n)+)", re.MULTILINE)


class KerasArch(griffe.Extension):
    """Add the signatures of generated builders, mark examples as code, and require docstrings."""

    def on_package(self, *, pkg, loader, **kwargs):
        if pkg.path != "keras_arch":
            return
        for path in {row.module for row in ARCHITECTURES.values()}:
            add_generated_builders(pkg, f"architectures.{path}")
        for name, path in keras_arch._MODULE_OF.items():
            if not pkg[f"{path}.{name}"].has_docstring:
                log.warning("keras_arch.%s has no docstring", name)

    def on_object(self, *, obj, **kwargs):
        format_docstring(obj)


def add_generated_builders(pkg, path):
    """Add the builders of a module that a factory makes.

    Only the imported module has their signatures.
    """
    module = pkg[path]
    with quiet():
        inspected = griffe.inspect(f"keras_arch.{path}")
    for name, member in inspected.members.items():
        static = module.members.get(name)
        if isinstance(member, griffe.Function) and isinstance(static, griffe.Attribute):
            format_docstring(member)
            module.set_member(name, member)


def format_docstring(obj):
    """Mark the code of an example as Python, and show references and notes as paragraphs."""
    if obj.docstring is not None:
        obj.docstring.value = SECTION.sub(format_section, f"{obj.docstring.value}\n").strip()


def format_section(match):
    title, text = match.groups()
    if not title.startswith("Example"):
        return f"**{title}:** {re.sub(r'^ +', '', text, flags=re.MULTILINE).strip()}\n\n"
    if "```" not in text and ">>>" not in text:
        text = f"    ```python\n{text.rstrip()}\n    ```"
    return f"Examples:\n{text.rstrip()}\n\n"
