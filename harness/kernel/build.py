# SPDX-License-Identifier: GPL-2.0
"""Tree, series and fragments become an image: incremental, reproducible, at most once.

cache/kernels/<kernel>/ has the worktree (src), the build directory (o) and the
finished images (images/<id>).  An id that is there starts no make.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import config
from harness.errors import BuildError, InfraError, UsageError
from harness.events import Event, Listener, silent
from harness.kernel import command, git, image, kconfig, lock, make, series, tree
from harness.kernel.image import Image

__all__ = ["RECIPE", "Image", "ensure"]

# Part of every id; raise it when the same sources would give another image.
RECIPE = "2"
# A kernel of ours takes about 40 MB there.
_CCACHE_SIZE = "3G"
_RELEASE_MAX = 64  # __NEW_UTS_LEN, include/uapi/linux/utsname.h
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Kconfig must not add to the release string: `uname -r` ends with our id.
_OURS = '# CONFIG_LOCALVERSION_AUTO is not set\nCONFIG_LOCALVERSION=""\n'
_CONFIG = r"^[[:space:]]*(menu)?config[[:space:]]+[A-Za-z0-9_]+"
# In a line of git ls-tree.
_KCONFIG_READS = re.compile(r"\t(scripts/.*|(.*/)?(Kconfig[^/]*|[^/]*\.config|Makefile[^/]*))$")


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
    harness.toml, patches/ or vm/kconfig/ got wrong, BuildError when a patch does
    not apply, an option is refused or something does not compile, InfraError when
    a tool is missing or the disk is full.
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


def identify(parts: Sequence[str], patches: Sequence[bytes]) -> str:
    """12 hex digits for `parts` and the patches' contents, in their order."""
    digest = hashlib.sha256()
    for part in [*(text.encode() for text in parts), b"patches", *patches]:
        digest.update(b"%d " % len(part) + part)
    return digest.hexdigest()[:12]


def _toolchain() -> tuple[str, str]:
    """First line of the compiler's version, and both tools' whole versions."""
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
    with ThreadPoolExecutor(1) as beside:  # each looks at all files of the tree: 0.3 s
        tidied = beside.submit(git.tidy, makefile.source, recipe.source.repo)
        commit = series.apply(recipe.source, recipe.kernel.series, cfg.root, cache, listen)
    return build_commit(makefile, recipe, commit, listen, jobs, tidied=tidied.result())


def start_log(recipe: Recipe, cache: Path) -> make.Makefile:
    """Where the kernel is built, with an empty build.log; the caller holds its lock."""
    home = cache / "kernels" / recipe.name
    home.mkdir(parents=True, exist_ok=True)
    makefile = make.Makefile(recipe.name, home / "src", home / "o", home / "build.log")
    makefile.log.write_bytes(b"")
    return makefile


def build_commit(
    makefile: make.Makefile,
    recipe: Recipe,
    commit: str,
    listen: Listener,
    jobs: int,
    *,
    tidied: bool = False,
) -> Image:
    """Update the worktree to `commit`, configure, make; the image as it lies in O=.

    `tidied`: git.tidy() has been in the worktree.  The caller holds the kernel's lock.  Errors
    are those of ensure().
    """
    home = makefile.source.parent
    listen(Event("build", recipe.name, f"updating the worktree to {commit[:12]}"))
    with ThreadPoolExecutor(1) as beside:  # again
        read = beside.submit(_kconfig_reads, recipe, commit)
        if git.move_worktree(makefile.source, recipe.source.repo, commit, tidied=tidied):
            # Every file is new, perhaps another kernel version: nothing in O= is of use.
            shutil.rmtree(makefile.objects, ignore_errors=True)
            (home / "complete").unlink(missing_ok=True)
    makefile.objects.mkdir(exist_ok=True)
    with _unfinished(home / "building", makefile.objects):
        before = make.steps_present(makefile.objects)
        dotconfig = _configure(makefile, recipe, read.result(), listen, jobs)
        _make(makefile, recipe, dotconfig, before, listen, jobs)
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


