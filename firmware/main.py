"""Starts the application; what brings it down is written to flash, and the board restarts.

It never calls sys.exit(): on a board that is an endless soft reboot which locks mpremote out. Ctrl-C leaves the prompt
to whoever is at the cable. Must not know what the application does.
"""

import gc


def run():
    # Collect after every 4 KB: with garbage left lying about between them, the modules' code would leave the heap in
    # pieces too small for the application's buffers.
    gc.threshold(4096)
    from isonode import crash, hal

    try:
        from isonode import config, lazy

        settings = config.load()
        del config
        lazy.forget("isonode.config")  # before the rest is loaded into the room it leaves
        from isonode import app

        app.main(settings)
    except Exception as error:
        crash.log(error)
        hal.sleep_ms(crash.hold_off_ms())
        hal.reset()


run()
