"""What a run leaves: RESULTS.md, results.json, the plots, and index.html with everything inside."""

import html
import json

STATE = {True: "passed", False: "**failed**"}


def number(value):
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def table(rows):
    head, *body = rows
    align = ["---" if i == 0 else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(str(x) for x in row) + " |" for row in (head, align, *body))


def as_objects(outcomes, budget):
    """results.json: an object a claim."""
    for claim, verdict, record in outcomes:
        yield {"id": claim.id, "passed": verdict.passed, "value": verdict.value,
               "threshold": threshold(claim, budget), "unit": claim.unit,
               "seeds": verdict.seeds, "spread": list(verdict.spread), "budget": budget,
               "machine": record["machine"], "commit": record["commit"],
               "command": command(claim, budget)}


def threshold(claim, budget):
    return claim.smoke if budget == "smoke" and claim.smoke else claim.threshold


def command(claim, budget):
    return f"./run claims {budget} {claim.id}"


def state(claim, verdict):
    if verdict.passed:
        return "passed"
    return "not reached" if claim.target else "**failed**"


def markdown(outcomes, failures, budget, age):
    parts = [f"# Claims, measured\n\nBudget: {budget}. Written by `./run claims {budget}`; `results.json` "
             "beside this page has the same as data.\n"]
    rows = [("claim", "", "value", "threshold", "spread", "seeds", "measured at")]
    for claim, verdict, record in outcomes:
        spread = " – ".join(number(x) for x in verdict.spread)
        rows.append((f"[{claim.id}](#{claim.id.lower()}) {claim.title}", state(claim, verdict),
                     f"{number(verdict.value)} {claim.unit}".strip(), threshold(claim, budget),
                     spread or "–", verdict.seeds or "–", f"{record['commit']}{age(record)}"))
    for claim, message in failures:
        rows.append((f"{claim.id} {claim.title}", "**failed**", "–", threshold(claim, budget), "–",
                     "–", "not measured"))
    parts.append(table(rows) + "\n")
    for claim, message in failures:
        parts.append(f"## {claim.id}\n\nNot measured: {message}\n")
    for claim, verdict, record in outcomes:
        parts.append(f"## {claim.id}\n\n{claim.title}: {threshold(claim, budget)}. Found "
                     f"{number(verdict.value)} {claim.unit}: {state(claim, verdict)}. On "
                     f"{record['machine']}, {record['date']}. Again: `{command(claim, budget)} --again`\n")
        if verdict.note:
            parts.append(verdict.note + "\n")
        if verdict.rows:
            parts.append(table(verdict.rows) + "\n")
        parts += [f"![{name}]({name})\n" for name, _ in verdict.plots]
    return "\n".join(parts)


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>HydraLM: claims, measured</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .2rem .7rem; text-align: right;
  border-bottom: 1px solid #8886; }} td:first-child, th:first-child {{ text-align: left; }}
svg {{ max-width: 100%; height: auto; }} code {{ font-size: 90%; }}
</style>
<h1>Claims, measured</h1>
<p>Budget: {budget}.</p>
{body}
</html>
"""


def page(outcomes, failures, budget, age):
    def rows_of(rows):
        head, *body = rows
        cells = ["<tr>" + "".join(f"<th>{html.escape(str(x))}</th>" for x in head) + "</tr>"]
        cells += ["<tr>" + "".join(f"<td>{html.escape(str(x))}</td>" for x in row) + "</tr>"
                  for row in body]
        return "<table>" + "".join(cells) + "</table>"
    parts = [rows_of([("claim", "", "value", "threshold", "measured at"),
                      *((f"{c.id} {c.title}", state(c, v).strip("*"),
                         f"{number(v.value)} {c.unit}", threshold(c, budget),
                         r["commit"] + age(r)) for c, v, r in outcomes),
                      *((f"{c.id} {c.title}", "failed", "–", threshold(c, budget), message)
                        for c, message in failures)])]
    for claim, verdict, _ in outcomes:
        parts.append(f"<h2>{claim.id}: {html.escape(claim.title)}</h2>")
        if verdict.note:
            parts.append(f"<p>{html.escape(verdict.note)}</p>")
        if verdict.rows:
            parts.append(rows_of(verdict.rows))
        parts += [svg for _, svg in verdict.plots]
    return PAGE.format(budget=html.escape(budget), body="\n".join(parts))


def write(directory, outcomes, failures, budget, age):
    directory.mkdir(parents=True, exist_ok=True)
    objects = list(as_objects(outcomes, budget))
    objects += [{"id": claim.id, "passed": False, "value": None,
                 "threshold": threshold(claim, budget), "unit": claim.unit, "budget": budget,
                 "error": message, "command": command(claim, budget)} for claim, message in failures]
    (directory / "results.json").write_text(json.dumps(objects, indent=1) + "\n")
    (directory / "RESULTS.md").write_text(markdown(outcomes, failures, budget, age))
    (directory / "index.html").write_text(page(outcomes, failures, budget, age))
    for _, verdict, _ in outcomes:
        for name, svg in verdict.plots:
            (directory / name).write_text(svg)
