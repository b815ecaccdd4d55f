"""Ollama's HTTP contract as a table, and the gateway held to it over a socket.

    table      Row = request -> status, headers, body, with the section of the contract it states
    matching   what a value of an answer may be, where the contract leaves freedom
    shapes     the answers that many rows share: errors, records, streams
    wire       one request and its answer, as bytes
    system     the processes and the scripted models that the rows are run against
    runner     a row, run: what came that should not have come
    rows/      the table, by subject
    mutations  rules of the gateway, each broken on purpose: a row must notice

A row states what the contract says, never what the server happens to do. Each stands alone: what it
changes are models of its own (`~own~` in a name), so that order does not matter and any row can be
run against any gateway.
"""
