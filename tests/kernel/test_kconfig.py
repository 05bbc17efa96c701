# SPDX-License-Identifier: GPL-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BuildError, UsageError
from harness.kernel import kconfig

ROOT = Path(__file__).parents[2]
FRAGMENTS = sorted((ROOT / "vm" / "kconfig").glob("*.config"))
FILE = Path("x.config")


def _options(text: str, file: Path = FILE) -> dict[str, kconfig.Option]:
    return kconfig.merge([kconfig.parse(file, text)])


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.stem)
def test_every_option_of_our_fragments_has_its_reason(path: Path) -> None:
    bare = kconfig.without_reason(path, path.read_text())
    assert [f"{option.file.name}:{option.line}: {option}" for option in bare] == []


def test_there_are_fragments_to_check() -> None:
    assert {"base", "guest", "filesystems"} <= {path.stem for path in FRAGMENTS}


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("# Two CPUs.\nCONFIG_SMP=y\n", []),
        ("CONFIG_SMP=y\n", ["SMP"]),
        ("# Why.\n\nCONFIG_SMP=y\n", ["SMP"]),
        ("#\nCONFIG_SMP=y\n", ["SMP"]),
        ("# Why.\nCONFIG_SMP=y\n# CONFIG_ACPI is not set\n", ["ACPI"]),
        ("# Why.\n# CONFIG_ACPI is not set\nCONFIG_SMP=y\n", ["SMP"]),
    ],
)
def test_a_reason_is_a_comment_directly_above(text: str, bare: list[str]) -> None:
    assert [option.name for option in kconfig.without_reason(FILE, text)] == bare


def test_later_fragments_win_and_keep_their_place() -> None:
    first = kconfig.parse(Path("a"), "CONFIG_SMP=y\nCONFIG_NR_CPUS=8\n")
    second = kconfig.parse(Path("b"), "\n# CONFIG_SMP is not set\n")
    merged = kconfig.merge([first, second])
    assert (merged["SMP"].value, merged["SMP"].file, merged["SMP"].line) == ("n", Path("b"), 2)
    assert kconfig.text(merged) == "# CONFIG_SMP is not set\nCONFIG_NR_CPUS=8\n"


@pytest.mark.parametrize(
    ("asked", "have", "fine"),
    [
        ("CONFIG_A=y", "CONFIG_A=y", True),
        ("CONFIG_A=y", "# CONFIG_A is not set", False),
        ("CONFIG_A=y", "", False),
        ("CONFIG_A=y", "CONFIG_A=m", False),
        ("CONFIG_A=y", "CONFIG_AA=y", False),
        ("# CONFIG_A is not set", "", True),
        ("# CONFIG_A is not set", "# CONFIG_A is not set", True),
        ("CONFIG_A=n", "", True),
        ("CONFIG_A=n", "CONFIG_A=y", False),
        ("CONFIG_A=8", "CONFIG_A=8", True),
        ("CONFIG_A=8", "CONFIG_A=64", False),
        ('CONFIG_A="x y"', 'CONFIG_A="x y"', True),
        ('CONFIG_A="x y"', 'CONFIG_A=""', False),
    ],
)
def test_verify_compares_what_was_asked_with_what_is(asked: str, have: str, fine: bool) -> None:
    wrong = kconfig.refused(_options(asked + "\n"), f"# Linux\n\n{have}\n")
    assert (wrong == []) == fine


def test_a_refused_option_is_named_with_its_line_and_present_value() -> None:
    asked = _options("# why\nCONFIG_SMP=y\n# why\nCONFIG_XFS_FS=y\n", Path("vm/base.config"))
    with pytest.raises(BuildError) as caught:
        kconfig.verify(asked, "CONFIG_SMP=m\n", Path("src"))
    assert "vm/base.config:2: CONFIG_SMP=y was not taken by the kernel: it is m" in str(
        caught.value
    )
    assert "and 1 more" in str(caught.value)
    assert "vm/base.config:4: CONFIG_XFS_FS=y" in caught.value.detail
    assert "config SMP$" in caught.value.hint


@pytest.mark.parametrize(
    "line", ["SMP=y", "CONFIG_SMP y", "CONFIG_SMP", "# CONFIG_SMP is  not set"]
)
def test_lines_kconfig_would_ignore_are_refused(line: str) -> None:
    with pytest.raises(UsageError, match=r"x\.config:2: "):
        kconfig.parse(FILE, f"# fine\n{line}\n")


def test_missing_fragment_comes_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "vm" / "kconfig").mkdir(parents=True)
    (tmp_path / "vm" / "kconfig" / "filesystems.config").write_text("")
    with pytest.raises(UsageError, match=r"'filesystem'.*did you mean 'filesystems'"):
        kconfig.paths(["filesystem"], tmp_path)


_names = st.from_regex(r"[A-Z0-9_]{1,12}", fullmatch=True)
_values = st.one_of(
    st.sampled_from(["y", "m", "n"]),
    st.integers(0, 1 << 40).map(str),
    st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'))
    .map(lambda text: f'"{text}"'),
)  # fmt: skip


@given(st.dictionaries(_names, _values))
def test_what_is_written_is_read_back(values: dict[str, str]) -> None:
    options = {name: kconfig.Option(name, value, FILE, 1) for name, value in values.items()}
    assert kconfig.values(kconfig.text(options)) == values
    assert kconfig.refused(options, kconfig.text(options)) == []
    assert kconfig.enabled(kconfig.text(options)) == list(values.values()).count("y")


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        options = kconfig.parse(FILE, text)
    except UsageError:
        return
    assert all(option.line >= 1 for option in options)
