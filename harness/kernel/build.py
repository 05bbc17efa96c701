# SPDX-License-Identifier: GPL-2.0
"""Tree, series and fragments become an image: incremental, reproducible, at most once.

cache/kernels/<kernel>/ has the worktree (src), the build directory (o) and the
finished images (images/<id>).  An id that is there starts no make.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import config
from harness.errors import BuildError, InfraError, UsageError
from harness.events import Event, Listener, silent
from harness.kernel import command, dotconfig, git, image, kconfig, lock, make, series, tree
from harness.kernel.identity import RECIPE, identify
from harness.kernel.image import Image

__all__ = ["Image", "ensure"]

_ON_TRUST = "on trust"
_CCACHE_SIZE = "3G"  # a kernel of ours takes about 40 MB
_RELEASE_MAX = 64  # __NEW_UTS_LEN, include/uapi/linux/utsname.h
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Recipe:
    """Everything an image is made from."""

    name: str
    kernel: config.Kernel
    source: tree.Source
    patches: list[Path]  # of all series, in order
    parts: list[str]  # with the patches' contents: what `identity` is made from
    options: dict[str, kconfig.Option]
    compiler: str
    toolchain: str
    identity: str

    @property
    def release(self) -> str:
        return f"{self.source.version}{self.localversion}"

    @property
    def localversion(self) -> str:
        return f"-{self.name}-{self.identity}"


def ensure(
    name: str,
    cfg: config.Config,
    cache: Path,
    listen: Listener = silent,
    jobs: int | None = None,
) -> Image:
    """The image of kernel `name`, built if it is not there; no make when it is.

    `jobs` is make's -j, by default the number of CPUs.  Raises UsageError for what
    harness.toml, patches/ or vm/kconfig/ got wrong, BuildError when a patch does not apply, an
    option is refused or something does not compile, InfraError when a tool is missing or the
    disk is full.
    """
    started = time.monotonic()
    cache = cache.resolve()
    with command.room_on(cache):
        recipe = resolve(name, cfg, cache, listen)
        home = cache / "kernels" / name
        found = image.load(home / "images", recipe.identity)
        if found is None:
            check_paths(cache)
            with lock.held(home.with_name(f"{name}.lock"), name, listen):
                # Waiting may have taken minutes: a patch may have changed since, and the
                # run we waited for may have built this very image.
                recipe = resolve(name, cfg, cache, listen)
                found = image.load(home / "images", recipe.identity)
                if found is None:
                    made = _build(recipe, cfg, cache, listen, jobs or os.cpu_count() or 1)
                    seconds = time.monotonic() - started
                    made = dataclasses.replace(made, built=True, seconds=seconds)
                    made = image.store(home / "images", made)
                    listen(Event("build", name, f"built {made.release} in {seconds:.0f} s"))
                    return made
        listen(Event("build", name, f"{found.release} is up to date"))
        return dataclasses.replace(
            found,
            role=recipe.kernel.role,
            series=list(recipe.kernel.series),
            built=False,
            seconds=time.monotonic() - started,
        )


def resolve(name: str, cfg: config.Config, cache: Path, listen: Listener) -> Recipe:
    """What kernel `name` is made from; errors are those of ensure()."""
    kernel = cfg.kernel.get(name)
    if kernel is None:
        near = difflib.get_close_matches(name, cfg.kernel, n=1)
        raise UsageError(
            f"{cfg.path}: no kernel {name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""),
            hint="harness list",
        )
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{cfg.path}: [kernel.{name}]: the name is part of `uname -r`: letters, digits, . _ -",
            hint="rename the kernel",
        )
    # Cheap and local first: a missing patch must not show after a download.
    line = cfg.tree[kernel.tree].line
    patches = [file for item in kernel.series for file in series.patches(item, line, cfg.root)]
    files = kconfig.paths(kernel.fragments, cfg.root)
    fragments = [file.read_text() for file in files]
    options = kconfig.merge([kconfig.parse(*each) for each in zip(files, fragments, strict=True)])
    compiler, toolchain = _toolchain()
    source = tree.materialise(kernel.tree, cfg.tree[kernel.tree], cfg.root, cache, listen)
    parts = [RECIPE, toolchain, source.commit, *fragments]
    identity = identify(parts, [file.read_bytes() for file in patches])
    recipe = Recipe(name, kernel, source, patches, parts, options, compiler, toolchain, identity)
    if len(recipe.release) > _RELEASE_MAX:
        room = _RELEASE_MAX - len(recipe.release) + len(name)
        raise UsageError(
            f"{cfg.path}: [kernel.{name}]: {recipe.release} does not fit into `uname -r` "
            f"({_RELEASE_MAX} characters): the name may have {room}, it has {len(name)}",
            hint="rename the kernel",
        )
    return recipe


def _toolchain() -> tuple[str, str]:
    """First line of the compiler's version, and both tools' whole versions."""
    found = [shutil.which(tool) for tool in ("gcc", "ld")]
    return _versions(*((path, Path(path).stat().st_mtime_ns if path else 0) for path in found))


@functools.lru_cache(1)
def _versions(*_which: tuple[str | None, int]) -> tuple[str, str]:
    versions = []
    for tool in ("gcc", "ld"):
        finished = command.run([tool, "--version"])
        if finished.status != 0:
            raise InfraError(f"{tool} --version failed: {finished.complaint}")
        versions.append(finished.stdout)
    return versions[0].splitlines()[0], "".join(versions)


def check_paths(cache: Path) -> None:
    """InfraError when the kernel's build cannot be done in a cache of this name."""
    # The kernel's top Makefile refuses them: "source directory cannot contain spaces or colons".
    if re.search(r"[\s:]", str(cache)):
        raise InfraError(
            f"the kernel cannot be built in {cache}: space or colon in the path",
            hint="export HARNESS_CACHE=DIRECTORY",
        )


