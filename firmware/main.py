"""Starts the application; what brings it down is written to flash, and the board restarts.

The watchdog runs from the first line on: what hangs while it is loaded ends in a reset, as what hangs later. After
several of these in a row the application starts in safe mode (isonode/crash.py). It never calls sys.exit(): on a board
that is an endless soft reboot which locks mpremote out. Ctrl-C leaves the prompt to whoever is at the cable. Must not
know what the application does.
"""

import gc

_START_MS = 60000  # for loading everything; the configuration then says how long a turn may take


def run():
    # Collect after every 4 KB: with garbage left lying about between them, the modules' code would leave the heap in
    # pieces too small for the application's buffers.
    gc.threshold(4096)
    from isonode import crash, hal

    hal.watchdog(_START_MS)
    cause = hal.reset_cause()
    crashes = crash.on_boot(cause)
    safe = crashes >= crash.SAFE_AFTER
    try:
        from isonode import config, lazy

        settings = config.load_any() if safe else config.load()
        del config
        lazy.forget("isonode.config")  # before the rest is loaded into the room it leaves
        lazy.forget("isonode.settings")
        from isonode import app

        app.main(settings, cause, crashes, safe)
    except KeyboardInterrupt:
        crash.on_planned()  # whoever is at the cable takes over
        raise
    except Exception as error:
        crash.log(error)
        hal.sleep_fed_ms(crash.hold_off_ms())
        hal.reset()


run()
