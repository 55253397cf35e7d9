"""MkDocs hooks: every public name is on an API page, and links to files outside docs/ work.

`api/architectures.md` describes families of builders. Builders that it does not name follow at its
end.
"""

import html
import logging
import os
import posixpath
import re
from pathlib import Path

import keras_arch
from keras_arch.architectures.registry import ARCHITECTURES

log = logging.getLogger("mkdocs.hooks")  # `strict: true` makes its warnings errors
ROOT = Path(__file__).parent.parent
DIRECTIVE = re.compile(r"^::: keras_arch\.(\w+)$", re.MULTILINE)
BUILDERS_PAGE = "api/architectures.md"
BUILDER_SECTION = """
## {0}

::: keras_arch.{0}
    options:
      heading_level: 3
"""
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((\.\.?/[^)\s]+)\)")


def on_pre_build(config):
    """Warn of public names that are on no API page, or on two."""
    names = names_on_pages(config.docs_dir) + other_builders(config.docs_dir)
    for name in keras_arch.__all__:
        if names.count(name) != 1:
            log.warning("keras_arch.%s is on %d pages of docs/api, not 1", name, names.count(name))


def names_on_pages(docs_dir):
    """Return the public names in the Markdown files of docs/api/."""
    pages = Path(docs_dir, "api").glob("*.md")
    return [name for page in pages for name in DIRECTIVE.findall(page.read_text("utf-8"))]


def other_builders(docs_dir):
    """Return the builders that are in no Markdown file, in the order of the registry."""
    named = names_on_pages(docs_dir)
    return [row.builder for row in ARCHITECTURES.values() if row.builder not in named]


def on_page_markdown(markdown, page, config, files):
    """Add the other builders to their page, and rewrite links that leave docs/.

    Such links go to `repo_url` if it is set, else to this checkout.
    """
    if page.file.src_uri == BUILDERS_PAGE:
        markdown += "".join(map(BUILDER_SECTION.format, other_builders(config.docs_dir)))
    here = posixpath.dirname(page.file.src_uri)

    def replace(match):
        text, target = match.groups()
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join("docs", here, path))
        if path.startswith("docs/") and Path(ROOT, path).suffix == ".md":
            return match[0]  # MkDocs checks it
        if path.startswith("..") or not Path(ROOT, path).exists():
            log.warning("%s links to %s, which does not exist", page.file.src_uri, target)
            return match[0]
        if config.repo_url:
            url = f"{config.repo_url.rstrip('/')}/blob/main/{path}"
        else:
            url = os.path.relpath(path, Path("site", page.file.dest_uri).parent).replace("\\", "/")
        url += f"#{anchor}" if anchor else ""
        return f'<a href="{html.escape(url)}">{text}</a>'

    return LINK.sub(replace, markdown)