def _build(recipe: Recipe, cfg: config.Config, cache: Path, listen: Listener, jobs: int) -> Image:
    makefile = start_log(recipe, cache)
    commit = series.apply(recipe.source, recipe.kernel.series, cfg.root, cache, listen)
    return build_commit(makefile, recipe, commit, listen, jobs)


def start_log(recipe: Recipe, cache: Path) -> make.Makefile:
    """Where the kernel is built, with an empty build.log; the caller holds its lock."""
    home = cache / "kernels" / recipe.name
    home.mkdir(parents=True, exist_ok=True)
    makefile = make.Makefile(recipe.name, home / "src", home / "o", home / "build.log")
    makefile.log.write_bytes(b"")
    return makefile


def build_commit(
    makefile: make.Makefile, recipe: Recipe, commit: str, listen: Listener, jobs: int
) -> Image:
    """Update the worktree to `commit`, configure, make; the image as it lies in O=.

    The caller holds the kernel's lock.  Errors are those of ensure().
    """
    if not _built_on_trust(makefile, recipe, commit, listen, jobs):
        home = makefile.source.parent
        listen(Event("build", recipe.name, f"updating the worktree to {commit[:12]}"))
        if git.move_worktree(makefile.source, recipe.source.repo, commit):
            # Every file is new, perhaps another kernel version: nothing in O= is of use.
            shutil.rmtree(makefile.objects, ignore_errors=True)
            (home / "complete").unlink(missing_ok=True)
        makefile.objects.mkdir(exist_ok=True)
        with _unfinished(home / "building", makefile.objects):
            whole = (home / "complete").exists()  # then nobody asks how much of it is there
            before = 0 if whole else make.steps_present(makefile.objects)
            text = dotconfig.configure(makefile, recipe, commit, listen, jobs)
            _make(makefile, recipe, text, before, listen, jobs)
    release = _release(makefile, recipe)
    return Image(
        kernel=recipe.name,
        role=recipe.kernel.role,
        id=recipe.identity,
        release=release,
        bzimage=makefile.objects / "arch/x86/boot/bzImage",
        vmlinux=makefile.objects / "vmlinux",
        dotconfig=makefile.objects / ".config",
        log=makefile.log,
        scripts=makefile.source / "scripts",
        built=True,
        seconds=0.0,
        source_commit=commit,
        series=list(recipe.kernel.series),
        compiler=recipe.compiler,
    )


def _built_on_trust(
    makefile: make.Makefile, recipe: Recipe, commit: str, listen: Listener, jobs: int
) -> bool:
    """The same, when O= is whole and the .config stays: a build of seconds.

    Whether the worktree is just its commit is looked at while make links, when there is a CPU
    to spare, and when it was not, what has been made from it is made again.
    """
    source, home = makefile.source, makefile.source.parent
    text = dotconfig.configured(makefile, recipe, commit)
    if text is None or not (home / "complete").exists() or (home / "building").exists():
        return False
    listen(Event("build", recipe.name, f"updating the worktree to {commit[:12]}"))
    if not git.trusted_move(source, recipe.source.repo, commit):
        return False
    with _unfinished(home / "building", makefile.objects, _ON_TRUST) as began:
        with git.looking(source, commit) as look:

            def hear(event: Event) -> None:
                if event.data.get("links"):
                    look.begin()
                listen(event)

            try:
                _make(makefile, recipe, text, 0, hear, jobs)
            except (BuildError, InfraError):
                if look.whole:
                    raise
            whole = look.whole
        if not whole:
            changed = f"somebody changed {source}, where nothing is anybody's: made again"
            listen(Event("note", recipe.name, changed))
            make.distrust_since(makefile.objects, began)
        return whole


