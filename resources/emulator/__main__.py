"""``python -m resources.emulator``: the command line of the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resources.emulator.running import PORT, serve
from resources.failures import InputError
from resources.home import Home


def main(
    home: Annotated[Path | None, typer.Option(help="Folder of the durable state (default: var/emulator).")] = None,
    host: Annotated[str, typer.Option(help="Address; other than loopback needs HYBRID_EMULATOR_TOKEN.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = PORT,
    queue_seconds: Annotated[float, typer.Option(help="Least wait of a job in the queue.", min=0)] = 0.5,
    faults: Annotated[Path | None, typer.Option(help="Fault plan, YAML or JSON (docs/emulator.md).")] = None,
    rate: Annotated[float, typer.Option(help="Calls a second and token.", min=0.1)] = 500.0,
    workers: Annotated[int, typer.Option(help="Jobs that run at the same time.", min=1, max=64)] = 2,
    attached: Annotated[bool, typer.Option("--attached", help="End when standard input ends.")] = False,
) -> None:
    """Serve a quantum cloud on loopback."""
    folder = home or Home.from_environment().root / "emulator"
    try:
        serve(
            folder,
            host=host,
            port=port,
            queue_seconds=queue_seconds,
            faults=faults,
            rate=rate,
            workers=workers,
            attached=attached,
        )
    except InputError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
