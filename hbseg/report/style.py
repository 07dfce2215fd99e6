"""The page's style sheet: light and dark by the reader's setting, no fonts from elsewhere."""

from __future__ import annotations

from typing import Final

CSS: Final = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b2330; --faint: #5b6675; --rule: #dde2e9;
  --stage1: #b4690e; --stage2: #2159c9; --engine: #0d7f6b; --notice: #fff6e0; --edge: #e3c57a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #101418; --card: #181d23; --ink: #e4e8ee; --faint: #98a3b1; --rule: #2c343d;
    --stage1: #f0ac4e; --stage2: #7fa8ff; --engine: #4fcfb5; --notice: #2a2413; --edge: #6a5723;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
header, main, footer { max-width: 1140px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 40px; }
h1 { margin: 0; font-size: 2rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 14px; font-size: 1.25rem; }
h3 { margin: 0 0 6px; font-size: 1rem; }
p { margin: 0 0 12px; max-width: 76ch; }
header p { margin: 0; max-width: none; }
small, .faint, caption, figcaption { color: var(--faint); }
a { color: var(--stage2); }
a:focus-visible, .scrolled:focus-visible, summary:focus-visible {
  outline: 3px solid var(--stage2); outline-offset: 2px;
}
.skip { position: absolute; left: -999px; }
.skip:focus { left: 24px; top: 8px; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 14px 0 0; padding: 0; }
nav li { list-style: none; }
section {
  margin: 22px 0; padding: 22px 24px; border: 1px solid var(--rule); border-radius: 12px;
  background: var(--card);
}
.notice { background: var(--notice); border-color: var(--edge); padding: 14px 24px; }
.notice p { margin: 0; max-width: none; }
.notice p + p { margin-top: 6px; }
.cards {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(164px, 1fr)); gap: 12px;
  margin: 22px 0 0;
}
.cards div {
  padding: 14px 18px; border: 1px solid var(--rule); border-radius: 12px;
  background: var(--card);
}
.cards dt { font-size: .88rem; color: var(--faint); }
.cards dd { margin: 0; font-size: 1.85rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.cards small { display: block; font-size: .8rem; line-height: 1.35; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: 28px; }
.chart { display: block; width: 100%; height: auto; overflow: visible; }
.chart text { fill: var(--faint); font-size: 12px; font-variant-numeric: tabular-nums; }
.rule { stroke: var(--rule); }
.line polyline {
  fill: none; stroke: currentColor; stroke-width: 2.2; stroke-linejoin: round;
  stroke-linecap: round;
}
.line circle { fill: currentColor; }
.stage1 { color: var(--stage1); }
.stage2 { color: var(--stage2); }
.engine { color: var(--engine); }
.stage1 polyline { stroke-dasharray: 7 4; }
.key { display: flex; gap: 20px; margin: 0 0 12px; padding: 0; }
.key li { list-style: none; display: flex; align-items: center; gap: 8px; }
.key svg { width: 30px; height: 8px; }
.whisker { stroke: var(--faint); stroke-width: 1.4; }
.box { stroke: var(--faint); stroke-width: .6; }
.median { fill: var(--card); stroke: var(--ink); stroke-width: 1.6; }
.bin { fill: var(--engine); }
.scrolled { overflow-x: auto; }
.scrolled > .chart { min-width: 860px; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 8px; font-size: .9rem; }
th, td { padding: 5px 12px 5px 0; text-align: left; border-bottom: 1px solid var(--rule); }
thead th { font-size: .85rem; color: var(--faint); font-weight: 600; }
tbody th { font-weight: 400; white-space: nowrap; }
tbody th small { margin-left: 8px; }
td { white-space: nowrap; }
.group > * { padding-top: 14px; font-weight: 600; }
.group th::first-letter { text-transform: uppercase; }
.swatch { width: 11px; height: 11px; margin-right: 8px; vertical-align: -1px; }
.bar {
  display: inline-block; width: 96px; height: 8px; margin-right: 10px; border-radius: 4px;
  background: var(--rule); overflow: hidden;
}
.bar i { display: block; height: 100%; border-radius: 4px; background: currentColor; }
.list-name { margin: 18px 0 4px; }
.worst { display: flex; flex-wrap: wrap; gap: 4px 26px; margin: 0; padding: 0; }
.worst li { list-style: none; }
.hands {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 16px;
  grid-auto-flow: dense;
}
figure { margin: 0; min-width: 0; }
.hands img {
  display: block; width: 100%; height: auto; border-radius: 8px; background: #000;
}
.hands figcaption { margin-top: 6px; font-size: .88rem; overflow-wrap: anywhere; }
.hands figure:target { grid-column: 1 / -1; }
.hands .back { display: none; margin-left: 10px; }
.hands figure:target .back { display: inline; }
.names { columns: 4 200px; margin: 0 0 16px; padding: 0; font-size: .88rem; }
.names li { list-style: none; break-inside: avoid; }
details { margin-top: 10px; }
summary { cursor: pointer; }
pre {
  overflow-x: auto; padding: 14px; border: 1px solid var(--rule); border-radius: 8px;
  background: var(--page); font-size: .85rem; line-height: 1.45;
}
footer { padding-bottom: 40px; font-size: .88rem; }
@media (max-width: 560px) {
  header, main, footer { padding-left: 12px; padding-right: 12px; }
  section { padding: 16px 14px; }
}
@media print { body { background: #fff; } section { break-inside: avoid; } nav { display: none; } }
"""
