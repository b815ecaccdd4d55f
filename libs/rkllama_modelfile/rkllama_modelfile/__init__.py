"""Modelfiles in both grammars: text to values, values to the body of a create. Pure."""

from rkllama_modelfile.detection import Grammar, decoded, detect, parse
from rkllama_modelfile.modelfile import Message, Modelfile, ModelfileError
from rkllama_modelfile.ollama import parse_ollama
from rkllama_modelfile.predecessor import parse_predecessor
from rkllama_modelfile.request import to_create, typed_parameters, warnings

__all__ = [
    "Grammar",
    "Message",
    "Modelfile",
    "ModelfileError",
    "decoded",
    "detect",
    "parse",
    "parse_ollama",
    "parse_predecessor",
    "to_create",
    "typed_parameters",
    "warnings",
]
