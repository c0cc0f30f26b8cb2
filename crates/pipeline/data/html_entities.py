"""Makes html_entities.txt: one `name;character(s)` per line, sorted, for the entities of HTML 5 that are decoded.

Names are those of the WHATWG list (as Python's html.entities has it) that end in a semicolon and have at most 24 characters;
names wholly in lower case are also listed in upper case, with their characters in upper case, unless HTML gives that spelling
a meaning of its own. Characters are hexadecimal code points joined by `+`. Usage: html_entities.py > html_entities.txt
"""
import html
from html.entities import html5

found = {}
for name, characters in html5.items():
    if not name.endswith(";"):
        continue
    found[name] = characters
    upper = "&" + name.upper()
    if name == name.lower() and html.unescape(upper) == upper:
        found[name.upper()] = characters.upper()
for name in sorted(found):
    if len(name) <= 25:
        print(name + "+".join(f"{ord(c):x}" for c in found[name]))
