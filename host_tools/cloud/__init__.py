"""The reference receiver: takes batches from gateways over HTTP, keeps each reading once, answers questions."""
