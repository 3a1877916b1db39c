"""What the experiment's report adds to the style of the curation report: verdicts, intervals, arms, narrow screens."""

from curation.report_style import STYLE

# Eight colours that stay apart for the colour-blind (Okabe and Ito 2008), darker where they meet white; dashes besides.
EXPERIMENT_STYLE = (
    STYLE
    + """
:root{--s0:#0072b2;--s1:#b8480b;--s2:#00805c;--s3:#a3517f;--s4:#8a6d00;--s5:#2f7fae;--s6:#555;--s7:#7a3db8}
@media(prefers-color-scheme:dark){:root{--s0:#56b4e9;--s1:#f0894a;--s2:#3fc79a;--s3:#e39ac4;--s4:#f0e442;--s5:#8cc8f0;
--s6:#bbb;--s7:#bb8ef0}}
.verdict{background:var(--panel);border:1px solid var(--line);border-left:8px solid var(--dim);border-radius:8px;
padding:14px 16px;margin:14px 0}
.verdict.supported{border-left-color:var(--keep)}.verdict.refuted{border-left-color:var(--drop)}
.verdict b.answer{display:block;font-size:24px;line-height:1.25}
.verdict li{margin:4px 0;overflow-wrap:anywhere}.verdict ul{padding-left:20px;margin:8px 0 0}
p,summary,h3{overflow-wrap:anywhere}
.hash{overflow-wrap:anywhere}
.effect{border-bottom:1px solid var(--line);padding:8px 0}
.effect .head{display:flex;flex-wrap:wrap;gap:2px 10px;align-items:baseline}
.effect .numbers{font-size:13.5px;font-variant-numeric:tabular-nums;color:var(--dim)}
.tag{font-size:12.5px;border:1px solid var(--line);border-radius:10px;padding:0 8px;color:var(--dim);white-space:nowrap}
.tag.over{color:var(--keep);border-color:var(--keep)}.tag.under{color:var(--drop);border-color:var(--drop)}
svg.forest{max-width:560px}
svg .zero{stroke:var(--dim)}svg .whisker{stroke-width:2.5}
svg .over{stroke:var(--keep);fill:var(--keep)}svg .under{stroke:var(--drop);fill:var(--drop)}
svg .series{fill:none;stroke-width:2}svg .band{opacity:.13;stroke:none}
svg .s0{stroke:var(--s0);fill:var(--s0)}svg .s1{stroke:var(--s1);fill:var(--s1)}svg .s2{stroke:var(--s2);fill:var(--s2)}
svg .s3{stroke:var(--s3);fill:var(--s3)}svg .s4{stroke:var(--s4);fill:var(--s4)}svg .s5{stroke:var(--s5);fill:var(--s5)}
svg .s6{stroke:var(--s6);fill:var(--s6)}svg .s7{stroke:var(--s7);fill:var(--s7)}
svg polyline.series{fill:none}
svg .series.s1,svg .series.s5{stroke-dasharray:7 3}svg .series.s2,svg .series.s6{stroke-dasharray:2 3}
svg .series.s3,svg .series.s7{stroke-dasharray:9 3 2 3}
.key i.s0{background:var(--s0)}.key i.s1{background:var(--s1)}.key i.s2{background:var(--s2)}
.key i.s3{background:var(--s3)}.key i.s4{background:var(--s4)}.key i.s5{background:var(--s5)}
.key i.s6{background:var(--s6)}.key i.s7{background:var(--s7)}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(260px,1fr));gap:12px;margin:6px 0}
.side{border:1px solid var(--line);border-radius:8px;padding:6px 10px;background:var(--panel);min-width:0}
.side .head{font-size:13px;color:var(--dim)}
details.reveal{border:none;background:none;margin:0;padding:0}
details.reveal>summary{font-weight:400;padding:0;list-style-position:inside}
details.reveal[open]>summary{color:var(--dim)}
@media(max-width:560px){main,header{padding:0 14px}header{padding-top:18px}footer{padding:0 14px}
.tiles{grid-template-columns:1fr 1fr;gap:8px}.tile b{font-size:18px}h2{margin-top:30px}h1{font-size:22px}
td,th{padding-right:14px}.grid{grid-template-columns:1fr}}
"""
)
