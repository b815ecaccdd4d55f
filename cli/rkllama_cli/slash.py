"""The words of a chat's commands: what there is to type, and the help about it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Topic(StrEnum):
    """What `/show` can show."""

    INFO = "info"
    MODELFILE = "modelfile"
    PARAMETERS = "parameters"
    SYSTEM = "system"
    TEMPLATE = "template"
    LICENSE = "license"


HELP = """\
  /set ...           change a setting of this conversation
  /show ...          show something of the model
  /load NAME         talk to another model
  /save NAME         keep settings and conversation as a model
  /clear             forget the conversation
  /bye               leave
  /? [COMMAND]       this help

Use \"\"\" to begin and end a message of several lines.
Name the path of a .png, .jpg or .webp in a message to show it to the model.
Ctrl-C stops an answer, Ctrl-D leaves, the arrows walk through the history."""

HELP_SET = """\
  /set parameter NAME VALUE   temperature 0.2, num_ctx 4096, stop "###" ...
  /set system TEXT            what the model is told first
  /set think [LEVEL]          have it think; high, medium, low or max
  /set nothink                have it answer at once
  /set format json            answer in JSON
  /set noformat               answer in any form
  /set verbose, quiet         show timings after an answer, or do not
  /set history, nohistory     keep what you type for next time, or do not
  /set wordwrap, nowordwrap   break lines between words, or do not"""

USAGE_PARAMETER = "Use /set parameter NAME VALUE, such as /set parameter temperature 0.2"

HELP_SHOW = """\
  /show info         what is known about the model
  /show modelfile    its Modelfile
  /show parameters   the parameters in force
  /show system       what it is told first
  /show template     how its prompt is made
  /show license      its licence"""

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "/set": (
        "parameter",
        "system",
        "think",
        "nothink",
        "format",
        "noformat",
        "verbose",
        "quiet",
        "history",
        "nohistory",
        "wordwrap",
        "nowordwrap",
    ),
    "/show": tuple(Topic),
    "/load": (),
    "/save": (),
    "/clear": (),
    "/bye": (),
    "/?": ("set", "show"),
}
"""Commands, and the first word that each can have: what Tab completes."""
