"""Modelfiles in both grammars, and the templates in them: text to values, Go to Jinja. Pure."""

from rkllama_modelfile.detection import Grammar, decoded, detect, parse
from rkllama_modelfile.go_templates import TemplateError, UnknownTemplateError, is_go, twin
from rkllama_modelfile.infill import Infill, fills_in, infill_of
from rkllama_modelfile.modelfile import Message, Modelfile, ModelfileError
from rkllama_modelfile.ollama import parse_ollama
from rkllama_modelfile.predecessor import parse_predecessor
from rkllama_modelfile.request import is_version, to_create, typed_parameters, warnings

__all__ = [
    "Grammar",
    "Infill",
    "Message",
    "Modelfile",
    "ModelfileError",
    "TemplateError",
    "UnknownTemplateError",
    "decoded",
    "detect",
    "fills_in",
    "infill_of",
    "is_go",
    "is_version",
    "parse",
    "parse_ollama",
    "parse_predecessor",
    "to_create",
    "twin",
    "typed_parameters",
    "warnings",
]
