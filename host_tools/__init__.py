"""Host tools: everything that runs on the operator's machine. Imports neither the gateway nor a board's application."""
