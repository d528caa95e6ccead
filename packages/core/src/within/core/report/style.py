"""The style sheet of `report.html`: one column, light and dark, narrow screens and print."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --panel: #f6f7f9; --ink: #1b1f24; --muted: #5f6b7a; --line: #dfe3e8;
  --accent: #1f6feb; --good: #18794e; --bad: #c2272d; --rest: #d3d9e0; --before: #c3cad3;
  --b0: #3b7dd8; --b1: #e0912f; --b2: #2e9e73; --b3: #c66a9f; --b4: #58b3d6; --b5: #d1603d; --b6: #8a75c4;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --panel: #1d2127; --ink: #e8ebef; --muted: #9aa6b4; --line: #323942;
    --accent: #6ea8ff; --good: #55c795; --bad: #ff7b7b; --rest: #3d4550; --before: #4a535f;
    --b0: #5b97ea; --b1: #eba855; --b2: #49b98d; --b3: #d889b7; --b4: #73c4e3; --b5: #e37b5a; --b6: #a594db;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1020px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 1.15rem; margin: 44px 0 10px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 0.98rem; margin: 22px 0 6px; }
p { margin: 6px 0 12px; } .muted, figcaption { color: var(--muted); } .small { font-size: 0.87rem; }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
th { font-weight: 600; color: var(--muted); text-align: left; vertical-align: bottom; font-size: 0.85rem; }
th, td { padding: 6px 9px; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { min-width: 8.5em; padding-left: 0; } td code { white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
.line { white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
td .sub { display: block; color: var(--muted); font-size: 0.83rem; }
.good { color: var(--good); } .bad { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; margin: 20px 0 4px; }
.tile { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.tile .label { color: var(--muted); font-size: 0.85rem; }
.tile .value { font-size: 1.42rem; font-weight: 650; letter-spacing: -0.01em; font-variant-numeric: tabular-nums; }
.tile .from { color: var(--muted); font-size: 0.87rem; }
.bar { position: relative; height: 10px; min-width: 90px; border-radius: 5px; background: var(--rest);
  overflow: hidden; }
.bar i { position: absolute; inset: 0 auto 0 0; border-radius: 5px; background: var(--accent); }
.bar.over i { background: var(--bad); }
.widths { columns: 2 330px; column-gap: 36px; font-size: 0.86rem; font-variant-numeric: tabular-nums; }
.group { display: grid; grid-template-columns: minmax(0, 10.5em) 1fr 6em; gap: 10px; align-items: center;
  break-inside: avoid; padding: 2px 0; }
.group .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; direction: rtl; text-align: left; }
.group .track { position: relative; height: 12px; }
.group .track b, .group .track i { position: absolute; inset: 0 auto 0 0; border-radius: 3px; }
.group .track b { background: var(--before); } .group .track i { background: var(--accent); }
.group.frozen .track i { background: var(--muted); } .group .count { text-align: right; white-space: nowrap; }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; }
figure { margin: 14px 0 18px; }
.plot { display: block; min-width: 620px; width: 100%; height: auto; font-size: 12px; }
.plot text { fill: var(--muted); } .plot .end { text-anchor: end; } .plot .middle { text-anchor: middle; }
.plot .grid { stroke: var(--line); } .plot .outline { fill: none; stroke: var(--ink); stroke-width: 1.4; }
.plot .limit { stroke: var(--bad); stroke-width: 1.4; stroke-dasharray: 6 4; }
.plot .limit-label { fill: var(--bad); }
.plot .limit-label, .plot .peak-label { paint-order: stroke; stroke: var(--page); stroke-width: 4px;
  stroke-linejoin: round; }
.plot .peak { fill: var(--ink); stroke: var(--page); stroke-width: 1.5; }
.plot .peak-label { fill: var(--ink); font-weight: 600; }
.plot .hover { fill: transparent; } .plot .hover:hover { fill: var(--ink); fill-opacity: 0.1; }
.rest { fill: var(--rest); background: var(--rest); }
.band-0 { fill: var(--b0); background: var(--b0); } .band-1 { fill: var(--b1); background: var(--b1); }
.band-2 { fill: var(--b2); background: var(--b2); } .band-3 { fill: var(--b3); background: var(--b3); }
.band-4 { fill: var(--b4); background: var(--b4); } .band-5 { fill: var(--b5); background: var(--b5); }
.band-6 { fill: var(--b6); background: var(--b6); }
.strip { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; }
.strip figure { margin: 0; }
.strip img { width: 100%; display: block; border-radius: 6px; background: var(--panel); }
.strip figcaption { font-size: 0.87rem; padding-top: 4px; display: flex; justify-content: space-between; gap: 8px; }
.strip figcaption b { color: var(--ink); font-weight: 600; white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; font-size: 0.9rem; margin: 8px 0; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
code { font: 0.92em ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
ul { padding-left: 1.2em; margin: 8px 0; } li { margin: 3px 0; }
details summary { cursor: pointer; color: var(--muted); margin: 8px 0; }
@media (max-width: 560px) {
  main { padding: 20px 14px 40px; } h1 { font-size: 1.4rem; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: 6px; }
  .strip, .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .tile { padding: 10px 12px; } .tile .value { font-size: 1.15rem; }
  .group { grid-template-columns: minmax(0, 8em) 1fr 5.5em; }
}
@media print {
  @page { margin: 14mm; }
  html { font-size: 11px; } body { font-size: 11px; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  main { max-width: none; padding: 0; } .plot { min-width: 0; } .scroll { overflow: visible; }
  .tiles { grid-template-columns: repeat(4, minmax(0, 1fr)); } h2 { margin-top: 24px; }
  .strip { grid-template-columns: repeat(5, minmax(0, 1fr)); }
  figure, .tile, tr, .strip { break-inside: avoid; } h2, h3 { break-after: avoid; } .hover { display: none; }
}
"""
