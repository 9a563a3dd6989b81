"""`isotherm`, the host tools' command line: finds the command, runs it, and turns every failure into one sentence.

It knows no command's inside: each is imported when it is called, so that `isotherm --help` stays quick and a missing
extra only hurts who needs it.

Exit codes: 0 done; 1 failed; 2 bad input or usage; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys

import click
from click.shell_completion import CompletionItem

# name: (module:attribute, one line for --help)
_COMMANDS = {
    "add": ("host_tools.commands.add:add", "Take a board from the cable to its first reading."),
    "board": ("host_tools.commands.board:board", "List, show and make board files: chip, pins, image."),
    "broker": ("host_tools.commands.broker:broker", "Make mosquitto's configuration for the fleet, and tell it news."),
    "cloud": ("host_tools.commands.cloud:cloud", "Run the reference receiver, look into its store."),
    "console": ("host_tools.commands.boards_at_hand:console", "Open a board's prompt."),
    "demo": ("host_tools.demo.command:demo", "Run virtual boards, broker, gateway and receiver together."),
    "deploy": ("host_tools.commands.deploy:deploy", "Put the firmware on boards over a cable."),
    "doctor": ("host_tools.commands.boards_at_hand:doctor", "Say what is wrong with a board."),
    "flash": ("host_tools.commands.flash:flash", "Put MicroPython on a bare chip."),
    "fleet": ("host_tools.commands.fleet:fleet", "Show the boards as the gateway sees them."),
    "keys": ("host_tools.commands.keys:keys", "Keep the fleet's authority: admit, renew and revoke."),
    "logs": ("host_tools.commands.boards_at_hand:logs", "Follow what a board prints."),
    "model": ("host_tools.commands.model:model", "Train, sign, check and push threshold models."),
    "provision": ("host_tools.commands.boards_at_hand:provision", "Configure a board: Wi-Fi, gateway, sensors, pins."),
    "traces": ("host_tools.commands.traces:traces", "Convert temperature recordings into traces."),
    "version": ("host_tools.commands.version:version", "Print the version."),
    "virtual": ("host_tools.commands.virtual:virtual", "Run a virtual board on a serial port."),
    "wipe": ("host_tools.commands.boards_at_hand:wipe", "Erase a board's configuration, keys and readings."),
}
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module_name, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and error.name.split(".")[0] in ("host_tools", "gateway"):
                raise click.ClickException(f"`isotherm {cmd_name}` is not part of this installation") from error
            raise click.ClickException(
                f"`isotherm {cmd_name}` needs the Python package {error.name!r}: "
                "install the host extra (pip install 'isotherm[host]') or run `make setup`"
            ) from error
        command = getattr(module, attribute)
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands without importing them: at each press of Tab, and whatever is not installed."""
        found = [
            CompletionItem(name, help=_COMMANDS[name][1])
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def isotherm() -> None:
    """Carry temperature from the sensor to the cloud, and thresholds back.

    \b
    Examples:
      isotherm demo --boards 6
      isotherm traces convert recordings --out traces
      isotherm cloud serve --data cloud-data
      isotherm model show fridge.model

    Exit codes: 0 done, 1 failed, 2 bad input or usage, 130 stopped by Ctrl-C.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        result = isotherm.main(args=arguments, prog_name="isotherm", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        _complain("stopped")
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # The reader (head, less) went away; give Python's exit nothing left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _failed(error)
    return result if isinstance(result, int) else 0


def _failed(error: Exception) -> int:
    """Exit code of an error that has one (HostError and its kin), or that the system raised; others are bugs."""
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        _complain(str(error))
        return code
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        _complain(f"{name}{error.strerror or error}")
        return 1
    raise error


def _complain(text: str) -> None:
    click.echo(f"isotherm: {text}", err=True)


if __name__ == "__main__":
    main()
