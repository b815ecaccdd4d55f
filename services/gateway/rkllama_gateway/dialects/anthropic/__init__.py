"""Anthropic's Messages API as Ollama serves it (contract 4), and more of it: pure functions.

bodies     what a request may hold         messages  its turns -> messages of a chat
requests   bodies -> `MessageRequest`      tools     tools, and which may be called
jobs       a request and the model -> `Job`
blocks     chunks -> content blocks        answers   blocks -> events, or one message
failures   what an error looks like
"""