@contextmanager
def _unfinished(marker: Path, objects: Path, how: str = "") -> Iterator[float]:
    """Marks O= while make runs, and since when (time.time()), and how: _ON_TRUST or not.

    A mark that is there already: the last one did not end well.
    """
    if marker.exists():
        make.distrust_unfinished(objects)
        if marker.read_text() == _ON_TRUST:  # nobody knows what it was made from
            make.distrust_since(objects, marker.stat().st_mtime)
    marker.write_text(how)
    yield marker.stat().st_mtime
    marker.unlink()  # not after an exception: make may have been killed


def _make(
    makefile: make.Makefile,
    recipe: Recipe,
    text: str,
    before: int,
    listen: Listener,
    jobs: int,
) -> None:
    complete = makefile.objects.parent / "complete"
    history = makefile.objects.parents[1] / "steps.json"
    options = kconfig.enabled(text)
    # In a complete O= only make knows how much a change costs: no total.
    total = None if complete.exists() else make.expected_steps(history, options)
    progress = make.Progress(recipe.name, listen, before, total)
    settings = make_settings(makefile, recipe)
    image.let_go(makefile.objects)
    make.run(
        makefile, ["bzImage", "scripts_gdb"], jobs=jobs, settings=settings,
        env=caching(makefile), progress=progress,
    )  # fmt: skip
    if not complete.exists() and before == 0:
        make.remember_steps(history, progress.steps, options)
    complete.touch()


def make_settings(makefile: make.Makefile, recipe: Recipe) -> list[str]:
    """Variables of every make in O=: with others everything would be compiled again."""
    # Paths must not enter the image: the same kernel in another cache has the same hash.
    # Last that matches wins: the directory of compilation itself has no slash at its end.
    places = (makefile.source, makefile.objects)
    mapped = " ".join(
        [f"-ffile-prefix-map={place}=." for place in places]
        + [f"-ffile-prefix-map={place}/=" for place in places]
        # ccache makes paths relative before the compiler sees them.
        + [f"-ffile-prefix-map=../{makefile.source.name}/="]
    )
    settings = [f"LOCALVERSION={recipe.localversion}", f"KCFLAGS={mapped}", f"KAFLAGS={mapped}"]
    return [*settings, "CC=ccache gcc"] if shutil.which("ccache") else settings


def caching(makefile: make.Makefile) -> dict[str, str]:
    """Environment of a make whose objects other kernels may have compiled already.

    Of two kernels of one tree most files are the same to the last byte, and so are both
    ends of a bisection; ccache knows by content, whatever the directory (its manual, "Compiling
    in different directories"; the prefix maps above keep its names out of the objects).
    """
    home = makefile.objects.parent
    own = {} if "CCACHE_DIR" in os.environ else {"CCACHE_DIR": str(home.parents[1] / "ccache")}
    return make.environment(
        **own, CCACHE_BASEDIR=str(home), CCACHE_NOHASHDIR="1", CCACHE_ABSSTDERR="1",
        CCACHE_MAXSIZE=_CCACHE_SIZE,
    )  # fmt: skip


def _release(makefile: make.Makefile, recipe: Recipe) -> str:
    """What `uname -r` will print; BuildError when that does not carry the id."""
    path = makefile.objects / "include" / "config" / "kernel.release"
    bzimage = makefile.objects / "arch/x86/boot/bzImage"
    if not bzimage.is_file() or not path.is_file():
        raise BuildError(
            f"kernel {recipe.name}: make succeeded but there is no bzImage (log: {makefile.log})",
            hint=command.quoted(["less", makefile.log]),
        )
    release = path.read_text().strip()
    inside = image.banner(bzimage).split(" ", 1)[0]
    if not release.endswith(recipe.localversion) or inside not in ("", release):
        raise BuildError(
            f"kernel {recipe.name}: its release is {inside or release!r}, not {recipe.release!r}: "
            "it would not be told apart in the guest",
            hint=command.quoted(["grep", "-r", "LOCALVERSION", makefile.objects / ".config"]),
        )
    return release
