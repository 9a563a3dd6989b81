"""The documents say what is so: links lead somewhere, commands exist, figures of exit codes are the program's own."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from gateway import cli as gateway_cli
from host_tools import bootstrap
from host_tools import cli as host_cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ADRS = sorted((ROOT / "docs" / "adr").glob("*.md"))
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def dead_links(page: Path, content: str) -> list[str]:
    """Relative links of a page that lead nowhere."""
    targets = re.findall(r"\]\(([^)#\s]+)", content)
    return [target for target in targets if "://" not in target and not (page.parent / target).exists()]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))


def unknown_make_commands(content: str) -> set[str]:
    """`make` commands in code of a page that the Makefile does not have."""
    code = re.findall(r"`([^`\n]+)`", content) + re.findall(r"^ {4}(.+)$", content, re.MULTILINE)
    named = {match for line in code for match in re.findall(r"(?:^|\s)make ([a-z]+)\b", line)}
    return named - make_targets()


def commands(content: str) -> list[list[str]]:
    """The words of each `isotherm` and `isotherm-gateway` command in code of a page, up to a pipe or `...`."""
    code = re.findall(r"`(isotherm[^`\n]+)`", content)
    code += re.findall(r"^ {4}(?:\$ )?(isotherm.+)$", content.replace("\\\n", " "), re.MULTILINE)
    found = []
    for line in code:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # prose with an apostrophe
            continue
        ends = [words.index(mark) for mark in ("|", ">", "&", "...", "&&") if mark in words]
        found.append(words[: min(ends, default=len(words))])
    return [words for words in found if words[0] in ("isotherm", "isotherm-gateway") and len(words) > 1]


def what_is_wrong(words: list[str]) -> str:
    """The first word of a command that the command line does not know; empty when it knows all."""
    command: click.Command | None = host_cli.isotherm if words[0] == "isotherm" else gateway_cli.main
    for number, word in enumerate(words[1:], 1):
        alternatives = word.split("|")
        if isinstance(command, click.Group) and not word.startswith("-"):
            context = click.Context(command)
            if any(name not in command.list_commands(context) for name in alternatives):
                return word
            command = command.get_command(context, alternatives[0])
            continue
        assert command is not None
        known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {
            "--help",
            "--version",
        }
        for option in words[number:]:
            if option.startswith("--") and option.partition("=")[0] not in known:
                return option
        return ""
    return ""


@EVERY_PAGE
def test_isotherm_commands_exist(page: Path) -> None:
    wrong = [(words, bad) for words in commands(page.read_text(encoding="utf-8")) if (bad := what_is_wrong(words))]
    assert wrong == []


@EVERY_PAGE
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page, page.read_text(encoding="utf-8")) == []


@EVERY_PAGE
def test_make_commands_exist(page: Path) -> None:
    assert unknown_make_commands(page.read_text(encoding="utf-8")) == set()


def test_these_checks_can_fail() -> None:
    assert dead_links(ROOT / "README.md", "[a](docs/nowhere.md) [b](https://x.example) [c](LICENSE)") == [
        "docs/nowhere.md"
    ]
    code = "    $ isotherm model puff x\n    isotherm add --prot x | cat --none\n    isotherm wipe --yes  # it's gone\n"
    assert [what_is_wrong(words) for words in commands(code)] == ["puff", "--prot", ""]
    assert unknown_make_commands("run `make coffee` or\n\n    make test ARGS=1\n    make tea\n") == {"coffee", "tea"}


def test_make_help_lists_every_target() -> None:
    shown = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z]+)", shown, re.MULTILINE)) == make_targets()


def test_readme_names_what_it_must() -> None:
    readme = text("README.md")
    for needed in ("make demo", "make test", "## What it is not", "## Limits measured", "limits:begin", "limits:end"):
        assert needed in readme
    assert readme.splitlines()[2].count(". ") == 0, "one sentence says what it is"


def test_the_changelog_has_this_version_dated() -> None:
    version = tomllib.loads(text("pyproject.toml"))["project"]["version"]
    assert re.search(rf"^## \[{re.escape(version)}\] - .*\d{{4}}-\d\d-\d\d$", text("CHANGELOG.md"), re.MULTILINE)


def test_the_core_and_the_project_have_one_version() -> None:
    version = tomllib.loads(text("pyproject.toml"))["project"]["version"]
    assert f'__version__ = "{version}"' in text("firmware/isocore/__init__.py")


def test_exit_codes_in_contributing_are_those_of_bootstrap() -> None:
    codes = re.findall(r"^\| (\d+) \|", text("CONTRIBUTING.md"), re.MULTILINE)
    assert codes == re.findall(r"^ {4}(\d+) ", bootstrap.__doc__ or "", re.MULTILINE)


@pytest.mark.parametrize("page", ADRS, ids=lambda page: page.stem)
def test_decisions_have_one_form(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(rf"# {page.name[:4]}\. .+", lines[0])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d, (proposed|accepted|superseded by \d{4})", lines[2])
    assert [line for line in lines if line.startswith("## ")] == ["## Context", "## Decision", "## Consequences"]


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(page.name[:4]) for page in ADRS] == list(range(1, len(ADRS) + 1))
    assert len(ADRS) >= 4


def test_ci_runs_make_test() -> None:
    assert "make test" in text(".ci/run").splitlines()[-1]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111, ".ci/run must be executable"


def named_tests(content: str) -> list[tuple[str, str]]:
    """(file, function) of each test that a page names."""
    return re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", content)


@EVERY_PAGE
def test_named_tests_exist(page: Path) -> None:
    for file, function in named_tests(page.read_text(encoding="utf-8")):
        assert f"def {function}(" in text(file), f"{page.name} names {file}::{function}"


def test_the_table_of_faults_is_seen() -> None:
    assert len(named_tests(text("docs/firmware.md"))) > 20


# Table B.1 of ETSI EN 303 645 V3.1.3: how many provisions each group has, and those that are split in two.
ETSI_GROUPS = {
    "5.0": (1, ""), "5.1": (5, ""), "5.2": (3, ""), "5.3": (16, "4 6 15"), "5.4": (4, ""), "5.5": (8, ""),
    "5.6": (9, "4"), "5.7": (2, ""), "5.8": (3, ""), "5.9": (3, ""), "5.10": (1, ""), "5.11": (4, ""), "5.12": (3, ""),
    "5.13": (1, "1"), "6": (8, "3"),
}  # fmt: skip
OWASP_ITEMS = 10
ANSWERS = ("yes", "part", "no", "n/a")


def provisions() -> list[str]:
    """Every provision of the standard, in its order."""
    found = []
    for group, (count, split) in ETSI_GROUPS.items():
        for number in range(1, count + 1):
            halves = ("A", "B") if str(number) in split.split() else ("",)
            found += [f"{group}-{number}{half}" for half in halves]
        if group == "5.1":
            found.insert(found.index("5.1-2") + 1, "5.1-2A")
    return found


def matrix_rows(content: str) -> dict[str, tuple[str, str]]:
    """provision or item: (answer, how), of the security matrix."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in content.splitlines() if line[:1] == "|"]
    told = [row for row in rows if re.fullmatch(r"(\d+(\.\d+)?-\d+[AB]?|I\d+ .+)", row[0])]
    assert len({row[0] for row in told}) == len(told), "each once"
    return {row[0].split()[0]: (row[-2], row[-1]) for row in told}


def test_the_security_matrix_is_whole() -> None:
    rows = matrix_rows(text("docs/security-matrix.md"))
    assert list(rows) == [*provisions(), *(f"I{number}" for number in range(1, OWASP_ITEMS + 1))]
    assert {answer for answer, _ in rows.values()} <= set(ANSWERS)
    for name, (answer, how) in rows.items():
        assert how, f"{name}: says nothing"
        if answer == "yes":
            shown = named_tests(how) or "](" in how or name in ("5.5-6", "5.5-7")  # those two: nothing is sent at all
            assert shown, f"{name}: is met by nothing that is shown"


def test_the_security_policy_says_how_to_report() -> None:
    policy = text("SECURITY.md")
    for heading in ("Reporting a weakness", "Supported versions", "Who trusts whom", "Attackers", "Not protected"):
        assert re.search(rf"^## {heading}", policy, re.MULTILINE), heading
    reporting = policy.partition("## Reporting")[2].partition("\n## ")[0]
    assert "private" in reporting and "days" in reporting
    version = tomllib.loads(text("pyproject.toml"))["project"]["version"].rpartition(".")[0]
    assert f"| {version}.x |" in policy
