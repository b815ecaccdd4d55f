"""From a model's text to what it means: thinking, calls of tools, and content.

text -> thinking -> calls -> deltas          pure; how the text was cut does not change the sum
         parser:    puts the stages together, and is what the engine uses
         thinking:  the part between a model's tags
         calls:     finds what looks like a call, and releases what is none
         syntax:    how a model marks its calls, by what its chat template shows
         readers:   what may stand behind each mark;  scanning, objects: their pieces
"""
