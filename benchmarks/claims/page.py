"""What a run leaves: RESULTS.md, results.json, the plots, and index.html with everything inside.

A claim that was not measured this time keeps what the files say of it.
"""

import html
import json
import re

SECTION = {"md": ("## {0}\n", r"^## (\w+)\n(.*?)(?=^## |\Z)"),
           "html": ("<section id=\"{0}\">\n", r"<section id=\"(\w+)\">\n(.*?</section>\n)")}


def number(value):
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def table(rows):
    head, *body = rows
    align = ["---" if i == 0 else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(str(x) for x in row) + " |" for row in (head, align, *body))


def html_table(rows):
    def line(row, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(x).strip('*'))}</{tag}>" for x in row) + "</tr>"
    head, *body = rows
    return "<table>" + line(head, "th") + "".join(line(row, "td") for row in body) + "</table>"


def threshold(claim, budget):
    return claim.smoke if budget == "smoke" and claim.smoke else claim.threshold


def command(claim, budget):
    return f"./run claims {budget} {claim.id}"


def state(passed, target):
    """passed: None where there is no threshold."""
    return "reported" if passed is None else "passed" if passed else "not reached" if target else "**failed**"


def machine(cells, named):
    """The machine by its name, and how many threads of it where all cells say the same number."""
    threads = {cell.threads for cell in cells}
    if len(threads) != 1 or None in threads:
        return named
    count = threads.pop()
    return ("one thread" if count == 1 else f"{count} threads") + f" of {named}"


def entry(claim, budget, verdict, record):
    """What results.json has of a claim."""
    return {"id": claim.id, "title": claim.title, "passed": verdict.passed, "value": verdict.value,
            "threshold": threshold(claim, budget), "unit": claim.unit, "target": claim.target,
            "seeds": verdict.seeds, "spread": list(verdict.spread), "budget": budget,
            "machine": machine(claim.cells(budget), record["machine"]), "commit": record["commit"], "date": record["date"],
            "command": command(claim, budget)}


def lost_entry(claim, budget, message):
    return {"id": claim.id, "title": claim.title, "passed": False, "value": None,
            "threshold": threshold(claim, budget), "unit": claim.unit, "target": False, "seeds": 0,
            "spread": [], "budget": budget, "machine": None, "commit": None, "date": None,
            "command": command(claim, budget), "error": message}


def overview(entries, missing, budget):
    rows = [("claim", "", "value", "threshold", "spread", "seeds", "measured at")]
    for e in entries:
        rows.append((f"{e['id']} {e['title']}", state(e["passed"], e["target"]),
                     f"{number(e['value'])} {e['unit']}".strip(), e["threshold"],
                     " – ".join(number(x) for x in e["spread"]) or "–", e["seeds"] or "–",
                     f"{e['commit']}, {e['date']}" if e["commit"] else "not measured"))
    rows += [(f"{claim.id} {claim.title}", "not measured yet", "–", threshold(claim, budget), "–", "–", "–")
             for claim in missing]
    return rows


def told(e):
    """The sentence a section begins with."""
    if "error" in e:
        return f"{e['title']}: not measured: {e['error']}"
    return (f"{e['title']}: {e['threshold']}. Found {number(e['value'])} {e['unit']}: "
            f"{state(e['passed'], e['target'])}. On {e['machine']}, {e['date']}. Again: ")


def markdown_section(e, verdict):
    parts = [told(e) + f"`{e['command']} --again`"]
    if verdict:
        parts += [verdict.note] if verdict.note else []
        parts += [table(verdict.rows)] if verdict.rows else []
        parts += [f"![{name}]({name})" for name, _ in verdict.plots]
    return "\n" + "\n\n".join(parts) + "\n\n"


def html_section(e, verdict):
    parts = [f"<h2>{e['id']}</h2>",
             f"<p>{html.escape(told(e).replace('**', ''))}<code>{html.escape(e['command'])} --again</code></p>"]
    if verdict:
        parts += [f"<p>{html.escape(verdict.note.replace('**', ''))}</p>"] if verdict.note else []
        parts += [html_table(verdict.rows)] if verdict.rows else []
        parts += [svg for _, svg in verdict.plots]
    return "\n".join(parts) + "\n</section>\n"


HEAD = """# Claims, measured

Budget: {budget}. Written by `./run claims {budget}`; [results.json](results.json) has the same as data,
[index.html](index.html) everything in one file.

"""
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>HydraLM: claims, measured</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }}
body {{ max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .2rem .7rem; text-align: right;
  border-bottom: 1px solid #8886; }} td:first-child, th:first-child {{ text-align: left; }}
svg {{ max-width: 100%; height: auto; }} code {{ font-size: 90%; }}
</style>
<h1>Claims, measured</h1>
<p>Budget: {budget}.</p>
{body}</html>
"""


def earlier(path, kind):
    """{id: section} of a page written before."""
    if not path.exists():
        return {}
    return dict(re.findall(SECTION[kind][1], path.read_text(), re.M | re.S))


def joined(sections, order, kind):
    return "".join(SECTION[kind][0].format(id) + sections[id].rstrip("\n") + "\n" * (2 if kind == "md" else 1)
                   for id in order if id in sections)


def write(directory, outcomes, lost, budget, claims):
    """claims: all that this budget measures; those without a result are listed as such."""
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "results.json"
    entries = {e["id"]: e for e in json.loads(data.read_text())} if data.exists() else {}
    md, page = earlier(directory / "RESULTS.md", "md"), earlier(directory / "index.html", "html")
    new = [(entry(claim, budget, verdict, record), verdict) for claim, verdict, record in outcomes]
    new += [(lost_entry(claim, budget, message), None) for claim, message in lost]
    for e, verdict in new:
        entries[e["id"]] = e
        md[e["id"]], page[e["id"]] = markdown_section(e, verdict), html_section(e, verdict)
        for name, svg in verdict.plots if verdict else ():
            (directory / name).write_text(svg)
    order = sorted(entries)
    listed = [entries[id] for id in order]
    rows = overview(listed, [claim for claim in claims if claim.id not in entries], budget)
    data.write_text(json.dumps(listed, indent=1) + "\n")
    (directory / "RESULTS.md").write_text((HEAD.format(budget=budget) + table(rows) + "\n\n"
                                           + joined(md, order, "md")).rstrip("\n") + "\n")
    (directory / "index.html").write_text(PAGE.format(
        budget=html.escape(budget), body=html_table(rows) + "\n" + joined(page, order, "html")))
