"""`harness reproduce`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.messages import MessageConsole
from harness.cli.options import Json, RecordedData, TrackingUri, TrustCode
from harness.cli.output import print_json
from harness.cli.terminal import Console

if TYPE_CHECKING:
    from harness.sweep.reproduce import Reproduction


def reproduce(
    run: Annotated[str, typer.Argument(help="Id of a trial's MLflow run.")],
    data: RecordedData = None,
    device: Annotated[
        str | None, typer.Option("--device", show_default="the recorded one", help="cpu, cuda or cuda:N.")
    ] = None,
    tracking_uri: TrackingUri = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Train a trial again from its MLflow run; exit 0 only if every epoch is the same to the last digit.

    Example: [bold]harness reproduce 76522479d3814ea6be2c937e62b7e2c5[/bold]
    """
    from harness.cli.display import epochs_display
    from harness.sweep.reproduce import reproduce

    with epochs_display(MessageConsole()) as display:
        result = reproduce(
            run, data=data, device=device, tracking_uri=tracking_uri, trust_code=trust_code, listener=display
        )
    if as_json:
        print_json(result.as_json())
    else:
        _print(result)
    if not result.agrees:
        raise typer.Exit(1)


def _print(result: Reproduction) -> None:
    epochs = len(result.epochs)
    lines = [f"trial {result.trial} of study {result.study} (run {result.run_id}), {epochs} epochs trained again"]
    if result.agrees:
        lines.append("every loss and accuracy is identical to the last digit")
    else:
        apart = [pair.epoch for pair in result.epochs if not pair.agrees]
        lines.append(f"{len(apart)} epochs differ, the first is epoch {apart[0]}")
        lines += [f"  largest difference of {name}: {gap:.3g}" for name, gap in result.gaps.items()]
    if result.ended is not None:
        lines.append(f"the second training ended early: {result.ended}")
    for difference in result.differences:
        lines.append(f"  {difference.what}: recorded {difference.recorded}, here {difference.found}")
    if not result.agrees and not result.differences:
        lines.append(
            "versions, device, code and data are as recorded: this should not happen on a CPU, please report it; "
            "on a GPU some kernels add in no fixed order"
        )
    console = Console(soft_wrap=True)
    for line in lines:
        console.print(line)
