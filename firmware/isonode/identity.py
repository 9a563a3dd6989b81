"""Who this boot is: counts it, and settles with the gateway's answer that its number was never used before.

Loaded at the start, and once more when the gateway answers a board whose flash knew nothing (docs/adr/0006). Must not
know the link or what a record says.
"""

from isonode import bootcount, crash, hal


def begin(at_least, outbox_folder):
    """Count this boot. Returns (boot, fresh), fresh 0 when earlier numbers are known; see bootcount.

    A flash that cannot be written counts nothing: the boot is then fresh, and nothing of it is sent unasked.
    """
    _, fresh, top = bootcount.load()
    if top:
        from isonode import renumber

        try:
            renumber.segments(outbox_folder, fresh, top)
            bootcount.save(bootcount.load()[0], top + 1)
        except OSError:
            pass  # stays to be done: nothing is sent before it is
    try:
        return bootcount.next_boot(at_least)
    except OSError:
        return at_least, at_least


def settle(outbox, boot, fresh, top):
    """The gateway knows boots up to `top`. Returns the number under which this boot may send, 0 if it must not yet.

    What is in RAM is renumbered by going on under the new number. What lies on flash is renumbered at the next start,
    which this function then causes: it makes everything durable and does not return.
    """
    if bootcount.load()[2]:
        return 0  # the flash took no renumbering at this start
    new = boot if top < fresh else boot + top + 1 - fresh
    if new == boot or not outbox.store.used_bytes:
        outbox.boot = new
        try:
            bootcount.save(new, 0)
        except OSError:
            pass  # no flash: asked again at the next start
        return new
    if not outbox.close():
        return 0
    bootcount.save(new, fresh, top)
    crash.on_planned()
    hal.reset()
    return 0
