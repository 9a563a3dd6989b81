"""The board's application. `app` alone connects the stages; no stage imports another."""
