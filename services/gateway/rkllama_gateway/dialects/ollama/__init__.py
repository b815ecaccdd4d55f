"""Ollama's native dialect: bodies to jobs, chunks to records, and the texts of its errors.

requests, admin   body -> request          bodies (tables), names, gojson do the work
jobs              request + model -> Job   the checks in Ollama's order; options, prompts
answers, vectors  chunk -> line, vector    show, listings, progress for what is no inference
failures          error -> status, text    one table for all endpoints
"""
