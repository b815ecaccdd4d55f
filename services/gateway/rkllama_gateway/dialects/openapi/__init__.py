"""The OpenAPI document: what it says of requests comes from the tables that decode them.

operations   the endpoints: method, path, what goes in, what comes out
requests     schemas of bodies, from `bodies` of the dialects     texts   what each field means
replies      schemas of answers
"""
