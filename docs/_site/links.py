"""A hook of mkdocs (`mkdocs.yml`): what the pages need so that one text reads well in the repository and on the site.

1. A link out of `docs/`, to code or a test, becomes its words and the path; a path that is not there fails the build.
2. An entry of the navigation that ends in a slash stands for the pages of that folder, by name.
"""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

_OUTWARD = re.compile(r"(?<!!)\[((?:[^\[\]]|\n)+?)\]\(((?:\.\./)+[^)\s#]*)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the folders of the navigation."""
    config.nav = _filled(config.nav or [], Path(config.docs_dir))
    return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Turn the links that lead out of the site into text."""
    docs = Path(config.docs_dir)
    here = (docs / page.file.src_uri).parent

    def told(match: re.Match[str]) -> str:
        words, path = match[1], match[2]
        target = Path(os.path.normpath(here / path))
        if target.is_relative_to(docs):
            return match[0]
        if not target.exists():
            raise PluginError(f"{page.file.src_uri}: links to {path}, which is not there")
        shown = f"`{target.relative_to(docs.parent)}`"
        return shown if words in (target.name, shown.strip("`")) else f"{words} ({shown})"

    return _OUTWARD.sub(told, markdown)


def _filled(nav: list[Any], docs: Path) -> list[Any]:
    filled: list[Any] = []
    for entry in nav:
        if isinstance(entry, dict):
            ((title, what),) = entry.items()
            if isinstance(what, str) and what.endswith("/"):
                found = [path for path in (docs / what).rglob("*.md") if not path.name.startswith("_")]
                # The folder's own page first, then the others by name.
                found.sort(key=lambda path: (path.name != "index.md", path))
                pages: list[Any] = [path.relative_to(docs).as_posix() for path in found]
                if pages:
                    filled.append({title: pages})
                continue
            entry = {title: _filled(what, docs) if isinstance(what, list) else what}
        filled.append(entry)
    return filled