@contextmanager
def _unfinished(marker: Path, objects: Path) -> Iterator[None]:
    """Marks O= while make runs; a mark that is there already: the last one did not end well."""
    if marker.exists():
        make.distrust_unfinished(objects)
    marker.touch()
    yield
    marker.unlink()  # not after an exception: make may have been killed


def _configure(
    makefile: make.Makefile, recipe: Recipe, read: str, listen: Listener, jobs: int
) -> str:
    """Write O=/.config, its time unchanged when its content is; the content.

    tinyconfig, then the fragments (Kconfig takes the last value of an option),
    then olddefconfig, on a file beside: .config must not be seen as newer.
    Nothing is run when all that Kconfig reads, `read`, is as it was (5 s less).
    """
    final = makefile.objects / ".config"
    key = makefile.objects.parent / "config.key"
    if key.is_file() and final.is_file():
        text = final.read_text()
        if key.read_text() == identify([read, text], []):
            return text
    listen(Event("build", recipe.name, "configuring"))
    beside = makefile.objects.parent / "config.new"
    beside.unlink(missing_ok=True)
    env = make.environment(KCONFIG_CONFIG=str(beside))
    _tinyconfig(makefile, beside, jobs, env)
    with beside.open("a") as file:
        file.write(_OURS + kconfig.text(recipe.options))
    make.run(makefile, ["olddefconfig"], jobs=jobs, env=env)
    text = beside.read_text()
    kconfig.verify(recipe.options, text, makefile.source)
    if not final.is_file() or final.read_text() != text:
        beside.replace(final)
    key.write_text(identify([read, text], []))
    return text


def symbols(repo: Path, commit: str) -> set[str]:
    """The options that a commit's Kconfig files have."""
    listing = git.out(repo, "grep", "-hoE", _CONFIG, commit, "--", "*Kconfig*")
    return {line.split()[-1] for line in listing.splitlines()}


def _tinyconfig(makefile: make.Makefile, to: Path, jobs: int, env: dict[str, str]) -> None:
    """The tiniest configuration, written to `to`, which is also KCONFIG_CONFIG in `env`."""
    kconfig_makefile = makefile.source / "scripts/kconfig/Makefile"
    # Until 5.12 a second step read O=/.config, whatever KCONFIG_CONFIG said, and most of
    # the first was lost.
    text = kconfig_makefile.read_text() if kconfig_makefile.is_file() else ""
    stubborn = "merge_config.sh -m .config" in text
    if not stubborn:
        make.run(makefile, ["tinyconfig"], jobs=jobs, env=env)
        return
    apart = dataclasses.replace(makefile, objects=makefile.objects.with_name("tiny"))
    apart.objects.mkdir(exist_ok=True)
    make.run(apart, ["tinyconfig"], jobs=jobs, env=make.environment())
    shutil.copyfile(apart.objects / ".config", to)


def _kconfig_reads(recipe: Recipe, commit: str) -> str:
    """All that decides a .config: Kconfig files, *.config, the Makefiles and scripts that run."""
    listing = git.out(recipe.source.repo, "ls-tree", "-r", commit)
    files = [line for line in listing.splitlines() if _KCONFIG_READS.search(line)]
    return "\n".join([RECIPE, recipe.toolchain, _OURS, kconfig.text(recipe.options), *files])


def _make(
    makefile: make.Makefile,
    recipe: Recipe,
    dotconfig: str,
    before: int,
    listen: Listener,
    jobs: int,
) -> None:
    complete = makefile.objects.parent / "complete"
    history = makefile.objects.parents[1] / "steps.json"
    options = kconfig.enabled(dotconfig)
    # In a complete O= only make knows how much a change costs: no total.
    total = None if complete.exists() else make.expected_steps(history, options)
    progress = make.Progress(recipe.name, listen, 0 if complete.exists() else before, total)
    settings = make_settings(makefile, recipe)
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
