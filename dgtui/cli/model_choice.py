"""Which checkpoint to download: how it would be held on this machine, and which published one suits it."""

from typing import TYPE_CHECKING

from dgtui.cli import options
from dgtui.cli.terminal import columns, note, put, size
from dgtui.errors import OutOfMemory

if TYPE_CHECKING:
    from dgtui.model.hub import Download


def fit(download: "Download") -> str:
    """How it would be held on this machine, according to its config and headers.

    Raises the errors of `loader.checked_plan`. Too little memory is no error: it may be meant for another machine.
    """
    if download.opened is None:
        from dgtui.model import devices

        device = devices.choose_device("auto")
        takes, free = size(int(download.total * 1.16)), size(devices.available(device))
        return f"a GGUF file takes about {takes} of memory, and {free} are free on {device}"
    from dgtui.model.loader import checked_plan

    try:
        plan = checked_plan(download.opened, options.load_options(options.merged({})))
    except OutOfMemory as error:
        return f"it does not fit this machine: {error.message}"
    form = " and ".join(plan.formats) or str(plan.dtype).removeprefix("torch.")
    return f"it fits: {size(plan.estimate.total)} in {form} of {size(plan.available)} free on {plan.device}"


def show_choices() -> None:
    """Prints the published checkpoints and marks the best one for this machine."""
    from dgtui.model import devices
    from dgtui.model.published import PUBLISHED, recommended

    device = devices.choose_device("auto")
    free = devices.available(device)
    cpu = device.type == "cpu"
    best = recommended(free, cpu)
    rows: list[tuple[str, ...]] = [("", "NAME", "STORED AS", "DISK", "AS STORED", "PACKED", "PACKED INTO")]
    for own in PUBLISHED:
        name = f"{own.name} --file …{own.file}.gguf" if own.file else own.name
        sizes = (f"{gb:.1f} GB" for gb in (own.disk_gb, *own.takes_gb(cpu)))
        rows.append(("*" if own == best else "", name, own.stored, *sizes, own.held))
    put("\n".join(columns(rows, right=(3, 4, 5))) + "\n")
    note(
        f"{size(free)} are free on {device}: " + (f"* marks the best fit, {best.name}" if best else "none of them fits")
    )
