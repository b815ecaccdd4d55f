"""What this machine is as a board: its chip, its NPU, who drives it, and what stands in the way."""

from rkllama_board.board import PLATFORM_VARIABLE, Board, Clock, NodeKind, SocSource
from rkllama_board.checks import Finding, Level, LibraryFacts, check, check_model
from rkllama_board.cpus import cpus_of, format_cpus, parse_cpus
from rkllama_board.detect import detect
from rkllama_board.domains import allocate, domains_needed
from rkllama_board.errors import BoardError, NodeBusyError, NodeUnusableError
from rkllama_board.lock import NodeLock, acquire, holders
from rkllama_board.soc import FACTS, Soc, SocFacts, parse_soc
from rkllama_board.vendor_speed import VendorFigure, vendor_figure

__all__ = [
    "FACTS",
    "PLATFORM_VARIABLE",
    "Board",
    "BoardError",
    "Clock",
    "Finding",
    "Level",
    "LibraryFacts",
    "NodeBusyError",
    "NodeKind",
    "NodeLock",
    "NodeUnusableError",
    "Soc",
    "SocFacts",
    "SocSource",
    "VendorFigure",
    "acquire",
    "allocate",
    "check",
    "check_model",
    "cpus_of",
    "detect",
    "domains_needed",
    "format_cpus",
    "holders",
    "parse_cpus",
    "parse_soc",
    "vendor_figure",
]
