"""mount.libernet: mount a node's files, as a command and as a helper of mount(8).

The exit codes are those of mount(8). The command comes back when the mount answers, or says in
one sentence why there is none. Everything heavy is imported after the fork, in the process
that stays: neither threads nor an event loop survive a fork.
"""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import libernet
from libernet.blocks.errors import FormatError, LibernetError, UnknownVersion
from libernet.fs.keys import KEYS, Values
from libernet.fs.lock import Phase, StateLock, check_free
from libernet.fs.mount_options import read_mount_options
from libernet.fs.mount_table import resolved
from libernet.fs.mountpoint import answers, check_apart, check_fuse, prepare
from libernet.fs.places import Places
from libernet.fs.settings import Settings, read_config, read_environment

EX_OK = 0
EX_USAGE = 1
EX_SYSTEM = 2
EX_USER = 8
EX_FAIL = 32

MAX_LOG_BYTES = 4 * 1024 * 1024
"""Size at which the log is started afresh; one older log is kept."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no mount: a sentence for the person, an exit code for the caller."""

    sentence: str
    exit_code: int

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """Return what to say about *error*, whose traceback the log already has if it needs one."""
        error = _innermost(error)
        if isinstance(error, FormatError) and not isinstance(error, UnknownVersion):
            return cls(str(error), EX_USAGE)
        if isinstance(error, LibernetError):
            return cls(str(error), EX_FAIL)
        if isinstance(error, OSError):
            about = f"{error.filename}: " if error.filename else ""
            return cls(f"{about}{error.strerror or error}", EX_SYSTEM)
        return cls(f"this is a fault of Libernet itself: {error!r}", EX_FAIL)


