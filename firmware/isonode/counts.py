"""What an outbox holds and what became of the rest, as plain numbers. Knows neither RAM nor flash."""


class Counts:
    """What the outbox holds and what became of the rest. LOST records are not counted: they stand for others."""

    def __init__(self):
        self.reports = 0  # held now
        self.events = 0
        self.windows = 0
        self.acked_reports = 0
        self.acked_events = 0
        self.acked_windows = 0
        self.evicted_reports = 0
        self.evicted_events = 0
        self.evicted_windows = 0
        self.entries_written = 0
        self.segments_created = 0
        self.segments_deleted = 0
        self.compactions = 0
        self.no_space = 0
        self.io_errors = 0
        self.corrupt = 0  # entries passed over because their bytes were damaged

    def held(self):
        """Reports, events and window figures held, in RAM and on flash."""
        return self.reports + self.events + self.windows

    def acked(self, reports, events, windows):
        """Move records from held to acked."""
        self._leave(reports, events, windows)
        self.acked_reports += reports
        self.acked_events += events
        self.acked_windows += windows

    def evicted(self, reports, events, windows):
        """Move records from held to evicted."""
        self._leave(reports, events, windows)
        self.evicted_reports += reports
        self.evicted_events += events
        self.evicted_windows += windows

    def _leave(self, reports, events, windows):
        self.reports -= reports
        self.events -= events
        self.windows -= windows
