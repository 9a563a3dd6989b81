"""The configuration: TOML in, checked values out. Every key has a default, a unit, a range and a word of help.

The dataclasses are the one definition: the example file, docs/gateway.md, the checks and what a reload may change are
all taken from them. A new section is a class in a file of its own here, and one line in `document.Config`.

    keys.py      what a key, a section and a family of tables are declared with
    check.py     tables of a document into dataclasses, with every mistake at once
    base.py      [gateway] [mqtt] [ingest] [store] [metrics] [log]
    sinks.py     [sinks.NAME]
    third_party.py  [third_party.NAME]
    upload.py    [windows] [upload.NAME]
    offload.py   [analyses.NAME] [offload]
    local.py     [local] [local.sensors.NAME]
    rules.py     [rules.NAME] [outputs.NAME]
    document.py  the whole: Config, load, parse

It starts nothing and opens nothing but the file.
"""

from gateway.config.base import LOG_LEVELS
from gateway.config.document import Config, load, parse
from gateway.config.sinks import SinkConfig
from gateway.config.third_party import ThirdPartyConfig

__all__ = ["LOG_LEVELS", "Config", "SinkConfig", "ThirdPartyConfig", "load", "parse"]
