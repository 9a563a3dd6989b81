"""What training says of its models: a few lines a channel, for whoever decides whether to sign them. Pure."""

from __future__ import annotations

from host_tools.comparing import said, unit_of
from host_tools.screening import in_words
from host_tools.train import ChannelResult, TrainedModel


def lines(trained: TrainedModel) -> list[str]:
    """The report on one model."""
    told = [line for channel in trained.channels for line in _channel(trained, channel)]
    return [*told, *_silence(trained)]


def _channel(trained: TrainedModel, channel: ChannelResult) -> list[str]:
    old, new = channel.before, channel.after
    return [
        f"  {channel.name}, {channel.devices} board(s){', borrowed from the class' if channel.borrowed else ''}, "
        f"{new.days:.1f} days: "
        f"messages a sensor-day {old.messages_per_day:.1f} -> {new.messages_per_day:.1f}, "
        f"alarms {old.alarms} -> {new.alarms}{_verdicts(channel)}, "
        f"largest error {old.max_error_milli / 1000:g} -> {new.max_error_milli / 1000:g}",
        f"    predictor {channel.reporting}: {new.messages} reports of {new.samples} samples "
        f"({100 * new.messages / max(1, new.samples):.2f} %); plain send-on-delta with the same bound "
        f"{channel.plain.messages}",
        f"    {_delay(trained, channel)}",
        *_not_learnt(channel),
    ]


def _verdicts(channel: ChannelResult) -> str:
    return " (" + ", ".join(f"{count} {kind}" for kind, count in channel.verdicts) + ")" if channel.verdicts else ""


def _not_learnt(channel: ChannelResult) -> list[str]:
    """Which samples taught nothing, and why."""
    found = []
    if channel.left_out:
        found.append(f"    left out as sensor faults: {in_words(channel.left_out)}")
    for one in channel.failing:
        found.append(
            f"    not learnt from, since its sensor fails {100 * one.faulty:.0f} % of the time: {one.history.device}, "
            f"{in_words(one.spans)}"
        )
    return found


def _delay(trained: TrainedModel, channel: ChannelResult) -> str:
    """When alarms begin."""
    params = trained.model.channels[channel.name]
    samples = params.debounce_samples
    text = (
        f"limit alarms begin {minutes(samples * channel.period_ms)} after a limit is passed ({samples} samples in a row"
    )
    if channel.debounce_before != samples:
        text += f", {channel.debounce_before} before"
    text += ")"
    if params.rate_limit_milli_min:
        rate = said("rate_limit_milli_min", params.rate_limit_milli_min, unit_of(channel.name))
        return f"{text}, a change of more than {rate} at once"
    return f"{text}; no rate limit: too few days to know one"


def _silence(trained: TrainedModel) -> list[str]:
    beating = [
        f"{channel.name} {_beat(channel.heartbeat_before)} -> {_beat(beat_s)}"
        for channel in trained.channels
        if (beat_s := trained.model.channels[channel.name].heartbeat_s) or channel.heartbeat_before
    ]
    if not beating:
        return ["  no heartbeat: a silent board is not told from a quiet room"]
    told = f"; a silent board is told within {minutes(trained.told_s * 1000)}" if trained.told_s else ""
    return [f"  heartbeat: {', '.join(beating)}{told}"]


def _beat(heartbeat_s: int) -> str:
    return f"{heartbeat_s} s" if heartbeat_s else "never"


def minutes(ms: int) -> str:
    """A time for people."""
    if ms < 120_000:
        return f"{ms / 1000:.0f} s"
    return f"{ms / 60_000:.0f} min" if ms < 7_200_000 else f"{ms / 3_600_000:.1f} h"
