"""MkDocs hook: reference pages generated from the code when the site is built, so that they cannot go stale.

Settings come from `asdcore.settings`, the command line from Typer, the API from the modules of `asdcore` (mkdocstrings
reads their docstrings), changelog and contributing guide from the root of the repository.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from asdcore.setting_rows import SettingRow, setting_rows, shown_value
from asdcore.settings import PRESETS, Settings

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "asdcore"
SETTINGS_INTRODUCTION = """# Settings

Every setting, generated from `asdcore/settings.py`. Everyday settings are in **bold** (`asd settings` lists them
first), the others are for experts. On the command line `--set stage.name=value` changes one, `--settings FILE` reads
[a file](../how-to/operations.md#a-settings-file), and `--preset` chooses the values to start from; in Python,
`Settings` holds one object per stage. Where a preset changes a default, its value is listed below the default.
"""
COMMAND_LINE_INTRODUCTION = """# Command line

Generated from the help of the commands. Exit codes: 0 done, 1 the work failed, 2 wrong usage; of `asd score` 3:
something is anomalous, 4: nothing is, but something is suspect, 1: something could not be scored; of `asd screen` 4:
something stands out, 1: nothing does, but something could not be ranked.

`asd --install-completion` installs completion of commands and options for the current shell.
"""
INTRODUCTION_OF_A_PACKAGE = """
    options:
      members: false
      show_root_heading: false
      show_root_toc_entry: false
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the API pages into the navigation, below Reference."""
    assert config.nav is not None
    (reference,) = (entry["Reference"] for entry in config.nav if "Reference" in entry)
    reference.append({"API": [{name: f"reference/api/{name}.md"} for name in _api_pages()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {"reference/settings.md": _settings_page(), "reference/cli.md": _command_line_page()}
    pages |= {f"reference/api/{name}.md": text for name, text in _api_pages().items()}
    pages |= {f"examples/{path.name}": path.read_text() for path in sorted((ROOT / "examples").glob("*.ipynb"))}
    for name in ("CHANGELOG", "CONTRIBUTING"):
        pages[f"{name.lower()}.md"] = (ROOT / f"{name}.md").read_text().replace("](docs/", "](")
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to notebooks, which lie beside the documentation in the repository, lead to their copies in the site."""
    return markdown.replace("](../examples/", "](examples/").replace("](../../examples/", "](../examples/")


def _settings_page() -> str:
    presets = {name: {row.name: row.value for row in setting_rows(Settings.preset(name))} for name in PRESETS}
    parts = [SETTINGS_INTRODUCTION]
    for stage, field in Settings.model_fields.items():
        assert field.annotation is not None
        parts.append(f"## `{stage}`\n\n{_first_paragraph(field.annotation.__doc__)}\n")
        parts.append("| setting | takes | unit | default | description |\n|---|---|---|---|---|")
        parts += [_row(row, presets) for row in setting_rows() if row.name.startswith(f"{stage}.")]
        parts.append("")
    return "\n".join(parts)


def _row(row: SettingRow, presets: dict[str, dict[str, Any]]) -> str:
    others = [
        f"{preset}: `{_shown(values[row.name])}`"
        for preset, values in presets.items()
        if values[row.name] != row.default
    ]
    shown = "<br>".join([f"`{_shown(row.default)}`", *others])
    bold = "**" if row.common else ""
    return f"| {bold}`{row.name}`{bold} | {row.kind} | {row.unit} | {shown} | {_cell(row.description)} |"


def _shown(value: object) -> str:
    return shown_value(value) or "empty"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


def _command_line_page() -> str:
    """What `typer ... utils docs` prints."""
    command = [sys.executable, "-m", "typer", "flows.cli.app", "utils", "docs", "--name", "asd"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if made.returncode:
        raise RuntimeError(f"{' '.join(command)}: {made.stderr}")
    title, _, rest = made.stdout.partition("\n")
    assert title == "# `asd`", title
    return COMMAND_LINE_INTRODUCTION + rest


def _api_pages() -> dict[str, str]:
    """Page name to text: one page per package, and one for what is at the top of `asdcore`."""
    top = [path.stem for path in sorted(PACKAGE.glob("*.py")) if path.stem != "__init__"]
    pages = {"asdcore": _api_page("asdcore", [f"asdcore.{name}" for name in top])}
    for package in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        names = sorted(path.stem for path in package.glob("*.py") if not path.stem.startswith("_"))
        dotted = f"asdcore.{package.name}"
        pages[dotted] = _api_page(dotted, [f"{dotted}.{name}" for name in names])
    return pages


def _api_page(title: str, modules: list[str]) -> str:
    directives = "\n".join(f"::: {module}\n" for module in modules)
    return f"# {title}\n\n::: {title}{INTRODUCTION_OF_A_PACKAGE}\n{directives}"
