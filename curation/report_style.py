"""The report's style sheet: one string, because the page must stand alone. Light and dark by the reader's setting."""

STYLE = """
:root{color-scheme:light dark;--bg:#fbfbf9;--panel:#fff;--ink:#1d2326;--dim:#5c686e;--line:#dfe3e1;--keep:#5b9279;
--redact:#d9a441;--drop:#c25b4e;--quarantine:#7d6bb0;--all:#cfd6d4;--arm:#3c7a9e;--mark:#ffe08a;--markink:#3a2a00}
@media(prefers-color-scheme:dark){:root{--bg:#14181a;--panel:#1c2225;--ink:#e3e8e6;--dim:#98a5a8;--line:#30393d;
--keep:#6fae90;--redact:#d8a94f;--drop:#d4776a;--quarantine:#9c8ad0;--all:#3a4549;--arm:#6db0d6;--mark:#6b5410;
--markink:#ffeeb8}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main,header{max-width:1120px;margin:0 auto;padding:0 24px}
header{padding-top:32px}
h1{font-size:26px;margin:0 0 4px}
h2{font-size:20px;margin:44px 0 6px;padding-top:14px;border-top:1px solid var(--line)}
h3{font-size:15px;margin:22px 0 6px}
p{max-width:78ch;margin:6px 0}
.dim,.note{color:var(--dim)}
.note{font-size:13.5px}
a{color:var(--arm)}
code,.code{font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin:14px 0 0;font-size:14px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0}
.tile{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:22px;font-variant-numeric:tabular-nums}
.tile span{color:var(--dim);font-size:13px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px;margin:8px 0}
th{font-weight:600;text-align:left;color:var(--dim);border-bottom:1px solid var(--line);padding:5px 10px 5px 0;
vertical-align:bottom}
td{padding:5px 10px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.wide{min-width:170px}
.stack,.bar{display:flex;height:12px;border-radius:3px;overflow:hidden;background:var(--all);min-width:120px;margin-top:5px}
.bar{background:none}
.stack span,.bar span{display:block;height:100%}
.keep{background:var(--keep)}.redact{background:var(--redact)}.drop{background:var(--drop)}
.quarantine{background:var(--quarantine)}
.key{display:inline-flex;align-items:center;gap:6px;margin-right:16px;font-size:13px;color:var(--dim)}
.key i{width:12px;height:12px;border-radius:3px;display:inline-block}
details{background:var(--panel);border:1px solid var(--line);border-radius:8px;margin:10px 0;padding:0 14px}
summary{cursor:pointer;padding:9px 0;font-weight:600}
summary .dim{font-weight:400}
details[open]{padding-bottom:12px}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(320px,1fr));gap:14px}
figure{margin:0;background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:10px 12px}
figcaption{font-size:13.5px;margin-bottom:4px}
svg{width:100%;height:auto;display:block}
svg.wide{max-width:760px}
svg text{fill:var(--dim);font-size:11px}
svg.wide text{font-size:12px}
svg .mid{text-anchor:middle}svg .end{text-anchor:end;fill:var(--ink)}
svg .all{fill:var(--all)}svg .arm{fill:var(--arm)}
svg .axis{stroke:var(--line)}svg .rule{stroke:var(--dim);stroke-dasharray:3 3}
svg .line{fill:none;stroke:var(--arm);stroke-width:2}
svg line.over,svg line.under,svg line.even{stroke-width:2}
svg .over{stroke:var(--drop);fill:var(--drop)}svg .under{stroke:var(--arm);fill:var(--arm)}
svg .even{stroke:var(--dim);fill:var(--dim)}
.doc{border-left:3px solid var(--line);padding:2px 0 2px 12px;margin:12px 0}
.doc.drop{border-color:var(--drop);background:none}.doc.redact{border-color:var(--redact);background:none}
.doc.keep{border-color:var(--keep);background:none}.doc.quarantine{border-color:var(--quarantine);background:none}
.doc .head{font-size:13px;color:var(--dim);overflow-wrap:anywhere}
.text{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;font-size:14px;margin:4px 0}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:18px}
@media(max-width:760px){.pair{grid-template-columns:1fr}}
mark{background:var(--mark);color:var(--markink);border-radius:3px;padding:0 2px}
.gap{color:var(--dim);padding:0 3px}
footer{max-width:1120px;margin:48px auto 32px;padding:0 24px;color:var(--dim);font-size:13px}
"""
