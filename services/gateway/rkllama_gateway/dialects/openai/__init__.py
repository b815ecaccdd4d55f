"""OpenAI's API as Ollama serves it (contract 3): pure functions between bytes and messages.

bodies      what a request may hold          messages   a chat's messages and images
requests    bodies -> `Run`                  inputs     the same of `/v1/responses`
tools       tools, and which may be called   jobs       `Run` and the model -> `Job`
answers     chunks -> chat and completions   items      chunks -> the items of a response
embeddings  texts -> vectors                 responses  the events around them
models      what there is                    packed     bodies that are compressed
failures    what an error looks like
"""