def _innermost(error: Exception) -> Exception:
    """Return the one error inside groups of one, as nurseries of trio wrap it."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@dataclass(frozen=True, slots=True)
class Request:
    """A command line, read."""

    mountpoint: Path
    source: str
    values: Values
    fake: bool
    verbose: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with *argv*, by default the process's own arguments; return its exit code."""
    try:
        return _mount(_read(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return EX_USER
    except Exception as error:  # noqa: BLE001 - the top: a person gets a sentence, no traceback
        return _report(Failure.of(error))


def _mount(request: Request) -> int:
    state = request.values.pop("state", None)
    places = Places.of(Path(state) if state else None)
    settings = Settings.of(
        request.mountpoint,
        request.source,
        read_config(places.config_file),
        read_environment(os.environ),
        request.values,
    )
    check_fuse(allow_other=settings.allow_other)
    check_apart(settings.mountpoint, places.data)
    if request.fake:
        return _pretend(settings, places)
    places.make()
    with StateLock.acquire(places.data, settings.mountpoint) as lock:
        prepare(settings.mountpoint)
        if settings.foreground:
            return _in_foreground(settings, places, lock)
        failure = _detached(settings, places, lock)
    if failure:
        return _report(failure)
    if request.verbose:
        print(f"mount.libernet: mounted on {settings.mountpoint}")
    return EX_OK


def _pretend(settings: Settings, places: Places) -> int:
    """Check all that a mount would, and change nothing."""
    places.check()
    check_free(places.data, settings.mountpoint)
    prepare(settings.mountpoint, detach_stale=False)
    return EX_OK


def _in_foreground(settings: Settings, places: Places, lock: StateLock) -> int:
    try:
        return _serve(settings, places, lock, ready=lambda: None)
    except Exception as error:
        if not isinstance(_innermost(error), LibernetError):
            _log.exception("the mount failed")  # here the terminal is the log
        raise


def _detached(settings: Settings, places: Places, lock: StateLock) -> Failure | None:
    """Serve in a new process; return once it is mounted, with what kept it from that or None."""
    reports, report_here = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reports)
        _be_daemon(settings, places, lock, report_here)
    os.close(report_here)
    try:
        with open(reports, "rb") as pipe:
            report = pipe.read()
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        raise
    if not report:
        return _silent_death(child, places.log_file)
    outcome = json.loads(report)
    if outcome is not None:
        return Failure(**outcome)
    if answers(settings.mountpoint) is None:
        sentence = f"{settings.mountpoint} is mounted but does not answer: see {places.log_file}"
        return Failure(sentence, EX_FAIL)
    return None


def _be_daemon(settings: Settings, places: Places, lock: StateLock, report: int) -> NoReturn:
    """Serve as a process of its own, writing to *report* what became of the start."""

    def tell(failure: Failure | None) -> None:
        fields = failure and {"sentence": failure.sentence, "exit_code": failure.exit_code}
        try:
            os.write(report, json.dumps(fields).encode())
            os.close(report)
        except OSError:  # the command was killed; the mount stands without it
            _log.warning("nobody waits for the mount any more")

    started = False

    def ready() -> None:
        nonlocal started
        started = True
        tell(None)

    exit_code = EX_FAIL
    try:
        _leave_terminal(places.log_file)
        exit_code = _serve(settings, places, lock, ready)
        if not started:
            tell(Failure(f"it ended before it was mounted: see {places.log_file}", EX_FAIL))
    except Exception as caught:  # noqa: BLE001 - the top of the process
        error = _innermost(caught)
        failure = Failure.of(error)
        _log.critical("%s", failure.sentence, exc_info=not isinstance(error, LibernetError))
        if not started:
            tell(_with_log(failure, error, places.log_file))
    finally:
        logging.shutdown()
        # Not sys.exit: the frames above belong to the command that this was forked from.
        os._exit(exit_code)


def _with_log(failure: Failure, error: Exception, log_file: Path) -> Failure:
    if isinstance(error, LibernetError):
        return failure
    return Failure(f"{failure.sentence} (more in {log_file})", failure.exit_code)


def _serve(settings: Settings, places: Places, lock: StateLock, ready: Callable[[], None]) -> int:
    os.umask(0o077)
    _start_log(None if settings.foreground else places.log_file, settings.log_level)
    lock.mark(Phase.STARTING)  # anew: in the daemon the process is another than the one that locked

    def mounted() -> None:
        lock.mark(Phase.MOUNTED)
        _log.info("mounted on %s, state in %s", settings.mountpoint, places.data)
        ready()

    from libernet.fs.mount import serve

    exit_code = serve(settings, places, lock, mounted)
    lock.mark(Phase.ENDED)
    return exit_code


def _leave_terminal(log_file: Path) -> None:
    """Detach from terminal, folder and standard streams; what is printed goes to *log_file*."""
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, stream in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(target, stream)
    os.close(nothing)
    os.close(log)


def _start_log(log_file: Path | None, level: str) -> None:
    """Log to *log_file*, or to stderr for None."""
    from logging.handlers import RotatingFileHandler

    handler: logging.Handler = logging.StreamHandler()
    if log_file:
        handler = RotatingFileHandler(log_file, maxBytes=MAX_LOG_BYTES, backupCount=1)
    line = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(handlers=[handler], level=level.upper(), format=line, force=True)
    logging.captureWarnings(True)


def _silent_death(child: int, log_file: Path) -> Failure:
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return Failure(f"the process {how} before it was mounted: see {log_file}", EX_FAIL)


def _report(failure: Failure) -> int:
    print(f"mount.libernet: {failure.sentence}", file=sys.stderr)
    return failure.exit_code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise FormatError(f"{message}. See: mount.libernet --help")


def _read(arguments: Sequence[str]) -> Request:
    """Return what the command line asks for. Raises FormatError; --help and --version exit."""
    found = _parser().parse_intermixed_args(arguments)
    if len(found.folders) > 2:
        raise FormatError(
            f"too many arguments: {' '.join(found.folders)}. See: mount.libernet --help"
        )
    *source, mountpoint = found.folders
    values = read_mount_options(found.options, sloppy=found.sloppy)
    long_values = _long_values(found)
    if "peers" in values and "peers" in long_values:
        long_values["peers"] = values["peers"] + long_values["peers"]
    return Request(
        mountpoint=resolved(Path(mountpoint)),
        source=source[0] if source else "libernet",
        values=values | long_values,
        fake=found.fake,
        verbose=found.verbose,
    )


def _long_values(found: argparse.Namespace) -> Values:
    values: Values = {}
    for key in KEYS.values():
        given = getattr(found, key.name)
        where = f"option --{_spelled(key.name)}"
        if isinstance(given, str):
            values[key.name] = key.read(given, where=where)
        elif given is not None:
            values[key.name] = key.check(given, where=where)
    return values


def _parser() -> _Parser:
    parser = _Parser(
        prog="mount.libernet",
        usage="mount.libernet [SOURCE] MOUNTPOINT [-o OPTIONS] [-sfnv] [--OPTION ...]",
        description="Mount Libernet on a folder, which must exist and be empty.",
        epilog="The long options can also stand after -o and in config.toml.",
        allow_abbrev=False,
    )
    parser.add_argument("folders", nargs="+", metavar="[SOURCE] MOUNTPOINT", help="where to mount")
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="OPTIONS")
    parser.add_argument("-s", dest="sloppy", action="store_true", help="ignore unknown -o options")
    parser.add_argument("-f", dest="fake", action="store_true", help="check, but do not mount")
    parser.add_argument("-n", action="store_true", help="accepted, as mount(8) passes it")
    parser.add_argument("-v", dest="verbose", action="store_true", help="say what was done")
    parser.add_argument("-N", metavar="NAMESPACE", help=argparse.SUPPRESS)
    parser.add_argument("-t", metavar="TYPE", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"libernet {libernet.__version__}")
    for key in KEYS.values():
        if key.name == "peers":
            parser.add_argument(
                "--peer", dest="peers", action="append", metavar=key.metavar, help=key.help
            )
        elif key.metavar is None:
            parser.add_argument(
                f"--{_spelled(key.name)}", action=argparse.BooleanOptionalAction, help=key.help
            )
        else:
            parser.add_argument(f"--{_spelled(key.name)}", metavar=key.metavar, help=key.help)
    return parser


def _spelled(name: str) -> str:
    return name.replace("_", "-")


if __name__ == "__main__":
    sys.exit(main())
