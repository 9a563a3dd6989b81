"""Sinks: where frozen batches go. `base.Sink` is the seam, one file per kind of sink, one contract suite over all."""
